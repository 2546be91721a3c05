"""Your own data: a folder of depth frames, a table of joints and a `track.json`.

    my_hands/
      track.json      what the frames are: `a2j_jax.track_files`
      joints.csv      or joints.json
      frames/...      16-bit PNG (times `depth_unit_mm`) or .npy (mm), wherever the table says

`joints.csv` has one line per frame and a header: `frame` (path below the folder), optionally `split`
("train" unless given), and for every joint its numbers, as pixels (`wrist_u, wrist_v, wrist_d`; `_d`
in mm, left out on a 2D track) or in camera coordinates (`wrist_x, wrist_y, wrist_z`, mm). An empty
cell: not labelled. `center_u, center_v, center_d` or `box_x0, box_y0, box_x1, box_y1` say where to
crop, if known.

`joints.json` says the same: `{"frames": [{"frame": ..., "split": ..., "joints_uvd": [[u, v, d], ...]
or "joints_xyz_mm": [[x, y, z], ...], "center_uvd": [...] or "box_px": [...]}, ...]}`.
"""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from a2j_jax import geometry
from a2j_jax.errors import UserError
from a2j_jax.track_files import TRACK_FILE
from a2j_jax.tracks import TrackSpec
from tfds_builders import files
from tfds_builders.depth_pose import DepthPoseBuilder
from tfds_builders.raw import RawSplit, UnreadableFrame

DOWNLOAD = (
    f"Your own data: a folder with {TRACK_FILE}, joints.csv or joints.json, and the frames they name; "
    "see docs/own_data.md."
)
_CROPS = {
    "center": ("center_u", "center_v", "center_d"),
    "box": ("box_x0", "box_y0", "box_x1", "box_y1"),
}
_SPLIT_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class OwnDistribution:
    """The folder.

    Attributes:
      track: of the frames, as `track.json` says.
      folder: that holds the table.
      depth_unit_mm: of integer images, mm per count.
    """

    track: TrackSpec
    folder: Path
    depth_unit_mm: float = 1.0

    def splits(self) -> Mapping[str, RawSplit]:
        """Read the table. See `tfds_builders.raw.Distribution`."""
        rows = read_table(self.folder, self.track)
        names = dict.fromkeys(row.split for row in rows)
        return {name: _split([r for r in rows if r.split == name], self.track) for name in names}

    def read_depth(self, source: str) -> npt.NDArray[Any]:
        """One frame, (H, W) mm."""
        path = self.folder / source
        if path.suffix.lower() == ".npy":
            return _read_npy(path)
        depth = files.read_depth_png(path)
        return depth if self.depth_unit_mm == 1 else depth * np.float32(self.depth_unit_mm)

    def spec(self) -> dict[str, Any]:
        """What the examples depend on."""
        return {"depth_unit_mm": self.depth_unit_mm, "track": repr(self.track)}


@dataclass(frozen=True)
class TableRow:
    """One frame of the table.

    Attributes:
      frame: path below the folder.
      split: it belongs to.
      joints_uvd: (K, 3) px, px, mm or (K, 2); NaN: not labelled.
      crop: (3,) centre or (4,) box, as the track crops; NaN where not given.
    """

    frame: str
    split: str
    joints_uvd: npt.NDArray[np.float64]
    crop: npt.NDArray[np.float64]


def read_table(folder: Path, track: TrackSpec) -> list[TableRow]:
    """All lines of `joints.csv` or `joints.json`, in order.

    Raises:
      UserError: neither is there, columns are missing or unknown, or a cell is no number; names the
        line.
    """
    paths = [folder / name for name in ("joints.csv", "joints.json")]
    found = [path for path in paths if path.is_file()]
    if len(found) != 1:
        raise UserError(f"{folder}: expected one of joints.csv and joints.json. {DOWNLOAD}")
    rows = (_read_csv if found[0].suffix == ".csv" else _read_json)(found[0], track)
    if not rows:
        raise UserError(f"{found[0]}: holds no frame")
    seen: set[tuple[str, str]] = set()
    for number, row in enumerate(rows, start=1):
        if not _SPLIT_NAME.fullmatch(row.split):
            raise UserError(f"{found[0]}, frame {number}: split {row.split!r} is not a plain word")
        if (row.split, row.frame) in seen:
            raise UserError(f"{found[0]}, frame {number}: {row.frame!r} was named before")
        seen.add((row.split, row.frame))
    return rows


def _split(rows: Sequence[TableRow], track: TrackSpec) -> RawSplit:
    joints = np.stack([row.joints_uvd for row in rows]).astype(np.float32)
    crops = np.stack([row.crop for row in rows])
    names = [row.frame for row in rows]
    return RawSplit(
        names,
        names,
        joints if np.isfinite(joints).any() else None,
        crops=crops if np.isfinite(crops).any() else None,
    )


def _read_csv(path: Path, track: TrackSpec) -> list[TableRow]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not readable as CSV ({error})") from error
    header = [name.strip() for name in lines[0]] if lines else []
    axes = _axes(header, track, path)
    crop = _CROPS[track.crop_by]
    columns = [f"{joint}_{axis}" for joint in track.skeleton.joints for axis in axes]
    other = _CROPS["box" if track.crop_by == "center" else "center"]
    known = {"frame", "split", *columns, *crop, *other}
    missing = [name for name in ("frame", *columns) if name not in header]
    unknown = [name for name in header if name not in known]
    if missing or unknown:
        raise UserError(
            f"{path}: columns missing: {', '.join(missing) or 'none'}; unknown: "
            f"{', '.join(unknown) or 'none'} (track {track.name!r} has the joints "
            f"{', '.join(track.skeleton.joints)})"
        )
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if not any(cell.strip() for cell in line):
            continue
        if len(line) != len(header):
            raise UserError(
                f"{path}, line {number}: {len(line)} cells, the header has {len(header)}"
            )
        cells = {name: cell.strip() for name, cell in zip(header, line, strict=True)}
        where = f"{path}, line {number}"
        joints = np.array([_cell(cells[name], name, where) for name in columns])
        place = np.array([_cell(cells.get(name, ""), name, where) for name in crop])
        rows.append(_row(cells["frame"], cells.get("split"), joints, axes, place, track))
    return rows


def _axes(header: Sequence[str], track: TrackSpec, path: Path) -> str:
    """Which numbers a joint has: "uvd", "uv" or "xyz"."""
    joint = track.skeleton.joints[0]
    pixels = "uvd"[: track.joint_dims]
    if f"{joint}_u" in header:
        return pixels
    if f"{joint}_x" in header and track.camera is not None and track.joint_dims == 3:
        return "xyz"
    raise UserError(
        f"{path}: no columns of joint {joint!r}; expected {joint}_{pixels[0]}, ... or {joint}_x, ... "
        f"for every joint of track {track.name!r}"
    )


def _cell(text: str, column: str, where: str) -> float:
    if not text:
        return float("nan")
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{where}: {column} is {text!r}, not a number") from None


def _read_json(path: Path, track: TrackSpec) -> list[TableRow]:
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from error
    frames = contents.get("frames") if isinstance(contents, dict) else None
    if not isinstance(frames, list):
        raise UserError(f'{path}: expected one object {{"frames": [...]}}')
    pixels = "uvd"[: track.joint_dims]
    crop_key, size = ("center_uvd", 3) if track.crop_by == "center" else ("box_px", 4)
    rows = []
    for number, record in enumerate(frames, start=1):
        where = f"{path}, frame {number}"
        if not isinstance(record, dict) or not isinstance(record.get("frame"), str):
            raise UserError(f'{where}: expected an object with "frame", a path')
        axes = "xyz" if "joints_xyz_mm" in record and track.camera is not None else pixels
        values = record.get("joints_xyz_mm" if axes == "xyz" else "joints_uvd")
        joints = _numbers(values, (track.num_joints, len(axes)), "joints", where)
        place = _numbers(record.get(crop_key), (size,), crop_key, where)
        split = record.get("split")
        rows.append(
            _row(record["frame"], None if split is None else str(split), joints, axes, place, track)
        )
    return rows


def _numbers(values: Any, shape: tuple[int, ...], what: str, where: str) -> npt.NDArray[np.float64]:
    """An array of numbers or nulls; all NaN where there is none."""
    if values is None:
        return np.full(shape, np.nan)
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != shape:
        raise UserError(f"{where}: {what} should be numbers of shape {shape}")
    return array


def _row(
    frame: str,
    split: str | None,
    joints: npt.NDArray[np.float64],
    axes: str,
    crop: npt.NDArray[np.float64],
    track: TrackSpec,
) -> TableRow:
    joints = joints.reshape(track.num_joints, len(axes))
    if axes == "xyz":
        assert track.camera is not None
        joints = np.where(joints[:, 2:] > 0, joints, np.nan)
        joints = geometry.xyz_to_uvd(joints, track.camera)
    return TableRow(frame, split or "train", joints, crop)


def _read_npy(path: Path) -> npt.NDArray[np.float32]:
    try:
        depth = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise UnreadableFrame("no such file", path) from None
    except (OSError, ValueError, EOFError) as error:
        raise UnreadableFrame("not a readable .npy array", path) from error
    if not isinstance(depth, np.ndarray) or depth.ndim != 2 or depth.dtype.kind not in "uif":
        raise UnreadableFrame("not a 2-D array of numbers", path)
    return np.nan_to_num(depth.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def builder_for(track: TrackSpec) -> type[DepthPoseBuilder]:
    """A TFDS builder under the name of the track."""

    class OwnData(DepthPoseBuilder, skip_registration=True):  # type: ignore[call-arg]
        name = track.name

    return OwnData
