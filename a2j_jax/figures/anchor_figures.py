"""Figures 1, 3 and 6: the anchors on a crop, and those that inform a joint.

Figure 1 is the idea of the paper: of all anchors on the crop a few inform a joint, and each predicts where it is.
Figure 3 is the anchor grid. Figure 6 shows the effect of the surrounding loss: with it the informative anchors stand
around the joint.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2j_jax import pictures
from a2j_jax.errors import UserError, in_words
from a2j_jax.evaluation.plots import example_tile
from a2j_jax.figures.page import Caption, Figure, draw_legend, legend_height, new_page
from a2j_jax.figures.votes import (
    FrameVotes,
    JointVotes,
    evenly_spaced,
    example_name,
    frame_votes,
    joint_numbers,
    mean_of_known,
    restore_anchors,
)
from a2j_jax.log import logger
from a2j_jax.models.anchors import (
    ANCHOR_POSITIONS,
    ANCHOR_SPACING_PX,
    ANCHORS_PER_CELL,
    STRIDE,
    anchor_grid,
)
from a2j_jax.pictures import Tile
from a2j_jax.runs.experiment import resolve
from a2j_jax.runs.load import Restored
from a2j_jax.runs.run_dir import read_config
from a2j_jax.tracks import TrackSpec

ANCHOR_COLOR, OFFSET_COLOR, MEAN_COLOR = pictures.LIMB_COLORS[:3]
CELL_COLOR = OFFSET_COLOR
_SHOWN_WEIGHTS = (0.02, 0.1, 0.4)  # in the legend
_POINTS_AT_FULL_WEIGHT = 420.0  # area of the mark of an anchor that has all of the weight, points²
_LONGEST_NAME = 34  # letters above a tile
_MARGIN, _ABOVE = 0.06, 0.36  # inches: around a tile, and above it for two lines of text
_ARROW: dict[str, Any] = {"arrowstyle": "<->", "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
_AROUND_PX = 10.0  # of the crop, shown around the enlarged cell of figure 3
HOW_TO_TRAIN_WITHOUT = (
    "figure 6 compares --checkpoint, trained with the surrounding loss, and --without, trained without it: "
    "a2j train --config table7/no_surrounding_loss, or any config with --config.loss.surrounding=false"
)


def error_unit(track: TrackSpec) -> str:
    """Unit of errors: mm in space, or px of the frame on a 2D track."""
    return "mm" if track.joint_dims == 3 else "px"


def draw_votes(
    axes: Any, frame: FrameVotes, joint: JointVotes, side: float, *, mean_anchor: bool
) -> None:
    """Draw one joint's informative anchors over the crop.

    Args:
      axes: matplotlib axes.
      frame: for its depth.
      joint: of that frame.
      side: of the axes, inches.
      mean_anchor: whether to mark the weighted mean of all anchors.
    """
    size = np.shape(frame.tile.depth)[0]
    pictures.draw_depth(axes, frame.tile.depth, frame.tile.far)
    spacing = 72 * side * ANCHOR_SPACING_PX / size  # points between two anchors
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
        s=_POINTS_AT_FULL_WEIGHT * joint.weight,
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
    """A thin black mark on a white edge: visible on any gray and any color."""
    for color, width in (("white", 2.6), ("black", 1.2)):
        colors = {"facecolors": "none", "edgecolors": color} if marker == "o" else {"c": color}
        axes.scatter(*uv, marker=marker, s=area, linewidths=width, zorder=zorder, **colors)


def draw_idea(shown: Sequence[FrameVotes], track: TrackSpec, text: str, command: str) -> Any:
    """Figure 1: a row per frame, its skeleton and then the votes for each joint.

    Args:
      shown: frames, at least one, all with the same joints.
      track: of the frames.
      text, command: of the caption.
    """
    columns, unit = 1 + len(shown[0].joints), error_unit(track)
    figure, grid, side = _grid(len(shown), columns, 2.3, text, command, mean_anchor=False)
    for (first, *others), frame in zip(grid, shown, strict=True):
        error = "" if frame.error is None else f"mean error {frame.error:.1f} {unit}"
        _titles(first, frame.name, error)
        pictures.draw_tile(first, frame.tile, track.skeleton)
        for axes, joint in zip(others, frame.joints, strict=True):
            count = "1 anchor" if len(joint.weight) == 1 else f"{len(joint.weight)} anchors"
            error = "" if joint.error is None else f"; {joint.error:.1f} {unit} off"
            told = f"{count}, {joint.weight.sum():.0%} of weight{error}"
            _titles(axes, in_words(joint.joint), told)
            draw_votes(axes, frame, joint, side, mean_anchor=False)
    return figure


def draw_pairs(shown: Mapping[str, Sequence[FrameVotes]], text: str, command: str) -> Any:
    """Figure 6: a row per frame; for each joint the votes of one network beside those of the other.

    Args:
      shown: "without" and "with" the loss → frames, the same with the same joints.
      text, command: of the caption.
    """
    frames = list(zip(*shown.values(), strict=True))
    columns = len(shown) * len(frames[0][0].joints)
    figure, grid, side = _grid(len(frames), columns, 1.98, text, command, mean_anchor=True)
    for row, same_frame in zip(grid, frames, strict=True):
        for number, (kind, frame) in enumerate(zip(shown, same_frame, strict=True)):
            for axes, joint in zip(row[number :: len(shown)], frame.joints, strict=True):
                box, width = axes.get_position(), figure.get_size_inches()[0]
                axes.set_position(box.translated((0.04 - 0.08 * number) / width, 0))  # a pair
                mean = joint.surround_px
                name = "" if number else f"{in_words(joint.joint)}, {frame.name}"
                told = "" if mean is None else f": {mean:.1f} px off"
                _titles(axes, name, f"{kind} the loss{told}")
                draw_votes(axes, frame, joint, side, mean_anchor=True)
    return figure


def _grid(
    rows: int, columns: int, tile: float, text: str, command: str, *, mean_anchor: bool
) -> tuple[Any, NDArray[Any], float]:
    """A figure of tiles with a legend above them and a caption below; its axes, and their side in inches."""
    marks, width = list(_legend(mean_anchor)), columns * tile
    caption = Caption(text, command, width)
    head = legend_height(len(marks), width)
    figure, axes = pictures.tile_grid(rows, columns, tile, _MARGIN, _ABOVE, head, caption.height)
    caption.draw(figure)
    draw_legend(figure, marks)
    return figure, axes, tile - 2 * _MARGIN


def _titles(axes: Any, name: str, told: str) -> None:
    """Two lines above a tile: a name in bold, and a number or two."""
    if len(name) > _LONGEST_NAME:  # a path, which differs at its end
        name = "…" + name[1 - _LONGEST_NAME :]
    for text, above, style in (
        (name, 14, {"fontsize": 8, "fontweight": "bold"}),
        (told, 4, {"fontsize": 7.5, "color": "0.25"}),
    ):
        axes.annotate(
            text, (0, 1), (0, above), xycoords="axes fraction", textcoords="offset points", **style
        )


def _legend(mean_anchor: bool) -> Iterator[Any]:
    from matplotlib.lines import Line2D

    def mark(marker: str, label: str, size: float, **style: Any) -> Any:
        return Line2D([], [], linestyle="", marker=marker, markersize=size, label=label, **style)

    for weight in _SHOWN_WEIGHTS:
        size = math.sqrt(_POINTS_AT_FULL_WEIGHT * weight)
        yield mark("o", f"weight {weight:g}", size, color=ANCHOR_COLOR, markeredgecolor="white")
    yield mark(r"$\rightarrow$", "its offset", 13, color=OFFSET_COLOR, markeredgewidth=0)
    if mean_anchor:
        yield mark("D", "mean anchor", 7.5, color=MEAN_COLOR, markeredgecolor="white")
    yield mark("x", "predicted joint", 5.5, color="black", markeredgewidth=1.2)
    yield mark("o", "label", 6, color="none", markeredgecolor="black", markeredgewidth=1.2)


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
      joints: names; None: see `joint_numbers`.
      frames: how many, evenly spaced over the split.
      split, data_dir: of the data set; None: the one trained on.
      min_weight: of an informative anchor.
      command: for the caption.

    Raises:
      UserError: no checkpoint, no data, no such joint, anchors without weights, or no matplotlib.
    """
    restored = restore_anchors(checkpoint)
    shown = _look({checkpoint: restored}, joints, frames, split, data_dir, min_weight)[checkpoint]
    caption = (
        f"Figure 1. Of all anchors of a crop (gray dots, every {ANCHOR_SPACING_PX:g} px) those with a weight over "
        f"{min_weight:g} for a joint are marked, their area in proportion to it; an arrow is an anchor's offset, and "
        "ends where the anchor predicts the joint. The prediction is the weighted average of the votes of all anchors. "
        "First column: all joints, predictions in color over labels in black. "
        f"{checkpoint}, step {restored.step}; {_frames_told(len(shown), split)}."
    )
    found = _contents(checkpoint, restored, split, min_weight, shown)
    drawing = draw_idea(shown, restored.track, caption, command)
    return Figure(drawing, {"figure": 1, "command": command, **found}, list(_rows(found)))


def figure_6(
    checkpoint: str | Path,
    without: str | Path | None,
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
      without: trained without it, on the same track at the same crop size; None: see `row_without`.
      joints, frames, split, data_dir, min_weight, command: as in `figure_1`; the data is `checkpoint`'s.

    Raises:
      UserError: as `figure_1`; or a checkpoint of the other kind, or of another track or crop size.
    """
    without = without or row_without(checkpoint)
    if without is None:
        raise UserError(HOW_TO_TRAIN_WITHOUT)
    networks = {folder: restore_anchors(folder) for folder in (checkpoint, without)}
    one, other = networks[checkpoint], networks[without]
    _check_pair(one, other, checkpoint, without)
    shown = _look(networks, joints, frames, split, data_dir, min_weight)
    found, means = {}, {}
    for kind, folder in (("without", without), ("with", checkpoint)):
        votes = shown[folder]
        means[kind] = mean_of_known([joint.surround_px for f in votes for joint in f.joints])
        found[kind] = {
            **_contents(folder, networks[folder], split, min_weight, votes),
            "mean_anchor_to_label_px": means[kind],
        }
    left = ""
    if None not in means.values():
        left = (
            f" (the remaining distance stands above each crop; on average {means['without']:.1f} px without the "
            f"loss, {means['with']:.1f} px with it)"
        )
    caption = (
        f"Figure 6. Anchors with a weight over {min_weight:g} (area in proportion to it) and their offsets, without "
        "and with the surrounding loss, on the same frames. The loss draws the weighted mean of all anchors "
        f"(diamond) to the joint{left}. Without: {without}, step {other.step}; with: "
        f"{checkpoint}, step {one.step}; {_frames_told(len(shown[checkpoint]), split)}."
    )
    rows = [{"surrounding_loss": kind, **row} for kind in found for row in _rows(found[kind])]
    pairs = {"without": shown[without], "with": shown[checkpoint]}
    contents = {"figure": 6, "command": command, **found}
    return Figure(draw_pairs(pairs, caption, command), contents, rows)


def _look(
    networks: Mapping[str | Path, Restored],
    joints: Sequence[str] | None,
    frames: int,
    split: str,
    data_dir: str | Path | None,
    min_weight: float,
) -> dict[str | Path, list[FrameVotes]]:
    """Each network's votes on the same frames, by its folder; arguments as in `figure_1`."""
    first = next(iter(networks.values()))
    numbers = joint_numbers(joints, first.track.skeleton)
    examples = evenly_spaced(data_dir or first.config.data.dir, first.track, split, frames)
    found = {}
    for folder, restored in networks.items():
        logger.info(f"{folder}, step {restored.step}: looking at anchors, frames: {len(examples)}")
        found[folder] = frame_votes(restored, examples, numbers, min_weight)
    return found


def row_without(checkpoint: str | Path) -> Path | None:
    """The row without the surrounding loss beside a row of Table 7, TABLE/ROW/seed_N; None: there is none.

    Absolute if `checkpoint` is, else relative to the working directory: it stands in the caption.
    """
    directory = Path(checkpoint).absolute()
    found = directory.parent.parent / "no_surrounding_loss" / directory.name
    if not found.is_dir() or found == directory:
        return None
    return found if Path(checkpoint).is_absolute() else Path(os.path.relpath(found))


def _check_pair(
    one: Restored, other: Restored, checkpoint: str | Path, without: str | Path
) -> None:
    """Checks that `one` was trained with the surrounding loss, `other` without it, and both on the same crops."""
    has, lacks = one.config.loss.surrounding, not other.config.loss.surrounding
    if not (has or lacks):
        raise UserError(
            f"--checkpoint {checkpoint} was trained without the surrounding loss and --without {without} with it: "
            "swap them"
        )
    said = "the surrounding loss (loss.surrounding in its config.json); " + HOW_TO_TRAIN_WITHOUT
    if not lacks:
        raise UserError(f"--without {without} was trained with {said}")
    if not has:
        raise UserError(f"--checkpoint {checkpoint} was trained without {said}")
    track, others = one.track, other.track
    if (track.name, track.crop_size) != (others.name, others.crop_size):
        raise UserError(
            f"{checkpoint} is of track {track.name!r} at {track.crop_size} px, {without} of {others.name!r} at "
            f"{others.crop_size} px: figure 6 shows both on the same crops"
        )


def _frames_told(count: int, split: str) -> str:
    if count == 1:
        return f"the frame in the middle of split {split}"
    return f"{count} frames evenly spaced over split {split}"


def _contents(
    checkpoint: str | Path,
    restored: Restored,
    split: str,
    min_weight: float,
    shown: Sequence[FrameVotes],
) -> dict[str, Any]:
    """Everything that is drawn but depth, as JSON; uv in px of the crop, errors in mm or px as their keys say."""
    unit = error_unit(restored.track)
    return {
        "checkpoint": str(checkpoint),
        "step": restored.step,
        "track": restored.track.name,
        "split": split,
        "crop_size_px": restored.track.crop_size,
        "min_weight": min_weight,
        "frames": [
            {
                "frame": frame.name,
                "position": frame.position,
                f"mean_error_{unit}": frame.error,
                "joints": [_joint_json(joint, unit) for joint in frame.joints],
            }
            for frame in shown
        ],
    }


def _joint_json(joint: JointVotes, unit: str) -> dict[str, Any]:
    anchors = zip(joint.anchor_uv, joint.weight, joint.offset_uv, strict=True)
    return {
        "joint": joint.joint,
        "predicted_uv": joint.predicted_uv.tolist(),
        "label_uv": None if joint.label_uv is None else joint.label_uv.tolist(),
        f"error_{unit}": joint.error,
        "weight_of_these_anchors": float(joint.weight.sum()),
        "mean_anchor_uv": joint.mean_anchor_uv.tolist(),
        "anchors": [
            {"uv": uv.tolist(), "weight": float(weight), "offset_uv": offset.tolist()}
            for uv, weight, offset in anchors
        ],
    }


def _rows(contents: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row per informative anchor, px of the crop."""
    for frame in contents["frames"]:
        for joint in frame["joints"]:
            for anchor in joint["anchors"]:
                (u, v), (du, dv) = anchor["uv"], anchor["offset_uv"]
                row = {"anchor_u": u, "anchor_v": v, "weight": anchor["weight"]}
                named = {"frame": frame["frame"], "joint": joint["joint"]}
                yield named | row | {"offset_u": du, "offset_v": dv}


def figure_3(
    checkpoint: str | Path, *, split: str, data_dir: str | Path | None, command: str
) -> Figure:
    """The anchor grid over a real crop, and one cell of the feature map enlarged.

    Args:
      checkpoint: a run or a converted checkpoint: gives track and crop size; its weights are not read.
      split, data_dir: of the data set; None: the one trained on. The crop is that in the middle of the split.
      command: for the caption.

    Raises:
      UserError: no checkpoint, no data, or no matplotlib.
    """
    config = read_config(checkpoint)
    track = resolve(config).track
    examples = evenly_spaced(data_dir or config.data.dir, track, split, 1)
    ((position, example),) = examples.items()
    name, size = example_name(example), track.crop_size
    anchors, cell = anchor_grid(size, size), middle_cell(size)
    caption = (
        f"Figure 3. Anchors stand every S = {ANCHOR_SPACING_PX:g} px on the crop of {size} × {size} px, "
        f"{ANCHORS_PER_CELL} in each cell of the feature map, whose stride is {STRIDE}: "
        f"{size // STRIDE} × {size // STRIDE} cells, {len(anchors):,} anchors. "
        f"{checkpoint}, track {track.name}; {name}, in the middle of split {split}."
    )
    contents = {
        "figure": 3,
        "command": command,
        "checkpoint": str(checkpoint),
        "track": track.name,
        "split": split,
        "frame": name,
        "position": position,
        "crop_size_px": size,
        "stride_px": STRIDE,
        "anchor_spacing_px": ANCHOR_SPACING_PX,
        "anchors_per_cell": ANCHORS_PER_CELL,
        "highlighted_cell": {"column": cell, "row": cell},
        "anchors_uv": anchors.tolist(),
    }
    table = [
        {
            "anchor_u": u,
            "anchor_v": v,
            "cell_column": int(u // STRIDE),
            "cell_row": int(v // STRIDE),
        }
        for u, v in anchors.tolist()
    ]
    drawing = draw_grid(example_tile(example, track), caption, command)
    return Figure(drawing, contents, table)


def middle_cell(crop_size: int) -> int:
    """Row and column of the cell that is enlarged."""
    return crop_size // STRIDE // 2


def draw_grid(tile: Tile, text: str, command: str) -> Any:
    """Figure 3: a crop with its anchors and cells, and its middle cell enlarged.

    Args:
      tile: the crop.
      text, command: of the caption.
    """
    from matplotlib.patches import ConnectionPatch

    size, side = np.shape(tile.depth)[0], 3.5
    figure = new_page(2 * side + 1.25, side + 0.8, text, command)
    figure.get_layout_engine().set(w_pad=0.2, h_pad=0.1, wspace=0.1)
    crop, enlarged = figure.subplots(1, 2)
    low, shown = middle_cell(size) * STRIDE - 0.5, STRIDE + 2 * _AROUND_PX
    _draw_anchors(crop, tile, low, size / side)
    _draw_anchors(enlarged, tile, low, shown / side)
    crop.set_title(
        "The crop, its anchors, and the cells of the feature map",
        loc="left", fontsize=8, fontweight="bold",
    )  # fmt: skip
    enlarged.set_title(
        f"One cell: {ANCHORS_PER_CELL} anchors", loc="left", fontsize=8, fontweight="bold"
    )
    enlarged.set_xlim(low - _AROUND_PX, low - _AROUND_PX + shown)
    enlarged.set_ylim(low - _AROUND_PX + shown, low - _AROUND_PX)
    for corner, at in ((low, 1.0), (low + STRIDE, 0.0)):
        joined = ConnectionPatch(
            (low + STRIDE, corner), (0.0, at), crop.transData, enlarged.transAxes,
            color=CELL_COLOR, linewidth=0.8, linestyle="--",
        )  # fmt: skip
        joined.set_in_layout(False)
        figure.add_artist(joined)
    first, second = (low + 0.5 + ANCHOR_POSITIONS[k] for k in (1, 2))
    _dimension(enlarged, low, low + STRIDE, low + STRIDE + 2.2, f"{STRIDE} px", CELL_COLOR, "top")
    _dimension(
        enlarged, first, second, low - 2.2, f"S = {ANCHOR_SPACING_PX:g} px", ANCHOR_COLOR, "bottom"
    )
    for u in (first, second):
        end = low + 0.5 + ANCHOR_POSITIONS[0]
        enlarged.plot([u, u], [low - 2.8, end], color=ANCHOR_COLOR, linewidth=0.8)
    crop.set_xlabel(f"{size} px, {size // STRIDE} cells", fontsize=9, color="0.2", labelpad=12)
    crop.annotate(
        "", (0, -0.03), (1, -0.03), xycoords="axes fraction", textcoords="axes fraction",
        arrowprops=_ARROW | {"linewidth": 1.0, "color": "0.2"}, annotation_clip=False,
    )  # fmt: skip
    return figure


def _draw_anchors(axes: Any, tile: Tile, low: float, px_per_inch: float) -> None:
    """Depth, cells and anchors; the cell whose upper left corner is (`low`, `low`), in color."""
    from matplotlib.patches import Rectangle

    size = np.shape(tile.depth)[0]
    pictures.draw_depth(axes, tile.depth, tile.far)
    # Pixel centers have integer coordinates.
    edges = [cell * STRIDE - 0.5 for cell in range(1, size // STRIDE)]
    for color, width in (("white", 1.6), ("0.4", 0.6)):  # all halos first: none over another's line
        for edge in edges:
            axes.axhline(edge, color=color, linewidth=width)
            axes.axvline(edge, color=color, linewidth=width)
    anchors = anchor_grid(size, size)
    diameter = min(0.3 * 72 * ANCHOR_SPACING_PX / px_per_inch, 11.0)  # points
    style = {"s": diameter**2, "edgecolors": "white", "linewidths": 0.08 * diameter}
    inside = ((anchors > low) & (anchors < low + STRIDE)).all(-1)
    axes.scatter(*anchors[~inside].T, c="0.4", **style)
    axes.scatter(*anchors[inside].T, c=ANCHOR_COLOR, zorder=3, **style)
    corner = low, low
    axes.add_patch(
        Rectangle(corner, STRIDE, STRIDE, fill=False, edgecolor=CELL_COLOR, linewidth=2.0, zorder=4)
    )


def _dimension(
    axes: Any, begin: float, end: float, v: float, text: str, color: str, align: str
) -> None:
    """A double arrow from column `begin` to `end` at row `v`, with its length beside it."""
    axes.annotate("", (begin, v), (end, v), arrowprops=_ARROW | {"color": color}, zorder=6)
    backed = {
        "boxstyle": "round,pad=0.15",
        "facecolor": "white",
        "edgecolor": "none",
        "alpha": 0.85,
    }
    axes.text(
        (begin + end) / 2, v + (1.2 if align == "top" else -1.2), text, color=color, ha="center",
        va=align, bbox=backed, zorder=7, fontsize=9, fontweight="bold",
    )  # fmt: skip
