"""How informative anchors are drawn: over the crop of a frame, and frame by frame on a sheet.

Figures 1 and 6: the anchors that matter to a joint, over the depth crop.

Figure 1 is the idea of the paper: of all anchors on the crop a few inform a joint, and each says where it is.
Figure 6 is what the surrounding loss is for: with it these anchors stand around the joint.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from a2j_jax import pictures
from a2j_jax.errors import UserError, in_words
from a2j_jax.figures.sheet import Area, Figure, Sheet, legend_height
from a2j_jax.figures.votes import (
    FrameVotes,
    JointVotes,
    error_unit,
    evenly_spaced,
    frame_votes,
    joint_numbers,
    restore_anchors,
)
from a2j_jax.log import logger
from a2j_jax.models.anchors import ANCHOR_SPACING_PX, anchor_grid
from a2j_jax.runs.load import Restored
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


HOW_TO_TRAIN_WITHOUT = (
    "figure 6 compares --checkpoint, trained with the surrounding loss, and --without, trained without it: "
    "a2j train --config table7/no_surrounding_loss, or any config with --config.loss.surrounding=false"
)


def figure_1(
    checkpoint: str | Path,
    *,
    joints: Sequence[str] | None,
    frames: int,
    split: str,
    data_dir: str | Path | None,
    min_weight: float,
    command: str,
) -> Figure:
    """The main idea: informative anchors of a few joints, with their offsets, one row per frame.

    Args:
      checkpoint: a run or a converted checkpoint, with proposals; its best step.
      joints: names; None: see `votes.joint_numbers`.
      frames: how many, evenly spaced over the split.
      split, data_dir: of the data set; None: the one trained on.
      min_weight: of an informative anchor.
      command: for the caption.

    Raises:
      UserError: no checkpoint, no data, no such joint, anchors without weights, or no matplotlib.
    """
    restored = restore_anchors(checkpoint)
    track = restored.track
    numbers = joint_numbers(joints, track.skeleton)
    examples = evenly_spaced(data_dir or restored.config.data.dir, track, split, frames)
    logger.info(f"{checkpoint}, step {restored.step}: looking at anchors, frames: {len(examples)}")
    shown = frame_votes(restored, examples, numbers, min_weight)
    caption = (
        f"Figure 1. Of all anchors of a crop (gray dots, every {ANCHOR_SPACING_PX:g} px) those with a weight over "
        f"{min_weight:g} for a joint are marked, their area in proportion to it; an arrow is an anchor's offset, and "
        "ends where the anchor takes the joint to be. The answer is the weighted average of the votes of all anchors. "
        "First column: all joints, the answer in color over the labels in black. "
        f"{checkpoint}, step {restored.step}; {_frames_told(shown, split)}."
    )
    contents = {
        "figure": 1,
        "command": command,
        **_about(checkpoint, restored, split, min_weight),
        "frames": [_frame_json(frame, track) for frame in shown],
    }
    drawing = draw_idea(shown, track, caption, command)
    return Figure(drawing, contents, [row for frame in shown for row in _rows(frame)])


def figure_6(
    checkpoint: str | Path,
    without: str | Path,
    *,
    joints: Sequence[str] | None,
    frames: int,
    split: str,
    data_dir: str | Path | None,
    min_weight: float,
    command: str,
) -> Figure:
    """Informative anchors of two networks side by side, trained without and with the surrounding loss.

    Args:
      checkpoint: trained with it.
      without: trained without it, on the same track at the same crop size.
      joints, frames, split, data_dir, min_weight, command: as in `figure_1`; the data is `checkpoint`'s.

    Raises:
      UserError: as `figure_1`; or a checkpoint of the other kind, or of another track or crop size.
    """
    networks = {"without": restore_anchors(without), "with": restore_anchors(checkpoint)}
    _check_kinds(networks, checkpoint, without)
    track = networks["with"].track
    _check_comparable(networks, checkpoint, without)
    numbers = joint_numbers(joints, track.skeleton)
    found = networks["with"].config.data.dir
    examples = evenly_spaced(data_dir or found, track, split, frames)
    folders = {"without": without, "with": checkpoint}
    shown = {}
    for kind, restored in networks.items():
        logger.info(
            f"{folders[kind]}, step {restored.step}: looking at anchors, frames: {len(examples)}"
        )
        shown[kind] = frame_votes(restored, examples, numbers, min_weight)
    means = {kind: _mean_surround(votes) for kind, votes in shown.items()}
    caption = (
        f"Figure 6. Anchors with a weight over {min_weight:g} (area in proportion to it) and their offsets, without "
        "and with the surrounding loss, on the same frames. The loss draws the weighted mean of all anchors "
        f"(diamond) to the joint{_means_told(means)}. Without: {without}, step {networks['without'].step}; with: "
        f"{checkpoint}, step {networks['with'].step}; {_frames_told(shown['with'], split)}."
    )
    contents: dict[str, Any] = {"figure": 6, "command": command}
    for kind, restored in networks.items():
        contents[kind] = {
            **_about(folders[kind], restored, split, min_weight),
            "mean_anchor_to_label_px": means[kind],
            "frames": [_frame_json(frame, track) for frame in shown[kind]],
        }
    table = [
        {"surrounding_loss": kind, **row}
        for kind, votes in shown.items()
        for frame in votes
        for row in _rows(frame)
    ]
    return Figure(draw_pairs(shown, caption, command), contents, table)


def row_without(checkpoint: str | Path) -> Path | None:
    """Of a row of Table 7, TABLE/ROW/seed_N, the one without the surrounding loss; None: there is none.

    Named as `checkpoint` is, from the root or from here: it stands in the caption.
    """
    directory = Path(checkpoint).absolute()
    found = directory.parent.parent / "no_surrounding_loss" / directory.name
    if not found.is_dir() or found == directory:
        return None
    return found if Path(checkpoint).is_absolute() else Path(os.path.relpath(found))


def _means_told(means: dict[str, float | None]) -> str:
    if means["with"] is None or means["without"] is None:
        return ""
    return (
        f" (the distance that is left stands above each crop; on average {means['without']:.1f} px without the loss, "
        f"{means['with']:.1f} px with it)"
    )


def _frames_told(shown: Sequence[FrameVotes], split: str) -> str:
    if len(shown) == 1:
        return f"the frame in the middle of split {split}"
    return f"{len(shown)} frames evenly spaced over split {split}"


def _about(
    checkpoint: str | Path, restored: Restored, split: str, min_weight: float
) -> dict[str, Any]:
    return {
        "checkpoint": str(checkpoint),
        "step": restored.step,
        "track": restored.track.name,
        "split": split,
        "crop_size_px": restored.track.crop_size,
        "min_weight": min_weight,
    }


def _frame_json(frame: FrameVotes, track: TrackSpec) -> dict[str, Any]:
    """All that is drawn of a frame but its depth; uv in px of the crop, errors mm or px as the key says."""
    unit = error_unit(track)
    return {
        "frame": frame.name,
        "position": frame.position,
        f"mean_error_{unit}": frame.error,
        "joints": [
            {
                "joint": joint.joint,
                "predicted_uv": joint.predicted_uv.tolist(),
                "label_uv": None if joint.label_uv is None else joint.label_uv.tolist(),
                f"error_{unit}": joint.error,
                "weight_of_these_anchors": float(joint.weight.sum()),
                "mean_anchor_uv": joint.mean_anchor_uv.tolist(),
                "anchors": [
                    {"uv": uv.tolist(), "weight": float(weight), "offset_uv": offset.tolist()}
                    for uv, weight, offset in zip(
                        joint.anchor_uv, joint.weight, joint.offset_uv, strict=True
                    )
                ],
            }
            for joint in frame.joints
        ],
    }


def _rows(frame: FrameVotes) -> Iterator[dict[str, Any]]:
    """A row per informative anchor, px of the crop."""
    for joint in frame.joints:
        for uv, weight, offset in zip(joint.anchor_uv, joint.weight, joint.offset_uv, strict=True):
            yield {
                "frame": frame.name,
                "joint": joint.joint,
                "anchor_u": uv[0],
                "anchor_v": uv[1],
                "weight": weight,
                "offset_u": offset[0],
                "offset_v": offset[1],
            }


def _check_kinds(
    networks: dict[str, Restored], checkpoint: str | Path, without: str | Path
) -> None:
    has = {kind: restored.config.loss.surrounding for kind, restored in networks.items()}
    if has == {"without": True, "with": False}:
        raise UserError(
            f"--checkpoint {checkpoint} was trained without the surrounding loss and --without {without} with it: "
            "swap them"
        )
    said = "(loss.surrounding in its config.json); " + HOW_TO_TRAIN_WITHOUT
    if has["without"]:
        raise UserError(f"--without {without} was trained with the surrounding loss {said}")
    if not has["with"]:
        raise UserError(
            f"--checkpoint {checkpoint} was trained without the surrounding loss {said}"
        )


def _check_comparable(
    networks: dict[str, Restored], checkpoint: str | Path, without: str | Path
) -> None:
    one, other = networks["with"].track, networks["without"].track
    if (one.name, one.crop_size) != (other.name, other.crop_size):
        raise UserError(
            f"{checkpoint} is of track {one.name!r} at {one.crop_size} px, {without} of {other.name!r} at "
            f"{other.crop_size} px: figure 6 shows both on the same crops"
        )


def _mean_surround(shown: Sequence[FrameVotes]) -> float | None:
    found = [joint.surround_px for frame in shown for joint in frame.joints]
    labelled = [distance for distance in found if distance is not None]
    return float(np.mean(labelled)) if labelled else None
