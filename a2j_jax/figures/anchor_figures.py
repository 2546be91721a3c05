"""Figures 1, 3 and 6: the anchors on a crop, and those that inform a joint.

Figure 1 is the idea of the paper: of all anchors on the crop a few inform a joint, and each predicts where it is.
Figure 3 is the anchor grid. Figure 6 shows the effect of the surrounding loss: with it the informative anchors stand
around the joint. `frame_votes` has their data.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from a2j_jax import pictures
from a2j_jax.data import augment, crops, pipeline
from a2j_jax.data.crops import Example
from a2j_jax.errors import UserError, did_you_mean, in_words
from a2j_jax.evaluation.evaluate import predict_batches, score_frames
from a2j_jax.evaluation.plots import example_tile
from a2j_jax.evaluation.scores import frame_errors
from a2j_jax.geometry import Float64
from a2j_jax.log import logger
from a2j_jax.models.a2j import A2J
from a2j_jax.models.anchors import (
    ANCHOR_POSITIONS,
    ANCHOR_SPACING_PX,
    ANCHORS_PER_CELL,
    STRIDE,
    aggregate,
    anchor_grid,
    confidence,
)
from a2j_jax.pictures import Figure, Tile, new_page
from a2j_jax.runs.experiment import resolve
from a2j_jax.runs.load import Restored, restore
from a2j_jax.runs.run_dir import read_config
from a2j_jax.tracks import Skeleton, TrackSpec


@dataclass(frozen=True)
class Choice:
    """What to draw of a data set."""

    joints: Sequence[str] | None  # names; None: see `joint_numbers`
    frames: int  # how many, evenly spaced over the split
    split: str
    data_dir: str | Path | None  # None: the one trained on
    min_weight: float  # "informative" anchors weigh more (0.02 in the paper's Fig. 1)


@dataclass(frozen=True, eq=False)
class JointVotes:
    """One joint of one frame, and its n informative anchors, the heaviest first; px of the crop."""

    joint: str  # its name
    predicted_uv: Float64  # (2,) the weighted sum of the votes of *all* anchors
    label_uv: Float64 | None  # (2,), or None without one
    error: float | None  # distance from the label, mm in space (px of the frame on a 2D track)
    anchor_uv: Float64  # (n, 2) positions S(a)
    weight: Float64  # (n,) P~_j(a)
    offset_uv: Float64  # (n, 2) O_j(a): the anchor votes for `anchor_uv + offset_uv`
    mean_anchor_uv: (
        Float64  # (2,) sum of P~_j(a) S(a) over *all*; the surrounding loss draws it to the label
    )

    @property
    def surround_px(self) -> float | None:
        """Distance of the weighted mean anchor from the label, px of the crop; None without label."""
        if self.label_uv is None:
            return None
        return float(np.linalg.norm(self.mean_anchor_uv - self.label_uv))

    def to_json(self, unit: str) -> dict[str, Any]:
        """The same; the error, and its unit in its key."""
        columns = (self.anchor_uv.tolist(), self.weight.tolist(), self.offset_uv.tolist())
        names = ("uv", "weight", "offset_uv")
        return {
            "joint": self.joint,
            "predicted_uv": self.predicted_uv.tolist(),
            "label_uv": None if self.label_uv is None else self.label_uv.tolist(),
            f"error_{unit}": self.error,
            "weight_of_these_anchors": float(self.weight.sum()),
            "mean_anchor_uv": self.mean_anchor_uv.tolist(),
            "anchors": [dict(zip(names, one, strict=True)) for one in zip(*columns, strict=True)],
        }


@dataclass(frozen=True, eq=False)
class FrameVotes:
    """One frame."""

    name: str  # as the distribution calls it
    position: int  # in its split
    tile: Tile  # its crop, with all predicted joints and labels
    error: float | None  # mean over labeled joints, mm (px on a 2D track); None without labels
    joints: tuple[JointVotes, ...]  # the requested ones

    def to_json(self, unit: str) -> dict[str, Any]:
        """The same without the picture; errors have their unit in their keys."""
        return {
            "frame": self.name,
            "position": self.position,
            f"mean_error_{unit}": self.error,
            "joints": [joint.to_json(unit) for joint in self.joints],
        }


def restore_anchors(directory: str | Path) -> Restored:
    """Load a checkpoint at its best step; UserError where its anchors have no weights."""
    restored = restore(directory)
    model = restored.model
    if not isinstance(model, A2J):
        reason = f"{type(model).__name__} of {restored.config.parts} has no anchors"
    elif not model.proposals:
        reason = "with model.proposals=false every anchor weighs alike"
    else:
        return restored
    raise UserError(
        f"{directory}: {reason}, so there is no weight to draw; name a checkpoint of an A2J with model.proposals=true"
    )


def evenly_spaced(
    data_dir: str | Path, track: TrackSpec, split: str, count: int
) -> dict[int, Example]:
    """At most `count` examples, in the middle of equal parts of a split, by position.

    Raises:
      UserError: no such data, or an example that cannot be read.
    """
    fetch = pipeline.example_reader(data_dir, track, split)
    frames = pipeline.num_frames(data_dir, track, split)
    count = min(count, frames)
    positions = [(2 * part + 1) * frames // (2 * count) for part in range(count)]
    return {position: fetch(position) for position in positions}


def example_name(example: Example) -> str:
    """The name of a frame in its distribution, or its number."""
    name = example.get("frame_id", b"")
    text = name.decode() if isinstance(name, bytes) else str(name)
    return text or f"frame {int(example['index'])}"


def joint_numbers(names: Sequence[str] | None, skeleton: Skeleton) -> list[int]:
    """Positions of joints in the skeleton.

    Without names, the beginning of the first limb and the ends of the second and the last one (wrist, index tip and
    pinky tip of a hand; head, a hand and a foot of a body).

    Raises:
      UserError: no such joint.
    """
    if not names:
        chains = [chain for _, chain in skeleton.limbs] or [tuple(range(len(skeleton)))]
        chosen = (chains[0][0], chains[min(1, len(chains) - 1)][-1], chains[-1][-1])
        return list(dict.fromkeys(chosen))
    for name in names:
        if name not in skeleton.joints:
            raise UserError(
                f"--joints {name}: no such joint{did_you_mean(name, skeleton.joints)} "
                f"(joints: {', '.join(skeleton.joints)})"
            )
    return [skeleton.joints.index(name) for name in dict.fromkeys(names)]


def votes_on_same_frames(
    networks: Mapping[str | Path, Restored], choice: Choice
) -> dict[str | Path, list[FrameVotes]]:
    """Each network's votes, by its folder, on the data set of the first."""
    first = next(iter(networks.values()))
    joints = joint_numbers(choice.joints, first.track.skeleton)
    data_dir = choice.data_dir or first.config.data.dir
    examples = evenly_spaced(data_dir, first.track, choice.split, choice.frames)
    found = {}
    for folder, restored in networks.items():
        logger.info(f"{folder}, step {restored.step}: looking at anchors, frames: {len(examples)}")
        found[folder] = frame_votes(restored, examples, joints, choice.min_weight)
    return found


def frame_votes(
    restored: Restored, examples: Mapping[int, Example], joints: Sequence[int], min_weight: float
) -> list[FrameVotes]:
    """Run a network of `restore_anchors` on a few frames and keep the informative anchors.

    Examples are by position in their split, ascending; joints of the skeleton by number.
    """
    names = next(iter(examples.values())).keys() - {"frame_id"}
    batch = {name: np.stack([example[name] for example in examples.values()]) for name in names}
    track = restored.track
    anchors = anchor_grid(track.crop_size, track.crop_size)

    @jax.jit
    def look(variables: Any, canvas: jax.Array, center_depth_mm: jax.Array) -> Any:
        images = augment.evaluation_images(canvas, center_depth_mm, track)
        heads: Any = restored.model.apply(variables, images)
        return heads.offset, aggregate(heads, anchors)

    offsets, found = look(restored.variables, batch["canvas"], batch["center_uvd"][:, 2])
    predicted = found.joints, confidence(found.spread)
    joint_set, frames = predict_batches(lambda _: predicted, [batch], track)
    # A split of a challenge may have no labels at all.
    errors, means = np.full(frames.valid.shape, np.nan), np.full(len(examples), np.nan)
    if frames.labeled.any():
        errors = score_frames(joint_set.joints_uvd, frames, track).errors
        means = frame_errors(errors, "mean")
    labels = crops.joints_to_crop(frames.joints_uvd, frames.box_px, frames.center_uvd[:, 2], track)
    weights, offsets, uv = (
        np.asarray(x, np.float64) for x in (found.weights, offsets, found.joints)
    )

    def votes(row: int, joint: int) -> JointVotes:
        weight, labeled = weights[row, :, joint], bool(np.isfinite(errors[row, joint]))
        heaviest = np.argsort(-weight, kind="stable")
        kept = heaviest[weight[heaviest] > min_weight]
        return JointVotes(
            joint=track.skeleton.joints[joint],
            predicted_uv=uv[row, joint, :2],
            label_uv=labels[row, joint, :2] if labeled else None,
            error=float(errors[row, joint]) if labeled else None,
            anchor_uv=np.asarray(anchors[kept], np.float64),
            weight=weight[kept],
            offset_uv=offsets[row, kept, joint],
            mean_anchor_uv=weight @ anchors,
        )

    return [
        FrameVotes(
            name=example_name(example),
            position=position,
            tile=example_tile(example, track, joint_set.joints_uvd[row]),
            error=float(means[row]) if np.isfinite(means[row]) else None,
            joints=tuple(votes(row, joint) for joint in joints),
        )
        for row, (position, example) in enumerate(examples.items())
    ]


ANCHOR_COLOR, OFFSET_COLOR, MEAN_COLOR = pictures.LIMB_COLORS[:3]
CELL_COLOR = OFFSET_COLOR
_SHOWN_WEIGHTS = (0.02, 0.1, 0.4)  # in the legend
_POINTS_AT_FULL_WEIGHT = 420.0  # area of the mark of an anchor that has all of the weight, points²
_LONGEST_NAME = 34  # letters above a tile
_TITLE = 0.36  # inches above a tile, for two lines of text
_ARROW: dict[str, Any] = {"arrowstyle": "<->", "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
_AROUND_PX = 10.0  # of the crop, shown around the enlarged cell of figure 3
HOW_TO_TRAIN_WITHOUT = (
    "figure 6 compares --checkpoint, trained with the surrounding loss, and --without, trained without it: "
    "a2j train --config table7/no_surrounding_loss, or any config with --config.loss.surrounding=false"
)


def draw_votes(
    axes: Any, frame: FrameVotes, joint: JointVotes, side: float, *, mean_anchor: bool
) -> None:
    """Draw the informative anchors of a joint over the crop, on axes of `side` inches.

    With `mean_anchor`, the weighted mean of all anchors is marked, too.
    """
    size = np.shape(frame.tile.depth)[0]
    pictures.draw_depth(axes, frame.tile.depth, frame.tile.far)
    spacing = 72 * side * ANCHOR_SPACING_PX / size  # points between two anchors
    # As pixels: thousands of them in every crop would make an SVG of megabytes.
    dots = {"s": (0.16 * spacing) ** 2, "c": "0.45", "linewidths": 0, "rasterized": True}
    axes.scatter(*anchor_grid(size, size).T, **dots)
    # Light ones on top of heavy ones.
    anchors = {"c": ANCHOR_COLOR, "edgecolors": "white", "linewidths": 0.6, "zorder": 3}
    axes.scatter(*joint.anchor_uv.T, s=_POINTS_AT_FULL_WEIGHT * joint.weight, **anchors)
    in_px = {"angles": "xy", "scale_units": "xy", "scale": 1, "units": "inches", "width": 0.011}
    head = {"headwidth": 4.5, "headlength": 5, "headaxislength": 4.5, "minlength": 0.5}
    arrows = {"color": OFFSET_COLOR, "zorder": 4, **in_px, **head}
    axes.quiver(*joint.anchor_uv.T, *joint.offset_uv.T, **arrows)
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
    """Figure 1: a row per frame, its skeleton and then the votes for each joint, the same in all; with a caption."""
    rows, columns, unit, side = len(shown), 1 + len(shown[0].joints), track.error_unit, 2.3
    page = columns * side, rows * (side + _TITLE)
    figure = new_page(*page, text, command, _legend(mean_anchor=False))
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
    for (first, *others), frame in zip(
        figure.subplots(rows, columns, squeeze=False), shown, strict=True
    ):
        error = "" if frame.error is None else f"mean error {frame.error:.1f} {unit}"
        _titles(first, frame.name, error)
        pictures.draw_tile(first, frame.tile, track.skeleton)
        for axes, joint in zip(others, frame.joints, strict=True):
            count = "1 anchor" if len(joint.weight) == 1 else f"{len(joint.weight)} anchors"
            error = "" if joint.error is None else f"; {joint.error:.1f} {unit} off"
            votes = f"{count}, {joint.weight.sum():.0%} of weight{error}"
            _titles(axes, in_words(joint.joint), votes)
            draw_votes(axes, frame, joint, side, mean_anchor=False)
    return figure


def draw_pairs(shown: Mapping[str, Sequence[FrameVotes]], text: str, command: str) -> Any:
    """Figure 6: a row per frame; for each joint the votes of one network beside those of the other; with a caption.

    `shown`: "without" and "with" the loss -> frames, the same with the same joints.
    """
    rows, joints, side = len(shown["with"]), len(shown["with"][0].joints), 1.98
    page = len(shown) * joints * side, rows * (side + _TITLE)
    figure = new_page(*page, text, command, _legend(mean_anchor=True))
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.06, wspace=0)
    for number, pair in enumerate(figure.subfigures(1, joints, squeeze=False, wspace=0.04).flat):
        grid = pair.subplots(rows, len(shown), squeeze=False)
        for column, (kind, frames) in enumerate(shown.items()):
            for axes, frame in zip(grid[:, column], frames, strict=True):
                joint = frame.joints[number]
                name = "" if column else f"{in_words(joint.joint)}, {frame.name}"
                mean = joint.surround_px
                distance = "" if mean is None else f": {mean:.1f} px off"
                _titles(axes, name, f"{kind} the loss{distance}")
                draw_votes(axes, frame, joint, side, mean_anchor=True)
    return figure


def _titles(axes: Any, name: str, numbers: str) -> None:
    """Two lines above a tile: a name in bold, and a number or two."""
    if len(name) > _LONGEST_NAME:  # a path, which differs at its end
        name = "…" + name[1 - _LONGEST_NAME :]
    axes.set_title(f"{name}\n", x=0, ha="left", pad=4, fontsize=8, fontweight="bold")
    axes.set_title(numbers, loc="left", pad=4, fontsize=7.5, color="0.25")


def _legend(mean_anchor: bool) -> list[Any]:
    from matplotlib.lines import Line2D

    shown = [(math.sqrt(_POINTS_AT_FULL_WEIGHT * x), f"weight {x:g}") for x in _SHOWN_WEIGHTS]
    marks = [
        *(("o", size, name, ANCHOR_COLOR, "white", 1.0) for size, name in shown),
        (r"$\rightarrow$", 13, "its offset", OFFSET_COLOR, OFFSET_COLOR, 0.0),
        ("D", 7.5, "mean anchor", MEAN_COLOR, "white", 1.0),
        ("x", 5.5, "predicted joint", "black", "black", 1.2),
        ("o", 6, "label", "none", "black", 1.2),
    ]
    return [
        Line2D([], [], ls="", marker=marker, ms=size, label=name, color=color, mec=edge, mew=width)
        for marker, size, name, color, edge, width in marks
        if mean_anchor or marker != "D"
    ]


def figure_1(checkpoint: str | Path, choice: Choice, command: str) -> Figure:
    """The main idea: informative anchors of a few joints, with their offsets, one row per frame.

    Raises:
      UserError: no checkpoint, no data, no such joint, anchors without weights, or no matplotlib.
    """
    restored = restore_anchors(checkpoint)
    shown = votes_on_same_frames({checkpoint: restored}, choice)[checkpoint]
    caption = (
        f"Figure 1. Of all anchors of a crop (gray dots, every {ANCHOR_SPACING_PX:g} px) those with a weight over "
        f"{choice.min_weight:g} for a joint are marked, their area in proportion to it; an arrow is an anchor's "
        "offset, and ends where the anchor predicts the joint. The prediction is the weighted average of the votes of "
        "all anchors. First column: all joints, predictions in color over labels in black. "
        f"{checkpoint}, step {restored.step}; {_frames_text(len(shown), choice.split)}."
    )
    found = _contents(checkpoint, restored, choice, shown)
    drawing = draw_idea(shown, restored.track, caption, command)
    return Figure(drawing, {"figure": 1, "command": command, **found}, list(_rows(found)))


def figure_6(
    checkpoint: str | Path, without: str | Path | None, choice: Choice, command: str
) -> Figure:
    """Informative anchors of two networks side by side, trained with and without the surrounding loss.

    `without`, by default `row_without`, is on the same track at the same crop size; the data is `checkpoint`'s.

    Raises:
      UserError: as `figure_1`; or a checkpoint of the other kind, or of another track or crop size.
    """
    networks = {checkpoint: restore_anchors(checkpoint)}
    without = without or row_without(checkpoint)
    if without is None:
        raise UserError(HOW_TO_TRAIN_WITHOUT)
    networks[without] = restore_anchors(without)
    _check_pair(networks, checkpoint, without)
    votes = votes_on_same_frames(networks, choice)
    shown = {"without": votes[without], "with": votes[checkpoint]}
    means = {kind: _mean_surround_px(frames) for kind, frames in shown.items()}
    left = ""
    if None not in means.values():
        left = (
            f" (the remaining distance stands above each crop; on average {means['without']:.1f} px without the "
            f"loss, {means['with']:.1f} px with it)"
        )
    caption = (
        f"Figure 6. Anchors with a weight over {choice.min_weight:g} (area in proportion to it) and their offsets, "
        "without and with the surrounding loss, on the same frames. The loss draws the weighted mean of all anchors "
        f"(diamond) to the joint{left}. Without: {without}, step {networks[without].step}; with: {checkpoint}, step "
        f"{networks[checkpoint].step}; {_frames_text(len(shown['with']), choice.split)}."
    )
    contents: dict[str, Any] = {"figure": 6, "command": command}
    rows = []
    for kind, folder in (("without", without), ("with", checkpoint)):
        found = _contents(folder, networks[folder], choice, votes[folder])
        contents[kind] = {**found, "mean_anchor_to_label_px": means[kind]}
        rows += [{"surrounding_loss": kind, **row} for row in _rows(found)]
    return Figure(draw_pairs(shown, caption, command), contents, rows)


def _mean_surround_px(frames: Sequence[FrameVotes]) -> float | None:
    """The mean distance of mean anchors from their labels, px of the crop; None without labels."""
    distances = [joint.surround_px for frame in frames for joint in frame.joints]
    known = [distance for distance in distances if distance is not None]
    return float(np.mean(known)) if known else None


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
    networks: Mapping[str | Path, Restored], checkpoint: str | Path, without: str | Path
) -> None:
    """Checks that one was trained with the surrounding loss, one without it, and both on the same crops."""
    one, other = networks[checkpoint], networks[without]
    losses = one.config.loss.surrounding, other.config.loss.surrounding
    fix = "the surrounding loss (loss.surrounding in its config.json); " + HOW_TO_TRAIN_WITHOUT
    if losses == (False, True):
        raise UserError(
            f"--checkpoint {checkpoint} was trained without the surrounding loss and --without {without} with it: "
            "swap them"
        )
    if losses == (True, True):
        raise UserError(f"--without {without} was trained with {fix}")
    if losses == (False, False):
        raise UserError(f"--checkpoint {checkpoint} was trained without {fix}")
    track, others = one.track, other.track
    if (track.name, track.crop_size) != (others.name, others.crop_size):
        raise UserError(
            f"{checkpoint} is of track {track.name!r} at {track.crop_size} px, {without} of {others.name!r} at "
            f"{others.crop_size} px: figure 6 shows both on the same crops"
        )


def _frames_text(count: int, split: str) -> str:
    frames = "the frame in the middle of" if count == 1 else f"{count} frames evenly spaced over"
    return f"{frames} split {split}"


def _contents(
    checkpoint: str | Path, restored: Restored, choice: Choice, shown: Sequence[FrameVotes]
) -> dict[str, Any]:
    """Everything that is drawn but depth, as JSON; uv in px of the crop, errors in the unit that ends their keys."""
    return {
        "checkpoint": str(checkpoint),
        "step": restored.step,
        "track": restored.track.name,
        "split": choice.split,
        "crop_size_px": restored.track.crop_size,
        "min_weight": choice.min_weight,
        "frames": [frame.to_json(restored.track.error_unit) for frame in shown],
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
    checkpoint: str | Path, split: str, data_dir: str | Path | None, command: str
) -> Figure:
    """The anchor grid over the crop in the middle of a split, and one cell of the feature map enlarged.

    The checkpoint gives track, crop size and, without `data_dir`, the data set; its weights are not read.

    Raises:
      UserError: no checkpoint, no data, or no matplotlib.
    """
    config = read_config(checkpoint)
    track = resolve(config).track
    examples = evenly_spaced(data_dir or config.data.dir, track, split, 1)
    ((position, example),) = examples.items()
    name, size = example_name(example), track.crop_size
    anchors, cell = anchor_grid(size, size).tolist(), middle_cell(size)
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
        "anchors_uv": anchors,
    }
    table = [
        {
            "anchor_u": u,
            "anchor_v": v,
            "cell_column": int(u // STRIDE),
            "cell_row": int(v // STRIDE),
        }
        for u, v in anchors
    ]
    drawing = draw_grid(example_tile(example, track), caption, command)
    return Figure(drawing, contents, table)


def middle_cell(crop_size: int) -> int:
    """Row and column of the cell that is enlarged."""
    return crop_size // STRIDE // 2


def draw_grid(tile: Tile, text: str, command: str) -> Any:
    """Figure 3: a crop with its anchors and cells, and its middle cell enlarged; with a caption."""
    from matplotlib.patches import ConnectionPatch

    size, side = np.shape(tile.depth)[0], 3.5
    figure = new_page(2 * side + 1.25, side + 0.8, text, command)
    figure.get_layout_engine().set(w_pad=0.2, h_pad=0.1, wspace=0.1)
    crop, enlarged = figure.subplots(1, 2)
    low = middle_cell(size) * STRIDE - 0.5
    first, last = low - _AROUND_PX, low + STRIDE + _AROUND_PX
    for axes, shown, title in (
        (crop, size, "The crop, its anchors, and the cells of the feature map"),
        (enlarged, last - first, f"One cell: {ANCHORS_PER_CELL} anchors"),
    ):
        _draw_anchors(axes, tile, low, shown / side)
        axes.set_title(title, loc="left", fontsize=8, fontweight="bold")
    enlarged.set(xlim=(first, last), ylim=(last, first))
    dashes: dict[str, Any] = {"color": CELL_COLOR, "lw": 0.8, "ls": "--", "in_layout": False}
    for corner, at in ((low, 1.0), (low + STRIDE, 0.0)):
        ends = (low + STRIDE, corner), (0.0, at), crop.transData, enlarged.transAxes
        figure.add_artist(ConnectionPatch(*ends, **dashes))
    one, other = (low + 0.5 + ANCHOR_POSITIONS[k] for k in (1, 2))
    spacing = f"S = {ANCHOR_SPACING_PX:g} px"
    _dimension(enlarged, low, low + STRIDE, low + STRIDE + 2.2, f"{STRIDE} px", CELL_COLOR, "top")
    _dimension(enlarged, one, other, low - 2.2, spacing, ANCHOR_COLOR, "bottom")
    top = low + 0.5 + ANCHOR_POSITIONS[0]
    enlarged.vlines([one, other], low - 2.8, top, color=ANCHOR_COLOR, linewidth=0.8)
    crop.set_xlabel(f"{size} px, {size // STRIDE} cells", fontsize=9, color="0.2", labelpad=12)
    arrow = _ARROW | {"linewidth": 1.0, "color": "0.2"}
    place = {"xycoords": "axes fraction", "textcoords": "axes fraction", "annotation_clip": False}
    crop.annotate("", (0, -0.03), (1, -0.03), arrowprops=arrow, **place)
    return figure


def _draw_anchors(axes: Any, tile: Tile, low: float, px_per_inch: float) -> None:
    """Depth, cells and anchors; the cell whose upper left corner is (`low`, `low`), in color."""
    from matplotlib.patches import Rectangle

    size = np.shape(tile.depth)[0]
    pictures.draw_depth(axes, tile.depth, tile.far)
    # Pixel centers have integer coordinates.
    edges = np.arange(1, size // STRIDE) * STRIDE - 0.5
    for color, width in (("white", 1.6), ("0.4", 0.6)):  # all halos first: none over another's line
        for lines in (axes.hlines, axes.vlines):
            lines(edges, -0.5, size - 0.5, color=color, linewidth=width)
    anchors = anchor_grid(size, size)
    diameter = min(0.3 * 72 * ANCHOR_SPACING_PX / px_per_inch, 11.0)  # points
    style = {"s": diameter**2, "edgecolors": "white", "linewidths": 0.08 * diameter}
    inside = ((anchors > low) & (anchors < low + STRIDE)).all(-1)
    axes.scatter(*anchors[~inside].T, c="0.4", **style)
    axes.scatter(*anchors[inside].T, c=ANCHOR_COLOR, zorder=3, **style)
    cell: dict[str, Any] = {"fill": False, "edgecolor": CELL_COLOR, "linewidth": 2.0, "zorder": 4}
    axes.add_patch(Rectangle((low, low), STRIDE, STRIDE, **cell))


def _dimension(
    axes: Any, begin: float, end: float, v: float, text: str, color: str, align: str
) -> None:
    """A double arrow from column `begin` to `end` at row `v`, with its length beside it."""
    axes.annotate("", (begin, v), (end, v), arrowprops=_ARROW | {"color": color}, zorder=6)
    backed = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.85}
    style = {"color": color, "fontsize": 9, "fontweight": "bold", "bbox": backed, "zorder": 7}
    beside = v + (1.2 if align == "top" else -1.2)
    axes.text((begin + end) / 2, beside, text, ha="center", va=align, **style)
