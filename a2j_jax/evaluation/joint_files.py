"""Names of frames, and the text file that carries them: what one submits to the HANDS 2017 challenge.

One line per frame: `frame/images/image_D00000001.png` (frames count from 1; the annotations have
no folder), then x y z in mm of the 21 joints, every field ended by a tab.

Joints in files: the authors' formats and ours, read into one shape, `uvd` in px, px, mm.

| suffix | whose | what it holds |
| --- | --- | --- |
| `.txt` | the field | a line per frame: K·3 (or K·2) numbers `u v d u v d …`, px px mm |
| `.txt` | HANDS 2017 | a line per frame: `frame/images/image_D00000001.png`, K·3 of `x y z` mm |
| `.mat` | authors | one array (N, K, 3 or 2): `keypoints3D`, `resultUVD`, `keypointsTest` … |
| `.npz`, `.mat` | ours | `joints_uvd`, and if known `joints_xyz_mm`, `confidence`, `valid`, `index`, `frame_id` |
| `.jsonl` | ours | one object per frame with the same names (or `path`, the frame's file) |
| `.json` | ours | `{"frames": [object, …]}`, what `a2j predict --json` prints |

Ours may say what they are of: `about`, a JSON object (in `.npz` and `.mat` its text), see `JointSet`.

The authors' `keypoints3D` is uvd (px, px, mm) for hands and xyz in *metres* for ITOP, whose
`resultUVD` is (px, px, metres): `joint_formats.to_uvd_mm` tells them apart and says what it assumed. Rows
and joints are counted from 1 in messages, as an editor counts lines.
"""

import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.io import savemat

from a2j_jax.data.array_files import mat_arrays, read_npz
from a2j_jax.data.batch import FloatArray
from a2j_jax.errors import UserError, as_utf8, printable
from a2j_jax.evaluation import joint_formats
from a2j_jax.evaluation.joint_formats import read_rows
from a2j_jax.files import MARK, local_path, parse_json, read_json, regular_file, replacing
from a2j_jax.tracks import TrackRecord, TrackSpec

# HANDS 2017's names and NYU's, of the view that labels and results are published of.
_SUBMITTED = re.compile(r"(?:.*[/\\])?image_D(\d{8})\.png", re.IGNORECASE)
_NYU = re.compile(r"(?:.*[/\\])?depth_1_(\d{7})\.png", re.IGNORECASE)
# Suffixes of frames: the same frame may be stored as another kind of file.
_FRAME_SUFFIX = re.compile(r"\.(?:png|npy|npz|tiff?|pgm|exr|bin|jpe?g|h5)$", re.IGNORECASE)


def frame_index(
    names: Sequence[str], patterns: Sequence[re.Pattern[str]] = (_SUBMITTED,)
) -> NDArray[np.int64] | None:
    """Position of each frame in the data set, (N,) from 0; None unless all are named by one pattern.

    Args:
        names: of frames, with or without folders.
        patterns: whose first group is the frame's number, from 1; the challenge's by default.
    """
    for pattern in patterns:
        found = [pattern.fullmatch(name) for name in names]
        if all(found):
            return np.array([int(match[1]) - 1 for match in found if match], np.int64)
    return None


def numbered(names: Sequence[str]) -> NDArray[np.int64] | None:
    """As `frame_index`, of names of HANDS 2017 or NYU: data sets whose frames are numbered by their names."""
    return frame_index(names, (_SUBMITTED, _NYU))


def match_names(names: Sequence[str], wanted: Sequence[str], where: str) -> NDArray[np.int64]:
    r"""Which of some frames is meant by each of others, by their names.

    Leading folders may be missing on either side (`test_seq_1/image_0000.png` is
    `D:\icvl\Testing\Depth\test_seq_1\image_0000.PNG`), as long as one frame alone is meant.

    Args:
        names: of M frames.
        wanted: names of N frames.
        where: the file that `names` are from, for messages.

    Returns:
        (N,) positions in `names`, -1 where there is none.

    Raises:
        UserError: a name that stands twice, or fits several.
    """
    rows = _match(names, wanted, _key, where)
    if (rows < 0).any() and np.count_nonzero(rows >= 0) < len(names):
        loosely = _match(names, wanted, _loose_key, where)
        if np.count_nonzero(loosely >= 0) > np.count_nonzero(rows >= 0):
            return loosely
    return rows


def _key(name: str) -> str:
    parts = [part for part in name.strip().replace("\\", "/").split("/") if part not in ("", ".")]
    stem, dot, suffix = (parts[-1] if parts else "").rpartition(".")
    return "/".join([*parts[:-1], stem + dot + suffix.lower() if dot else suffix])


def _loose_key(name: str) -> str:
    return _FRAME_SUFFIX.sub("", _key(name)).casefold()


def _tails(name: str) -> Iterator[str]:
    """`a/b/c` -> itself, `b/c`, `c`."""
    yield name
    while "/" in name:
        name = name.partition("/")[2]
        yield name


def _match(
    names: Sequence[str], wanted: Sequence[str], key: Callable[[str], str], where: str
) -> NDArray[np.int64]:
    keys, wanted_keys = [key(name) for name in names], [key(name) for name in wanted]
    if keys == wanted_keys:
        return np.arange(len(keys))
    whole: dict[str, int] = {}
    tails: dict[str, list[int]] = {}
    for row, one in enumerate(keys):
        first = whole.setdefault(one, row)
        if first != row:
            raise UserError(
                f"{where}: rows {first + 1} and {row + 1} are both frame {_shown(names[row])}; expected every "
                "frame once"
            )
        for tail in _tails(one):
            tails.setdefault(tail, []).append(row)
    rows = np.full(len(wanted), -1, np.int64)
    meant: dict[int, int] = {}
    for position, one in enumerate(wanted_keys):
        fits = [whole[one]] if one in whole else tails.get(one)
        if fits is None:
            fits = [whole[tail] for tail in _tails(one) if tail in whole][:1]
        if len(fits) > 1:
            raise UserError(
                f"{where}: frame {_shown(wanted[position])} may be {_shown(names[fits[0]])} or "
                f"{_shown(names[fits[1]])}; write the names with their folders"
            )
        for row in fits:
            other = meant.setdefault(row, position)
            if other != position:
                raise UserError(
                    f"{where}: frame {_shown(names[row])} may be {_shown(wanted[other])} or "
                    f"{_shown(wanted[position])}; write the names with their folders"
                )
            rows[position] = row
    return rows


def _shown(name: str) -> str:
    return repr(printable(name, 80))


def write_submission(
    path: str | Path, joints_xyz_mm: ArrayLike, index: ArrayLike | None = None
) -> None:
    """Write the file the challenge takes (zip it to submit), numbers with 4 decimals.

    Args:
        path: of the text file.
        joints_xyz_mm: (N, 21, 3) camera coordinates, mm, in the order of the skeleton.
        index: (N,) position of each frame in the data set, from 0; None: 0 … N−1.

    Raises:
        UserError: a joint is not finite, or the file cannot be written.
        ValueError: another shape.
    """
    path = Path(path)
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


@dataclass(frozen=True)
class JointSet:
    """The joints of many frames, in dataset order.

    Attributes:
        joints_uvd: (N, K, 3) px px mm, or (N, K, 2) px for a 2D track; float64.
        valid: (N, K) bool, False where a joint has no label; None means all count.
        confidence: (N, K) in [0, 1], or None where the file has none.
        joints_xyz_mm: (N, K, 3) camera coordinates, or None: derived from `joints_uvd` when needed.
        index: (N,) int64 position of each frame in its data set, ascending, or None: 0 … N−1.
        frame_id: (N,) names of the frames, or None.
        about: what our own files state of themselves: "track" (`TrackRecord`), "split", "frames_of" and "centers"
            (`Scores`), and where they are from; empty for files of others.
        notes: what the reader had to assume of units and columns, one line each; worth printing.
    """

    joints_uvd: FloatArray
    valid: NDArray[np.bool_] | None = None
    confidence: FloatArray | None = None
    joints_xyz_mm: FloatArray | None = None
    index: NDArray[np.int64] | None = None
    frame_id: NDArray[np.str_] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Names are those that a data set stores."""
        if self.frame_id is not None:
            names = [as_utf8(str(name)) for name in self.frame_id]
            object.__setattr__(self, "frame_id", np.array(names, np.str_))

    @property
    def record(self) -> TrackRecord:
        """What is stated of the track."""
        return TrackRecord.from_json(self.about.get("track", {}))

    @property
    def labeled(self) -> NDArray[np.bool_]:
        """(N, K) which joints are there: finite, and `valid`."""
        finite = np.array(np.isfinite(self.joints_uvd).all(-1))
        return finite if self.valid is None else finite & self.valid

    def rows(self, taken: NDArray[Any]) -> "JointSet":
        """Some of the frames, in the order of `taken`."""
        values = {name: getattr(self, name) for name in _ARRAY_NAMES}
        return replace(self, **{n: v[taken] for n, v in values.items() if v is not None})


def read_joints(path: str | Path, spec: TrackSpec) -> JointSet:
    """Read predictions or labels of `spec`'s track from a file of any format in the table above.

    Raises:
        UserError: missing or unreadable file, unknown suffix, wrong number of joints in a row, a
            value that is not a finite number, two rows of the same frame, camera coordinates where
            pixels were expected.
    """
    path = local_path(path)
    regular_file(path, f"joints as {', '.join(_READERS)}")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(
            f"{path}: unknown kind of joint file '{path.suffix}'; expected one of "
            f"{', '.join(_READERS)}"
        )
    joints = reader(path, spec)
    _check_finite(path, joints)
    try:
        record = joints.record
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    # Of another skeleton's predictions the shape alone need not tell.
    other = TrackRecord(joints=record.joints).differences(TrackRecord.of(spec))
    if other:
        raise UserError(f"{path}: holds other joints than track {spec.name!r}: {'; '.join(other)}")
    return _in_dataset_order(path, joints)


#: Suffixes of files that `write_joints` writes.
WRITABLE = (".npz", ".jsonl", ".mat", ".txt")


def write_joints(path: str | Path, joints: JointSet) -> None:
    """Write joints as `.npz`, `.jsonl`, `.mat` (ours, lossless) or `.txt` (the authors', 6 decimals).

    The file is replaced completely or not at all. All but `.txt`, which has no room for it, carry `files.MARK`
    and what the joints are of (`about`). The challenge's file is written by `write_submission`.

    Raises:
        UserError: another suffix, or the file cannot be written.
    """
    path = local_path(path)
    if path.suffix.lower() not in WRITABLE:
        raise UserError(
            f"{path}: cannot write joints as '{path.suffix}'; use one of {', '.join(WRITABLE)}"
        )
    named = {name: getattr(joints, name) for name in _ARRAY_NAMES}
    arrays = {name: value for name, value in named.items() if value is not None}
    about = json.dumps({**joints.about, "written_by": MARK})
    with replacing(path) as temporary:
        match path.suffix.lower():
            case ".npz":
                # An open file: given a name, NumPy would write `x.NPZ` as `x.NPZ.npz`.
                with temporary.open("wb") as file:
                    np.savez_compressed(file, allow_pickle=False, about=np.array(about), **arrays)
                with zipfile.ZipFile(temporary, "a") as archive:
                    archive.comment = MARK.encode()  # not compressed: `files.is_ours` finds it
            case ".mat":
                _write_mat(temporary, arrays, about)
            case ".jsonl":
                rows = zip(*(_without_nan(value) for value in arrays.values()), strict=True)
                lines = (json.dumps(dict(zip(arrays, row, strict=True))) for row in rows)
                text = "\n".join([f'{{"about": {about}}}', *lines])
                temporary.write_text(text + "\n", encoding="utf-8")
            case _:
                flat = joints.joints_uvd.reshape(len(joints.joints_uvd), -1)
                np.savetxt(temporary, flat, fmt="%.6f")


def _without_nan(values: NDArray[Any]) -> list[Any]:
    """As JSON takes them: null is what is not known."""
    if values.dtype.kind == "f":
        values = values.astype(object)
        values[~np.isfinite(values.astype(np.float64))] = None
    return list(values.tolist())


def _write_mat(path: Path, arrays: Mapping[str, NDArray[Any]], about: str) -> None:
    """Texts are stored as bytes of UTF-8, `char(about)` in MATLAB: every reader has arrays of numbers."""
    stored = {**arrays, "about": np.frombuffer(about.encode(), np.uint8)}
    if "frame_id" in arrays:
        names = np.char.encode(arrays["frame_id"], "utf-8")
        stored["frame_id"] = names.view(np.uint8).reshape(len(names), -1)
    savemat(path, stored, do_compression=True)
    with path.open("r+b") as file:
        file.write(f"MATLAB 5.0 MAT-file, {MARK}".ljust(116).encode())


# The names in our files, one array (`.npz`, `.mat`) or one value per frame (`.jsonl`), and their types.
_ARRAY_NAMES: dict[str, type] = {
    "index": np.int64,
    "frame_id": np.str_,
    "joints_uvd": np.float64,
    "joints_xyz_mm": np.float64,
    "confidence": np.float64,
    "valid": np.bool_,
}
# What a frame's name is called in JSON: by us, by `a2j predict`, and in a user's own joints.json.
_NAME_KEYS = ("frame_id", "path", "frame")


def _expected(spec: TrackSpec) -> tuple[int, int]:
    return spec.num_joints, spec.joint_dims


def _read_text(path: Path, spec: TrackSpec) -> JointSet:
    rows = read_rows(path)
    try:
        columns = joint_formats.split_columns(rows.values, *_expected(spec))
    except joint_formats.LayoutError as error:
        raise UserError(f"{path}, row {rows.lines[0]}: {error} (track '{spec.name}')") from error
    names = rows.names
    submitted = names is not None and frame_index(names) is not None
    # Before the units are judged; by line, because blank lines are not counted as rows.
    _check_finite(path, JointSet(columns.joints), rows.lines)
    uvd, notes = _to_uvd(path, columns.joints, spec, "xyz" if submitted else "unknown")
    return JointSet(
        uvd,
        confidence=columns.confidence,
        index=None if names is None else numbered(names),
        frame_id=None if names is None else np.array(names),
        notes=notes,
    )


def _read_mat(path: Path, spec: TrackSpec) -> JointSet:
    contents = mat_arrays(path)
    joints, dims = _expected(spec)
    named = contents.get("joints_uvd")
    if named is not None and named.shape[1:] == (joints, dims):
        ours: dict[str, Any] = {
            name: values for name in _ARRAY_NAMES if (values := contents.get(name)) is not None
        }
        if "index" in ours:  # MATLAB knows no list, only a matrix of one row
            ours["index"] = ours["index"].reshape(-1)
        if "frame_id" in ours:
            ours["frame_id"] = [_text(path, row) for row in ours["frame_id"]]
        about = _text(path, contents["about"]) if contents.get("about") is not None else None
        return _from_arrays(path, ours, spec, about)
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
        found = ", ".join(f"{n} {getattr(v, 'shape', '')}" for n, v in contents.items())
        raise UserError(
            f"{path}: expected one array (frames, {joints} joints, {dims}) for track "
            f"'{spec.name}', found {found or 'nothing'}"
        )
    name, values = next(iter(fitting.items()))
    uvd, notes = _to_uvd(
        path, values.astype(np.float64).reshape(-1, joints, dims), spec, _named_coordinates(name)
    )
    return JointSet(uvd, notes=notes)


def _text(path: Path, codes: Any) -> str:
    """What `_write_mat` wrote as bytes."""
    try:
        return bytes(np.asarray(codes).reshape(-1).astype(np.uint8)).rstrip(b"\0").decode()
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: 'frame_id' or 'about' is no text in UTF-8") from error


def _named_coordinates(variable: str) -> joint_formats.Coordinates:
    """`resultUVD` is in pixels, `xyz_estimation` and `joint_est_wld_xyz` are camera coordinates."""
    lower = variable.lower()
    if "uvd" in lower:
        return "uvd"
    return "xyz" if "xyz" in lower or "wld" in lower or "world" in lower else "unknown"


def _to_uvd(
    path: Path, joints: FloatArray, spec: TrackSpec, coordinates: joint_formats.Coordinates
) -> tuple[FloatArray, tuple[str, ...]]:
    try:
        return joint_formats.to_uvd_mm(joints, spec, coordinates)
    except joint_formats.LayoutError as error:
        raise UserError(f"{path}: {error}") from error


def _read_npz(path: Path, spec: TrackSpec) -> JointSet:
    found = read_npz(path)
    arrays = {name: found[name] for name in _ARRAY_NAMES if name in found}
    about = str(found["about"]) if "about" in found else None
    if "joints_uvd" not in arrays:
        raise UserError(
            f"{path}: expected an array 'joints_uvd', found {', '.join(found) or 'none'}"
        )
    return _from_arrays(path, arrays, spec, about)


def _read_json_lines(path: Path, spec: TrackSpec) -> JointSet:
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror})") from error
    records = [
        parse_json(line, f"{path}, row {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    about = None
    if records and isinstance(records[0], dict) and records[0].keys() == {"about"}:
        about = records.pop(0)["about"]
    return _from_records(path, records, spec, about)


def _read_json(path: Path, spec: TrackSpec) -> JointSet:
    contents = read_json(path, "joints")
    frames = contents.get("frames") if isinstance(contents, dict) else None
    if not isinstance(frames, list):
        raise UserError(f'{path}: expected one object {{"frames": [...]}}')
    # The keys of `a2j predict --json`, those of earlier versions included.
    said = {"track": contents.get("track"), "joints": contents.get("joint_names")}
    return _from_records(path, frames, spec, contents.get("about", {"track": said}))


def _from_records(path: Path, records: list[Any], spec: TrackSpec, about: Any) -> JointSet:
    """One dict per frame → arrays; every record must have the joints and the same other names."""
    if not records:
        raise UserError(f"{path}: empty; expected one object with 'joints_uvd' per frame")
    first = records[0] if isinstance(records[0], dict) else {}
    called = next((key for key in _NAME_KEYS if key in first), "frame_id")
    keys = {name: called if name == "frame_id" else name for name in _ARRAY_NAMES}
    names = [name for name, key in keys.items() if key in first]
    joints, dims = _expected(spec)
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for number, record in enumerate(records, start=1):
        found = record if isinstance(record, dict) else {}
        missing = [keys[n] for n in {"joints_uvd", *names} if keys[n] not in found]
        if missing:
            raise UserError(f"{path}, row {number}: expected an object with {', '.join(missing)}")
        shape = np.shape(np.asarray(record["joints_uvd"], object))
        if shape != (joints, dims):
            raise UserError(
                f"{path}, row {number}: expected {joints} joints × {dims} for track "
                f"'{spec.name}', found shape {shape}"
            )
        for name in names:
            columns[name].append(record[keys[name]])
    return _from_arrays(path, columns, spec, about)


def _typed(values: Any, kind: type) -> NDArray[Any]:
    """Values of one of our arrays; nothing is read as what it is not.

    Raises:
        ValueError: texts or truth values for numbers, fractions for whole ones, and the like.
    """
    found = np.asarray(values)
    if found.dtype.kind == "O":  # null among numbers, or nothing that is an array
        if any(isinstance(x, (str, bool)) for x in found.reshape(-1).tolist()):
            raise ValueError("found texts or truth values among numbers")
        found = np.asarray(values, np.float64)
    expected = {np.str_: "U", np.bool_: "biu", np.int64: "iuf"}.get(kind, "iuf")
    if found.dtype.kind not in expected:
        raise ValueError(f"found values of type {found.dtype}")
    typed: NDArray[Any] = found.astype(kind)
    if kind in (np.int64, np.bool_) and not (np.isfinite(found).all() and (typed == found).all()):
        raise ValueError("found numbers that it cannot hold")
    return typed


def _from_arrays(
    path: Path, arrays: Mapping[str, Any], spec: TrackSpec, about: Any = None
) -> JointSet:
    joints, dims = _expected(spec)
    typed: dict[str, Any] = {}
    for name, values in arrays.items():
        try:
            with np.errstate(invalid="ignore"):
                typed[name] = _typed(values, _ARRAY_NAMES[name])
        except (TypeError, ValueError, OverflowError) as error:
            what = "texts" if name == "frame_id" else "numbers"
            raise UserError(
                f"{path}: '{name}' is not an array of {what} ({printable(str(error), 120)})"
            ) from error
    frames = len(typed["joints_uvd"])
    shapes = {
        "joints_uvd": (frames, joints, dims),
        "joints_xyz_mm": (frames, joints, 3),
        "confidence": (frames, joints),
        "valid": (frames, joints),
        "index": (frames,),
        "frame_id": (frames,),
    }
    for name, array in typed.items():
        if array.shape != shapes[name] or frames == 0:
            raise UserError(
                f"{path}: '{name}' should have shape {shapes[name]} for track '{spec.name}', "
                f"found {array.shape}"
            )
    if "index" in typed and typed["index"].min() < 0:
        raise UserError(f"{path}: 'index' {typed['index'].min()}: expected frames counted from 0")
    if "index" not in typed and "frame_id" in typed:
        typed["index"] = numbered(typed["frame_id"].tolist())
    uvd, notes = _to_uvd(path, typed.pop("joints_uvd"), spec, "uvd")
    if isinstance(about, str):
        about = parse_json(about, f"{path}, 'about'")
    if about is not None and not isinstance(about, dict):
        raise UserError(f"{path}: 'about' is no JSON object")
    return JointSet(uvd, **typed, about=about or {}, notes=notes)


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
    return joints.rows(order)


_READERS: dict[str, Callable[[Path, TrackSpec], JointSet]] = {
    ".txt": _read_text,
    ".mat": _read_mat,
    ".npz": _read_npz,
    ".jsonl": _read_json_lines,
    ".json": _read_json,
}
