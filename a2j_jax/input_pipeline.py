"""Examples on disk -> batches of arrays on the host.

Random access -> deterministic shuffle -> this process's share -> batch. A batch is bytes off the
disk
and nothing else: augmentation and normalisation happen on the device. No worker processes: on a
small machine they cost more than they bring; one thread reads ahead.

A batch is a dict of numpy arrays, B rows each:

* `canvas` (B, S + 2m, S + 2m) uint16, in the track's storage unit, 0 = no reading;
* `joints_uvd` (B, K, 3 or 2) float32, full frame, px, px, mm; `valid` (B, K) bool;
* `box_px`, `window_px` (B, 4) float64: the crop box, clipped and before clipping, px;
* `center_uvd` (B, 3) float32, px, px, mm; `camera` (B, 4) float32 fx, fy, u0, v0;
* `index` (B,) int64, the frame's position in its split;
* `mask` (B,) bool, in evaluation only: false rows are padding and count for nothing.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import numpy.typing as npt
import tensorflow_datasets as tfds

from a2j_jax.errors import UserError
from a2j_jax.tracks import TrackSpec

Batch = dict[str, np.ndarray]

# One thread reads ahead of the device; a second would only fight it for the interpreter lock.
_READ_AHEAD = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)


def train_batches(
    data_dir: str | Path,
    track: TrackSpec,
    split: str,
    batch_size: int,
    seed: int,
    *,
    process_index: int | None = None,
    process_count: int | None = None,
) -> grain.DatasetIterator:
    """Endless shuffled batches; batch k is a function of (seed, k) alone.

    Every epoch is a new permutation of all frames, and epochs follow each other without a gap, so a
    batch may hold the end of one and the start of the next. The processes of a job together see, at
    step k, the same `batch_size` frames whatever their number.

    Args:
      data_dir: a TFDS data directory, or the folder of one data set.
      track: what the examples must be of.
      split: e.g. "train", or a TFDS slice such as "train[:80%]".
      batch_size: B of all processes together.
      seed: of the shuffle, >= 0.
      process_index: this process; JAX's by default.
      process_count: number of processes; JAX's by default.

    Returns:
      An iterator over batches with `get_state()` (a small JSON-able dict) and `set_state()`.

    Raises:
      UserError: no such data, an empty split, or examples that do not fit the track; and, from the
        iterator, files that are damaged.
    """
    source = _open(data_dir, track, split)
    rank, ranks = _process(process_index, process_count)
    share = _share(batch_size, ranks)
    indices = grain.MapDataset.range(len(source)).shuffle(seed=seed).repeat()[rank::ranks]
    batches = indices.batch(share).map(lambda rows: _stacked(source.read(rows)))
    return iter(batches.to_iter_dataset(_READ_AHEAD))


def eval_batches(
    data_dir: str | Path,
    track: TrackSpec,
    split: str,
    batch_size: int,
    *,
    process_index: int | None = None,
    process_count: int | None = None,
) -> Iterator[Batch]:
    """Every frame of a split once, in order; the last batch is padded and has a `mask`.

    All batches have B rows, and all processes get the same number of batches.

    Args:
      data_dir: a TFDS data directory, or the folder of one data set.
      track: what the examples must be of.
      split: e.g. "test", or a TFDS slice.
      batch_size: B of all processes together.
      process_index: this process; JAX's by default.
      process_count: number of processes; JAX's by default.

    Raises:
      UserError: as `train_batches`.
    """
    source = _open(data_dir, track, split)
    rank, ranks = _process(process_index, process_count)
    share, frames = _share(batch_size, ranks), len(source)

    def read(batch: int) -> Batch:
        rows = batch * batch_size + rank * share + np.arange(share)
        found = source.read(np.minimum(rows, frames - 1))
        return {**_stacked(found), "mask": rows < frames}

    batches = grain.MapDataset.range(-(-frames // batch_size)).map(read)
    return iter(batches.to_iter_dataset(_READ_AHEAD))


def num_frames(data_dir: str | Path, track: TrackSpec, split: str) -> int:
    """Number of frames of a split.

    Raises:
      UserError: as `train_batches`.
    """
    return len(_open(data_dir, track, split))


def has_labels(data_dir: str | Path, track: TrackSpec, split: str, look_at: int = 4096) -> bool:
    """Whether any joint is labelled in a split, or in `look_at` of its frames, evenly spread.

    Raises:
      UserError: as `train_batches`.
    """
    source = _open(data_dir, track, split)
    step = max(len(source) // look_at, 1)
    return any(source.read([row])[0]["valid"].any() for row in range(0, len(source), step))


def example_reader(
    data_dir: str | Path, track: TrackSpec, split: str
) -> Callable[[int], dict[str, Any]]:
    """Random access to single examples: a function from the position in a split to the example.

    Raises:
      UserError: as `train_batches`.
    """
    source = _open(data_dir, track, split)

    def read(index: int) -> dict[str, Any]:
        return source.read([index])[0]

    return read


def metadata(data_dir: str | Path, track: TrackSpec) -> dict[str, Any]:
    """What the builder wrote down about a data set, as JSON.

    "provenance" (centre sources, notes), "skipped" (split -> reason -> frames) and "statistics" (mean and std
    of the training crops), each where known.

    Raises:
      UserError: there is no such data set.
    """
    return dict(find_dataset(data_dir, track).info.metadata or {})


def find_dataset(data_dir: str | Path, track: TrackSpec) -> tfds.core.DatasetBuilder:
    """The newest data set of a track, at its crop size, below a data directory.

    Args:
      data_dir: a TFDS data directory (`<data_dir>/<track>/<config>/<version>`), or that folder.
      track: what the examples must be of.

    Raises:
      UserError: there is none, or only ones of other shapes.
    """
    data_dir = Path(data_dir).expanduser()
    if data_dir.exists() and not data_dir.is_dir():
        raise UserError(
            f"data directory {data_dir} is a file; name the folder that `a2j build` wrote to"
        )
    if not data_dir.exists():
        raise UserError(f"no data directory {data_dir}; {_how_to_build(data_dir, track)}")
    direct = data_dir / "dataset_info.json"
    found = [direct] if direct.exists() else data_dir.glob(f"{track.name}/**/dataset_info.json")
    # A folder that a killed build left behind is not a data set.
    folders = [info.parent for info in found if not info.parent.name.startswith("incomplete.")]
    if not folders:
        raise UserError(
            f"{data_dir} holds no data set of track {track.name!r}; "
            + _how_to_build(data_dir, track)
        )
    builders = sorted((_builder(folder) for folder in folders), key=lambda found: found.version)
    wanted = _shapes(track)
    for builder in reversed(builders):
        if all(_shape(builder, name) == shape for name, shape in wanted.items()):
            return builder
    there = "; ".join(
        f"{builder.data_path}: " + ", ".join(f"{n} {_shape(builder, n)}" for n in wanted)
        for builder in builders
    )
    expected = ", ".join(f"{name} {shape}" for name, shape in wanted.items())
    raise UserError(
        f"examples do not fit track {track.name!r} at crop size {track.crop_size}: expected "
        f"{expected}; found {there}; {_how_to_build(data_dir, track)}"
    )


def _how_to_build(data_dir: Path, track: TrackSpec) -> str:
    return (
        f"build it: a2j build {track.name} --data_dir {data_dir} --crop_size {track.crop_size}, or name the "
        "folder it was built in"
    )


def _builder(folder: Path) -> tfds.core.DatasetBuilder:
    try:
        return tfds.builder_from_directory(folder)
    except Exception as error:  # tfds raises whatever its JSON parsing does
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{folder}: not a readable TFDS data set ({reason}); rebuild it") from error


def _shapes(track: TrackSpec) -> dict[str, tuple[int, ...]]:
    return {
        "canvas": (track.canvas_size, track.canvas_size),
        "joints_uvd": (track.num_joints, track.joint_dims),
    }


def _shape(builder: tfds.core.DatasetBuilder, name: str) -> tuple[int, ...] | None:
    features = builder.info.features
    return tuple(features[name].shape) if name in features else None


@dataclass(frozen=True, eq=False)
class _Source:
    """A split's examples in random access, and the folder they lie in."""

    folder: Path
    examples: Any  # of TFDS

    def __len__(self) -> int:
        return len(self.examples)

    def read(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> list[dict[str, Any]]:
        """The examples at these positions."""
        with _named_if_damaged(self.folder):
            found: list[dict[str, Any]] = self.examples.__getitems__([int(row) for row in rows])
            return found


def _open(data_dir: str | Path, track: TrackSpec, split: str) -> _Source:
    """A split as a random-access source of examples."""
    builder = find_dataset(data_dir, track)
    folder = Path(builder.data_path)
    name = split.split("[")[0]
    if name not in builder.info.splits:
        splits = ", ".join(builder.info.splits) or "none"
        raise UserError(f"{folder} has no split {name!r} (splits: {splits})")
    try:
        frames = builder.info.splits[split].num_examples
    except (ValueError, AssertionError) as error:
        raise UserError(f"split {split!r} of {folder}: {error}") from error
    if frames == 0:
        raise UserError(f"split {split!r} of {folder} is empty")
    # Found out now, rather than when training comes to the first of its frames.
    for path in map(Path, builder.info.splits[name].filepaths):
        if not path.is_file():
            raise UserError(f"{path} is missing: {_build_again(folder)}")
    with _named_if_damaged(folder):
        return _Source(folder, builder.as_data_source(split=split))


@contextlib.contextmanager
def _named_if_damaged(folder: Path) -> Iterator[None]:
    """Says which data set it was that could not be read."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # what array_record, protobuf and the decoders make of damaged bytes
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"{folder}: this data set is damaged ({lines[0][:160]}); {_build_again(folder)}"
        ) from error


def _build_again(folder: Path) -> str:
    return f"delete {folder} and build it again"


def _stacked(examples: list[dict[str, Any]]) -> Batch:
    return {
        name: np.stack([example[name] for example in examples])
        for name in examples[0]
        if name != "frame_id"  # Text has no place on a device.
    }


def _process(index: int | None, count: int | None) -> tuple[int, int]:
    return (
        jax.process_index() if index is None else index,
        jax.process_count() if count is None else count,
    )


def _share(batch_size: int, processes: int) -> int:
    if batch_size < 1 or batch_size % processes:
        raise UserError(
            f"batch size {batch_size}: expected a positive multiple of the number of processes, "
            f"{processes}"
        )
    return batch_size // processes
