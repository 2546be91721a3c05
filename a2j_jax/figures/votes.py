"""What the anchors of a trained network say of the joints of a few frames: the data of figures 1 and 6.

Figure 3: where anchors stand on a crop, and how many of them a cell of the feature map has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from a2j_jax import pictures
from a2j_jax.data import augment, crops, pipeline
from a2j_jax.data.batch import Example, FloatArray
from a2j_jax.errors import UserError, did_you_mean
from a2j_jax.evaluation.evaluate import Frames, predict_batches, score_frames
from a2j_jax.evaluation.plots import example_tile
from a2j_jax.figures.sheet import Area, Figure, Sheet
from a2j_jax.models.anchors import (
    ANCHOR_POSITIONS,
    ANCHOR_SPACING_PX,
    ANCHORS_PER_CELL,
    STRIDE,
    Heads,
    aggregate,
    anchor_grid,
    confidence,
)
from a2j_jax.pictures import Tile
from a2j_jax.runs.load import Restored, restore
from a2j_jax.runs.run_dir import read_config
from a2j_jax.skeletons import Skeleton
from a2j_jax.tracks import TrackSpec
from a2j_jax.training.assembly import track_of

#: "Informative" anchors weigh more (paper, Fig. 1).
MIN_WEIGHT = 0.02


@dataclass(frozen=True, eq=False)
class JointVotes:
    """One joint of one frame, and its n informative anchors, the heaviest first; px of the crop.

    Attributes:
      joint: its name.
      predicted_uv: (2,) the network's answer: the weighted sum of the votes of *all* anchors.
      label_uv: (2,), or None where it has none.
      error: distance from the label, mm in space (px of the frame on a 2D track); None without one.
      anchor_uv: (n, 2) positions S(a).
      weight: (n,) P~_j(a).
      offset_uv: (n, 2) O_j(a): the anchor votes for `anchor_uv + offset_uv`.
      mean_anchor_uv: (2,) sum of P~_j(a) S(a) over *all* anchors, that the surrounding loss draws to the label.
    """

    joint: str
    predicted_uv: FloatArray
    label_uv: FloatArray | None
    error: float | None
    anchor_uv: FloatArray
    weight: FloatArray
    offset_uv: FloatArray
    mean_anchor_uv: FloatArray

    @property
    def surround_px(self) -> float | None:
        """How far the weighted mean anchor lies from the label, px of the crop; None without label."""
        if self.label_uv is None:
            return None
        return float(np.linalg.norm(self.mean_anchor_uv - self.label_uv))


@dataclass(frozen=True, eq=False)
class FrameVotes:
    """One frame.

    Attributes:
      name: as the distribution calls it.
      position: in its split.
      tile: its crop, with all predicted joints and labels.
      error: mean over labelled joints, mm (px on a 2D track); None without labels.
      joints: those asked for.
    """

    name: str
    position: int
    tile: Tile
    error: float | None
    joints: tuple[JointVotes, ...]


def restore_anchors(directory: str | Path) -> Restored:
    """A checkpoint whose anchors have weights, at its best step.

    Raises:
      UserError: none there, or one without such weights.
    """
    restored = restore(directory)
    model = restored.config.model
    reason = ""
    if model.paradigm != "a2j":
        reason = f"model.paradigm={model.paradigm} has no anchors"
    elif not model.proposals:
        reason = "with model.proposals=false every anchor weighs alike"
    if reason:
        raise UserError(
            f"{directory}: {reason}, so there is no weight to draw; name a checkpoint of model.paradigm=a2j and "
            "model.proposals=true"
        )
    return restored


def example_positions(frames: int, count: int) -> list[int]:
    """Where `count` examples stand that are evenly spaced over a split: amid equal parts of it.

    Args:
      frames: in the split.
      count: at most so many are chosen.
    """
    count = min(count, frames)
    return [(2 * part + 1) * frames // (2 * count) for part in range(count)]


def evenly_spaced(
    data_dir: str | Path, track: TrackSpec, split: str, count: int
) -> dict[int, Example]:
    """Examples of a split by their `example_positions`.

    Raises:
      UserError: no such data, or an example that cannot be read.
    """
    fetch = pipeline.example_reader(data_dir, track, split)
    frames = pipeline.num_frames(data_dir, track, split)
    return {position: fetch(position) for position in example_positions(frames, count)}


def example_name(example: Example) -> str:
    """What the distribution calls a frame, or its number."""
    name = example.get("frame_id", b"")
    text = name.decode() if isinstance(name, bytes) else str(name)
    return text or f"frame {int(example['index'])}"


def joint_numbers(names: Sequence[str] | None, skeleton: Skeleton) -> list[int]:
    """Positions of joints in the skeleton.

    Args:
      names: of joints; None: three that differ, which are where the first limb begins and where the second and
        the last one end (wrist, index tip and pinky tip of a hand; head, a hand and a foot of a body).
      skeleton: that has them.

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


def frame_votes(
    restored: Restored,
    examples: dict[int, Example],
    joints: Sequence[int],
    min_weight: float = MIN_WEIGHT,
) -> list[FrameVotes]:
    """Run a network on a few frames and look at its anchors.

    Args:
      restored: of `restore_anchors`.
      examples: by position in their split, ascending.
      joints: of the skeleton, by number.
      min_weight: anchors of larger weight are informative.
    """
    batch = {
        name: np.stack([example[name] for example in examples.values()])
        for name in next(iter(examples.values()))
        if name != "frame_id"
    }
    track = restored.track

    @jax.jit
    def answer(variables: Any, canvas: jax.Array, center_depth_mm: jax.Array) -> Any:
        images = augment.evaluation_images(canvas, center_depth_mm, track)
        return restored.model.apply(variables, images)

    heads = answer(restored.variables, batch["canvas"], batch["center_uvd"][:, 2])
    seen = look_at_anchors(heads, track.crop_size)
    predicted, frames = predict_batches(lambda _: (seen.joints, seen.confidence), [batch], track)
    errors = _errors(predicted.joints_uvd, frames, track)
    labels = _labels_in_crop(frames, track)
    return [
        FrameVotes(
            name=example_name(example),
            position=position,
            tile=example_tile(example, track, predicted.joints_uvd[row]),
            error=_mean(errors[row]),
            joints=tuple(
                _joint_votes(seen, row, joint, min_weight, track, labels, errors)
                for joint in joints
            ),
        )
        for row, (position, example) in enumerate(examples.items())
    ]


class Seen(NamedTuple):
    """All anchors of a batch (B frames, A anchors, K joints), px of the crop."""

    anchor_uv: FloatArray  # (A, 2)
    weight: FloatArray  # (B, A, K), of a joint they sum to 1
    offset_uv: FloatArray  # (B, A, K, 2)
    joints: FloatArray  # (B, K, 3 or 2), the answer
    confidence: FloatArray  # (B, K)


def look_at_anchors(heads: Heads, crop_size: int) -> Seen:
    """Bring to the host what the heads of a network say, and what `aggregate` makes of it."""
    anchors = anchor_grid(crop_size, crop_size)
    prediction = aggregate(heads, anchors)
    values = (
        anchors,
        prediction.weights,
        heads.offset,
        prediction.joints,
        confidence(prediction.spread),
    )
    return Seen(*(np.asarray(value, np.float64) for value in values))


def informative(weight: FloatArray, min_weight: float) -> NDArray[np.int64]:
    """Which of the weights (A,) of a joint are larger than `min_weight`, the largest first."""
    heaviest = np.argsort(-weight, kind="stable")
    return heaviest[weight[heaviest] > min_weight]


def error_unit(track: TrackSpec) -> str:
    """Of errors: mm in space, or px of the frame on a 2D track."""
    return "mm" if track.joint_dims == 3 else "px"


def _joint_votes(
    seen: Seen,
    row: int,
    joint: int,
    min_weight: float,
    track: TrackSpec,
    labels: FloatArray,
    errors: FloatArray,
) -> JointVotes:
    """One joint of one frame; `labels` (N, K, 2) and `errors` (N, K) are NaN where there is no label."""
    weight = seen.weight[row, :, joint]
    kept = informative(weight, min_weight)
    labelled = bool(np.isfinite(errors[row, joint]))
    return JointVotes(
        joint=track.skeleton.joints[joint],
        predicted_uv=seen.joints[row, joint, :2],
        label_uv=labels[row, joint] if labelled else None,
        error=float(errors[row, joint]) if labelled else None,
        anchor_uv=seen.anchor_uv[kept],
        weight=weight[kept],
        offset_uv=seen.offset_uv[row, kept, joint],
        mean_anchor_uv=weight @ seen.anchor_uv,
    )


def _errors(joints_uvd: FloatArray, frames: Frames, track: TrackSpec) -> FloatArray:
    """(N, K) distance from the label, NaN without one; a split of a challenge may have none at all."""
    if not frames.labelled:
        return np.full(frames.valid.shape, np.nan)
    return score_frames(joints_uvd, frames, track).errors


def _labels_in_crop(frames: Frames, track: TrackSpec) -> FloatArray:
    """(N, K, 2) px of the crop, NaN where there is none."""
    centers = frames.center_uvd[:, 2]
    in_crop = crops.joints_to_crop(frames.joints_uvd, frames.box_px, centers, track)
    return np.where(frames.valid[..., None], in_crop[..., :2], np.nan)


def _mean(errors: FloatArray) -> float | None:
    return float(np.nanmean(errors)) if np.isfinite(errors).any() else None


ANCHOR_COLOR, CELL_COLOR = pictures.LIMB_COLORS[:2]
_SIDE, _TOP, _GAP, _FOOT = (
    3.5,
    0.34,
    0.75,
    0.55,
)  # inches: of a panel, above, between and below them
_AROUND_PX = 10.0  # of the crop, shown around the enlarged cell


def figure_3(
    checkpoint: str | Path, *, split: str, data_dir: str | Path | None, command: str
) -> Figure:
    """The anchor grid over a real crop, and one cell of the feature map enlarged.

    Args:
      checkpoint: a run or a converted checkpoint: says which track and crop size; its weights are not read.
      split, data_dir: of the data set; None: the one trained on. The crop is that in the middle of the split.
      command: for the caption.

    Raises:
      UserError: no checkpoint, no data, or no matplotlib.
    """
    config = read_config(checkpoint)
    track = track_of(config)
    position, example = next(
        iter(evenly_spaced(data_dir or config.data.dir, track, split, 1).items())
    )
    tile, name = example_tile(example, track), example_name(example)
    size = track.crop_size
    anchors, cell = anchor_grid(size, size), middle_cell(size)
    caption = (
        f"Figure 3. Anchors stand every S = {ANCHOR_SPACING_PX:g} px on the crop of {size} × {size} px, "
        f"{ANCHORS_PER_CELL} in each cell of the feature map, whose stride is {STRIDE}: "
        f"{size // STRIDE} × {size // STRIDE} cells, {len(anchors):,} anchors. "
        f"{checkpoint}, track {track.name}; {name}, in the middle of split {split}."
    )
    cells = anchors // STRIDE
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
        {"anchor_u": u, "anchor_v": v, "cell_column": int(column), "cell_row": int(row)}
        for (u, v), (column, row) in zip(anchors.tolist(), cells.tolist(), strict=True)
    ]
    return Figure(_draw(tile, anchors, cell, caption, command), contents, table)


def middle_cell(crop_size: int) -> int:
    """Row and column of the cell that is enlarged."""
    return crop_size // STRIDE // 2


def _draw(tile: Tile, anchors: NDArray[Any], cell: int, caption: str, command: str) -> Any:
    from matplotlib.patches import ConnectionPatch

    size = np.shape(tile.depth)[0]
    low, shown = _low_edge(cell), STRIDE + 2 * _AROUND_PX
    sheet = Sheet(2 * _SIDE + _GAP + 0.5, _TOP + _SIDE + _FOOT, caption, command)
    crop, enlarged = (
        _panel(sheet, left, title, tile, anchors, cell, px_per_inch)
        for left, px_per_inch, title in (
            (0.2, size / _SIDE, "The crop, its anchors, and the cells of the feature map"),
            (0.2 + _SIDE + _GAP, shown / _SIDE, f"One cell: {ANCHORS_PER_CELL} anchors"),
        )
    )
    enlarged.set_xlim(low - _AROUND_PX, low - _AROUND_PX + shown)
    enlarged.set_ylim(low - _AROUND_PX + shown, low - _AROUND_PX)
    for corner, at in ((low, 1.0), (low + STRIDE, 0.0)):
        joined = ConnectionPatch(
            (low + STRIDE, corner), (0.0, at), crop.transData, enlarged.transAxes,
            color=CELL_COLOR, linewidth=0.8, linestyle="--",
        )  # fmt: skip
        sheet.figure.add_artist(joined)
    _dimensions(enlarged, low)
    _below(crop, f"{size} px, {size // STRIDE} cells")
    return sheet.figure


def _low_edge(cell: int) -> float:
    """Where a cell begins, px: a pixel's middle has whole coordinates."""
    return cell * STRIDE - 0.5


def _panel(
    sheet: Sheet,
    left: float,
    title: str,
    tile: Tile,
    anchors: NDArray[Any],
    cell: int,
    px_per_inch: float,
) -> Any:
    """Depth, cells and anchors, with those of one cell in colour."""
    axes = sheet.axes(Area(left, _TOP, _SIDE, _SIDE))
    sheet.text(left, _TOP - 0.1, title, va="baseline", fontweight="bold")
    pictures.draw_depth(axes, tile.depth, tile.far)
    edges = [_low_edge(cell) for cell in range(1, np.shape(tile.depth)[0] // STRIDE)]
    for color, width in (("white", 1.6), ("0.4", 0.6)):  # all halos first: none over another's line
        for edge in edges:
            axes.axhline(edge, color=color, linewidth=width)
            axes.axvline(edge, color=color, linewidth=width)
    diameter = min(0.3 * 72 * ANCHOR_SPACING_PX / px_per_inch, 11.0)  # points
    style = {"s": diameter**2, "edgecolors": "white", "linewidths": 0.08 * diameter}
    inside = (anchors // STRIDE == cell).all(-1)
    axes.scatter(*anchors[~inside].T, c="0.4", **style)
    axes.scatter(*anchors[inside].T, c=ANCHOR_COLOR, zorder=3, **style)
    axes.add_patch(_square(_low_edge(cell), STRIDE))
    return axes


def _square(low: float, side: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(
        (low, low), side, side, fill=False, edgecolor=CELL_COLOR, linewidth=2.0, zorder=4
    )


def _dimensions(axes: Any, low: float) -> None:
    """The side of the cell below it, the distance between two anchors above it."""
    high = low + STRIDE
    first, second = (low + 0.5 + ANCHOR_POSITIONS[k] for k in (1, 2))
    arrow = {"arrowstyle": "<->", "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    style = {"ha": "center", "fontsize": 9, "fontweight": "bold"}
    backed = {
        "boxstyle": "round,pad=0.15",
        "facecolor": "white",
        "edgecolor": "none",
        "alpha": 0.85,
    }
    for begin, end, v, color, text in (
        (low, high, high + 2.2, CELL_COLOR, f"{STRIDE} px"),
        (first, second, low - 2.2, ANCHOR_COLOR, f"S = {ANCHOR_SPACING_PX:g} px"),
    ):
        axes.annotate("", (begin, v), (end, v), arrowprops={**arrow, "color": color}, zorder=6)
        below = v > low
        axes.text(
            (begin + end) / 2, v + (1.2 if below else -1.2), text, color=color,
            va="top" if below else "bottom", bbox=backed, zorder=7, **style,
        )  # fmt: skip
    for u in (first, second):
        axes.plot([u, u], [low - 2.8, low + 0.5 + ANCHOR_POSITIONS[0]], color=ANCHOR_COLOR, lw=0.8)


def _below(axes: Any, text: str) -> None:
    """The whole width of a panel, below it."""
    arrow = {"arrowstyle": "<->", "linewidth": 1.0, "shrinkA": 0, "shrinkB": 0, "color": "0.2"}
    ends = {"xycoords": "axes fraction", "textcoords": "axes fraction"}
    axes.annotate("", (0, -0.04), (1, -0.04), arrowprops=arrow, annotation_clip=False, **ends)
    axes.text(
        0.5, -0.06, text, transform=axes.transAxes, ha="center", va="top", fontsize=9, color="0.2"
    )
