"""Scores of some frames beside those of all: HANDS 2017's seen and unseen subjects, or any list of frames."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from a2j_jax.errors import UserError
from a2j_jax.evaluation.score import Scores, score_errors
from a2j_jax.evaluation.submission import numbered
from a2j_jax.files import local_path, regular_file
from a2j_jax.progress import say
from a2j_jax.text import printable
from a2j_jax.tracks import TrackSpec


def read_subsets(files: Mapping[str, str | Path]) -> dict[str, NDArray[np.int64]]:
    """Reads lists of frames, one frame per line.

    A line begins with the name of a HANDS 2017 or NYU frame (`image_D00000001.png`, in whatever folder) or with the
    frame's number, counted from 0; what follows on the line is not looked at, so that the label file of some
    subjects is a list of their frames too.

    Args:
      files: name of the subset → its file.

    Returns:
      name → (n,) distinct numbers of frames, ascending.

    Raises:
      UserError: a file that cannot be read, is empty, or whose lines begin with neither.
    """
    return {name: _read(local_path(path)) for name, path in files.items()}


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


def _read(path: Path) -> NDArray[np.int64]:
    regular_file(path, "a list of frames")
    try:
        words = [line.split() for line in path.read_text("utf-8-sig").splitlines()]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not text; expected a frame per line") from error
    names = [line[0].rstrip(",;") for line in words if line]
    if not names:
        raise UserError(f"{path}: is empty; expected a frame per line")
    numbers = numbered(names)
    if numbers is None:
        # Up to 18 digits fit 64 bits; no data set has that many frames.
        wrong = next((name for name in names if not re.fullmatch(r"[0-9]{1,18}", name)), None)
        if wrong is not None:
            raise UserError(
                f"{path}: line begins with {printable(wrong, 60)!r}; expected image_D%08d.png or a number from 0"
            )
        numbers = np.array(names, np.int64)
    return np.unique(numbers)
