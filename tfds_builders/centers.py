"""Where to crop, frame by frame: what came with the frames, published files, labels, the depth itself.

`plan_crops` decides for a whole split before any frame is read, and says what it decided.
`crop_from_depth` does the work for the frames that the plan leaves to their depth. docs/centers.md
tells users which files to bring.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from a2j_jax import geometry
from a2j_jax.errors import UserError, did_you_mean
from a2j_jax.files import local_path
from a2j_jax.geometry import Float64
from a2j_jax.inference.centers import hand_center, person_box
from a2j_jax.tracks import TRACKS, TrackSpec
from tfds_builders import center_files
from tfds_builders.label_crops import boxes_from_labels, centers_from_labels
from tfds_builders.raw import RawSplit, UnreadableFrame
from tfds_builders.wording import WARNING, counted

# Names of the sources that are no file; also the words `centers` may be.
LABELS, DEPTH = "labels", "depth"
SHIPPED = "shipped with the frames"
DEPTH_IN_BOX = "depth in the shipped box"
# What notes call a source in words.
_IN_WORDS = {
    LABELS: "ground truth",
    DEPTH: "the depth frame alone",
    DEPTH_IN_BOX: "the depth inside the shipped boxes",
}


@dataclass(frozen=True, eq=False)
class CropPlan:
    """Where to crop each of the N frames of a split.

    Attributes:
      values: (N, 3) u px, v px, depth mm, or (N, 4) x0 y0 x1 y1 px, as the track crops; float64. A
        row of NaN: compute it with `crop_from_depth`.
      sources: (N,) int8, where each row is from: index into `names`.
      names: the sources: file names, "labels", "depth", "depth in the shipped box".
      notes: one line for whatever a user should know, with counts and file names; some are warnings
        (`tfds_builders.wording`).
      near_uvd: (N, 3) px px mm, or None: for rows of NaN, a published point in the person whose box
        is to be found in the depth (`crop_from_depth`); NaN where there is none.
    """

    values: Float64
    sources: npt.NDArray[np.int8]
    names: tuple[str, ...]
    notes: tuple[str, ...]
    near_uvd: Float64 | None = None


def plan_crops(
    track: TrackSpec, split_name: str, split: RawSplit, centers: Path | str | None
) -> CropPlan:
    """Decides where to crop every frame of a split.

    Args:
      track: crops by centre or by box.
      split_name: "train" or "test": published files are looked for by this name, and only "train"
        falls back to labels.
      split: all of it: published files have a row for every frame.
      centers: a folder of published files; "labels": ground truth, whatever the split; "depth": the
        depth frames alone; None: labels for "train", the depth for others.

    Returns:
      The plan. A row no source can give (NaN, `invalid`, no depth, off the frame) goes to the next
      source.

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
    elif centers is None and split.crops is None:
        plan.note_no_folder()
    return plan.finish()


def crop_from_depth(
    depth: npt.NDArray[Any],
    track: TrackSpec,
    box_px: npt.ArrayLike | None = None,
    near_uvd: npt.ArrayLike | None = None,
) -> Float64:
    """Where to crop one frame, from its depth; see `a2j_jax.inference.centers`.

    Args:
      depth: (H, W) mm (K2HPD: grey levels), 0 = no reading.
      track: crops by centre or by box.
      box_px: (4,) x0 y0 x1 y1 shipped with the frame: look only inside. NaN: as if not given.
      near_uvd: (3,) px px mm of a person, from `CropPlan.near_uvd`. NaN: as if not given.

    Returns:
      (3,) u px, v px, depth mm, or (4,) x0 y0 x1 y1 px; float64.

    Raises:
      UnreadableFrame: no reading in the frame, in the box or near the point.
    """
    box_px, near_uvd = (_if_finite(hint) for hint in (box_px, near_uvd))
    try:
        if track.crop_by == "center":
            if track.camera is None:
                raise UserError(f"track {track.name!r} has no camera to find a center with")
            return hand_center(depth, track.camera, box_px)
        # The outline is wider than the joints: half of the margin around joints is left.
        return person_box(depth, track.label_box_margin_px / 2, track.camera, near_uvd, box_px)
    except UserError as error:
        raise UnreadableFrame(str(error)) from error


class _Draft:
    """A plan in the making: each source fills the rows that those before it have left."""

    def __init__(self, track: TrackSpec, split_name: str, split: RawSplit) -> None:
        count, self.by_center = len(split), track.crop_by == "center"
        self.track, self.split_name, self.split = track, split_name, split
        self.what = "center" if self.by_center else "box"
        self.frames = counted(count, f"{_ADJECTIVE.get(split_name, split_name)} frame")
        self.values = np.full((count, 3 if self.by_center else 4), np.nan)
        self.near_uvd: Float64 | None = None
        self.sources = np.full(count, -1, np.int8)
        self.names: list[str] = []
        self.notes: list[str] = []

    def use_shipped(self) -> None:
        """Centres or boxes that came with the labels: one's own data."""
        if self.split.crops is None:
            return
        usable = _usable_centers if self.by_center else _usable_boxes
        _, taken = self._take(SHIPPED, usable(self.split.crops, self.track))
        self.values[taken] = self.split.crops[taken]

    def use_files(self, folder: Path) -> None:
        """Every published file that there is, the authors' own first."""
        if (self.sources >= 0).all():
            self.notes.append(f"{folder} (--centers) not used: all frames come with a {self.what}")
            return
        names = center_files.file_names(self.track, self.split_name)
        paths = [center_files.find(folder, name, self.track) for name in names]
        found = [path for path in paths if path is not None]
        if not found:
            instead = _IN_WORDS[self._after_files()]
            self.notes.append(
                f"{WARNING}no {' or '.join(names)} in {folder} (--centers): {self.frames} cropped "
                f"by {instead}"
            )
        elif paths[0] is None:
            self.notes.append(
                f"no {names[0]} in {folder}: {self.frames} cropped by {found[0].name}"
            )
        for path in found:
            if (self.sources >= 0).all():
                break
            self._use_file(path)

    def _use_file(self, path: Path) -> None:
        split, track = self.split, self.track
        read = center_files.read_centers_or_boxes
        if path.suffix.lower() == ".txt":
            read = center_files.read_text_centers
        values, notes = center_files.rows_of_split(read(path, track), path, self.split_name, split)
        self.notes.extend(notes)
        is_point = values.shape[1] == 3
        usable = _usable_centers(values, track) if is_point else _usable_boxes(values, track)
        left, taken = self._take(path.name, usable)
        if is_point and not self.by_center:
            self.near_uvd = np.full((len(split), 3), np.nan)
            self.near_uvd[taken] = values[taken]
        else:
            self.values[taken] = values[taken]
        if left > taken.sum():
            self.notes.append(
                f"{path.name}: {left - taken.sum():,} of {counted(len(split), 'row')} without a "
                f"{self.what} (invalid, NaN, without depth or off the frame): left to the next source"
            )
        self.notes.extend(_disagreement(values, taken, split.joints_uvd, path.name, track))

    def use_labels(self) -> None:
        """Ground truth."""
        joints, track = self.split.joints_uvd, self.track
        needed = 3 if self.by_center else 2
        if joints is None or joints.shape[-1] < needed or (self.by_center and not track.camera):
            self.notes.append(f"{self.frames} without labels that a {self.what} can be made from")
            return
        if (self.sources >= 0).all():
            return
        if self.by_center:
            assert track.camera is not None
            values = centers_from_labels(joints, track.camera)
            left, taken = self._take(LABELS, _usable_centers(values, track))
        else:
            values = boxes_from_labels(joints, track.label_box_margin_px)
            left, taken = self._take(LABELS, _usable_boxes(values, track))
        self.values[taken] = values[taken]
        if left > taken.sum():
            self.notes.append(
                f"{left - taken.sum():,} of {self.frames} without a usable label: cropped by "
                f"{_IN_WORDS[DEPTH]}"
            )

    def note_no_folder(self) -> None:
        """Scores depend on centres: say so where published ones could have been used."""
        if self.track.name in TRACKS:
            self.notes.append(
                f"no folder of published files is named (--centers): {self.frames} cropped by "
                f"{_IN_WORDS[self._after_files()]}"
            )

    def finish(self) -> CropPlan:
        """The plan; what is left comes from the depth."""
        if self.split.boxes_px is not None:
            self._take(DEPTH_IN_BOX, np.all(np.isfinite(self.split.boxes_px), axis=1))
        self._take(DEPTH, np.ones(len(self.split), bool))
        names, notes = tuple(self.names), tuple(self.notes)
        return CropPlan(self.values, self.sources, names, notes, self.near_uvd)

    def _take(self, name: str, usable: npt.NDArray[np.bool_]) -> tuple[int, npt.NDArray[np.bool_]]:
        """How many rows were left, and (N,) which of them this source takes."""
        left = self.sources < 0
        taken = left & usable
        if taken.any():
            self.sources[taken] = len(self.names)
            self.names.append(name)
        return int(left.sum()), taken

    def _after_files(self) -> str:
        if self.split_name == "train" and self.split.joints_uvd is not None:
            return LABELS
        return DEPTH if self.split.boxes_px is None else DEPTH_IN_BOX


_ADJECTIVE = {"train": "training"}


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


def _if_finite(values: npt.ArrayLike | None) -> Float64 | None:
    if values is None:
        return None
    array = np.asarray(values, np.float64)
    return array if np.isfinite(array).all() else None


def _usable_boxes(boxes_px: Float64, track: TrackSpec) -> npt.NDArray[np.bool_]:
    """(N,) whether a whole pixel of the frame is inside."""
    finite = np.all(np.isfinite(boxes_px), axis=1)
    inside = geometry.clip_box(np.where(finite[:, None], boxes_px, 0.0), track.frame_size)
    return finite & np.all(np.floor(inside[:, 2:]) > np.floor(inside[:, :2]), axis=1)


def _usable_centers(centers_uvd: Float64, track: TrackSpec) -> npt.NDArray[np.bool_]:
    """(N,) whether it is a point whose window has a pixel of the frame in it."""
    usable = np.all(np.isfinite(centers_uvd), axis=1) & (centers_uvd[:, 2] > 0)
    if track.camera is not None and track.half_window_mm is not None:
        windows = np.full((len(centers_uvd), 4), np.nan)
        windows[usable] = geometry.box_from_center(
            centers_uvd[usable], track.half_window_mm, track.camera
        )
        usable &= _usable_boxes(windows, track)
    return usable


def _disagreement(
    values: Float64,
    taken: npt.NDArray[np.bool_],
    joints_uvd: npt.NDArray[Any] | None,
    name: str,
    track: TrackSpec,
) -> Iterator[str]:
    """A warning where a file says something else than the labels: rows that belong elsewhere.

    A sample of frames is enough, and half of them must disagree: single wrong rows are normal.
    """
    rows = np.flatnonzero(taken)
    rows = rows[:: max(1, len(rows) // 2000)]
    if joints_uvd is None or not len(rows):
        return
    some, joints = values[rows], np.asarray(joints_uvd[rows], np.float64)
    advice = "is it the file of this data set, split and camera?"
    if values.shape[1] == 4:
        inside = (joints[..., :2] >= some[:, None, :2]) & (joints[..., :2] <= some[:, None, 2:])
        labelled = np.isfinite(joints).all(axis=-1)
        share = inside.all(axis=-1).sum() / max(1, labelled.sum())
        if labelled.any() and share < 0.5:
            yield f"{WARNING}{name}: only {share:.0%} of the joints are inside the boxes; {advice}"
    elif track.camera is not None and joints.shape[-1] == 3:
        mean = centers_from_labels(joints, track.camera)
        there = geometry.uvd_to_xyz(some, track.camera) - geometry.uvd_to_xyz(mean, track.camera)
        distance = np.linalg.norm(there, axis=1)
        distance = distance[np.isfinite(distance)]
        if distance.size and np.median(distance) > (track.half_window_mm or 1000.0):
            yield (
                f"{WARNING}{name}: half of the centers are more than {np.median(distance):.0f} mm "
                f"from the middle of the joints; {advice}"
            )
