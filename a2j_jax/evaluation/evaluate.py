"""Run a predictor over every frame of a data set, once, and map its joints back to the camera.

A network predicts in crop coordinates. Each prediction goes crop -> frame (the same clipped box the crop was cut from)
-> camera millimeters (that frame's own camera) -> error. Baselines take the same way back.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tensorflow_datasets.core import DatasetBuilder

from a2j_jax import distributed
from a2j_jax.data import crops, pipeline
from a2j_jax.data.crops import Batch
from a2j_jax.data.pipeline import OnBadExample
from a2j_jax.errors import UserError
from a2j_jax.evaluation.joint_files import JointSet
from a2j_jax.evaluation.scores import Scores, score_predictions, to_camera
from a2j_jax.geometry import Float64
from a2j_jax.log import logger, progress
from a2j_jax.tracks import PUBLISHED_FRAMES, TrackRecord, TrackSpec

#: batch -> joints in crop coordinates (B, K, D) and their confidence (B, K); may be device arrays.
PredictFn = Callable[[Batch], tuple[ArrayLike, ArrayLike]]
#: A name and its value, for the end of a report.
Fact = tuple[str, str]

# How facts name the source of crops, by `TrackSpec.crop_by`.
_CROPS_FROM = {"box": "boxes from", "center": "centers from"}
# The arrays of a batch that `Frames` has.
_ARRAYS = ("joints_uvd", "valid", "box_px", "center_uvd", "camera", "index")
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
    box_px: Float64
    center_uvd: Float64
    camera: Float64


class EvaluationResult(NamedTuple):
    """Predictions of every frame, the frames with their labels, and the scores."""

    predictions: JointSet
    frames: Frames
    scores: Scores


class SplitToScore(NamedTuple):
    """A split of a built data set, to be predicted or scored."""

    dir: str | Path  # TFDS data directory, or the folder of one data set
    split: str = "test"  # a slice such as "test[:100]" counts as the split
    batch_size: int = 64  # of all processes together
    unclipped_boxes: bool = False  # see `with_unclipped_boxes`
    on_bad_example: OnBadExample = "fail"  # "skip" leaves out frames that cannot be read

    @contextmanager
    def batches(self, track: TrackSpec, title: str) -> Iterator[Iterator[Batch]]:
        """The batches of this process, with a progress bar.

        Raises:
          UserError: there is no such split, or examples do not fit the track.
        """
        count = pipeline.num_frames(self.dir, track, self.split) // distributed.count()
        found = pipeline.eval_batches(
            self.dir, track, self.split, self.batch_size, on_bad_example=self.on_bad_example
        )
        with progress(title, count, "frames") as advance:
            batches = counting(found, advance)
            yield with_unclipped_boxes(batches) if self.unclipped_boxes else batches


def counting(batches: Iterable[Batch], on_batch: Callable[[int], None]) -> Iterator[Batch]:
    """The batches; after each, `on_batch` is called with its number of counted frames."""
    for batch in batches:
        yield batch
        on_batch(int(_counted_rows(batch).sum()))


def evaluate_batches(
    predict_fn: PredictFn, batches: Iterable[Batch], track: TrackSpec
) -> EvaluationResult:
    """Predict and score every frame exactly once; arguments as `predict_batches`.

    Raises:
      UserError: no frames, or none with a label.
      ValueError: a frame that appears twice; a predicted joint that is not finite.
    """
    predictions, frames = predict_batches(predict_fn, batches, track)
    scores = score_frames(predictions.joints_uvd, frames, track)
    return EvaluationResult(predictions, frames, scores)


def predict_batches(
    predict_fn: PredictFn, batches: Iterable[Batch], track: TrackSpec
) -> tuple[JointSet, Frames]:
    """Predict every frame exactly once, labeled or not.

    Args:
      predict_fn: its result is read one batch late, so that the device computes while the next one is prepared.
      batches: of the input pipeline; `mask` (B,) marks the rows that count (all of them without it).

    Returns:
      Everything in the order of `index`, whatever the order of the batches; where several processes share the frames,
      all of them in each.

    Raises:
      UserError: no frames.
      ValueError: a frame that appears twice.
    """

    def predicted() -> Iterator[tuple[Batch, dict[str, ArrayLike]]]:
        waiting: list[tuple[Batch, dict[str, ArrayLike]]] = []
        for batch in batches:
            joints, confidence = predict_fn(batch)
            yield from waiting
            waiting = [(batch, {"joints_crop": joints, "confidence": confidence})]
        yield from waiting

    columns = _gather(predicted(), track)
    frames = _frames(columns)
    uvd = _to_frame(columns["joints_crop"], frames, track)
    xyz = to_camera(uvd, frames.camera) if track.joint_dims == 3 else None
    found = JointSet(uvd, None, columns["confidence"], xyz, frames.index, frames.frame_id)
    return found, frames


def read_frames(batches: Iterable[Batch], track: TrackSpec) -> Frames:
    """Read the labels of a data set without predicting; arguments and errors as `predict_batches`."""
    return _frames(_gather(((batch, {}) for batch in batches), track))


def with_unclipped_boxes(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Replace each crop box by the box before it was clipped to the frame, to map joints back by it.

    The official program does so on ITOP and K2HPD, although it crops, and trains on labels, by the clipped box:
    joints are off by about a pixel where a box reaches over the border (70 % of the published boxes of ITOP's
    side view).
    """
    for batch in batches:
        yield {**batch, "box_px": batch["window_px"]}


def _gather(
    batches: Iterable[tuple[Batch, Mapping[str, ArrayLike]]], track: TrackSpec
) -> dict[str, NDArray[Any]]:
    """One array per name, of the counted rows of all batches and their outputs, in the order of `index`."""
    rows: dict[str, list[NDArray[Any]]] = defaultdict(list)
    for batch, outputs in batches:
        keep = _counted_rows(batch)
        for name in (*_ARRAYS, *((_NAME,) if _NAME in batch else ())):
            rows[name].append(np.asarray(batch[name])[keep])
        for name, values in outputs.items():
            rows[name].append(np.asarray(values, np.float64)[keep])
    columns = {name: np.concatenate(parts) for name, parts in rows.items()}
    if _NAME in columns:  # as wide as the longest name of all processes
        width = np.array([max(columns[_NAME].itemsize, 1)])
        width = distributed.rows_of_all({"width": width})["width"]
        columns[_NAME] = columns[_NAME].astype(f"S{width.max()}")
    columns = distributed.rows_of_all(columns)
    if not columns or not len(columns["index"]):
        raise UserError(f"no frames of track '{track.name}' to evaluate: the split is empty")
    index, order = np.unique(columns["index"], return_index=True)
    if len(index) < len(columns["index"]):
        repeated = np.delete(columns["index"], order)
        raise ValueError(f"frame {repeated.min()} was evaluated more than once")
    return {name: values[order] for name, values in columns.items()}


def _frames(columns: Mapping[str, NDArray[Any]]) -> Frames:
    arrays: dict[str, Any] = {name: columns[name] for name in _ARRAYS}
    for name in ("joints_uvd", "box_px", "center_uvd", "camera"):
        arrays[name] = arrays[name].astype(np.float64)
    if _NAME in columns:
        arrays[_NAME] = np.char.decode(columns[_NAME], "utf-8", "replace")
    return Frames(**arrays)


def _to_frame(joints_crop: NDArray[Any], frames: Frames, track: TrackSpec) -> Float64:
    """(N, K, D) joints in crop coordinates -> in the frame, by the box that each crop was cut from."""
    return crops.joints_to_frame(joints_crop, frames.box_px, frames.center_uvd[:, 2], track)


def _counted_rows(batch: Batch) -> NDArray[np.bool_]:
    return np.asarray(batch.get("mask", np.ones(len(batch["index"]))), bool)


def score_frames(joints_uvd: ArrayLike, labels: JointSet, track: TrackSpec) -> Scores:
    """Score (N, K, D) joints of labeled frames: those of a data set with a camera each, others with the track's.

    Raises:
      UserError: no frame has a label.
      ValueError: shapes that differ; a predicted joint that is not finite.
    """
    if not labels.labeled.any():
        raise UserError(
            f"none of the {len(labels.joints_uvd)} frames of track '{track.name}' has a label: "
            "there is nothing to score; choose a labeled split"
        )
    cameras = labels.camera if isinstance(labels, Frames) else None
    return score_predictions(joints_uvd, labels.joints_uvd, track, labels.valid, cameras)


def score_constant_pose(pose_crop: ArrayLike, frames: Frames, track: TrackSpec) -> Scores:
    """Score one pose, (K, D) in crop coordinates, as the prediction of every frame: a baseline."""
    poses = np.broadcast_to(np.asarray(pose_crop, np.float64), frames.joints_uvd.shape)
    return score_frames(_to_frame(poses, frames, track), frames, track)


def mean_pose(batches: Iterable[Batch], track: TrackSpec) -> Float64:
    """The average pose of training examples, (K, D) in crop coordinates: the best guess that ignores the image.

    Raises:
      UserError: no frames, or a joint that no frame labels.
    """
    total = np.zeros((track.num_joints, track.joint_dims))
    count = np.zeros((track.num_joints, 1))
    for batch in batches:
        keep = _counted_rows(batch)
        joints, boxes, centers, valid = (
            np.asarray(batch[name])[keep]
            for name in ("joints_uvd", "box_px", "center_uvd", "valid")
        )
        in_crop = crops.joints_to_crop(joints, boxes, centers[:, 2], track)
        total += np.where(valid[..., None], in_crop, 0.0).sum(0)
        count += valid.sum(0)[:, None]
    sums = distributed.rows_of_all({"total": total[None], "count": count[None]})
    total, count = sums["total"].sum(0), sums["count"].sum(0)
    if not count.all():
        raise UserError(
            f"no mean pose of track '{track.name}': "
            f"{int((count == 0).sum())} of {track.num_joints} joints are never labeled"
        )
    return total / count


def center_pose(track: TrackSpec, mean_pose_crop: Float64) -> Float64:
    """Every joint at the center of the crop: (K, D) in crop coordinates.

    Where depth is measured from the camera (ITOP), a crop has no center depth: the mean of the training joints.
    """
    pose = np.full((track.num_joints, track.joint_dims), track.crop_size / 2.0)
    if track.joint_dims == 3:
        pose[:, 2] = 0.0 if track.depth_reference == "center" else mean_pose_crop[:, 2].mean()
    return pose


# --- What a data set states about a split


class SplitInfo(NamedTuple):
    """What the metadata of a built data set state about a split; less is known of older ones."""

    facts: list[Fact]  # for the end of a report
    total: int | None  # frames as published or shipped; None: unknown
    centers: dict[str, int] | None  # where its crops come from, source -> frames; None: unknown
    record: TrackRecord  # of predictions of its frames: the track's, with the camera that the data set states

    def mark(self, scores: Scores) -> Scores:
        """Scores with their origin, see `Scores.caveat`."""
        return replace(scores, frames_of=self.total, centers=self.centers)


def split_info(found: DatasetBuilder, track: TrackSpec, split: str) -> SplitInfo:
    """Read the metadata of a data set, found by `pipeline.find_dataset`; a slice counts as its split.

    Raises:
      UserError: metadata of another form than any version has written.
    """
    try:
        return _split_info(found, track, split)
    except (AttributeError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{found.data_path}/metadata.json: is damaged ({error}); build the data set again"
        ) from error


def _split_info(found: DatasetBuilder, track: TrackSpec, split: str) -> SplitInfo:
    stated, name = found.info.metadata or {}, split.split("[")[0]
    provenance, statistics = stated.get("provenance", {}), stated.get("statistics")
    centers = provenance.get("centers", {}).get(name) or None
    skipped = stated.get("skipped", {}).get(name, {})
    facts = [("data set", str(found.data_path)), ("split", split)]
    for label, counts in ((_CROPS_FROM[track.crop_by], centers), ("left out", skipped)):
        if counts:
            told = ", ".join(f"{source} ({count:,} frames)" for source, count in counts.items())
            facts.append((label, told))
    facts += [("note", note) for note in provenance.get("notes", {}).get(name, ())]
    if statistics:
        told = f"mean {statistics['mean']:.4f}, std {statistics['std']:.4f}"
        facts.append(("training crops", told))
    built = found.info.splits[name].num_examples + sum(skipped.values())
    shipped = provenance.get("frames", {}).get(name, 0)
    total = max(built, published_frames(track, split), shipped)
    record = TrackRecord.of_dataset(stated, found.name)
    own = {name: getattr(record, name) for name in ("camera", "frame_size")}
    given = {name: value for name, value in own.items() if value is not None}
    return SplitInfo(facts, total or None, centers, replace(TrackRecord.of(track), **given))


def published_frames(track: TrackSpec, split: str) -> int:
    """The number of frames of a split as published; 0: unknown."""
    return PUBLISHED_FRAMES.get(track.name, {}).get(split.split("[")[0], 0)


def log_crops(facts: Sequence[Fact]) -> None:
    """Log the source of the crops: scores of two sources cannot be compared."""
    for name, value in facts:
        if name in _CROPS_FROM.values():
            logger.info(f"crop {name} {value}")
