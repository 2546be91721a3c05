"""ICVL Hand Posture as its authors ship it: 16-bit PNG frames and text files of labels.

A label line is `201403121135/image_0000.png u v d u v d ...`: a path below `Depth`, then 16 joints in
px, px, mm. Besides the 22 thousand recorded frames, the training set ships them rotated in the
plane, as `22-5/201403121135/image_0000.png`; some of the files that its labels name do not exist.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from a2j_jax.errors import UserError
from tfds_builders import raw_files
from tfds_builders.raw_files import Array, RawDataset, RawSplit, read_numbers

# Written by the sensor's software where it saw nothing.
NO_READING = 32001
_FILES = {
    "train": ("Training", ("labels.txt",)),
    "test": ("Testing", ("test_seq_1.txt", "test_seq_2.txt")),
}
# Recorded sequences are named by a date and time; rotations by an angle ("22-5", "-135", "180").
_LONGEST_ANGLE = 6
# Begins the names in some copies of the label files, which count from another folder.
_UP_TO_DEPTH = re.compile(r"(?:.*/)?depth/", re.IGNORECASE)


@dataclass(frozen=True)
class Icvl(RawDataset, about="icvl"):
    """The unpacked archives: `Training` and `Testing`, or one of these.

    Attributes:
      rotations: whether the rotated copies of the training frames count.
    """

    rotations: bool = True

    def index(self, split: str) -> RawSplit | None:
        """See `RawDataset.index`."""
        below, names = _FILES[split]
        candidates = [folder + name for folder in (f"{below}/", "") for name in names]
        first = raw_files.find(self.folder, candidates)
        if first is None:
            return None
        place = first.parent
        depth = raw_files.find_in(place, ("Depth",))
        if depth is None:
            raise self.download_again(str(place / "Depth"))
        there = {name: raw_files.find_in(place, (name,)) for name in names}
        faults = tuple(
            f"{name} is missing: its frames are left out"
            for name, path in there.items()
            if not path
        )
        paths = [path for path in there.values() if path]
        parts = [read_numbers(path, 48, "16 joints x (u v d)") for path in paths]
        ids = [_UP_TO_DEPTH.sub("", name, count=1) for some, _ in parts for name in some]
        joints = np.concatenate([values for _, values in parts]).astype(np.float32)
        joints = joints.reshape(-1, 16, 3)

        labels = " + ".join(path.name for path in paths)
        rows, notes = raw_files.first_of_each(ids, labels)
        if not self.rotations:
            rows = np.array([row for row in rows if not is_rotated(ids[row])], np.int64)
        if not len(rows):
            raise UserError(f"{place / labels}: names only rotated copies; allow rotations")
        total, ids, joints = len(ids), [ids[row] for row in rows], joints[rows]
        notes += raw_files.unlabeled_to_nan(joints, labels)
        on_disk = sum(
            raw_files.count_files(sequence)
            for sequence in raw_files.subfolders(depth)
            if self.rotations or not is_rotated(sequence.name)
        )
        prefix = raw_files.relative(depth, self.folder)
        return RawSplit(
            ids,
            [prefix + name for name in ids],
            joints,
            rows=rows,
            total=total,
            notes=notes,
            faults=faults + raw_files.compare_counts(labels, len(ids), depth.name, on_disk),
        )

    def read_depth(self, source: str) -> Array:
        """One frame, (240, 320) mm, uint16 as shipped, 0 = no reading (32001 as shipped)."""
        depth = super().read_depth(source)
        return np.where(depth >= NO_READING, depth.dtype.type(0), depth)

    def spec(self) -> dict[str, Any]:
        """See `RawDataset.spec`."""
        return {"rotations": self.rotations}


def is_rotated(name: str) -> bool:
    """Whether a frame of the training set, named as in its labels, is a rotated copy."""
    return len(name.split("/", 1)[0]) <= _LONGEST_ANGLE
