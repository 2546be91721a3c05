"""Frame -> stored crop and back, for a track; used by the data-set builders, evaluation and `Predictor`.

This is the one place of the names, shapes, dtypes and units of the arrays of an example and of a batch. A batch is a
dict of arrays with B rows each, an example one such row:

* `canvas` (B, S + 2m, S + 2m) uint16: the crop and its surroundings, in the track's storage unit, 0 = no reading
  (`Predictor` makes float32 canvases, in the same unit but not rounded: nothing is stored);
* `joints_uvd` (B, K, 3 or 2) float32: px, px, mm of the full frame; `valid` (B, K) bool: which joints are labeled;
* `box_px`, `window_px` (B, 4) float64: the crop box, clipped to the frame and before clipping, px;
* `center_uvd` (B, 3) float32: px, px, mm, zeros where the track crops by box; `camera` (B, 4) float32: fx, fy, u0, v0,
  px, zeros where joints are in 2D;
* `index` (B,) int64: the frame's position in its split as shipped: skipped frames leave gaps;
* in evaluation only, `frame_id` (B,) bytes: the frame's name; `mask` (B,) bool: False marks padding and substitutes for
  examples that cannot be read, which do not count.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import numpy.typing as npt

from a2j_jax import geometry
from a2j_jax.errors import UserError
from a2j_jax.geometry import Camera, Float64
from a2j_jax.tracks import TrackSpec

Example = dict[str, Any]
Batch = Mapping[str, Any]
#: The arrays that a training step reads; the others are for evaluation and stay on the host.
STEP_ARRAYS = ("canvas", "joints_uvd", "valid", "box_px", "window_px", "center_uvd", "camera")


def step_arrays(batch: Batch) -> dict[str, Any]:
    """The arrays of a batch that a training step reads."""
    return {name: batch[name] for name in STEP_ARRAYS}


def shapes_and_dtypes(track: TrackSpec) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape and dtype, in one example, of each array that a training step reads."""
    side, joints = track.canvas_size, track.num_joints
    return {
        "canvas": ((side, side), np.uint16),
        "joints_uvd": ((joints, track.joint_dims), np.float32),
        "valid": ((joints,), np.bool_),
        "box_px": ((4,), np.float64),
        "window_px": ((4,), np.float64),
        "center_uvd": ((3,), np.float32),
        "camera": ((4,), np.float32),
    }


def abstract_batch(track: TrackSpec, rows: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of the arrays that a training step reads, as they are on a device."""
    return {
        name: jax.ShapeDtypeStruct((rows, *shape), jax.dtypes.canonicalize_dtype(dtype))
        for name, (shape, dtype) in shapes_and_dtypes(track).items()
    }


class Crop(NamedTuple):
    """A crop as stored.

    Attributes:
      canvas: (S + 2m, S + 2m) uint16 in the track's storage unit; 0 = no reading.
      box_px: (4,) the clipped box of the crop, px, which maps joints to the crop and back.
      window_px: (4,) the box before clipping, px, which training jitters.
    """

    canvas: npt.NDArray[np.uint16]
    box_px: Float64
    window_px: Float64


def to_storage_units(depth: npt.ArrayLike, track: TrackSpec) -> npt.NDArray[np.uint16]:
    """A full frame of depth -> the uint16 numbers of a canvas.

    Args:
      depth: (..., H, W) mm, any real dtype; any unit for a "stretch8" track, where only the order within the frame
        matters. Zero, negative and non-finite mean "no reading".
      track: decides the unit.

    Returns:
      (..., H, W) uint16 in units of `track.storage_unit_mm`; 0 = no reading, clipped at 65535. Read-only: it may be
      `depth` itself.
    """
    values = np.asarray(depth)
    if track.frame_format == "stretch8":
        return _stretch(values)
    unit = track.storage_unit_mm
    if values.dtype.kind in "ui" and unit == 1.0:
        # Integer mm need no conversion: microseconds for a hand frame instead of milliseconds.
        if values.dtype.kind == "i":
            values = np.maximum(values, 0)
        if values.dtype.itemsize > 2:
            values = np.minimum(values, 65535)
        return values.astype(np.uint16, copy=False)
    # float32 is exact where it holds the depth and the division only changes its exponent.
    exact = values.dtype in (np.float16, np.float32) and np.frexp(unit)[0] == 0.5
    values = values.astype(np.float32 if exact else np.float64, copy=False)
    finite = np.isfinite(values)
    if not finite.all():
        values = np.where(finite, values, 0.0)
    return np.rint(np.clip(values, 0.0, 65535 * unit) / unit).astype(np.uint16)


def _stretch(frames: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Min-max-stretches each (H, W) of (..., H, W) to integers 0..255; an integer frame by a table of its levels."""
    stretched = np.zeros(frames.shape, np.uint16)
    for index in np.ndindex(frames.shape[:-2]):
        frame = frames[index]
        if frame.dtype.kind not in "ui" or frame.min() < 0 or frame.max() > 65535:
            stretched[index] = _stretch_levels(
                np.nan_to_num(frame.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
            )
            continue
        low, high = int(frame.min()), int(frame.max())
        table = np.zeros(high + 1, np.uint16)
        table[low:] = _stretch_levels(np.arange(low, high + 1, dtype=np.float32))
        stretched[index] = table[frame]
    return stretched


def _stretch_levels(levels: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The official K2HPD reader's stretch of one frame, bit for bit.

    It calls OpenCV's `normalize(float32 frame, 0, 1, NORM_MINMAX)`, times 255, truncated to uint8. OpenCV computes
    `level * scale + shift` in float32 by a fused multiply-add (rounded once), which the float64 product and sum of
    float32 numbers reproduce. With the exact quotient, one in 70 of all 8-bit levels and spans would differ by one.
    """
    low = float(levels.min())
    span = float(levels.max()) - low
    if not span > np.finfo(np.float64).eps:
        return np.zeros(levels.shape, np.uint16)
    scale = np.float32(1.0 / span)
    shift = -np.float32(low * float(scale))
    unit = (levels.astype(np.float64) * float(scale) + float(shift)).astype(np.float32)
    return (unit * np.float32(255.0)).astype(np.uint8).astype(np.uint16)


def cut(
    frame: npt.NDArray[np.uint16],
    track: TrackSpec,
    center_uvd: npt.ArrayLike | None = None,
    box_px: npt.ArrayLike | None = None,
    camera: Camera | None = None,
) -> Crop:
    """Cuts the canvas of one object out of one frame.

    Args:
      frame: (H, W) uint16 in storage units (see `to_storage_units`); any frame size.
      track: size of the crop and of the window.
      center_uvd: (3,) px, px, mm: the window's center, for tracks that crop by center.
      box_px: (4,) the object's box, px, clipped or not; overrides `center_uvd`.
      camera: of this frame; the track's by default.

    Raises:
      UserError: neither center nor box, or one that covers no pixel of the frame.
    """
    if box_px is not None:
        window = np.asarray(box_px, np.float64)
    else:
        camera = camera or track.camera
        if center_uvd is None or camera is None or track.half_window_mm is None:
            expected = "a center (u, v, depth mm)" if track.crop_by == "center" else "a box"
            raise UserError(f"track {track.name!r} crops by {track.crop_by}: expected {expected}")
        window = geometry.box_from_center(center_uvd, track.half_window_mm, camera)
    box = geometry.clip_box(window, (frame.shape[1], frame.shape[0]))
    canvas = geometry.crop_canvas(frame, box, track.crop_size, track.margin)
    return Crop(canvas, box, window)


def joints_to_crop(
    joints_uvd: npt.ArrayLike,
    box_px: npt.ArrayLike,
    center_depth_mm: npt.ArrayLike,
    track: TrackSpec,
) -> Float64:
    """Joints in the full frame -> the network's target, Eq. (3).

    Args:
      joints_uvd: (..., K, 3) px, px, mm, or (..., K, 2) px, px.
      box_px: (..., 4) clipped boxes, or one (4,).
      center_depth_mm: (...) or scalar depth of the center, mm; ignored where theta is zero.
      track: crop size, mu and theta.

    Returns:
      Same shape: u, v in px of the crop; depth (d - theta) mu in network units.
    """
    joints = np.asarray(joints_uvd, np.float64)
    uv = geometry.frame_to_crop(joints[..., :2], box_px, track.crop_size)
    depth = (joints[..., 2:] - _theta(center_depth_mm, track)) * track.joint_depth_scale
    return np.concatenate([uv, depth], axis=-1)


def joints_to_frame(
    joints_crop: npt.ArrayLike,
    box_px: npt.ArrayLike,
    center_depth_mm: npt.ArrayLike,
    track: TrackSpec,
) -> Float64:
    """The network's joints -> px, px, mm of the full frame: the inverse of `joints_to_crop`."""
    joints = np.asarray(joints_crop, np.float64)
    uv = geometry.crop_to_frame(joints[..., :2], box_px, track.crop_size)
    depth = joints[..., 2:] / track.joint_depth_scale + _theta(center_depth_mm, track)
    return np.concatenate([uv, depth], axis=-1)


def _theta(center_depth_mm: npt.ArrayLike, track: TrackSpec) -> Float64:
    """Depth reference, (..., 1, 1) mm: broadcasts over joints."""
    if track.depth_reference == "zero":
        return np.zeros((1, 1))
    return np.asarray(center_depth_mm, np.float64)[..., None, None]
