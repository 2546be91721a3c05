"""Reads raw frames, crops them as planned, and checks that depth and labels agree."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from a2j_jax import geometry
from a2j_jax.data import crops
from a2j_jax.data.crops import Example
from a2j_jax.errors import UnreadableFrame, UserError
from a2j_jax.geometry import Float64
from a2j_jax.tracks import TrackSpec
from tfds_builders.crop_plan import (
    DEPTH,
    DEPTH_IN_BOX,
    CropPlan,
    boxes_from_labels,
    crop_from_depth,
)
from tfds_builders.raw_files import RawDataset, RawSplit, outside_frame
from tfds_builders.writer import MOST_COUNTS, Job, Outcome, Skipped, make_example, window_mm

# Frames of a split that are compared before it is built; the share of disagreeing ones that is a fault of them all.
_SAMPLED = 64
_MOST = 0.9
# With fewer frames, a split is not judged alone, unless all of them are off by the factor of one unit.
_FEWEST_SAMPLED = 8
_AROUND_PX = 5
_UNITS = {1000: "meters", 100: "dm", 10: "cm", 1: "mm", 0.1: "tenths of mm", 0.001: "µm"}
# Depth / label where one of the two is in another unit, and how near their logarithms must be: for some, less than
# half of the way from 8 to 10.
_FACTORS = {
    **dict.fromkeys((1, 2, 4, 5, 8, 10, 0.5, 0.25, 0.2, 0.125, 0.1), 0.12),
    **dict.fromkeys((1000, 100, 0.01, 0.001), 0.5),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One frame to read, all that a worker process needs: its row of a `RawSplit` and of a `CropPlan`."""

    index: int
    frame_id: str
    source: Any
    joints_uvd: npt.NDArray[np.float32] | None
    crop: Float64  # center (3,) or box (4,); NaN: find it in the depth
    box_px: Float64 | None  # look inside
    near_uvd: Float64 | None  # look around


class Sampled(NamedTuple):
    """A frame that was read to compare its depth with its labels and center.

    Attributes:
      disagrees: whether no reading that can be stored is near them.
      depth_mm: foreground depth where they are, of a frame without any the smallest depth; NaN: no reading there.
      expected_mm: the depth they state; NaN: there are none.
      largest_mm: the largest reading of the frame; NaN if it agrees.
    """

    disagrees: bool
    depth_mm: float = np.nan
    expected_mm: float = np.nan
    largest_mm: float = np.nan


@dataclass(frozen=True, eq=False)
class RawReader:
    """Reads a raw data set for a builder; see `tfds_builders.writer.Reader`.

    Attributes:
      dataset: reads single frames; its track decides how to crop and what to store.
      splits: its index.
      plans: where to crop, split by split.
      max_frames: of each split, from its beginning; None: all.
      strict: whether a frame that cannot be used is an error.
    """

    dataset: RawDataset
    splits: Mapping[str, RawSplit]
    plans: Mapping[str, CropPlan]
    max_frames: int | None = None
    strict: bool = False

    def frames(self) -> Mapping[str, int]:
        """Split -> number of frames to read; how many can be used shows when they are read."""
        return {name: len(raw.frame_ids[: self.max_frames]) for name, raw in self.splits.items()}

    def job(self, split: str, indices: range) -> Job:
        """Reads some frames, later and perhaps elsewhere; carries the labels of those only."""
        raw, plan = self.splits[split], self.plans[split]
        used = slice(indices.start, indices.stop)
        joints = None if raw.joints_uvd is None else raw.joints_uvd[used]
        boxes = None if raw.boxes_px is None else raw.boxes_px[used]
        near = None if plan.near_uvd is None else plan.near_uvd[used]
        numbers = np.arange(used.start, used.stop) if raw.numbers is None else raw.numbers[used]
        frames = RawSplit(
            raw.frame_ids[used], raw.sources[used], joints, boxes_px=boxes, numbers=numbers
        )
        crops = CropPlan(plan.values[used], plan.sources[used], (), near)
        part = replace(self, splits={split: frames}, plans={split: crops})
        return partial(read_rows, part, split)

    def spec(self) -> dict[str, Any]:
        """Everything the examples depend on; labels and crops by their digest."""
        return {
            "distribution": self.dataset.spec(),
            "crop_size": self.dataset.track.crop_size,
            "frames": dict(self.frames()),
            "digest": {split: self._digest(split) for split in self.splits},
        }

    def provenance(self) -> dict[str, Any]:
        """Sources of the crops of the frames that are read, and oddities."""
        used = {name: plan.sources[: self.max_frames] for name, plan in self.plans.items()}
        splits = self.splits.items()
        return {
            "centers": {name: dict(Counter(names).most_common()) for name, names in used.items()},
            # As shipped, read or not: evaluation recognizes a score over a part by it.
            "frames": {name: len(raw) for name, raw in splits},
            "notes": {n: [*raw.notes, *raw.faults, *self.plans[n].notes] for n, raw in splits},
        }

    def _digest(self, split: str) -> dict[str, str]:
        """Digests of frames, labels and crops, to show which have changed."""
        raw, plan, used = self.splits[split], self.plans[split], slice(self.max_frames)
        crops = (plan.values, plan.near_uvd, raw.boxes_px)
        parts: dict[str, Sequence[Any]] = {
            "frames": ["\n".join(raw.frame_ids[used]).encode()],
            "labels": [raw.joints_uvd],
            "crops": crops,
        }
        digests = {}
        for name, some in parts.items():
            digest = hashlib.sha256()
            for part in some:
                if isinstance(part, np.ndarray):
                    part = np.ascontiguousarray(part[used])
                digest.update(b"" if part is None else part)
            digests[name] = digest.hexdigest()[:16]
        return digests

    def row(self, split: str, index: int) -> Row:
        """What to read of frame `index`, and where to crop it."""
        raw, plan = self.splits[split], self.plans[split]
        return Row(
            index if raw.numbers is None else int(raw.numbers[index]),
            raw.frame_ids[index],
            raw.sources[index],
            None if raw.joints_uvd is None else raw.joints_uvd[index],
            plan.values[index],
            None if raw.boxes_px is None else raw.boxes_px[index],
            None if plan.near_uvd is None else plan.near_uvd[index],
        )

    def check(self) -> None:
        """Compares labels with the frame, and depth, centers and labels of up to 64 frames of every split.

        Raises:
          UserError: nearly all disagree; names the unit that is likely wrong.
        """
        track = self.dataset.track
        joints = [raw.joints_uvd for raw in self.splits.values() if raw.joints_uvd is not None]
        labeled = sum(int(np.isfinite(some).all(axis=-1).sum()) for some in joints)
        outside = sum(int(outside_frame(some, track).sum()) for some in joints)
        if outside > _MOST * labeled:
            raise UserError(
                f"{self.dataset.folder}: {outside:,} of {labeled:,} labeled joints lie outside their "
                f"{track.frame_size[0]}x{track.frame_size[1]} frames; are camera and frame_size theirs, "
                "units px and mm, and fy negative if y points up?"
            )
        results = {split: self._sample(split) for split, count in self.frames().items() if count}
        results["all splits"] = [result for some in results.values() for result in some]
        for name, some in results.items():
            bad = [result for result in some if result.disagrees]
            enough = name == "all splits" or len(some) >= _FEWEST_SAMPLED
            if not enough:  # a few frames may all be odd, but hardly in the same way
                enough = 1 < len(bad) == len(some) and _unit_factor(bad) is not None
            if bad and enough and len(bad) >= _MOST * len(some):
                unit_mm = self.dataset.spec().get("depth_unit_mm")
                raise UserError(f"{name}: {disagreement(bad, len(some), track, unit_mm)}")

    def _sample(self, split: str) -> list[Sampled]:
        plan, count = self.plans[split], self.frames()[split]
        results = []
        for index in sorted({i * (count - 1) // (_SAMPLED - 1) for i in range(_SAMPLED)}):
            given = plan.sources[index] not in (DEPTH, DEPTH_IN_BOX)
            result = sample_row(self.dataset, self.row(split, index), given)
            results += [result] if result else []
        return results


def read_rows(reader: RawReader, split: str) -> Iterator[Outcome]:
    """Reads frames one by one; yields an example for each, or what was wrong with it, which is an error if `strict`."""
    for index in range(len(reader.splits[split])):
        row = reader.row(split, index)
        try:
            yield read_row(reader.dataset, row)
        except UserError as error:
            if reader.strict:
                raise UserError(f"frame {row.frame_id!r}: {error} (--strict)") from error
            reason = error.reason if isinstance(error, UnreadableFrame) else str(error)
            yield Skipped(row.index, row.frame_id, reason)


def read_row(dataset: RawDataset, row: Row) -> Example:
    """One frame -> one example.

    Raises:
      UnreadableFrame: the frame is missing, broken, empty or of another size.
      UserError: its crop covers no pixel, or its labels are another skeleton's.
    """
    track, depth = dataset.track, _depth_of(dataset, row)
    farthest = MOST_COUNTS * track.storage_unit_mm
    stored = 0 < depth.max() < farthest or _stored(depth, track).any()
    if track.frame_format != "stretch8" and not stored:
        raise UnreadableFrame(
            f"no reading below {farthest:,.5g} mm, the farthest that storage_unit_mm "
            f"{track.storage_unit_mm:g} stores (a saturated sensor, or another unit?)"
        )
    where = row.crop
    if not np.isfinite(where).all():
        where = crop_from_depth(depth, track, row.box_px, row.near_uvd)
    frame = crops.to_storage_units(depth, track)
    by_center = track.crop_by == "center"
    crop = crops.cut(frame, track, where if by_center else None, None if by_center else where)
    return make_example(
        track,
        index=row.index,
        frame_id=row.frame_id,
        crop=crop,
        joints_uvd=row.joints_uvd,
        center_uvd=where if by_center else None,
    )


def _depth_of(dataset: RawDataset, row: Row) -> npt.NDArray[Any]:
    track, depth = dataset.track, dataset.read_depth(row.source)
    height, width = depth.shape
    if (width, height) != track.frame_size:
        expected = f"{track.frame_size[0]}x{track.frame_size[1]}"
        raise UnreadableFrame(f"is {width}x{height}, frames of track {track.name!r} are {expected}")
    if not depth.any():
        raise UnreadableFrame("no reading at all (every pixel is 0)")
    return depth


def _stored(depth: npt.NDArray[Any], track: TrackSpec) -> npt.NDArray[np.bool_]:
    """(H, W) whether each reading is in the range that is stored."""
    return (depth > 0) & (depth < MOST_COUNTS * track.storage_unit_mm)


# --- Do depth and labels agree?


def sample_row(dataset: RawDataset, row: Row, given: bool) -> Sampled | None:
    """Reads one frame and compares; None: it cannot be used, or there is nothing to compare.

    `given`: whether the crop is from labels or a file, rather than found in the depth.
    """
    track = dataset.track
    if track.joint_dims != 3:
        return None
    try:
        depth = _depth_of(dataset, row)
    except UserError:
        return None
    readings = (depth > 0) & (depth != MOST_COUNTS)
    largest = float(depth.max(where=readings, initial=0)) or np.nan
    labels = np.empty((0, 3)) if row.joints_uvd is None else row.joints_uvd.astype(np.float64)
    labels = labels[np.isfinite(labels).all(axis=-1)]
    # Boxes in which a reading between two depths is expected.
    expected = []
    if len(labels):
        expected.append((boxes_from_labels(labels[None], _AROUND_PX)[0], labels[:, 2]))
    if given and track.crop_by == "center":
        assert track.camera is not None
        assert track.half_window_mm is not None
        box = geometry.box_from_center(row.crop, track.half_window_mm, track.camera)
        expected.append((box, row.crop[2:]))
    elif given and len(labels):
        expected.append((row.crop, labels[:, 2]))
    if not expected:
        if _stored(depth, track)[readings].any() or not readings.any():
            return None
        return Sampled(True, float(depth[readings].min()), largest_mm=largest)
    window = window_mm(track)
    for box, depths in expected:
        x0, y0, x1, y1 = geometry.clip_box(box, track.frame_size).astype(int)
        inside = np.s_[y0 : y1 + 1, x0 : x1 + 1]
        near = (depth >= depths.min() - window) & (depth <= depths.max() + window)
        too_coarse = track.storage_unit_mm > 2 * window
        if too_coarse or not (near & readings & _stored(depth, track))[inside].any():
            there = depth[inside][readings[inside]]
            found = float(np.percentile(there, 25)) if there.size else np.nan
            return Sampled(True, found, float(np.median(depths)), largest)
    return Sampled(False)


def _unit_factor(bad: Sequence[Sampled]) -> float | None:
    """Depth / label where most of some frames are off by the factor of a unit; None: they are not."""
    ratios = [r.depth_mm / r.expected_mm for r in bad if np.isfinite(r.depth_mm / r.expected_mm)]
    if 2 * len(ratios) < len(bad) or not (ratio := float(np.median(ratios))) > 0:
        return None
    factor = min(_FACTORS, key=lambda factor: abs(np.log(ratio / factor)))
    return factor if factor != 1 and abs(np.log(ratio / factor)) <= _FACTORS[factor] else None


def _unit_to_store(largest_mm: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten, mm, of which 16 bits count to that depth."""
    needed = largest_mm / (MOST_COUNTS - 1)
    power = 10.0 ** np.floor(np.log10(needed))
    return float(next(f * power for f in (1, 2, 5, 10) if f * power >= needed))


def disagreement(
    bad: Sequence[Sampled], sampled: int, track: TrackSpec, unit_mm: float | None
) -> str:
    """One line on depth and labels that disagree as stored, with the key or unit that is likely wrong.

    Args:
      bad: the frames, of `sampled` ones, that disagree.
      sampled, track: see there.
      unit_mm: mm per count of integer frames, where the user sets it; else None.
    """
    text = (
        f"depth and labels (or centers) disagree: in {len(bad):,} of {sampled:,} frames compared, no reading "
        f"is within {window_mm(track):g} mm of them"
    )
    seen = [result for result in bad if np.isfinite(result.depth_mm)]
    if 2 * len(seen) < len(bad):
        return (
            f"{text}; most have none there at all (or 65,535): are u and v in px of these frames?"
        )
    depth = float(np.median([result.depth_mm for result in seen]))
    label = float(np.median([result.expected_mm for result in seen]))
    text += f": depth is {depth:.4g} mm where they state {label:.4g} mm"
    storage, window = track.storage_unit_mm, window_mm(track)
    as_labeled = not abs(depth - label) > window  # or without labels
    if as_labeled and (depth + window > MOST_COUNTS * storage or storage > 2 * window):
        largest = max(result.largest_mm for result in seen)
        return (
            f"{text}; storage_unit_mm {storage:g} does not fit: 65,535 counts of it end at "
            f"{MOST_COUNTS * storage:,.5g} mm, it should be much smaller than {window:g} mm, and the largest depth "
            f"found is {largest:,.5g} mm; storage_unit_mm {_unit_to_store(largest):g} would fit"
        )
    factor = _unit_factor(bad)
    if factor is None:
        return f"{text}; are they of the same frames, in mm, and is the camera theirs?"
    in_meters = track.frame_format == "metres"
    labels_mm = (1000 if in_meters else 1) * factor
    depth_mm = (1000 if in_meters else unit_mm or 1) / factor
    causes = [f"labels (or centers) in {_UNITS[labels_mm]}"] if labels_mm in _UNITS else []
    if depth_mm <= 1000:
        option = "" if unit_mm is None else f" (--depth_unit_mm {depth_mm:g})"
        causes.append(f"depth in counts of {depth_mm:g} mm{option}")
    return f"{text}; {' or '.join(causes)}? expected {'meters' if in_meters else 'mm'}"
