"""Joints in files: the authors' formats and ours, read into one shape, `uvd` in px, px, mm.

| suffix | whose | what it holds |
| --- | --- | --- |
| `.txt` | the field | a line per frame: K·3 (or K·2) numbers `u v d u v d …`, px px mm |
| `.txt` | HANDS 2017 | a line per frame: `frame/images/image_D00000001.png`, K·3 of `x y z` mm |
| `.mat` | authors | one array (N, K, 3 or 2): `keypoints3D`, `resultUVD`, `keypointsTest` … |
| `.npz`, `.mat` | ours | `joints_uvd`, and if known `joints_xyz_mm`, `confidence`, `valid`, `index` |
| `.jsonl` | ours | one object per frame with the same names |
| `.json` | ours | `{"frames": [object, …]}`, what `a2j predict --json` prints |

The authors' `keypoints3D` is uvd (px, px, mm) for hands and xyz in *metres* for ITOP, whose
`resultUVD` is (px, px, metres): `layouts.to_uvd_mm` tells them apart and says what it assumed. Rows
and joints are counted from 1 in messages, as an editor counts lines.
"""

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat, savemat

from a2j_jax.errors import UserError
from a2j_jax.evaluation import layouts
from a2j_jax.evaluation.submission import frame_index
from a2j_jax.evaluation.text_rows import read_rows
from a2j_jax.files import local_path
from a2j_jax.tracks import TrackSpec

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class JointSet:
    """The joints of many frames, in dataset order.

    Attributes:
        joints_uvd: (N, K, 3) px px mm, or (N, K, 2) px for a 2D track; float64.
        valid: (N, K) bool, False where a joint has no label; None means all count.
        confidence: (N, K) in [0, 1], or None where the file has none.
        joints_xyz_mm: (N, K, 3) camera coordinates, or None: derived from `joints_uvd` when needed.
        index: (N,) int64 position of each frame in its data set, ascending, or None: 0 … N−1.
        notes: what the reader had to assume of units and columns, one line each; worth printing.
    """

    joints_uvd: FloatArray
    valid: NDArray[np.bool_] | None = None
    confidence: FloatArray | None = None
    joints_xyz_mm: FloatArray | None = None
    index: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()


def read_joints(path: str | Path, spec: TrackSpec) -> JointSet:
    """Read predictions or labels of `spec`'s track from a file of any format in the table above.

    Raises:
        UserError: missing or unreadable file, unknown suffix, wrong number of joints in a row, a
            value that is not a finite number, two rows of the same frame, camera coordinates where
            pixels were expected.
    """
    path = local_path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected joints as {', '.join(_READERS)}")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(
            f"{path}: unknown kind of joint file '{path.suffix}'; expected one of "
            f"{', '.join(_READERS)}"
        )
    joints = reader(path, spec)
    _check_finite(path, joints)
    return _in_dataset_order(path, joints)


#: Suffixes of files that `write_joints` writes.
WRITABLE = (".npz", ".jsonl", ".mat", ".txt")


def write_joints(path: str | Path, joints: JointSet) -> None:
    """Write joints as `.npz`, `.jsonl`, `.mat` (ours, lossless) or `.txt` (the authors', 6 decimals).

    The challenge's file of HANDS 2017 is written by `submission.write_submission`.

    Raises:
        UserError: another suffix.
    """
    path = local_path(path)
    named = {name: getattr(joints, name) for name in _ARRAY_NAMES}
    arrays = {name: value for name, value in named.items() if value is not None}
    match path.suffix.lower():
        case ".npz":
            np.savez_compressed(path, allow_pickle=False, **arrays)
        case ".mat":
            savemat(path, arrays, do_compression=True)
        case ".jsonl":
            rows = zip(*(value.tolist() for value in arrays.values()), strict=True)
            lines = (json.dumps(dict(zip(arrays, row, strict=True))) for row in rows)
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        case ".txt":
            np.savetxt(path, joints.joints_uvd.reshape(len(joints.joints_uvd), -1), fmt="%.6f")
        case suffix:
            raise UserError(
                f"{path}: cannot write joints as '{suffix}'; use one of {', '.join(WRITABLE)}"
            )


# The names in our files, one array (`.npz`, `.mat`) or one value per frame (`.jsonl`), and their types.
_ARRAY_NAMES: dict[str, type] = {
    "index": np.int64,
    "joints_uvd": np.float64,
    "joints_xyz_mm": np.float64,
    "confidence": np.float64,
    "valid": np.bool_,
}


def _expected(spec: TrackSpec) -> tuple[int, int]:
    return spec.num_joints, spec.joint_dims


def _read_text(path: Path, spec: TrackSpec) -> JointSet:
    rows = read_rows(path)
    try:
        columns = layouts.split_columns(rows.values, *_expected(spec))
    except layouts.LayoutError as error:
        raise UserError(f"{path}, row {rows.lines[0]}: {error} (track '{spec.name}')") from error
    index = None if rows.names is None else frame_index(rows.names)
    # Before the units are judged; by line, because blank lines are not counted as rows.
    _check_finite(path, JointSet(columns.joints), rows.lines)
    uvd, notes = _to_uvd(path, columns.joints, spec, "unknown" if index is None else "xyz")
    return JointSet(uvd, confidence=columns.confidence, index=index, notes=notes)


def _read_mat(path: Path, spec: TrackSpec) -> JointSet:
    try:
        contents = loadmat(path)
    except Exception as error:  # scipy raises a different type for every way a .mat can be broken
        raise UserError(
            f"{path}: not readable as a MATLAB 5–7.2 file ({type(error).__name__}: {error}); "
            "it may be truncated, or saved with -v7.3"
        ) from error
    joints, dims = _expected(spec)
    if np.shape(contents.get("joints_uvd"))[1:] == (joints, dims):
        ours = {name: contents[name] for name in _ARRAY_NAMES if name in contents}
        if "index" in ours:  # MATLAB knows no list, only a matrix of one row
            ours["index"] = ours["index"].reshape(-1)
        return _from_arrays(path, ours, spec)
    shapes = ((joints, dims), (joints * dims,))
    fitting = {
        name: value
        for name, value in contents.items()
        if isinstance(value, np.ndarray)
        and value.dtype.kind in "iuf"
        and value.shape[1:] in shapes
        and len(value)
    }
    if len(fitting) != 1:
        found = ", ".join(
            f"{n} {getattr(v, 'shape', '')}" for n, v in contents.items() if n[:2] != "__"
        )
        raise UserError(
            f"{path}: expected one array (frames, {joints} joints, {dims}) for track "
            f"'{spec.name}', found {found or 'nothing'}"
        )
    name, values = next(iter(fitting.items()))
    uvd, notes = _to_uvd(
        path, values.astype(np.float64).reshape(-1, joints, dims), spec, _named_coordinates(name)
    )
    return JointSet(uvd, notes=notes)


def _named_coordinates(variable: str) -> layouts.Coordinates:
    """`resultUVD` is in pixels, `xyz_estimation` and `joint_est_wld_xyz` are camera coordinates."""
    lower = variable.lower()
    if "uvd" in lower:
        return "uvd"
    return "xyz" if "xyz" in lower or "wld" in lower or "world" in lower else "unknown"


def _to_uvd(
    path: Path, joints: FloatArray, spec: TrackSpec, coordinates: layouts.Coordinates
) -> tuple[FloatArray, tuple[str, ...]]:
    try:
        return layouts.to_uvd_mm(joints, spec, coordinates)
    except layouts.LayoutError as error:
        raise UserError(f"{path}: {error}") from error


def _read_npz(path: Path, spec: TrackSpec) -> JointSet:
    try:
        # Of anything else numpy says that it may be a pickle, and how to run it: not repeated here.
        if not zipfile.is_zipfile(path):
            raise zipfile.BadZipFile("not a whole archive; is it complete?")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in _ARRAY_NAMES if name in archive.files}
            found = archive.files
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not readable as .npz ({error})") from error
    if "joints_uvd" not in arrays:
        raise UserError(
            f"{path}: expected an array 'joints_uvd', found {', '.join(found) or 'none'}"
        )
    return _from_arrays(path, arrays, spec)


def _read_json_lines(path: Path, spec: TrackSpec) -> JointSet:
    records = []
    for number, line in enumerate(_read_utf8(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, row {number}: not one JSON object ({error})") from error
    return _from_records(path, records, spec)


def _read_json(path: Path, spec: TrackSpec) -> JointSet:
    try:
        contents = json.loads(_read_utf8(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from error
    frames = contents.get("frames") if isinstance(contents, dict) else None
    if not isinstance(frames, list):
        raise UserError(f'{path}: expected one object {{"frames": [...]}}')
    return _from_records(path, frames, spec)


def _read_utf8(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as text ({error})") from error


def _from_records(path: Path, records: list[Any], spec: TrackSpec) -> JointSet:
    """One dict per frame → arrays; every record must have the joints and the same other names."""
    if not records:
        raise UserError(f"{path}: empty; expected one object with 'joints_uvd' per frame")
    first = records[0] if isinstance(records[0], dict) else {}
    names = [name for name in _ARRAY_NAMES if name in first]
    joints, dims = _expected(spec)
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for number, record in enumerate(records, start=1):
        missing = [n for n in {"joints_uvd", *names} if n not in (record or {})]
        if not isinstance(record, dict) or missing:
            raise UserError(f"{path}, row {number}: expected an object with {', '.join(missing)}")
        shape = np.shape(np.asarray(record["joints_uvd"], object))
        if shape != (joints, dims):
            raise UserError(
                f"{path}, row {number}: expected {joints} joints × {dims} for track "
                f"'{spec.name}', found shape {shape}"
            )
        for name in names:
            columns[name].append(record[name])
    return _from_arrays(path, columns, spec)


def _from_arrays(path: Path, arrays: dict[str, Any], spec: TrackSpec) -> JointSet:
    joints, dims = _expected(spec)
    typed: dict[str, Any] = {}
    for name, values in arrays.items():
        try:
            typed[name] = np.asarray(values, _ARRAY_NAMES[name])
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}: '{name}' is not an array of numbers ({error})") from error
    frames = len(typed["joints_uvd"])
    shapes = {
        "joints_uvd": (frames, joints, dims),
        "joints_xyz_mm": (frames, joints, 3),
        "confidence": (frames, joints),
        "valid": (frames, joints),
        "index": (frames,),
    }
    for name, array in typed.items():
        if array.shape != shapes[name] or frames == 0:
            raise UserError(
                f"{path}: '{name}' should have shape {shapes[name]} for track '{spec.name}', "
                f"found {array.shape}"
            )
    uvd, notes = _to_uvd(path, typed.pop("joints_uvd"), spec, "uvd")
    return JointSet(uvd, **typed, notes=notes)


def _check_finite(path: Path, joints: JointSet, lines: NDArray[np.int64] | None = None) -> None:
    """Refuse joints that are not finite, naming the row (or its line in the file)."""
    bad = ~np.isfinite(joints.joints_uvd).all(-1)
    if joints.valid is not None:
        bad &= joints.valid
    if bad.any():
        row, joint = np.argwhere(bad)[0]
        number = row + 1 if lines is None else lines[row]
        raise UserError(
            f"{path}, row {number}: joint {joint + 1} is not finite "
            f"({joints.joints_uvd[row, joint].tolist()}); {bad.sum()} such joints in all"
        )


def _in_dataset_order(path: Path, joints: JointSet) -> JointSet:
    """Rows sorted by `index`, each frame once."""
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
    values: dict[str, Any] = {name: getattr(joints, name) for name in _ARRAY_NAMES}
    return replace(joints, **{name: v[order] for name, v in values.items() if v is not None})


_READERS: dict[str, Callable[[Path, TrackSpec], JointSet]] = {
    ".txt": _read_text,
    ".mat": _read_mat,
    ".npz": _read_npz,
    ".jsonl": _read_json_lines,
    ".json": _read_json,
}
