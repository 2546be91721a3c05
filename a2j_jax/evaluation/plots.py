"""The plots of a report: success curves and per-joint bars (the paper's Figure 7), errors by place, single frames.

Figures are small enough to stay legible on a phone. Lines and letters use the two colors `INK` and `GRID`, which a
page exchanges for its own. What draws a figure raises `UserError` where matplotlib is not installed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from a2j_jax import geometry, pictures
from a2j_jax.data.crops import Batch
from a2j_jax.errors import in_words
from a2j_jax.evaluation.evaluate import Fact, Frames
from a2j_jax.evaluation.joint_files import JointSet
from a2j_jax.evaluation.scores import (
    CURVE_LIMIT,
    FrameError,
    Scores,
    frame_errors,
    marked,
    success_auc,
    success_rate,
    to_camera,
)
from a2j_jax.evaluation.tables import Table
from a2j_jax.geometry import Float64
from a2j_jax.tracks import TrackSpec

INK, GRID = "#1b1f24", "#d8dce1"
_LINE_STYLES = ("-", "--", "-.", ":")
_WIDTH = 4.6  # inches; text of 10 points is then a sixtieth of the width
_LEGEND_LINE = 0.19  # inches
_BINS, _FEWEST_PER_BIN = 12, 8
_LONGEST_NAME = 24  # of a joint, beside its bars
_CURVE_END = 4 * CURVE_LIMIT
_PAPER_MARGIN = 0.15  # around the joints, on blank paper for frames whose depth is not at hand


@dataclass(frozen=True, eq=False)
class Comparison:
    """Methods side by side on N frames of K joints: the contents of a report."""

    track: TrackSpec
    scores: Mapping[str, Scores]  # method -> scores; the first is the one a report is about
    labels: JointSet  # of the N frames; `Frames` where a data set is given
    # (N, K, D) predictions of the methods that are drawn; a baseline is not.
    joints_uvd: Mapping[str, Float64] = field(default_factory=dict)
    # Row -> example with its `canvas`, as the input pipeline stores it; None: no depth to draw on.
    fetch: Callable[[int], Batch] | None = None
    # Table -> row of the paper's Tables 7 to 10 that the main method is (`tables.rows_of`).
    own_rows: Mapping[str, str] = field(default_factory=dict)
    method: str = ""  # name of the network, for the title; "" where there are several
    run: Table | None = None  # the run's best and final checkpoint
    facts: Sequence[Fact] = ()  # about the data set and the predictions
    command: str = ""  # that made the report, as it would be typed

    def marked(self) -> "Comparison":
        """The same, methods under names that hold their caveats (`scores.marked`)."""
        names = dict(zip(self.scores, marked(self.scores), strict=True))
        joints = {names[name]: uvd for name, uvd in self.joints_uvd.items()}
        return replace(self, scores=marked(self.scores), joints_uvd=joints)

    @property
    def main(self) -> str:
        """The method the report is about."""
        return next(iter(self.scores))


def center_distances(comparison: Comparison) -> tuple[Float64, str]:
    """(N, K) distances of joints from the center of the crop, NaN without label, and what they are, with the unit.

    Of a crop around a 3D center, mm from it in space; of a box, px of the crop from its middle; without a data set, mm
    (px in 2D) from the mean of the frame's labeled joints.
    """
    track, frames = comparison.track, comparison.labels
    points = np.where(frames.labeled[..., None], frames.joints_uvd, np.nan)
    if isinstance(frames, Frames) and track.crop_by == "box":
        in_crop = geometry.frame_to_crop(points[..., :2], frames.box_px, track.crop_size)
        distance = np.linalg.norm(in_crop - track.crop_size / 2.0, axis=-1)
        return distance, "distance from the crop center (px of the crop)"
    if isinstance(frames, Frames) and track.joint_dims == 3:
        center, what = frames.center_uvd[:, None], "crop center"
        points, middle = (to_camera(uvd, frames.camera) for uvd in (points, center))
    else:
        if track.joint_dims == 3:
            assert track.camera is not None, "joints were scored with it"
            points = geometry.uvd_to_xyz(points, track.camera)
        count = np.maximum(frames.labeled.sum(1), 1)[:, None, None]
        middle, what = np.nansum(points, axis=1, keepdims=True) / count, "mean labeled joint"
    distance = np.linalg.norm(points - middle, axis=-1)
    return distance, f"distance from the {what} ({track.error_unit})"


def quartile_bins(x: ArrayLike, errors: ArrayLike, bins: int = _BINS) -> Float64:
    """(4, bins): the median of x in bins of equal count, and the quartiles of the errors there: low, median, high.

    NaN are left out; there are fewer bins where one would hold under eight joints. ValueError if nothing is left.
    """
    x, errors = (np.asarray(a, np.float64).reshape(-1) for a in (x, errors))
    kept = np.isfinite(x) & np.isfinite(errors)
    if not kept.any():
        raise ValueError("no joint has both an error and a place: nothing to bin")
    order = np.argsort(x[kept], kind="stable")
    bins = max(1, min(bins, len(order) // _FEWEST_PER_BIN))
    parts = np.array_split(order, bins)
    x, errors = x[kept], errors[kept]
    quartiles = [(np.median(x[p]), *np.percentile(errors[p], (25, 50, 75))) for p in parts]
    return np.array(quartiles).T


def success_curve(scores: Mapping[str, Scores], by: FrameError = "worst", axes: Any = None) -> Any:
    """Plot the fraction of frames whose worst (or mean) joint error is below a threshold, a line per method.

    Drawn on `axes`, in the style of `style_axes`, or on those of a new figure; returns the figure.
    """
    axes = axes or _new_axes(3.2, len(scores))
    first = next(iter(scores.values()))
    thresholds = success_thresholds(first.errors, by)
    names = []
    for number, (name, one) in enumerate(scores.items()):
        rate = 100 * success_rate(one.errors, thresholds, by)
        axes.plot(thresholds, rate, linewidth=2, **_style(number))
        names.append(f"{name}, AUC {success_auc(one.errors, CURVE_LIMIT, by):.1%}")
    axes.set(xlim=(0, thresholds[-1]), ylim=(0, 100), xlabel=f"threshold D ({first.unit})")
    axes.set_ylabel(f"frames with {by} joint error < D (%)")
    _legend_above(axes, axes.lines, names)
    return axes.figure


def success_thresholds(errors: Float64, by: FrameError) -> Float64:
    """The 401 thresholds of a success curve, mm (px), for (N, K) errors of the first method.

    The end is `CURVE_LIMIT`, doubled while half of the frames have not yet succeeded (bodies).
    """
    end = CURVE_LIMIT
    while end < _CURVE_END and success_rate(errors, [end], by)[0] < 0.5:
        end *= 2
    return np.linspace(0.0, end, 401)


def joint_bars(
    values: Mapping[str, Sequence[float]],
    names: Sequence[str],
    label: str,
    overall: str = "mean",
    axes: Any = None,
) -> Any:
    """Plot a number of every joint, one bar per method, and the one over all joints below them; returns the figure.

    Args:
      values: method -> K numbers in the order of `names`, then the one of all joints; NaN: no bar.
      names: of the K joints.
      label: what the numbers are, with their unit.
      overall: name of the last number.
      axes: as in `success_curve`.
    """
    axes = axes or _new_axes(bars_height(len(names), len(values)), len(values))
    rows = len(names) + 1
    thick = 0.8 / len(values)
    # The last stands apart, below the joints.
    places = np.append(np.arange(rows - 1), rows - 0.6)
    bars = []
    for number, numbers in enumerate(values.values()):
        shift = (number - (len(values) - 1) / 2) * thick
        color = _style(number)["color"]
        bars.append(axes.barh(places + shift, np.nan_to_num(numbers), thick * 0.9, color=color))
    shown = [pictures.drawable(in_words(name), _LONGEST_NAME) for name in names]
    axes.set_yticks(places, [*shown, overall])
    axes.get_yticklabels()[-1].set_fontweight("bold")
    axes.set_ylim(rows - 0.05, -0.55)
    axes.axhline(rows - 1.3, color=INK, linewidth=0.8)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(left=0)
    axes.set_xlabel(label)
    _legend_above(axes, bars, values)
    return axes.figure


def bars_height(joints: int, methods: int) -> float:
    """Inches that the bars of so many joints and methods need."""
    return (joints + 1) * (0.15 + 0.06 * methods) + 0.5


def error_against(x: Float64, label: str, scores: Mapping[str, Scores]) -> Any:
    """Plot the median error of joints, and the band between its quartiles, over an (N, K) quantity of the joint."""
    axes = _new_axes(2.9, len(scores))
    for number, one in enumerate(scores.values()):
        middle, low, median, high = quartile_bins(x, one.errors)
        style = _style(number)
        axes.fill_between(middle, low, high, color=style["color"], alpha=0.15, lw=0)
        axes.plot(middle, median, linewidth=2, marker="o", markersize=3, **style)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(label)
    axes.set_ylabel(f"error: median, quartiles ({next(iter(scores.values())).unit})")
    _legend_above(axes, axes.lines, scores)
    return axes.figure


def _new_axes(height: float, entries: int) -> Any:
    """The axes of a new figure, `height` inches with their labels, and a legend above them."""
    figure = pictures.new_figure(_WIDTH, height + legend_height(entries))
    figure.set_layout_engine("constrained")
    return style_axes(figure.add_subplot())


def legend_height(entries: int) -> float:
    """Inches above a plot that the legend of so many methods takes."""
    return 0.12 + _LEGEND_LINE * entries


def style_axes(axes: Any) -> Any:
    """Give axes the style of all plots, an open frame and a grid behind the lines; returns them."""
    axes.set_axisbelow(True)
    axes.grid(color=GRID, linewidth=0.8)
    for name, spine in axes.spines.items():
        spine.set(color=INK, linewidth=0.8, visible=name in ("left", "bottom"))
    axes.tick_params(colors=INK, labelsize=9.5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(color=INK, fontsize=10)
    return axes


def _legend_above(axes: Any, handles: Sequence[Any], names: Iterable[str]) -> None:
    """Put a legend above the plot, where it never hides a line."""
    from matplotlib.transforms import Bbox

    place = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "borderaxespad": 0.2}
    style = {"borderpad": 0.2, "labelspacing": 0.3, "fontsize": 9.5, "frameon": False}
    legend = pictures.legend(axes, handles, names, labelcolor=INK, **place, **style)
    extent = legend.get_window_extent

    def height_alone(renderer: Any = None) -> Any:
        """The extent that the layout makes room for: a long name must not squeeze the plot."""
        left, box = axes.bbox.x0, extent(renderer)
        return Bbox.from_extents(left, box.y0, left + 1, box.y1)

    legend.get_tightbbox = height_alone


def _style(number: int) -> dict[str, Any]:
    colors = pictures.LIMB_COLORS
    return {
        "color": colors[(number + 1) % len(colors)],
        "linestyle": _LINE_STYLES[number % len(_LINE_STYLES)],
    }


def pick_frames(errors: Float64, count: int) -> dict[str, NDArray[np.int64]]:
    """Rows of the `count` "worst" (worst first), "median" and "best" frames by mean error over their labeled joints.

    Frames without any label are never picked. Of fewer than three times as many frames, a third each, so that no frame
    is of two kinds (but at least one of each).
    """
    mean = frame_errors(errors, "mean")
    order = np.argsort(mean, kind="stable")[: np.isfinite(mean).sum()]  # NaN is last
    count = min(count, max(len(order) // 3, 1), len(order))
    middle = (len(order) - count) // 2
    return {
        "worst": order[::-1][:count],
        "median": order[middle : middle + count],
        "best": order[:count],
    }


def frame_tile(comparison: Comparison, row: int, method: str) -> pictures.Tile:
    """Picture one frame with a method's joints in color over the labels in black.

    The crop is drawn below them where a data set is at hand, blank paper where not.
    """
    joints, track = comparison.joints_uvd[method][row], comparison.track
    label, valid = comparison.labels.joints_uvd[row], comparison.labels.labeled[row]
    if comparison.fetch is not None:
        example = comparison.fetch(row)
    else:  # on white, in a square around both
        uv = np.concatenate([label[valid, :2], joints[:, :2]])
        low, high = uv.min(0), uv.max(0)
        half = max(float((high - low).max()) * (0.5 + _PAPER_MARGIN), 1.0)
        box = np.concatenate([(low + high) / 2 - half, (low + high) / 2 + half])
        canvas = np.zeros((track.canvas_size, track.canvas_size), np.uint16)
        example = {"canvas": canvas, "box_px": box, "center_uvd": np.zeros(3)}
    return example_tile({**example, "joints_uvd": label, "valid": valid}, track, joints)


def frame_name(comparison: Comparison, row: int) -> str:
    """The frame's name if that is known, else its number from 0."""
    labels = comparison.labels
    name = "" if labels.frame_id is None else str(labels.frame_id[row])
    return name or f"frame {labels.numbers[row]}"


def frames_sheet(comparison: Comparison, columns: int = 6) -> Any:
    """A figure of the frames with the smallest, the median and the largest error of the main method, a row each."""
    method, scores = comparison.main, comparison.scores[comparison.main]
    picked = pick_frames(scores.errors, columns)
    tiles = []
    for kind in ("best", "median", "worst"):
        for row in picked[kind].tolist():
            title = f"{kind} · {np.nanmean(scores.errors[row]):.1f} {scores.unit}"
            tiles.append(replace(frame_tile(comparison, row, method), title=title))
    title = f"Best, median and worst frames: {method} in color, labels in black"
    return pictures.draw_sheet(tiles, comparison.track.skeleton, len(picked["best"]), title)


def example_tile(
    example: Batch,
    track: TrackSpec,
    joints_uvd: NDArray[np.floating] | None = None,
    title: str = "",
) -> pictures.Tile:
    """Picture the crop of one stored example.

    Args:
      example: `canvas`, `joints_uvd`, `valid`, `box_px`, `center_uvd` of one frame.
      joints_uvd: (K, 3 or 2) a prediction in the full frame: drawn in color over the labels in
        black. None: the labels themselves are drawn in color.
      title: above it.
    """
    size, box = track.crop_size, np.asarray(example["box_px"])
    joints = label = geometry.frame_to_crop(np.asarray(example["joints_uvd"])[:, :2], box, size)
    if joints_uvd is not None:
        joints = geometry.frame_to_crop(joints_uvd[:, :2], box, size)
    far = None
    if track.depth_reference == "center" and track.depth_window_mm is not None:
        far = (float(example["center_uvd"][2]) + track.depth_window_mm) / track.storage_unit_mm
    return pictures.Tile(
        depth=geometry.center_crop(np.asarray(example["canvas"]), size),
        joints_uv=joints,
        truth_uv=None if joints_uvd is None else label,
        title=title,
        valid=np.asarray(example["valid"], bool),
        far=far,
    )
