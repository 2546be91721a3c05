"""Finds where to crop each frame: from the data set itself, published files, labels, or the depth.

`plan_crops` decides for an entire split before any frame is read, and notes its decisions.
`crop_from_depth` handles the frames that the plan leaves to their depth. docs/centers.md tells users which
files to bring:

| published by | name | holds, frame by frame |
| --- | --- | --- |
| A2J | `<track>_center_<split>.mat` | `centre_pixel` (N, 1, 3): u px, v px, depth mm of a hand |
| A2J | `<track>_bndbox_<split>.mat` | `FRbndbox_test`, `bndbox` (N, 4): x0 y0 x1 y1 px of a person |
| V2V-PoseNet, DeepPrior++ | `center_<split>_refined.txt`, `center_<split>.txt` | `x y z` mm, or `invalid` |
"""

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from a2j_jax import geometry
from a2j_jax.data.array_files import parse_rows, read_mat
from a2j_jax.errors import UnreadableFrame, UserError, did_you_mean
from a2j_jax.files import local_path, read_contents
from a2j_jax.geometry import Float64
from a2j_jax.inference.locate import hand_center, person_box
from a2j_jax.tracks import TRACKS, TrackSpec
from tfds_builders.raw_files import WARNING, Notes, RawSplit, counted, find

Bools = npt.NDArray[np.bool_]

# Names of the sources that are no files; the first two may also be the value of `centers`.
LABELS, DEPTH = "labels", "depth"
SHIPPED = "shipped with the frames"
DEPTH_IN_BOX = "depth in the shipped box"
# How notes call a source.
_IN_WORDS = {
    LABELS: "ground truth",
    DEPTH: "the depth frame alone",
    DEPTH_IN_BOX: "the depth inside the shipped boxes",
}
# The authors call the front view of ITOP by another name than we do.
_PUBLISHED_NAME = {"itop_front": "itop_side"}
# Variables of the `.mat` files, by how many numbers a row has.
_VARIABLES = {3: ("centre_pixel",), 4: ("FRbndbox_test", "bndbox", "FRbndbox_train")}
# A depth in meters is below this, one in mm above it.
_LARGEST_METERS = 50.0
# Labels are turned into centers so many frames at a time: a million of them stay small in memory.
_CHUNK = 1 << 16
_COMPARED = 2000  # frames whose labels are compared with a published file


@dataclass(frozen=True, eq=False)
class CropPlan:
    """Where to crop each of the N frames of a split.

    Attributes:
      values: (N, 3) u px, v px, depth mm, or (N, 4) x0 y0 x1 y1 px, as the track crops; float64. A
        row of NaN: compute it with `crop_from_depth`.
      sources: (N,) str objects, the source of each row: a file name, "labels", "depth", "depth in the shipped box".
      notes: one line for everything that a user should know, with counts and file names; some are warnings
        (`raw_files.WARNING`).
      near_uvd: (N, 3) px px mm, or None: for rows of NaN, a published point in the person whose box
        is to be found in the depth (`crop_from_depth`); NaN where there is none.
    """

    values: Float64
    sources: npt.NDArray[np.object_]
    notes: Notes
    near_uvd: Float64 | None = None


def plan_crops(
    track: TrackSpec, split_name: str, split: RawSplit, centers: Path | str | None
) -> CropPlan:
    """Decides where to crop every frame of a split.

    A row that a source does not have (NaN, `invalid`, no depth, off the frame) goes to the next source.

    Args:
      track: crops by center or by box.
      split_name: published files are looked for by this name, and only "train" falls back to labels.
      split: all of it: published files have a row for every frame.
      centers: a folder of published files; "labels": ground truth, whatever the split; "depth": the
        depth frames alone; None: labels for "train", the depth for others.

    Raises:
      UserError: no such folder; a file that is not readable, or has not one row per frame.
    """
    plan = _Draft(track, split_name, split)
    if centers not in (LABELS, DEPTH):
        plan.use_shipped()
    if centers not in (None, LABELS, DEPTH):
        plan.use_files(_folder(centers))
    if centers == LABELS or (centers != DEPTH and split_name == "train"):
        plan.use_labels()
    elif centers is None and split.crops is None and track.name in TRACKS:
        plan.notes.append(f"no folder of published files is named (--centers): {plan.cropped_by()}")
    return plan.finish()


def crop_from_depth(
    depth: npt.NDArray[Any],
    track: TrackSpec,
    box_px: npt.ArrayLike | None = None,
    near_uvd: npt.ArrayLike | None = None,
) -> Float64:
    """Finds where to crop one frame, from its depth; see `a2j_jax.inference.locate`.

    Args:
      depth: (H, W) mm (K2HPD: gray levels), 0 = no reading.
      track: crops by center or by box.
      box_px: (4,) x0 y0 x1 y1 shipped with the frame: look only inside. NaN: as if not given.
      near_uvd: (3,) px px mm of a person, from `CropPlan.near_uvd`. NaN: as if not given.

    Returns:
      (3,) u px, v px, depth mm, or (4,) x0 y0 x1 y1 px; float64.

    Raises:
      UnreadableFrame: no reading in the frame, in the box or near the point.
    """
    hints = [
        np.asarray(np.nan if hint is None else hint, np.float64) for hint in (box_px, near_uvd)
    ]
    box, near = (hint if np.isfinite(hint).all() else None for hint in hints)
    try:
        if track.crop_by == "center":
            assert track.camera is not None
            return hand_center(depth, track.camera, box)
        # The outline is wider than the joints: half of the margin around joints is left.
        return person_box(depth, track.label_box_margin_px / 2, track.camera, near, box)
    except UserError as error:
        raise UnreadableFrame(str(error)) from error


class _Draft:
    """A plan in the making: each source fills the rows that those before it have left."""

    def __init__(self, track: TrackSpec, split_name: str, split: RawSplit) -> None:
        count, self.by_center = len(split), track.crop_by == "center"
        self.track, self.split_name, self.split = track, split_name, split
        self.what = "center" if self.by_center else "box"
        kind = "training" if split_name == "train" else split_name
        self.frames = counted(count, f"{kind} frame")
        self.values = np.full((count, 3 if self.by_center else 4), np.nan)
        self.near_uvd: Float64 | None = None
        self.sources = np.full(count, "", object)
        self.notes: list[str] = []

    def cropped_by(self) -> str:
        """Ends a note: states how the frames are cropped without published files."""
        name = DEPTH if self.split.boxes_px is None else DEPTH_IN_BOX
        if self.split_name == "train" and self.split.joints_uvd is not None:
            name = LABELS
        return f"{self.frames} cropped by {_IN_WORDS[name]}"

    def use_shipped(self) -> None:
        """Centers or boxes that came with the labels, on custom tracks."""
        if (crops := self.split.crops) is None:
            return
        given = int(np.any(np.isfinite(crops), axis=1).sum())
        used = int(self._take(SHIPPED, crops).sum())
        if used < given:
            self.notes.append(
                f"{WARNING}{given - used:,} of {given:,} {'centers' if self.by_center else 'boxes'} {SHIPPED} not "
                "used: numbers missing, outside the frame, or without extent or depth; left to the next source"
            )

    def use_files(self, folder: Path) -> None:
        """Every published file that there is, the authors' own first."""
        if not self._left().any():
            self.notes.append(f"{folder} (--centers) not used: all frames come with a {self.what}")
            return
        names = file_names(self.track, self.split_name)
        belongs = partial(_is_named_after, track=self.track.name)
        found = [path for name in names if (path := find(folder, (name,), belongs))]
        if not found:
            missing = f"no {' or '.join(names)} in {folder} (--centers)"
            self.notes.append(f"{WARNING}{missing}: {self.cropped_by()}")
        for path in found:
            if not self._left().any():
                break
            read = read_text_centers if path.suffix.lower() == ".txt" else read_centers_or_boxes
            values, notes = rows_of_split(read(path, self.track), path, self.split_name, self.split)
            self.notes += notes
            taken = self._take(path.name, values)
            joints = self.split.joints_uvd
            self.notes += _disagreement(values, taken, joints, path.name, self.track)

    def use_labels(self) -> None:
        """Ground truth."""
        joints, track = self.split.joints_uvd, self.track
        if joints is None or (self.by_center and (joints.shape[-1] < 3 or not track.camera)):
            self.notes.append(f"{self.frames} without labels that a {self.what} can be made from")
        elif self._left().any():
            if self.by_center:
                assert track.camera is not None
                values = centers_from_labels(joints, track.camera)
            else:
                values = boxes_from_labels(joints, track.label_box_margin_px)
            self._take(LABELS, values)

    def finish(self) -> CropPlan:
        """The plan; what is left comes from the depth."""
        left = self._left()
        self.sources[left] = DEPTH
        if self.split.boxes_px is not None:
            self.sources[left & np.isfinite(self.split.boxes_px).all(axis=1)] = DEPTH_IN_BOX
        return CropPlan(self.values, self.sources, tuple(self.notes), self.near_uvd)

    def _left(self) -> Bools:
        """(N,) which rows have no source yet."""
        return np.asarray(self.sources == "", bool)

    def _take(self, name: str, values: Float64) -> Bools:
        """(N,) which rows a source takes, those that are usable and left; notes how many it leaves."""
        left = self._left()
        taken = left & _usable(values, self.track)
        self.sources[taken] = name
        into = self.values
        if values.shape[1] != into.shape[1]:  # points in persons whose boxes are to be found
            if self.near_uvd is None:
                self.near_uvd = np.full((len(values), 3), np.nan)
            into = self.near_uvd
        into[taken] = values[taken]
        if name != SHIPPED and (left & ~taken).any():
            self.notes.append(
                f"{name}: {(left & ~taken).sum():,} of {self.frames} without a usable {self.what} "
                "(missing, without depth or off the frame): left to the next source"
            )
        return taken


def _folder(centers: Path | str | None) -> Path:
    folder = local_path(centers or "", "--centers")
    if not folder.is_dir():
        kind = "is a file" if folder.exists() else "no such folder"
        hint = did_you_mean(str(centers), (LABELS, DEPTH))
        raise UserError(
            f"--centers {centers}: {kind}{hint} (expected the folder that holds the published "
            f"files, {LABELS!r} or {DEPTH!r})"
        )
    return folder


def _usable(crops: Float64, track: TrackSpec) -> Bools:
    """(N,) whether (N, 4) boxes, or the windows around (N, 3) centers, have a pixel of the frame in them."""
    usable: Bools = np.all(np.isfinite(crops), axis=1)
    if crops.shape[1] == 3:
        usable &= crops[:, 2] > 0
        if track.camera is None or track.half_window_mm is None:
            return usable
        somewhere = np.where(usable[:, None], crops, 1.0)
        crops = geometry.box_from_center(somewhere, track.half_window_mm, track.camera)
    inside = np.floor(geometry.clip_box(np.where(usable[:, None], crops, 0.0), track.frame_size))
    return usable & np.all(inside[:, 2:] > inside[:, :2], axis=1)


def _disagreement(
    values: Float64,
    taken: Bools,
    joints_uvd: npt.NDArray[Any] | None,
    name: str,
    track: TrackSpec,
) -> Notes:
    """A warning where a file contradicts the labels: rows that belong elsewhere.

    A sample of frames is enough, and half of them must disagree: single wrong rows are normal.
    """
    rows = np.flatnonzero(taken)
    rows = rows[:: max(1, len(rows) // _COMPARED)]
    if joints_uvd is None or not len(rows):
        return ()
    some, joints, found = values[rows], np.asarray(joints_uvd[rows], np.float64), ""
    if values.shape[1] == 4:
        inside = (joints[..., :2] >= some[:, None, :2]) & (joints[..., :2] <= some[:, None, 2:])
        labeled = np.isfinite(joints).all(axis=-1)
        share = inside.all(axis=-1).sum() / max(1, labeled.sum())
        if labeled.any() and share < 0.5:
            found = f"only {share:.0%} of the joints are inside the boxes"
    elif track.camera is not None and joints.shape[-1] == 3:
        mean = centers_from_labels(joints, track.camera)
        there = geometry.uvd_to_xyz(some, track.camera) - geometry.uvd_to_xyz(mean, track.camera)
        distance = np.linalg.norm(there, axis=1)
        distance = distance[np.isfinite(distance)]
        if distance.size and np.median(distance) > (track.half_window_mm or 1000.0):
            far = f"{np.median(distance):.0f} mm from the middle of the joints"
            found = f"half of the centers are more than {far}"
    advice = "is it the file of this data set, split and camera?"
    return (f"{WARNING}{name}: {found}; {advice}",) if found else ()


# --- Published files


def file_names(track: TrackSpec, split: str) -> tuple[str, ...]:
    """Names a split's file may have, the authors' own first."""
    name = _PUBLISHED_NAME.get(track.name, track.name)
    kind = "center" if track.crop_by == "center" else "bndbox"
    texts = (f"center_{split}_refined.txt", f"center_{split}.txt")
    return (f"{name}_{kind}_{split}.mat", *(texts if track.camera else ()))


def _is_named_after(folder: str, track: str) -> bool | None:
    """Whether the track in the name of a folder (the longest, of several) is this one; None: no track is.

    V2V's files have the same name for every data set, one folder each.
    """
    folder = folder.lower().replace("-", "_")
    names = {name: name for name in TRACKS} | {p: name for name, p in _PUBLISHED_NAME.items()}
    inside = [name for name in names if name in folder]
    return names[max(inside, key=len)] == track if inside else None


def read_centers_or_boxes(path: Path, track: TrackSpec) -> Float64:
    """One of the authors' `.mat` files: (M, 3) u px, v px, depth mm, or (M, 4) x0 y0 x1 y1 px; float64, as published.

    Raises:
      UserError: not readable, no variable of a known name, or not of the shape by which the track crops.
    """
    columns = 3 if track.crop_by == "center" else 4
    values = read_mat(path, *_VARIABLES[columns])
    if values.ndim not in (2, 3) or values.shape[-1] != columns or values.size % columns:
        meaning = "u v depth" if columns == 3 else "x0 y0 x1 y1"
        raise UserError(
            f"{path}: has shape {values.shape}; expected (frames, {columns}): {meaning}"
        )
    return values.reshape(-1, columns).astype(np.float64)


def read_text_centers(path: Path, track: TrackSpec) -> Float64:
    """`x y z` per line, in mm or (ITOP) meters -> uvd; a line `invalid` is a row of NaN.

    V2V's files were made with the tracks' cameras (ICVL's with a focal length 0.2 % larger: at most
    0.3 px). The result is (M, 3) float64 u px, v px, depth mm.

    Raises:
      UserError: a line of another form, or no line at all; names the line.
    """
    assert track.camera is not None
    expected = "`x y z` or `invalid`"
    text = read_contents(path, f"lines of {expected}").rstrip()
    if not text:
        raise UserError(f"{path}: is empty; expected a line {expected} for every frame")
    text = re.sub(rb"(?i)invalid.*", b"nan nan nan", text.removeprefix(b"\xef\xbb\xbf"))
    lines = text.split(b"\n")
    rows = parse_rows(lines, path, 3, expected, named=False)
    if len(rows.lines) < len(lines):  # every line is a frame
        moved = (n for n, at in enumerate(rows.lines, start=1) if n != at)
        number = next(moved, len(rows.lines) + 1)
        raise UserError(f"{path}, row {number}: is blank or a comment; expected {expected}")
    xyz = rows.values
    readable = xyz[np.isfinite(xyz[:, 2]), 2]
    if readable.size and np.median(readable) < _LARGEST_METERS:
        xyz *= 1000.0
    xyz[~(np.isfinite(xyz).all(axis=1) & (xyz[:, 2] > 0))] = np.nan
    return geometry.xyz_to_uvd(xyz, track.camera)


def rows_of_split(values: Float64, path: Path, name: str, split: RawSplit) -> tuple[Float64, Notes]:
    """The rows of an entire file, (M, ...), that belong to the N frames of a split, (N, ...) in their order; and notes.

    M = N: `values` itself. M = `split.total`: its rows `split.rows`. M larger, and the frames have numbers: its rows
    `split.numbers`, for it covers the published split, of which only some frames are here; that is noted.

    Raises:
      UserError: none of these. A guess could be a center of another frame, a bug that nothing shows.
    """
    frames, total, numbers = len(split), split.total, split.numbers
    if len(values) == frames:
        return values, ()
    if split.rows is not None and len(values) == total:
        return values[split.rows], ()
    if numbers is not None and max(frames, total or 0, numbers.max(initial=-1) + 1) <= len(values):
        note = f"{path.name}: has {len(values):,} rows; the rows of {counted(frames, 'frame')} were taken "
        return values[numbers], (note + "by the numbers in the names of the frames",)
    also = f" (of {total:,} in the distribution)" if total not in (None, frames) else ""
    raise UserError(
        f"{path}: has {counted(len(values), 'row')}, but split {name!r} has "
        f"{counted(frames, 'frame')}{also}; expected "
        "one row per frame: give the file of this data set and split and the complete data set, or "
        "use --centers labels or --centers depth"
    )


# --- Labels


def centers_from_labels(joints_uvd: npt.NDArray[Any], camera: geometry.Camera) -> Float64:
    """The mean of the labeled joints in space: (N, K, 3) px px mm, NaN = not labeled -> (N, 3) px px mm, float64."""
    centers = np.full((len(joints_uvd), 3), np.nan)
    for start in range(0, len(joints_uvd), _CHUNK):
        xyz = geometry.uvd_to_xyz(joints_uvd[start : start + _CHUNK], camera)
        labeled = np.isfinite(xyz).all(axis=-1, keepdims=True)
        count = labeled.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(labeled, xyz, 0.0).sum(axis=1) / count
            centers[start : start + _CHUNK] = geometry.xyz_to_uvd(mean, camera)
    return centers


def boxes_from_labels(joints_uvd: npt.NDArray[Any], margin_px: float) -> Float64:
    """The box around the labeled joints, enlarged by a margin on every side: the authors' rule for K2HPD.

    (N, K, 2 or 3), NaN = not labeled -> (N, 4) x0 y0 x1 y1 px, float64, not clipped; NaN where no joint is labeled.
    """
    uv = np.asarray(joints_uvd[..., :2], np.float64)
    labeled = np.isfinite(uv).all(axis=-1, keepdims=True)
    low = np.where(labeled, uv, np.inf).min(axis=1) - margin_px
    high = np.where(labeled, uv, -np.inf).max(axis=1) + margin_px
    boxes = np.concatenate([low, high], axis=1)
    boxes[~np.any(labeled, axis=(1, 2))] = np.nan
    return boxes
