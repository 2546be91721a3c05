"""The results of an evaluation: a table on the terminal, JSON, plots, and one HTML page.

Tables go to stderr, so that stdout stays clean for `--json`. Pictures need matplotlib (the `viz`
extra); without it the page has its tables and a line of advice: numbers never depend on it.
"""

import base64
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from rich.console import Console

from a2j_jax import __version__, log, pictures, stores
from a2j_jax.errors import printable
from a2j_jax.evaluation import plots, tables
from a2j_jax.evaluation.joint_files import JointSet, write_joints
from a2j_jax.evaluation.plots import Comparison, center_distances
from a2j_jax.evaluation.scores import CURVE_LIMIT, FrameError, Scores, marked
from a2j_jax.evaluation.tables import print_table
from a2j_jax.files import (
    MARK,
    check_output,
    is_ours,
    replacing_together,
    write_file,
    write_json,
)

NO_PICTURES = "no pictures: they need matplotlib, pip install 'a2j-jax[viz]'"
REPORT_FILE, SCORES_FILE = "report.html", "scores.json"
PREDICTIONS_FILE, SUBMISSION_FILE = "predictions.npz", "submission.txt"
_CURVES: dict[FrameError, tuple[str, str]] = {
    "worst": ("success_curve", "A frame succeeds when all of its joints are nearer than D."),
    "mean": (
        "success_curve_mean",
        "A frame succeeds when its joints are nearer than D on average.",
    ),
}
_PLOTS = "success_curve success_curve_mean per_joint per_joint_protocol error_depth error_distance frames"
# Single frames in the page: of each kind, and how many methods may stand side by side.
_TILES_OF_A_KIND, _METHODS_COMPARED = 6, 4
_TILE_INCHES = 1.9
# Colors of a plot, and what a page has instead of them.
_PAGE_COLORS = {plots.INK: "currentColor", plots.GRID: "var(--line)", "#ffffff": "none"}
# Columns of a terminal for a method: its name wraps, its numbers need not.
_HEAD_WIDTH = 12


@dataclass(frozen=True)
class Plot:
    """A figure, its title and its caption; `name` is that of its files, without suffix."""

    name: str
    figure: Any
    title: str
    caption: str = ""

    @functools.cached_property
    def svg(self) -> str:
        """The figure as an SVG document; drawn once, for the file and for the page."""
        return pictures.figure_svg(self.figure, self.name)

    @property
    def inline(self) -> Markup:
        """The `<svg>` element in the colors of the page."""
        element = self.svg[self.svg.index("<svg") :]
        for color, of_page in _PAGE_COLORS.items():
            element = element.replace(color, of_page)
        return Markup(element)


def print_scores(scores: Mapping[str, Scores], console: Console | None = None) -> None:
    """Print one table, to stderr by default: a row per number, a column per method with its caveats."""
    together, by_joint = tables.score_tables(marked(scores))
    parts = [*together, *by_joint]
    paper = tables.published_table(next(iter(scores.values())).track)
    caption = log.plain(paper.headline_text) if paper else None
    labels = max(len(row[0]) for part in parts for row in part.rows)
    # As many methods at a time as fit without a row that wraps.
    width = (console or log.console).width
    count = max((width - labels - 4) // (_HEAD_WIDTH + 3), 1)
    for first in range(1, len(scores) + 1, count):
        head, *below = (part.columns_at(first, first + count) for part in parts)
        print_table(head, console, _HEAD_WIDTH, below, caption=caption)


def check_report(
    directory: str | Path, overwrite: bool = False, inputs: Sequence[str | Path] = ()
) -> None:
    """Check, as `files.check_output`, that a report may be written to a folder, before there is anything to report.

    Raises:
      UserError: a file in its place that a2j_jax did not write (unless `overwrite`), or no permission.
    """
    folder = stores.local_copy(directory, "--out")
    named = (REPORT_FILE, SCORES_FILE, PREDICTIONS_FILE, SUBMISSION_FILE)
    for path in (*(folder / name for name in named), *_plot_files(folder)):
        # The challenge's format has no room for a mark.
        beside = folder / PREDICTIONS_FILE if path.name == SUBMISSION_FILE else None
        check_output(path, overwrite, inputs=inputs, beside=beside)


def write_report(
    comparison: Comparison,
    directory: str | Path,
    contents: Mapping[str, Any] | None = None,
    predictions: JointSet | None = None,
) -> list[Path]:
    """Write the page, the plots and the numbers, and log so; an earlier report in the folder is kept until then.

    The folder gets `report.html` and, with matplotlib, each plot as PNG and SVG: `success_curve`,
    `success_curve_mean`, `per_joint`, `error_depth` (3D), `error_distance`, and `frames`. Plots of an earlier report
    that this one has not are removed.

    Args:
      comparison: its methods are shown with their caveats.
      directory: made if missing.
      contents: of `scores.json`; None: not written.
      predictions: of `predictions.npz`; None: not written.

    Raises:
      UserError: the folder cannot be written.
    """
    directory, comparison = stores.local_copy(directory, "--out"), comparison.marked()
    found = draw_plots(comparison) if pictures.have_matplotlib() else []
    if not found:
        log.logger.info(NO_PICTURES)
    text = _page(comparison, found)
    if found and comparison.main in comparison.joints_uvd:
        found.append(Plot("frames", plots.frames_sheet(comparison), ""))
    with replacing_together(directory, last=REPORT_FILE) as new:
        written = [] if contents is None else [write_json(new / SCORES_FILE, contents)]
        if predictions is not None:
            written.append(new / PREDICTIONS_FILE)
            write_joints(written[-1], predictions)
        written.append(write_file(new / REPORT_FILE, text))
        for plot in found:
            png = pictures.figure_png(plot.figure)
            written.append(write_file(new / f"{plot.name}.png", png))
            written.append(write_file(new / f"{plot.name}.svg", plot.svg))
    written = [directory / path.name for path in written]
    for path in _plot_files(directory):
        if path not in written and is_ours(path):
            path.unlink()
    stores.push(directory)
    log_written(written)
    return written


def _plot_files(folder: Path) -> list[Path]:
    return [folder / (name + suffix) for name in _PLOTS.split() for suffix in (".png", ".svg")]


def log_written(paths: Sequence[Path]) -> None:
    """Log one line that names a report and all files beside it."""
    names = [path.name for path in paths if path.suffix != ".svg"]
    svg = " (plots also as .svg)" if any(path.suffix == ".svg" for path in paths) else ""
    log.logger.info(f"wrote {paths[0].parent}: {', '.join(names)}{svg}")


def draw_plots(comparison: Comparison) -> list[Plot]:
    """Every plot of a comparison, in the order of the page."""
    scores = comparison.scores
    first = scores[comparison.main]
    names, unit = first.joint_names, first.unit
    errors = {name: (*one.per_joint, one.mean_error) for name, one in scores.items()}
    found = [
        Plot(name, plots.success_curve(scores, by), f"Success by the {by} joint", caption)
        for by, (name, caption) in _CURVES.items()
    ]
    bars = plots.joint_bars(errors, names, f"mean error ({unit})")
    found.append(Plot("per_joint", bars, "Mean error"))
    protocols = {name: one.protocol for name, one in scores.items() if one.protocol}
    if first.protocol is not None:
        title = first.protocol.title
        values = {n: [100 * x for x in (*p.per_joint, p.mean)] for n, p in protocols.items()}
        bars = plots.joint_bars(values, names, f"{title} (%)", "all")
        found.append(Plot("per_joint_protocol", bars, title))
    band = "Median over joints of all frames, with the quartiles as a band; equally many joints per point."
    if comparison.track.joint_dims == 3:
        depths = comparison.labels.joints_uvd[..., 2]
        figure = plots.error_against(depths, "depth of the joint (mm)", scores)
        found.append(Plot("error_depth", figure, "Error against depth", band))
    figure = plots.error_against(*center_distances(comparison), scores)
    found.append(Plot("error_distance", figure, "Error against distance from the center", band))
    return found


def render_page(title: str, **contents: Any) -> str:
    """Render `report.html.j2`; every text is escaped, and shown as `printable` does.

    Args:
      title: heading and title of the window.
      contents: whatever of the template's variables the page has: subtitle, cards, tables, scores, published, run,
        plots, scores_by_joint, frames, frames_text, command, facts.
    """
    return _template().render(title=title, mark=MARK, **contents)


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("a2j_jax.evaluation", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda x: x if isinstance(x, Markup) else printable(str(x)),
    )
    # Columns of words are left-aligned, of numbers right-aligned.
    environment.tests["words"] = lambda text: (
        not (text in ("", "–") or any(character.isdigit() for character in text[:2]))
    )
    return environment.get_template("report.html.j2")


def _page(comparison: Comparison, found: Sequence[Plot]) -> str:
    scores, track = comparison.scores, comparison.track
    first = scores[comparison.main]
    together, by_joint = tables.score_tables(scores)
    # Baselines are no headline, and have no place in the paper's table.
    ours = {name: scores[name] for name in scores if name in comparison.joints_uvd} or scores
    names = [name for name in ours if name in comparison.joints_uvd][:_METHODS_COMPARED]
    published = (
        tables.paper_table(track.name, ours),
        tables.rows_table(track.name, comparison.own_rows, comparison.main, first),
        tables.later_table(track.name),
    )
    about_track = [("track", f"{track.name}: {track.citation}")]
    about_track += [("", track.notes)] if track.notes else []
    ground = "the depth crop"
    if comparison.fetch is None:
        ground = "white (no data set was given; frames are counted from 0)"
    ranked = f", ranked by {comparison.main}" if len(names) > 1 else ""
    frames = _frames(comparison, names) if found and comparison.main in names else {}
    told = "Prediction in color over labels in black, on {}; below, the frame's mean error{}."
    of = f" of {comparison.method}" if comparison.method else ""
    return render_page(
        f"Evaluation{of} on {track.name}",
        subtitle=f"{first.frames_text} of track {track.name}: {', '.join(comparison.joints_uvd) or comparison.main}",
        cards=list(_cards(ours)),
        scores=together,
        scores_by_joint=by_joint,
        no_pictures="" if found else NO_PICTURES,
        published=[table for table in published if table],
        run=comparison.run,
        plots=found,
        frames=frames,
        frames_text=told.format(ground, ranked) if frames else "",
        command=comparison.command,
        facts=[*comparison.facts, *about_track, ("written by", f"a2j_jax {__version__} ({MARK})")],
    )


def _cards(scores: Mapping[str, Scores]) -> Iterable[tuple[str, str, str]]:
    """The headline, (label, value, unit): the protocol's own number; of a single method, others of its numbers too."""
    for name, one in scores.items():
        of = f"{name}: " if len(scores) > 1 else ""
        if one.protocol is None:
            yield f"{of}mean error", f"{one.mean_error:.2f}", one.unit
        else:
            yield f"{of}{one.protocol.title}", f"{100 * one.protocol.mean:.2f}", "%"
    if len(scores) > 1:
        return
    if one.protocol is not None:
        for part in one.protocol.main_parts:
            rate = one.protocol.parts.get(part, np.nan)
            if np.isfinite(rate):
                yield part, f"{100 * rate:.2f}", "%"
        yield "mean error", f"{one.mean_error:.2f}", one.unit
        return
    auc = 100 * one.success_auc["worst"]
    yield f"success AUC, 0–{CURVE_LIMIT:g} {one.unit}", f"{auc:.1f}", "%"
    for limit in (20.0, 40.0):
        rate = 100 * one.success_rate["worst"][limit]
        yield f"frames with worst joint < {limit:g} {one.unit}", f"{rate:.1f}", "%"


def _frames(comparison: Comparison, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The worst, median and best frames of the main method; several methods stand beside each other."""
    count = max(_TILES_OF_A_KIND // len(names), 2)
    picked = plots.pick_frames(comparison.scores[comparison.main].errors, count)

    def group(row: int) -> dict[str, Any]:
        frame = plots.frame_name(comparison, row)
        if len(names) == 1:
            return {"title": "", "tiles": [_tile(comparison, row, names[0], frame)]}
        return {"title": frame, "tiles": [_tile(comparison, row, name, name) for name in names]}

    return {kind: [group(row) for row in rows.tolist()] for kind, rows in picked.items()}


def _tile(comparison: Comparison, row: int, method: str, caption: str) -> dict[str, str]:
    """One frame: its picture, its error, and the caption."""
    tile = plots.frame_tile(comparison, row, method)
    sheet = pictures.draw_sheet([tile], comparison.track.skeleton, 1, tile_inches=_TILE_INCHES)
    scores = comparison.scores[method]
    error = f"{float(np.nanmean(scores.errors[row])):.1f} {scores.unit}"
    png = base64.b64encode(pictures.figure_png(sheet)).decode("ascii")
    return {"png": png, "error": error, "caption": caption}
