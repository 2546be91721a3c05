"""Scores of some frames beside those of all: HANDS 2017's seen and unseen subjects, or any list of frames."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from a2j_jax.errors import UserError
from a2j_jax.evaluation.score import Scores, score_errors
from a2j_jax.evaluation.submission import match_names, numbered
from a2j_jax.files import local_path, regular_file
from a2j_jax.progress import say
from a2j_jax.text import printable
from a2j_jax.tracks import TrackSpec

# Up to 18 digits fit 64 bits; no data set has that many frames.
_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclasses.dataclass(frozen=True)
class FrameList:
    """A file that lists frames.

    Attributes:
      path: of the file.
      lines: that are not empty, one frame each.
    """

    path: Path
    lines: tuple[str, ...]


def read_subsets(files: Mapping[str, str | Path]) -> dict[str, FrameList]:
    """Reads lists of frames, one frame per line; `frame_numbers` finds the frames.

    Args:
      files: name of the subset → its file.

    Raises:
      UserError: a file that cannot be read, is no text, or is empty.
    """
    return {name: _read(local_path(path)) for name, path in files.items()}


def frame_numbers(
    lists: Mapping[str, FrameList],
    index: NDArray[np.int64],
    frame_id: NDArray[np.str_] | None,
    unreadable: int = 0,
) -> dict[str, NDArray[np.int64]]:
    """Finds the listed frames in a data set.

    A line begins with a frame's number, counted from 0, or with its name, with or without leading folders; what
    follows is not looked at, so that a file of labels is a list of its frames too. In lists where all lines begin with
    digits alone these are numbers. Names of HANDS 2017 and NYU are numbers too (`image_D00000001.png` is 0), unless
    the data set's names say otherwise.

    Args:
      lists: name of the subset → its list.
      index: (N,) numbers of the data set's frames.
      frame_id: (N,) their names; None: not known.
      unreadable: frames that the data set has beside these; as many names may be missing.

    Returns:
      name → (n,) distinct numbers of frames, ascending.

    Raises:
      UserError: a name that is not in the data set, or that fits several frames; or one that means no number, where
        the data set's names are not known.
    """
    names = None if frame_id is None else frame_id.tolist()
    return {name: np.unique(_found(one, index, names, unreadable)) for name, one in lists.items()}


def with_subsets(
    scores: Mapping[str, Scores],
    subsets: Mapping[str, NDArray[np.int64]],
    index: NDArray[np.int64],
    spec: TrackSpec,
    labels_uvd: NDArray[np.float64],
) -> dict[str, Scores]:
    """Adds the scores of subsets of the frames to those of all frames.

    Args:
      scores: method → scores of the same N frames.
      subsets: name → numbers of its frames; frames that were not evaluated are left out of it.
      index: (N,) number of each evaluated frame.
      spec: the track.
      labels_uvd: (N, K, D) labels.

    Raises:
      UserError: none of a subset's frames was evaluated.
    """
    rows = {name: np.isin(index, numbers) for name, numbers in subsets.items()}
    for name, taken in rows.items():
        if not taken.any():
            raise UserError(
                f"subset {name!r}: none of its {len(subsets[name]):,} frames is among the {len(index):,} that "
                f"are scored (numbers {index.min()} to {index.max()})"
            )
        if taken.sum() < len(subsets[name]):
            say(f"subset {name!r}: {taken.sum():,} of its {len(subsets[name]):,} frames are scored")

    def of(one: Scores, taken: NDArray[np.bool_]) -> Scores:
        return score_errors(one.errors[taken], spec, labels_uvd[taken])

    return {
        method: dataclasses.replace(
            one, subsets={name: of(one, taken) for name, taken in rows.items()}
        )
        for method, one in scores.items()
    }


def _read(path: Path) -> FrameList:
    regular_file(path, "a list of frames")
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not text; expected a frame per line") from error
    if not any(lines):
        raise UserError(f"{path}: is empty; expected a frame per line")
    return FrameList(path, tuple(filter(None, lines)))


def _found(
    frames: FrameList, index: NDArray[np.int64], names: list[str] | None, unreadable: int
) -> NDArray[np.int64]:
    words = [re.split(r"[\s,;]", line)[0] for line in frames.lines]
    wrong = next((word for word in words if not _NUMBER.fullmatch(word)), None)
    if wrong is None:
        return np.array(words, np.int64)
    numbers = numbered(words)
    if numbers is not None and (names is None or np.array_equal(_numbered(names), index)):
        return numbers
    where = printable(str(frames.path))
    if names is None:
        raise UserError(
            f"{where}: line begins with {printable(wrong, 60)!r}, but the frames that are scored have no names; "
            "expected image_D%08d.png or a number from 0"
        )
    missing, found = _joined(words, names, where)
    if missing:  # those names may hold spaces or commas
        whole = [line.partition("\t")[0].strip() for line in frames.lines]
        listed = [
            line if word in missing else word for line, word in zip(whole, words, strict=True)
        ]
        missing, found = _joined(listed, names, where)
    if len(missing) > unreadable:
        raise UserError(
            f"{where}: {len(missing):,} of its names are not among the {len(names):,} frames of the data set, the "
            f"first is {printable(missing[0], 60)!r}; expected names like {printable(names[0], 60)!r}, of this split, "
            "or numbers from 0"
        )
    return index[found]


def _joined(listed: list[str], names: list[str], where: str) -> tuple[list[str], NDArray[np.bool_]]:
    """The listed names that are none of a data set's N frames, and (N,) which frames are listed."""
    distinct = list(dict.fromkeys(listed))
    rows = match_names(distinct, names, where)
    return [distinct[row] for row in np.setdiff1d(np.arange(len(distinct)), rows)], rows >= 0


def _numbered(names: list[str]) -> NDArray[np.int64]:
    numbers = numbered(names)
    return np.empty(0, np.int64) if numbers is None else numbers
