"""NYU Hand Pose as its authors ship it: packed PNG frames and one MATLAB file of labels per split.

A frame is an 8-bit RGB PNG, depth = G * 256 + B mm. `joint_data.mat` holds `joint_uvd`, 3 views x N
frames x 36 joints x (u px, v px, d mm), counted in the pixels of each view's own frames. The field
evaluates 14 of the joints in view 1.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from a2j_jax.data.array_files import read_mat
from a2j_jax.errors import UserError
from tfds_builders import raw_files
from tfds_builders.raw_files import RawDataset, RawSplit

# The 14 of the 36 joints that everybody scores, in the order of `a2j_jax.tracks.NYU`.
JOINTS = (0, 3, 6, 9, 12, 15, 18, 21, 24, 25, 27, 30, 31, 32)
_LABELS = "joint_data.mat"


@dataclass(frozen=True)
class Nyu(RawDataset, about="nyu"):
    """The unpacked archive: `dataset/{train,test}` or `{train,test}`. Depths beyond 2000 mm are 2001, and stay so.

    Attributes:
      view: of the three Kinects, 1, 2 or 3. The field uses view 1; the others have labels in their
        own frames, but nobody published centers for them.
    """

    view: int = 1

    def __post_init__(self) -> None:
        if self.view not in (1, 2, 3):
            raise UserError(f"NYU view {self.view}: expected 1, 2 or 3")

    def index(self, split: str) -> RawSplit | None:
        """See `RawDataset.index`."""
        path = raw_files.find(self.folder, (f"dataset/{split}/{_LABELS}", f"{split}/{_LABELS}"))
        if path is None and self.folder.resolve().name.lower() == split:
            path = raw_files.find_in(self.folder, (_LABELS,))
        if path is None:
            return None
        joints = read_labels(path, self.view)
        notes = raw_files.unlabeled_to_nan(joints, path.name)
        if self.view != 1:
            notes += (f"view {self.view}: published centers and results are of view 1 only",)
        prefix, where = f"depth_{self.view}_", raw_files.relative(path.parent, self.folder)
        ids = [f"{prefix}{number:07d}.png" for number in range(1, len(joints) + 1)]
        return RawSplit(
            ids,
            [where + name for name in ids],
            joints,
            numbers=np.arange(len(joints)),
            notes=notes,
            faults=raw_files.compare_counts(
                where + path.name,
                len(ids),
                f"{where}{prefix}*",
                raw_files.count_files(path.parent, prefix),
            ),
        )

    def spec(self) -> dict[str, Any]:
        """See `RawDataset.spec`."""
        return {"view": self.view}


def read_labels(path: Path, view: int) -> npt.NDArray[np.float32]:
    """The 14 joints of one view in a `joint_data.mat`.

    Args:
      path: of the file, which holds three views, or view 1 alone.
      view: 1, 2 or 3.

    Returns:
      (N, 14, 3) px, px, mm.

    Raises:
      UserError: unreadable, or not the labels of this data set.
    """
    joints = read_mat(path, "joint_uvd")
    views = joints.shape[0]
    if joints.ndim != 4 or views not in (1, 3) or joints.shape[2:] != (36, 3) or not joints.size:
        raise UserError(
            f"{path}: joint_uvd has shape {joints.shape}; expected (3 views, N frames, 36 joints, "
            "3) of the NYU Hand Pose data set, version 2"
        )
    if view > views:
        raise UserError(f"{path}: joint_uvd holds view 1 alone, not view {view}")
    return joints[view - 1][:, JOINTS].astype(np.float32)
