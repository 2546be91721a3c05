"""Statistics of the crops, gathered while a data set is written: moments, and where depth and labels disagree."""

from dataclasses import dataclass, fields

import numpy as np

from a2j_jax.geometry import center_crop, frame_to_crop
from a2j_jax.tracks import TrackSpec
from tfds_builders.example import Example

# How far readings may be from the joints of a body, whose track has no depth window, mm.
_BODY_WINDOW_MM = 500.0
_FARTHEST = 65535  # counts of storage


@dataclass(frozen=True)
class Moments:
    """Sums over crops: added up shard by shard, in order, whoever counted them.

    Attributes:
      count: pixels.
      total: sum of their values, in the track's image unit.
      squares: sum of their squares.
      no_center: frames without a reading within the depth window of their center.
      no_labels: frames without a reading within the depth window of their labels, where these are in the crop.
      apart: frames whose labels are outside the crop, or farther from its center than the depth window.
      beyond: frames with readings beyond what is stored.
    """

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    no_center: int = 0
    no_labels: int = 0
    apart: int = 0
    beyond: int = 0

    def __add__(self, other: "Moments") -> "Moments":
        names = [field.name for field in fields(self)]
        return Moments(*(getattr(self, name) + getattr(other, name) for name in names))

    @property
    def mean(self) -> float:
        """Of all pixels."""
        return self.total / self.count

    @property
    def std(self) -> float:
        """Of all pixels (population)."""
        return max(self.squares / self.count - self.mean**2, 0.0) ** 0.5


def window_mm(track: TrackSpec) -> float:
    """How far in depth readings may be from their center or labels to be the object's, mm."""
    return track.depth_window_mm or _BODY_WINDOW_MM


def crop_moments(example: Example, track: TrackSpec) -> Moments:
    """Sums over one crop, in the unit that `TrackSpec.mean` and `.std` normalize, and what is odd about it.

    Args:
      example: see `tfds_builders.example.features`.
      track: the constants.
    """
    canvas, center_mm = example["canvas"], float(example["center_uvd"][2])
    unit = track.storage_unit_mm / track.image_unit_mm
    crop = center_crop(canvas, track.crop_size)
    image = crop.astype(np.float64) * unit
    no_center = False
    if track.depth_reference == "center":
        image -= center_mm / track.image_unit_mm
        window = window_mm(track) / track.image_unit_mm
        far = np.abs(image) >= window
        no_center = not np.any(crop[~far])
        if track.depth_window_mm is not None:
            image[far] = 0.0
    no_labels, apart = _labels_disagree(example, track)
    # Not a dot product: BLAS would wake all its threads for each of a million small crops.
    return Moments(
        image.size,
        float(image.sum()),
        float(np.square(image).sum()),
        int(no_center),
        int(no_labels),
        int(apart),
        int(track.frame_format != "stretch8" and canvas.max() == _FARTHEST),
    )


def _labels_disagree(example: Example, track: TrackSpec) -> tuple[bool, bool]:
    """Whether no reading is near the labels, and whether they are off the crop; both False without 3D labels."""
    joints = np.asarray(example["joints_uvd"], np.float64)[np.asarray(example["valid"], bool)]
    if joints.shape[-1] != 3 or not len(joints):
        return False, False
    canvas, window = example["canvas"], window_mm(track)
    at = frame_to_crop(joints[:, :2], example["box_px"], track.crop_size) + track.margin
    low = np.maximum(np.floor(at.min(axis=0)) - 1, 0)
    high = np.minimum(np.ceil(at.max(axis=0)) + 1, track.canvas_size - 1)
    nearest, farthest = joints[:, 2].min() - window, joints[:, 2].max() + window
    if (low > high).any():
        return False, True
    (x0, y0), (x1, y1) = low.astype(int), high.astype(int)
    readings = canvas[y0 : y1 + 1, x0 : x1 + 1]
    lowest, highest = max(nearest / track.storage_unit_mm, 1), farthest / track.storage_unit_mm
    near = np.any((readings >= lowest) & (readings <= highest))
    apart = track.crop_by == "center" and not (
        nearest <= float(example["center_uvd"][2]) <= farthest
    )
    return not near, apart
