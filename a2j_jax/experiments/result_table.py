"""A table of the paper with ours beside it: Markdown, HTML and the terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from rich.table import Table as RichTable

from a2j_jax import progress
from a2j_jax.evaluation import html
from a2j_jax.evaluation.published import published_table
from a2j_jax.evaluation.report import write_json, write_text
from a2j_jax.evaluation.tables import Table, markdown
from a2j_jax.experiments.paper_tables import PaperTable, Row
from a2j_jax.tracks import TrackSpec

Result = Mapping[str, Any]
ABSENT = "–"


class Measure(NamedTuple):
    """A number of the table.

    Attributes:
      label: with its unit.
      path: keys that lead to it in a result's scores.
      scale: from there to the unit of the label.
    """

    label: str
    path: tuple[str, ...]
    scale: float = 1.0


def measures(track: TrackSpec, pdj: bool) -> list[Measure]:
    """What is measured on a track: its protocol's number first."""
    error = (
        Measure("mean error (mm)", ("mean_error_mm",))
        if track.joint_dims == 3
        else Measure("mean error (px)", ("mean_error_px",))
    )
    found = [error]
    if track.protocol == "map_10cm":
        found.insert(0, Measure("mAP@10 cm (%)", ("map_10cm",), 100.0))
    if track.protocol == "pdj" or (pdj and track.skeleton.torso is not None):
        ratios = [
            Measure(f"PDJ {ratio} (%)", ("pdj", ratio), 100.0)
            for ratio in ("0.05", "0.10", "0.15", "0.20")
        ]
        found = [Measure("mean PDJ (%)", ("pdj_mean",), 100.0), *ratios, *found]
    return found


def result_table(
    table: PaperTable, track: TrackSpec, results: Sequence[Result], skipped: Mapping[str, str]
) -> Table:
    """The table, a line per row; of several seeds the mean and the standard deviation.

    Args:
      table: of the paper.
      track: it was run on.
      results: of all runs.
      skipped: row -> why it was not run.
    """
    numbers = measures(track, table.pdj)
    columns = ["", f"paper: {numbers[0].label}"]
    columns += [text for one in numbers for text in (f"{one.label}, final", f"{one.label}, best")]
    columns += ["paper: frames/s", "frames/s", "parameters (M)", "GFLOP", "commit"]
    rows = tuple(
        _line(row, track, numbers, [r for r in results if r["row"] == row.name], skipped)
        for row in table.rows
    )
    title = f"Table {table.name.removeprefix('table')}, {table.title}: {track.name}"
    notes = [*_notes(results, track), *(f"{name}: {why}." for name, why in skipped.items())]
    return Table(title, tuple(columns), rows, notes=tuple(notes))


def _line(
    row: Row,
    track: TrackSpec,
    numbers: Sequence[Measure],
    runs: Sequence[Result],
    skipped: Mapping[str, str],
) -> tuple[str, ...]:
    paper = _paper(track) if row.is_a2j else {}
    label = row.label
    if row.name in skipped:
        label += " (not run)"
    cells = [label, paper.get(numbers[0].path, ABSENT)]
    for one in numbers:
        for which in ("final", "best"):
            cells.append(_spread([_value(run[which], one) for run in runs], 2))
    cells.append(paper.get(("fps",), ABSENT))
    cells.append(_spread([run["speed"]["frames_per_second"] for run in runs], 1))
    cells.append(_spread([run["parameters"] / 1e6 for run in runs[:1]], 1))
    cells.append(f"{runs[0]['flops'] / 1e9:.3g}" if runs else ABSENT)
    commits = {run["commit"][:7] + ("+" if run["changed"] else "") for run in runs if run["commit"]}
    return (*cells, ", ".join(sorted(commits)) or ABSENT)


def _value(scores: Mapping[str, Any], measure: Measure) -> float:
    found: Any = scores
    for key in measure.path:
        found = found[key]
    return float(found) * measure.scale


def _spread(values: Sequence[float], decimals: int) -> str:
    if not values:
        return ABSENT
    text = f"{fmean(values):.{decimals}f}"
    return text if len(values) == 1 else f"{text} ± {stdev(values):.{decimals}f}"


def _paper(track: TrackSpec) -> dict[tuple[str, ...], str]:
    """The published numbers of A2J on a track, by the path that leads to ours; ("fps",) its speed."""
    published = published_table(track.name)
    if published is None:
        return {}
    (a2j,) = (row for row in published.rows if row.method == "A2J")
    columns = {column.key: column for column in published.columns}
    found = {}
    for key, value in a2j.values.items():
        path = ("fps",) if key == "fps" else _path(columns[key].ours)
        found[path] = f"{value:g}"
    return found


def _path(dotted: str) -> tuple[str, ...]:
    first, _, rest = dotted.partition(".")
    return (first, rest) if rest else (first,)


def _notes(results: Sequence[Result], track: TrackSpec) -> list[str]:
    frames = results[0]["final"]["frames"]
    seeds = len({run["seed"] for run in results})
    spread = f"mean ± standard deviation of {seeds} seeds; " if seeds > 1 else ""
    devices = " and ".join(
        sorted({f"{n} x {kind}" for run in results for kind, n in (run["devices"] or {}).items()})
    )
    notes = [
        f"Ours on {frames:,} frames of split {results[0]['split']!r}; {spread}final: after the last step; best: the "
        "step with the lowest error on the split that was scored while training.",
        f"Frames/s: the network and what makes joints of its answer, one frame at a time, on {devices}. GFLOP: of one "
        "frame, as XLA counts them. Commit: + where the source had changes or files of its own.",
    ]
    if published_table(track.name) is None:
        notes.append("The paper has no numbers on this data set.")
    else:
        notes.append(
            "The paper's numbers of A2J are those of its Tables 2 to 6; of the other rows none could be sourced."
        )
    return notes


def print_table(contents: Table) -> None:
    """Print it to the terminal, a column per row of the table: there are more numbers than rows."""
    printed = RichTable(title=contents.title)
    heads, *columns = zip(contents.columns, *contents.rows, strict=True)
    for head in heads:
        printed.add_column(head, justify="right" if head else "left", overflow="fold")
    for column in columns:
        printed.add_row(*column)
    progress.console.print(printed)


def write_table(
    contents: Table, results: Sequence[Result], out: Path, name: str, command: str
) -> list[Path]:
    """Write `<name>.md`, `<name>.html` and `<name>.json`; returns their paths."""
    text = f"{markdown(contents)}\n`{command}`\n" if command else markdown(contents)
    parts = [html.table(contents), html.code(command) if command else ""]
    page = html.page(f"a2j reproduce {name}", "", parts)
    return [
        write_text(out / f"{name}.md", text),
        write_text(out / f"{name}.html", page),
        write_json(out / f"{name}.json", {"command": command, "results": list(results)}),
    ]
