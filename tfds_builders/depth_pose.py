"""What every builder here shares: the example on disk, and how frames become a TFDS data set.

A data set is a *reader* (where its frames come from) and a `TrackSpec` (what they are). To add one,
write a reader, a builder class of one line and an entry in `tfds_builders.build`; copy
`tfds_builders/synthetic_hand`.

TFDS writes into a temporary folder and renames it at the very end, so that a killed build never
looks complete. Files are `array_record`; TensorFlow is not needed.
"""

import contextlib
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt
import tensorflow_datasets as tfds

from a2j_jax.crops import Crop
from a2j_jax.errors import UserError
from a2j_jax.geometry import Camera
from a2j_jax.progress import progress
from a2j_jax.tracks import TrackSpec

Example = dict[str, Any]

# Frames handed to a worker process at a time.
_CHUNK = 128


class Reader(Protocol):
    """Where a data set's frames come from. Must survive pickling: worker processes get a copy."""

    def frames(self) -> Mapping[str, int]:
        """Split -> number of frames. Splits of zero frames are left out of the data set."""

    def read(self, split: str, indices: range) -> Iterator[Example]:
        """The examples of some frames, in order; example i depends on split and i alone."""

    def spec(self) -> dict[str, Any]:
        """Everything the examples depend on, as JSON: a finished build of the same is reused."""


@dataclass(eq=False)
class DepthPoseConfig(tfds.core.BuilderConfig):
    """A build: which track, from which reader, by whom.

    Attributes:
      track: sizes and units of the examples; its crop size names the configuration.
      reader: the frames.
      workers: from `worker_pool`; the examples do not depend on it.
    """

    track: TrackSpec | None = None
    reader: Reader | None = None
    workers: "Workers | None" = None


def config_name(track: TrackSpec) -> str:
    """Name of the folder below the data set's that holds the examples of one crop size."""
    return f"crop{track.crop_size}"


def features(track: TrackSpec) -> tfds.features.FeaturesDict:
    """An example on disk. Nothing is normalised, nothing is augmented."""
    size, joints = track.canvas_size, track.num_joints
    return tfds.features.FeaturesDict(
        {
            # Crop and surroundings in track.storage_unit_mm, 0 = no reading.
            "canvas": tfds.features.Tensor(shape=(size, size), dtype=np.uint16, encoding="bytes"),
            # Full frame: px, px, mm (px, px in 2D), and whether each joint is labelled.
            "joints_uvd": tfds.features.Tensor(shape=(joints, track.joint_dims), dtype=np.float32),
            "valid": tfds.features.Tensor(shape=(joints,), dtype=np.bool_),
            # The clipped box the crop was cut from, and the box before clipping; px, x0 y0 x1 y1.
            "box_px": tfds.features.Tensor(shape=(4,), dtype=np.float64),
            "window_px": tfds.features.Tensor(shape=(4,), dtype=np.float64),
            # Centre of the crop, px, px, mm; zeros where the track crops by box.
            "center_uvd": tfds.features.Tensor(shape=(3,), dtype=np.float32),
            # fx, fy, u0, v0 of this frame; zeros where joints are 2D only.
            "camera": tfds.features.Tensor(shape=(4,), dtype=np.float32),
            "index": tfds.features.Scalar(dtype=np.int64),
            "frame_id": tfds.features.Text(),
        }
    )


def make_example(
    track: TrackSpec,
    *,
    index: int,
    frame_id: str,
    crop: Crop,
    joints_uvd: npt.ArrayLike,
    valid: npt.ArrayLike | None = None,
    center_uvd: npt.ArrayLike | None = None,
    camera: Camera | None = None,
) -> Example:
    """Puts one example together; see `features` for units.

    Args:
      track: the track.
      index: position in its split.
      frame_id: how the raw distribution calls the frame.
      crop: from `a2j_jax.crops.cut`.
      joints_uvd: (K, 3) or (K, 2).
      valid: (K,) bool; all joints by default.
      center_uvd: (3,); zeros by default.
      camera: of the frame; the track's by default.

    Raises:
      UserError: the labels do not have the track's number of joints.
    """
    joints = np.asarray(joints_uvd, np.float32)
    expected = (track.num_joints, track.joint_dims)
    if joints.shape != expected:
        raise UserError(
            f"frame {frame_id!r}: labels of shape {joints.shape}, track {track.name!r} has "
            f"{expected[0]} joints of {expected[1]} numbers; is this the right label file?"
        )
    camera = camera or track.camera
    return {
        "canvas": crop.canvas,
        "joints_uvd": joints,
        "valid": np.ones(len(joints), bool) if valid is None else np.asarray(valid, bool),
        "box_px": np.asarray(crop.box_px, np.float64),
        "window_px": np.asarray(crop.window_px, np.float64),
        "center_uvd": np.asarray((0, 0, 0) if center_uvd is None else center_uvd, np.float32),
        "camera": np.zeros(4, np.float32) if camera is None else np.float32(camera.as_array()),
        "index": index,
        "frame_id": frame_id,
    }


class DepthPoseBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Base of all builders: a reader's frames, in order, one TFDS split per split."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}

    @property
    def plan(self) -> DepthPoseConfig:
        """The configuration, with its own type."""
        return cast(DepthPoseConfig, self.builder_config)

    def _info(self) -> tfds.core.DatasetInfo:
        track, reader = self.plan.track, self.plan.reader
        assert track is not None
        assert reader is not None
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"Depth crops of track {track.name}. {track.notes}",
            features=features(track),
            citation=track.citation,
            # Frames stay in order on disk; training shuffles by random access.
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(spec=reader.spec()),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, Example]]]:
        del dl_manager  # The user brings the raw data.
        assert self.plan.reader is not None
        frames = self.plan.reader.frames()
        return {split: self._generate_examples(split) for split in frames if frames[split]}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, Example]]:
        reader = self.plan.reader
        assert reader is not None
        count = reader.frames()[split]
        with progress(f"{self.name} {split}", count, "frames") as advance:
            for index, example in enumerate(read_in_order(reader, split, count, self.plan.workers)):
                advance(1)
                yield index, example


class Workers(NamedTuple):
    """Processes that read, and how many there are."""

    pool: Executor
    processes: int


@contextlib.contextmanager
def worker_pool(num_processes: int) -> Iterator[Workers | None]:
    """Starts worker processes for one build; None for a single process: it reads by itself."""
    if num_processes <= 1:
        yield None
        return
    # "spawn": a forked copy of a process that has started JAX's threads may deadlock.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_processes, context, initializer=_end_with_parent)
    try:
        yield Workers(pool, num_processes)
    finally:
        pool.shutdown(cancel_futures=True)


def read_in_order(
    reader: Reader, split: str, count: int, workers: Workers | None
) -> Iterator[Example]:
    """All examples of a split, in order, read by this process or by several.

    Args:
      reader: the frames.
      split: which of its splits.
      count: how many frames that has.
      workers: from `worker_pool`.

    Yields:
      The same examples whoever reads them.
    """
    if workers is None:
        yield from reader.read(split, range(count))
        return
    # One chunk ahead per process: enough to keep them busy, and memory stays bounded.
    pending: deque[Future[list[Example]]] = deque()
    for start in range(0, count, _CHUNK):
        chunk = range(start, min(start + _CHUNK, count))
        pending.append(workers.pool.submit(_read_chunk, reader, split, chunk))
        if len(pending) > 2 * workers.processes:
            yield from pending.popleft().result()
    while pending:
        yield from pending.popleft().result()


def _read_chunk(reader: Reader, split: str, indices: range) -> list[Example]:
    return list(reader.read(split, indices))


def _end_with_parent() -> None:
    """Worker start-up: leave when the parent is gone, even if it was killed outright."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
