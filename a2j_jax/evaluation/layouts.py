"""What the numbers of somebody's file mean: confidence columns, metres, camera coordinates.

Pure functions from arrays to `uvd` in px, px, mm. A published file says nothing of its units, so
they are told from the numbers where these leave no doubt: no joint that a depth camera sees is
nearer than 5 cm, none of a file's pixels are mostly outside the frame. Where doubt remains the file
is refused, with what it looks like. Every assumption is returned as a note.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from a2j_jax import geometry
from a2j_jax.tracks import TrackSpec

FloatArray = NDArray[np.float64]
Coordinates = Literal["uvd", "xyz", "unknown"]

#: A median depth below this is in metres: 50 m or 5 cm, and neither is a hand or a body in view.
_METRES_BELOW = 50.0
#: In metres, x and y of a joint are within the room; as pixels they would all be in one corner.
_ROOM_M = 10.0
_METRE_MM = 1000.0


class LayoutError(ValueError):
    """Numbers that cannot be read as joints of the track; the message says what they look like."""


class Columns(NamedTuple):
    """Joints (N, K, D) and, where the file has them, confidences (N, K)."""

    joints: FloatArray
    confidence: FloatArray | None


def split_columns(values: FloatArray, num_joints: int, dims: int) -> Columns:
    """Rows of numbers → joints, with confidences told apart.

    Args:
        values: (N, C) with C = K·D, or K·(D+1) where each joint also has a confidence in [0, 1],
            behind its coordinates (`u v d c u v d c …`) or all at the row's end.
        num_joints, dims: K and D.

    Raises:
        LayoutError: another number of columns, or extra ones that are not confidences.
    """
    rows, columns = values.shape
    if columns == num_joints * dims:
        return Columns(values.reshape(rows, num_joints, dims), None)
    expected = f"{num_joints * dims} numbers ({num_joints} joints × {dims})"
    if columns != num_joints * (dims + 1):
        raise LayoutError(f"expected {expected}, found {columns}")
    table = values.reshape(rows, num_joints, dims + 1)
    if _are_confidences(table[..., dims]):
        return Columns(table[..., :dims], table[..., dims])
    last = values[:, num_joints * dims :]
    if _are_confidences(last):
        return Columns(values[:, : num_joints * dims].reshape(rows, num_joints, dims), last)
    raise LayoutError(
        f"expected {expected}, found {columns}: one more per joint, but neither every "
        f"{dims + 1}th number nor the last {num_joints} are confidences in [0, 1]"
    )


def to_uvd_mm(
    joints: FloatArray, spec: TrackSpec, coordinates: Coordinates = "unknown"
) -> tuple[FloatArray, tuple[str, ...]]:
    """Joints of unknown unit → px, px, mm of the track's camera.

    Args:
        joints: (N, K, 3) pixels and depth, or camera coordinates, in mm or metres; (N, K, 2) px
            pass through.
        spec: the track.
        coordinates: "uvd" or "xyz" where the file says which; "unknown" is taken as pixels, except
            metres too small to be any.

    Returns:
        (N, K, D) px, px, mm, and one line per assumption that was made.

    Raises:
        LayoutError: numbers that look like camera coordinates in mm in a file that should hold
            pixels: another joint order or another sign of y would go unnoticed.
    """
    if spec.joint_dims == 2:
        return joints, ()
    notes: list[str] = []
    depth = _median_size(joints[..., 2])
    if 0 < depth < _METRES_BELOW:
        notes.append("depth read as meters")
        if coordinates == "unknown" and _median_size(joints[..., :2]) < _ROOM_M:
            coordinates = "xyz"
        joints = joints * (_METRE_MM if coordinates == "xyz" else np.array([1, 1, _METRE_MM]))
    if coordinates == "xyz":
        return _xyz_to_uvd(joints, spec, notes), tuple(notes)
    if coordinates == "unknown" and _look_like_xyz(joints, spec):
        raise LayoutError(
            "the numbers look like camera coordinates (x y z in mm), expected pixels and depth "
            f"(u v d in px px mm); convert them with the camera they were written for "
            f"(track '{spec.name}': {_camera_text(spec)}), and check the order of the joints"
        )
    return joints, tuple(notes)


def _xyz_to_uvd(joints: FloatArray, spec: TrackSpec, notes: list[str]) -> FloatArray:
    if spec.camera is None:
        raise LayoutError(f"camera coordinates, but track '{spec.name}' has no camera of its own")
    notes.append(f"x y z projected with the track's camera, {_camera_text(spec)}")
    if np.nanmedian(joints[..., 2]) < 0:
        notes.append("z points backwards: y and z turned round")
        joints = joints * np.array([1.0, -1.0, -1.0])
    if (joints[..., 2] == 0).any():
        raise LayoutError("camera coordinates with z = 0 have no pixel")
    return geometry.xyz_to_uvd(joints, spec.camera)


def _look_like_xyz(joints: FloatArray, spec: TrackSpec) -> bool:
    """Mostly outside the frame as pixels, mostly inside as camera coordinates (either sign of y)."""
    if spec.camera is None or (joints[..., 2] == 0).any():
        return False
    if _inside(joints, spec) >= 0.5:
        return False
    turned = joints * np.array([1.0, -1.0, 1.0])
    projected = (geometry.xyz_to_uvd(xyz, spec.camera) for xyz in (joints, turned))
    return max(_inside(uvd, spec) for uvd in projected) > 0.9


def _inside(joints: FloatArray, spec: TrackSpec) -> float:
    """Fraction of joints whose pixel is inside the frame."""
    uv = joints[..., :2]
    return float(((uv >= 0) & (uv < spec.frame_size)).all(-1).mean())


def _median_size(values: FloatArray) -> float:
    sizes = np.abs(values[np.isfinite(values)])
    return float(np.median(sizes)) if sizes.size else 0.0


def _are_confidences(values: FloatArray) -> bool:
    return not bool(((values < 0) | (values > 1)).any())  # NaN: not known, allowed


def _camera_text(spec: TrackSpec) -> str:
    camera = spec.camera
    if camera is None:
        return "none"
    return f"fx {camera.fx:g}, fy {camera.fy:g}, u0 {camera.u0:g}, v0 {camera.v0:g}"
