"""Locates the files of a downloaded data set: as its archive unpacks, one folder deeper, in any letter case.

Every reader lists files through this module, so that a copy made by macOS or Windows holds the same frames as the
original: companion files (`._x.png`, `Thumbs.db`, `__MACOSX/`) do not count, and `X.PNG` is `x.png`.
"""

import functools
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from a2j_jax.errors import UnreadableFrame, UserError
from a2j_jax.text import printable
from tfds_builders.wording import counted


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
