"""Rows of numbers in text files, read in bulk: a million lines in seconds, memory flat.

The field's files differ in everything but the idea of one frame per line: spaces, tabs, commas or
semicolons, trailing separators, blank lines and remarks, CRLF, scientific notation, a file name in
front. All of it reads here; only what cannot be a row of numbers is refused, with its line number.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from a2j_jax.errors import UserError

#: Text parsed at a time, bytes: what is in memory beside the numbers themselves.
_BLOCK_BYTES = 8 << 20
_SEPARATORS = bytes.maketrans(b",;", b"  ")
#: What a line begins with that is a remark: numpy writes its headers so, MATLAB and others theirs.
_COMMENTS = (b"#", b";", b"%")


@dataclass(frozen=True, eq=False)
class Rows:
    """N lines of C numbers.

    Attributes:
        values: (N, C) float64; may hold NaN and infinities where the text says so.
        names: N first words, where the lines begin with one that is not a number; else None.
        lines: (N,) int64 line number of each row in the file, from 1.
    """

    values: NDArray[np.float64]
    names: tuple[str, ...] | None
    lines: NDArray[np.int64]


def read_rows(path: str | Path) -> Rows:
    """Read every line that is not blank, nor a remark; all must have as many numbers as the first.

    Raises:
        UserError: unreadable file, no rows, a line with more or fewer numbers than the first, a word
            that is not a number (named with its line).
    """
    path = Path(path)
    reader = _Reader(path)
    try:
        with path.open("rb") as file:
            first = 1
            while block := file.readlines(_BLOCK_BYTES):
                reader.add(block, first)
                first += len(block)
    except OSError as error:
        raise UserError(f"{path}: not readable as text ({error})") from error
    return reader.rows()


class _Reader:
    """Collects the blocks of one file; the first row says how the others must look."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: int | None = None
        self.named = False
        self.values: list[NDArray[np.float64]] = []
        self.lines: list[NDArray[np.int64]] = []
        self.names: list[str] = []

    def add(self, block: list[bytes], first_line: int) -> None:
        if first_line == 1:
            block[0] = block[0].removeprefix(b"\xef\xbb\xbf")  # Windows' byte order mark
        rows, lines = [], []
        for number, line in enumerate(block, start=first_line):
            row = line.translate(_SEPARATORS).strip()
            if row and not line.lstrip().startswith(_COMMENTS):
                rows.append(row)
                lines.append(number)
        if not rows:
            return
        if self.columns is None:
            self.named = not _is_number(rows[0].split(None, 1)[0])
            self.columns = len(rows[0].split()) - self.named
        if self.named:
            parts = [row.split(None, 1) for row in rows]
            self.names += [
                self._text(part[0], line) for part, line in zip(parts, lines, strict=True)
            ]
            rows = [part[1] if len(part) > 1 else b"" for part in parts]
        self.values.append(self._numbers(rows, lines))
        self.lines.append(np.asarray(lines, np.int64))

    def rows(self) -> Rows:
        if not self.values:
            raise UserError(f"{self.path}: empty; expected one line of numbers per frame")
        return Rows(
            values=np.concatenate(self.values),
            names=tuple(self.names) if self.named else None,
            lines=np.concatenate(self.lines),
        )

    def _numbers(self, rows: list[bytes], lines: list[int]) -> NDArray[np.float64]:
        """The rows in one call of numpy's parser; line by line only to find out what is wrong."""
        counts = [len(row.split()) for row in rows]
        expected = self.columns
        for count, row, line in zip(counts, rows, lines, strict=True):
            if count != expected:
                self._check_row(row, line)  # words are the better explanation
                raise UserError(
                    f"{self.path}, row {line}: expected {expected} numbers as in the first row, "
                    f"found {count}"
                )
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # numpy's way to say "not a number"
            try:
                values = np.fromstring(b" ".join(rows), np.float64, sep=" ")
            except (DeprecationWarning, ValueError):
                values = np.empty(0)
        if values.size != sum(counts):
            for row, line in zip(rows, lines, strict=True):
                self._check_row(row, line)
            # Python's float() reads a little more than numpy's parser, "1_000" for one.
            values = np.array([float(word) for row in rows for word in row.split()])
        return values.reshape(len(rows), -1)

    def _check_row(self, row: bytes, line: int) -> None:
        for word in row.split():
            if not _is_number(word):
                text = self._text(word, line)
                raise UserError(f"{self.path}, row {line}: not a number: {text[:40]!r}")

    def _text(self, word: bytes, line: int) -> str:
        try:
            return word.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{self.path}, row {line}: not readable as text ({error}); expected UTF-8"
            ) from error


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
