"""A distribution, the places to crop and a track: everything a builder needs to read raw frames."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from a2j_jax.data import crops
from a2j_jax.data.batch import Example
from a2j_jax.errors import UserError
from a2j_jax.tracks import TrackSpec
from tfds_builders.crop_plan import DEPTH, DEPTH_IN_BOX, CropPlan, crop_from_depth
from tfds_builders.examples import Moments, Skipped, crop_moments, make_example, window_mm
from tfds_builders.raw_files import Distribution, RawSplit, UnreadableFrame
from tfds_builders.shards import Job, Outcome

# Frames of a split that are compared before it is built; a share of disagreeing ones that is a fault of them all.
_SAMPLED = 64
_MOST = 0.9
# Of fewer frames, a split is not judged alone, unless all of them are off by the factor of one unit.
_FEWEST_SAMPLED = 8
_FARTHEST = 65535  # counts
# Depth / label where one of the two is in another unit.
_LABEL_UNITS = {10: "cm", 100: "dm", 1000: "meters", 0.1: "tenths of mm", 0.001: "µm"}
_FACTORS = (1, *_LABEL_UNITS, 0.01, 2, 4, 5, 8, 0.5, 0.25, 0.2, 0.125)
_CLOSE = 0.12  # of their logarithms: less than half of the way from 8 to 10
_CLOSE_AMONG_POWERS = 0.5  # of those that have no other factor near them
_OF_ITOP = {
    1000: "depth frames in mm",
    100: "depth frames in cm",
    0.01: "labels in cm",
    0.001: "labels in mm",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One frame to read: all that a worker process has to know of it."""

    index: int
    frame_id: str
    source: Any
    joints_uvd: npt.NDArray[np.float32] | None
    crop: npt.NDArray[np.float64]  # centre (3,) or box (4,); NaN: find it in the depth
    box_px: npt.NDArray[np.float64] | None  # look inside
    near_uvd: npt.NDArray[np.float64] | None  # look around


@dataclass(frozen=True, eq=False)
class RawReader:
    """Reads a raw distribution for a builder.

    Attributes:
      track: how to crop and what to store.
      distribution: reads single frames.
      splits: its index.
      plans: where to crop, split by split.
      max_frames: of each split, from its beginning; None: all.
      strict: whether a frame that cannot be used is an error.
    """

    track: TrackSpec
    distribution: Distribution
    splits: Mapping[str, RawSplit]
    plans: Mapping[str, CropPlan]
    max_frames: int | None = None
    strict: bool = False

    def frames(self) -> Mapping[str, int]:
        """Split -> number of frames to read; how many can be used shows when they are read."""
        counts = {name: len(split) for name, split in self.splits.items()}
        if self.max_frames is None:
            return counts
        return {name: min(count, self.max_frames) for name, count in counts.items()}

    def check(self) -> None:
        """Compares depth, centers and labels of up to 64 frames of every split, before anything is built.

        Raises:
          UserError: nearly all disagree; says which unit is likely.
        """
        results = {split: self._sample(split) for split, count in self.frames().items() if count}
        results["all splits"] = [result for some in results.values() for result in some]
        for name, some in results.items():
            bad = [result for result in some if result.disagrees]
            enough = name == "all splits" or len(some) >= _FEWEST_SAMPLED
            if not enough:  # a few frames may all be odd, but hardly in the same way
                enough = 1 < len(bad) == len(some) and _unit_factor(bad) is not None
            if bad and enough and len(bad) >= _MOST * len(some):
                raise UserError(disagreement(name, bad, len(some), self.track, self._unit_mm()))

    def _sample(self, split: str) -> list["Sampled"]:
        plan, count = self.plans[split], self.frames()[split]
        some = sorted({i * (count - 1) // max(_SAMPLED - 1, 1) for i in range(_SAMPLED)})
        given = {i for i, name in enumerate(plan.names) if name not in (DEPTH, DEPTH_IN_BOX)}
        results = []
        for index in some if count > _SAMPLED else range(count):
            row = self._row(self.splits[split], plan, index)
            result = sample_row(self.distribution, self.track, row, plan.sources[index] in given)
            results += [result] if result else []
        return results

    def _unit_mm(self) -> float | None:
        """Mm per count of integer frames, on tracks where the user sets it."""
        unit: float | None = self.distribution.spec().get("depth_unit_mm")
        return unit

    def job(self, split: str, indices: range) -> Job:
        """Reads some frames, later and perhaps elsewhere; carries the labels of those only."""
        rows = [self._row(self.splits[split], self.plans[split], index) for index in indices]
        return partial(read_rows, self.distribution, self.track, rows, self.strict)

    def spec(self) -> dict[str, Any]:
        """Everything the examples depend on; labels and crops by their digest."""
        return {
            "distribution": self.distribution.spec(),
            "crop_size": self.track.crop_size,
            "frames": dict(self.frames()),
            "digest": {split: self._digest(split) for split in self.splits},
        }

    def provenance(self) -> dict[str, Any]:
        """Where crops came from, counted over the frames that are read, and what was odd."""
        frames = self.frames()
        return {
            "centers": {split: self._centers(split, frames[split]) for split in self.splits},
            # As shipped, read or not: evaluation tells a score over a part by it.
            "frames": {split: len(raw) for split, raw in self.splits.items()},
            "notes": {
                split: [
                    *self.splits[split].notes,
                    *self.splits[split].faults,
                    *self.plans[split].notes,
                ]
                for split in self.splits
            },
        }

    def _centers(self, split: str, frames: int) -> dict[str, int]:
        plan = self.plans[split]
        counts = Counter(plan.names[source] for source in plan.sources[:frames].tolist())
        return dict(counts.most_common())

    def _digest(self, split: str) -> dict[str, str]:
        """Of frames, labels and crops each: what has changed can be told."""
        frames, raw, plan = self.frames()[split], self.splits[split], self.plans[split]

        def of_arrays(*arrays: npt.NDArray[Any] | None) -> str:
            used = (array[:frames] for array in arrays if array is not None)
            return _hexdigest(*(np.ascontiguousarray(array).tobytes() for array in used))

        return {
            "frames": _hexdigest("\n".join(raw.frame_ids[:frames]).encode()),
            "labels": of_arrays(raw.joints_uvd),
            "crops": of_arrays(plan.values, plan.near_uvd, raw.boxes_px),
        }

    def _row(self, raw: RawSplit, plan: CropPlan, index: int) -> Row:
        return Row(
            index if raw.numbers is None else int(raw.numbers[index]),
            raw.frame_ids[index],
            raw.sources[index],
            None if raw.joints_uvd is None else raw.joints_uvd[index],
            plan.values[index],
            None if raw.boxes_px is None else raw.boxes_px[index],
            None if plan.near_uvd is None else plan.near_uvd[index],
        )


def _hexdigest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


def read_rows(
    distribution: Distribution, track: TrackSpec, rows: list[Row], strict: bool
) -> Iterator[Outcome]:
    """Reads frames one by one.

    Yields:
      An example, or what was wrong with the frame.

    Raises:
      UserError: strict, and a frame cannot be used.
    """
    for row in rows:
        try:
            yield read_row(distribution, track, row)
        except UserError as error:
            if strict:
                raise UserError(f"frame {row.frame_id!r}: {error} (--strict)") from error
            reason = error.reason if isinstance(error, UnreadableFrame) else str(error)
            yield Skipped(row.index, row.frame_id, reason)


def read_row(distribution: Distribution, track: TrackSpec, row: Row) -> Example:
    """One frame -> one example.

    Raises:
      UnreadableFrame: the frame is missing, broken, empty or of another size.
      UserError: its crop covers no pixel, or its labels are another skeleton's.
    """
    depth = distribution.read_depth(row.source)
    height, width = depth.shape
    if (width, height) != track.frame_size:
        expected = f"{track.frame_size[0]}x{track.frame_size[1]}"
        raise UnreadableFrame(f"is {width}x{height}, frames of track {track.name!r} are {expected}")
    if not depth.any():
        raise UnreadableFrame("no reading at all (every pixel is 0)")
    if not _fits_storage(depth, track):
        raise UnreadableFrame(_beyond(track))
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


class Sampled(NamedTuple):
    """A frame that was read to compare its depth with its center and labels.

    Attributes:
      disagrees: whether there is no reading near them.
      depth_mm: the foreground depth where the labels (without any, the center) are; NaN: no reading there.
      expected_mm: the depth they say; NaN: there are none.
      largest_mm: the largest reading of the frame; NaN: only 0 and 65,535.
    """

    disagrees: bool
    depth_mm: float = np.nan
    expected_mm: float = np.nan
    largest_mm: float = np.nan


def sample_row(
    distribution: Distribution, track: TrackSpec, row: Row, given: bool
) -> Sampled | None:
    """Reads one frame as the build will, and compares; None: it cannot be used, or holds nothing to compare.

    Args:
      distribution, track, row: see `read_row`.
      given: whether the crop is from labels or a file, rather than found in the depth: labels outside it are a fault.
    """
    if track.joint_dims != 3:
        return None
    try:
        moments = crop_moments(read_row(distribution, track, row), track)
        disagrees = bool(moments.no_center or moments.no_labels or (given and moments.apart))
    except UserError as error:
        if str(error) != _beyond(track):
            return None
        disagrees, moments = True, Moments()
    joints = np.empty((0, 3)) if row.joints_uvd is None else row.joints_uvd.astype(np.float64)
    points = joints[np.isfinite(joints).all(axis=-1)]
    if moments.apart and len(points):  # the crop is somewhere else: what does the whole frame say?
        nearest, farthest = (
            points[:, 2].min() - window_mm(track),
            points[:, 2].max() + window_mm(track),
        )
        readings = _readings_around(points, distribution.read_depth(row.source), track)
        disagrees |= not np.any((readings >= nearest) & (readings <= farthest))
    of_center = (moments.no_center and not moments.no_labels) or not len(points)
    if of_center and track.crop_by == "center" and np.isfinite(row.crop).all():
        points = row.crop[None]
    if not disagrees:
        return Sampled(False) if len(points) else None
    depth = distribution.read_depth(row.source)
    largest = float(np.max(depth, where=depth != _FARTHEST, initial=0)) or np.nan
    if not len(points):
        return Sampled(True, largest_mm=largest) if np.isfinite(largest) else None
    readings = _readings_around(points, depth, track)
    found = float(np.percentile(readings, 25)) if readings.size else np.nan
    return Sampled(True, found, float(np.median(points[:, 2])), largest)


def _readings_around(
    points_uvd: npt.NDArray[Any], depth: npt.NDArray[Any], track: TrackSpec
) -> npt.NDArray[Any]:
    """The readings of a frame within the rectangle of some points, some px wide at least."""
    last = np.array(track.frame_size) - 1
    low = np.clip(points_uvd[:, :2].min(axis=0) - 5, 0, last).astype(int)
    high = np.clip(points_uvd[:, :2].max(axis=0) + 5, 0, last).astype(int)
    inside = depth[low[1] : high[1] + 1, low[0] : high[0] + 1]
    return inside[(inside > 0) & (inside != _FARTHEST)]  # its largest value: the sensor saw nothing


def _unit_factor(bad: Sequence[Sampled]) -> float | None:
    """Depth / label where most of some frames are off by the factor of a unit; None: they are not."""
    ratios = [r.depth_mm / r.expected_mm for r in bad if np.isfinite(r.depth_mm)]
    if 2 * len(ratios) < len(bad) or not (ratio := float(np.median(ratios))) > 0:
        return None
    factor = min(_FACTORS, key=lambda factor: abs(np.log(ratio / factor)))
    close = _CLOSE_AMONG_POWERS if factor in _OF_ITOP else _CLOSE
    return factor if factor != 1 and abs(np.log(ratio / factor)) <= close else None


def _storage_fault(bad: Sequence[Sampled], track: TrackSpec) -> str | None:
    """Why `storage_unit_mm` cannot store some frames whose depth is as labeled; None: it is not at fault."""
    there = [r for r in bad if np.isfinite(r.largest_mm)]
    unit, window = track.storage_unit_mm, window_mm(track)
    # Of a frame without labels and center, every reading is beyond what is stored.
    as_labeled = [
        r for r in there if np.isnan(r.expected_mm) or abs(r.depth_mm - r.expected_mm) <= window
    ]
    beyond = [r for r in as_labeled if not r.depth_mm < _FARTHEST * unit or unit > 2 * window]
    if 2 * len(beyond) < len(bad):
        return None
    largest = max(r.largest_mm for r in there)
    return (
        f"storage_unit_mm {unit:g} does not fit the depths: {_FARTHEST:,} counts of it end at {_FARTHEST * unit:,.5g} "
        f"mm, no reading of {len(beyond):,} frames compared is stored near its true depth, and the largest found is "
        f"{largest:,.5g} mm; storage_unit_mm {_unit_to_store(largest):g} would fit"
    )


def _unit_to_store(largest_mm: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten, mm, of which 16 bits count to that depth."""
    needed = largest_mm / (_FARTHEST - 1)
    power = 10.0 ** np.floor(np.log10(needed))
    return float(next(f * power for f in (1, 2, 5, 10) if f * power >= needed))


def disagreement(
    where: str, bad: Sequence[Sampled], sampled: int, track: TrackSpec, unit_mm: float | None
) -> str:
    """One line on depth and labels that disagree as stored, with the key or unit that is likely wrong.

    Args:
      where: the split.
      bad: the frames that disagree.
      sampled: how many frames were compared.
      track: of the frames.
      unit_mm: mm per count of integer frames, where the user sets it; None: where not.
    """
    storage = _storage_fault(bad, track)
    if storage is not None:
        return f"{where}: {storage}"
    text = (
        f"{where}: depth and labels (or centers) disagree: in {len(bad):,} of {sampled:,} frames compared, no reading "
        f"is within {window_mm(track):g} mm of them"
    )
    seen = [result for result in bad if np.isfinite(result.depth_mm)]
    if 2 * len(seen) < len(bad):
        return (
            f"{text}; most have none there at all (or 65,535): are u and v in px of these frames?"
        )
    depth = float(np.median([result.depth_mm for result in seen]))
    label = float(np.median([result.expected_mm for result in seen]))
    text += f": depth is {depth:.4g} mm where they say {label:.4g} mm"
    factor = _unit_factor(bad)
    if factor is None:
        return f"{text}; are they of the same frames, in mm, and is the camera theirs?"
    if track.frame_format == "metres" and factor in _OF_ITOP:
        return f"{text}; {_OF_ITOP[factor]}? expected meters"
    causes = [f"labels (or centers) in {_LABEL_UNITS[factor]}"] if factor in _LABEL_UNITS else []
    if unit_mm is not None:
        causes.append(
            f"depth in counts of {unit_mm / factor:g} mm (--depth_unit_mm {unit_mm / factor:g})"
        )
    else:
        causes.append(f"depth frames in units of {1 / factor:g} mm")
    return f"{text}; {' or '.join(causes)}? expected mm"


def _fits_storage(depth: npt.NDArray[Any], track: TrackSpec) -> bool:
    """Whether any reading of a frame that has some is in the range that is stored."""
    if track.frame_format == "stretch8":
        return True
    return bool(np.any((depth > 0) & (depth < _FARTHEST * track.storage_unit_mm)))


def _beyond(track: TrackSpec) -> str:
    farthest = f"{_FARTHEST * track.storage_unit_mm:,.5g} mm"
    return (
        f"no reading below {farthest}, the farthest that storage_unit_mm {track.storage_unit_mm:g} stores "
        "(a saturated sensor, or another unit?)"
    )
