"""Custom data: a folder of depth frames, a table of joints and a `track.json`.

    my_hands/
      track.json      the constants of the frames: `a2j_jax.track_files`
      joints.csv      or joints.json
      frames/...      depth: `a2j_jax.data.depth_files`, at the paths that the table names

`joints.csv` has one line per frame and a header: `frame` (path below the folder), optionally `split`
("train" unless given), and for every joint its numbers, as pixels (`wrist_u, wrist_v, wrist_d`; `_d`
in mm, left out on a 2D track) or in camera coordinates (`wrist_x, wrist_y, wrist_z`, mm). An empty
cell: not labeled. `center_u, center_v, center_d` or `box_x0, box_y0, box_x1, box_y1` set where to
crop, if known.

`joints.json` holds the same: `{"frames": [{"frame": ..., "split": ..., "joints_uvd": [[u, v, d], ...]
or "joints_xyz_mm": [[x, y, z], ...], "center_uvd": [...] or "box_px": [...]}, ...]}`.

Single frames that cannot be used are left out and counted.
"""

import codecs
import contextlib
import csv
import dataclasses
import io
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from a2j_jax.data.depth_files import NEAREST_MM, DepthFile, check_depth_unit, read_depth
from a2j_jax.errors import UnreadableFrame, UserError, did_you_mean, printable
from a2j_jax.files import path_inside, read_contents, read_json
from a2j_jax.geometry import Float64
from a2j_jax.log import logger
from a2j_jax.track_files import TRACK_FILE, check_keys
from a2j_jax.tracks import ALL_SPLITS, USUAL_SPLITS, TrackSpec
from tfds_builders import raw_files
from tfds_builders.raw_files import WARNING, Array, Notes, RawDataset, RawSplit

# Fields of a track that examples on disk depend on, beside camera, joints and crop size (the builder names that).
_OF_EXAMPLES = (
    "frame_size",
    "crop_by",
    "half_window_mm",
    "depth_window_mm",
    "depth_reference",
    "image_unit_mm",
    "storage_unit_mm",
    "joint_dims",
    "label_box_margin_px",
)
_SPLIT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}")  # file names hold it
# Where to crop, by `TrackSpec.crop_by`: key of the JSON, columns of the CSV.
_CROPS = {
    "center": ("center_uvd", ("center_u", "center_v", "center_d")),
    "box": ("box_px", ("box_x0", "box_y0", "box_x1", "box_y1")),
}
_JOINT_KEYS = ("joints_uvd", "joints_xyz_mm")
_SEPARATORS = ",;\t"
# How programs write a number that they do not have (Excel, pandas, R, Python, MATLAB).
_MISSING = ("", "nan", "na", "n/a", "#n/a", "<na>", "null", "none")
# The column that pandas writes in front of all others by default.
_UNNAMED = re.compile(r"(Unnamed: \d+)?")
_LISTED = 3  # names in a message


@dataclass(frozen=True)
class CustomFolder(RawDataset):
    """The folder.

    Attributes:
      depth_unit_mm: of integer values, mm per count, instead of the track's.
      allow_outside: read frames that lie outside the folder, by their path or a link.
    """

    LICENSE = ""
    DOWNLOAD = (
        f"Your own data: a folder with {TRACK_FILE}, joints.csv or joints.json, and the frames they name; "
        "see docs/own_data.md."
    )

    depth_unit_mm: float | None = None
    allow_outside: bool = False

    def __post_init__(self) -> None:
        check_depth_unit(self.unit_mm)

    @property
    def unit_mm(self) -> float:
        """Depth per count of integer frames, mm."""
        return self.track.depth_unit_mm if self.depth_unit_mm is None else self.depth_unit_mm

    def splits(self) -> Mapping[str, RawSplit]:
        """Reads the table; see `RawDataset.splits`."""
        path = find_table(self.folder)
        rows = read_table(path, self.track, self.allow_outside)
        _refuse_meters(np.stack([row.joints_uvd for row in rows])[..., 2:], "joints", path)
        if self.track.crop_by == "center":
            _refuse_meters(np.stack([row.crop for row in rows])[:, 2], "centers", path)
        of_split: dict[str, list[TableRow]] = {}
        for row in rows:
            of_split.setdefault(row.split, []).append(row)
        splits = {name: self._split(some, path.name) for name, some in of_split.items()}
        # Notes about the entire folder come with its first split.
        notes = (self.track.notes, *self._notes([row.frame for row in rows]))
        if "train" not in splits:
            there = f"no frames are of split 'train' (splits: {', '.join(splits)})"
            notes += (f"{WARNING}{there}: nothing can be trained on this",)
        first = next(iter(splits))
        splits[first] = dataclasses.replace(splits[first], notes=notes + splits[first].notes)
        return splits

    def index(self, split: str) -> RawSplit | None:
        """See `RawDataset.index`; `splits` may have others."""
        return self.splits().get(split)

    def _split(self, rows: "Sequence[TableRow]", table: str) -> RawSplit:
        frames = [row.frame for row in rows]
        notes: Notes = ()
        joints = np.stack([row.joints_uvd for row in rows])
        crops = np.stack([row.crop for row in rows])
        if np.isfinite(joints).any():  # else these frames are to be predicted
            notes = raw_files.unlabeled_to_nan(joints, table)
        if self.track.crop_by == "center":
            raw_files.refuse_backwards(crops[:, 2], "centers", table)
        return RawSplit(
            frames,
            frames,
            joints.astype(np.float32) if np.isfinite(joints).any() else None,
            crops=crops if np.isfinite(crops).any() else None,
            notes=notes,
        )

    def read_depth(self, source: str) -> Array:
        """One frame, (H, W) mm; see `RawDataset.read_depth`."""
        return self._read(source).depth

    def _read(self, source: str) -> DepthFile:
        try:
            path = path_inside(self.folder, source, self.allow_outside)
        except UserError as error:
            reason = "leads out of its folder; expected a path below it, or --allow_outside"
            raise UnreadableFrame(reason, printable(source)) from error
        if not self.allow_outside:
            path = raw_files.spelled(self.folder, source)
        floats_in_mm = self.depth_unit_mm is None
        return read_depth(path, self.track.frame_format, self.unit_mm, floats_in_mm)

    def _notes(self, frames: list[str]) -> Iterator[str]:
        """The kinds of frames and their unit, from the first one of every suffix."""
        first = {Path(frame).suffix.lower(): frame for frame in reversed(frames)}
        found = []
        for frame in sorted(first.values()):
            with contextlib.suppress(UnreadableFrame):  # counted when it is its turn
                found.append(f"{self._read(frame).description} ({printable(frame)})")
        if found:
            yield f"frames: {'; '.join(found)}"
        if self.unit_mm != self.track.depth_unit_mm:
            recorded = f"{TRACK_FILE} has {self.track.depth_unit_mm:g}"
            yield f"depth unit: {self.unit_mm:g} mm per count as given; {recorded}"

    def spec(self) -> dict[str, Any]:
        """See `RawDataset.spec`; the values are short, so that a difference is readable."""
        track = self.track
        camera = None if track.camera is None else dataclasses.astuple(track.camera)
        return {
            "depth_unit_mm": self.unit_mm,
            "camera": camera and dict(zip(("fx", "fy", "cx", "cy"), camera, strict=True)),
            "joints": ", ".join(track.skeleton.joints),
            **{key: getattr(track, key) for key in _OF_EXAMPLES},
        }


class TableRow(NamedTuple):
    """One frame of the table.

    Attributes:
      frame: path below the folder.
      split: it belongs to.
      joints_uvd: (K, 3) px, px, mm or (K, 2); NaN: not given. Nothing is checked: depths may be 0.
      crop: (3,) center px, px, mm or (4,) box px, as the track crops; NaN where not given.
    """

    frame: str
    split: str
    joints_uvd: Float64
    crop: Float64


def find_table(folder: Path) -> Path:
    """`joints.csv` or `joints.json` of a folder.

    Raises:
      UserError: neither is there, or both are.
    """
    candidates = (raw_files.find_in(folder, (name,)) for name in ("joints.csv", "joints.json"))
    found = [path for path in candidates if path is not None and path.is_file()]
    if len(found) != 1:
        raise UserError(
            f"{folder}: holds {'both' if found else 'neither'} of joints.csv and joints.json; expected "
            "one of them, as docs/own_data.md describes it"
        )
    return found[0]


def read_table(path: Path, track: TrackSpec, allow_outside: bool = False) -> list[TableRow]:
    """All frames of a `joints.csv` or `joints.json`, in order.

    Frames are named relative to its folder, with slashes or, as on Windows, backslashes.

    Raises:
      UserError: not readable, empty, columns or keys that are missing, unknown or not for this
        track, a cell that is no number, a frame named twice or outside the folder; names the line.
    """
    records = (_csv_records if path.suffix.lower() == ".csv" else _json_records)(path, track)
    rows: list[TableRow] = []
    seen: dict[tuple[str, str], str] = {}
    inside: set[str] = set()
    for where, record in records:
        frame = record["frame"]
        if "\\" in frame and not os.path.lexists(path.parent / frame):  # as on Windows
            record["frame"] = frame.replace("\\", "/")
        try:
            row = _row(record, track)
            # Folders once each; frames that are links themselves are checked when they are read.
            place = os.path.dirname(row.frame)
            if place not in inside:
                path_inside(path.parent, place or ".", allow_outside)
                inside.add(place)
            first = seen.setdefault((row.split, row.frame), where)
            if first != where:
                raise UserError(f"frame {row.frame!r} was named before, in {first}")
            check_split_name(row.split)
        except UserError as error:
            raise UserError(f"{path}, {where}: {error}") from error
        rows.append(row)
    if not rows:
        raise UserError(f"{path}: holds no frame")
    return rows


def _row(record: Mapping[str, Any], track: TrackSpec) -> TableRow:
    """One object of the JSON, or line of the CSV in the same form."""
    crop_keys = [key for key, _ in _CROPS.values()]
    check_keys(record, ("frame", "split", *_JOINT_KEYS, *crop_keys))
    given = {key: value for key, value in record.items() if value is not None}
    frame, split = record["frame"], str(given.get("split") or "train")
    if not frame:
        raise UserError("names no frame; expected a path below the folder")
    crop_key, columns = _CROPS[track.crop_by]
    for key in crop_keys:
        if key in given and key != crop_key:
            raise UserError(
                f"{key}: track {track.name!r} crops by {track.crop_by}; expected {crop_key} "
                f"({', '.join(columns)}), or none of them"
            )
    if all(key in given for key in _JOINT_KEYS):
        raise UserError(
            f"has joints both in px ({_JOINT_KEYS[0]}) and in mm ({_JOINT_KEYS[1]}); keep one"
        )
    in_mm = _JOINT_KEYS[1] in given
    if in_mm and (track.camera is None or track.joint_dims != 3):
        raise UserError(
            f"{_JOINT_KEYS[1]}: joints of track {track.name!r} are pixels without depth; expected {_JOINT_KEYS[0]}"
        )
    key, axes = (_JOINT_KEYS[1], "xyz") if in_mm else (_JOINT_KEYS[0], "uvd"[: track.joint_dims])
    shape = (track.num_joints, len(axes))
    joints = _numbers(given.get(key), shape, f"{key} ({shape[0]} joints of {axes})")
    crop = _numbers(given.get(crop_key), (len(columns),), f"{crop_key} ({len(columns)} numbers)")
    if in_mm:
        joints = raw_files.project(joints, track)  # depths of 0 are counted later
    return TableRow(frame, split, joints, crop)


def _numbers(values: Any, shape: tuple[int, ...], what: str) -> Float64:
    """An array of numbers, NaN for null, also where one stands for a joint, or for all of them."""
    if values is None:
        return np.full(shape, np.nan)
    if isinstance(values, np.ndarray):  # from a CSV
        return values
    if len(shape) == 2 and isinstance(values, list):
        values = [[np.nan] * shape[-1] if joint is None else joint for joint in values]
    array = np.empty(0)
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        raw = np.array(values, dtype=object)  # NumPy takes "3" and true for numbers
        if all(x is None or type(x) in (int, float) for x in raw.ravel()):
            array = raw.astype(np.float64)
    if array.shape != shape:
        found = f", found {' x '.join(map(str, array.shape))}" if array.size else ""
        raise UserError(f"expected {what}, null where unknown{found}")
    return array


def _json_records(path: Path, track: TrackSpec) -> Iterator[tuple[str, dict[str, Any]]]:
    contents = read_json(path, "a table of joints")
    frames = contents.get("frames") if isinstance(contents, dict) else None
    if not isinstance(frames, list):
        raise UserError(f'{path}: expected one object {{"frames": [...]}}')
    try:
        check_keys(contents, ("frames",))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    for number, record in enumerate(frames, start=1):
        if not isinstance(record, dict) or not isinstance(record.get("frame"), str):
            raise UserError(f'{path}, frame {number}: expected an object with "frame", a path')
        yield f"frame {number}", record


def _csv_records(path: Path, track: TrackSpec) -> Iterator[tuple[str, dict[str, Any]]]:
    (_, header), *lines = _csv_lines(path)
    groups = _groups(track)
    header = _known_names(header, groups)
    used = _used_groups(header, groups, path)
    for number, line in lines:
        where = f"{path}, line {number}"
        if len(line) != len(header):
            raise UserError(
                f"{where}: {len(line)} cells, the header has {len(header)}; decimals need a point, not a comma"
            )
        cells = dict(zip(header, line, strict=True))
        record: dict[str, Any] = {"frame": cells["frame"], "split": cells.get("split")}
        for key in used:
            numbers = np.array([_cell(cells[name], name, where) for name in groups[key]])
            record[key] = numbers.reshape(track.num_joints, -1) if key in _JOINT_KEYS else numbers
        yield f"line {number}", record


def _groups(track: TrackSpec) -> dict[str, list[str]]:
    """The columns of each key of the JSON."""
    axes = dict(zip(_JOINT_KEYS, ("uvd"[: track.joint_dims], "xyz"), strict=True))
    joints = {
        key: [f"{joint}_{axis}" for joint in track.skeleton.joints for axis in some]
        for key, some in axes.items()
    }
    return joints | {key: list(columns) for key, columns in _CROPS.values()}


def _csv_lines(path: Path) -> list[tuple[int, list[str]]]:
    """(line number, cells) of every line that has any; the first is the header.

    Columns without a name are dropped if they are empty, or number the rows (pandas' index).
    """
    contents = read_contents(path, "a table of joints")
    try:
        # UTF-8 or, as Excel writes it, UTF-16 with a byte order mark.
        wide = contents.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = contents.decode("utf-16" if wide else "utf-8-sig")
        first = next((line for line in text.splitlines() if line.strip()), "")
        # Spreadsheets write semicolons or tabs as well: the header, which holds names only, shows which.
        separator = max(_SEPARATORS, key=first.count)
        reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
        lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{path}: not readable as CSV ({error}); expected text in UTF-8 (Excel: CSV UTF-8)"
        ) from error
    lines = [(number, line) for number, line in lines if any(line)]
    if not lines:
        raise UserError(f"{path}: is empty; expected a header and one line per frame")
    unnamed = [column for column, name in enumerate(lines[0][1]) if _UNNAMED.fullmatch(name)]
    for column in unnamed:
        cells = {line[column] for _, line in lines[1:] if len(line) > column} - {""}
        where = f"{path.name}: column {column + 1} has no name"
        if not all(cell.isdecimal() for cell in cells):
            held = printable(min(cells), 40)
            raise UserError(f"{path.parent / where}, but holds {held!r}; name it")
        if cells:
            logger.info(f"note: {where} and holds row numbers: ignored")
    return [(n, [cell for i, cell in enumerate(line) if i not in unnamed]) for n, line in lines]


def _known_names(header: Sequence[str], groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Column names, spelled as the track spells them where only the letter case differs."""
    known = {"frame", "split", *(name for columns in groups.values() for name in columns)}
    alike = [[name for name in known if name.lower() == found.lower()] for found in header]
    return [some[0] if len(some) == 1 else name for name, some in zip(header, alike, strict=True)]


def _used_groups(
    header: Sequence[str], groups: Mapping[str, Sequence[str]], path: Path
) -> list[str]:
    """The keys of `groups` whose columns are there.

    Raises:
      UserError: columns that are missing, there twice or unknown; no header at all.
    """
    there = {key: set(columns) & set(header) for key, columns in groups.items()}
    used = [key for key, found in there.items() if found and key not in _JOINT_KEYS]
    most = max(_JOINT_KEYS, key=lambda key: len(there[key]))
    used += [key for key in _JOINT_KEYS if key == most or len(there[key]) == len(groups[key])]
    known = ["frame", "split", *(name for key in used for name in groups[key])]
    if not set(known) & set(header):
        raise UserError(
            f"{path}: the first line is no header; expected the columns {_listed(known)}"
        )
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise UserError(f"{path}: column {twice[0]!r} is there twice")
    missing = [name for name in known if name not in header and name != "split"]
    unknown = [name for name in header if name not in known]
    faults = [f"no column {_listed(missing)}"] if missing else []
    if unknown:
        nearest = did_you_mean(unknown[0], missing) or did_you_mean(unknown[0], known)
        faults.append(f"unknown column {_listed(unknown)}{nearest}")
    if faults:
        raise UserError(f"{path}: {'; '.join(faults)}")
    return used


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(map(repr, names[:_LISTED])) + (f" and {more} more" if more > 0 else "")


def _cell(text: str, column: str, where: str) -> float:
    """A number; NaN for an empty cell."""
    number = math.inf
    with contextlib.suppress(ValueError):
        number = math.nan if text.lower() in _MISSING else float(text)
    if math.isinf(number) or "_" in text:
        comma = "; decimals need a point, not a comma" if "," in text else ""
        raise UserError(
            f"{where}: {column} is {printable(text, 40)!r}, not a number (nor empty){comma}"
        )
    return number


def check_split_name(name: str) -> None:
    """Refuses names that TFDS does not accept for a split, and slips: `Train`, `trian`, `tets`.

    Any other plain word is a name, and so is a usual one continued by a digit or `_`: `test_seen`.

    Raises:
      UserError: naming the usual split that is nearest.
    """
    if not _SPLIT_NAME.fullmatch(name) or name.lower() == ALL_SPLITS:
        raise UserError(
            f"split {printable(name, 40)!r} is not a plain word, or `all`; expected train, "
            "validation, test or another word of at most 80 letters"
        )
    if name in USUAL_SPLITS or re.match(rf"({'|'.join(USUAL_SPLITS)})[0-9_]", name):
        return
    meant = did_you_mean(name.lower(), USUAL_SPLITS, cutoff=0.7)
    if meant or name != name.lower():
        raise UserError(f"split {name!r}{meant or '; expected lowercase letters'}")


def _refuse_meters(depths_mm: Array, what: str, path: Path) -> None:
    """Refuses depths of `what`, of any shape, if all that are given (not NaN, 0 or less) are too small to be mm."""
    given = depths_mm[np.isfinite(depths_mm) & (depths_mm > 0)]
    if given.size and given.max() < NEAREST_MM:
        raise UserError(
            f"{path}: the depths of all {what} are below {NEAREST_MM:g} ({given.min():g} to {given.max():g}); "
            "expected mm in front of the camera; are these meters?"
        )
