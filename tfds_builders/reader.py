"""A distribution, the places to crop and a track: everything a builder needs to read raw frames."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from a2j_jax import crops
from a2j_jax.errors import UserError
from a2j_jax.tracks import TrackSpec
from tfds_builders.centers import CropPlan, crop_from_depth
from tfds_builders.example import Example, Skipped, make_example
from tfds_builders.raw import Distribution, RawSplit, UnreadableFrame
from tfds_builders.shards import Job, Outcome


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
