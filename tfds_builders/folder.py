"""Your own data: a folder of depth frames, a table of joints and a `track.json`.

    my_hands/
      track.json      what the frames are: `a2j_jax.track_files`
      joints.csv      or joints.json: `tfds_builders.folder_tables`
      frames/...      depth: `a2j_jax.data.depth_files`, wherever the table says

`joints.csv` has one line per frame and a header: `frame` (path below the folder), optionally `split`
("train" unless given), and for every joint its numbers, as pixels (`wrist_u, wrist_v, wrist_d`; `_d`
in mm, left out on a 2D track) or in camera coordinates (`wrist_x, wrist_y, wrist_z`, mm). An empty
cell: not labelled. `center_u, center_v, center_d` or `box_x0, box_y0, box_x1, box_y1` say where to
crop, if known.

`joints.json` says the same: `{"frames": [{"frame": ..., "split": ..., "joints_uvd": [[u, v, d], ...]
or "joints_xyz_mm": [[x, y, z], ...], "center_uvd": [...] or "box_px": [...]}, ...]}`.
"""

import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from a2j_jax.data.depth_files import DepthFile, check_depth_unit, read_depth
from a2j_jax.errors import UnreadableFrame, UserError, printable
from a2j_jax.files import path_inside
from a2j_jax.track_files import TRACK_FILE
from a2j_jax.tracks import TrackSpec
from tfds_builders import folder_tables, raw_files
from tfds_builders.base import DepthPoseBuilder
from tfds_builders.raw_files import RawSplit

DOWNLOAD = (
    f"Your own data: a folder with {TRACK_FILE}, joints.csv or joints.json, and the frames they name; "
    "see docs/own_data.md."
)
# Of a track, what examples on disk depend on, beside camera, joints and crop size (the builder says that).
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


@dataclass(frozen=True)
class OwnDistribution:
    """The folder.

    Attributes:
      track: of the frames, as `track.json` says.
      folder: that holds the table.
      depth_unit_mm: of integer values, mm per count, instead of the track's.
      allow_outside: read frames that lie outside the folder, by their path or a link.
    """

    track: TrackSpec
    folder: Path
    depth_unit_mm: float | None = None
    allow_outside: bool = False

    def __post_init__(self) -> None:
        """Refuses a unit that makes no depth."""
        check_depth_unit(self.unit_mm)

    @property
    def unit_mm(self) -> float:
        """Of integer values, mm per count."""
        return self.track.depth_unit_mm if self.depth_unit_mm is None else self.depth_unit_mm

    def splits(self) -> Mapping[str, RawSplit]:
        """Read the table. See `tfds_builders.raw_files.Distribution`."""
        path = folder_tables.find_table(self.folder)
        rows = folder_tables.read_table(path, self.track, self.allow_outside)
        joints = np.stack([row.joints_uvd for row in rows])
        crops = np.stack([row.crop for row in rows])
        folder_tables.check_units(joints, crops, self.track, str(path))
        rows_of: dict[str, list[int]] = {}
        for number, row in enumerate(rows):
            rows_of.setdefault(row.split, []).append(number)
        # What concerns all of the folder is said with its first split.
        kinds = self._kinds_note([row.frame for row in rows])
        notes = (self.track.notes, *kinds, *folder_tables.no_training_note(rows_of))
        splits: dict[str, RawSplit] = {}
        for name, of_split in rows_of.items():
            frames = [rows[number].frame for number in of_split]
            split = _split(frames, joints[of_split], crops[of_split], self.track, path.name)
            of_folder = () if splits else notes
            splits[name] = dataclasses.replace(split, notes=(*of_folder, *split.notes))
        return splits

    def read_depth(self, source: str) -> npt.NDArray[Any]:
        """One frame, (H, W) mm."""
        return self._read(source).depth

    def _read(self, source: str) -> DepthFile:
        try:
            path = path_inside(self.folder, source, self.allow_outside)
        except UserError as error:
            reason = "leads out of its folder; expected a path below it, or --allow_outside"
            raise UnreadableFrame(reason, printable(source)) from error
        if not self.allow_outside:
            path = raw_files.spelled(self.folder, source)
        floats = self.depth_unit_mm is None
        return read_depth(path, self.track.frame_format, self.unit_mm, floats)

    def _kinds_note(self, frames: list[str]) -> tuple[str, ...]:
        """A note of what the frames are and in which unit, from the first one of every suffix."""
        first = {Path(frame).suffix.lower(): frame for frame in reversed(frames)}
        found = []
        for frame in sorted(first.values()):
            with contextlib.suppress(UnreadableFrame):  # counted when it is its turn
                found.append(f"{self._read(frame).description} ({printable(frame)})")
        return (f"frames: {'; '.join(found)}",) if found else ()

    def spec(self) -> dict[str, Any]:
        """What the examples depend on: short values, so that a difference can be read."""
        track = self.track
        camera = None if track.camera is None else dataclasses.astuple(track.camera)
        return {
            "depth_unit_mm": self.unit_mm,
            "camera": camera and dict(zip(("fx", "fy", "cx", "cy"), camera, strict=True)),
            "joints": ", ".join(track.skeleton.joints),
            **{key: getattr(track, key) for key in _OF_EXAMPLES},
        }


def _split(
    frames: list[str],
    joints: npt.NDArray[np.float64],
    crops: npt.NDArray[np.float64],
    track: TrackSpec,
    table: str,
) -> RawSplit:
    given = np.isfinite(joints).any()  # else these frames are to be predicted
    of_labels = raw_files.unlabelled_to_nan(joints, table) if given else ()
    crops, of_crops = folder_tables.usable_crops(crops, track, table)
    return RawSplit(
        frames,
        frames,
        joints.astype(np.float32) if np.isfinite(joints).any() else None,
        crops=crops if np.isfinite(crops).any() else None,
        notes=(*of_labels, *of_crops),
    )


def builder_for(track: TrackSpec) -> type[DepthPoseBuilder]:
    """A TFDS builder under the name of the track."""

    class OwnData(DepthPoseBuilder, skip_registration=True):  # type: ignore[call-arg]
        name = track.name

    return OwnData
