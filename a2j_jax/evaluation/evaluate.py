"""Run a predictor over every frame of a data set, once, and map its joints back to the camera.

A network predicts in crop coordinates. Here each prediction goes crop → frame (the same clipped box
the crop was cut from) → camera millimeters (that frame's own camera) → error. Baselines take the
same way back, so their numbers are comparable.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from a2j_jax import distributed, geometry
from a2j_jax.data import crops
from a2j_jax.data.batch import Batch, FloatArray
from a2j_jax.errors import UserError
from a2j_jax.evaluation.joint_files import JointSet
from a2j_jax.evaluation.scores import Scores, marked, score_predictions, to_camera
from a2j_jax.tracks import TrackSpec

#: batch → joints in crop coordinates (B, K, D) and their confidence (B, K); may be device arrays.
PredictFn = Callable[[Batch], tuple[ArrayLike, ArrayLike]]
#: Called after each batch with its number of counted frames (for a progress bar).
OnBatch = Callable[[int], None]

_FRAME_ARRAYS = {
    "joints_uvd": np.float64,
    "valid": np.bool_,
    "box_px": np.float64,
    "center_uvd": np.float64,
    "camera": np.float64,
    "index": np.int64,
}
_NAME = "frame_id"


@dataclass(frozen=True, kw_only=True)
class Frames(JointSet):
    """The labels of N frames of a data set, and where their crops were cut.

    `index` has gaps where frames were skipped: row n, not `index[n]`, is the frame's position in the split.

    Attributes:
        valid, index: as in `JointSet`, always known.
        box_px: (N, 4) the clipped crop box, px of the frame.
        center_uvd: (N, 3) px px mm; zeros where the track crops by box.
        camera: (N, 4) fx fy u0 v0; zeros on a 2D track.
    """

    valid: NDArray[np.bool_]
    index: NDArray[np.int64]
    box_px: FloatArray
    center_uvd: FloatArray
    camera: FloatArray


class EvaluationResult(NamedTuple):
    """Predictions of every frame, the frames with their labels, and the scores."""

    predictions: JointSet
    frames: Frames
    scores: Scores


def evaluate_batches(
    predict_fn: PredictFn,
    batches: Iterable[Batch],
    spec: TrackSpec,
    on_batch: OnBatch | None = None,
) -> EvaluationResult:
    """Predict and score every frame exactly once; arguments as `predict_batches`.

    Raises:
        UserError: no frames, or none with a label.
        ValueError: a frame that appears twice; a predicted joint that is not finite.
    """
    predictions, frames = predict_batches(predict_fn, batches, spec, on_batch)
    scores = score_frames(predictions.joints_uvd, frames, spec)
    return EvaluationResult(predictions, frames, scores)


def predict_batches(
    predict_fn: PredictFn,
    batches: Iterable[Batch],
    spec: TrackSpec,
    on_batch: OnBatch | None = None,
) -> tuple[JointSet, Frames]:
    """Predict every frame exactly once, labeled or not.

    Args:
        predict_fn: a batch → joints in crop coordinates (B, K, D) and confidence (B, K). The result
            is read one batch late, so that the device computes while the next one is prepared.
        batches: dicts of arrays as the input pipeline gives them; `mask` (B,) marks the rows that
            count (all of them without it), so that a padded last batch counts right.
        spec: the track.
        on_batch: see `OnBatch`.

    Returns:
        Everything in the order of `index`, whatever the order of the batches; where several processes
        share the frames, all of them in each.

    Raises:
        UserError: no frames.
        ValueError: a frame that appears twice.
    """

    def predicted() -> Iterator[tuple[Batch, dict[str, ArrayLike]]]:
        waiting = None
        for batch in batches:
            joints, confidence = predict_fn(batch)
            if waiting is not None:
                yield waiting
            waiting = batch, {"joints_crop": joints, "confidence": confidence}
        if waiting is not None:
            yield waiting

    columns = _gather(predicted(), spec, on_batch)
    frames = _frames(columns)
    uvd = crops.joints_to_frame(
        columns["joints_crop"], frames.box_px, frames.center_uvd[:, 2], spec
    )
    xyz = to_camera(uvd, frames.camera) if spec.joint_dims == 3 else None
    found = JointSet(uvd, None, columns["confidence"], xyz, frames.index, frames.frame_id)
    return found, frames


def read_frames(
    batches: Iterable[Batch], spec: TrackSpec, on_batch: OnBatch | None = None
) -> Frames:
    """Read the labels of a data set without predicting; arguments and errors as `predict_batches`."""
    return _frames(_gather(((batch, {}) for batch in batches), spec, on_batch))


def with_unclipped_boxes(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Batches whose joints are mapped back by the box before it was clipped to the frame.

    So does the official program on ITOP and K2HPD, although its crops, and the labels it trains on, are
    of the clipped box: a joint lands up to a pixel or so off where a box reaches over the border, as 70 %
    of the published boxes of ITOP's side view do.
    """
    for batch in batches:
        yield {**batch, "box_px": batch["window_px"]}


def _gather(
    batches: Iterable[tuple[Batch, Mapping[str, ArrayLike]]],
    spec: TrackSpec,
    on_batch: OnBatch | None,
) -> dict[str, NDArray[Any]]:
    """One array per name, of the counted rows of all batches and their outputs, in the order of `index`."""
    rows: dict[str, list[NDArray[Any]]] = defaultdict(list)
    for batch, outputs in batches:
        keep = _counted_rows(batch)
        for name in (*_FRAME_ARRAYS, *((_NAME,) if _NAME in batch else ())):
            rows[name].append(np.asarray(batch[name])[keep])
        for name, values in outputs.items():
            rows[name].append(np.asarray(values, np.float64)[keep])
        if on_batch is not None:
            on_batch(int(keep.sum()))
    columns = {name: np.concatenate(parts) for name, parts in rows.items()}
    if _NAME in columns:  # as wide as the longest name of all processes
        width = np.array([max(columns[_NAME].itemsize, 1)])
        width = distributed.rows_of_all({"width": width})["width"]
        columns[_NAME] = columns[_NAME].astype(f"S{width.max()}")
    columns = distributed.rows_of_all(columns)
    if not columns or not len(columns["index"]):
        raise UserError(f"no frames of track '{spec.name}' to evaluate: the split is empty")
    order = np.argsort(columns["index"], kind="stable")
    columns = {name: values[order] for name, values in columns.items()}
    repeated = np.flatnonzero(np.diff(columns["index"]) == 0)
    if repeated.size:
        raise ValueError(f"frame {columns['index'][repeated[0]]} was evaluated more than once")
    return columns


def _frames(columns: Mapping[str, NDArray[Any]]) -> Frames:
    arrays: dict[str, Any] = {n: columns[n].astype(kind) for n, kind in _FRAME_ARRAYS.items()}
    if _NAME in columns:
        arrays[_NAME] = np.char.decode(columns[_NAME], "utf-8", "replace")
    return Frames(**arrays)


def _counted_rows(batch: Batch) -> NDArray[np.bool_]:
    if "mask" in batch:
        return np.asarray(batch["mask"], bool)
    return np.ones(len(np.asarray(batch["index"])), bool)


def score_frames(joints_uvd: ArrayLike, labels: JointSet, spec: TrackSpec) -> Scores:
    """Score joints of labeled frames: those of a data set with a camera each, others with the track's.

    Args:
        joints_uvd: (N, K, 3) px px mm, or (N, K, 2) px on a 2D track.
        labels: of the N frames, in the same order.
        spec: the track.

    Raises:
        UserError: no frame has a label.
        ValueError: shapes that differ; a predicted joint that is not finite.
    """
    if not labels.labeled.any():
        raise UserError(
            f"none of the {len(labels.joints_uvd)} frames of track '{spec.name}' has a label: "
            "there is nothing to score; choose a labeled split"
        )
    cameras = labels.camera if isinstance(labels, Frames) else None
    return score_predictions(joints_uvd, labels.joints_uvd, spec, labels.valid, cameras)


def score_constant_pose(pose_crop: ArrayLike, frames: Frames, spec: TrackSpec) -> Scores:
    """Score one pose as the prediction of every frame: a baseline.

    Args:
        pose_crop: (K, D) in crop coordinates, from `mean_pose` or `center_pose`.
        frames: of an `EvaluationResult`, so that the same frames are counted.
        spec: the track.
    """
    poses = np.broadcast_to(np.asarray(pose_crop, np.float64), frames.joints_uvd.shape)
    uvd = crops.joints_to_frame(poses, frames.box_px, frames.center_uvd[:, 2], spec)
    return score_frames(uvd, frames, spec)


def mean_pose(
    batches: Iterable[Batch], spec: TrackSpec, on_batch: OnBatch | None = None
) -> FloatArray:
    """The average training pose, (K, D) in crop coordinates: the best guess that ignores the image.

    Args:
        batches: training examples, without augmentation (`mask` as in `predict_batches`).
        spec: the track.
        on_batch: see `OnBatch`.

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
    sums = distributed.rows_of_all({"total": total[None], "count": count[None]})
    total, count = sums["total"].sum(0), sums["count"].sum(0)
    if not count.all():
        raise UserError(
            f"no mean pose of track '{spec.name}': "
            f"{int((count == 0).sum())} of {spec.num_joints} joints are never labeled"
        )
    return total / count


def center_pose(spec: TrackSpec, mean_pose_crop: FloatArray) -> FloatArray:
    """Every joint at the center of the crop: (K, D) in crop coordinates.

    Where depth is measured from the center its depth is 0; where it is measured from the camera
    (ITOP) a crop has no depth of its own and the mean depth of the training joints stands in.
    """
    pose = np.full((spec.num_joints, spec.joint_dims), spec.crop_size / 2.0)
    if spec.joint_dims == 3:
        relative = spec.depth_reference == "center"
        pose[:, 2] = 0.0 if relative else mean_pose_crop[:, 2].mean()
    return pose


@dataclass(frozen=True, eq=False)
class Comparison:
    """Methods side by side on N frames of K joints: the contents of a report.

    Attributes:
        spec: the track.
        scores: method → scores of the same frames; the first is the one a report is about.
        labels: of the N frames; `Frames` where a data set is given.
        joints_uvd: method → (N, K, D) predictions, of the methods that are drawn (a baseline is not).
        fetch: row → example with its `canvas`, as the input pipeline stores it; None: no depth to draw on.
        own_rows: table → row of the paper's Tables 7 to 10 that the main method is (`published.rows_of`).
    """

    spec: TrackSpec
    scores: Mapping[str, Scores]
    labels: JointSet
    joints_uvd: Mapping[str, FloatArray] = field(default_factory=dict)
    fetch: Callable[[int], Batch] | None = None
    own_rows: Mapping[str, str] = field(default_factory=dict)

    def marked(self) -> "Comparison":
        """The same, methods under names that hold their caveats (`scores.marked`)."""
        names = dict(zip(self.scores, marked(self.scores), strict=True))
        joints = {names[name]: uvd for name, uvd in self.joints_uvd.items()}
        return replace(self, scores=marked(self.scores), joints_uvd=joints)

    @property
    def main(self) -> str:
        """The method the report is about."""
        return next(iter(self.scores))


def center_distances(comparison: Comparison) -> tuple[FloatArray, str]:
    """How far every labeled joint lies from the center of the crop.

    Returns:
        (N, K) distances, NaN for a joint without label, and what they are, with the unit:

        * crop around a 3D center: mm from it, in space;
        * crop by a box: px of the crop, in the image, from the middle of the box;
        * no data set, so no crop: mm (px in 2D) from the mean of the frame's labeled joints.
    """
    spec, frames = comparison.spec, comparison.labels
    points = np.where(frames.labeled[..., None], frames.joints_uvd, np.nan)
    if isinstance(frames, Frames) and spec.crop_by == "box":
        in_crop = geometry.frame_to_crop(points[..., :2], frames.box_px, spec.crop_size)
        distance = np.linalg.norm(in_crop - spec.crop_size / 2.0, axis=-1)
        return distance, "distance from the crop center (px of the crop)"
    if isinstance(frames, Frames) and spec.joint_dims == 3:
        points, centers = (
            to_camera(uvd, frames.camera) for uvd in (points, frames.center_uvd[:, None])
        )
        return np.linalg.norm(points - centers, axis=-1), "distance from the crop center (mm)"
    if spec.joint_dims == 3:
        assert spec.camera is not None, "joints were scored with it"
        points = geometry.uvd_to_xyz(points, spec.camera)
    count = np.maximum(frames.labeled.sum(1), 1)[:, None, None]
    middle = np.nansum(points, axis=1, keepdims=True) / count
    unit = comparison.scores[comparison.main].unit
    return np.linalg.norm(
        points - middle, axis=-1
    ), f"distance from the mean labeled joint ({unit})"
