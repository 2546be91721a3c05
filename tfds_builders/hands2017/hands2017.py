"""The HANDS 2017 challenge as shipped: 16-bit PNG frames, xyz labels in text, boxes for the test set.

| file | line |
| --- | --- |
| `training/Training_Annotation.txt` | `image_D00000001.png`, then 21 x (x y z) mm, tab-separated |
| `frame/BoundingBox.txt` | `image_D00000001.png`, then 4 numbers: a box around the hand, px |
| `frame/Test_Annotation.txt` | as the training labels; not public: optional, yours |

Nobody documents whether a box is `x y width height` or `x0 y0 x1 y1`: `read_boxes` decides.
Evaluation without test labels means writing the challenge's submission file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from a2j_jax import geometry
from a2j_jax.errors import UserError
from a2j_jax.tracks import get_track
from tfds_builders import files
from tfds_builders.depth_pose import DepthPoseBuilder
from tfds_builders.hands2017.boxes import read_boxes
from tfds_builders.raw import RawSplit

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
One of the two folders is enough."""

_ROOTS = ("", "hands2017/", "HANDS2017/", "hands17/")
# Spellings of the two files beside the test frames: lower case, letters alone.
_BOX_FILES = ("boundingbox", "boundingboxes", "bbox", "bboxes", "bndbox", "framebndbox")
_TEST_LABELS = ("testannotation", "testingannotation", "frameannotation", "testannotationframe")
_EXPECTED = "21 joints x (x y z mm)"


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
        challenge's submission file.
        """
        found = {}
        below = [root + name for root in _ROOTS for name in ("training", "")]
        training = files.find_folder(self.folder, below, "Training_Annotation.txt")
        if training is not None:
            found["train"] = self._index_training(training)
        # The folder of the training set has an `images` too.
        is_frame = _beside(self.folder, _BOX_FILES) or self.folder.resolve().name == "frame"
        here = [""] if is_frame else []
        frame = files.find_folder(self.folder, [r + "frame" for r in _ROOTS] + here, "images")
        if frame is not None:
            found["test"] = self._index_test(frame)
        if not found:
            raise UserError(
                f"{self.folder}: no training/Training_Annotation.txt and no frame/images", DOWNLOAD
            )
        return found

    def _index_training(self, place: Path) -> RawSplit:
        label_path = place / "Training_Annotation.txt"
        # Some keep the label file one level up.
        images = files.find_folder(place, ("", "training"), "images")
        if images is None:
            raise UserError(f"{place / 'images'}: no such folder; expected the frames", DOWNLOAD)
        names, joints, notes = read_labels(label_path)
        notes += files.compare_counts(
            label_path.name, len(names), "images", files.count_files(images / "images")
        )
        total, rows = len(names), files.first_of_each(names)
        if rows is not None:
            notes += (f"{label_path.name}: {total - len(rows)} repeated lines left out",)
            names, joints = [names[row] for row in rows], joints[rows]
        ids, sources = self._names(names, "training/images/", images)
        return RawSplit(
            ids, sources, joints, rows=rows, total=None if rows is None else total, notes=notes
        )

    def _index_test(self, place: Path) -> RawSplit:
        box_path, label_path = (_beside(place, names) for names in (_BOX_FILES, _TEST_LABELS))
        boxes, joints = None, None
        if box_path is not None:
            names, boxes, notes = read_boxes(box_path, get_track("hands2017").frame_size)
            notes += files.compare_counts(
                box_path.name, len(names), "images", files.count_files(place / "images")
            )
        else:
            names = sorted(path.name for path in (place / "images").glob("*.png"))
            notes = ("no BoundingBox.txt beside the test frames: they are taken in name order",)
        if files.first_of_each(names) is not None or not names:
            raise UserError(f"{box_path or place / 'images'}: expected every frame once")
        if label_path is not None:
            joints, more = _labels_for(names, label_path)
            notes += more
        ids, sources = self._names(names, "frame/images/", place)
        return RawSplit(ids, sources, joints, boxes_px=boxes, notes=notes)

    def _names(self, names: list[str], prefix: str, place: Path) -> tuple[list[str], list[str]]:
        """(ids, sources) of files in `place/images`; one and the same list where they agree."""
        ids = [prefix + name for name in names]
        at = files.relative(place / "images", self.folder) + "/"
        return ids, ids if at == prefix else [at + name for name in names]

    def read_depth(self, source: str) -> npt.NDArray[np.uint16]:
        """One frame, (480, 640) uint16 mm, 0 = no reading."""
        return files.read_depth_png(self.folder / source)

    def spec(self) -> dict[str, Any]:
        """What the examples depend on: nothing but the files."""
        return {}


def read_labels(path: Path) -> tuple[list[str], npt.NDArray[np.float32], tuple[str, ...]]:
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
    for some, values in files.number_blocks(path, 63, _EXPECTED):
        xyz = values.reshape(-1, 21, 3)
        xyz[xyz[..., 2] <= 0] = np.nan
        parts.append(geometry.xyz_to_uvd(xyz, camera).astype(np.float32))
        names += [name.rsplit("/", 1)[-1] for name in some]
    joints = files.concatenate(parts)
    return names, joints, files.unlabelled_to_nan(joints, path.name)


def _labels_for(names: list[str], path: Path) -> tuple[npt.NDArray[np.float32], tuple[str, ...]]:
    """(N, 21, 3) labels of the named frames, in any order in the file; NaN where it has none."""
    labelled, values, notes = read_labels(path)
    row_of = {name: row for row, name in enumerate(labelled)}
    rows = np.array([row_of.get(name, -1) for name in names])
    found = int((rows >= 0).sum())
    if not found:
        raise UserError(f"{path}: labels none of the test frames ({labelled[0]} is not one)")
    if found < len(names):
        notes += (f"{path.name}: {len(names) - found} of {len(names)} frames have no label",)
    if len(labelled) > found:
        notes += (f"{path.name}: {len(labelled) - found} lines are of no test frame",)
    return np.where((rows >= 0)[:, None, None], values[rows], np.float32(np.nan)), notes


def _beside(folder: Path, spellings: tuple[str, ...]) -> Path | None:
    """The text file in a folder that has one of these names, whatever its case and separators."""
    if not folder.is_dir():
        return None
    texts = sorted(folder.glob("*.[tT][xX][tT]"))
    letters = {path: "".join(c for c in path.stem.lower() if c.isalpha()) for path in texts}
    return next((path for name in spellings for path in texts if letters[path] == name), None)


class Hands2017(DepthPoseBuilder, skip_registration=True):  # type: ignore[call-arg]
    """TFDS builder `hands2017`."""

    HOMEPAGE, LICENSE, BIBTEX = HOMEPAGE, LICENSE, BIBTEX
    MANUAL_DOWNLOAD_INSTRUCTIONS = DOWNLOAD
