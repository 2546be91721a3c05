"""Run a predictor over every frame of a data set, once, and map its joints back to the camera.

The network answers in crop coordinates. Here each answer goes crop → frame (the same clipped box
the crop was cut from) → camera millimetres (that frame's own camera) → error. Baselines take the
same way back, so their numbers stand beside the model's.

Several sets of predictions of the same frames, and what is known of those frames: what a report shows.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from a2j_jax import distributed, geometry
from a2j_jax.data import crops
from a2j_jax.data.batch import Batch, FloatArray
from a2j_jax.errors import UserError
from a2j_jax.evaluation import metrics
from a2j_jax.evaluation.joint_files import JointSet
from a2j_jax.evaluation.scores import Scores, marked, score_errors
from a2j_jax.tracks import TrackSpec

#: batch → joints in crop coordinates (B, K, D) and their confidence (B, K); may be device arrays.
PredictFn = Callable[[Batch], tuple[ArrayLike, ArrayLike]]

_Rows = dict[str, list[NDArray[Any]]]
_FRAME_KEYS = ("joints_uvd", "valid", "box_px", "center_uvd", "camera", "index")
_NAME_KEY = "frame_id"


@dataclass(frozen=True)
class Frames:
    """What is known of every evaluated frame, in dataset order (N frames, K joints).

    Attributes:
        joints_uvd: (N, K, D) labels: px px mm, or px px on a 2D track.
        valid: (N, K) bool, which labels exist.
        box_px: (N, 4) the clipped crop box, px of the frame.
        center_uvd: (N, 3) px px mm; zeros where the track crops by box.
        camera: (N, 4) fx fy u0 v0; zeros on a 2D track.
        index: (N,) int64 number of each frame in its distribution, ascending. It has gaps where
            frames were skipped: row n, not `index[n]`, is the frame's position in the split.
        frame_id: (N,) names of the frames, or None.
    """

    joints_uvd: FloatArray
    valid: NDArray[np.bool_]
    box_px: FloatArray
    center_uvd: FloatArray
    camera: FloatArray
    index: NDArray[np.int64]
    frame_id: NDArray[np.str_] | None = None

    def rows(self, taken: NDArray[Any]) -> "Frames":
        """Some of the frames, in the order of `taken`."""
        values = {name: getattr(self, name) for name in (*_FRAME_KEYS, _NAME_KEY)}
        return replace(self, **{n: v[taken] for n, v in values.items() if v is not None})

    @property
    def labelled(self) -> bool:
        """Whether any joint has a label: a challenge's test set has none, and cannot be scored."""
        return bool(self.valid.any())


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
    """Predict and score every frame exactly once: `predict_batches`, then the score.

    Args, Returns: as `predict_batches`.

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
    on_batch: Callable[[int], None] | None = None,
) -> tuple[JointSet, Frames]:
    """Predict every frame exactly once, labelled or not.

    Args:
        predict_fn: a batch → joints in crop coordinates (B, K, D) and confidence (B, K). The result
            is read one batch late, so that the device computes while the next one is prepared.
        batches: dicts of arrays as the input pipeline gives them; `mask` (B,) marks the rows that
            count, absent it all do: that is how the last, padded batch counts right.
        spec: the track.
        on_batch: called after each batch with its number of counted frames (for a progress bar).

    Returns:
        Everything in the order of `index`, whatever the order of the batches; where several processes
        share the frames, all of them in each.

    Raises:
        UserError: no frames.
        ValueError: a frame that appears twice.
    """
    waiting: list[tuple[Batch, tuple[ArrayLike, ArrayLike]]] = []
    rows: _Rows = defaultdict(list)

    def collect() -> None:
        batch, (joints_crop, confidence) = waiting.pop()
        keep = _collect_frames(rows, batch)
        rows["joints_crop"].append(np.asarray(joints_crop, np.float64)[keep])
        rows["confidence"].append(np.asarray(confidence, np.float64)[keep])
        if on_batch is not None:
            on_batch(int(keep.sum()))

    for batch in batches:
        answer = predict_fn(batch)
        if waiting:
            collect()
        waiting.append((batch, answer))
    if waiting:
        collect()
    columns = _in_order(rows, spec)
    frames = _frames(columns)
    uvd = crops.joints_to_frame(
        columns["joints_crop"], frames.box_px, frames.center_uvd[:, 2], spec
    )
    xyz = to_camera(uvd, frames.camera) if spec.joint_dims == 3 else None
    found = JointSet(uvd, None, columns["confidence"], xyz, frames.index, frames.frame_id)
    return found, frames


def with_unclipped_boxes(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Batches whose joints come back by the box before it was clipped to the frame.

    So does the official program on ITOP and K2HPD, although its crops, and the labels it trains on, are
    of the clipped box: a joint lands up to a pixel or so off where a box reaches over the border, as 70 %
    of the published boxes of ITOP's side view do.
    """
    for batch in batches:
        yield {**batch, "box_px": batch["window_px"]}


def read_frames(
    batches: Iterable[Batch], spec: TrackSpec, on_batch: Callable[[int], None] | None = None
) -> Frames:
    """What a data set says of its frames, without predicting; arguments as `predict_batches`.

    Raises:
        UserError: no frames.
        ValueError: a frame that appears twice.
    """
    rows: _Rows = defaultdict(list)
    for batch in batches:
        keep = _collect_frames(rows, batch)
        if on_batch is not None:
            on_batch(int(keep.sum()))
    return _frames(_in_order(rows, spec))


def score_frames(joints_uvd: ArrayLike, frames: Frames, spec: TrackSpec) -> Scores:
    """Score joints of these frames, each with its own camera.

    Args:
        joints_uvd: (N, K, 3) px px mm, or (N, K, 2) px on a 2D track.
        frames: the N frames, in the same order.
        spec: the track.

    Raises:
        UserError: no frame has a label.
        ValueError: shapes that differ; a predicted joint that is not finite.
    """
    if not frames.labelled:
        raise UserError(
            f"none of the {len(frames.index)} frames of track '{spec.name}' has a label: "
            "there is nothing to score; choose a labeled split"
        )
    predicted, truth = np.asarray(joints_uvd, np.float64), frames.joints_uvd
    if spec.joint_dims == 3:
        predicted, truth = (to_camera(uvd, frames.camera) for uvd in (predicted, truth))
    errors = metrics.joint_errors(predicted, truth, frames.valid)
    return score_errors(errors, spec, frames.joints_uvd)


def score_constant_pose(pose_crop: ArrayLike, frames: Frames, spec: TrackSpec) -> Scores:
    """Score one pose, given in crop coordinates, as the answer to every frame: a baseline.

    Args:
        pose_crop: (K, D), from `mean_pose` or `center_pose`.
        frames: of an `EvaluationResult`, so that the same frames are counted.
        spec: the track.
    """
    poses = np.broadcast_to(np.asarray(pose_crop, np.float64), frames.joints_uvd.shape)
    uvd = crops.joints_to_frame(poses, frames.box_px, frames.center_uvd[:, 2], spec)
    return score_frames(uvd, frames, spec)


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
    sums = distributed.rows_of_all({"total": total[None], "count": count[None]})
    total, count = sums["total"].sum(0), sums["count"].sum(0)
    if not count.all():
        raise UserError(
            f"no mean pose of track '{spec.name}': "
            f"{int((count == 0).sum())} of {spec.num_joints} joints are never labeled"
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


def to_camera(uvd: FloatArray, cameras: FloatArray) -> FloatArray:
    """(N, K, 3) px px mm with each frame's own (N, 4) camera → mm. One call per distinct camera."""
    xyz = np.empty_like(uvd)
    distinct, which = np.unique(cameras, axis=0, return_inverse=True)
    for number, values in enumerate(distinct):
        taken = which.reshape(-1) == number
        xyz[taken] = geometry.uvd_to_xyz(uvd[taken], geometry.Camera.from_array(values))
    return xyz


def _collect_frames(rows: _Rows, batch: Batch) -> NDArray[np.bool_]:
    """Append what a batch says of its counted frames; returns which rows those are."""
    keep = _counted_rows(batch)
    for name in (*_FRAME_KEYS, *((_NAME_KEY,) if _NAME_KEY in batch else ())):
        rows[name].append(np.asarray(batch[name])[keep])
    return keep


def _in_order(rows: _Rows, spec: TrackSpec) -> dict[str, NDArray[Any]]:
    """One array per name, its rows in the order of `index`."""
    columns = {name: np.concatenate(parts) for name, parts in rows.items() if parts}
    if _NAME_KEY in columns:  # as wide as the longest name of all processes
        width = np.array([max(columns[_NAME_KEY].itemsize, 1)])
        width = distributed.rows_of_all({"width": width})["width"]
        columns[_NAME_KEY] = columns[_NAME_KEY].astype(f"S{width.max()}")
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
    return Frames(
        joints_uvd=columns["joints_uvd"].astype(np.float64),
        valid=columns["valid"].astype(bool),
        box_px=columns["box_px"].astype(np.float64),
        center_uvd=columns["center_uvd"].astype(np.float64),
        camera=columns["camera"].astype(np.float64),
        index=columns["index"].astype(np.int64),
        frame_id=np.char.decode(columns[_NAME_KEY], "utf-8", "replace")
        if _NAME_KEY in columns
        else None,
    )


def _counted_rows(batch: Batch) -> NDArray[np.bool_]:
    if "mask" in batch:
        return np.asarray(batch["mask"], bool)
    return np.ones(len(np.asarray(batch["index"])), bool)


#: row of a comparison → that example, as the input pipeline stores it.
FetchExample = Callable[[int], Batch]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Methods side by side on N frames of K joints.

    Attributes:
        spec: the track.
        scores: method → scores of the same frames; the first is the one a report is about.
        labels_uvd: (N, K, D) px px mm, or px px on a 2D track.
        valid: (N, K) bool, which labels exist.
        joints_uvd: method → (N, K, D) predictions, of the methods that are drawn (a baseline is not).
        frames: boxes, centres and cameras; None: labels and predictions are all there is.
        fetch: row → example with its `canvas`; None: no depth to draw on.
        index: (N,) number of each frame in its distribution; None: they are counted.
        own_rows: table → row of the paper's Tables 7 to 10 that the main method is (`paper_tables.rows_of`).
    """

    spec: TrackSpec
    scores: Mapping[str, Scores]
    labels_uvd: FloatArray
    valid: NDArray[np.bool_]
    joints_uvd: Mapping[str, FloatArray] = field(default_factory=dict)
    frames: Frames | None = None
    fetch: FetchExample | None = None
    index: NDArray[np.int64] | None = None
    own_rows: Mapping[str, str] = field(default_factory=dict)

    @property
    def numbers(self) -> NDArray[np.int64]:
        """(N,) number of each frame."""
        return np.arange(len(self.labels_uvd)) if self.index is None else self.index

    def marked(self) -> "Comparison":
        """The same, methods called by names that say what keeps them from standing beside published ones."""
        names = dict(zip(self.scores, marked(self.scores), strict=True))
        joints = {names[name]: uvd for name, uvd in self.joints_uvd.items()}
        return replace(self, scores=marked(self.scores), joints_uvd=joints)

    @property
    def unit(self) -> str:
        """Of all errors: "mm", or "px" on a 2D track."""
        return next(iter(self.scores.values())).unit

    @property
    def main(self) -> str:
        """The method the report is about."""
        return next(iter(self.scores))


def joint_depths_mm(comparison: Comparison) -> FloatArray | None:
    """Distance of every labelled joint from the camera's plane, (N, K) mm; None on a 2D track."""
    if comparison.spec.joint_dims == 2:
        return None
    return np.asarray(comparison.labels_uvd, np.float64)[..., 2]


def center_distances(comparison: Comparison) -> tuple[FloatArray, str]:
    """How far every labelled joint lies from where the crop was centred.

    Returns:
        (N, K) distances, NaN for a joint without label, and what they are, with the unit:

        * crop around a 3D centre: mm from it, in space;
        * crop by a box: px of the crop, in the image, from the middle of the box;
        * no data set, so no crop: mm (px in 2D) from the mean of the frame's labelled joints.
    """
    spec, frames = comparison.spec, comparison.frames
    labels = np.where(comparison.valid[..., None], comparison.labels_uvd, np.nan)
    if frames is not None and spec.crop_by == "box":
        in_crop = geometry.frame_to_crop(labels[..., :2], frames.box_px, spec.crop_size)
        distance = np.linalg.norm(in_crop - spec.crop_size / 2.0, axis=-1)
        return distance, "distance from the crop center (px of the crop)"
    points = labels
    if spec.joint_dims == 3:
        points = to_camera(labels, _cameras(comparison))
    if frames is not None and spec.joint_dims == 3:
        centers = to_camera(frames.center_uvd[:, None], frames.camera)
        return np.linalg.norm(points - centers, axis=-1), "distance from the crop center (mm)"
    count = np.maximum(comparison.valid.sum(1), 1)[:, None, None]
    middle = np.nansum(points, axis=1, keepdims=True) / count
    distance = np.linalg.norm(points - middle, axis=-1)
    return distance, f"distance from the mean labeled joint ({comparison.unit})"


def _cameras(comparison: Comparison) -> FloatArray:
    """(N, 4) camera of every frame: its own, or the track's."""
    if comparison.frames is not None:
        return comparison.frames.camera
    assert comparison.spec.camera is not None, "a 3D track has a camera"
    return np.tile(comparison.spec.camera.as_array(), (len(comparison.labels_uvd), 1))
