"""The HANDS 2017 challenge as shipped: 16-bit PNG frames, xyz labels in text, boxes for the test set.

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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from a2j_jax.depth_files import read_depth
from a2j_jax.errors import UserError
from a2j_jax.evaluation.submission import frame_index
from a2j_jax.tracks import get_track
from tfds_builders import files, folders
from tfds_builders.depth_pose import DepthPoseBuilder
from tfds_builders.hands2017.boxes import read_boxes
from tfds_builders.hands2017.texts import (
    EXPECTED,
    find_training_labels,
    read_labels,
    read_several,
    recognise,
)
from tfds_builders.raw import RawSplit
from tfds_builders.wording import counted

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
        """Index the frames; none is opened. See `tfds_builders.raw.Distribution`.

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
        named = folders.find(self.folder, (f"training/{_TRAINING_LABELS}", _TRAINING_LABELS))
        images = None if named else folders.find(self.folder, ("training/images",))
        return named or (images and find_training_labels(images.parent))

    def _index_training(self, label_path: Path) -> RawSplit:
        # Some keep the label file one level up.
        images = folders.find_in(label_path.parent, ("images", "training/images"))
        if images is None:
            raise UserError(
                f"{label_path.parent / 'images'}: no such folder; expected the frames", DOWNLOAD
            )
        names, joints, notes = read_labels(label_path)
        on_disk = folders.count_files(images)
        faults = folders.compare_counts(label_path.name, len(names), images.name, on_disk)
        total, rows = len(names), files.first_of_each(names)
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
        found = folders.find(self.folder, ("frame/images",))
        if found is not None or not self.folder.is_dir():
            return found
        named = self.folder.resolve().name.lower() == "frame"
        is_frame = named or recognise([self.folder]).boxes is not None
        return folders.find_in(self.folder, ("images",)) if is_frame else None

    def _index_test(self, images: Path) -> RawSplit:
        place = images.parent
        above = () if place == self.folder else (place.parent,)
        texts = recognise((place, images, *above))
        notes, boxes, joints = _unrecognised(texts.others), None, None
        faults: tuple[str, ...] = ()
        if texts.boxes is not None:
            names, boxes, more = read_boxes(texts.boxes, get_track("hands2017").frame_size)
            on_disk = folders.count_files(images)
            faults = folders.compare_counts(texts.boxes.name, len(names), images.name, on_disk)
        else:
            names = sorted(
                _published(e.name)
                for e in folders.entries(images)
                if e.name.lower().endswith(".png")
            )
            more = ("no BoundingBox.txt beside the test frames",)
        if not names or files.first_of_each(names) is not None:
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
        at = folders.relative(images, self.folder) + "/"
        return ids, ids if at == prefix else [at + name for name in names]

    def read_depth(self, source: str) -> npt.NDArray[Any]:
        """One frame, (480, 640) mm, uint16 as shipped, 0 = no reading."""
        return read_depth(folders.spelled(self.folder, source)).depth

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
