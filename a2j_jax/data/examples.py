"""Random access to the examples of a split on disk, with a policy for unreadable ones.

A split is stored in shards, files in ArrayRecord's format. Every record has a checksum: a flipped bit is detected when
its record is read, and costs that record alone. A truncated file has lost the index at its end, and with it all its
records; the other shards remain readable.
"""

import bisect
import itertools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from numpy.typing import NDArray

from a2j_jax.data.crops import Example
from a2j_jax.errors import UserError
from a2j_jax.log import logger

OnBadExample = Literal["fail", "skip"]

_skipped: dict[str, int] = {}  # logged message -> number of examples; each is logged once a process


class _Unreadable(UserError):
    """A record or shard cannot be read, with its place and the reason; it costs this many examples of the split."""

    def __init__(self, what: str, examples: int, fix: str) -> None:
        self.what, self.examples = what, examples
        super().__init__(f"{what}; {fix}")


class Examples:
    """A split's examples, by their position in it: 0 to `len` - 1."""

    def __init__(
        self, builder: tfds.core.DatasetBuilder, split: str, on_bad_example: OnBadExample = "fail"
    ) -> None:
        """Opens no file yet; each shard is opened when the first of its examples is read.

        Args:
          builder: the data set.
          split: a non-empty split of it, or a TFDS slice of one.
          on_bad_example: "fail" raises on an unreadable example, "skip" logs it.

        Raises:
          UserError: a file is missing, with "fail".
        """
        self._folder = Path(builder.data_path)
        self._fix = (
            f"delete {self._folder} and build it again, or skip unreadable examples: "
            "--on_bad_example=skip"
        )
        self._split = split
        self._skip = on_bad_example == "skip"
        self._shards = builder.info.splits[split].file_instructions
        self._ends = list(itertools.accumulate(shard.take for shard in self._shards))
        self._stored = builder.as_data_source(split=split)
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
        try:
            example: Example = self._stored[row]
            return example
        except MemoryError:
            raise
        except Exception as error:  # array_record, protobuf and the decoders raise many kinds
            raise self._unreadable(row, error) from error

    def get(self, row: int) -> Example | None:
        """The example at a position; None, with a log line the first time, where it cannot be read."""
        try:
            return self[row]
        except _Unreadable as error:
            if error.what not in _skipped:
                _skipped[error.what] = error.examples
                skipped = sum(_skipped.values())
                logger.warning(
                    f"skipped: {error.what} ({skipped:,} skipped so far)",
                    extra={"everywhere": True},
                )
            return None

    def read(self, rows: Iterable[int]) -> tuple[list[Example], NDArray[np.bool_]]:
        """The examples at these positions.

        With "skip", another example of the split substitutes for an unreadable one, always the same one: the result
        depends on the rows and the files alone.

        Returns:
          One example for every row, and which of them are no substitutes.

        Raises:
          UserError: an example cannot be read, with "fail"; or none of the split can.
        """
        examples, own = [], []
        for row in map(int, rows):
            example = self.get(row) if self._skip else self[row]
            own.append(example is not None)
            examples.append(self._substitute(row) if example is None else example)
        return examples, np.array(own, bool)

    def _substitute(self, row: int) -> Example:
        """Steps through all of the split by about 0.618 of it: damage comes in runs, substitutes must not."""
        count = len(self)
        stride = next(
            n for n in itertools.count(math.ceil(0.618 * count)) if math.gcd(n, count) == 1
        )
        for steps in range(1, count):
            example = self.get((row + steps * stride) % count)
            if example is not None:
                return example
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
        return _Unreadable(what, shard.take if whole else 1, self._fix)
