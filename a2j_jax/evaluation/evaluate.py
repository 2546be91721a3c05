"""Run a predictor over every frame of a data set, once, and map its joints back to the camera.

The network answers in crop coordinates. Here each answer goes crop → frame (the same clipped box
the crop was cut from) → camera millimetres (that frame's own camera) → error. Baselines take the
same way back, so their numbers stand beside the model's.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from a2j_jax import crops, geometry
from a2j_jax.errors import UserError
from a2j_jax.evaluation import metrics
from a2j_jax.evaluation.predictions import JointSet
from a2j_jax.evaluation.score import Scores, score_errors
from a2j_jax.tracks import TrackSpec

FloatArray = NDArray[np.float64]
Batch = Mapping[str, Any]
#: batch → joints in crop coordinates (B, K, D) and their confidence (B, K); may be device arrays.
PredictFn = Callable[[Batch], tuple[ArrayLike, ArrayLike]]

_FRAME_KEYS = ("joints_uvd", "valid", "box_px", "center_uvd", "camera", "index")


@dataclass(frozen=True)
class Frames:
    """What is known of every evaluated frame, in dataset order (N frames, K joints).

    Attributes:
        joints_uvd: (N, K, D) labels: px px mm, or px px on a 2D track.
        valid: (N, K) bool, which labels exist.
        box_px: (N, 4) the clipped crop box, px of the frame.
        center_uvd: (N, 3) px px mm; zeros where the track crops by box.
        camera: (N, 4) fx fy u0 v0; zeros on a 2D track.
        index: (N,) int64 position in the data set, ascending.
    """

    joints_uvd: FloatArray
    valid: NDArray[np.bool_]
    box_px: FloatArray
    center_uvd: FloatArray
    camera: FloatArray
    index: NDArray[np.int64]


@dataclass(frozen=True)
class EvaluationResult:
    """Predictions of every frame, what they were compared with, and the scores."""

    predictions: JointSet
    frames: Frames
    scores: Scores


def evaluate_batches(
    predict_fn: PredictFn,
    batches: Iterable[Batch],
    spec: TrackSpec,
    on_batch: Callable[[int], None] | None = None,
) -> EvaluationResult:
    """Predict and score every frame exactly once.

    Args:
        predict_fn: a batch → joints in crop coordinates (B, K, D) and confidence (B, K). The result
            is read one batch late, so that the device computes while the next one is prepared.
        batches: dicts of arrays as the input pipeline gives them; `mask` (B,) marks the rows that
            count, absent it all do: that is how the last, padded batch counts right.
        spec: the track.
        on_batch: called after each batch with its number of counted frames (for a progress bar).

    Returns:
        Everything in the order of `index`, whatever the order of the batches.

    Raises:
        UserError: no frames.
        ValueError: a frame that appears twice; a predicted joint that is not finite.
    """
    collected: list[tuple[Batch, tuple[ArrayLike, ArrayLike]]] = []
    rows: dict[str, list[NDArray[Any]]] = {
        name: [] for name in (*_FRAME_KEYS, "joints_crop", "confidence")
    }

    def collect() -> None:
        batch, (joints_crop, confidence) = collected.pop()
        keep = _counted_rows(batch)
        for name in _FRAME_KEYS:
            rows[name].append(np.asarray(batch[name])[keep])
        rows["joints_crop"].append(np.asarray(joints_crop, np.float64)[keep])
        rows["confidence"].append(np.asarray(confidence, np.float64)[keep])
        if on_batch is not None:
            on_batch(len(rows["index"][-1]))

    for batch in batches:
        answer = predict_fn(batch)
        if collected:
            collect()
        collected.append((batch, answer))
    if collected:
        collect()
    if not sum(len(part) for part in rows["index"]):
        raise UserError(f"no frames of track '{spec.name}' to evaluate: the split is empty")
    return _score_rows({name: np.concatenate(parts) for name, parts in rows.items()}, spec)


def score_constant_pose(pose_crop: ArrayLike, frames: Frames, spec: TrackSpec) -> Scores:
    """Score one pose, given in crop coordinates, as the answer to every frame: a baseline.

    Args:
        pose_crop: (K, D), from `mean_pose` or `center_pose`.
        frames: of an `EvaluationResult`, so that the same frames are counted.
        spec: the track.
    """
    poses = np.broadcast_to(np.asarray(pose_crop, np.float64), frames.joints_uvd.shape)
    uvd = crops.joints_to_frame(poses, frames.box_px, frames.center_uvd[:, 2], spec)
    return _score_uvd(uvd, frames, spec)[0]


def mean_pose(
    batches: Iterable[Batch], spec: TrackSpec, on_batch: Callable[[int], None] | None = None
) -> FloatArray:
    """The average training pose, (K, D) in crop coordinates: the best guess that ignores the image.

    Args:
        batches: training examples, without augmentation (`mask` as in `evaluate_batches`).
        spec: the track.
        on_batch: as in `evaluate_batches`.

    Raises:
        UserError: no frames, or a joint that no frame labels.
    """
    total = np.zeros((spec.num_joints, spec.joint_dims))
    count = np.zeros((spec.num_joints, 1))
    for batch in batches:
        keep = _counted_rows(batch)
        joints, boxes, centers, valid = (
            np.asarray(batch[name])[keep]
            for name in ("joints_uvd", "box_px", "center_uvd", "valid")
        )
        in_crop = crops.joints_to_crop(joints, boxes, centers[:, 2], spec)
        total += np.where(valid[..., None], in_crop, 0.0).sum(0)
        count += valid.sum(0)[:, None]
        if on_batch is not None:
            on_batch(len(joints))
    if not count.all():
        raise UserError(
            f"no mean pose of track '{spec.name}': "
            f"{int((count == 0).sum())} of {spec.num_joints} joints are never labelled"
        )
    return total / count


def center_pose(spec: TrackSpec, mean_pose_crop: FloatArray) -> FloatArray:
    """Every joint at the crop's centre: (K, D) in crop coordinates.

    Where depth is measured from the centre its depth is 0; where it is measured from the camera
    (ITOP) a crop has no depth of its own and the mean depth of the training joints stands in.
    """
    pose = np.full((spec.num_joints, spec.joint_dims), spec.crop_size / 2.0)
    if spec.joint_dims == 3:
        relative = spec.depth_reference == "center"
        pose[:, 2] = 0.0 if relative else mean_pose_crop[:, 2].mean()
    return pose


def _score_rows(rows: dict[str, NDArray[Any]], spec: TrackSpec) -> EvaluationResult:
    order = np.argsort(rows["index"], kind="stable")
    rows = {name: values[order] for name, values in rows.items()}
    repeated = np.flatnonzero(np.diff(rows["index"]) == 0)
    if repeated.size:
        raise ValueError(f"frame {rows['index'][repeated[0]]} was evaluated more than once")
    frames = Frames(
        joints_uvd=rows["joints_uvd"].astype(np.float64),
        valid=rows["valid"].astype(bool),
        box_px=rows["box_px"].astype(np.float64),
        center_uvd=rows["center_uvd"].astype(np.float64),
        camera=rows["camera"].astype(np.float64),
        index=rows["index"].astype(np.int64),
    )
    uvd = crops.joints_to_frame(rows["joints_crop"], frames.box_px, frames.center_uvd[:, 2], spec)
    scores, xyz = _score_uvd(uvd, frames, spec)
    predictions = JointSet(uvd, None, rows["confidence"], xyz, frames.index)
    return EvaluationResult(predictions, frames, scores)


def _score_uvd(
    uvd: FloatArray, frames: Frames, spec: TrackSpec
) -> tuple[Scores, FloatArray | None]:
    """Scores of (N, K, D) frame joints, and their camera coordinates where the track has any."""
    if spec.joint_dims == 2:
        return score_errors(metrics.joint_errors(uvd, frames.joints_uvd, frames.valid), spec), None
    xyz = _to_camera(uvd, frames.camera)
    truth = _to_camera(frames.joints_uvd, frames.camera)
    return score_errors(metrics.joint_errors(xyz, truth, frames.valid), spec), xyz


def _to_camera(uvd: FloatArray, cameras: FloatArray) -> FloatArray:
    """(N, K, 3) px px mm with each frame's own (N, 4) camera → mm. One call per distinct camera."""
    xyz = np.empty_like(uvd)
    distinct, which = np.unique(cameras, axis=0, return_inverse=True)
    for number, values in enumerate(distinct):
        taken = which.reshape(-1) == number
        xyz[taken] = geometry.uvd_to_xyz(uvd[taken], geometry.Camera.from_array(values))
    return xyz


def _counted_rows(batch: Batch) -> NDArray[np.bool_]:
    if "mask" in batch:
        return np.asarray(batch["mask"], bool)
    return np.ones(len(np.asarray(batch["index"])), bool)
