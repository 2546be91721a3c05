"""The plots of a report: success curves and per-joint bars (the paper's Figure 7), and where errors are large.

Each function returns a matplotlib figure, small enough to stay legible on a phone. Lines and letters
use the two colours `INK` and `GRID`, so that a page can exchange them for its own.

Pictures of single frames: which ones to show, and the skeleton over the crop.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from a2j_jax import geometry, pictures
from a2j_jax.data.batch import Batch, FloatArray
from a2j_jax.errors import in_words
from a2j_jax.evaluation import metrics
from a2j_jax.evaluation.evaluate import Comparison
from a2j_jax.evaluation.scores import CURVE_LIMIT, Scores
from a2j_jax.tracks import TrackSpec

INK, GRID = "#1b1f24", "#d8dce1"
_LINE_STYLES = ("-", "--", "-.", ":")
_WIDTH = 4.6  # inches; text of 10 points then has a sixtieth of the width
_FOOT, _LEGEND_LINE = 0.5, 0.19
_BINS = 12
_LONGEST_NAME = 24  # of a joint, beside its bars; longer ones would leave the picture
_CURVE_END = 4 * CURVE_LIMIT
_FEWEST_PER_BIN = 8


class Bins(NamedTuple):
    """Errors of equally many joints each, in ascending order of some quantity x.

    Attributes:
        x: (B,) median of x in each bin.
        low, median, high: (B,) quartiles of the error.
    """

    x: FloatArray
    low: FloatArray
    median: FloatArray
    high: FloatArray


def quartile_bins(x: ArrayLike, errors: ArrayLike, bins: int = _BINS) -> Bins:
    """Sort errors by x, cut them into bins of equal count, and take each bin's quartiles.

    Args:
        x: any shape; NaN: left out.
        errors: the same shape; NaN: left out.
        bins: at most; fewer where a bin would hold under eight joints.

    Raises:
        ValueError: nothing is left.
    """
    x, errors = (np.asarray(a, np.float64).reshape(-1) for a in (x, errors))
    kept = np.isfinite(x) & np.isfinite(errors)
    if not kept.any():
        raise ValueError("no joint has both an error and a place: nothing to bin")
    order = np.argsort(x[kept], kind="stable")
    bins = max(1, min(bins, len(order) // _FEWEST_PER_BIN))
    parts = np.array_split(order, bins)
    quartiles = np.array([np.percentile(errors[kept][part], (25, 50, 75)) for part in parts])
    centers = np.array([np.median(x[kept][part]) for part in parts])
    return Bins(centers, *quartiles.T)


def success_curve(scores: Mapping[str, Scores], by: metrics.FrameError = "worst") -> Any:
    """The fraction of frames whose worst (or mean) joint error is below a threshold, over thresholds.

    Args:
        scores: method → scores, one line each.
        by: which error of a frame counts.

    Raises:
        UserError: matplotlib is not installed.
    """
    figure, axes = _new_axes(3.2, len(scores))
    draw_success(axes, scores, by)
    return figure


def draw_success(axes: Any, scores: Mapping[str, Scores], by: metrics.FrameError) -> None:
    """What `success_curve` shows, on axes of `plain_axes`."""
    first = next(iter(scores.values()))
    thresholds = success_thresholds(first.errors, by)
    names = []
    for number, (name, one) in enumerate(scores.items()):
        rate = 100 * metrics.success_rate(one.errors, thresholds, by)
        axes.plot(thresholds, rate, linewidth=2, **_style(number))
        names.append(f"{name}, AUC {metrics.success_auc(one.errors, CURVE_LIMIT, by):.1%}")
    axes.set_xlim(0, thresholds[-1])
    axes.set_ylim(0, 100)
    axes.set_xlabel(f"threshold D ({first.unit})")
    axes.set_ylabel(f"frames with {by} joint error < D (%)")
    _legend_above(axes, axes.lines, names)


def success_thresholds(errors: FloatArray, by: metrics.FrameError) -> FloatArray:
    """Where a success curve is drawn: 401 thresholds from 0, mm (px).

    The end is `CURVE_LIMIT`, doubled while half of the frames have not yet succeeded (bodies).

    Args:
        errors: (N, K) of the first method.
        by: which error of a frame counts.
    """
    end = CURVE_LIMIT
    while end < _CURVE_END and metrics.success_rate(errors, [end], by)[0] < 0.5:
        end *= 2
    return np.linspace(0.0, end, 401)


def joint_bars(
    values: Mapping[str, Sequence[float]], names: Sequence[str], label: str, overall: str = "mean"
) -> Any:
    """A number of every joint, one bar per method, and the one over all joints below them.

    Args:
        values: method → K numbers in the order of `names`, then the one of all joints; NaN: no bar.
        names: (K,) of the joints.
        label: what the numbers are, with their unit.
        overall: name of the last number.

    Raises:
        UserError: matplotlib is not installed.
    """
    figure, axes = _new_axes(bars_height(len(names), len(values)), len(values), left=0.3)
    draw_joint_bars(axes, values, names, label, overall)
    return figure


def bars_height(joints: int, methods: int) -> float:
    """Inches that bars need to be told apart."""
    return (joints + 1) * (0.15 + 0.06 * methods) + 0.5


def draw_joint_bars(
    axes: Any,
    values: Mapping[str, Sequence[float]],
    names: Sequence[str],
    label: str,
    overall: str = "mean",
) -> None:
    """What `joint_bars` shows, on axes of `plain_axes`."""
    rows = len(names) + 1
    thick = 0.8 / len(values)
    # The last stands apart, below the joints.
    places = np.append(np.arange(rows - 1), rows - 0.6)
    bars = []
    for number, numbers in enumerate(values.values()):
        shift = (number - (len(values) - 1) / 2) * thick
        color = _style(number)["color"]
        bars.append(axes.barh(places + shift, np.nan_to_num(numbers), thick * 0.9, color=color))
    axes.set_yticks(
        places, [*(pictures.drawable(in_words(name), _LONGEST_NAME) for name in names), overall]
    )
    axes.get_yticklabels()[-1].set_fontweight("bold")
    axes.set_ylim(rows - 0.05, -0.55)
    axes.axhline(rows - 1.3, color=INK, linewidth=0.8)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(left=0)
    axes.set_xlabel(label)
    _legend_above(axes, bars, values)


def error_against(x: FloatArray, label: str, scores: Mapping[str, Scores]) -> Any:
    """Median error of joints, and the band between its quartiles, over some quantity of the joint.

    Args:
        x: (N, K) the quantity.
        label: what x is, with its unit.
        scores: method → scores of the same N frames.

    Raises:
        ValueError: no joint has both.
        UserError: matplotlib is not installed.
    """
    figure, axes = _new_axes(2.9, len(scores))
    for number, one in enumerate(scores.values()):
        bins = quartile_bins(x, one.errors)
        style = _style(number)
        axes.fill_between(bins.x, bins.low, bins.high, color=style["color"], alpha=0.15, lw=0)
        axes.plot(bins.x, bins.median, linewidth=2, marker="o", markersize=3, **style)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(label)
    axes.set_ylabel(f"error: median, quartiles ({next(iter(scores.values())).unit})")
    _legend_above(axes, axes.lines, scores)
    return figure


def _new_axes(height: float, entries: int, left: float = 0.14) -> tuple[Any, Any]:
    """A figure with one plot, `height` inches with its axis labels, and room for a legend above it."""
    head = legend_height(entries)
    height += head
    figure = pictures.new_figure(_WIDTH, height)
    area = (left, _FOOT / height, 0.965 - left, (height - head - _FOOT) / height)
    return figure, plain_axes(figure, area)


def legend_height(entries: int) -> float:
    """Inches above a plot that the legend of so many methods takes."""
    return 0.12 + _LEGEND_LINE * entries


def plain_axes(figure: Any, area: tuple[float, float, float, float]) -> Any:
    """Axes in the style of all plots.

    Args:
        figure: to put them on.
        area: left, bottom, width and height, fractions of the figure.
    """
    return style_axes(figure.add_axes(area))


def style_axes(axes: Any) -> Any:
    """Gives axes the style of all plots, an open frame and a grid behind the lines, and returns them."""
    axes.set_axisbelow(True)
    axes.grid(color=GRID, linewidth=0.8)
    for name, spine in axes.spines.items():
        spine.set_color(INK)
        spine.set_linewidth(0.8)
        spine.set_visible(name in ("left", "bottom"))
    axes.tick_params(colors=INK, labelsize=9.5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_color(INK)
        axis.label.set_fontsize(10)
    return axes


def _legend_above(axes: Any, handles: Sequence[Any], names: Iterable[str]) -> None:
    """Above the plot, where it never hides a line."""
    legend = pictures.legend(
        axes,
        handles,
        names,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        borderpad=0.2,
        borderaxespad=0.2,
        labelspacing=0.3,
        fontsize=9.5,
        frameon=False,
    )
    for text in legend.get_texts():
        text.set_color(INK)


def _style(number: int) -> dict[str, Any]:
    colors = pictures.LIMB_COLORS
    return {
        "color": colors[(number + 1) % len(colors)],
        "linestyle": _LINE_STYLES[number % len(_LINE_STYLES)],
    }


# Side of the blank paper for frames whose depth is not at hand, and the room around the joints on it.
_PAPER_PX = 176
_PAPER_MARGIN = 0.15


def pick_frames(errors: NDArray[np.float64], count: int) -> dict[str, NDArray[np.int64]]:
    """Rows of the `count` best, median and worst frames by mean error over their labelled joints.

    Args:
        errors: (N, K), NaN = unlabelled; frames without any label are never picked.
        count: of each; with fewer than three times as many frames, a third of them, so that no frame
            is of two kinds (but at least one of each).

    Returns:
        "best" (best first), "median", "worst" (worst first) → row numbers; all of equal length.
    """
    labelled = np.isfinite(errors)
    mean = np.nansum(errors, axis=1) / np.maximum(labelled.sum(1), 1)
    order = np.argsort(mean, kind="stable")
    order = order[np.any(labelled[order], axis=1)]
    count = min(count, max(len(order) // 3, 1), len(order))
    middle = (len(order) - count) // 2
    return {
        "best": order[:count],
        "median": order[middle : middle + count],
        "worst": order[::-1][:count],
    }


def frame_tile(comparison: Comparison, row: int, method: str) -> pictures.Tile:
    """One frame with a method's joints in colour over the labels in black.

    The crop is drawn below them where a data set is at hand, blank paper where not.

    Args:
        comparison: holds the frame; `method` is among its `joints_uvd`.
        row: of the frame, which is its position in the split.
        method: whose joints.
    """
    joints = comparison.joints_uvd[method][row]
    label, valid = comparison.labels_uvd[row], comparison.valid[row]
    if comparison.fetch is None:
        return _paper_tile(joints, label, valid)
    example = {**comparison.fetch(row), "joints_uvd": label, "valid": valid}
    return example_tile(example, comparison.spec, joints)


def frame_name(comparison: Comparison, row: int) -> str:
    """What the frame is called: by the distribution if that is known, else by its number from 0."""
    name: object = ""
    if comparison.fetch is not None:
        name = comparison.fetch(row).get("frame_id", "")
    text = name.decode() if isinstance(name, bytes) else str(name)
    if text:
        return text
    index = row if comparison.frames is None else int(comparison.frames.index[row])
    return f"frame {index}"


def frames_sheet(comparison: Comparison, columns: int = 6) -> Any:
    """A figure of the frames with the smallest, the median and the largest mean error, one row each.

    Args:
        comparison: its main method is drawn and ranks the frames.
        columns: frames per row; fewer if there are fewer frames.

    Raises:
        UserError: matplotlib is not installed.
    """
    method, errors = comparison.main, comparison.scores[comparison.main].errors
    picked = pick_frames(errors, columns)
    tiles = []
    for label, rows in picked.items():
        for row in rows.tolist():
            tile = frame_tile(comparison, row, method)
            title = f"{label} · {np.nanmean(errors[row]):.1f} {comparison.unit}"
            tiles.append(pictures.Tile(**{**vars(tile), "title": title}))
    return pictures.draw_sheet(
        tiles,
        comparison.spec.skeleton,
        columns=len(picked["best"]),
        title=f"Best, median and worst frames: {method} in color, labels in black",
    )


def example_tile(
    example: Batch,
    spec: TrackSpec,
    joints_uvd: NDArray[np.floating] | None = None,
    title: str = "",
) -> pictures.Tile:
    """One stored example as a picture of its crop.

    Args:
        example: `canvas`, `joints_uvd`, `valid`, `box_px`, `center_uvd` of one frame.
        spec: the track.
        joints_uvd: (K, 3 or 2) a prediction in the full frame: drawn in colour over the labels in
            black. None: the labels themselves are drawn in colour.
        title: above it.
    """
    size = spec.crop_size
    box = np.asarray(example["box_px"])
    label = geometry.frame_to_crop(np.asarray(example["joints_uvd"])[:, :2], box, size)
    predicted = None
    if joints_uvd is not None:
        predicted = geometry.frame_to_crop(joints_uvd[:, :2], box, size)
    far = None
    if spec.depth_reference == "center" and spec.depth_window_mm is not None:
        far = (float(example["center_uvd"][2]) + spec.depth_window_mm) / spec.storage_unit_mm
    return pictures.Tile(
        depth=geometry.center_crop(np.asarray(example["canvas"]), size),
        joints_uv=label if predicted is None else predicted,
        truth_uv=None if predicted is None else label,
        title=title,
        valid=np.asarray(example["valid"], bool),
        far=far,
    )


def examples_sheet(
    examples: Sequence[Batch], spec: TrackSpec, path: str | Path, columns: int = 6
) -> Path:
    """A contact sheet of stored examples with their labels: what `a2j show` writes.

    Raises:
        UserError: no examples, matplotlib is not installed, or the file cannot be written.
    """
    tiles = [example_tile(example, spec) for example in examples]
    return pictures.contact_sheet(tiles, spec.skeleton, path, columns)


def _paper_tile(
    joints_uvd: NDArray[np.floating], label_uvd: NDArray[np.floating], valid: NDArray[np.bool_]
) -> pictures.Tile:
    """Prediction and labels on white, in a square around both."""
    uv = np.concatenate([label_uvd[valid, :2], joints_uvd[:, :2]])
    low, high = uv.min(0), uv.max(0)
    half = max(float((high - low).max()) * (0.5 + _PAPER_MARGIN), 1.0)
    middle = (low + high) / 2
    box = np.concatenate([middle - half, middle + half])
    return pictures.Tile(
        depth=np.zeros((_PAPER_PX, _PAPER_PX), np.uint16),
        joints_uv=geometry.frame_to_crop(joints_uvd[:, :2], box, _PAPER_PX),
        truth_uv=geometry.frame_to_crop(label_uvd[:, :2], box, _PAPER_PX),
        valid=valid,
    )
