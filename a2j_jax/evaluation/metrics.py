"""Errors of joints, in millimeters or pixels: pure NumPy, vectorized, no I/O.

Everything starts from one table, `errors (N, K)`: the distance between predicted and labeled joint k of frame n, NaN
where the joint has no label, in the unit of the joints: mm for `xyz`, px for the `(u, v)` of a 2D track. A prediction
that is itself not finite is refused: it must not drop out of the mean as if it were unlabeled.

Never measure `uvd` directly: pixels and millimeters do not add.
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from a2j_jax.geometry import Float64

#: A frame's error: that of its worst joint, or the mean over its joints.
FrameError = Literal["worst", "mean"]
FRAME_ERRORS: tuple[FrameError, ...] = get_args(FrameError)


class NotFiniteError(ValueError):
    """A labeled joint is NaN or infinite."""


def joint_errors(predicted: ArrayLike, truth: ArrayLike, valid: ArrayLike | None = None) -> Float64:
    """Euclidean distance of every joint of every frame.

    Args:
      predicted: (N, K, 3) xyz in mm, or (N, K, 2) uv in px.
      truth: same shape and unit.
      valid: (N, K) bool, False where a joint has no label; None: all are labeled.

    Returns:
      (N, K) float64 in the unit of the input, NaN where `valid` is False.

    Raises:
      ValueError: no frames, shapes that differ, or a labeled joint that is not finite.
    """
    p, t = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if p.shape != t.shape or p.ndim != 3 or p.shape[-1] not in (2, 3):
        raise ValueError(
            f"predicted {p.shape} and truth {t.shape} must both be (frames, joints, 2 or 3)"
        )
    if not p.size:
        raise ValueError(f"nothing to measure: predicted joints have shape {p.shape}")
    labeled = np.ones(p.shape[:2], bool) if valid is None else np.asarray(valid, bool)
    if labeled.shape != p.shape[:2]:
        raise ValueError(f"valid {labeled.shape} must be (frames, joints) = {p.shape[:2]}")
    for name, values in (("predicted", p), ("truth", t)):
        bad = labeled & ~np.isfinite(values).all(-1)
        if bad.any():
            frame, joint = np.argwhere(bad)[0]
            raise NotFiniteError(f"{name} joint {joint} of frame {frame} is not finite")
    return np.linalg.norm(np.where(labeled[..., None], p - t, np.nan), axis=-1)


def mean_error(errors: ArrayLike) -> float:
    """Mean over every labeled joint of every frame of (N, K) errors: the field's "mean 3D error"."""
    return float(_labeled(errors).compressed().mean())


def per_joint_error(errors: ArrayLike) -> Float64:
    """Mean over frames, joint by joint: (K,); NaN for a joint that no frame labels."""
    return _labeled(errors).mean(0).filled(np.nan)


def frame_errors(errors: ArrayLike, by: FrameError) -> Float64:
    """Error of each frame, the largest or the mean of its labeled joints: (N,); NaN without labels."""
    table = _labeled(errors)
    return (table.max(1) if by == "worst" else table.mean(1)).filled(np.nan)


def success_rate(
    errors: ArrayLike, thresholds: Sequence[float] | ArrayLike, by: FrameError = "worst"
) -> Float64:
    """(T,) fractions of frames whose worst (or mean) joint error is strictly below each of (T,) thresholds.

    By the worst joint it is the success rate of the NYU and ICVL papers (Taylor et al., CVPR 2012). Frames without any
    label do not count.
    """
    found = frame_errors(errors, by)
    ordered = np.sort(found[np.isfinite(found)])
    # side="left" counts the frames strictly below the threshold.
    return np.searchsorted(ordered, np.asarray(thresholds, np.float64), side="left") / ordered.size


def success_auc(errors: ArrayLike, limit: float, by: FrameError = "worst") -> float:
    """Area under the success curve from 0 to `limit`, divided by `limit`: 1 is perfect.

    Exact, not a sum over a grid: a frame with error e is a success on (e, limit], so it contributes
    max(0, 1 − e/limit).
    """
    found = frame_errors(errors, by)
    return float(np.clip(1.0 - found[np.isfinite(found)] / limit, 0.0, None).mean())


def rate_below(errors: ArrayLike, threshold: float) -> float:
    """Fraction of all labeled joints *strictly* nearer than `threshold`; NaN where none is labeled.

    With `errors` in mm and a threshold of 100 this is ITOP's mAP@10 cm. Joints are pooled, so a
    group of columns (left and right shoulder) is scored by passing just those.
    """
    table = np.asarray(errors, np.float64)
    values = table[np.isfinite(table)]
    return float((values < threshold).mean()) if values.size else float("nan")


def pdj(errors: ArrayLike, diameters: ArrayLike, ratios: Sequence[float]) -> Float64:
    """Percentage of detected joints, as fractions: error <= ratio × torso diameter (inclusive).

    Args:
      errors: (N, K) in the unit of `diameters`, NaN = unlabeled.
      diameters: (N,) torso diameter of each frame; NaN: the frame does not count.
      ratios: (T,) of the torso diameter.

    Returns:
      (T, K) fractions of each joint's labeled frames, NaN where it has none (Wang et al., ACM MM 2016; Sapp and
      Taskar, CVPR 2013).
    """
    table = np.asarray(errors, np.float64)
    torso = np.asarray(diameters, np.float64)[:, None]
    unknown = ~(np.isfinite(table) & np.isfinite(torso))
    near = [np.ma.array(table <= ratio * torso, mask=unknown).mean(0) for ratio in ratios]
    return np.array([rates.filled(np.nan) for rates in near])


def json_list(values: ArrayLike) -> list[Any]:
    """An array as nested lists for JSON: null where a number is not finite."""
    array = np.asarray(values)
    if array.dtype.kind == "f":
        unknown, array = ~np.isfinite(array), array.astype(object)
        array[unknown] = None
    return list(array.tolist())


def _labeled(errors: ArrayLike) -> np.ma.MaskedArray:
    """The table as float64 (N, K), unlabeled joints masked; ValueError if nothing in it is labeled."""
    table = np.ma.masked_invalid(np.asarray(errors, np.float64))
    if table.ndim != 2:
        raise ValueError(f"errors must be (frames, joints), got shape {table.shape}")
    if not table.count():
        raise ValueError(f"no labeled joint among {len(table)} frames: nothing to measure")
    return table
