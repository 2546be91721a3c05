"""Depth frames as the predictor takes them: (H, W) float32 mm, 0 = no reading."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2j_jax.depth_files import read_depth
from a2j_jax.errors import UserError

DepthFrame = NDArray[np.float32]


def read_frame(
    path: str | Path, frame_format: str = "depth16", depth_unit_mm: float = 1.0
) -> DepthFrame:
    """The depth of a file, (H, W) float32 mm; arguments and errors of `a2j_jax.depth_files.read_depth`."""
    return read_depth(path, frame_format, depth_unit_mm).depth.astype(np.float32)


def frame_from_array(depth_mm: Any, where: str = "depth frame") -> DepthFrame:
    """Check an array given as a depth frame: (H, W) numeric, in mm → float32, NaN and below 0 → 0.

    Raises:
        UserError: not 2-D, not numeric, empty.
    """
    if isinstance(depth_mm, str | os.PathLike):
        raise UserError(
            f"{where}: expected an array in mm, found a path; read it with a2j_jax.depth_files.read_depth(path).depth"
        )
    array = np.asarray(depth_mm)
    if array.dtype.kind not in "uif":
        raise UserError(f"{where}: expected numbers in mm, found dtype {array.dtype}")
    if array.ndim != 2 or array.size == 0:
        raise UserError(
            f"{where}: expected one depth image (height, width) in mm, found shape {array.shape}"
        )
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf: no reading
        depth = array.astype(np.float32)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))
