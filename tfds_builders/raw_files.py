"""Raw data sets: the interface of their readers, and helpers to find and parse their files.

Files are found as an archive unpacks, one folder deeper, and in any letter case. Companions that macOS and Windows
leave (`._x.png`, `Thumbs.db`, `__MACOSX/`) never count, so that a copy holds the same frames as the original.
"""

import functools
import os
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from a2j_jax import geometry
from a2j_jax.data.array_files import parse_rows, read_rows
from a2j_jax.data.depth_files import read_depth
from a2j_jax.errors import UnreadableFrame, UserError, as_utf8, printable
from a2j_jax.tracks import TrackSpec

Array = npt.NDArray[Any]
Notes = tuple[str, ...]

# Notes that begin with this are warnings; all others are information.
WARNING = "warning: "
_COMPANIONS = ("thumbs.db", "desktop.ini", "__macosx")
_FIRST_LINES = 1 << 14  # bytes that hold the first line
_SEPARATORS = b",;()[]"
_LARGEST = 1e6  # px or mm; labels with larger numbers mean nothing
_MOST = 0.9  # share of the labels from which a fault is one of the entire file


def counted(count: int, noun: str) -> str:
    """A number with its noun: "1 frame", "2,000 frames"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


@dataclass(frozen=True, eq=False)
class RawSplit:
    """One split as shipped, indexed but not read. Row i is the i-th frame that counts.

    Attributes:
      frame_ids: name of each of the N frames in the data set; unique in the split.
      sources: the argument of `RawDataset.read_depth` for each frame.
      joints_uvd: (N, K, 3) px, px, mm or (N, K, 2) px, full frame; NaN: not labeled; None: the
        split's labels are not public.
      rows: (N,) the rows of the label file that were kept, where some of its frames do not count
        (marked invalid, rotated copies left out).
      total: rows of that file. Published per-frame files have N or `total` rows.
      crops: (N, 3) centers px, px, mm or (N, 4) boxes px: crop exactly here; NaN rows: not given.
      boxes_px: (N, 4) x0, y0, x1, y1 px, a hint: the object is looked for inside, in the depth.
      numbers: (N,) distinct, from 0: number of each frame in the published split by its name, where
        names have one. It is the `index` of the example, and the row of a published per-frame file that
        covers the entire split while only some frames are here.
      notes: oddities found while indexing, one line each, with counts and file names.
      faults: the same for frames that are missing or cannot be used: errors with `--strict`.
    """

    frame_ids: Sequence[str]
    sources: Sequence[Any]
    joints_uvd: npt.NDArray[np.float32] | None
    rows: npt.NDArray[np.int64] | None = None
    total: int | None = None
    crops: npt.NDArray[np.float64] | None = None
    boxes_px: npt.NDArray[np.float64] | None = None
    numbers: npt.NDArray[np.int64] | None = None
    notes: Notes = ()
    faults: Notes = ()

    def __post_init__(self) -> None:
        """Names are stored as UTF-8."""
        object.__setattr__(self, "frame_ids", [as_utf8(name) for name in self.frame_ids])

    def __len__(self) -> int:
        return len(self.frame_ids)


@dataclass(frozen=True)
class RawDataset(ABC):
    """A data set as its authors ship it. Small and picklable: a folder and options, no arrays.

    A subclass is a frozen dataclass; its fields beside these are the options of the data set. With `about=NAME` its
    HOMEPAGE, LICENSE, BIBTEX and DOWNLOAD are those of table NAME of `datasets.toml`.

    Attributes:
      HOMEPAGE, LICENSE, BIBTEX: for the metadata.
      DOWNLOAD: instructions for the user: files to download, and where to put them.
      folder: with the unpacked download.
      track: of the frames.
    """

    HOMEPAGE: ClassVar[str] = ""
    LICENSE: ClassVar[str] = (
        "For research; the terms are the authors', see their page. Cite their paper."
    )
    BIBTEX: ClassVar[str] = ""
    DOWNLOAD: ClassVar[str] = ""

    folder: Path
    track: TrackSpec

    def __init_subclass__(cls, about: str | None = None) -> None:
        if about is not None:
            tables = tomllib.loads(Path(__file__).with_name("datasets.toml").read_text("utf-8"))
            for key, text in tables[about].items():
                setattr(cls, key.upper(), text)

    def splits(self) -> Mapping[str, RawSplit]:
        """Indexes the frames that are there; opens none.

        Raises:
          UserError: there are none (with what to download and where to put it), or labels that
            cannot be read.
        """
        found = {name: self.index(name) for name in ("train", "test")}
        there = {name: split for name, split in found.items() if split is not None}
        if not there:
            raise UserError(
                f"{self.folder}: no split of this data set found there{self.hint()}", self.DOWNLOAD
            )
        return there

    def hint(self) -> str:
        """Ends the message where no split was found; "" if the folder suggests nothing."""
        return ""

    @abstractmethod
    def index(self, split: str) -> RawSplit | None:
        """The frames of "train" or "test"; None: that split is not there."""

    def read_depth(self, source: Any) -> Array:
        """One frame, (H, W) uint16 or float32 mm, 0 = no reading (K2HPD: gray levels, not distances).

        Args:
          source: from `RawSplit.sources`; here a path below the folder.

        Raises:
          UnreadableFrame: missing, truncated or of the wrong kind.
        """
        return read_depth(spelled(self.folder, source), self.track.frame_format).depth

    def spec(self) -> dict[str, Any]:
        """Options that the examples depend on, as JSON; no paths."""
        return {}

    def download_again(self, missing: str) -> UserError:
        """The error for a part of the download that is not there."""
        return UserError(f"{missing}: no such folder; expected the frames", self.DOWNLOAD)


# --- Where files are


def find(
    folder: Path,
    candidates: Iterable[str],
    belongs: Callable[[str], bool | None] = lambda name: None,
) -> Path | None:
    """The first candidate that exists in a folder or, if none does, in the one folder below with any; None: none does.

    Args:
      folder: named by the user.
      candidates: files or folders, relative to it, with forward slashes, in any letter case.
      belongs: whether the name of a folder below states that its files are wanted, or (False) that they are not.

    Raises:
      UserError: several folders below have one, and none is wanted by its name.
    """
    candidates = tuple(candidates)
    if here := find_in(folder, candidates):
        return here
    found = {below: path for below in subfolders(folder) if (path := find_in(below, candidates))}
    wanted = [path for below, path in found.items() if belongs(below.name)]
    unnamed = {below.name: path for below, path in found.items() if belongs(below.name) is None}
    if len(unnamed) > 1 and not wanted:
        raise UserError(
            f"{folder}: {candidates[0]} is in several folders ({', '.join(unnamed)}); name one of them instead"
        )
    return next(iter([*wanted, *unnamed.values()]), None)


def find_in(folder: Path, candidates: Iterable[str]) -> Path | None:
    """As `find`, in this folder alone; the exact spelling of any candidate comes first."""
    candidates = tuple(candidates)
    exact = (folder / candidate for candidate in candidates)
    alike = (_in_any_case(folder, candidate) for candidate in candidates)
    found = (path for paths in (exact, alike) for path in paths if path and os.path.exists(path))
    return next(found, None)


def entries(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder, companions of file managers left out; `UserError` where it cannot be listed."""
    try:
        with os.scandir(folder) as found:
            for entry in found:
                if not entry.name.startswith(".") and entry.name.lower() not in _COMPANIONS:
                    yield entry
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror})") from error


def spelled(folder: Path, name: str) -> Path:
    """`folder / name`, spelled as on disk: exactly so or, if there is none, in other letter case.

    Raises:
      UnreadableFrame: the name is absolute, or contains `..`.
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
                alike = _listing(os.fspath(folder), folder.stat().st_mtime_ns)
                part = alike[part.lower()]
            except (OSError, UserError, KeyError):  # no such file or folder, or no permission
                return None
        folder = folder / part
    return folder


@functools.lru_cache(maxsize=16)
def _listing(folder: str, changed_ns: int) -> Mapping[str, str]:
    """Name in lowercase -> as spelled on disk; kept until the folder changes."""
    del changed_ns
    return {name.lower(): name for name in sorted((e.name for e in entries(folder)), reverse=True)}


def subfolders(folder: Path) -> list[Path]:
    """The folders directly in a folder, sorted, companions left out."""
    try:
        return sorted(Path(entry.path) for entry in entries(folder) if entry.is_dir())
    except UserError:
        return []


def relative(path: Path, folder: Path) -> str:
    """The beginning of the names of files in `path`, seen from `folder`: "a/b/", or "" for the folder itself."""
    below = path.relative_to(folder).as_posix()
    return "" if below == "." else f"{below}/"


def count_files(folder: Path, prefix: str = "", suffix: str = ".png") -> int:
    """Counts the files of these names, in any letter case, in a folder and those below it, without opening any."""
    count, pending = 0, [os.fspath(folder)]
    while pending:
        for entry in entries(pending.pop()):
            name = entry.name.lower()
            if name.endswith(suffix):
                count += name.startswith(prefix)
            elif entry.is_dir():
                pending.append(entry.path)
    return count


def compare_counts(labels: str, labeled: int, folder: str, on_disk: int) -> Notes:
    """A fault, or none, where a file of labels (or boxes) and the folder of its frames differ in length.

    Raises:
      UserError: there is no frame at all.
    """
    if not on_disk:
        raise UserError(
            f"{folder} holds no frames, {labels} lists {labeled:,}; unpack the images too, or move "
            "the label file away to build the other split alone"
        )
    if labeled == on_disk:
        return ()
    extra = f"{on_disk - labeled:,} that it does not list left out"
    if labeled > on_disk:
        extra = f"at least {labeled - on_disk:,} missing, to be skipped"
    return (f"{labels} lists {counted(labeled, 'frame')}, {folder} holds {on_disk:,}: {extra}",)


# --- Labels


def read_numbers(
    path: str | Path, columns: int, meaning: str, **form: Any
) -> tuple[list[str], Array]:
    """A label file of lines `name n1 n2 ...`, separated by white space, commas, semicolons or brackets.

    Arguments and errors as of `a2j_jax.data.array_files.read_rows`.

    Returns:
      N names, with forward slashes; their numbers, (N, columns), as converted.
    """
    rows = read_rows(path, columns, meaning, named=True, separators=_SEPARATORS, **form)
    return [name.replace("\\", "/") for name in rows.names or ()], rows.values


def count_numbers(path: Path) -> int | None:
    """Counts the numbers after the name in the first line of a label file; None: it is not one."""
    try:
        with path.open("rb") as file:
            lines = file.read(_FIRST_LINES).split(b"\n")
        first = next((line for line in lines if line.strip()), b"")
        return parse_rows([first], path, named=True, separators=_SEPARATORS).values.shape[1]
    except (OSError, UserError):
        return None


def first_of_each(names: list[str], where: str) -> tuple[npt.NDArray[np.int64], Notes]:
    """Rows of the first mention of every name, and a note on the others."""
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        first.setdefault(name, row)
    repeated = len(names) - len(first)
    notes = (f"{where}: {counted(repeated, 'repeated line')} left out",) if repeated else ()
    return np.fromiter(first.values(), np.int64), notes


def project(xyz_mm: Array, track: TrackSpec, dtype: npt.DTypeLike = np.float64) -> Array:
    """Camera coordinates, z away from the camera and y as the track has it (fy < 0: up) -> px, px, mm.

    Where z is 0 the result is not finite: `unlabeled_to_nan` makes that "not labeled".
    """
    assert track.camera is not None
    with np.errstate(all="ignore"):
        return geometry.xyz_to_uvd(xyz_mm, track.camera).astype(dtype)


def refuse_backwards(depths_mm: Array, what: str, where: str) -> None:
    """Refuses depths of `what`, of any shape, NaN where there is none, if nearly all are negative."""
    given = depths_mm[np.isfinite(depths_mm)]
    if (negative := (given < 0).sum()) > _MOST * given.size:
        raise UserError(
            f"{where}: z points backwards: the depths of {negative:,} of {given.size:,} {what} are negative "
            "(OpenGL's axes?); expected z pointing away from the camera: negate y and z"
        )


def unlabeled_to_nan(joints: Array, where: str) -> Notes:
    """Makes all numbers of joints that are not labeled NaN, in place, and counts those joints.

    Not labeled: a number missing (NaN), a depth of 0 or less, pixels that are both 0 or negative on a 2D track
    (how COCO, MPII and others write a joint that is not in view), or numbers beyond any frame.

    Args:
      joints: (N, K, 3) px, px, mm or (N, K, 2) px; NaN: not given.
      where: the file they are from, for the note (none, where all joints are labeled).

    Raises:
      UserError: the depths of nearly all joints are negative, or nearly all numbers are too large.
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
            f"{where}: {beyond.sum():,} of {counted(given, 'joint')} have numbers above {_LARGEST:g} px or mm; "
            "are they in another unit?"
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
    return (f"{note} ({', '.join(among) or 'NaN'})",)


def outside_frame(joints: Array, track: TrackSpec) -> npt.NDArray[np.bool_]:
    """(N, K) which labeled joints, of (N, K, 3 or 2), lie outside their frame."""
    uv, last = joints[..., :2], np.array(track.frame_size, np.float32) - 1
    outside: npt.NDArray[np.bool_] = np.any((uv < 0) | (uv > last), axis=-1)
    return outside & ~np.isnan(joints).any(axis=-1)
