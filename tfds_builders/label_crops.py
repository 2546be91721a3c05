"""Where to crop by the labels: the middle of a hand's joints, the box around a body's."""

from typing import Any

import numpy as np
import numpy.typing as npt

from a2j_jax import geometry
from a2j_jax.geometry import Float64

# Labels are turned into centres so many frames at a time: a million of them stay small in memory.
_CHUNK = 1 << 16


def centers_from_labels(joints_uvd: npt.NDArray[Any], camera: geometry.Camera) -> Float64:
    """The mean of the labelled joints in space.

    Args:
      joints_uvd: (N, K, 3) px px mm, NaN = not labelled.
      camera: of the frames.

    Returns:
      (N, 3) float64 u px, v px, depth mm; NaN where no joint is labelled.
    """
    centers = np.full((len(joints_uvd), 3), np.nan)
    for start in range(0, len(joints_uvd), _CHUNK):
        xyz = geometry.uvd_to_xyz(joints_uvd[start : start + _CHUNK], camera)
        labelled = np.isfinite(xyz).all(axis=-1, keepdims=True)
        count = labelled.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(labelled, xyz, 0.0).sum(axis=1) / count
            centers[start : start + _CHUNK] = geometry.xyz_to_uvd(mean, camera)
    return centers


def boxes_from_labels(joints_uvd: npt.NDArray[Any], margin_px: float) -> Float64:
    """The box around the labelled joints, enlarged by a margin: the authors' rule for K2HPD.

    Args:
      joints_uvd: (N, K, 2 or 3), NaN = not labelled.
      margin_px: added on every side.

    Returns:
      (N, 4) float64 x0 y0 x1 y1 px, not clipped; NaN where no joint is labelled.
    """
    uv = np.asarray(joints_uvd[..., :2], np.float64)
    labelled = np.isfinite(uv).all(axis=-1, keepdims=True)
    low = np.where(labelled, uv, np.inf).min(axis=1) - margin_px
    high = np.where(labelled, uv, -np.inf).max(axis=1) + margin_px
    boxes = np.concatenate([low, high], axis=1)
    boxes[~np.any(labelled, axis=(1, 2))] = np.nan
    return boxes
