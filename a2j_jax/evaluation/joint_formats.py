"""Rows of numbers in text files, read in bulk: a million lines in seconds, memory flat.

The field's files differ in everything but the idea of one frame per line: spaces, tabs, commas or
semicolons, trailing separators, blank lines and remarks, CRLF, scientific notation, a file name in
front. All of it reads here; only what cannot be a row of numbers is refused, with its line number.

What the numbers of somebody's file mean: confidence columns, metres, camera coordinates.

Pure functions from arrays to `uvd` in px, px, mm. A published file says nothing of its units, so
they are told from the numbers where these leave no doubt: no joint that a depth camera sees is
nearer than 5 cm, none of a file's pixels are mostly outside the frame. Where doubt remains the file
is refused, with what it looks like. Every assumption is returned as a note.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from a2j_jax import geometry
from a2j_jax.data.batch import FloatArray
from a2j_jax.errors import UserError
from a2j_jax.tracks import TrackSpec

#: Text parsed at a time, bytes: what is in memory beside the numbers themselves.
_BLOCK_BYTES = 8 << 20
_SEPARATORS = bytes.maketrans(b",;", b"  ")
#: What a line begins with that is a remark: numpy writes its headers so, MATLAB and others theirs.
_COMMENTS = (b"#", b";", b"%")


@dataclass(frozen=True, eq=False)
class Rows:
    """N lines of C numbers.

    Attributes:
        values: (N, C) float64; may hold NaN and infinities where the text says so.
        names: N first words, where the lines begin with one that is not a number; else None.
        lines: (N,) int64 line number of each row in the file, from 1.
    """

    values: NDArray[np.float64]
    names: tuple[str, ...] | None
    lines: NDArray[np.int64]


def read_rows(path: str | Path) -> Rows:
    """Read every line that is not blank, nor a remark; all must have as many numbers as the first.

    Raises:
        UserError: unreadable file, no rows, a line with more or fewer numbers than the first, a word
            that is not a number (named with its line).
    """
    path = Path(path)
    reader = _Reader(path)
    try:
        with path.open("rb") as file:
            first = 1
            while block := file.readlines(_BLOCK_BYTES):
                reader.add(block, first)
                first += len(block)
    except OSError as error:
        raise UserError(f"{path}: not readable as text ({error})") from error
    return reader.rows()


class _Reader:
    """Collects the blocks of one file; the first row says how the others must look."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: int | None = None
        self.named = False
        self.values: list[NDArray[np.float64]] = []
        self.lines: list[NDArray[np.int64]] = []
        self.names: list[str] = []

    def add(self, block: list[bytes], first_line: int) -> None:
        if first_line == 1:
            block[0] = block[0].removeprefix(b"\xef\xbb\xbf")  # Windows' byte order mark
        rows, lines = [], []
        for number, line in enumerate(block, start=first_line):
            row = line.translate(_SEPARATORS).strip()
            if row and not line.lstrip().startswith(_COMMENTS):
                rows.append(row)
                lines.append(number)
        if not rows:
            return
        if self.columns is None:
            self.named = not _is_number(rows[0].split(None, 1)[0])
            self.columns = len(rows[0].split()) - self.named
        if self.named:
            parts = [row.split(None, 1) for row in rows]
            self.names += [
                self._text(part[0], line) for part, line in zip(parts, lines, strict=True)
            ]
            rows = [part[1] if len(part) > 1 else b"" for part in parts]
        self.values.append(self._numbers(rows, lines))
        self.lines.append(np.asarray(lines, np.int64))

    def rows(self) -> Rows:
        if not self.values:
            raise UserError(f"{self.path}: empty; expected one line of numbers per frame")
        return Rows(
            values=np.concatenate(self.values),
            names=tuple(self.names) if self.named else None,
            lines=np.concatenate(self.lines),
        )

    def _numbers(self, rows: list[bytes], lines: list[int]) -> NDArray[np.float64]:
        """The rows in one call of numpy's parser; line by line only to find out what is wrong."""
        counts = [len(row.split()) for row in rows]
        expected = self.columns
        for count, row, line in zip(counts, rows, lines, strict=True):
            if count != expected:
                self._check_row(row, line)  # words are the better explanation
                raise UserError(
                    f"{self.path}, row {line}: expected {expected} numbers as in the first row, "
                    f"found {count}"
                )
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # numpy's way to say "not a number"
            try:
                values = np.fromstring(b" ".join(rows), np.float64, sep=" ")
            except (DeprecationWarning, ValueError):
                values = np.empty(0)
        if values.size != sum(counts):
            for row, line in zip(rows, lines, strict=True):
                self._check_row(row, line)
            # Python's float() reads a little more than numpy's parser, "1_000" for one.
            values = np.array([float(word) for row in rows for word in row.split()])
        return values.reshape(len(rows), -1)

    def _check_row(self, row: bytes, line: int) -> None:
        for word in row.split():
            if not _is_number(word):
                text = self._text(word, line)
                raise UserError(f"{self.path}, row {line}: not a number: {text[:40]!r}")

    def _text(self, word: bytes, line: int) -> str:
        try:
            return word.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{self.path}, row {line}: not readable as text ({error}); expected UTF-8"
            ) from error


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


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
