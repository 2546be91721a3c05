"""Files of joints: the authors' formats and ours, read into one shape, `uvd` in px, px, mm.

| suffix | whose | what it holds |
| --- | --- | --- |
| `.txt` | the field | a line per frame: K·3 (or K·2) numbers `u v d u v d …`, px px mm |
| `.txt` | HANDS 2017 | a line per frame: `frame/images/image_D00000001.png`, K·3 of `x y z` mm |
| `.mat` | authors | one array (N, K, 3 or 2): `keypoints3D`, `resultUVD`, `keypointsTest` … |
| `.npz`, `.mat` | ours | `joints_uvd`, and if known `joints_xyz_mm`, `confidence`, `valid`, `index`, `frame_id` |
| `.jsonl` | ours | one object per frame with the same names (or `path`, the frame's file) |
| `.json` | ours | `{"frames": [object, …]}`, what `a2j predict --json` prints |

Ours also hold `about`, a JSON object (as text in `.npz` and `.mat`), see `JointSet`. Published files state no units:
`to_uvd_mm` infers them. Messages count rows and joints from 1, as an editor counts lines.
"""

import codecs
import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.io import savemat

from a2j_jax import geometry
from a2j_jax.data.array_files import mat_arrays, read_npz, read_rows, readable
from a2j_jax.errors import UserError, as_utf8, printable
from a2j_jax.evaluation.scores import json_list
from a2j_jax.files import MARK, local_path, parse_json, read_json, regular_file, replacing
from a2j_jax.geometry import Float64
from a2j_jax.tracks import TrackRecord, TrackSpec

#: Suffixes that `write_joints` writes.
WRITABLE = (".npz", ".jsonl", ".mat", ".txt")
Coordinates = Literal["uvd", "xyz", "unknown"]

# Frame names of HANDS 2017 and of NYU (the view whose labels and results are published).
_HANDS_2017 = re.compile(r"(?:.*[/\\])?image_D(\d{8})\.png", re.IGNORECASE)
_NYU = re.compile(r"(?:.*[/\\])?depth_1_(\d{7})\.png", re.IGNORECASE)
# The arrays of our files (one value per frame in JSON): their types and shapes, N frames, K joints, D dimensions.
_ARRAYS: dict[str, tuple[type, str]] = {
    "index": (np.int64, "N"),
    "frame_id": (np.str_, "N"),
    "joints_uvd": (np.float64, "NKD"),
    "joints_xyz_mm": (np.float64, "NK3"),
    "confidence": (np.float64, "NK"),
    "valid": (np.bool_, "NK"),
}
# The key of a frame's name in JSON: ours, that of `a2j predict`, and that of a user's joints.json.
_NAME_KEYS = ("frame_id", "path", "frame")

# A median depth below this is in meters: neither 50 m nor 5 cm is a hand or a body in view.
_METERS_BELOW = 50.0
# In meters, x and y of a joint are within the room; as pixels they would all be in one corner.
_ROOM_M = 10.0
_METER_MM = 1000.0


@dataclass(frozen=True)
class JointSet:
    """The joints of many frames, in the order of the data set.

    Attributes:
      joints_uvd: (N, K, 3) px px mm, or (N, K, 2) px for a 2D track.
      valid: (N, K) bool, False where a joint has no label; None: all count.
      confidence: (N, K) in [0, 1]; None: unknown.
      joints_xyz_mm: (N, K, 3) camera coordinates; None: derived from `joints_uvd` when needed.
      index: (N,) number of each frame in its data set, ascending; None: 0 … N−1.
      frame_id: (N,) names of the frames; None: unknown.
      about: what our own files state: "track" (`TrackRecord`), "split", "frames_of" and "centers" (`Scores`),
        and where they are from; empty for other files.
      notes: what the reader assumed about units and columns, one line each; worth printing.
    """

    joints_uvd: Float64
    valid: NDArray[np.bool_] | None = None
    confidence: Float64 | None = None
    joints_xyz_mm: Float64 | None = None
    index: NDArray[np.int64] | None = None
    frame_id: NDArray[np.str_] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Stores names as data sets do."""
        if self.frame_id is not None:
            names = [as_utf8(str(name)) for name in self.frame_id]
            object.__setattr__(self, "frame_id", np.array(names, np.str_))

    @property
    def record(self) -> TrackRecord:
        """The record of the track that the file states."""
        return TrackRecord.from_json(self.about.get("track", {}))

    @property
    def labeled(self) -> NDArray[np.bool_]:
        """(N, K) which joints exist: finite, and `valid`."""
        finite = np.array(np.isfinite(self.joints_uvd).all(-1))
        return finite if self.valid is None else finite & self.valid

    @property
    def numbers(self) -> NDArray[np.int64]:
        """(N,) `index`, or 0 … N−1 without one."""
        return np.arange(len(self.joints_uvd)) if self.index is None else self.index

    def rows(self, taken: NDArray[Any]) -> Self:
        """Some of the frames, in the order of `taken`."""
        arrays = {n: value[taken] for n, value in vars(self).items() if hasattr(value, "dtype")}
        return replace(self, **arrays)


def frame_index(
    names: Sequence[str], patterns: Sequence[re.Pattern[str]] = (_HANDS_2017,)
) -> NDArray[np.int64] | None:
    """(N,) number from 0 of each frame by its name, with or without folders; None unless all fit one pattern.

    A pattern's first group is the number, from 1; the default is that of the HANDS 2017 challenge.
    """
    for pattern in patterns:
        found = [pattern.fullmatch(name) for name in names]
        if all(found):
            return np.array([int(match[1]) - 1 for match in found if match], np.int64)
    return None


def numbered(names: Sequence[str]) -> NDArray[np.int64] | None:
    """`frame_index` for names of HANDS 2017 or NYU, whose frames are numbered by their names."""
    return frame_index(names, (_HANDS_2017, _NYU))


# --- Reading


def read_joints(path: str | Path, track: TrackSpec) -> JointSet:
    """Read predictions or labels of `track`'s track from a file of any format in the table above.

    Raises:
      UserError: missing or unreadable file, unknown suffix, wrong number of joints in a row, a
        value that is not a finite number, two rows of the same frame, camera coordinates where
        pixels were expected, or joints of another skeleton.
    """
    path = local_path(path)
    regular_file(path, f"joints as {', '.join(_READERS)}")
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise UserError(
            f"{path}: unknown kind of joint file '{path.suffix}'; expected one of {', '.join(_READERS)}"
        )
    joints = _READERS[suffix](path, track)
    _check_finite(path, joints)
    try:
        record = joints.record
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    # The shape need not tell another skeleton's predictions apart.
    if other := TrackRecord(joints=record.joints).differences(TrackRecord.of(track)):
        raise UserError(f"{path}: holds other joints than track {track.name!r}: {'; '.join(other)}")
    if joints.index is None:
        return joints
    order = np.argsort(joints.index, kind="stable")
    repeated = np.flatnonzero(np.diff(joints.index[order]) == 0)
    if repeated.size:
        first, second = order[repeated[0] : repeated[0] + 2] + 1
        raise UserError(
            f"{path}: rows {first} and {second} are both frame {joints.index[first - 1]}; "
            "expected every frame once"
        )
    return joints.rows(order)


def _check_finite(path: Path, joints: JointSet, lines: NDArray[np.int64] | None = None) -> None:
    """Refuse joints that are not finite, naming the row (or its line in the file)."""
    bad = np.argwhere((True if joints.valid is None else joints.valid) & ~joints.labeled)
    for row, joint in bad[:1]:
        raise UserError(
            f"{path}, row {row + 1 if lines is None else lines[row]}: joint {joint + 1} is not finite "
            f"({joints.joints_uvd[row, joint].tolist()}); {len(bad)} such joints in all"
        )


def _read_text(path: Path, track: TrackSpec) -> JointSet:
    rows = read_rows(path)
    joints, confidence = split_columns(rows.values, track, f"{path}, row {rows.lines[0]}")
    # Before the units are inferred; by line, because blank lines are not counted as rows.
    _check_finite(path, JointSet(joints), rows.lines)
    coordinates: Coordinates = "unknown"
    names, index = None, None
    if rows.names is not None:
        names, index = np.array(rows.names), numbered(rows.names)
        if frame_index(rows.names) is not None:  # the challenge's
            coordinates = "xyz"
    uvd, notes = to_uvd_mm(joints, track, str(path), coordinates)
    return JointSet(uvd, None, confidence, index=index, frame_id=names, notes=notes)


def _read_mat(path: Path, track: TrackSpec) -> JointSet:
    contents = mat_arrays(path)
    known = {name: value for name, value in contents.items() if value is not None}
    shape = (track.num_joints, track.joint_dims)
    if "joints_uvd" in known and known["joints_uvd"].shape[1:] == shape:
        ours: dict[str, Any] = {name: known[name] for name in _ARRAYS if name in known}
        if "index" in ours:  # MATLAB knows no list, only a matrix of one row
            ours["index"] = ours["index"].reshape(-1)
        if "frame_id" in ours:
            ours["frame_id"] = [_text(path, row) for row in ours["frame_id"]]
        about = _text(path, known["about"]) if "about" in known else None
        return _from_arrays(path, ours, track, about)
    shapes = (shape, (shape[0] * shape[1],))
    fitting = {
        name: value
        for name, value in known.items()
        if value.dtype.kind in "iuf" and value.shape[1:] in shapes and len(value)
    }
    if len(fitting) != 1:
        found = ", ".join(f"{n} {getattr(v, 'shape', '')}" for n, v in contents.items())
        raise UserError(
            f"{path}: expected one array (frames, {shape[0]} joints, {shape[1]}) for track "
            f"'{track.name}', found {found or 'nothing'}"
        )
    ((name, values),) = fitting.items()
    # `resultUVD` is in pixels; `xyz_estimation` and `joint_est_wld_xyz` are camera coordinates.
    lower = name.lower()
    coordinates: Coordinates = "uvd" if "uvd" in lower else "unknown"
    if any(word in lower for word in ("xyz", "wld", "world")):
        coordinates = "xyz"
    joints = values.astype(np.float64).reshape(-1, *shape)
    uvd, notes = to_uvd_mm(joints, track, str(path), coordinates)
    return JointSet(uvd, notes=notes)


def _text(path: Path, codes: Any) -> str:
    """Decode text that `write_joints` stored as bytes."""
    try:
        return bytes(np.asarray(codes).reshape(-1).astype(np.uint8)).rstrip(b"\0").decode()
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: 'frame_id' or 'about' is no text in UTF-8") from error


def _read_npz(path: Path, track: TrackSpec) -> JointSet:
    found = read_npz(path)
    if "joints_uvd" not in found:
        raise UserError(
            f"{path}: expected an array 'joints_uvd', found {', '.join(found) or 'none'}"
        )
    about = str(found["about"]) if "about" in found else None
    return _from_arrays(path, {n: found[n] for n in _ARRAYS if n in found}, track, about)


def _read_json_lines(path: Path, track: TrackSpec) -> JointSet:
    with readable(path, "lines of JSON"):
        lines = enumerate(path.read_bytes().removeprefix(codecs.BOM_UTF8).splitlines(), start=1)
    records = [parse_json(line, f"{path}, row {n}") for n, line in lines if line.strip()]
    about = None
    if records and isinstance(records[0], dict) and records[0].keys() == {"about"}:
        about = records.pop(0)["about"]
    return _from_records(path, records, track, about)


def _read_json(path: Path, track: TrackSpec) -> JointSet:
    contents = read_json(path, "joints")
    frames = contents.get("frames") if isinstance(contents, dict) else None
    if not isinstance(frames, list):
        raise UserError(f'{path}: expected one object {{"frames": [...]}}')
    # The keys of `a2j predict --json`, those of earlier versions included.
    stated = {"track": contents.get("track"), "joints": contents.get("joint_names")}
    return _from_records(path, frames, track, contents.get("about", {"track": stated}))


def _from_records(path: Path, records: list[Any], track: TrackSpec, about: Any) -> JointSet:
    """One dict per frame -> arrays; every record must have the joints and the keys of the first one."""
    if not records:
        raise UserError(f"{path}: empty; expected one object with 'joints_uvd' per frame")
    first = records[0] if isinstance(records[0], dict) else {}
    keys = {name: name for name in _ARRAYS if name in first} | {"joints_uvd": "joints_uvd"}
    names = [key for key in _NAME_KEYS if key in first]
    keys |= {"frame_id": names[0]} if names else {}
    shape = (track.num_joints, track.joint_dims)
    for number, record in enumerate(records, start=1):
        known = record if isinstance(record, dict) else {}
        if missing := [key for key in keys.values() if key not in known]:
            raise UserError(f"{path}, row {number}: expected an object with {', '.join(missing)}")
        found = np.shape(np.asarray(record["joints_uvd"], object))
        if found != shape:
            raise UserError(
                f"{path}, row {number}: expected {shape[0]} joints × {shape[1]} for track "
                f"'{track.name}', found shape {found}"
            )
    arrays = {name: [record[key] for record in records] for name, key in keys.items()}
    return _from_arrays(path, arrays, track, about)


def _from_arrays(
    path: Path, arrays: Mapping[str, Any], track: TrackSpec, about: Any = None
) -> JointSet:
    frames = len(arrays["joints_uvd"])
    sizes = {"N": frames, "K": track.num_joints, "D": track.joint_dims, "3": 3}
    typed: dict[str, Any] = {}
    for name, values in arrays.items():
        kind, letters = _ARRAYS[name]
        shape = tuple(sizes[letter] for letter in letters)
        try:
            typed[name] = _typed(values, kind)
        except (TypeError, ValueError, OverflowError) as error:
            what = "texts" if kind is np.str_ else "numbers"
            raise UserError(
                f"{path}: '{name}' is not an array of {what} ({printable(str(error), 120)})"
            ) from error
        if typed[name].shape != shape or frames == 0:
            raise UserError(
                f"{path}: '{name}' should have shape {shape} for track '{track.name}', "
                f"found {typed[name].shape}"
            )
    if "index" in typed and typed["index"].min() < 0:
        raise UserError(f"{path}: 'index' {typed['index'].min()}: expected frames counted from 0")
    if "index" not in typed and "frame_id" in typed:
        typed["index"] = numbered(typed["frame_id"].tolist())
    uvd, notes = to_uvd_mm(typed.pop("joints_uvd"), track, str(path), "uvd")
    if isinstance(about, str):
        about = parse_json(about, f"{path}, 'about'")
    if not isinstance(about, dict | None):
        raise UserError(f"{path}: 'about' is no JSON object")
    return JointSet(uvd, **typed, about=about or {}, notes=notes)


def _typed(values: Any, kind: type) -> NDArray[Any]:
    """Values of one of our arrays; nothing is converted to what it is not.

    Raises:
      ValueError: texts or booleans for numbers, fractions for integers, and the like.
    """
    found = np.asarray(values)
    if found.dtype.kind == "O":  # null among numbers, or no array at all
        if any(isinstance(x, str | bool) for x in found.reshape(-1).tolist()):
            raise ValueError("found texts or truth values among numbers")
        found = np.asarray(values, np.float64)
    if found.dtype.kind not in {np.str_: "U", np.bool_: "biu"}.get(kind, "iuf"):
        raise ValueError(f"found values of type {found.dtype}")
    with np.errstate(invalid="ignore"):
        typed: NDArray[Any] = found.astype(kind)
    if kind in (np.int64, np.bool_) and not (np.isfinite(found).all() and (typed == found).all()):
        raise ValueError("found numbers that it cannot hold")
    return typed


_READERS: dict[str, Callable[[Path, TrackSpec], JointSet]] = {
    ".txt": _read_text,
    ".mat": _read_mat,
    ".npz": _read_npz,
    ".jsonl": _read_json_lines,
    ".json": _read_json,
}


# --- Numbers of published files: columns of confidences, and units


def split_columns(values: Float64, track: TrackSpec, where: str) -> tuple[Float64, Float64 | None]:
    """Separate the joints (N, K, D) of K·D columns, and the confidences (N, K) of K·(D+1).

    Confidences, in [0, 1], stand behind each joint's coordinates (`u v d c u v d c …`) or all at the row's end.

    Raises:
      UserError: another number of columns, or extra ones that are not confidences.
    """
    joints, dims = track.num_joints, track.joint_dims
    count, columns = values.shape
    if columns == joints * dims:
        return values.reshape(count, joints, dims), None
    why = ""
    if columns == joints * (dims + 1):
        beside = values.reshape(count, joints, dims + 1)
        behind = values[:, : joints * dims].reshape(count, joints, dims)
        for found, confidence in (
            (beside[..., :dims], beside[..., dims]),
            (behind, values[:, joints * dims :]),
        ):
            if not ((confidence < 0) | (confidence > 1)).any():  # NaN: unknown, allowed
                return found, confidence
        why = (
            f": one more per joint, but neither every {dims + 1}th number nor the last {joints} are confidences "
            "in [0, 1]"
        )
    raise UserError(
        f"{where}: expected {joints * dims} numbers ({joints} joints × {dims}), found {columns}{why} (track "
        f"'{track.name}')"
    )


def to_uvd_mm(
    joints: Float64, track: TrackSpec, where: str, coordinates: Coordinates = "unknown"
) -> tuple[Float64, tuple[str, ...]]:
    """Convert joints of unknown unit to px, px, mm of the track's camera, with one line per assumption.

    The numbers tell where they leave no doubt: no joint that a depth camera sees is nearer than 5 cm, and a file's
    pixels are not mostly outside the frame. (The authors' `keypoints3D` is uvd in px, px, mm for hands and xyz in
    *meters* for ITOP, whose `resultUVD` is px, px, meters.) Where doubt remains, the file is refused.

    Args:
      joints: (N, K, 3) pixels and depth, or camera coordinates, in mm or meters; (N, K, 2) px pass through.
      where: the file, for messages.
      coordinates: "uvd" or "xyz" where the file says which; "unknown" is taken as pixels, except for meters too small
        to be any.

    Raises:
      UserError: numbers that look like camera coordinates in mm in a file that should hold pixels: another joint order
        or another sign of y would go unnoticed.
    """
    if track.joint_dims == 2:
        return joints, ()
    notes: list[str] = []
    if 0 < _median_size(joints[..., 2]) < _METERS_BELOW:
        notes.append("depth read as meters")
        if coordinates == "unknown" and _median_size(joints[..., :2]) < _ROOM_M:
            coordinates = "xyz"
        joints = joints * (_METER_MM if coordinates == "xyz" else np.array([1, 1, _METER_MM]))
    camera, shown = track.camera, ""
    if camera is not None:
        shown = f"fx {camera.fx:g}, fy {camera.fy:g}, u0 {camera.u0:g}, v0 {camera.v0:g}"
    if coordinates == "xyz":
        if camera is None:
            raise UserError(f"{where}: camera coordinates, but track '{track.name}' has no camera")
        notes.append(f"x y z projected with the track's camera, {shown}")
        if np.nanmedian(joints[..., 2]) < 0:
            notes.append("z points backwards: y and z turned round")
            joints = joints * np.array([1.0, -1.0, -1.0])
        if (joints[..., 2] == 0).any():
            raise UserError(f"{where}: camera coordinates with z = 0 have no pixel")
        return geometry.xyz_to_uvd(joints, camera), tuple(notes)
    if coordinates == "unknown" and _look_like_xyz(joints, track):
        raise UserError(
            f"{where}: the numbers look like camera coordinates (x y z in mm), expected pixels and depth "
            f"(u v d in px px mm); convert them with the camera they were written for "
            f"(track '{track.name}': {shown}), and check the order of the joints"
        )
    return joints, tuple(notes)


def _look_like_xyz(joints: Float64, track: TrackSpec) -> bool:
    """Mostly outside the frame as pixels, mostly inside as camera coordinates (either sign of y)."""

    def inside(uvd: Float64) -> float:
        return float(((uvd[..., :2] >= 0) & (uvd[..., :2] < track.frame_size)).all(-1).mean())

    camera = track.camera
    if camera is None or (joints[..., 2] == 0).any() or inside(joints) >= 0.5:
        return False
    turned = joints * np.array([1.0, -1.0, 1.0])
    return max(inside(geometry.xyz_to_uvd(xyz, camera)) for xyz in (joints, turned)) > 0.9


def _median_size(values: Float64) -> float:
    sizes = np.abs(values[np.isfinite(values)])
    return float(np.median(sizes)) if sizes.size else 0.0


# --- Writing


def write_joints(path: str | Path, joints: JointSet) -> None:
    """Write joints as `.npz`, `.jsonl`, `.mat` (ours, lossless) or `.txt` (the authors', 6 decimals).

    The file is replaced completely or not at all. All but `.txt`, which has no room for them, carry `files.MARK`
    and `about`. `write_submission` writes the challenge's file.

    Raises:
      UserError: another suffix, or the file cannot be written.
    """
    path = local_path(path)
    suffix = path.suffix.lower()
    if suffix not in WRITABLE:
        raise UserError(
            f"{path}: cannot write joints as '{path.suffix}'; use one of {', '.join(WRITABLE)}"
        )
    named = {name: getattr(joints, name) for name in _ARRAYS}
    arrays = {name: value for name, value in named.items() if value is not None}
    about = json.dumps({**joints.about, "written_by": MARK})
    with replacing(path) as temporary:
        if suffix == ".npz":
            # An open file: given a name, NumPy would write `x.NPZ` as `x.NPZ.npz`.
            with temporary.open("wb") as file:
                np.savez_compressed(file, allow_pickle=False, about=np.array(about), **arrays)
            with zipfile.ZipFile(temporary, "a") as archive:
                archive.comment = MARK.encode()  # not compressed: `files.is_ours` finds it
        elif suffix == ".mat":
            # Texts as bytes of UTF-8, `char(about)` in MATLAB: every reader has arrays of numbers.
            if "frame_id" in arrays:
                names = np.char.encode(arrays["frame_id"], "utf-8")
                arrays["frame_id"] = names.view(np.uint8).reshape(len(names), -1)
            arrays["about"] = np.frombuffer(about.encode(), np.uint8)
            savemat(temporary, arrays, do_compression=True)
            with temporary.open("r+b") as file:
                file.write(f"MATLAB 5.0 MAT-file, {MARK}".ljust(116).encode())
        elif suffix == ".jsonl":
            rows = zip(*map(json_list, arrays.values()), strict=True)
            lines = (json.dumps(dict(zip(arrays, row, strict=True))) for row in rows)
            text = "\n".join([f'{{"about": {about}}}', *lines])
            temporary.write_text(text + "\n", encoding="utf-8")
        else:
            flat = joints.joints_uvd.reshape(len(joints.joints_uvd), -1)
            np.savetxt(temporary, flat, fmt="%.6f")


def write_submission(
    path: str | Path, joints_xyz_mm: ArrayLike, index: ArrayLike | None = None
) -> None:
    """Write (N, 21, 3) joints in the file that the HANDS 2017 challenge takes (zip it to submit).

    One line per frame: `frame/images/image_D00000001.png` (frames count from 1, `index` from 0; the annotations have no
    folder), then x y z in mm of the joints with 4 decimals, every field ended by a tab.

    Raises:
      UserError: a joint is not finite, or the file cannot be written.
      ValueError: another shape.
    """
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
    with replacing(path) as temporary, temporary.open("w", encoding="ascii", newline="\n") as file:
        for frame, row in zip(frames.tolist(), xyz.reshape(len(xyz), -1), strict=True):
            file.write(line % (frame + 1, *row.tolist()))
