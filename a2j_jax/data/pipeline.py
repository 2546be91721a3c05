"""Examples on disk -> batches of arrays on the host: random access, deterministic shuffle, batch, this process's share.

Augmentation and normalization happen on the device. One thread reads ahead, or some worker processes do. The global
batch does not depend on the number of processes: process r of P has its rows r B/P to (r + 1) B/P.

A split is stored in shards, files in ArrayRecord's format. Every record has a checksum: a flipped bit is detected when
its record is read, and costs that record alone. A truncated file has lost the index at its end, and with it all its
records; the other shards remain readable.
"""

import bisect
import dataclasses
import functools
import itertools
import json
import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import grain
import jax
import numpy as np
import numpy.typing as npt
import tensorflow_datasets as tfds
from absl import flags
from array_record.python import array_record_module
from numpy.typing import NDArray
from tensorflow_datasets.proto import tf_example_pb2

from a2j_jax import stores
from a2j_jax.config import SCENES
from a2j_jax.data.crops import Batch, Example
from a2j_jax.errors import UserError
from a2j_jax.files import (
    check_folder_name,
    file_digest,
    local_path,
    read_json,
    regular_file,
    write_file,
)
from a2j_jax.log import logger
from a2j_jax.tracks import TRACKS, TrackRecord, TrackSpec

OnBadExample = Literal["fail", "skip"]

_skipped: dict[str, int] = {}  # logged message -> number of examples; each is logged once a process


class Damage(NamedTuple):
    """A record or shard that cannot be read: its place and the reason, and how many examples of the split it costs."""

    what: str
    examples: int


class _Unreadable(UserError):
    def __init__(self, damage: Damage, fix: str) -> None:
        self.damage = damage
        super().__init__(f"{damage.what}; {fix}")


def log_skipped(damage: Damage) -> None:
    """Logs what was skipped, the first time in this process."""
    if damage.what not in _skipped:
        _skipped[damage.what] = damage.examples
        skipped = sum(_skipped.values())
        logger.warning(
            f"skipped: {damage.what} ({skipped:,} skipped so far)", extra={"everywhere": True}
        )


class Examples:
    """A split's examples, by their position in it: 0 to `len` - 1. It can be pickled, for other processes.

    Records are decoded to the values that TFDS returns, but straight into the arrays of a batch and in a third of the
    time.
    """

    def __init__(
        self,
        builder: tfds.core.DatasetBuilder,
        split: str,
        on_bad_example: OnBadExample = "fail",
        on_skip: Callable[[Damage], None] = log_skipped,
    ) -> None:
        """Opens no file yet; each shard is opened when the first of its examples is read.

        Args:
          builder: the data set.
          split: a non-empty split of it, or a TFDS slice of one.
          on_bad_example: "fail" raises on an unreadable example, "skip" calls `on_skip` and goes on.
          on_skip: called with the damage, each time that an example is skipped.

        Raises:
          UserError: a file is missing, with "fail".
        """
        self._folder = Path(builder.data_path)
        self._fix = (
            f"delete {self._folder} and build it again, or skip unreadable examples: "
            "--on_bad_example=skip"
        )
        self._split = split
        self._skip, self.on_skip = on_bad_example == "skip", on_skip
        self._shards = builder.info.splits[split].file_instructions
        self._ends = list(itertools.accumulate(shard.take for shard in self._shards))
        self._features = builder.info.features
        self._readers: dict[str, array_record_module.ArrayRecordReader] = {}
        for shard in self._shards:
            if not self._skip and not Path(shard.filename).is_file():
                raise UserError(f"{shard.filename} is missing; {self._fix}")

    def __len__(self) -> int:
        """Number of examples, readable or not."""
        return self._ends[-1]

    def __getitem__(self, row: int) -> Example:
        """The example at a position.

        Raises:
          UserError: it cannot be read; with either `on_bad_example`.
        """
        batch = self._empty(1)
        self._read(row, batch, 0)
        return {name: values[0] for name, values in batch.items()}

    def get(self, row: int) -> Example | None:
        """The example at a position; None where it cannot be read."""
        batch = self._empty(1)
        if not self._try(row, batch, 0):
            return None
        return {name: values[0] for name, values in batch.items()}

    def read(self, rows: Iterable[int]) -> tuple[Batch, NDArray[np.bool_]]:
        """The examples at these positions.

        With "skip", another example of the split substitutes for an unreadable one, always the same one: the result
        depends on the rows and the files alone.

        Returns:
          Their arrays, with one row for each, `frame_id` an array of bytes objects; and which are no substitutes.

        Raises:
          UserError: an example cannot be read, with "fail"; or none of the split can.
        """
        rows = list(map(int, rows))
        batch, own = self._empty(len(rows)), np.ones(len(rows), bool)
        for place, row in enumerate(rows):
            if not self._skip:
                self._read(row, batch, place)
            elif not self._try(row, batch, place):
                own[place] = False
                self._substitute(row, batch, place)
        return batch, own

    def __getstate__(self) -> dict[str, Any]:
        """Without open files."""
        return {**self.__dict__, "_readers": {}}

    def _empty(self, count: int) -> dict[str, NDArray[Any]]:
        """Arrays for some examples."""
        return {
            name: np.empty((count, *feature.shape), feature.np_dtype)
            for name, feature in self._features.items()
        }

    def _read(self, row: int, batch: dict[str, NDArray[Any]], place: int) -> None:
        """Reads an example into a row of a batch; raises `_Unreadable`."""
        number = bisect.bisect_right(self._ends, row)
        shard = self._shards[number]
        position = shard.skip + row - (self._ends[number] - shard.take)
        try:
            if shard.filename not in self._readers:
                reader = array_record_module.ArrayRecordReader(str(shard.filename))
                self._readers[shard.filename] = reader
            (record,) = self._readers[shard.filename].read([position])
            stored = tf_example_pb2.Example.FromString(record).features.feature
            for name, values in batch.items():
                values[place] = _decoded(stored[name], values.dtype, values.shape[1:])
        except MemoryError:
            raise
        except Exception as error:  # array_record, protobuf and numpy raise many kinds
            raise self._unreadable(row, error) from error

    def _try(self, row: int, batch: dict[str, NDArray[Any]], place: int) -> bool:
        """As `_read`, but calls `on_skip` and returns False if the example cannot be read."""
        try:
            self._read(row, batch, place)
            return True
        except _Unreadable as error:
            self.on_skip(error.damage)
            return False

    def _substitute(self, row: int, batch: dict[str, NDArray[Any]], place: int) -> None:
        """Steps through all of the split by about 0.618 of it: damage comes in runs, substitutes must not."""
        count = len(self)
        stride = next(
            n for n in itertools.count(math.ceil(0.618 * count)) if math.gcd(n, count) == 1
        )
        for steps in range(1, count):
            if self._try((row + steps * stride) % count, batch, place):
                return
        raise UserError(
            f"{self._folder}: none of the {count:,} examples of split {self._split!r} can be read; "
            f"delete {self._folder} and build it again"
        )

    def _unreadable(self, row: int, error: Exception) -> _Unreadable:
        """Describes a row's place, whether its record or the entire shard cannot be read, and why."""
        number = bisect.bisect_right(self._ends, row)
        shard, end = self._shards[number], self._ends[number]
        first = end - shard.take  # position in the split of the shard's first example
        path, whole = Path(shard.filename), True
        if not path.is_file():
            reason = "the file is missing"
        # A file without its index opens as one without records.
        elif not array_record_module.ArrayRecordReader(str(path)).num_records():
            reason = f"the file ({path.stat().st_size:,} bytes) is cut off, or damaged at its end"
        else:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            reason, whole = f"cannot be read: {lines[0][:160]}", False
        records, rows = f"record {shard.skip + row - first}", f"example {row}"
        if whole:
            records = f"records {shard.skip} to {shard.skip + shard.take - 1}"
            rows = f"examples {first} to {end - 1}"
        what = f"{path}, {records} ({rows} of split {self._split!r}): {reason}"
        return _Unreadable(Damage(what, shard.take if whole else 1), self._fix)


def _decoded(feature: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any] | bytes:
    """A feature of a record, as TFDS encodes tensors (in bytes, or as lists of numbers), scalars and texts."""
    values = getattr(feature, feature.WhichOneof("kind")).value
    if dtype.kind == "O":
        text: bytes = values[0]
        return text
    if feature.HasField("bytes_list"):
        return np.frombuffer(values[0], dtype).reshape(shape)
    return np.array(values, dtype).reshape(shape)


DIGESTS = "digests.json"
_DESCRIPTIONS = ("dataset_info.json", "features.json", "metadata.json")  # of a TFDS data set

_SHARD = ".array_record"  # in the name of a file of examples
_LOOKED_AT = 4096  # frames of a split, for labels
_SHARED_FROM = 2**16  # bytes of an array: smaller ones are quicker sent than shared
# A second thread would only compete for the interpreter lock.
_READ_AHEAD = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)


def train_batches(
    data_dir: str | Path,
    track: TrackSpec,
    split: str,
    batch_size: int,
    seed: int,
    *,
    on_bad_example: OnBadExample = "fail",
    process_index: int | None = None,
    process_count: int | None = None,
    workers: int = 0,
) -> "Batches":
    """Endless shuffled batches; batch k is a function of (seed, k) and of the files alone.

    Every epoch is a new permutation of all frames. A batch may hold the end of one epoch and the start of the next.

    Args:
      data_dir: a TFDS data directory, or the folder of one data set.
      track: of the examples.
      split: e.g. "train", or a TFDS slice such as "train[:80%]".
      batch_size: B of all processes together.
      seed: of the shuffle, >= 0.
      on_bad_example: with "skip" another example substitutes for one that cannot be read (`Examples.read`).
      process_index: this process; JAX's by default.
      process_count: number of processes; JAX's by default.
      workers: number of processes that read the examples; with 0 a thread of this process does. The batches are
        the same.

    Raises:
      UserError: no such data, an empty split, or examples that do not fit the track; from the iterator, an unreadable
        example.
    """
    examples = _open(data_dir, track, split, on_bad_example)
    rows = _rows_of_process(batch_size, process_index, process_count)
    order = grain.MapDataset.range(len(examples)).shuffle(seed=seed).repeat()

    def read(batch: int) -> Batch:
        # Only this process's rows are looked up: in a large batch, looking up all takes longer than reading.
        found, _ = examples.read(order[int(row)] for row in rows(batch))
        return {name: values for name, values in found.items() if name != "frame_id"}

    return Batches(examples, read, sys.maxsize // batch_size, workers)


def eval_batches(
    data_dir: str | Path,
    track: TrackSpec,
    split: str,
    batch_size: int,
    *,
    on_bad_example: OnBadExample = "fail",
    process_index: int | None = None,
    process_count: int | None = None,
) -> Iterator[Batch]:
    """Every frame of a split once, in order; the last batch is padded, which `mask` marks.

    All batches have B rows, and all processes get the same number of batches. Arguments and errors are those of
    `train_batches`, except that with "skip" the mask leaves out unreadable examples.
    """
    examples = _open(data_dir, track, split, on_bad_example)
    rows_of = _rows_of_process(batch_size, process_index, process_count)
    frames = len(examples)

    def read(batch: int) -> Batch:
        rows = rows_of(batch)
        found, readable = examples.read(np.minimum(rows, frames - 1))
        names = found["frame_id"].astype(np.bytes_)
        return {**found, "frame_id": names, "mask": (rows < frames) & readable}

    return Batches(examples, read, -(-frames // batch_size))


class Batches(Iterator[Batch]):
    """An iterator over numbered batches, which are read ahead. Its state is the number of the next one.

    Skipped examples are logged by this process, even where another one reads.
    """

    def __init__(
        self, examples: Examples, read: Callable[[int], Batch], count: int, workers: int = 0
    ) -> None:
        """For batches 0 to `count` - 1, which `read` returns; it reads these examples and can be pickled."""
        self._examples, self._read, self._count, self._workers = examples, read, count, workers
        self._next = 0
        self._source: grain.DatasetIterator | None = None

    def __next__(self) -> Batch:
        """The next batch.

        Raises:
          UserError: an example cannot be read.
        """
        if self._source is None:
            self._source = self._started()
        try:
            batch, skipped, error = next(self._source)
        except RuntimeError as failure:
            if not self._workers:
                raise
            # A worker was killed, or could not start.
            text = str(failure).splitlines()[0]
            raise UserError(
                f"the processes that read examples ended: {text}; without them: --config.data.workers=0"
            ) from failure
        if self._workers:  # from shared memory, which the workers would have to keep
            batch = {name: np.array(values) for name, values in batch.items()}
        for damage in skipped:
            log_skipped(Damage(*damage))
        if error:
            self.close()
            raise UserError(error)
        self._next += 1
        found: Batch = batch
        return found

    def get_state(self) -> dict[str, int]:
        """Where it stands, as JSON; the same in every process, for any number of them and of workers."""
        return {"next_index": self._next}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Continues from a state."""
        self.close()
        self._next = state["next_index"]

    def close(self) -> None:
        """Ends the readers; the next batch starts others."""
        if self._source is not None:
            self._source.close()
        self._source = None

    def _started(self) -> grain.DatasetIterator:
        examples, read = self._examples, self._read

        def told(number: int) -> tuple[Batch, list[Damage], str]:
            # An error as text: a process cannot always send an exception to another.
            skipped: list[Damage] = []
            examples.on_skip = skipped.append
            try:
                return read(number), skipped, ""
            except UserError as error:
                return {}, skipped, str(error)

        batches = grain.MapDataset.range(self._next, self._count).map(told)
        if not self._workers:
            return iter(batches.to_iter_dataset(_READ_AHEAD))
        flags.FLAGS.mark_as_parsed()  # grain asks absl for its flags
        ahead = batches.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
        shared = grain.experimental.DatasetOptions(min_shm_size=_SHARED_FROM)
        options = grain.MultiprocessingOptions(self._workers, per_worker_buffer_size=2)
        ahead = grain.experimental.WithOptionsIterDataset(ahead, shared)
        return iter(ahead.mp_prefetch(options, worker_init_fn=_begin_worker))


def _begin_worker(number: int, count: int) -> None:
    """In a worker process: Ctrl-C is for the process that it reads for, and it ends with that one."""
    del number, count
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end_with_parent() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def num_frames(data_dir: str | Path, track: TrackSpec, split: str) -> int:
    """Number of frames of a split, readable or not; errors as `train_batches`."""
    frames: int = _find_split(data_dir, track, split).info.splits[split].num_examples
    return frames


def has_labels(
    data_dir: str | Path, track: TrackSpec, split: str, *, on_bad_example: OnBadExample = "fail"
) -> bool:
    """Whether any joint is labeled in a split, judged by 4,096 of its frames; errors as `train_batches`."""
    examples = _open(data_dir, track, split, on_bad_example)
    step = max(len(examples) // _LOOKED_AT, 1)
    return any(examples.read([row])[0]["valid"].any() for row in range(0, len(examples), step))


def example_reader(
    data_dir: str | Path,
    track: TrackSpec,
    split: str,
    evaluated: npt.NDArray[np.int64] | None = None,
) -> Callable[[int], Example]:
    """Random access to single examples: a function from the position in a split to the example.

    Args:
      data_dir: a TFDS data directory, or the folder of one data set.
      track: of the examples.
      split: e.g. "test", or a TFDS slice.
      evaluated: (N,) `index` of the frames that an evaluation counted, in order; positions are then among these.

    Raises:
      UserError: as `train_batches`.
    """
    if evaluated is None:
        return _open(data_dir, track, split, "fail").__getitem__
    examples = _open(data_dir, track, split, "skip")
    skipped = len(examples) - len(evaluated)

    def find(row: int) -> Example:
        # At most `skipped` frames before it were not counted.
        for position in range(row, row + skipped + 1):
            example = examples.get(position)
            if example is not None and example["index"] == evaluated[row]:
                return example
        raise UserError(f"frame {evaluated[row]} of split {split!r} is no longer readable")

    return find


# --- Data sets on disk. Where there is none of the track, or it does not fit, each function raises `UserError`.


def metadata(data_dir: str | Path, track: TrackSpec) -> dict[str, Any]:
    """The builder's metadata of a data set, as JSON.

    "provenance" (center sources, notes), "skipped" (split -> reason -> frames) and "statistics" (mean and std of the
    training crops), each where known.
    """
    return dict(find_dataset(data_dir, track).info.metadata or {})


def depth_unit_mm(data_dir: str | Path, track: TrackSpec) -> float | None:
    """The unit of raw depth that a custom data set was built with, mm per count; None where it is not recorded."""
    spec = metadata(data_dir, track).get("spec")
    told = spec.get("distribution") if isinstance(spec, Mapping) else None
    unit = told.get("depth_unit_mm") if isinstance(told, Mapping) else None
    return float(unit) if isinstance(unit, int | float) and unit > 0 else None


def record_of(data_dir: str | Path, track: TrackSpec) -> TrackRecord:
    """The track's record in a data set."""
    return _record(_newest(data_dir, track))


def place_and_digest(data_dir: str | Path, track: TrackSpec) -> tuple[str, str]:
    """The folder of a data set, and a digest of its descriptions: two with the same have the same examples."""
    folder = Path(_newest(data_dir, track).data_path)
    found = [file_digest(folder / name) for name in _DESCRIPTIONS if (folder / name).exists()]
    return str(folder), " ".join(found)


def as_stored(data_dir: str | Path, track: TrackSpec) -> TrackSpec:
    """The track with the storage unit of a data set, which does not affect scores."""
    unit = record_of(data_dir, track).storage_unit_mm
    return track if unit is None else dataclasses.replace(track, storage_unit_mm=unit)


def find_dataset(data_dir: str | Path, track: TrackSpec) -> tfds.core.DatasetBuilder:
    """The newest data set of a track, at its crop size, below a data directory.

    Args:
      data_dir: a TFDS data directory (`<data_dir>/<track>/<config>/<version>`), or that folder.
      track: of the examples.

    Raises:
      UserError: there is none, or only ones of other shapes; or its track, joints, window or camera differ from
        `track`'s, which would change the meaning of scores.
    """
    builder = _newest(data_dir, track)
    # Frames may be rendered for any camera: each example stores its own.
    rendered = ("camera", "frame_size") if track.name in TRACKS else ()
    found = _record(builder).differences(TrackRecord.of(track), rendered)
    if found:
        raise UserError(
            f"{builder.data_path} was built with other values than those of track {track.name!r}: {'; '.join(found)}; "
            "name the data set built from this track, or build it again"
        )
    return builder


def crop_sizes(data_dir: str | Path, track: TrackSpec) -> list[int]:
    """Crop sizes of the data sets of a track below a data directory, ascending, whatever the size of `track`."""
    records = map(_record, _builders(data_dir, track))
    joints = (None, track.skeleton.joints)
    return sorted({one.crop_size for one in records if one.crop_size and one.joints in joints})


def _record(builder: tfds.core.DatasetBuilder) -> TrackRecord:
    return TrackRecord.of_dataset(builder.info.metadata or {}, builder.name)


def _newest(data_dir: str | Path, track: TrackSpec) -> tfds.core.DatasetBuilder:
    expected = {
        "canvas": (track.canvas_size, track.canvas_size),
        "joints_uvd": (track.num_joints, track.joint_dims),
    }
    found_shapes = []
    for builder in _builders(data_dir, track):
        features = builder.info.features
        shapes = {name: tuple(features[name].shape) for name in expected if name in features}
        if shapes == expected:
            return builder
        found_shapes.append(f"{builder.data_path}: {_listed(shapes)}")
    other = ", ".join(map(str, crop_sizes(data_dir, track)))
    use = f"use what is there by --crop_size {other} (a run by --config.data.crop_size), or "
    raise UserError(
        f"examples do not fit track {track.name!r} at crop size {track.crop_size}: expected {_listed(expected)}; "
        f"found {'; '.join(found_shapes[::-1])}; {use if other else ''}{_how_to_build(data_dir, track)}"
    )


def _builders(data_dir: str | Path, track: TrackSpec) -> list[tfds.core.DatasetBuilder]:
    """The data sets of a track below a data directory, at least one, of any shapes, the newest first."""
    data_dir = _descriptions(data_dir, track.name)
    check_folder_name(data_dir)
    if not data_dir.exists():
        raise UserError(f"no data directory {data_dir}; {_how_to_build(data_dir, track)}")
    if not data_dir.is_dir():
        raise UserError(
            f"data directory {data_dir} is a file; name the folder that `a2j build` wrote to"
        )
    direct = data_dir / "dataset_info.json"
    found = [direct] if direct.exists() else data_dir.glob(f"{track.name}/**/dataset_info.json")
    # A killed build leaves a folder behind that is not a data set.
    folders = [info.parent for info in found if not info.parent.name.startswith("incomplete.")]
    if not folders:
        how = _how_to_build(data_dir, track)
        raise UserError(f"{data_dir} holds no data set of track {track.name!r}; {how}")
    return sorted(map(_builder, folders), key=lambda found: found.version)[::-1]


@functools.cache
def _descriptions(data_dir: str | Path, track: str) -> Path:
    """A data directory with all that is in it but examples: an object store's are fetched once a split is opened."""
    if not stores.is_address(data_dir):
        return local_path(data_dir, "data directory")

    def wanted(file: str) -> bool:
        return _SHARD not in file and ("/" not in file or file.startswith(f"{track}/"))

    return stores.local_copy(data_dir, "data directory", wanted)


@functools.cache
def _fetch_examples(folder: Path, split: str) -> None:
    """Fetches the examples of a split of a data set in an object store."""
    if (address := stores.address_of(folder)) is not None:
        shards = f"-{split}{_SHARD}"
        stores.fetch(address, folder, lambda name: _SHARD not in name or shards in name)


def _listed(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())


def _how_to_build(data_dir: str | Path, track: TrackSpec) -> str:
    # The usual folder of other scenes is called like them.
    name = Path(data_dir).name
    scenes = f" --scenes {name}" if name in SCENES[1:] else ""
    return (
        f"build it: a2j build {track.name}{scenes} --data_dir {data_dir} --crop_size {track.crop_size}, or name the "
        "folder it was built in (--data_dir; --config.data.dir of a run)"
    )


def write_digests(folder: Path) -> None:
    """Writes `digests.json`, the checksums of a finished data set's JSON descriptions."""
    digests = {name: file_digest(folder / name) for name in _DESCRIPTIONS}
    write_file(folder / DIGESTS, json.dumps(digests, indent=2) + "\n")


def _check_digests(folder: Path) -> None:
    """Rejects descriptions that have changed since the build; older data sets have no digests."""
    path = folder / DIGESTS
    if not path.exists():
        return
    digests = read_json(path, "digests of a data set")
    for name in _DESCRIPTIONS:
        file = regular_file(folder / name, "a description of a TFDS data set")
        if not isinstance(digests, dict) or digests.get(name) != file_digest(file):
            raise UserError(
                f"{file} is damaged: it is not as it was when the data set was built; delete {folder} and build it "
                f"again (or delete {DIGESTS} there if you changed the file yourself)"
            )


def _builder(folder: Path) -> tfds.core.DatasetBuilder:
    _check_digests(folder)
    try:
        builder = tfds.builder_from_directory(folder)
        # Otherwise read on first use, where an error of TFDS is not expected.
        dict(builder.info.metadata or {})
        [split.file_instructions for split in builder.info.splits.values()]
        return builder
    except Exception as error:  # TFDS raises many kinds on damaged JSON
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{folder}: not a readable TFDS data set ({reason}); rebuild it") from error


def _find_split(data_dir: str | Path, track: TrackSpec, split: str) -> tfds.core.DatasetBuilder:
    """The data set of a split, which is checked to have examples."""
    builder = find_dataset(data_dir, track)
    folder = Path(builder.data_path)
    name = split.split("[")[0]
    if name not in builder.info.splits:
        splits = ", ".join(builder.info.splits) or "none"
        raise UserError(f"{folder} has no split {name!r} (splits: {splits})")
    try:
        frames = builder.info.splits[split].num_examples
    except (ValueError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"split {split!r} of {folder}: {reason}") from error
    if frames <= 0:  # "test[5:2]" has fewer than none
        raise UserError(f"split {split!r} of {folder} is empty")
    return builder


def _open(
    data_dir: str | Path, track: TrackSpec, split: str, on_bad_example: OnBadExample
) -> Examples:
    builder = _find_split(data_dir, track, split)
    _fetch_examples(Path(builder.data_path), split.split("[")[0])
    return Examples(builder, split, on_bad_example)


def _rows_of_process(
    batch_size: int, process_index: int | None, process_count: int | None
) -> Callable[[int], npt.NDArray[np.int64]]:
    """A function of a batch's number: positions, in the sequence of all examples, of this process's share of it."""
    rank = jax.process_index() if process_index is None else process_index
    ranks = jax.process_count() if process_count is None else process_count
    if batch_size < 1 or batch_size % ranks:
        raise UserError(
            f"batch size {batch_size}: expected a positive multiple of the number of processes, {ranks}"
        )
    share = batch_size // ranks
    return lambda batch: batch * batch_size + rank * share + np.arange(share)
