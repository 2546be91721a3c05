"""Readers of `.npy`, `.npz`, MATLAB and text files of numbers written elsewhere.

Headers are checked against the size of the file before memory is allocated, checksums are verified where the format
has them, and nothing is unpickled.
"""

import codecs
import contextlib
import io
import itertools
import math
import warnings
import zipfile
import zlib
from array import array
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from a2j_jax.errors import UserError, printable
from a2j_jax.files import regular_file

Array = npt.NDArray[Any]
_LARGEST = 1 << 31  # bytes of one array, or of an archive's arrays together
_RATIO = 1032  # the most that deflate can compress
_NPY = b"\x93NUMPY"


def parse_npy(contents: bytes) -> Array:
    """The array of a `.npy` file: booleans, integers, floats or text of any shape.

    Raises:
      ValueError: damaged or truncated, or of another type (objects, records).
    """
    if not contents.startswith(_NPY):
        raise ValueError("not a .npy array")
    file = io.BytesIO(contents)
    try:
        with warnings.catch_warnings(action="ignore"):  # a damaged header may look like Python 2's
            values = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # the parser of Python literals raises many kinds
        what = "an array of objects" if "Object arrays" in str(error) else "truncated or damaged"
        raise ValueError(f"{what}, not a .npy array of numbers") from error
    if values.dtype.kind not in "biufSU":
        raise ValueError("not an array of numbers (records)")
    if file.read(1):
        raise ValueError("damaged .npy array")
    is_text = values.dtype.kind == "U" and values.size
    if is_text and values.reshape(-1).view(values.dtype.byteorder + "u4").max() > 0x10FFFF:
        raise ValueError("damaged .npy array: not text")
    return values


def read_npz(path: str | Path) -> dict[str, Array]:
    """The arrays of an `.npz` archive by name, each as by `parse_npy`.

    Raises:
      UserError: missing, damaged (every member's checksum is verified), encrypted, a repeated name, larger than 2 GiB
        unpacked, or arrays of another type.
    """
    path = regular_file(path, "an .npz archive of arrays")
    arrays: dict[str, Array] = {}
    with readable(path, "an .npz archive"), path.open("rb") as file:
        if file.read(6) == _NPY:
            raise ValueError("a single .npy array under another name")
        archive = zipfile.ZipFile(file)
        members = archive.infolist()
        # 65,535 means that the number is elsewhere.
        if _declared_members(file) not in (len(members), 0xFFFF):
            raise ValueError("some of its arrays are missing")
        if len({member.filename.removesuffix(".npy") for member in members}) < len(members):
            raise ValueError("an array is there twice")
        if sum(member.file_size for member in members) > _LARGEST:
            raise ValueError("larger than 2 GiB unpacked")
        for member in members:
            name = member.filename.removesuffix(".npy")
            contents = archive.read(member)
            if len(contents) != member.file_size:  # its checksum was not verified
                raise ValueError(f"{printable(name)} is truncated")
            try:
                arrays[name] = parse_npy(contents)
            except ValueError as error:
                raise ValueError(f"{printable(name)}: {error}") from error
    return arrays


def _declared_members(file: BinaryIO) -> int:
    """The number of members that the end of a zip archive states; `zipfile` reads as many as it happens to find."""
    file.seek(max(file.seek(0, 2) - (1 << 16) - 22, 0))
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    return int.from_bytes(tail[at + 10 : at + 12], "little")


# --- MATLAB, version 5 to 7.2: a header of 128 bytes, then one element per variable

# Types of stored numbers (V: none), and classes of variables. MATLAB stores integers in the smallest type that fits.
_STORED = ("V", "i1", "u1", "i2", "u2", "i4", "u4", "f4", "V", "f8", "V", "V", "i8", "u8")
_CLASSES = dict(enumerate(("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"), 6))
_MATRIX, _COMPRESSED = 14, 15  # types of elements
_OPAQUE, _COMPLEX = 17, 8  # a class without a shape; a flag
_MOST_DIMS = 32
_MAT_HEAD = 30_000  # bytes that flags, shape and name fit in


def read_mat(path: str | Path, *names: str) -> Array:
    """One variable of a MATLAB file, in its stored type (at least 2-D, as in MATLAB).

    Args:
      path: of the file.
      names: of the variable; the first that exists is read.

    Raises:
      UserError: as `mat_arrays`; no such variable, or not an array of numbers.
    """
    found, shown = mat_arrays(path, names), printable(str(path))
    name = next((name for name in names if name in found), None)
    if name is None:
        there = ", ".join(map(printable, found)) or "nothing"
        raise UserError(f"{shown}: holds no variable {' or '.join(map(repr, names))} (but {there})")
    values = found[name]
    if values is None:
        raise UserError(f"{shown}: {name!r} is not an array of real numbers")
    return values


def mat_arrays(path: str | Path, names: Container[str] | None = None) -> dict[str, Array | None]:
    """The variables of a MATLAB file of version 5 to 7.2 by name; None: not an array of real numbers, or not read.

    SciPy's reader crashes the process on some damaged files; this one does not.

    Args:
      path: of the file.
      names: read these only; None: all.

    Raises:
      UserError: missing, not such a file (version 7.3 is HDF5), damaged, or larger than 2 GiB.
    """
    path = regular_file(path, "a MATLAB file")
    arrays: dict[str, Array | None] = {}
    with readable(path, "a MATLAB file of version 5 to 7.2"), path.open("rb") as file:
        order = _mat_byte_order(file.read(128), path)
        left = path.stat().st_size - 128
        while left >= 8:
            kind, length = np.frombuffer(file.read(8), order + "u4").tolist()
            left -= 8 + length
            if kind not in (_MATRIX, _COMPRESSED):
                raise ValueError("damaged: not a variable")
            if left < 0:
                raise ValueError("truncated")
            name, values = _variable(file.read(length), kind == _COMPRESSED, order, names)
            if name in arrays:
                raise ValueError(f"{printable(name)} is there twice")
            if name:  # nameless ones are MATLAB's own
                arrays[name] = values
        if left and any(file.read(left)):
            raise ValueError("truncated")
    return arrays


def _mat_byte_order(header: bytes, path: Path) -> str:
    if header.startswith((b"MATLAB 7.3", b"\x89HDF")) or header[124:128] in (b"\0\2IM", b"\2\0MI"):
        raise UserError(
            f"{printable(str(path))}: is a MATLAB 7.3 (HDF5) file; expected version 5 to 7, as published: in MATLAB, "
            "save it again with -v7"
        )
    order = {b"\0\1IM": "<", b"\1\0MI": ">"}.get(header[124:128])
    if order is None:
        raise ValueError(
            "its header is damaged, or of version 4; in MATLAB, save it again with -v7"
        )
    return order


def _variable(
    data: bytes, compressed: bool, order: str, names: Container[str] | None
) -> tuple[str, Array | None]:
    """Name and numbers of a variable, as by `mat_arrays`: parts with its flags, shape, name and numbers.

    The checksum of compressed data is verified where the variable is among `names`.
    """
    parts = _parts(_inflated(data, order, _MAT_HEAD) if compressed else data, order)
    kind, flags, _ = next(parts)
    if kind != 6 or len(flags) != 8:
        raise ValueError("damaged: flags of a variable")
    word = int(np.frombuffer(flags, order + "u4")[0])
    if word & 255 == _OPAQUE:
        return "", None
    real_class = None if word >> 8 & _COMPLEX else _CLASSES.get(word & 255)
    kind, sizes, _ = next(parts)
    if kind not in (5, 6) or len(sizes) % 4 or not 8 <= len(sizes) <= 4 * _MOST_DIMS:
        raise ValueError("damaged: shape of a variable")
    shape = np.frombuffer(sizes, order + "i4").tolist()
    kind, text, _ = next(parts)
    if kind not in (1, 2, 16) or min(shape) < 0:
        raise ValueError("damaged: name or shape of a variable")
    name = bytes(text).decode("utf-8", "backslashreplace")
    if names is not None and name not in names:
        return name, None
    contents = _inflated(data, order, _LARGEST) if compressed else data
    if real_class is None:
        return name, None
    *_, (kind, numbers, behind) = itertools.islice(_parts(contents, order), 4)
    stored = np.dtype(_STORED[kind] if kind < len(_STORED) else "V")
    of_class = np.dtype(real_class)
    if of_class.kind in "iu":
        fits = stored.kind in "iu" and stored.itemsize <= of_class.itemsize
    else:
        fits = stored.itemsize <= min(of_class.itemsize, 4 if stored.kind in "iu" else 8)
    if stored.kind == "V" or not fits or len(numbers) != math.prod(shape) * stored.itemsize:
        raise ValueError(f"damaged: {printable(name)} does not have the data of its shape")
    if behind > 7:  # more than padding
        raise ValueError("damaged: the data of a variable do not fit its size")
    return name, np.frombuffer(numbers, order + stored.str[1:]).reshape(shape, order="F")


def _inflated(data: bytes, order: str, most: int) -> bytes:
    """The first `most` bytes of the parts of a compressed variable; with `_LARGEST` all, which must be complete."""
    inflate = zlib.decompressobj()
    kind, length = np.frombuffer(inflate.decompress(data, 8), order + "u4").tolist()
    if kind != _MATRIX:
        raise ValueError("damaged: not a variable")
    if length > min(_LARGEST, _RATIO * (len(data) + 1)):
        raise ValueError("damaged: a variable is larger than its data")
    parts = inflate.decompress(inflate.unconsumed_tail, min(length + 8, most))
    if most == _LARGEST and not inflate.eof:  # or its checksum is missing
        raise ValueError("damaged: the data of a variable do not fit its size")
    return parts


def _parts(contents: bytes, order: str) -> Iterator[tuple[int, memoryview, int]]:
    """Type and data of each part, and the number of bytes behind it; short data are within the tag."""
    view, at = memoryview(contents), 0
    while True:
        tag = np.frombuffer(view[at : at + 8], order + "u4").tolist()
        if len(tag) < 2:
            raise ValueError("damaged: a variable ends too early")
        kind, length = tag
        begin, after = at + 8, at + 8 + length + -length % 8
        if short := kind >> 16:
            kind, length, begin, after = kind & 0xFFFF, short, at + 4, at + 8
        if short > 4:
            raise ValueError("damaged: tag of a variable")
        data = view[begin : begin + length]
        if len(data) < length:
            raise ValueError("damaged: a variable ends too early")
        yield kind, data, len(view) - max(begin + length, at + 8)
        at = after


# --- Text: a row of numbers per line

# A line that begins so is a comment: NumPy's headers, and MATLAB's.
_COMMENTS = (b"#", b";", b"%")
_ROWS = 1 << 14  # that are converted at a time


class Rows(NamedTuple):
    """N rows of C numbers.

    Attributes:
      values: (N, C) float64, or what `convert` makes of them; NaN and infinities where the text has them.
      names: N first words, where rows begin with a name; else None.
      lines: (N,) int64 line number of each row in the file, from 1.
    """

    values: Array
    names: tuple[str, ...] | None
    lines: npt.NDArray[np.int64]


def read_rows(path: str | Path, columns: int | None = None, meaning: str = "", **form: Any) -> Rows:
    """All rows of a text file, one frame per line; arguments as of `parse_rows`.

    Raises:
      UserError: not a readable regular file, or as `parse_rows`.
    """
    path = regular_file(path, "lines of numbers")
    try:
        with path.open("rb") as file:
            return parse_rows(file, path, columns, meaning, **form)
    except OSError as error:
        raise UserError(f"{path}: not readable as text ({error})") from error


def parse_rows(
    text: Iterable[bytes],
    path: Path,
    columns: int | None = None,
    meaning: str = "",
    *,
    named: bool | None = None,
    name_width: int = 0,
    separators: bytes = b",;",
    convert: Callable[[Array], Array] = lambda values: values,
) -> Rows:
    """Rows of numbers, of whatever form the field's files have.

    Separators may be any mix, also at the end of a line; blank lines and comments are skipped; "nan" is a number.

    Args:
      text: lines in UTF-8, with or without a byte order mark.
      path: of the file, for messages.
      columns: C; None: as in the first row.
      meaning: of the numbers, for messages ("16 joints x (u v d)").
      named: whether a name stands in front of each row's numbers; None: as in the first row.
      name_width: characters of a name, where nothing need separate it from the numbers; 0: any.
      separators: beside white space.
      convert: applied to the (n, C) numbers of some thousand rows at a time, so that a large file is never in memory as
        float64.

    Raises:
      UserError: no row, a row with more or fewer numbers than C, or a word that is not a number; names the line.
    """
    blanks = bytes.maketrans(separators, b" " * len(separators))
    as_meant = " as in the first row" if columns is None else f" ({meaning})"
    hint = "; is this the right file, and complete?" if meaning else ""

    def expected() -> str:
        a_name = "a name and " if named and meaning else ""
        return f"expected {a_name}{columns} numbers{as_meant}"

    names: list[str] = []
    lines, block, parts = array("q"), array("d"), []
    for number, line in enumerate(text, start=1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if name_width:
            line = line[:name_width] + b" " + line[name_width:]
        words = line.translate(blanks).split()
        if not words or line.lstrip().startswith(_COMMENTS):
            continue
        where = f"{path}, row {number}"
        if named is None:
            named = not _is_number(words[0])
        if named:
            names.append(_decoded(words.pop(0), where))
        if columns is None:
            columns = len(words)
        try:
            block.extend(map(float, words))
        except ValueError as error:
            bad = next(_decoded(word, where)[:40] for word in words if not _is_number(word))
            raise UserError(f"{where}: not a number: {bad!r}; {expected()}{hint}") from error
        if len(words) != columns:
            raise UserError(f"{where}: {expected()}, found {len(words)}{hint}")
        lines.append(number)
        if len(lines) % _ROWS == 0:
            parts.append(convert(np.array(block).reshape(_ROWS, -1)))
            del block[:]
    if not lines:
        raise UserError(f"{path}: empty; expected one line of numbers per frame")
    parts.append(convert(np.array(block).reshape(len(lines) % _ROWS, columns or 0)))
    return Rows(np.concatenate(parts), tuple(names) if named else None, np.array(lines))


def _decoded(word: bytes, where: str) -> str:
    try:
        return word.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not readable as text ({error}); expected UTF-8") from error


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


@contextlib.contextmanager
def readable(path: Path, expected: str) -> Iterator[None]:
    """Within, any exception of a reader means that the file is damaged or of another kind."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # readers raise exceptions of any kind
        reason = printable(" ".join(str(error).split()) or type(error).__name__, 200)
        raise UserError(
            f"{printable(str(path))}: not readable as {expected} ({reason}); is it complete?"
        ) from error
