"""What an evaluation leaves behind: a table on the terminal, JSON, plots, and one HTML page.

Tables go to stderr, so that stdout stays clean for `--json`. Pictures need matplotlib (the `viz`
extra); without it the page has its tables and one line of advice: numbers never depend on it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.text import Text

from a2j_jax import __version__, log, pictures
from a2j_jax.evaluation import html, tables
from a2j_jax.evaluation import plots as figures
from a2j_jax.evaluation.evaluate import Comparison, center_distances, joint_depths_mm
from a2j_jax.evaluation.joint_files import JointSet, write_joints
from a2j_jax.evaluation.plots import frame_name, frame_tile, frames_sheet, pick_frames
from a2j_jax.evaluation.provenance import Fact, software_facts, track_facts
from a2j_jax.evaluation.published import published_table
from a2j_jax.evaluation.scores import CURVE_LIMIT, Scores
from a2j_jax.evaluation.tables import Table
from a2j_jax.files import (
    MARK,
    check_output,
    is_ours,
    local_path,
    replacing_together,
    write_file,
)

NO_PICTURES = "no pictures: they need matplotlib, pip install 'a2j-jax[viz]'"
REPORT_FILE, SCORES_FILE = "report.html", "scores.json"
PREDICTIONS_FILE, SUBMISSION_FILE = "predictions.npz", "submission.txt"
_PLOTS = (
    "success_curve",
    "success_curve_mean",
    "per_joint",
    "per_joint_protocol",
    "error_depth",
    "error_distance",
    "frames",
)

# Single frames in the page: of each kind, and how many methods may stand side by side.
_TILES_OF_A_KIND, _METHODS_COMPARED = 6, 4
_TILE_INCHES = 1.9
# Columns of a terminal for a method: its name wraps, its numbers need not.
_HEAD_WIDTH = 12


class Plot(NamedTuple):
    """A figure and what to say of it."""

    name: str  # of its files, without suffix
    figure: Any
    title: str
    caption: str


def print_scores(scores: Mapping[str, Scores], console: Console | None = None) -> None:
    """Print one table: a row per number, a column per named set of predictions.

    Args:
        scores: name → scores of the same frames, the model first and baselines after it.
        console: where to; stderr by default.
    """
    paper = published_table(next(iter(scores.values())).track)
    width = (console or log.console).width
    together, by_joint = tables.score_tables(scores)
    labels = max(len(row[0]) for part in (*together, *by_joint) for row in part.rows)
    # As many methods at a time as fit without a row that wraps.
    count = max((width - labels - 4) // (_HEAD_WIDTH + 3), 1)
    names = list(scores)
    for first in range(0, len(names), count):
        some = {name: scores[name] for name in names[first : first + count]}
        together, by_joint = tables.score_tables(some)
        parts = [*together, *by_joint]
        printed = log.PlainTable(parts[0].title, caption=log.plain(paper.told) if paper else None)
        printed.add_column("", min_width=labels, max_width=labels)
        for name in some:
            printed.add_column(name, justify="right", max_width=_HEAD_WIDTH, overflow="fold")
        for part in parts:
            if part is not parts[0]:
                printed.add_row(Text(part.title, style="italic"))
            for place, row in enumerate(part.rows):
                style = "bold" if place in part.strong else None
                printed.add_row(*row, style=style)
            printed.add_section()
        log.print_table(printed, console)


def check_report(
    directory: str | Path, overwrite: bool = False, inputs: Sequence[str | Path] = ()
) -> None:
    """Checks that a report may be written to a folder, before there is anything to report.

    Args:
        directory: of the report, existing or not.
        overwrite, inputs: as in `files.check_output`.

    Raises:
        UserError: a file in its place that a2j_jax did not write (unless `overwrite`), or no permission.
    """
    folder = local_path(directory)
    named = (REPORT_FILE, SCORES_FILE, PREDICTIONS_FILE, SUBMISSION_FILE)
    for path in (*(folder / name for name in named), *_plot_files(folder)):
        # The challenge's format has no room for a mark.
        beside = folder / PREDICTIONS_FILE if path.name == SUBMISSION_FILE else None
        check_output(path, overwrite, inputs=inputs, beside=beside)


def write_markdown(path: str | Path, text: str) -> Path:
    """Write a Markdown file with our mark, making its folder; returns the path.

    Raises:
        UserError: the file cannot be written.
    """
    return write_file(path, f"{text}\n<!-- {MARK} -->\n")


def write_json(path: str | Path, contents: Mapping[str, Any]) -> Path:
    """Write a JSON file that says who wrote it, making its folder; returns the path.

    Raises:
        UserError: the file cannot be written.
    """
    contents = {**contents, "written_by": f"a2j_jax {__version__} ({MARK})"}
    return write_file(path, json.dumps(contents, indent=2, allow_nan=False) + "\n")


def write_report(
    comparison: Comparison,
    directory: str | Path,
    *,
    contents: Mapping[str, Any] | None = None,
    predictions: JointSet | None = None,
    facts: Sequence[Fact] = (),
    run: Table | None = None,
    command: str = "",
) -> list[Path]:
    """Write the page, the plots and the numbers; an earlier report in the folder stays as it is until all are written.

    Plots of an earlier report that this one has not are removed.

    Args:
        comparison: what is shown.
        directory: made if missing. Gets `report.html` and, with matplotlib, each plot as PNG and SVG:
            `success_curve`, `success_curve_mean`, `per_joint`, `error_depth` (3D), `error_distance`,
            and `frames`.
        contents: of `scores.json`; None: not written.
        predictions: of `predictions.npz`; None: not written.
        facts: about the data set and the predictions, for the end of the page.
        run: the run's best and final checkpoint.
        command: that made the report, as it would be typed.

    Returns:
        The paths written.

    Raises:
        UserError: the folder cannot be written.
    """
    directory = local_path(directory)
    plots: list[Plot] = []
    if pictures.have_matplotlib():
        plots = draw_plots(comparison)
    else:
        log.logger.info(NO_PICTURES)
    text = _page(comparison, plots, facts, run, command)
    drawn = {plot.name: plot.figure for plot in plots}
    if plots and comparison.main in comparison.joints_uvd:
        drawn["frames"] = frames_sheet(comparison)
    with replacing_together(directory, last=REPORT_FILE) as new:
        written = [] if contents is None else [write_json(new / SCORES_FILE, contents)]
        if predictions is not None:
            written.append(new / PREDICTIONS_FILE)
            write_joints(written[-1], predictions)
        written.append(write_file(new / REPORT_FILE, text))
        for name, figure in drawn.items():
            for suffix in (".png", ".svg"):
                written.append(pictures.save_figure(figure, new / (name + suffix)))
    written = [directory / path.name for path in written]
    for path in _plot_files(directory):
        if path not in written and is_ours(path):
            path.unlink()
    return written


def _plot_files(folder: Path) -> list[Path]:
    return [folder / (name + suffix) for name in _PLOTS for suffix in (".png", ".svg")]


def say_written(paths: Sequence[Path]) -> None:
    """Tell what lies where, one line: a report and everything beside it."""
    names = [path.name for path in paths if path.suffix != ".svg"]
    svg = " (plots also as .svg)" if any(path.suffix == ".svg" for path in paths) else ""
    log.logger.info(f"wrote {paths[0].parent}: {', '.join(names)}{svg}")


def draw_plots(comparison: Comparison) -> list[Plot]:
    """Every plot of a comparison, in the order of the page.

    Raises:
        UserError: matplotlib is not installed.
    """
    scores = comparison.scores
    band = "Median over joints of all frames, with the quartiles as a band; equally many joints per point."
    plots = [
        Plot(
            "success_curve",
            figures.success_curve(scores, "worst"),
            "Success by the worst joint",
            "A frame succeeds when all of its joints are nearer than D.",
        ),
        Plot(
            "success_curve_mean",
            figures.success_curve(scores, "mean"),
            "Success by the mean joint",
            "A frame succeeds when its joints are nearer than D on average.",
        ),
        *_joint_plots(scores),
    ]
    depths = joint_depths_mm(comparison)
    if depths is not None:
        figure = figures.error_against(depths, "depth of the joint (mm)", scores)
        plots.append(Plot("error_depth", figure, "Error against depth", band))
    distances, label = center_distances(comparison)
    figure = figures.error_against(distances, label, scores)
    plots.append(Plot("error_distance", figure, "Error against distance from the center", band))
    return plots


def _joint_plots(scores: Mapping[str, Scores]) -> list[Plot]:
    """Mean errors joint by joint and, where the track has another, the number of its protocol."""
    first = next(iter(scores.values()))
    errors = {name: (*one.per_joint, one.mean_error) for name, one in scores.items()}
    figure = figures.joint_bars(errors, first.joint_names, f"mean error ({first.unit})")
    plots = [Plot("per_joint", figure, "Mean error", "")]
    protocol = tables.protocol_by_joint(scores)
    if protocol is not None:
        title, values = protocol
        percent = {name: [100 * rate for rate in rates] for name, rates in values.items()}
        figure = figures.joint_bars(percent, first.joint_names, f"{title} (%)", "all")
        plots.append(Plot("per_joint_protocol", figure, title, ""))
    return plots


def _page(
    comparison: Comparison,
    plots: Sequence[Plot],
    facts: Sequence[Fact],
    run: Table | None,
    command: str,
) -> str:
    scores, spec = comparison.scores, comparison.spec
    first = scores[comparison.main]
    drawn = {plot.name: html.subsection(plot.title, _plot(plot)) for plot in plots}
    together, by_joint = tables.score_tables(scores)
    # Baselines are no headline, and have no place in the paper's table.
    ours = {name: scores[name] for name in scores if name in comparison.joints_uvd} or scores

    def shown(*names: str) -> str:
        found = [f"<div>{drawn[name]}</div>" for name in names if name in drawn]
        return html.side_by_side(*found) if found else ""

    bars = [
        f"<div>{drawn[name]}</div>" for name in ("per_joint", "per_joint_protocol") if name in drawn
    ]
    parts = [
        html.cards(_cards(ours)),
        html.section(
            "Scores",
            html.side_by_side(*(html.table(table) for table in together)),
            html.paragraph("" if plots else NO_PICTURES),
        ),
        _beside_the_paper(comparison, ours),
        html.section("The run", html.table(run)) if run else "",
        html.section("Success curves", shown("success_curve", "success_curve_mean")),
        html.section("Joint by joint", html.side_by_side(*bars, *map(_titled, by_joint))),
        html.section("Where the errors are", shown("error_depth", "error_distance")),
        html.section("Worst, median and best frames", _frames(comparison) if plots else ""),
        html.section(
            "How this was made",
            html.code(command) if command else "",
            html.facts([*facts, *track_facts(spec), *software_facts()]),
        ),
    ]
    names = ", ".join(comparison.joints_uvd) or comparison.main
    subtitle = f"{tables.frames_told(first)} of track {spec.name}: {names}"
    return html.page(f"A2J evaluation on {spec.name}", subtitle, parts)


def _titled(table: Table) -> str:
    """A table with a heading like those of the plots beside it, not a caption."""
    return "<div>" + html.subsection(table.title, html.table(replace(table, title=""))) + "</div>"


def _beside_the_paper(comparison: Comparison, ours: Mapping[str, Scores]) -> str:
    """The paper's table of the track, its rows of Tables 7 to 10, and apart from them what is not the paper's."""
    track, main = comparison.spec.name, comparison.main
    found = (
        tables.paper_table(track, ours),
        tables.rows_table(track, comparison.own_rows, main, comparison.scores[main]),
        tables.later_table(track),
    )
    return html.section("Beside the paper", *(_with_notes_beside(one) for one in found if one))


def _with_notes_beside(table: Table) -> str:
    notes = "".join(html.paragraph(note) for note in table.notes)
    return html.side_by_side(html.table(replace(table, notes=())), f"<div>{notes}</div>")


def _cards(scores: Mapping[str, Scores]) -> Iterable[tuple[str, str, str]]:
    """The headline: the protocol's own number and the mean error; of a single method, its success too."""
    for name, one in scores.items():
        of = f"{name}: " if len(scores) > 1 else ""
        if one.map_10cm is not None:
            yield f"{100 * one.map_10cm.mean:.2f}", "%", f"{of}mAP@10 cm"
        elif one.pdj is not None:
            yield f"{100 * one.pdj.mean:.2f}", "%", f"{of}mean PDJ"
        else:
            yield f"{one.mean_error:.2f}", one.unit, f"{of}mean error"
    if len(scores) > 1:
        return
    if one.map_10cm is not None:
        for group in ("upper_body", "lower_body"):
            rate = one.map_10cm.groups.get(group, np.nan)
            if np.isfinite(rate):
                yield f"{100 * rate:.2f}", "%", group.replace("_", " ")
    elif one.pdj is not None:
        for ratio, rate in one.pdj.at.items():
            yield f"{100 * rate:.2f}", "%", f"PDJ at {ratio:.2f}"
    if one.map_10cm is not None or one.pdj is not None:
        yield f"{one.mean_error:.2f}", one.unit, "mean error"
        return
    yield f"{100 * one.success_auc:.1f}", "%", f"success AUC, 0–{CURVE_LIMIT:g} {one.unit}"
    for threshold in (20.0, 40.0):
        if threshold in one.success_rate:
            rate = 100 * one.success_rate[threshold]
            yield f"{rate:.1f}", "%", f"frames with worst joint < {threshold:g} {one.unit}"


def _plot(plot: Plot) -> str:
    svg = pictures.figure_svg(plot.figure, salt=plot.name)
    return html.plot(svg, plot.title, plot.caption)


def _frames(comparison: Comparison) -> str:
    """The worst, median and best frames of the main method; several methods stand beside each other."""
    names = [name for name in comparison.scores if name in comparison.joints_uvd]
    if not names or comparison.main not in names:
        return ""
    names = names[:_METHODS_COMPARED]
    count = max(_TILES_OF_A_KIND // len(names), 2)
    picked = pick_frames(comparison.scores[comparison.main].errors, count)
    ground = "the depth crop"
    if comparison.fetch is None:
        ground = "white (no data set was given; frames are counted from 0)"
    ranked = f", ranked by {comparison.main}" if len(names) > 1 else ""
    told = f"Prediction in color over labels in black, on {ground}; below, the frame's mean error"
    parts = [html.paragraph(f"{told}{ranked}.")]
    for kind in ("worst", "median", "best"):
        groups = []
        for row in picked[kind].tolist():
            frame = frame_name(comparison, row)
            if len(names) == 1:
                groups.append(("", [_tile(comparison, row, names[0], frame)]))
            else:
                groups.append((frame, [_tile(comparison, row, name, name) for name in names]))
        parts.append(html.subsection(kind.capitalize(), html.tiles(groups)))
    return "\n".join(parts)


def _tile(comparison: Comparison, row: int, method: str, caption: str) -> tuple[bytes, str, str]:
    """One frame: its picture, its error, and the caption."""
    tile = frame_tile(comparison, row, method)
    sheet = pictures.draw_sheet([tile], comparison.spec.skeleton, 1, tile_inches=_TILE_INCHES)
    error = float(np.nanmean(comparison.scores[method].errors[row]))
    return pictures.figure_png(sheet), f"{error:.1f} {comparison.unit}", caption
