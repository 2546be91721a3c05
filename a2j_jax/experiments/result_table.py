"""A table of the paper with ours beside it: Markdown, HTML and the terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from rich.table import Table as RichTable

from a2j_jax import progress
from a2j_jax.evaluation import html
from a2j_jax.evaluation.published import published_table
from a2j_jax.evaluation.report import write_json, write_markdown
from a2j_jax.evaluation.tables import Table, markdown
from a2j_jax.experiments.paper_tables import PaperTable, Row
from a2j_jax.files import write_file
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
    paper = _paper(track)
    # The first of them that has a published number.
    shown = next((one for one in numbers if one.path in paper), numbers[0])
    columns = ["", f"paper: {shown.label}"]
    columns += [text for one in numbers for text in (f"{one.label}, final", f"{one.label}, best")]
    columns += ["paper: frames/s", "frames/s", "parameters (M)", "GFLOP", "commit"]
    rows = tuple(
        _line(
            row,
            paper.get(shown.path, ABSENT) if row.is_a2j else ABSENT,
            paper.get(("fps",), ABSENT) if row.is_a2j else ABSENT,
            numbers,
            [r for r in results if r["row"] == row.name],
            skipped,
        )
        for row in table.rows
    )
    title = f"Table {table.name.removeprefix('table')}, {table.title}: {track.name}"
    notes = [*_notes(results, track), *(f"{name}: {why}." for name, why in skipped.items())]
    return Table(title, tuple(columns), rows, notes=tuple(notes))


def _line(
    row: Row,
    published: str,
    published_speed: str,
    numbers: Sequence[Measure],
    runs: Sequence[Result],
    skipped: Mapping[str, str],
) -> tuple[str, ...]:
    label = row.label
    if row.name in skipped:
        label += " (not run)"
    cells = [label, published]
    for one in numbers:
        for which in ("final", "best"):
            cells.append(_spread([_value(run[which], one) for run in runs], 2))
    cells.append(published_speed)
    cells.append(_spread([run["speed"]["frames_per_second"] for run in runs], 1))
    cells.append(_spread([run["parameters"] / 1e6 for run in runs[:1]], 1))
    cells.append(f"{runs[0]['flops'] / 1e9:.3g}" if runs else ABSENT)
    commits = dict.fromkeys(commit for run in runs for commit in run["commits"])
    return (*cells, ", ".join(commits) or ABSENT)


def _value(scores: Mapping[str, Any], measure: Measure) -> float | None:
    """None where it could not be measured: no torso in any frame, say."""
    found: Any = scores
    for key in measure.path:
        found = None if found is None else found.get(key)
    return None if found is None else float(found) * measure.scale


def _spread(values: Sequence[float | None], decimals: int) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ABSENT
    text = f"{fmean(known):.{decimals}f}"
    return text if len(known) == 1 else f"{text} ± {stdev(known):.{decimals}f}"


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
        f"Ours on {frames:,} frames of split {results[0]['scored']['split']!r}; {spread}final: after the last step; "
        "best: the step with the lowest error on the split that was scored while training.",
        f"Frames/s: the network and what makes joints of its answer, one frame at a time, on {devices}. GFLOP: of one "
        "frame, as XLA counts them. Commits: all that a run was trained by; + where the source had changes or files "
        "of its own.",
    ]
    if published_table(track.name) is None:
        notes.append("The paper has no numbers on this data set.")
    else:
        notes.append(
            "The paper's numbers of A2J are those of its Tables 2 to 6, on the whole test split; of the other rows "
            "none could be sourced. Its frames/s are of one GTX 1080 Ti, reading and cropping a frame included; ours "
            "are without."
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
    progress.print_table(printed)


def write_table(
    contents: Table, results: Sequence[Result], out: Path, name: str, command: str
) -> list[Path]:
    """Write a table as `<name>.md`, `<name>.html` and `<name>.json`.

    Args:
      contents: the table.
      results: of all runs, for the JSON.
      out: folder.
      name: of the files, "table7".
      command: that made it; empty: not told.

    Returns:
      The three paths.
    """
    text = f"{markdown(contents)}\n`{command}`\n" if command else markdown(contents)
    parts = [html.table(contents), html.code(command) if command else ""]
    page = html.page(f"a2j reproduce {name}", "", parts)
    return [
        write_markdown(out / f"{name}.md", text),
        write_file(out / f"{name}.html", page),
        write_json(out / f"{name}.json", {"command": command, "results": list(results)}),
    ]
