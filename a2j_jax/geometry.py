"""Cameras, crop boxes, and the maps between frame and crop, in numpy float64, vectorized over leading axes.

* `uvd`: pixel column u, pixel row v (px) and depth d (mm) in the full frame;
* `xyz`: camera coordinates in mm, z forward;
* a *box* is `(x0, y0, x1, y1)` in px of the full frame, x0 < x1 and y0 < y1;
* the *crop* is the S x S input of the network; the *canvas* continues its sampling lattice by a margin of m lattice
  points on every side.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from a2j_jax.errors import UserError

Float64 = npt.NDArray[np.float64]
_SHORTEST_PX, _LARGEST_PX = 0.1, 1e6  # of a focal length; a principal point is within the latter
FrameDType = TypeVar("FrameDType", bound=np.generic)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without skew: u = fx x/z + u0, v = fy y/z + v0.

    Attributes:
      fx, fy: focal lengths in px. `fy` is negative where the data set's y axis points up (NYU, ITOP).
      u0, v0: principal point in px.

    Raises:
      UserError: a focal length of 0, or a number that is not finite or implausible (beyond 1e6 px).
    """

    fx: float
    fy: float
    u0: float
    v0: float

    def __post_init__(self) -> None:
        numbers = np.abs([self.fx, self.fy, self.u0, self.v0])
        # Written so that NaN fails.
        if not (numbers <= _LARGEST_PX).all() or not (numbers[:2] >= _SHORTEST_PX).all():
            raise UserError(
                f"camera fx={self.fx:g} fy={self.fy:g} cx={self.u0:g} cy={self.v0:g}: expected finite numbers in px, "
                f"focal lengths not 0 ({_SHORTEST_PX:g} to {_LARGEST_PX:g}, either sign)"
            )

    def as_array(self) -> Float64:
        """`(fx, fy, u0, v0)`, as stored with examples."""
        return np.array([self.fx, self.fy, self.u0, self.v0], np.float64)

    @classmethod
    def from_array(cls, values: npt.ArrayLike) -> "Camera":
        """The inverse of `as_array`."""
        fx, fy, u0, v0 = (float(value) for value in np.asarray(values, np.float64))
        return cls(fx, fy, u0, v0)


def uvd_to_xyz(uvd: npt.ArrayLike, camera: Camera) -> Float64:
    """Pixels and depth -> camera coordinates.

    Args:
      uvd: (..., 3) px, px, mm.
      camera: of the frame.

    Returns:
      (..., 3) mm: x = (u - u0) d / fx, y = (v - v0) d / fy, z = d.
    """
    uvd = np.asarray(uvd, np.float64)
    depth = uvd[..., 2]
    x = (uvd[..., 0] - camera.u0) * depth / camera.fx
    y = (uvd[..., 1] - camera.v0) * depth / camera.fy
    return np.stack([x, y, depth], axis=-1)


def xyz_to_uvd(xyz: npt.ArrayLike, camera: Camera) -> Float64:
    """Camera coordinates -> pixels and depth: the inverse of `uvd_to_xyz` for z != 0.

    Args:
      xyz: (..., 3) mm.
      camera: the camera to project into.

    Returns:
      (..., 3) px, px, mm.
    """
    xyz = np.asarray(xyz, np.float64)
    z = xyz[..., 2]
    u = xyz[..., 0] * camera.fx / z + camera.u0
    v = xyz[..., 1] * camera.fy / z + camera.v0
    return np.stack([u, v, z], axis=-1)


def box_from_center(center_uvd: npt.ArrayLike, half_window_mm: float, camera: Camera) -> Float64:
    """The box in the frame of a window of +-`half_window_mm` around a 3D point.

    Args:
      center_uvd: (..., 3) px, px, mm; the depth must be positive.
      half_window_mm: half the side of the window, mm, at the depth of the center.
      camera: of the frame.

    Returns:
      (..., 4) px, not clipped to the frame.

    Raises:
      UserError: a center has no positive depth, or is not finite.
    """
    center_uvd = np.asarray(center_uvd, np.float64)
    if not np.all(np.isfinite(center_uvd)) or np.any(center_uvd[..., 2] <= 0):
        raise UserError(
            f"crop center {np.array2string(center_uvd, precision=2)}: expected finite (u px, v px, "
            "depth mm) with depth > 0; give a center that lies on the hand"
        )
    center_xyz = uvd_to_xyz(center_uvd, camera)
    reach = np.array([half_window_mm, half_window_mm, 0.0])
    one = xyz_to_uvd(center_xyz - reach, camera)[..., :2]
    other = xyz_to_uvd(center_xyz + reach, camera)[..., :2]
    # Sorted, because a negative fy turns the window upside down.
    return np.concatenate([np.minimum(one, other), np.maximum(one, other)], axis=-1)


def clip_box(box_px: npt.ArrayLike, frame_size: tuple[int, int]) -> Float64:
    """Clips a box to [0, W-1] x [0, H-1], as the official program does before cropping.

    Args:
      box_px: (..., 4) px.
      frame_size: (W, H) of the full frame, px.

    Returns:
      (..., 4) px. A box entirely outside the frame collapses to a line, which `crop_canvas` rejects.
    """
    last = np.array(frame_size, np.float64) - 1.0
    return np.clip(np.asarray(box_px, np.float64), 0.0, np.concatenate([last, last]))


def lattice(start: int, stop: int, crop_size: int, margin: int = 0) -> npt.NDArray[np.int64]:
    """Source pixels, along one axis, of a nearest-neighbor crop and its margin.

    Lattice point k of the crop shows source pixel `start + floor(k (stop - start) / crop_size)`, k in
    [-margin, crop_size + margin), in OpenCV's arithmetic, as in the official program's crops: OpenCV rounds the step
    and then the product, so that an exact integer may come out just below itself, and show the pixel before (for 49 of
    the widths up to 640 at a crop of 176).

    Returns:
      (crop_size + 2 margin,) int64; may reach outside the frame.
    """
    k = np.arange(-margin, crop_size + margin, dtype=np.int64)
    step = 1.0 / (crop_size / (stop - start))
    return start + np.floor(k * step).astype(np.int64)


def crop_canvas(
    frame: npt.NDArray[FrameDType],
    box_px: npt.ArrayLike,
    crop_size: int,
    margin: int,
    outside: float = 0,
) -> npt.NDArray[FrameDType]:
    """Cuts a crop and its surroundings out of a frame.

    Pixels are cut at whole edges and joints use the unrounded box (`frame_to_crop`), both as in the official program.

    Args:
      frame: (H, W) depth in any unit and dtype.
      box_px: (4,) a box clipped to the frame; its edges are truncated by `int()`.
      crop_size: S, px.
      margin: m, lattice points added on every side.
      outside: value of lattice points outside the frame.

    Returns:
      (S + 2m, S + 2m), dtype of `frame`. Its central S x S window is the official crop.

    Raises:
      UserError: the box covers no pixel of the frame.
      ValueError: the box is not clipped to the frame.
    """
    height, width = frame.shape
    box = np.asarray(box_px, np.float64)
    x0, y0, x1, y1 = (int(edge) for edge in box)
    if x1 <= x0 or y1 <= y0:
        raise UserError(
            f"crop box {np.array2string(box, precision=1)} covers no pixel of the {width}x{height} "
            "frame; expected x0 < x1 and y0 < y1 inside the frame: check the center or the box"
        )
    if not np.array_equal(clip_box(box, (width, height)), box):
        raise ValueError(
            f"box {box} is not clipped to the {width}x{height} frame: call clip_box first"
        )
    rows = lattice(y0, y1, crop_size, margin)
    columns = lattice(x0, x1, crop_size, margin)
    canvas = frame[np.clip(rows, 0, height - 1)][:, np.clip(columns, 0, width - 1)]
    canvas[(rows < 0) | (rows >= height), :] = outside
    canvas[:, (columns < 0) | (columns >= width)] = outside
    return canvas


def center_crop(canvas: npt.NDArray[FrameDType], crop_size: int) -> npt.NDArray[FrameDType]:
    """The crop itself: the central (..., S, S) view of a (..., S + 2m, S + 2m) canvas."""
    margin = (canvas.shape[-1] - crop_size) // 2
    window = slice(margin, margin + crop_size)
    return canvas[..., window, window]


def frame_to_crop(uv: npt.ArrayLike, box_px: npt.ArrayLike, crop_size: int) -> Float64:
    """Full-frame pixels -> crop pixels: (u - x0) S / (x1 - x0), and the same for rows.

    Args:
      uv: (..., K, 2) px of the full frame.
      box_px: (..., 4) the clipped, *unrounded* box of each set of K points; or (4,) for all of them.
      crop_size: S, px.

    Returns:
      (..., K, 2) px of the crop.
    """
    origin, extent = _origin_and_extent(box_px)
    return (np.asarray(uv, np.float64) - origin) * crop_size / extent


def crop_to_frame(uv: npt.ArrayLike, box_px: npt.ArrayLike, crop_size: int) -> Float64:
    """Crop pixels -> full-frame pixels: the inverse of `frame_to_crop`, same shapes."""
    origin, extent = _origin_and_extent(box_px)
    return np.asarray(uv, np.float64) * extent / crop_size + origin


def _origin_and_extent(box_px: npt.ArrayLike) -> tuple[Float64, Float64]:
    box = np.asarray(box_px, np.float64)
    if box.ndim > 1:  # one box per set of points: broadcast over the points
        box = box[..., None, :]
    return box[..., :2], box[..., 2:] - box[..., :2]
