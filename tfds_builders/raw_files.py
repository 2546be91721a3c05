"""How a build says things: counts with their nouns, and what is a warning and what only a note.

Raw distributions: what a data set's authors ship, before anything is cut or stored.

A data set brings two things, its `Distribution` (which frames there are, and how to read one) and its
`TrackSpec`. Where to crop comes from `tfds_builders.crop_plan`; everything else is here, once.

Locates the files of a downloaded data set: as its archive unpacks, one folder deeper, in any letter case.

Every reader lists files through this module, so that a copy made by macOS or Windows holds the same frames as the
original: companion files (`._x.png`, `Thumbs.db`, `__MACOSX/`) do not count, and `X.PNG` is `x.png`.

Small readers of the label files that data sets are shipped with: lines of names and numbers.

A label file that cannot be read is a `UserError`: nothing can be built from it. Depth: `a2j_jax.data.depth_files`;
MATLAB: `a2j_jax.data.array_files`.
"""

import functools
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from a2j_jax.errors import UnreadableFrame as UnreadableFrame
from a2j_jax.errors import UserError, as_utf8, printable
from a2j_jax.files import regular_file

# A note that begins so wants the user's attention; any other is information.
WARNING = "warning: "


def counted(count: int, noun: str) -> str:
    """A number with its noun: "1 frame", "2,000 frames"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def marked(note: str) -> str:
    """A note as it is printed: it says of itself whether it is a warning."""
    return note if note.startswith(WARNING) else f"note: {note}"


@dataclass(frozen=True, eq=False)
class RawSplit:
    """One split as shipped, indexed but not read. Row i is its i-th frame that counts.

    Attributes:
      frame_ids: how the distribution calls each of the N frames; unique in the split.
      sources: what `Distribution.read_depth` needs for each frame.
      joints_uvd: (N, K, 3) px, px, mm or (N, K, 2) px, full frame; NaN: not labelled; None: the
        split's labels are not public.
      rows: (N,) row of each frame among all `total` rows of the distribution, where some do not
        count (frames that are marked invalid, rotated copies left out).
      total: rows of the whole distribution. Published per-frame files have N or `total` rows.
      crops: (N, 3) centres px, px, mm or (N, 4) boxes px to crop by, shipped with the frames; NaN
        rows: not given.
      boxes_px: (N, 4) x0, y0, x1, y1 px, shipped with the frames: where the object is, a hint.
      numbers: (N,) distinct, from 0: number of each frame in the published split, by its own name, where
        names carry one. It is the `index` of its example, and the row of a published per-frame file that
        covers the whole split while only some frames are here.
      notes: what was found odd while indexing, one line each, with counts and file names.
      faults: the same of frames that cannot be used, or are missing: `--strict` makes them errors.
    """

    frame_ids: Sequence[str]
    sources: Sequence[Any]
    joints_uvd: npt.NDArray[np.float32] | None
    rows: npt.NDArray[np.int64] | None = None
    total: int | None = None
    crops: npt.NDArray[np.float64] | None = None
    boxes_px: npt.NDArray[np.float64] | None = None
    numbers: npt.NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Names are stored as UTF-8."""
        object.__setattr__(self, "frame_ids", [as_utf8(name) for name in self.frame_ids])

    def __len__(self) -> int:
        return len(self.frame_ids)


class Distribution(Protocol):
    """A data set as its authors ship it. Small and picklable: a folder and options, no arrays."""

    def splits(self) -> Mapping[str, RawSplit]:
        """Index what is there.

        Raises:
          UserError: nothing is, with what to download and where to put it.
        """

    def read_depth(self, source: Any) -> npt.NDArray[Any]:
        """One frame, (H, W) uint16 or float32 mm, 0 = no reading (K2HPD: grey levels, not distances).

        Raises:
          UnreadableFrame: missing, truncated or of the wrong kind.
        """

    def spec(self) -> dict[str, Any]:
        """Options that the examples depend on, as JSON; no paths."""


def find(folder: Path, candidates: Iterable[str]) -> Path | None:
    """The first candidate that exists in a folder or, if none does, in the one folder below with any.

    Args:
      folder: that the user named.
      candidates: files or folders, relative to it, with forward slashes. Letter case does not matter.

    Returns:
      The path as it is spelled on disk; None: there is none.

    Raises:
      UserError: several folders below have one.
    """
    candidates = tuple(candidates)
    here = find_in(folder, candidates)
    if here is not None:
        return here
    found = {below: find_in(below, candidates) for below in subfolders(folder)}
    there = {below: path for below, path in found.items() if path is not None}
    if len(there) > 1:
        names = ", ".join(below.name for below in there)
        raise UserError(
            f"{folder}: {candidates[0]} is in several folders ({names}); name one of them instead"
        )
    return next(iter(there.values()), None)


def find_in(folder: Path, candidates: Iterable[str]) -> Path | None:
    """As `find`, in this folder alone."""
    candidates = tuple(candidates)
    exact = (folder / candidate for candidate in candidates)
    spelled = (_in_any_case(folder, candidate) for candidate in candidates)
    return next((path for path in exact if os.path.exists(path)), None) or next(
        filter(None, spelled), None
    )


def is_companion(name: str) -> bool:
    """Whether a file or folder was left by a file manager, and holds no data: `._x.png`, `.DS_Store`, `Thumbs.db`."""
    return name.startswith(".") or name.lower() in ("thumbs.db", "desktop.ini", "__macosx")


def entries(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder, companions left out.

    Raises:
      UserError: it cannot be listed.
    """
    try:
        with os.scandir(folder) as found:
            yield from (entry for entry in found if not is_companion(entry.name))
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror})") from error


def spelled(folder: Path, name: str) -> Path:
    """The file that a table calls `name`, relative to `folder`: exactly so or, if there is none, in other letter case.

    Returns:
      `folder / name`, spelled as on disk where it is there.

    Raises:
      UnreadableFrame: the name is absolute, or has `..` in it.
    """
    path = folder / name
    if name.startswith("/") or os.pardir in PurePosixPath(name).parts:
        raise UnreadableFrame("leads out of its folder; expected a path below it", printable(name))
    if os.path.lexists(path):
        return path
    return _in_any_case(folder, name) or path


def _in_any_case(folder: Path, name: str) -> Path | None:
    for part in PurePosixPath(name).parts:
        if not os.path.lexists(folder / part):
            try:
                alike = _listing(os.fspath(folder), folder.stat().st_mtime_ns).get(part.lower())
            except (OSError, UserError):  # no folder, or no permission to list it
                return None
            if alike is None:
                return None
            part = alike
        folder = folder / part
    return folder


@functools.lru_cache(maxsize=16)
def _listing(folder: str, changed_ns: int) -> Mapping[str, str]:
    """Name in small letters -> as spelled on disk; kept until the folder changes."""
    del changed_ns
    return {name.lower(): name for name in sorted((e.name for e in entries(folder)), reverse=True)}


def subfolders(folder: Path) -> list[Path]:
    """The folders directly in a folder, sorted, companions left out."""
    try:
        return sorted(Path(entry.path) for entry in entries(folder) if entry.is_dir())
    except UserError:
        return []


def relative(path: Path, folder: Path) -> str:
    """`path` as seen from `folder`, with forward slashes; "" for the folder itself."""
    below = path.relative_to(folder).as_posix()
    return "" if below == "." else below


def count_files(folder: Path, prefix: str = "", suffix: str = ".png") -> int:
    """How many files of these names, in any letter case, are in a folder and those below it.

    Looks at names only: a million files take about a second.
    """
    count, pending = 0, [os.fspath(folder)]
    while pending:
        for entry in entries(pending.pop()):
            name = entry.name.lower()
            if name.endswith(suffix):
                count += name.startswith(prefix)
            elif entry.is_dir():
                pending.append(entry.path)
    return count


def compare_counts(labels: str, labelled: int, folder: str, on_disk: int) -> tuple[str, ...]:
    """A fault where a file of labels (or boxes) and the folder of its frames differ in length.

    Args:
      labels, folder: names of the two, for the message.
      labelled, on_disk: frames of each.

    Returns:
      One line, or none.

    Raises:
      UserError: there is no frame at all.
    """
    if not on_disk:
        raise UserError(
            f"{folder} holds no frames, {labels} lists {labelled:,}; unpack the images too, or move "
            "the label file away to build the other split alone"
        )
    counts = f"{labels} lists {counted(labelled, 'frame')}, {folder} holds {on_disk:,}"
    if labelled < on_disk:
        return (f"{counts}: {on_disk - labelled:,} that it does not list left out",)
    if labelled > on_disk:
        return (f"{counts}: at least {labelled - on_disk:,} missing, to be skipped",)
    return ()


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
