"""Data sets on disk: the format of an example, statistics, shards, and the TFDS builder that writes a reader's frames.

A data set is a *reader* (its frames) and a `TrackSpec` (their constants). Most readers are a
`tfds_builders.reader.RawReader` of a `RawDataset`; `tfds_builders.rendered` renders its frames.

A shard is a range of frames: where it begins and ends depends on nothing but their number, so its bytes do not depend
on who writes it, this process, several or Beam's. TFDS's own writer keeps a split in memory, or on disk with
TensorFlow's file functions; a million frames need neither. TFDS writes into a temporary folder and renames it at the
very end, so that a killed build never looks complete. Files are `array_record`; TensorFlow is not needed.
"""

import contextlib
import glob
import io
import multiprocessing
import os
import pickle
import shlex
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from a2j_jax.data.crops import Crop, Example, shapes_and_dtypes
from a2j_jax.errors import UserError, in_one_line
from a2j_jax.geometry import center_crop, frame_to_crop
from a2j_jax.log import Advance, progress
from a2j_jax.tracks import TrackRecord, TrackSpec
from tfds_builders.raw_files import RawDataset, counted

MOST_COUNTS = (
    65535  # counts that a canvas can store; also how sensors mark a pixel that is saturated
)
# Distance in depth from the joints of a body, whose track has no depth window, up to which readings are near, mm.
_BODY_WINDOW_MM = 500.0
_FRAMES_PER_SHARD = 4096
# One record per chunk: random access. zstd:1 writes twice as fast as the default and takes 10 % more.
_WRITER_OPTIONS = "group_size:1,zstd:1"


# --- Examples


@dataclass(frozen=True, slots=True)
class Skipped:
    """A frame that did not become an example, and why, in one line; `index` and `frame_id` as of examples."""

    index: int
    frame_id: str
    reason: str


Outcome = Example | Skipped
# Reads some frames, in order, wherever it is called: worker processes get a pickled copy.
Job = Callable[[], Iterator[Outcome]]


def features(track: TrackSpec) -> tfds.features.FeaturesDict:
    """An example on disk, of the arrays that `a2j_jax.data.crops` describes: not normalized, not augmented."""
    encodings = {"canvas": "bytes"}
    return tfds.features.FeaturesDict(
        {
            **{
                name: tfds.features.Tensor(
                    shape=shape, dtype=dtype, encoding=encodings.get(name, "none")
                )
                for name, (shape, dtype) in shapes_and_dtypes(track).items()
            },
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
    joints_uvd: npt.ArrayLike | None,
    center_uvd: npt.ArrayLike | None = None,
) -> Example:
    """Puts one example together; see `a2j_jax.data.crops` for units.

    Args:
      track, index, frame_id, crop: of the frame.
      joints_uvd: (K, 3) or (K, 2), NaN where a joint is not labeled; None: no joint is.
      center_uvd: (3,); zeros by default.

    Raises:
      UserError: the labels do not have the track's number of joints.
    """
    expected = (track.num_joints, track.joint_dims)
    joints = np.full(expected, np.nan) if joints_uvd is None else np.asarray(joints_uvd)
    if joints.shape != expected:
        raise UserError(
            f"frame {frame_id!r}: labels of shape {joints.shape}, track {track.name!r} has "
            f"{expected[0]} joints of {expected[1]} numbers; is this the right label file?"
        )
    return {
        "canvas": crop.canvas,
        # Finite everywhere: a joint without a label must not turn a gradient into NaN.
        "joints_uvd": np.where(np.isfinite(joints), joints, 0.0).astype(np.float32),
        "valid": np.isfinite(joints).all(-1),
        "box_px": np.asarray(crop.box_px, np.float64),
        "window_px": np.asarray(crop.window_px, np.float64),
        "center_uvd": np.asarray((0, 0, 0) if center_uvd is None else center_uvd, np.float32),
        "camera": np.float32(track.camera.as_array() if track.camera else np.zeros(4)),
        "index": index,
        "frame_id": frame_id,
    }


# --- Statistics


@dataclass(frozen=True)
class Tally:
    """The outcome of frames: added up shard by shard, in order, whoever counted them.

    Attributes:
      skipped: frames that did not become examples.
      count: pixels of the crops.
      total: sum of their values, in the track's image unit.
      squares: sum of their squares.
      no_center: frames without a reading within the depth window of their center.
      no_labels: frames without a reading within the depth window of their labels, where these are in the crop.
      apart: frames whose labels are outside the crop, or farther from its center than the depth window.
      beyond: frames with readings beyond what is stored.
    """

    skipped: tuple[Skipped, ...] = ()
    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    no_center: int = 0
    no_labels: int = 0
    apart: int = 0
    beyond: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(**{key: value + vars(other)[key] for key, value in vars(self).items()})

    @property
    def mean(self) -> float:
        """Mean of all pixels."""
        return self.total / self.count

    @property
    def std(self) -> float:
        """Standard deviation of all pixels (population)."""
        return max(self.squares / self.count - self.mean**2, 0.0) ** 0.5


def window_mm(track: TrackSpec) -> float:
    """Largest distance in depth of the object's readings from its center or labels, mm."""
    return track.depth_window_mm or _BODY_WINDOW_MM


def tally_of(example: Example, track: TrackSpec) -> Tally:
    """Sums over one crop, in the unit that `TrackSpec.mean` and `.std` normalize, and its oddities."""
    canvas, center_mm = example["canvas"], float(example["center_uvd"][2])
    crop = center_crop(canvas, track.crop_size)
    image = crop.astype(np.float64) * (track.storage_unit_mm / track.image_unit_mm)
    no_center = False
    if track.depth_reference == "center":
        image -= center_mm / track.image_unit_mm
        far = np.abs(image) >= window_mm(track) / track.image_unit_mm
        no_center = not np.any(crop[~far])
        if track.depth_window_mm is not None:
            image[far] = 0.0
    no_labels, apart = _labels_disagree(example, track)
    # Not a dot product: BLAS would wake all its threads for each of a million small crops.
    return Tally(
        count=image.size,
        total=float(image.sum()),
        squares=float(np.square(image).sum()),
        no_center=int(no_center),
        no_labels=int(no_labels),
        apart=int(apart),
        beyond=int(track.frame_format != "stretch8" and canvas.max() == MOST_COUNTS),
    )


def _labels_disagree(example: Example, track: TrackSpec) -> tuple[bool, bool]:
    """`no_labels` and `apart` of one crop, see `Tally`; both False without 3D labels."""
    joints = np.asarray(example["joints_uvd"], np.float64)[np.asarray(example["valid"], bool)]
    if joints.shape[-1] != 3 or not len(joints):
        return False, False
    canvas, window = example["canvas"], window_mm(track)
    at = frame_to_crop(joints[:, :2], example["box_px"], track.crop_size) + track.margin
    low = np.maximum(np.floor(at.min(axis=0)) - 1, 0)
    high = np.minimum(np.ceil(at.max(axis=0)) + 1, track.canvas_size - 1)
    if (low > high).any():
        return False, True
    nearest, farthest = joints[:, 2].min() - window, joints[:, 2].max() + window
    (x0, y0), (x1, y1) = low.astype(int), high.astype(int)
    readings = canvas[y0 : y1 + 1, x0 : x1 + 1]
    lowest, highest = max(nearest / track.storage_unit_mm, 1), farthest / track.storage_unit_mm
    near = np.any((readings >= lowest) & (readings <= highest))
    center_mm = float(example["center_uvd"][2])
    return not near, track.crop_by == "center" and not nearest <= center_mm <= farthest


# --- Shards


class Shard(NamedTuple):
    """A shard that was written: its file, how many examples that holds, their bytes before compression."""

    path: str
    examples: int
    num_bytes: int
    tally: Tally


class Workers(NamedTuple):
    """Processes that write shards.

    Attributes:
      pool: of them.
      lifeline: nothing is ever sent; once it is closed, also by the death of this process, they end.
    """

    pool: Executor
    lifeline: Connection

    def stop(self) -> None:
        """Ends them, whatever they are doing."""
        self.lifeline.close()
        self.pool.shutdown(cancel_futures=True)


def shard_ranges(frames: int, num_shards: int | None) -> list[range]:
    """The frames of every shard: `num_shards` (about 4,096 frames each by default) even parts."""
    count = min(num_shards or -(-frames // _FRAMES_PER_SHARD), frames)
    edges = [round(frames * shard / count) for shard in range(count + 1)]
    return [range(*edge) for edge in pairwise(edges)]


def write_shards(
    jobs: Iterable[Job],
    paths: list[str],
    track: TrackSpec,
    workers: Workers | None,
    advance: Advance,
) -> list[Shard]:
    """Runs every job and writes what it yields to its path, one shard each.

    Args:
      jobs, paths, track: of the shards, and of their examples.
      workers: from `worker_pool`; None: this process does it all.
      advance: called with the number of frames finished, now and then; with workers, once a shard.

    Raises:
      BrokenProcessPool: a worker was killed.
    """
    shards = zip(jobs, paths, strict=True)
    if workers is None:
        return [_write_shard(job, path, track, advance) for job, path in shards]
    try:
        with _signals_held():
            futures = [workers.pool.submit(_write_shard, job, path, track) for job, path in shards]
        for future in as_completed(futures):
            shard = future.result()
            advance(shard.examples + len(shard.tally.skipped))
    except BaseException:
        workers.stop()  # the caller removes what they wrote: they must not write more
        raise
    return [future.result() for future in futures]


def _write_shard(
    job: Job, path: str, track: TrackSpec, advance: Advance = lambda frames: None
) -> Shard:
    encode = features(track)
    serializer = ExampleSerializer(encode.get_serialized_info())
    skipped: list[Skipped] = []
    examples, num_bytes, tally = 0, 0, Tally()
    writer = ArrayRecordWriter(path, _WRITER_OPTIONS)
    try:
        for outcome in job():
            if isinstance(outcome, Skipped):
                skipped.append(outcome)
            else:
                proto = serializer.get_tf_example(encode.encode_example(outcome))
                # As TFDS serializes, but with its map in order: otherwise bytes differ between processes.
                record = proto.SerializeToString(deterministic=True)
                writer.write(record)
                examples, num_bytes = examples + 1, num_bytes + len(record)
                tally += tally_of(outcome, track)
            advance(1)
    finally:
        writer.close()
    return Shard(path, examples, num_bytes, tally + Tally(tuple(skipped)))


@contextlib.contextmanager
def worker_pool(num_processes: int) -> Iterator[Workers | None]:
    """Starts worker processes for one build; None for a single process, which works alone."""
    if num_processes <= 1:
        yield None
        return
    # "spawn": a forked copy of a process that has started JAX's threads may deadlock.
    context = multiprocessing.get_context("spawn")
    watched, lifeline = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(num_processes, context, initializer=_watch, initargs=(watched,))
    workers = Workers(pool, lifeline)
    try:
        yield workers
        pool.shutdown()
    finally:
        workers.stop()
        watched.close()


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Within, Ctrl-C and SIGTERM wait: half-started processes could not be stopped.

    Processes that are started within never see Ctrl-C, which a terminal sends to them too: their parent
    does, and ends them.
    """
    if threading.current_thread() is not threading.main_thread():  # signals are not for this one
        yield
        return
    came: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # is inherited
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
        if came:
            signal.raise_signal(came[0])


def _watch(lifeline: Connection) -> None:
    """Ends a worker process when its parent closes the lifeline, or dies."""

    def watch() -> None:
        lifeline.poll(None)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def write_shards_by_beam(
    jobs: Iterable[Job], paths: list[str], track: TrackSpec, options: str
) -> list[Shard]:
    """As `write_shards`, the same bytes, by an Apache Beam pipeline with one element per shard.

    Jobs and their results are files beside the shards, which all workers must see under these paths. Through Beam goes
    nothing but the names of these files, so that its memory does not grow with the number of frames.

    Raises:
      UserError: as `pipeline_of`; a job raised it; the pipeline failed.
    """
    pipeline = pipeline_of(options)
    import apache_beam as beam

    for job, path in zip(jobs, paths, strict=True):
        with open(f"{path}.job", "wb") as file:
            pickle.dump((job, track), file)
    _ = pipeline | beam.Create(paths, reshuffle=True) | beam.Map(_run_job_file)
    try:
        pipeline.run().wait_until_finish()
    except Exception as error:  # of any runner
        raise UserError(f"--beam {options!r} failed: {in_one_line(error)}") from error
    outcomes = []
    for path in paths:
        with open(f"{path}.done", "rb") as file:
            outcomes.append(pickle.load(file))
        for written in glob.glob(f"{glob.escape(path)}.*"):
            os.unlink(written)
        if isinstance(outcomes[-1], UserError):
            raise outcomes[-1]
    return outcomes


def pipeline_of(options: str) -> Any:
    """An empty Beam pipeline with the options of a command line, e.g. "--runner=FlinkRunner --flink_master=HOST:8081".

    Raises:
      UserError: Apache Beam, or a package of the runner, is not installed; an option that Beam does not know (those of
        runners with a job server are known to that), or a wrong value of one.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
        from apache_beam.runners.portability.portable_runner import PortableRunner
    except ImportError as error:
        raise UserError("--beam needs Apache Beam: pip install 'a2j-jax[beam]'") from error
    wrong = f"--beam {options!r}"
    printed = io.StringIO()
    try:
        parsed = PipelineOptions(shlex.split(options))
        with contextlib.redirect_stderr(printed):
            known, given = (parsed.get_all_options(retain_unknown_options=r) for r in (False, True))
        pipeline = beam.Pipeline(options=parsed)
    except SystemExit as error:  # argparse's
        reason = printed.getvalue().strip().rpartition("error: ")[2]
        raise UserError(f"{wrong}: {reason}") from error
    except (ImportError, ValueError) as error:
        raise UserError(f"{wrong}: {in_one_line(error)}") from error
    if (unknown := sorted(given.keys() - known)) and not isinstance(
        pipeline.runner, PortableRunner
    ):
        raise UserError(f"{wrong}: Apache Beam has no option {', '.join(unknown)}")
    return pipeline


def _run_job_file(path: str) -> None:
    """Writes one shard in a worker of Beam: `PATH.job` to `PATH`, then `PATH.done`, a `Shard` or a `UserError`.

    Runners may repeat an element, even at the same time: files appear complete, under names of this attempt first.
    """
    with open(f"{path}.job", "rb") as file:
        job, track = pickle.load(file)
    attempt = f"{path}.{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}"
    outcome: Shard | UserError
    try:
        outcome = _write_shard(job, attempt, track)._replace(path=path)
        os.replace(attempt, path)
    except UserError as error:
        outcome = error
    with open(attempt, "wb") as file:
        pickle.dump(outcome, file)
    os.replace(attempt, f"{path}.done")


# --- The builder


class Reader(Protocol):
    """The frames of a data set."""

    def frames(self) -> Mapping[str, int]:
        """Split -> number of frames. Splits of zero frames are left out of the data set."""

    def job(self, split: str, indices: range) -> Job:
        """A picklable function that reads some frames; frame i depends on split and i alone."""

    def spec(self) -> dict[str, Any]:
        """Everything the examples depend on, as JSON: a finished build with an equal spec is reused."""

    def provenance(self) -> dict[str, Any]:
        """Facts that evaluation reports, as JSON: `centers`, split -> source of crops -> number of frames."""


@dataclass(frozen=True)
class How:
    """How a build is carried out; the examples do not depend on it.

    Attributes:
      num_processes: that read, cut and write.
      num_shards: files per split; None: one for every 4,096 frames.
      beam_options: build with Apache Beam, with these pipeline options ("" : the local runner);
        None: without. Its workers write, not `num_processes`.
    """

    num_processes: int = 1
    num_shards: int | None = None
    beam_options: str | None = None

    def __post_init__(self) -> None:
        """Validates the numbers and options."""
        for name, value in (("num_processes", self.num_processes), ("num_shards", self.num_shards)):
            if value is not None and value < 1:
                raise UserError(f"{name} {value}: expected 1 or more")
        if self.beam_options is not None:
            pipeline_of(self.beam_options)


@dataclass(eq=False, kw_only=True)
class DepthPoseConfig(tfds.core.BuilderConfig):
    """The configuration of one build: the examples of one crop size, which names it and its folder.

    Attributes:
      track, reader, how: of the examples, of the frames, and see `How`.
      workers: from `worker_pool`; the examples do not depend on it.
      source: whose home page, license and download instructions are kept as metadata.
    """

    name: str = ""
    track: TrackSpec
    reader: Reader
    how: How = How()
    workers: Workers | None = None
    source: type[RawDataset] | None = None

    def __post_init__(self) -> None:
        self.name = f"crop{self.track.crop_size}"


class _Info(tfds.core.DatasetInfo):  # type: ignore[misc]
    """Without a look at Google's bucket: nothing of ours is there, and it leaves a temporary folder."""

    def initialize_from_bucket(self) -> None:
        """Does nothing."""


class DepthPoseBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Builder of every data set: a reader's frames, in order, one TFDS split per split; see `builder_named`.

    Attributes:
      tallies: outcome of every split, once it is built.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}

    def __init__(self, **kwargs: Any) -> None:
        """Takes the arguments of TFDS's builders."""
        self.tallies: dict[str, Tally] = {}
        super().__init__(**kwargs)

    @property
    def plan(self) -> DepthPoseConfig:
        """The configuration, with its own type."""
        return cast(DepthPoseConfig, self.builder_config)

    def _info(self) -> tfds.core.DatasetInfo:
        track, reader, source = self.plan.track, self.plan.reader, self.plan.source
        return _Info(
            builder=self,
            description=f"Depth crops of track {track.name}. {track.notes}",
            features=features(track),
            homepage=source and (source.HOMEPAGE or None),
            license=source and (source.LICENSE or None),
            citation=(source and source.BIBTEX) or track.citation,
            # Frames stay in order on disk; training shuffles by random access.
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(
                spec=reader.spec(),
                provenance=reader.provenance(),
                track=TrackRecord.of(track).to_json(),
                **({"manual_download": source.DOWNLOAD} if source else {}),
            ),
        )

    def _frames(self) -> dict[str, int]:
        return {split: count for split, count in self.plan.reader.frames().items() if count}

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        raise NotImplementedError  # as the next: `_generate_splits` needs neither

    def _generate_examples(self, split: str) -> Any:
        raise NotImplementedError

    def _generate_splits(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig,
    ) -> Sequence[tfds.core.SplitInfo]:
        splits = [self._write_split(split, count) for split, count in self._frames().items()]
        self.info.metadata["skipped"] = {
            split: dict(Counter(skipped.reason for skipped in tally.skipped))
            for split, tally in self.tallies.items()
        }
        if (train := self.tallies.get("train")) and train.count:
            self.info.metadata["statistics"] = {"mean": train.mean, "std": train.std}
        return splits

    def _write_split(self, split: str, frames: int) -> tfds.core.SplitInfo:
        ranges = shard_ranges(frames, self.plan.how.num_shards)
        parts = [os.path.join(self.data_dir, f"{split}.part{i:05d}") for i in range(len(ranges))]
        jobs = (self.plan.reader.job(split, indices) for indices in ranges)
        track, beam_options = self.plan.track, self.plan.how.beam_options
        if beam_options is not None:
            shards = write_shards_by_beam(jobs, parts, track, beam_options)
        else:
            with progress(f"{self.name} {split}", frames, "frames") as advance:
                shards = write_shards(jobs, parts, track, self.plan.workers, advance)
        self.tallies[split] = tally = sum((shard.tally for shard in shards), Tally())
        filled = [shard for shard in shards if shard.examples]
        if not filled:
            first = tally.skipped[0]
            raise UserError(
                f"{self.name}: none of the {counted(frames, 'frame')} of split {split!r} could be used; "
                f"the first, {first.frame_id}: {first.reason}"
            )
        template = self._get_filename_template(split_name=split)
        for number, shard in enumerate(filled):
            name = template.sharded_filepath(shard_index=number, num_shards=len(filled))
            os.replace(shard.path, name)
        for shard in shards:
            Path(shard.path).unlink(missing_ok=True)
        return tfds.core.SplitInfo(
            name=split,
            shard_lengths=[shard.examples for shard in filled],
            num_bytes=sum(shard.num_bytes for shard in filled),
            filename_template=template,
        )


def builder_named(track: str) -> type[DepthPoseBuilder]:
    """The builder under the name of a track, which is the name of its data set."""

    class Named(DepthPoseBuilder, skip_registration=True):  # type: ignore[call-arg]
        name = track

    return Named
