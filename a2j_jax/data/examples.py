"""Random access to the examples of a split on disk, with a policy for unreadable ones.

A split is stored in shards, files in ArrayRecord's format. Every record has a checksum: a flipped bit is detected when
its record is read, and costs that record alone. A truncated file has lost the index at its end, and with it all its
records; the other shards remain readable.
"""

import bisect
import itertools
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from numpy.typing import NDArray
from tensorflow_datasets.proto import tf_example_pb2

from a2j_jax.data.crops import Batch, Example
from a2j_jax.errors import UserError
from a2j_jax.log import logger

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

    Records are decoded as TFDS does it, straight into the arrays of a batch: a fifth of its time.
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
          on_bad_example: "fail" raises on an unreadable example, "skip" tells `on_skip`.
          on_skip: is told what was skipped, each time.

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
        """`_read`; False, and `on_skip` is told, where the example cannot be read."""
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


def _decoded(feature: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """A feature of a record, as TFDS encodes tensors (in bytes, or as lists of numbers), scalars and texts."""
    values = getattr(feature, feature.WhichOneof("kind")).value
    if feature.HasField("bytes_list") and dtype.kind != "O":
        return np.frombuffer(values[0], dtype).reshape(shape)
    return np.array(values, dtype).reshape(shape)
