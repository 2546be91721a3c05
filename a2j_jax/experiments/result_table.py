"""A table of the paper with ours beside it: Markdown, HTML and the terminal."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD

from a2j_jax import progress
from a2j_jax.evaluation import html
from a2j_jax.evaluation.published import (
    lookup,
    published_rows,
    published_table,
    row_note,
    row_values,
)
from a2j_jax.evaluation.report import write_json, write_markdown
from a2j_jax.evaluation.tables import ABSENT, Table, as_printed, markdown
from a2j_jax.experiments.paper_tables import PaperTable
from a2j_jax.files import write_file
from a2j_jax.tracks import TrackSpec

Result = Mapping[str, Any]
# Columns of a terminal for a row of the table: its name wraps, its numbers need not.
_HEAD_WIDTH = 12


class Measure(NamedTuple):
    """A number of the table.

    Attributes:
      label: with its unit.
      key: of the same number in the paper's tables.
      path: of the number in a result's scores (`published.lookup`).
      scale: from there to the unit of the label.
    """

    label: str
    key: str
    path: str
    scale: float = 1.0


def measures(track: TrackSpec, table: PaperTable) -> list[Measure]:
    """What is measured on a track: its protocol's number first; of Tables 2 to 6 all that they have."""
    unit = "mm" if track.joint_dims == 3 else "px"
    error = Measure(f"mean error ({unit})", f"mean_error_{unit}", f"mean_error_{unit}")
    of_track = published_table(track.name)
    if of_track is not None and f"table{of_track.paper_table}" == table.name:
        found = [Measure(c.label, c.key, c.ours, c.scale) for c in of_track.columns if c.ours]
        return found if error.key in [one.key for one in found] else [*found, error]
    found = [error]
    if track.protocol == "map_10cm":
        found.insert(0, Measure("mAP@10 cm (%)", "map_10cm", "map_10cm", 100.0))
    if track.protocol == "pdj" or (table.pdj and track.skeleton.torso is not None):
        ratios = [
            Measure(f"PDJ {ratio} (%)", f"pdj_{ratio}", f"pdj.{ratio}", 100.0)
            for ratio in ("0.05", "0.10", "0.15", "0.20")
        ]
        found = [Measure("mean PDJ (%)", "pdj_mean", "pdj_mean", 100.0), *ratios, *found]
    return found


def result_table(
    table: PaperTable, track: TrackSpec, results: Sequence[Result], skipped: Mapping[str, str]
) -> Table:
    """The table, a line per row; of several seeds the mean and the standard deviation.

    The paper's numbers stand before ours wherever it has one of any row.

    Args:
      table: of the paper.
      track: it was run on.
      results: of all runs.
      skipped: row -> why it was not run.
    """
    paper = _paper(table, track)
    runs = {row.name: [r for r in results if r["row"] == row.name] for row in table.rows}
    caveats = {
        name: {run["final"].get("caveat", "") for run in some} for name, some in runs.items()
    }
    for name in skipped:
        caveats[name].add("not run")
    marks = {name: ", ".join(sorted(filter(None, found))) for name, found in caveats.items()}
    labels = [
        f"{row.label} ({marks[row.name]})" if marks[row.name] else row.label for row in table.rows
    ]
    columns = {"": labels}

    def beside(key: str, label: str) -> None:
        values = [paper[row.name].get(key) for row in table.rows]
        if any(value is not None for value in values):
            columns[f"paper: {label}"] = as_printed(values)

    def ours(label: str, decimals: int, value: Callable[[Result], float | None]) -> None:
        columns[label] = [_spread(list(map(value, some)), decimals) for some in runs.values()]

    for one in measures(track, table):
        beside(one.key, one.label)
        for which in ("final", "best"):
            ours(f"{one.label}, {which}", 2, partial(_value, which=which, measure=one))
    beside("fps", "frames/s")
    ours("frames/s", 1, lambda run: run["speed"]["frames_per_second"])
    first = {name: some[:1] for name, some in runs.items()}.values()
    columns["parameters (M)"] = [
        _spread([r["parameters"] / 1e6 for r in some], 1) for some in first
    ]
    columns["GFLOP"] = [f"{some[0]['flops'] / 1e9:.3g}" if some else ABSENT for some in first]
    columns["commit"] = [
        ", ".join(dict.fromkeys(commit for run in some for commit in run["commits"])) or ABSENT
        for some in runs.values()
    ]
    title = f"Table {table.name.removeprefix('table')}, {table.title}: {track.name}"
    notes = [*_notes(results, track, table), *(f"{name}: {why}." for name, why in skipped.items())]
    return Table(
        title, tuple(columns), tuple(zip(*columns.values(), strict=True)), notes=tuple(notes)
    )


def _paper(table: PaperTable, track: TrackSpec) -> dict[str, dict[str, float]]:
    """Row → key → what the paper has of it on the track."""
    return {
        row.name: row_values(table.name, row.name, track.name, is_a2j=row.is_a2j)
        for row in table.rows
    }


def _value(run: Result, which: str, measure: Measure) -> float | None:
    found = lookup(run[which], measure.path)
    return None if found is None else found * measure.scale


def _spread(values: Sequence[float | None], decimals: int) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ABSENT
    text = f"{fmean(known):.{decimals}f}"
    return text if len(known) == 1 else f"{text} ± {stdev(known):.{decimals}f}"


def _notes(results: Sequence[Result], track: TrackSpec, table: PaperTable) -> list[str]:
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
    of_track = published_table(track.name)
    if of_track is None:
        return [*notes, "The paper has no numbers on this data set."]
    tables = [of_track.paper_table]
    if published_rows(table.name, track.name):
        tables.insert(0, table.name.removeprefix("table"))
    notes.append(
        f"The paper's numbers are those of its Table {' and '.join(tables)}, on the test split; its frames/s are of "
        "one GTX 1080 Ti, reading and cropping a frame included; ours are without."
    )
    notes += filter(None, [row_note(table.name, track.name)])
    return notes


def print_table(contents: Table) -> None:
    """Print it to the terminal, a column per row of the table: there are more numbers than rows."""
    printed = progress.PlainTable(contents.title, box=SIMPLE_HEAD, padding=0, pad_edge=False)
    heads, *columns = zip(contents.columns, *contents.rows, strict=True)
    printed.add_column("", no_wrap=True)
    for head in heads[1:]:
        printed.add_column(head, justify="right", min_width=_HEAD_WIDTH, max_width=_HEAD_WIDTH)
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
        write_json(
            out / f"{name}.json",
            {
                "command": command,
                "columns": contents.columns,
                "rows": contents.rows,
                "notes": contents.notes,
                "results": list(results),
            },
        ),
    ]
