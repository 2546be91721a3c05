"""Smoothing of joints over time: a One-Euro filter and bones of constant length; NumPy, float64, xyz in mm.

`smooth` takes one frame after the other, as a camera gives them, and knows no later ones; `smooth_sequence` takes a
recording. Both restart after a gap. `benchmarks/smoothing.py` measures what they gain.

References:
  Casiez, Roussel, Vogel: 1 € Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive Systems.
  CHI 2012.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from a2j_jax.geometry import Float64

Bones = Sequence[tuple[int, int]]
_WINDOW = 300  # frames whose median is the length of a bone


class OneEuro(NamedTuple):
    """Settings of the filter: the cut-off frequency of a coordinate is `min_cutoff_hz + beta * |speed|`.

    Attributes:
      min_cutoff_hz: lower: less jitter of a hand at rest.
      beta: Hz per mm/s; higher: less delay of a moving hand.
      derivative_cutoff_hz: of the low-pass of the speed.
      longest_gap_s: the filter restarts where two frames are further apart, or time runs backwards.
    """

    min_cutoff_hz: float = 5.0
    beta: float = 0.05
    derivative_cutoff_hz: float = 1.0
    longest_gap_s: float = 0.5


ONE_EURO = OneEuro()


class OneEuroState(NamedTuple):
    """What `one_euro` knows after a frame.

    Attributes:
      time_s: of the frame.
      xyz_mm: (K, 3) filtered; NaN where the frame had no joint.
      speed: (K, 3) filtered derivative, mm/s.
    """

    time_s: float
    xyz_mm: Float64
    speed: Float64


class SmoothState(NamedTuple):
    """What `smooth` knows after a frame.

    Attributes:
      xyz_mm: (K, 3) smoothed joints of the frame.
      filtered: by `one_euro`.
      lengths_mm: (N, B) of the bones of the last frames.
    """

    xyz_mm: Float64
    filtered: OneEuroState
    lengths_mm: Float64


def one_euro(
    state: OneEuroState | None, xyz_mm: ArrayLike, time_s: float, settings: OneEuro = ONE_EURO
) -> OneEuroState:
    """Filters the joints of one frame, each coordinate for itself (Algorithm 1 of Casiez et al.).

    Args:
      state: of the frame before; None: this is the first one.
      xyz_mm: (K, 3) camera coordinates; NaN: no joint.
      time_s: of this frame, on any clock. At the time of the frame before, nothing changes.
      settings: of the filter.

    Returns:
      The state after this frame; its `xyz_mm` is the result. A joint that the frame before did not have is as it came.
    """
    xyz = np.asarray(xyz_mm, np.float64)
    if state is None or not 0.0 <= time_s - state.time_s <= settings.longest_gap_s:
        return OneEuroState(time_s, xyz, np.zeros_like(xyz))
    passed = time_s - state.time_s
    if passed == 0.0:
        return state
    speed = (xyz - state.xyz_mm) / passed
    weight = _weight(settings.derivative_cutoff_hz, passed)
    speed = weight * speed + (1.0 - weight) * state.speed
    weight = _weight(settings.min_cutoff_hz + settings.beta * np.abs(speed), passed)
    filtered = weight * xyz + (1.0 - weight) * state.xyz_mm
    known = np.isfinite(filtered)
    return OneEuroState(time_s, np.where(known, filtered, xyz), np.where(known, speed, 0.0))


def one_euro_sequence(
    xyz_mm: ArrayLike, times_s: ArrayLike, settings: OneEuro = ONE_EURO
) -> Float64:
    """Filters a recording without delay: forwards and then backwards.

    The cut-off follows the central difference of the readings: later frames are known, so the speed needs no low-pass,
    and `derivative_cutoff_hz` is not used.

    Args:
      xyz_mm: (N, K, 3) camera coordinates. A frame with NaN stays as it is, and the filter restarts after it.
      times_s: (N,) of the frames.
      settings: of the filter.

    Returns:
      (N, K, 3) mm.
    """
    xyz, times = np.asarray(xyz_mm, np.float64), np.asarray(times_s, np.float64)
    filtered = xyz.copy()
    for part in _unbroken(xyz, times, settings.longest_gap_s):
        if part.size > 1:
            speed = np.abs(np.gradient(xyz[part], times[part], axis=0))
            cutoff = settings.min_cutoff_hz + settings.beta * speed
            steps = np.diff(times[part])
            forwards = _low_pass(xyz[part], cutoff, steps)
            filtered[part] = _low_pass(forwards[::-1], cutoff[::-1], steps[::-1])[::-1]
    return filtered


def bone_lengths(xyz_mm: ArrayLike, bones: Bones) -> Float64:
    """Lengths (..., B) mm of the bones, `Skeleton.bones`, of joints (..., K, 3) mm."""
    xyz, (parents, children) = np.asarray(xyz_mm, np.float64), _ends(bones)
    return np.linalg.norm(xyz[..., children, :] - xyz[..., parents, :], axis=-1)


def project_bones(
    xyz_mm: ArrayLike,
    lengths_mm: ArrayLike,
    bones: Bones,
    share: float = 0.5,
    passes: int = 1,
) -> Float64:
    """Moves joints along the bones, one bone after the other and both of its ends alike, towards these lengths.

    Args:
      xyz_mm: (..., K, 3) mm.
      lengths_mm: (..., B) mm; NaN: unknown.
      bones: (parent, child) joints, B of them.
      share: of the difference that a bone loses in each pass. Of NYU's joints, two neighbors are not always the ends
        of one bone, and half a correction is better than a full one.
      passes: over the skeleton. With a share of 1, lengths are exact after some 30.

    Returns:
      (..., K, 3) mm. Joints that are NaN stay so, and pull nothing.
    """
    xyz, lengths = np.array(xyz_mm, np.float64), np.asarray(lengths_mm, np.float64)
    for _ in range(passes):
        for bone, (parent, child) in enumerate(bones):
            along = xyz[..., child, :] - xyz[..., parent, :]
            length = np.linalg.norm(along, axis=-1, keepdims=True)
            excess = 1.0 - lengths[..., bone, None] / np.maximum(length, 1e-6)
            move = np.nan_to_num(0.5 * share * excess * along)
            xyz[..., parent, :] += move
            xyz[..., child, :] -= move
    return xyz


def smooth(
    state: SmoothState | None,
    xyz_mm: ArrayLike,
    time_s: float,
    bones: Bones,
    settings: OneEuro = ONE_EURO,
) -> SmoothState:
    """One frame of a camera: `one_euro`, then `project_bones` to the median lengths of the last 300 frames.

    Args:
      state: of the frame before; None at the first frame, and for another hand.
      xyz_mm: (K, 3) camera coordinates; NaN: no joint.
      time_s: of this frame.
      bones: `Skeleton.bones`.
      settings: of the filter.

    Returns:
      The state after this frame; its `xyz_mm` is the result. Lengths outlast a gap.
    """
    filtered = one_euro(None if state is None else state.filtered, xyz_mm, time_s, settings)
    lengths = bone_lengths(filtered.xyz_mm, bones)[None]
    if not np.isfinite(lengths).all():
        lengths = np.empty((0, len(bones)))
    if state is not None:
        lengths = np.concatenate([state.lengths_mm, lengths])[-_WINDOW:]
    xyz = filtered.xyz_mm
    if len(lengths):
        xyz = project_bones(xyz, np.median(lengths, axis=0), bones)
    return SmoothState(xyz, filtered, lengths)


def smooth_sequence(
    xyz_mm: ArrayLike, times_s: ArrayLike, bones: Bones, settings: OneEuro = ONE_EURO
) -> Float64:
    """A recording of one hand: `one_euro_sequence`, then `project_bones` to its median lengths.

    Args:
      xyz_mm: (N, K, 3) camera coordinates; NaN: no joint.
      times_s: (N,) of the frames.
      bones: `Skeleton.bones`.
      settings: of the filter.

    Returns:
      (N, K, 3) mm.
    """
    filtered = one_euro_sequence(xyz_mm, times_s, settings)
    lengths = bone_lengths(filtered, bones)
    known = lengths[np.isfinite(lengths).all(axis=1)]
    return project_bones(filtered, np.median(known, axis=0), bones) if len(known) else filtered


def _weight(cutoff_hz: float | Float64, passed_s: float | Float64) -> Any:
    """Weight of a reading in an exponential low-pass, from the cut-off and the time since the one before."""
    radians = 2.0 * np.pi * cutoff_hz * passed_s
    return radians / (radians + 1.0)


def _low_pass(xyz: Float64, cutoff_hz: Float64, steps_s: Float64) -> Float64:
    """(N, K, 3) filtered forwards, with a cut-off for each coordinate."""
    weights, filtered = _weight(cutoff_hz[1:], steps_s[:, None, None]), xyz.copy()
    for n, weight in enumerate(weights):
        filtered[n + 1] = weight * xyz[n + 1] + (1.0 - weight) * filtered[n]
    return filtered


def _unbroken(xyz: Float64, times: Float64, longest_gap_s: float) -> list[NDArray[np.intp]]:
    """Indices of frames that follow each other without a gap, all of whose joints are known."""
    known: NDArray[np.bool_] = np.asarray(np.isfinite(xyz).all(axis=(1, 2)))
    steps = np.diff(times)
    breaks = ~((steps > 0.0) & (steps <= longest_gap_s) & known[1:] & known[:-1])
    parts = np.split(np.arange(len(times)), np.flatnonzero(breaks) + 1)
    return [part for part in parts if known[part].all()]


def _ends(bones: Bones) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    ends = np.asarray(bones, np.intp)
    return ends[:, 0], ends[:, 1]
