"""How informative anchors are drawn: over the crop of a frame, and frame by frame on a sheet."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from a2j_jax import pictures
from a2j_jax.figures.sheet import Area, Sheet, legend_height
from a2j_jax.figures.votes import FrameVotes, JointVotes, error_unit
from a2j_jax.models.anchors import ANCHOR_SPACING_PX, anchor_grid
from a2j_jax.text import in_words
from a2j_jax.tracks import TrackSpec

ANCHOR_COLOR, OFFSET_COLOR, MEAN_COLOR = pictures.LIMB_COLORS[:3]
_SHOWN_WEIGHTS = (0.02, 0.1, 0.4)  # in the legend
_POINTS_AT_WHOLE_WEIGHT = 420.0  # area of the mark of an anchor that has all of the weight, points²
_LONGEST_NAME = 34  # letters above a tile
_PAD, _TITLE = 0.06, 0.36  # inches: around a tile, above it


def draw_votes(axes: Any, frame: FrameVotes, joint: JointVotes, *, mean_anchor: bool) -> None:
    """Draw one joint's informative anchors over the crop.

    Args:
      axes: matplotlib axes.
      frame: for its depth.
      joint: of that frame.
      mean_anchor: whether to mark where the weighted mean of all anchors is.
    """
    size = np.shape(frame.tile.depth)[0]
    pictures.draw_depth(axes, frame.tile.depth, frame.tile.far)
    inches = axes.figure.get_size_inches()[0] * axes.get_position().width
    spacing = 72 * inches * ANCHOR_SPACING_PX / size  # points between two anchors
    axes.scatter(
        *anchor_grid(size, size).T,
        s=(0.16 * spacing) ** 2,
        c="0.45",
        linewidths=0,
        rasterized=True,  # thousands of them in every crop would make an SVG of megabytes
    )
    # Light ones on top of heavy ones.
    axes.scatter(
        *joint.anchor_uv.T,
        s=_POINTS_AT_WHOLE_WEIGHT * joint.weight,
        c=ANCHOR_COLOR,
        edgecolors="white",
        linewidths=0.6,
        zorder=3,
    )
    axes.quiver(
        *joint.anchor_uv.T,
        *joint.offset_uv.T,
        angles="xy",
        units="inches",
        scale_units="xy",
        scale=1,
        width=0.011,
        headwidth=4.5,
        headlength=5,
        headaxislength=4.5,
        minlength=0.5,
        color=OFFSET_COLOR,
        zorder=4,
    )
    if mean_anchor:
        style = {"marker": "D", "s": 60, "facecolors": MEAN_COLOR, "edgecolors": "white"}
        axes.scatter(*joint.mean_anchor_uv, linewidths=0.8, zorder=6, **style)
    if joint.label_uv is not None:
        _mark(axes, joint.label_uv, "o", 42, zorder=5)
    _mark(axes, joint.predicted_uv, "x", 30, zorder=7)


def _mark(axes: Any, uv: Any, marker: str, area: float, zorder: float) -> None:
    """A thin black mark on a white edge: seen on any grey and any colour."""
    for color, width in (("white", 2.6), ("black", 1.2)):
        colors = {"facecolors": "none", "edgecolors": color} if marker == "o" else {"c": color}
        axes.scatter(*uv, marker=marker, s=area, linewidths=width, zorder=zorder, **colors)


def draw_idea(shown: Sequence[FrameVotes], track: TrackSpec, caption: str, command: str) -> Any:
    """Figure 1: a row per frame, with its skeleton first and then the votes for each joint.

    Args:
      shown: frames, at least one, all with the same joints.
      track: of the frames.
      caption, command: as `Sheet` takes them.
    """
    side, marks, unit = 2.3, list(_legend(mean_anchor=False)), error_unit(track)
    width = (1 + len(shown[0].joints)) * side
    head = legend_height(len(marks), width)
    sheet = Sheet(width, head + len(shown) * (side + _TITLE), caption, command)
    sheet.legend(marks)
    for row, frame in enumerate(shown):
        top = head + row * (side + _TITLE)
        error = "" if frame.error is None else f"mean error {frame.error:.1f} {unit}"
        axes = _tile(sheet, 0, top, side, frame.name, error)
        pictures.draw_tile(axes, frame.tile, track.skeleton)
        for column, joint in enumerate(frame.joints, 1):
            error = "" if joint.error is None else f"; {joint.error:.1f} {unit} off"
            axes = _tile(
                sheet, column * side, top, side, in_words(joint.joint), f"{_count(joint)}{error}"
            )
            draw_votes(axes, frame, joint, mean_anchor=False)
    return sheet.figure


def draw_pairs(shown: Mapping[str, Sequence[FrameVotes]], caption: str, command: str) -> Any:
    """Figure 6: a row per frame; for each joint the votes of one network beside those of the other.

    Args:
      shown: "without" and "with" the loss → frames, the same with the same joints.
      caption, command: as `Sheet` takes them.
    """
    side, gap, marks = 1.9, 0.16, list(_legend(mean_anchor=True))
    frames = list(zip(*shown.values(), strict=True))
    pair_width = len(shown) * side + gap
    width = len(frames[0][0].joints) * pair_width - gap
    head = legend_height(len(marks), width)
    sheet = Sheet(width, head + len(frames) * (side + _TITLE), caption, command)
    sheet.legend(marks)
    for row, same_frame in enumerate(frames):
        top = head + row * (side + _TITLE)
        for column, (kind, frame) in enumerate(zip(shown, same_frame, strict=True)):
            for pair, joint in enumerate(frame.joints):
                name = "" if column else f"{in_words(joint.joint)}, {frame.name}"
                left = pair * pair_width + column * side
                axes = _tile(sheet, left, top, side, name, _pair_told(kind, joint))
                draw_votes(axes, frame, joint, mean_anchor=True)
    return sheet.figure


def _tile(sheet: Sheet, left: float, top: float, side: float, name: str, told: str) -> Any:
    """Axes with two lines above them: a name in bold, and a number or two."""
    if len(name) > _LONGEST_NAME:  # a path, which differs at its end
        name = "…" + name[1 - _LONGEST_NAME :]
    sheet.text(left + _PAD, top + 0.19, name, va="baseline", fontweight="bold")
    sheet.text(left + _PAD, top + 0.32, told, va="baseline", fontsize=7.5, color="0.25")
    inner = side - 2 * _PAD
    return sheet.axes(Area(left + _PAD, top + _TITLE, inner, inner))


def _legend(mean_anchor: bool) -> Iterator[Any]:
    from matplotlib.lines import Line2D

    def mark(marker: str, label: str, size: float, **style: Any) -> Any:
        return Line2D([], [], linestyle="", marker=marker, markersize=size, label=label, **style)

    for weight in _SHOWN_WEIGHTS:
        size = math.sqrt(_POINTS_AT_WHOLE_WEIGHT * weight)
        yield mark("o", f"weight {weight:g}", size, color=ANCHOR_COLOR, markeredgecolor="white")
    yield mark(r"$\rightarrow$", "its offset", 13, color=OFFSET_COLOR, markeredgewidth=0)
    if mean_anchor:
        yield mark("D", "mean anchor", 7.5, color=MEAN_COLOR, markeredgecolor="white")
    yield mark("x", "predicted joint", 5.5, color="black", markeredgewidth=1.2)
    yield mark("o", "label", 6, color="none", markeredgecolor="black", markeredgewidth=1.2)


def _count(joint: JointVotes) -> str:
    anchors = "1 anchor" if len(joint.weight) == 1 else f"{len(joint.weight)} anchors"
    return f"{anchors}, {joint.weight.sum():.0%} of weight"


def _pair_told(kind: str, joint: JointVotes) -> str:
    mean = joint.surround_px
    return f"{kind} the loss" + ("" if mean is None else f": {mean:.1f} px off")
