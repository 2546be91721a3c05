"""Which text files beside the test frames of HANDS 2017 are boxes, and which are labels.

Boxes come as `BoundingBox.txt`; labels are not public, and whoever has them calls them as he likes. So
files are told by their lines: a file name, then 4 numbers of a box or 63 of 21 joints.

`BoundingBox.txt` of the HANDS 2017 test set: which of two box formats a file has.

The HANDS 2017 challenge as shipped: 16-bit PNG frames, xyz labels in text, boxes for the test set.

| file | line |
| --- | --- |
| `training/Training_Annotation.txt` | `image_D00000001.png`, then 21 x (x y z) mm, tab-separated |
| `frame/BoundingBox.txt` | `image_D00000001.png`, then 4 numbers: a box around the hand, px |
| `frame/Test_Annotation.txt` | as the training labels; not public: optional, yours |

The files beside the test frames may have other names: `texts.recognise` tells them by their lines.
Nobody documents whether a box is `x y width height` or `x0 y0 x1 y1`: `read_boxes` decides.
Evaluation without test labels means writing the challenge's submission file.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from a2j_jax import geometry
from a2j_jax.data.depth_files import read_depth
from a2j_jax.errors import UserError
from a2j_jax.evaluation.joint_files import frame_index
from a2j_jax.tracks import get_track
from tfds_builders import raw_files
from tfds_builders.base import DepthPoseBuilder
from tfds_builders.raw_files import RawSplit, counted, entries

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
        path: None if path.name.lower().startswith(_PREDICTIONS) else raw_files.count_numbers(path)
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
    found = [path for path in _text_files(folder) if raw_files.count_numbers(path) == _JOINTS]
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
      UserError: see `raw_files.number_blocks`.
    """
    camera = get_track("hands2017").camera
    assert camera is not None
    names: list[str] = []
    parts = []
    # Block by block: the whole file in float64, projected, would be gigabytes.
    for some, values in raw_files.number_blocks(path, _JOINTS, EXPECTED):
        xyz = values.reshape(-1, 21, 3)
        with np.errstate(
            divide="ignore", invalid="ignore", over="ignore"
        ):  # depths of 0: not labelled
            parts.append(geometry.xyz_to_uvd(xyz, camera).astype(np.float32))
        names += [name.rsplit("/", 1)[-1] for name in some]
    joints = raw_files.concatenate(parts)
    return names, joints, raw_files.unlabelled_to_nan(joints, path.name)


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


# Boxes may end on the last pixel or just behind it, and be rounded.
_SLACK_PX = 1.0


def read_boxes(
    path: Path, frame_size: tuple[int, int]
) -> tuple[list[str], npt.NDArray[np.float64], tuple[str, ...]]:
    """Boxes of the test frames.

    Args:
      path: lines of a file name, with or without folders, and four numbers.
      frame_size: (W, H) px.

    Returns:
      The file names without folders; (N, 4) x0, y0, x1, y1 px, clipped to the frame, the whole frame
      where the line makes no box; notes, of which one says how the file was understood.

    Raises:
      UserError: see `raw_files.number_blocks`; or neither format fits most lines.
    """
    names, values = raw_files.read_numbers(path, 4, "a box")
    boxes, found = to_corners(values, frame_size)
    if found is None:
        raise UserError(
            f"{path}: neither as x y width height nor as x0 y0 x1 y1 do most lines lie in the "
            f"{frame_size[0]}x{frame_size[1]} frame; is this the boxes of the test frames?"
        )
    notes: tuple[str, ...] = (f"{path.name}: read as {found}",)
    empty = np.isnan(boxes[:, 0])
    if empty.any():
        boxes[empty] = 0, 0, frame_size[0] - 1, frame_size[1] - 1
        notes += (
            f"{path.name}: {counted(empty.sum(), 'line')} without a box; the whole frame is taken",
        )
    return [name.rsplit("/", 1)[-1] for name in names], boxes, notes


def to_corners(
    values: npt.NDArray[np.float64], frame_size: tuple[int, int]
) -> tuple[npt.NDArray[np.float64], str | None]:
    """Boxes of unknown format -> corners.

    The whole file has one format: the one that contradicts itself (a box of no size, or beyond the
    frame) on fewer lines. Corners read as sizes leave the frame wherever a hand is right of or
    below its middle; sizes read as corners turn inside out wherever a hand is farther from the
    left or upper edge than it is large. A file that fits both is read as corners: as sizes, every
    single box would have to be that large.

    Args:
      values: (N, 4) either x0, y0, x1, y1 or x, y, width, height; px.
      frame_size: (W, H) px.

    Returns:
      (N, 4) x0, y0, x1, y1 px, clipped to the frame, NaN where the line makes no box; and the
      format, or None where neither fits at least half of the lines.
    """
    origin, other = values[:, :2], values[:, 2:]
    readings = {"x0 y0 x1 y1": other, "x y width height": origin + other}
    last = np.array(frame_size, np.float64)
    fits = {
        # NaN compares false: it fits neither.
        name: ((far > origin) & (far <= last + _SLACK_PX) & (origin >= -_SLACK_PX)).all(axis=1)
        for name, far in readings.items()
    }
    # max keeps the first of equals: corners.
    found = max(fits, key=lambda name: int(fits[name].sum()))
    boxes = np.concatenate([origin, readings[found]], axis=1)
    boxes = np.clip(boxes, 0.0, np.concatenate([last, last]) - 1.0)
    empty = ~(boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    boxes[empty] = np.nan
    return boxes, found if 2 * fits[found].sum() >= len(values) else None


PUBLISHED_FRAMES = {"train": 957_032, "test": 295_510}
HOMEPAGE = "http://icvl.ee.ic.ac.uk/hands17/challenge/"
LICENSE = (
    "For research, by registration with the organisers, who do not allow redistribution. Cite "
    "their paper."
)
BIBTEX = """\
@article{yuan2017hands,
  title   = {The 2017 Hands in the Million Challenge on 3D Hand Pose Estimation},
  author  = {Yuan, Shanxin and Ye, Qi and Garcia-Hernando, Guillermo and Kim, Tae-Kyun},
  journal = {arXiv preprint arXiv:1707.02237},
  year    = {2017}
}"""
DOWNLOAD = f"""\
HANDS 2017: ask the organisers for access at
  {HOMEPAGE}
and unpack the training set and the frame-based test set, so that --manual_dir holds:
  training/Training_Annotation.txt
  training/images/image_D00000001.png ... image_D00957032.png
  frame/BoundingBox.txt
  frame/images/image_D00000001.png ... image_D00295510.png
  frame/Test_Annotation.txt   (optional: labels of the test frames, if you have them)
The text files may have other names: they are told by their lines. One of the two folders is enough."""

_TRAINING_LABELS = "Training_Annotation.txt"


@dataclass(frozen=True)
class Hands2017Distribution:
    """The unpacked archives.

    Attributes:
      folder: that holds `training` and `frame`, or one of these.
    """

    folder: Path

    def splits(self) -> Mapping[str, RawSplit]:
        """Index the frames; none is opened. See `tfds_builders.raw_files.Distribution`.

        A frame is called `training/images/image_D00000001.png` or `frame/images/...`, as in the
        challenge's submission file. Frames come in the order of their numbers, whatever the files' is.
        """
        found = {}
        labels = self._training_labels()
        if labels is not None:
            found["train"] = self._index_training(labels)
        images = self._test_images()
        if images is not None:
            found["test"] = self._index_test(images)
        if not found:
            raise UserError(
                f"{self.folder}: no training/{_TRAINING_LABELS} and no frame/images", DOWNLOAD
            )
        return found

    def _training_labels(self) -> Path | None:
        named = raw_files.find(self.folder, (f"training/{_TRAINING_LABELS}", _TRAINING_LABELS))
        images = None if named else raw_files.find(self.folder, ("training/images",))
        return named or (images and find_training_labels(images.parent))

    def _index_training(self, label_path: Path) -> RawSplit:
        # Some keep the label file one level up.
        images = raw_files.find_in(label_path.parent, ("images", "training/images"))
        if images is None:
            raise UserError(
                f"{label_path.parent / 'images'}: no such folder; expected the frames", DOWNLOAD
            )
        names, joints, notes = read_labels(label_path)
        on_disk = raw_files.count_files(images)
        faults = raw_files.compare_counts(label_path.name, len(names), images.name, on_disk)
        total, rows = len(names), raw_files.first_of_each(names)
        if rows is not None:
            notes += (f"{label_path.name}: {counted(total - len(rows), 'repeated line')} left out",)
            names, joints = [names[row] for row in rows], joints[rows]
        order, numbers, more = _in_number_order(names)
        if (np.diff(order) != 1).any():  # a million labels are not copied for nothing
            names, joints = [names[row] for row in order], joints[order]
        ids, sources = self._names(names, "training/images/", images)
        return RawSplit(
            ids,
            sources,
            joints,
            rows=None if rows is None else rows[order],
            total=None if rows is None else total,
            numbers=numbers,
            notes=notes + more,
            faults=faults,
        )

    def _test_images(self) -> Path | None:
        """The folder of the test frames; that of the training set has an `images` too."""
        found = raw_files.find(self.folder, ("frame/images",))
        if found is not None or not self.folder.is_dir():
            return found
        named = self.folder.resolve().name.lower() == "frame"
        is_frame = named or recognise([self.folder]).boxes is not None
        return raw_files.find_in(self.folder, ("images",)) if is_frame else None

    def _index_test(self, images: Path) -> RawSplit:
        place = images.parent
        above = () if place == self.folder else (place.parent,)
        texts = recognise((place, images, *above))
        notes, boxes, joints = _unrecognised(texts.others), None, None
        faults: tuple[str, ...] = ()
        if texts.boxes is not None:
            names, boxes, more = read_boxes(texts.boxes, get_track("hands2017").frame_size)
            on_disk = raw_files.count_files(images)
            faults = raw_files.compare_counts(texts.boxes.name, len(names), images.name, on_disk)
        else:
            names = sorted(
                _published(e.name)
                for e in raw_files.entries(images)
                if e.name.lower().endswith(".png")
            )
            more = ("no BoundingBox.txt beside the test frames",)
        if not names or raw_files.first_of_each(names) is not None:
            raise UserError(f"{texts.boxes or images}: expected every frame once")
        order, numbers, odd = _in_number_order(names)
        names, boxes = [names[row] for row in order], None if boxes is None else boxes[order]
        notes += more + odd
        if texts.labels:
            joints, said, amiss = _labels_for(names, texts.labels)
            notes, faults = notes + said, faults + amiss
        ids, sources = self._names(names, "frame/images/", images)
        return RawSplit(
            ids, sources, joints, boxes_px=boxes, numbers=numbers, notes=notes, faults=faults
        )

    def _names(self, names: list[str], prefix: str, images: Path) -> tuple[list[str], list[str]]:
        """(ids, sources) of files in `images`; one and the same list where they agree."""
        ids = [prefix + name for name in names]
        at = raw_files.relative(images, self.folder) + "/"
        return ids, ids if at == prefix else [at + name for name in names]

    def read_depth(self, source: str) -> npt.NDArray[Any]:
        """One frame, (480, 640) mm, uint16 as shipped, 0 = no reading."""
        return read_depth(raw_files.spelled(self.folder, source)).depth

    def spec(self) -> dict[str, Any]:
        """What the examples depend on: nothing but the files."""
        return {}


def _labels_for(
    names: list[str], paths: tuple[Path, ...]
) -> tuple[npt.NDArray[np.float32], tuple[str, ...], tuple[str, ...]]:
    """(N, 21, 3) labels of the named frames, NaN where the files have none; notes; faults."""
    labelled, values, notes = read_several(paths)
    label_name = " + ".join(path.name for path in paths)
    row_of = {name: row for row, name in enumerate(labelled)}
    rows = np.array([row_of.get(name, -1) for name in names])
    found = int((rows >= 0).sum())
    if not found:
        raise UserError(
            f"{' + '.join(map(str, paths))}: labels none of the test frames ({labelled[0]} is not one)"
        )
    notes = (f"{label_name}: read as labels of the test frames", *notes)
    if found < len(names):
        notes += (
            f"{label_name}: {len(names) - found:,} of {counted(len(names), 'frame')} without a label",
        )
    faults: tuple[str, ...] = ()
    if len(labelled) > found:
        faults = (f"{label_name}: {counted(len(labelled) - found, 'line')} of no test frame",)
    joints = np.where((rows >= 0)[:, None, None], values[rows], np.float32(np.nan))
    return joints, notes, faults


def _published(name: str) -> str:
    """The name of a frame as published, whatever the letter case of the file's."""
    found = re.fullmatch(r"image_d(\d+)\.png", name, re.IGNORECASE)
    return f"image_D{found[1]}.png" if found else name[: -len(".png")] + ".png"


def _unrecognised(paths: tuple[Path, ...]) -> tuple[str, ...]:
    """A note that names text files which are not read."""
    if not paths:
        return ()
    return (
        f"{', '.join(path.name for path in paths)}: not read; expected lines of a file name and 4 "
        f"numbers (boxes) or 63 (labels: {EXPECTED})",
    )


def _in_number_order(
    names: list[str],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64] | None, tuple[str, ...]]:
    """How to put frames in the order of the published split: their rows; numbers from 0; notes."""
    numbers = frame_index(names)
    if numbers is None or numbers.min() < 0 or len(np.unique(numbers)) < len(numbers):
        note = (
            "not all frames are called image_D00000001.png and so on: they are numbered in their "
            "order, also in a submission file"
        )
        return np.arange(len(names)), None, (note,)
    order = np.argsort(numbers)
    return order, numbers[order], ()


class Hands2017(DepthPoseBuilder, skip_registration=True):  # type: ignore[call-arg]
    """TFDS builder `hands2017`."""

    HOMEPAGE, LICENSE, BIBTEX = HOMEPAGE, LICENSE, BIBTEX
    MANUAL_DOWNLOAD_INSTRUCTIONS = DOWNLOAD
