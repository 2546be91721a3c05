"""Numbers in published files of joints: rows of text, columns of confidences, and units."""

from array import array
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from a2j_jax import geometry
from a2j_jax.errors import UserError
from a2j_jax.geometry import Float64
from a2j_jax.tracks import TrackSpec

Coordinates = Literal["uvd", "xyz", "unknown"]

_SEPARATORS = bytes.maketrans(b",;", b"  ")
# A line that begins so is a comment: NumPy's headers, and MATLAB's.
_COMMENTS = (b"#", b";", b"%")

# A median depth below this is in meters: neither 50 m nor 5 cm is a hand or a body in view.
_METERS_BELOW = 50.0
# In meters, x and y of a joint are within the room; as pixels they would all be in one corner.
_ROOM_M = 10.0
_METER_MM = 1000.0


class Rows(NamedTuple):
    """N lines of C numbers.

    Attributes:
        values: (N, C) float64; NaN and infinities where the text has them.
        names: N first words, where lines begin with one that is not a number; else None.
        lines: (N,) int64 line number of each row in the file, from 1.
    """

    values: Float64
    names: tuple[str, ...] | None
    lines: NDArray[np.int64]


def read_rows(path: str | Path) -> Rows:
    """Read all rows of numbers, one frame per line, of whatever form the field's files have.

    Separators may be spaces, tabs, commas or semicolons, also at the end of a line; a file name may stand in
    front; blank lines and comments are skipped.

    Raises:
        UserError: unreadable file, no rows, a line with more or fewer numbers than the first, a word
            that is not a number (named with its line).
    """
    path = Path(path)
    values, lines, names = array("d"), array("q"), []
    columns, named = -1, False
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")  # a byte order mark
                words = line.translate(_SEPARATORS).split()
                if not words or line.lstrip().startswith(_COMMENTS):
                    continue
                if columns < 0:
                    named = not _is_number(words[0])
                    columns = len(words) - named
                where = f"{path}, row {number}"
                if named:
                    names.append(_decoded(words.pop(0), where))
                try:
                    values.extend(map(float, words))
                except ValueError:
                    bad = _decoded(next(word for word in words if not _is_number(word)), where)
                    raise UserError(f"{where}: not a number: {bad[:40]!r}") from None
                if len(words) != columns:
                    raise UserError(
                        f"{where}: expected {columns} numbers as in the first row, found {len(words)}"
                    )
                lines.append(number)
    except OSError as error:
        raise UserError(f"{path}: not readable as text ({error})") from error
    if not lines:
        raise UserError(f"{path}: empty; expected one line of numbers per frame")
    table = np.frombuffer(values).reshape(len(lines), columns)
    return Rows(table, tuple(names) if named else None, np.frombuffer(lines, np.int64))


def _decoded(word: bytes, where: str) -> str:
    try:
        return word.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not readable as text ({error}); expected UTF-8") from error


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def split_columns(values: Float64, spec: TrackSpec, where: str) -> tuple[Float64, Float64 | None]:
    """Separate joints and confidences.

    Args:
        values: (N, C) with C = K·D, or K·(D+1) where each joint also has a confidence in [0, 1],
            behind its coordinates (`u v d c u v d c …`) or all at the row's end.
        spec: the track, of K joints with D coordinates.
        where: file and row, for messages.

    Returns:
        Joints (N, K, D), and confidences (N, K) or None.

    Raises:
        UserError: another number of columns, or extra ones that are not confidences.
    """
    joints, dims = spec.num_joints, spec.joint_dims
    count, columns = values.shape
    if columns == joints * dims:
        return values.reshape(count, joints, dims), None
    expected = (
        f"{where}: expected {joints * dims} numbers ({joints} joints × {dims}), found {columns}"
    )
    if columns != joints * (dims + 1):
        raise UserError(f"{expected} (track '{spec.name}')")
    beside = values.reshape(count, joints, dims + 1)
    behind = values[:, : joints * dims].reshape(count, joints, dims)
    for found, confidence in (
        (beside[..., :dims], beside[..., dims]),
        (behind, values[:, joints * dims :]),
    ):
        if not ((confidence < 0) | (confidence > 1)).any():  # NaN: unknown, allowed
            return found, confidence
    raise UserError(
        f"{expected}: one more per joint, but neither every {dims + 1}th number nor the last {joints} are "
        f"confidences in [0, 1] (track '{spec.name}')"
    )


def to_uvd_mm(
    joints: Float64, spec: TrackSpec, where: str, coordinates: Coordinates = "unknown"
) -> tuple[Float64, tuple[str, ...]]:
    """Convert joints of unknown unit to px, px, mm of the track's camera.

    The numbers tell where they leave no doubt: no joint that a depth camera sees is nearer than 5 cm, and a file's
    pixels are not mostly outside the frame. (The authors' `keypoints3D` is uvd in px, px, mm for hands and xyz in
    *meters* for ITOP, whose `resultUVD` is px, px, meters.) Where doubt remains, the file is refused.

    Args:
        joints: (N, K, 3) pixels and depth, or camera coordinates, in mm or meters; (N, K, 2) px
            pass through.
        spec: the track.
        where: the file, for messages.
        coordinates: "uvd" or "xyz" where the file says which; "unknown" is taken as pixels, except
            for meters too small to be any.

    Returns:
        (N, K, D) px, px, mm, and one line per assumption.

    Raises:
        UserError: numbers that look like camera coordinates in mm in a file that should hold
            pixels: another joint order or another sign of y would go unnoticed.
    """
    if spec.joint_dims == 2:
        return joints, ()
    notes: list[str] = []
    if 0 < _median_size(joints[..., 2]) < _METERS_BELOW:
        notes.append("depth read as meters")
        if coordinates == "unknown" and _median_size(joints[..., :2]) < _ROOM_M:
            coordinates = "xyz"
        joints = joints * (_METER_MM if coordinates == "xyz" else np.array([1, 1, _METER_MM]))
    camera = spec.camera
    shown = (
        ""
        if camera is None
        else f"fx {camera.fx:g}, fy {camera.fy:g}, u0 {camera.u0:g}, v0 {camera.v0:g}"
    )
    if coordinates == "xyz":
        if camera is None:
            raise UserError(f"{where}: camera coordinates, but track '{spec.name}' has no camera")
        notes.append(f"x y z projected with the track's camera, {shown}")
        if np.nanmedian(joints[..., 2]) < 0:
            notes.append("z points backwards: y and z turned round")
            joints = joints * np.array([1.0, -1.0, -1.0])
        if (joints[..., 2] == 0).any():
            raise UserError(f"{where}: camera coordinates with z = 0 have no pixel")
        return geometry.xyz_to_uvd(joints, camera), tuple(notes)
    if coordinates == "unknown" and _look_like_xyz(joints, spec):
        raise UserError(
            f"{where}: the numbers look like camera coordinates (x y z in mm), expected pixels and depth "
            f"(u v d in px px mm); convert them with the camera they were written for "
            f"(track '{spec.name}': {shown}), and check the order of the joints"
        )
    return joints, tuple(notes)


def _look_like_xyz(joints: Float64, spec: TrackSpec) -> bool:
    """Mostly outside the frame as pixels, mostly inside as camera coordinates (either sign of y)."""

    def inside(uvd: Float64) -> float:
        return float(((uvd[..., :2] >= 0) & (uvd[..., :2] < spec.frame_size)).all(-1).mean())

    camera = spec.camera
    if camera is None or (joints[..., 2] == 0).any() or inside(joints) >= 0.5:
        return False
    turned = joints * np.array([1.0, -1.0, 1.0])
    return max(inside(geometry.xyz_to_uvd(xyz, camera)) for xyz in (joints, turned)) > 0.9


def _median_size(values: Float64) -> float:
    sizes = np.abs(values[np.isfinite(values)])
    return float(np.median(sizes)) if sizes.size else 0.0
