"""Which text files beside the test frames of HANDS 2017 are boxes, and which are labels.

Boxes come as `BoundingBox.txt`; labels are not public, and whoever has them calls them as he likes. So
files are told by their lines: a file name, then 4 numbers of a box or 63 of 21 joints.
"""

from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from a2j_jax import geometry
from a2j_jax.errors import UserError
from a2j_jax.tracks import get_track
from tfds_builders import files
from tfds_builders.folders import entries
from tfds_builders.wording import counted

_BOX, _JOINTS = 4, 63
EXPECTED = "21 joints x (x y z mm)"
# What predictions are called: their lines are those of labels.
_PREDICTIONS = ("submission", "result")

Labels = tuple[list[str], npt.NDArray[np.float32], tuple[str, ...]]


class Texts(NamedTuple):
    """Text files by what their lines hold.

    Attributes:
      boxes: of the test frames; None: there are none.
      labels: of the test frames.
      others: neither, or predictions by their name.
    """

    boxes: Path | None
    labels: tuple[Path, ...]
    others: tuple[Path, ...]


def recognise(folders: Iterable[Path]) -> Texts:
    """Sorts the `.txt` files of some folders by their first lines, those of the training set apart.

    Raises:
      UserError: two files hold boxes.
    """
    paths = [path for folder in folders for path in _text_files(folder)]
    paths = [path for path in paths if not path.name.lower().startswith("train")]
    numbers = {
        path: None if path.name.lower().startswith(_PREDICTIONS) else files.count_numbers(path)
        for path in paths
    }
    boxes, labels = ([p for p in paths if numbers[p] == count] for count in (_BOX, _JOINTS))
    if len(boxes) > 1:
        raise UserError(f"{boxes[0]} and {boxes[1]}: both hold boxes of the test frames; keep one")
    others = tuple(path for path in paths if numbers[path] not in (_BOX, _JOINTS))
    return Texts(boxes[0] if boxes else None, tuple(labels), others)


def find_training_labels(folder: Path) -> Path | None:
    """The label file in the folder of the training set, if it is called by another name.

    Raises:
      UserError: there are two.
    """
    found = [path for path in _text_files(folder) if files.count_numbers(path) == _JOINTS]
    if len(found) > 1:
        raise UserError(f"{found[0]} and {found[1]}: both hold labels; keep that of all frames")
    return found[0] if found else None


def read_labels(path: Path) -> Labels:
    """A label file of the challenge, projected with the track's camera.

    Args:
      path: lines of a file name, with or without folders, and 21 x (x y z) mm.

    Returns:
      The file names without folders; (N, 21, 3) px, px, mm, NaN where z is not positive; notes.

    Raises:
      UserError: see `files.number_blocks`.
    """
    camera = get_track("hands2017").camera
    assert camera is not None
    names: list[str] = []
    parts = []
    # Block by block: the whole file in float64, projected, would be gigabytes.
    for some, values in files.number_blocks(path, _JOINTS, EXPECTED):
        xyz = values.reshape(-1, 21, 3)
        with np.errstate(
            divide="ignore", invalid="ignore", over="ignore"
        ):  # depths of 0: not labelled
            parts.append(geometry.xyz_to_uvd(xyz, camera).astype(np.float32))
        names += [name.rsplit("/", 1)[-1] for name in some]
    joints = files.concatenate(parts)
    return names, joints, files.unlabelled_to_nan(joints, path.name)


def read_several(paths: tuple[Path, ...]) -> Labels:
    """Several label files as one, say of the seen and of the unseen subjects.

    Returns:
      As `read_labels`.

    Raises:
      UserError: two of them label the same frame; or see `read_labels`.
    """
    parts = {path: read_labels(path) for path in paths}
    named = {path: set(names) for path, (names, _, _) in parts.items()}
    for one, other in combinations(paths, 2):
        if both := named[one] & named[other]:
            raise UserError(
                f"{one} and {other}: both label {counted(len(both), 'frame')} (the first: {min(both)}); keep "
                "the file that is right"
            )
    names = [name for some, _, _ in parts.values() for name in some]
    notes = tuple(note for _, _, some in parts.values() for note in some)
    return names, np.concatenate([joints for _, joints, _ in parts.values()]), notes


def _text_files(folder: Path) -> list[Path]:
    found = entries(folder)
    return sorted(Path(entry.path) for entry in found if entry.name.lower().endswith(".txt"))
