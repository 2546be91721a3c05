"""The informative anchors of a trained network on a few frames: the data of figures 1 and 6."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from a2j_jax.data import augment, crops, pipeline
from a2j_jax.data.crops import Example
from a2j_jax.errors import UserError, did_you_mean
from a2j_jax.evaluation.evaluate import predict_batches, score_frames
from a2j_jax.evaluation.plots import example_tile
from a2j_jax.geometry import Float64
from a2j_jax.models.anchors import aggregate, anchor_grid, confidence
from a2j_jax.pictures import Tile
from a2j_jax.runs.load import Restored, restore
from a2j_jax.skeletons import Skeleton
from a2j_jax.tracks import TrackSpec

MIN_WEIGHT = 0.02  # "informative" anchors weigh more (paper, Fig. 1)


@dataclass(frozen=True, eq=False)
class JointVotes:
    """One joint of one frame, and its n informative anchors, the heaviest first; px of the crop.

    Attributes:
      joint: its name.
      predicted_uv: (2,) the prediction: the weighted sum of the votes of *all* anchors.
      label_uv: (2,), or None without one.
      error: distance from the label, mm in space (px of the frame on a 2D track); None without one.
      anchor_uv: (n, 2) positions S(a).
      weight: (n,) P~_j(a).
      offset_uv: (n, 2) O_j(a): the anchor votes for `anchor_uv + offset_uv`.
      mean_anchor_uv: (2,) sum of P~_j(a) S(a) over *all* anchors, which the surrounding loss draws to the label.
    """

    joint: str
    predicted_uv: Float64
    label_uv: Float64 | None
    error: float | None
    anchor_uv: Float64
    weight: Float64
    offset_uv: Float64
    mean_anchor_uv: Float64

    @property
    def surround_px(self) -> float | None:
        """Distance of the weighted mean anchor from the label, px of the crop; None without label."""
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
      error: mean over labeled joints, mm (px on a 2D track); None without labels.
      joints: the requested ones.
    """

    name: str
    position: int
    tile: Tile
    error: float | None
    joints: tuple[JointVotes, ...]


def restore_anchors(directory: str | Path) -> Restored:
    """Load a checkpoint whose anchors have weights, at its best step.

    Raises:
      UserError: no checkpoint, or one without such weights.
    """
    restored = restore(directory)
    model = restored.config.model
    if model.paradigm == "a2j" and model.proposals:
        return restored
    reason = f"model.paradigm={model.paradigm} has no anchors"
    if model.paradigm == "a2j":
        reason = "with model.proposals=false every anchor weighs alike"
    raise UserError(
        f"{directory}: {reason}, so there is no weight to draw; name a checkpoint of model.paradigm=a2j and "
        "model.proposals=true"
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
    return {position: fetch(position) for position in example_positions(frames, count)}


def example_positions(frames: int, count: int) -> list[int]:
    """Positions of at most `count` examples, in the middle of equal parts of a split of `frames`."""
    count = min(count, frames)
    return [(2 * part + 1) * frames // (2 * count) for part in range(count)]


def example_name(example: Example) -> str:
    """The name of a frame in its distribution, or its number."""
    name = example.get("frame_id", b"")
    text = name.decode() if isinstance(name, bytes) else str(name)
    return text or f"frame {int(example['index'])}"


def joint_numbers(names: Sequence[str] | None, skeleton: Skeleton) -> list[int]:
    """Positions of joints in the skeleton.

    Args:
      names: of joints; None: the beginning of the first limb and the ends of the second and the last one
        (wrist, index tip and pinky tip of a hand; head, a hand and a foot of a body).
      skeleton: has these joints.

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
    examples: Mapping[int, Example],
    joints: Sequence[int],
    min_weight: float = MIN_WEIGHT,
) -> list[FrameVotes]:
    """Run a network on a few frames and keep the informative anchors.

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
    anchors = anchor_grid(track.crop_size, track.crop_size)

    @jax.jit
    def look(variables: Any, canvas: jax.Array, center_depth_mm: jax.Array) -> Any:
        images = augment.evaluation_images(canvas, center_depth_mm, track)
        heads: Any = restored.model.apply(variables, images)
        return heads.offset, aggregate(heads, anchors)

    offsets, found = look(restored.variables, batch["canvas"], batch["center_uvd"][:, 2])
    answer = found.joints, confidence(found.spread)
    predicted, frames = predict_batches(lambda _: answer, [batch], track)
    # A split of a challenge may have no labels at all.
    errors = np.full(frames.valid.shape, np.nan)
    if frames.labeled.any():
        errors = score_frames(predicted.joints_uvd, frames, track).errors
    labels = crops.joints_to_crop(frames.joints_uvd, frames.box_px, frames.center_uvd[:, 2], track)[
        ..., :2
    ]
    weights, offsets, uv = (np.asarray(x, np.float64) for x in (found.weights, offsets, answer[0]))

    def votes(row: int, joint: int) -> JointVotes:
        weight = weights[row, :, joint]
        kept = informative(weight, min_weight)
        labeled = bool(np.isfinite(errors[row, joint]))
        return JointVotes(
            joint=track.skeleton.joints[joint],
            predicted_uv=uv[row, joint, :2],
            label_uv=labels[row, joint] if labeled else None,
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
            tile=example_tile(example, track, predicted.joints_uvd[row]),
            error=mean_of_known([error for error in errors[row].tolist() if np.isfinite(error)]),
            joints=tuple(votes(row, joint) for joint in joints),
        )
        for row, (position, example) in enumerate(examples.items())
    ]


def informative(weight: Float64, min_weight: float) -> NDArray[np.int64]:
    """Numbers of the anchors whose weights (A,) for a joint are larger than `min_weight`, the heaviest first."""
    heaviest = np.argsort(-weight, kind="stable")
    return heaviest[weight[heaviest] > min_weight]


def mean_of_known(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are not None; None: there are none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
