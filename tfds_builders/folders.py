"""Where a downloaded data set lies: as its archive unpacks, a folder deeper, in other letter case."""

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from a2j_jax.errors import UserError
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
    found = {below: find_in(below, candidates) for below in _subfolders(folder)}
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
    return next((path for path in exact if path.exists()), None) or next(
        filter(None, spelled), None
    )


def _in_any_case(folder: Path, name: str) -> Path | None:
    for part in PurePosixPath(name).parts:
        try:
            entries = os.listdir(folder)
        except OSError:  # no folder, or not one we may look into
            return None
        alike = sorted(entry for entry in entries if entry.lower() == part.lower())
        if not alike:
            return None
        folder = folder / (part if part in alike else alike[0])
    return folder


def _subfolders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir())
    except OSError:
        return []


def relative(path: Path, folder: Path) -> str:
    """`path` as seen from `folder`, with forward slashes; "" for the folder itself."""
    below = path.relative_to(folder).as_posix()
    return "" if below == "." else below


def count_files(folder: Path, prefix: str = "", suffix: str = ".png") -> int:
    """How many files of these names are in a folder and those below it.

    Looks at names only: a million files take about a second.
    """
    count, pending = 0, [os.fspath(folder)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.name.endswith(suffix):
                    count += entry.name.startswith(prefix)
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
