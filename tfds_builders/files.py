"""Small readers of the label files that data sets are shipped with: lines of names and numbers.

A label file that cannot be read is a `UserError`: nothing can be built from it. Depth: `a2j_jax.depth_files`; MATLAB:
`a2j_jax.array_files`.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from a2j_jax.errors import UserError
from a2j_jax.files import regular_file
from tfds_builders.wording import counted

# Bytes of a label file that are in memory as text at a time.
_BLOCK = 1 << 23
# Bytes that surely hold its first line.
_FIRST_LINES = 1 << 14
# What Windows' editors put in front of a text.
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Labels with larger numbers, in px or mm, mean nothing.
_LARGEST = 1e6
# The share of a label file from which a fault is one of all of it.
_MOST = 0.9
# Tabs, commas and carriage returns all become spaces.
_SEPARATORS = bytes.maketrans(b"\t,;\r", b"    ")


def read_numbers(
    path: str | Path, columns: int, expected: str = ""
) -> tuple[list[str], npt.NDArray[np.float64]]:
    """A label file of lines `name n1 n2 ...`, whole; see `number_blocks`.

    Returns:
      The names, and (N, columns) float64.
    """
    names: list[str] = []
    parts = []
    for some, values in number_blocks(path, columns, expected):
        names += some
        parts.append(values)
    return names, concatenate(parts)


def concatenate(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """`np.concatenate` that empties its list on the way: a million labels are in memory once."""
    whole = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), parts[0].dtype)
    end = len(whole)
    while parts:
        part = parts.pop()
        whole[end - len(part) : end] = part
        end -= len(part)
    return whole


def number_blocks(
    path: str | Path, columns: int, expected: str = ""
) -> Iterator[tuple[list[str], npt.NDArray[np.float64]]]:
    r"""A label file of lines `name n1 n2 ...`, some thousand lines at a time.

    Names and numbers are separated by any mix of spaces, tabs, commas and semicolons, which may
    also end a line; blank lines are skipped; "nan" is a number; a backslash in a name becomes "/".

    Args:
      path: the file.
      columns: how many numbers follow each name.
      expected: what they are, for the message ("16 joints x (u v d)").

    Yields:
      The names of n lines, and their numbers, (n, columns) float64.

    Raises:
      UserError: no such file, a device or pipe, no line in it, or a line of another form; names the line.
    """
    path, found = regular_file(path, "lines of a name and numbers"), False
    try:
        with path.open("rb") as file:
            for first_line, text in _whole_lines(file):
                if first_line == 1:
                    text = text.removeprefix(_BYTE_ORDER_MARK)
                names, values = _parse(text, columns)
                if values is None:
                    names, values = _parse_slowly(text, columns, path, first_line, expected)
                found = found or bool(names)
                yield names, values
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror})") from error
    if not found:
        raise UserError(f"{path}: is empty; expected lines of a name and {columns} numbers")


def count_numbers(path: Path) -> int | None:
    """How many numbers follow the name in the first line of a label file; None: it is not one."""
    try:
        with path.open("rb") as file:
            lines = file.read(_FIRST_LINES).removeprefix(_BYTE_ORDER_MARK).translate(_SEPARATORS)
    except OSError:
        return None
    words = next((line.split() for line in lines.split(b"\n") if line.strip()), [])
    try:
        return len([float(word) for word in words[1:]]) if words else None
    except ValueError:
        return None


def _whole_lines(file: Any) -> Iterator[tuple[int, bytes]]:
    """(number of its first line, text) of blocks that end where a line ends."""
    line, begun = 1, b""
    while block := file.read(_BLOCK):
        block = begun + block
        end = block.rfind(b"\n") + 1
        begun = block[end:]
        if end:
            yield line, block[:end]
            line += block.count(b"\n", 0, end)
    if begun:
        yield line, begun


def _parse(text: bytes, columns: int) -> tuple[list[str], npt.NDArray[np.float64] | None]:
    """All lines at once, by numpy's own parser; None where any of them is not as expected."""
    lines = [line.split(None, 1) for line in text.translate(_SEPARATORS).split(b"\n")]
    lines = [line for line in lines if line]
    # An infinity after every line: each line has its numbers exactly where these all fall into the
    # last column.
    joined = b" inf ".join([line[1] if len(line) > 1 else b"" for line in lines] + [b""])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            names = [line[0].decode().replace("\\", "/") for line in lines]
            values = np.fromstring(joined, np.float64, sep=" ")
            values = values.reshape(len(lines), columns + 1)
        except (ValueError, DeprecationWarning):
            return [], None
    ends = np.isinf(values)
    if not ends[:, -1].all() or ends[:, :-1].any():
        return [], None
    return names, values[:, :-1]


def _parse_slowly(
    text: bytes, columns: int, path: Path, first_line: int, expected: str
) -> tuple[list[str], npt.NDArray[np.float64]]:
    """Line by line, to find the one to name."""
    names, values = [], []
    for number, line in enumerate(text.translate(_SEPARATORS).split(b"\n"), first_line):
        try:
            name, *words = line.decode().split() or [""]
        except UnicodeDecodeError as error:
            raise UserError(f"{path} line {number}: is not text (UTF-8)") from error
        if not name:
            continue
        try:
            numbers = [float(word) for word in words]
        except ValueError:
            numbers = []
        if len(numbers) != columns or np.isinf(numbers).any():
            meaning = f" ({expected})" if expected else ""
            raise UserError(
                f"{path} line {number}: expected a name and {columns} numbers{meaning}, found "
                f"{len(words)} words after {name[:60]!r}; is this the right file, and whole?"
            )
        names.append(name.replace("\\", "/"))
        values.append(numbers)
    return names, np.array(values, np.float64).reshape(-1, columns)


def first_of_each(names: list[str]) -> npt.NDArray[np.int64] | None:
    """Rows of the first mention of every name; None where all are different."""
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        first.setdefault(name, row)
    return None if len(first) == len(names) else np.fromiter(first.values(), np.int64)


def refuse_backwards(depths_mm: npt.NDArray[Any], what: str, where: str) -> None:
    """Refuses depths of which nearly all are negative.

    Args:
      depths_mm: any shape; NaN: not given.
      what: whose depths ("joints"), for the message.
      where: the file they are from, for the message.

    Raises:
      UserError: see above.
    """
    given = depths_mm[np.isfinite(depths_mm)]
    negative = int((given < 0).sum())
    if negative > _MOST * given.size:
        raise UserError(
            f"{where}: z points backwards: the depths of {negative:,} of {given.size:,} {what} are negative "
            "(OpenGL's axes?); expected z pointing away from the camera: negate y and z"
        )


def unlabelled_to_nan(joints: npt.NDArray[Any], where: str) -> tuple[str, ...]:
    """Makes all numbers of joints that are not labelled NaN, in place, and counts those joints.

    Not labelled: a number missing (NaN), a depth of 0 or less, pixels that are both 0 or negative on a 2D track
    (how COCO, MPII and others write a joint that is not in view), or numbers beyond any frame.

    Args:
      joints: (N, K, 3) px, px, mm or (N, K, 2) px; NaN: not given.
      where: the file they are from, for the note.

    Returns:
      One note, or none.

    Raises:
      UserError: the depths of nearly all joints are negative.
    """
    missing: npt.NDArray[np.bool_] = ~np.all(np.isfinite(joints), axis=-1)
    absent: npt.NDArray[np.bool_]
    with np.errstate(invalid="ignore"):
        if joints.shape[-1] == 3:
            absent, name = joints[..., 2] <= 0, "with a depth of 0 or less"
            refuse_backwards(joints[..., 2], "joints", where)
        else:
            absent, name = np.all(joints <= 0, axis=-1), "at 0,0 or negative pixels"
        beyond = np.any(np.abs(joints) > _LARGEST, axis=-1)
    given = int(np.all(~np.isnan(joints), axis=-1).sum())
    if beyond.sum() > _MOST * given:
        raise UserError(
            f"{where}: {beyond.sum():,} of {counted(given, 'joint')} have numbers above {_LARGEST:g}; "
            "expected px and mm"
        )
    partial = missing & np.isfinite(joints).any(axis=-1)
    reasons = {"with some numbers only": partial, name: absent, "too large for px or mm": beyond}
    missing |= absent | beyond
    if not missing.any():
        return ()
    among = [f"{rows.sum():,} {reason}" for reason, rows in reasons.items() if rows.any()]
    joints[missing] = np.nan
    frames = counted(int(missing.any(axis=-1).sum()), "frame")
    note = f"{where}: {counted(int(missing.sum()), 'joint')} of {frames} not labeled"
    return (note + (f" ({', '.join(among)})" if among else " (NaN)"),)
