"""The text files of the HANDS 2017 challenge: its annotations, and what one submits.

One line per frame: `frame/images/image_D00000001.png` (frames count from 1; the annotations have
no folder), then x y z in mm of the 21 joints, every field ended by a tab.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from a2j_jax.errors import UserError

_FRAME_NAME = re.compile(r"(?:.*[/\\])?image_D(\d{8})\.png")


def frame_index(names: Sequence[str]) -> NDArray[np.int64] | None:
    """Position of each frame in the data set, (N,) from 0; None unless all are named as above."""
    numbers = []
    for name in names:
        match = _FRAME_NAME.fullmatch(name)
        if match is None:
            return None
        numbers.append(int(match[1]) - 1)
    return np.array(numbers, np.int64)


def write_submission(
    path: str | Path, joints_xyz_mm: ArrayLike, index: ArrayLike | None = None
) -> None:
    """Write the file the challenge takes (zip it to submit), numbers with 4 decimals.

    Args:
        path: of the text file.
        joints_xyz_mm: (N, 21, 3) camera coordinates, mm, in the order of the skeleton.
        index: (N,) position of each frame in the data set, from 0; None: 0 … N−1.

    Raises:
        UserError: a joint is not finite, or the file cannot be written.
        ValueError: another shape.
    """
    path = Path(path)
    xyz = np.asarray(joints_xyz_mm, np.float64)
    if xyz.ndim != 3 or xyz.shape[-1] != 3:
        raise ValueError(f"joints_xyz_mm has shape {xyz.shape}, expected (frames, joints, 3)")
    frames = np.arange(len(xyz)) if index is None else np.asarray(index)
    bad = ~np.isfinite(xyz).all((1, 2))
    if bad.any():
        raise UserError(
            f"{path}: not written: {bad.sum()} frames have joints that are not finite, "
            f"the first is frame {frames[np.flatnonzero(bad)[0]]}"
        )
    line = "frame/images/image_D%08d.png\t" + "%.4f\t" * (xyz.shape[1] * 3) + "\n"
    try:
        with path.open("w", encoding="ascii", newline="\n") as file:
            for frame, row in zip(frames.tolist(), xyz.reshape(len(xyz), -1), strict=True):
                file.write(line % (frame + 1, *row.tolist()))
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error
