"""What can be wrong with a table of one's own although every cell of it is a number.

Whatever makes all of it useless is an error: metres for millimetres, another camera's pixels. What
concerns single frames is left out, and counted in a note of the build.

The table of a folder of one's own: `joints.csv` or `joints.json`, line by line.

Both say the same: which frame, of which split, where its joints are and where to crop it. What a
table may not say is refused here, with the line; what it says of all its frames together is judged
in `tfds_builders.folder_tables`.
"""

import codecs
import csv
import io
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from a2j_jax import geometry
from a2j_jax.data.depth_files import NEAREST_MM
from a2j_jax.errors import UserError, did_you_mean, printable
from a2j_jax.files import path_inside, read_json, regular_file
from a2j_jax.geometry import Float64
from a2j_jax.log import logger
from a2j_jax.track_files import check_keys
from a2j_jax.tracks import ALL_SPLITS, USUAL_SPLITS, TrackSpec
from tfds_builders import raw_files
from tfds_builders.raw_files import WARNING, refuse_backwards

# So many of the joints may lie outside their frames before units or camera must be wrong.
_MOST_OUTSIDE = 0.9
_SPLIT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}")  # file names hold it


def check_split_name(name: str, where: str) -> None:
    """Refuses what TFDS cannot call a split, and slips: `Train`, `trian`, `tets`.

    Any other plain word is a name, and so is a usual one continued by a digit or `_`: `test_seen`.

    Raises:
      UserError: naming the usual split that is nearest.
    """
    if not _SPLIT_NAME.fullmatch(name) or name.lower() == ALL_SPLITS:
        raise UserError(
            f"{where}: split {printable(name, 40)!r} is not a plain word, or `all`; expected train, "
            "validation, test or another word of at most 80 letters"
        )
    if name in USUAL_SPLITS or re.match(rf"({'|'.join(USUAL_SPLITS)})[0-9_]", name):
        return
    meant = did_you_mean(name.lower(), USUAL_SPLITS, cutoff=0.7)
    if meant:
        raise UserError(f"{where}: split {name!r}{meant}")
    if name != name.lower():
        raise UserError(f"{where}: split {name!r}; expected small letters")


def check_units(joints_uvd: Float64, crops: Float64, track: TrackSpec, where: str) -> None:
    """Refuses labels and centers that cannot be in mm or lie behind the camera, and labels that are in no frame.

    Args:
      joints_uvd: (N, K, 3) px, px, mm or (N, K, 2), NaN = not given: all of the table.
      crops: (N, 3) centres px, px, mm or (N, 4) boxes px, NaN = not given.
      track: of the frames.
      where: the table's name.

    Raises:
      UserError: see above; a single odd joint is none.
    """
    depths = {"joints": joints_uvd[..., 2:]}
    if track.crop_by == "center":
        depths["centers"] = crops[:, 2:]
    for what, values in depths.items():
        refuse_backwards(values, what, where)
        given = values[np.isfinite(values) & (values > 0)]  # 0: not labelled
        if given.size and given.max() < NEAREST_MM:
            raise UserError(
                f"{where}: the depths of all {what} are below {NEAREST_MM:g} ({given.min():g} to "
                f"{given.max():g}); expected mm in front of the camera; are these meters?"
            )
    uv = joints_uvd[..., :2]
    labelled: npt.NDArray[np.bool_] = np.all(np.isfinite(uv), axis=-1)
    if track.joint_dims == 2:
        labelled &= np.any(uv > 0, axis=-1)  # 0,0 or -1,-1: not labelled
    outside = labelled & np.any((uv < 0) | (uv > np.array(track.frame_size) - 1), axis=-1)
    if outside.sum() > _MOST_OUTSIDE * labelled.sum():
        raise UserError(
            f"{where}: {outside.sum():,} of {labelled.sum():,} labeled joints lie outside their "
            f"{track.frame_size[0]}x{track.frame_size[1]} frames; are camera and frame_size theirs, "
            "units px and mm, and fy negative if y points up?"
        )


def usable_crops(crops: Float64, track: TrackSpec, where: str) -> tuple[Float64, tuple[str, ...]]:
    """Leaves out centres or boxes that nothing can be cropped by.

    Args:
      crops: (N, 3) centres px, px, mm or (N, 4) boxes px, as given; NaN: not given.
      track: of the frames.
      where: the table's name, for the notes.

    Returns:
      The same, NaN in the rows left out; and notes that count them.
    """
    what, useless = "boxes", "outside the frame or without extent"
    if track.crop_by == "center":
        what, useless = "centers", "outside the frame or without depth"
    given: npt.NDArray[np.bool_] = np.any(np.isfinite(crops), axis=1)
    whole: npt.NDArray[np.bool_] = np.all(np.isfinite(crops), axis=1)
    partial = given & ~whole
    off = np.zeros(len(crops), bool)
    off[whole] = ~_reaches_frame(crops[whole], track)
    notes = tuple(
        f"{WARNING}{where}: {rows.sum():,} of {given.sum():,} {what} not used, {reason}; labels are "
        "used instead for training, else the depth frame alone (docs/centers.md)"
        for rows, reason in ((partial, "some numbers missing"), (off, useless))
        if rows.any()
    )
    return np.where((partial | off)[:, None], np.nan, crops), notes


def _reaches_frame(crops: Float64, track: TrackSpec) -> npt.NDArray[np.bool_]:
    """(N,) whether a whole pixel of the frame is inside; crops are finite."""
    boxes, usable = crops, np.ones(len(crops), bool)
    if track.crop_by == "center":
        assert track.camera is not None
        assert track.half_window_mm is not None
        usable = crops[:, 2] > 0
        somewhere = np.where(usable[:, None], crops, 1.0)
        boxes = geometry.box_from_center(somewhere, track.half_window_mm, track.camera)
    inside = np.floor(geometry.clip_box(boxes, track.frame_size))
    return usable & np.all(inside[:, 2:] > inside[:, :2], axis=1)


def no_training_note(splits: Iterable[str]) -> tuple[str, ...]:
    """A note where no split is called `train`."""
    names = list(splits)
    if "train" in names:
        return ()
    splits_there = f"no frames are of split 'train' (splits: {', '.join(names)})"
    return (f"{WARNING}{splits_there}: nothing can be trained on this",)


# Where to crop, by `TrackSpec.crop_by`: columns of the CSV, key of the JSON.
_CROP_COLUMNS = {
    "center": ("center_u", "center_v", "center_d"),
    "box": ("box_x0", "box_y0", "box_x1", "box_y1"),
}
_CROP_KEYS = {"center": "center_uvd", "box": "box_px"}
_RECORD_KEYS = ("frame", "split", "joints_uvd", "joints_xyz_mm", *_CROP_KEYS.values())
_SEPARATORS = ",;\t"
# How programs write a number that they do not have (Excel, pandas, R, Python, MATLAB).
_MISSING = ("", "nan", "na", "n/a", "#n/a", "<na>", "null", "none")
# The column that pandas writes in front of all others, unless told not to.
_UNNAMED = re.compile(r"(Unnamed: \d+)?")
# So many names are listed in a message; of others, how many there are.
_NAMED = 3


@dataclass(frozen=True, eq=False)
class TableRow:
    """One frame of the table.

    Attributes:
      where: "line 7" or "frame 6": what a user finds it by.
      frame: path below the folder.
      split: it belongs to.
      joints_uvd: (K, 3) px, px, mm or (K, 2); NaN: not given. Nothing is checked: depths may be 0.
      crop: (3,) centre px, px, mm or (4,) box px, as the track crops; NaN where not given.
    """

    where: str
    frame: str
    split: str
    joints_uvd: npt.NDArray[np.float64]
    crop: npt.NDArray[np.float64]


def find_table(folder: Path) -> Path:
    """`joints.csv` or `joints.json` of a folder.

    Raises:
      UserError: neither is there, or both are.
    """
    candidates = (raw_files.find_in(folder, (name,)) for name in ("joints.csv", "joints.json"))
    found = [path for path in candidates if path is not None and path.is_file()]
    if len(found) != 1:
        how_many = "both" if found else "neither"
        raise UserError(
            f"{folder}: holds {how_many} of joints.csv and joints.json; expected one of them, as "
            "docs/own_data.md describes it"
        )
    return found[0]


def read_table(path: Path, track: TrackSpec, allow_outside: bool = False) -> list[TableRow]:
    """All frames of a `joints.csv` or `joints.json`, in order.

    Args:
      path: of the table; frames are named relative to its folder, with slashes or, as on Windows, backslashes.
      track: of the frames.
      allow_outside: accept frames outside that folder.

    Raises:
      UserError: not readable, empty, columns or keys that are missing, unknown or not for this
        track, a cell that is no number, a frame named twice or outside the folder; names the line.
    """
    rows = (_read_csv if path.suffix.lower() == ".csv" else _read_json)(path, track)
    if not rows:
        raise UserError(f"{path}: holds no frame")
    seen: dict[tuple[str, str], str] = {}
    checked: set[str] = set()
    for number, row in enumerate(rows):
        if "\\" in row.frame and not os.path.lexists(path.parent / row.frame):  # as on Windows
            row = rows[number] = replace(row, frame=row.frame.replace("\\", "/"))
        if not row.frame:
            raise UserError(
                f"{path}, {row.where}: names no frame; expected a path below the folder"
            )
        # Folders once each; frames that are links themselves are checked when they are read.
        place = os.path.dirname(row.frame)
        if place not in checked:
            _check_inside(path, row, place, allow_outside)
            checked.add(place)
        first = seen.setdefault((row.split, row.frame), row.where)
        if first != row.where:
            raise UserError(f"{path}, {row.where}: {row.frame!r} was named before, in {first}")
        check_split_name(row.split, f"{path}, {row.where}")
    return rows


def _check_inside(path: Path, row: TableRow, place: str, allow_outside: bool) -> None:
    try:
        path_inside(path.parent, place or ".", allow_outside)
    except UserError as error:
        raise UserError(f"{path}, {row.where}: frame {printable(row.frame)}: {error}") from error


def _read_csv(path: Path, track: TrackSpec) -> list[TableRow]:
    lines = _without_row_numbers(_csv_lines(path), path)
    header = _known_names(lines[0][1], track)
    axes = _axes(header, track, path)
    joint_columns, crop_columns = _joint_columns(track, axes), _CROP_COLUMNS[track.crop_by]
    _check_header(header, joint_columns, track, path)
    rows = []
    for number, line in lines[1:]:
        where = f"{path}, line {number}"
        if len(line) != len(header):
            raise UserError(
                f"{where}: {len(line)} cells, the header has {len(header)}; decimals need a point, not a comma"
            )
        cells = dict(zip(header, line, strict=True))
        joints = np.array([_cell(cells[name], name, where) for name in joint_columns])
        crop = np.array([_cell(cells.get(name, ""), name, where) for name in crop_columns])
        uvd = _to_uvd(joints.reshape(track.num_joints, len(axes)), axes, track)
        split = cells.get("split") or "train"
        rows.append(TableRow(f"line {number}", cells["frame"], split, uvd, crop))
    return rows


def _csv_lines(path: Path) -> list[tuple[int, list[str]]]:
    """(line number, cells) of every line that has any; the first is the header."""
    try:
        text = _decoded(regular_file(path, "a table of joints").read_bytes())
        first = next((line for line in text.splitlines() if line.strip()), "")
        # Spreadsheets write semicolons or tabs as well: the header, which holds names only, tells.
        separator = max(_SEPARATORS, key=first.count)
        reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
        lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{path}: not readable as CSV ({error}); expected text in UTF-8 (Excel: CSV UTF-8)"
        ) from error
    lines = [(number, line) for number, line in lines if any(line)]
    if not lines:
        raise UserError(f"{path}: is empty; expected a header and one line per frame")
    return lines


def _decoded(contents: bytes) -> str:
    """Text in UTF-8 or, as Excel writes it, UTF-16 with a byte order mark."""
    if contents.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return contents.decode("utf-16")
    return contents.decode("utf-8-sig")


def _without_row_numbers(
    lines: list[tuple[int, list[str]]], path: Path
) -> list[tuple[int, list[str]]]:
    """Drops columns without a name that are empty, or number the rows (pandas' index).

    Raises:
      UserError: such a column holds anything else.
    """
    header = lines[0][1]
    unnamed = [column for column, name in enumerate(header) if _UNNAMED.fullmatch(name)]
    for column in unnamed:
        cells = {line[column] for _, line in lines[1:] if len(line) > column} - {""}
        if not all(cell.isdecimal() for cell in cells):
            raise UserError(
                f"{path}: column {column + 1} has no name, but holds {printable(min(cells), 40)!r}; name it"
            )
        if cells:
            logger.info(f"note: {path.name}: column {column + 1} has no name: row numbers, ignored")
    return [
        (number, [cell for column, cell in enumerate(line) if column not in unnamed])
        for number, line in lines
    ]


def _known_names(header: Sequence[str], track: TrackSpec) -> list[str]:
    """Column names, spelled as the track spells them where only the letter case differs."""
    crops = (column for columns in _CROP_COLUMNS.values() for column in columns)
    known = ["frame", "split", *_joint_columns(track, "uvdxyz"), *crops]
    spelled: dict[str, set[str]] = {}
    for name in known:
        spelled.setdefault(name.lower(), set()).add(name)
    names = []
    for name in header:
        alike = spelled.get(name.lower(), set())
        names.append(min(alike) if len(alike) == 1 else name)
    return names


def _joint_columns(track: TrackSpec, axes: str) -> list[str]:
    return [f"{joint}_{axis}" for joint in track.skeleton.joints for axis in axes]


def _axes(header: Sequence[str], track: TrackSpec, path: Path) -> str:
    """What the numbers of a joint are: "uvd", "uv" or "xyz"."""
    pixels, space = "uvd"[: track.joint_dims], "xyz"
    found = {axes: set(header) & set(_joint_columns(track, axes)) for axes in (pixels, space)}
    if all(len(found[axes]) == track.num_joints * len(axes) for axes in (pixels, space)):
        raise UserError(f"{path}: has joints both in px (_u, _v) and in mm (_x, _y, _z); keep one")
    if len(found[space]) <= len(found[pixels]):
        return pixels
    _check_can_project(track, f"{path}: columns _x, _y, _z", "columns _u, _v")
    return space


def _check_header(
    header: Sequence[str], joint_columns: Sequence[str], track: TrackSpec, path: Path
) -> None:
    """Refuses columns that are missing, twice there or unknown."""
    known = ("frame", "split", *joint_columns, *(c for of in _CROP_COLUMNS.values() for c in of))
    if not set(known) & set(header):
        raise UserError(
            f"{path}: the first line is no header; expected the columns frame, split, "
            f"{', '.join(joint_columns[:_NAMED])}, ..."
        )
    twice = [name for name in dict.fromkeys(header) if header.count(name) > 1]
    if twice:
        raise UserError(f"{path}: column {twice[0]!r} is there twice")
    missing = [name for name in ("frame", *joint_columns) if name not in header]
    unknown = [name for name in header if name not in known]
    faults = [f"no column {_listed(missing)}"] if missing else []
    if unknown:
        nearest = did_you_mean(unknown[0], missing) or did_you_mean(unknown[0], known)
        faults.append(f"unknown column {_listed(unknown)}{nearest}")
    if faults:
        raise UserError(f"{path}: {'; '.join(faults)}")
    _check_crop_columns(header, track, path)


def _check_crop_columns(header: Sequence[str], track: TrackSpec, path: Path) -> None:
    """Refuses half a centre or box, and either on a track that crops by the other."""
    crop = _CROP_COLUMNS[track.crop_by]
    for columns in _CROP_COLUMNS.values():
        given = [name for name in columns if name in header]
        if given and columns != crop:
            raise UserError(f"{path}: column {given[0]!r}{_not_cropped_by(track, ', '.join(crop))}")
        if given and len(given) < len(columns):
            lacking = [name for name in columns if name not in header]
            raise UserError(f"{path}: {', '.join(given)} without {', '.join(lacking)}")


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(map(repr, names[:_NAMED])) + (f" and {more} more" if more > 0 else "")


def _not_cropped_by(track: TrackSpec, expected: str) -> str:
    """The end of a message about a box on a track of centres, or the other way round."""
    how = "a center" if track.crop_by == "center" else "a box"
    return f": track {track.name!r} crops by {how}; expected {expected}, or none of them"


def _check_can_project(track: TrackSpec, what: str, instead: str) -> None:
    """Refuses camera coordinates where there is no camera, or where joints have no depth."""
    if track.camera is None or track.joint_dims != 3:
        raise UserError(
            f"{what}: joints of track {track.name!r} are pixels without depth; expected {instead}"
        )


def _cell(text: str, column: str, where: str) -> float:
    """A number; NaN for an empty cell."""
    try:
        number = math.nan if text.lower() in _MISSING else float(text)
    except ValueError:
        number = math.inf
    if math.isinf(number) or "_" in text:
        comma = "; decimals need a point, not a comma" if "," in text else ""
        raise UserError(
            f"{where}: {column} is {printable(text, 40)!r}, not a number (nor empty){comma}"
        )
    return number


def _read_json(path: Path, track: TrackSpec) -> list[TableRow]:
    contents = read_json(path, "a table of joints")
    frames = contents.get("frames") if isinstance(contents, dict) else None
    if not isinstance(frames, list):
        raise UserError(f'{path}: expected one object {{"frames": [...]}}')
    _named(path, contents, ("frames",))
    rows = []
    for number, record in enumerate(frames, start=1):
        where = f"{path}, frame {number}"
        if not isinstance(record, dict) or not isinstance(record.get("frame"), str):
            raise UserError(f'{where}: expected an object with "frame", a path')
        rows.append(_record(record, f"frame {number}", where, track))
    return rows


def _record(record: dict[str, Any], short: str, where: str, track: TrackSpec) -> TableRow:
    """One object of the JSON. `short` and `where` name it, without and with the file."""
    _named(where, record, _RECORD_KEYS)
    given = {key: value for key, value in record.items() if value is not None}
    crop_key, size = _CROP_KEYS[track.crop_by], len(_CROP_COLUMNS[track.crop_by])
    for key in _CROP_KEYS.values():
        if key in given and key != crop_key:
            raise UserError(f"{where}: {key}{_not_cropped_by(track, crop_key)}")
    axes = "uvd"[: track.joint_dims]
    key = "joints_uvd"
    if "joints_xyz_mm" in given:
        if key in given:
            raise UserError(f"{where}: has both joints_uvd and joints_xyz_mm; keep one")
        _check_can_project(track, f"{where}: joints_xyz_mm", key)
        axes, key = "xyz", "joints_xyz_mm"
    shape = (track.num_joints, len(axes))
    joints = _numbers(given.get(key), shape, f"{key} ({shape[0]} joints of {axes})", where)
    crop = _numbers(given.get(crop_key), (size,), f"{crop_key} ({size} numbers)", where)
    split = str(given.get("split", "train"))
    return TableRow(short, record["frame"], split, _to_uvd(joints, axes, track), crop)


def _named(where: object, keys: Iterable[str], known: Sequence[str]) -> None:
    try:
        check_keys(keys, known)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _numbers(values: Any, shape: tuple[int, ...], what: str, where: str) -> npt.NDArray[np.float64]:
    """An array of numbers, NaN for nulls; also for a null in the place of a joint, or of all."""
    nothing = [np.nan] * shape[-1]
    if values is None:
        return np.full(shape, np.nan)
    if len(shape) == 2 and isinstance(values, list):
        values = [nothing if joint is None else joint for joint in values]
    try:
        raw = np.array(values, dtype=object)  # as NumPy takes them, "3" and true are numbers
        numbers = all(
            x is None or (isinstance(x, (int, float)) and not isinstance(x, bool))
            for x in raw.ravel()
        )
        array = raw.astype(np.float64) if numbers else np.empty(0)
    except (TypeError, ValueError, OverflowError):
        array = np.empty(0)
    if array.shape != shape:
        found = f", found {' x '.join(map(str, array.shape))}" if array.size else ""
        raise UserError(f"{where}: expected {what}, null where unknown{found}")
    return array


def _to_uvd(
    joints: npt.NDArray[np.float64], axes: str, track: TrackSpec
) -> npt.NDArray[np.float64]:
    """(K, D) joints as the table has them -> as the track has them."""
    if axes != "xyz":
        return joints
    assert track.camera is not None
    with np.errstate(divide="ignore", invalid="ignore"):  # depths of 0 are counted later
        return geometry.xyz_to_uvd(joints, track.camera)
