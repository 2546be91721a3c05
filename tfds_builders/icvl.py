"""ICVL Hand Posture as its authors ship it: 16-bit PNG frames and text files of labels.

A label line is `201403121135/image_0000.png u v d u v d ...`: a path below `Depth`, then 16 joints in
px, px, mm. Besides the 22 thousand recorded frames, the training set ships them rotated in the
plane, as `22-5/201403121135/image_0000.png`; some of the files that its labels name do not exist.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from a2j_jax.data.depth_files import read_depth
from a2j_jax.errors import UserError
from tfds_builders import raw_files
from tfds_builders.base import DepthPoseBuilder
from tfds_builders.raw_files import RawSplit, counted

# Lines of the label files; the training set's with the rotated copies.
PUBLISHED_FRAMES = {"train": 331_006, "test": 1_596}
HOMEPAGE = "https://labicvl.github.io/hand.html"
LICENSE = "For research; the terms are the authors', see their page. Cite their paper."
BIBTEX = """\
@inproceedings{tang2014latent,
  title     = {Latent Regression Forest: Structured Estimation of 3D Articulated Hand Posture},
  author    = {Tang, Danhang and Chang, Hyung Jin and Tejani, Alykhan and Kim, Tae-Kyun},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2014}
}"""
DOWNLOAD = f"""\
ICVL Hand Posture: get the training and the testing archive from
  {HOMEPAGE}
and unpack them, so that --manual_dir holds:
  Training/labels.txt
  Training/Depth/201403121135/image_0000.png ...      recorded frames
  Training/Depth/22-5/201403121135/image_0000.png ... rotated copies (not needed without rotations)
  Testing/test_seq_1.txt, Testing/test_seq_2.txt
  Testing/Depth/test_seq_1/image_0000.png ...
One split is enough."""

# What the sensor's software writes where it saw nothing.
NO_READING = 32001
_LABELS = {"train": ("labels.txt",), "test": ("test_seq_1.txt", "test_seq_2.txt")}
_FOLDERS = {"train": "Training", "test": "Testing"}
# Recorded sequences are named by a date and time; rotations by an angle ("22-5", "-135", "180").
_LONGEST_ANGLE = 6
# In front of a name in some copies of the label files, which count from another folder.
_UP_TO_DEPTH = re.compile(r"(?:.*/)?depth/", re.IGNORECASE)


@dataclass(frozen=True)
class IcvlDistribution:
    """The unpacked archives.

    Attributes:
      folder: that holds `Training` and `Testing`, or one of these.
      rotations: whether the rotated copies of the training frames count.
    """

    folder: Path
    rotations: bool = True

    def splits(self) -> Mapping[str, RawSplit]:
        """Index the frames; none is opened. See `tfds_builders.raw_files.Distribution`."""
        found = {}
        for split, names in _LABELS.items():
            # Directly in the folder, or in the one it is shipped in.
            candidates = [below + name for below in (f"{_FOLDERS[split]}/", "") for name in names]
            labels = raw_files.find(self.folder, candidates)
            if labels is not None:
                found[split] = self._index(labels.parent, names)
        if not found:
            raise UserError(
                f"{self.folder}: no Training/labels.txt and no Testing/test_seq_1.txt", DOWNLOAD
            )
        return found

    def _index(self, place: Path, label_files: tuple[str, ...]) -> RawSplit:
        depth = raw_files.find_in(place, ("Depth",))
        if depth is None:
            raise UserError(
                f"{place / 'Depth'}: no such folder; expected the frames of {place}", DOWNLOAD
            )
        there = {name: raw_files.find_in(place, (name,)) for name in label_files}
        faults = tuple(
            f"{name} is missing: its frames are left out" for name in there if there[name] is None
        )
        paths = [path for path in there.values() if path is not None]
        parts = [raw_files.read_numbers(path, 48, "16 joints x (u v d)") for path in paths]
        ids = [_below_depth(name) for names, _ in parts for name in names]
        joints = np.concatenate([values for _, values in parts]).astype(np.float32)
        joints = joints.reshape(-1, 16, 3)

        label_name, total = " + ".join(path.name for path in paths), len(ids)
        notes: tuple[str, ...] = ()
        rows = raw_files.first_of_each(ids)
        if rows is not None:
            notes += (f"{label_name}: {counted(total - len(rows), 'repeated line')} left out",)
        if not self.rotations:
            kept = range(total) if rows is None else rows
            rows = np.array([row for row in kept if not is_rotated(ids[row])], np.int64)
        if rows is not None:
            ids, joints = [ids[row] for row in rows], joints[rows]
        if not ids:
            raise UserError(f"{place / label_name}: names only rotated copies; allow rotations")
        notes += raw_files.unlabelled_to_nan(joints, label_name)
        on_disk = self._on_disk(depth)
        faults += raw_files.compare_counts(label_name, len(ids), depth.name, on_disk)
        prefix = raw_files.relative(depth, self.folder) + "/"
        return RawSplit(
            ids,
            [prefix + name for name in ids],
            joints,
            rows=rows,
            total=None if rows is None else total,
            notes=notes,
            faults=faults,
        )

    def _on_disk(self, depth: Path) -> int:
        below = raw_files.subfolders(depth)
        counted = [entry for entry in below if self.rotations or not is_rotated(entry.name)]
        return sum(raw_files.count_files(entry) for entry in counted)

    def read_depth(self, source: str) -> npt.NDArray[Any]:
        """One frame, (240, 320) mm, uint16 as shipped, 0 = no reading (32001 as shipped)."""
        depth = read_depth(raw_files.spelled(self.folder, source)).depth
        return np.where(depth >= NO_READING, depth.dtype.type(0), depth)

    def spec(self) -> dict[str, Any]:
        """What the examples depend on."""
        return {"rotations": self.rotations}


def _below_depth(name: str) -> str:
    return _UP_TO_DEPTH.sub("", name, count=1)


def is_rotated(name: str) -> bool:
    """Whether a frame of the training set, named as in its labels, is a rotated copy."""
    return len(name.split("/", 1)[0]) <= _LONGEST_ANGLE


class Icvl(DepthPoseBuilder, skip_registration=True):  # type: ignore[call-arg]
    """TFDS builder `icvl`."""

    HOMEPAGE, LICENSE, BIBTEX = HOMEPAGE, LICENSE, BIBTEX
    MANUAL_DOWNLOAD_INSTRUCTIONS = DOWNLOAD
