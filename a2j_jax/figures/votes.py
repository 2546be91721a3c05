"""The informative anchors of a trained network on a few frames: the data of figures 1 and 6."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from a2j_jax.data import augment, crops, pipeline
from a2j_jax.data.crops import Example
from a2j_jax.errors import UserError, did_you_mean
from a2j_jax.evaluation.evaluate import predict_batches, score_frames
from a2j_jax.evaluation.metrics import frame_errors
from a2j_jax.evaluation.plots import example_tile
from a2j_jax.geometry import Float64
from a2j_jax.log import logger
from a2j_jax.models.a2j import A2J
from a2j_jax.models.anchors import aggregate, anchor_grid, confidence
from a2j_jax.pictures import Tile
from a2j_jax.runs.load import Restored, restore
from a2j_jax.skeletons import Skeleton
from a2j_jax.tracks import TrackSpec


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
