"""The example on disk: what every builder writes and the input pipeline reads.

Statistics of the crops, gathered while a data set is written: moments, and where depth and labels disagree.
"""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import tensorflow_datasets as tfds

from a2j_jax.data.batch import Example
from a2j_jax.data.crops import Crop
from a2j_jax.errors import UserError
from a2j_jax.geometry import Camera, center_crop, frame_to_crop
from a2j_jax.tracks import TrackSpec


@dataclass(frozen=True, slots=True)
class Skipped:
    """A frame that did not become an example, and why.

    Attributes:
      index: its position in its split.
      frame_id: how the raw distribution calls it.
      reason: one line.
    """

    index: int
    frame_id: str
    reason: str


def features(track: TrackSpec) -> tfds.features.FeaturesDict:
    """An example on disk. Nothing is normalised, nothing is augmented."""
    size, joints = track.canvas_size, track.num_joints
    return tfds.features.FeaturesDict(
        {
            # Crop and surroundings in track.storage_unit_mm, 0 = no reading.
            "canvas": tfds.features.Tensor(shape=(size, size), dtype=np.uint16, encoding="bytes"),
            # Full frame: px, px, mm (px, px in 2D), and whether each joint is labelled.
            "joints_uvd": tfds.features.Tensor(shape=(joints, track.joint_dims), dtype=np.float32),
            "valid": tfds.features.Tensor(shape=(joints,), dtype=np.bool_),
            # The clipped box the crop was cut from, and the box before clipping; px, x0 y0 x1 y1.
            "box_px": tfds.features.Tensor(shape=(4,), dtype=np.float64),
            "window_px": tfds.features.Tensor(shape=(4,), dtype=np.float64),
            # Centre of the crop, px, px, mm; zeros where the track crops by box.
            "center_uvd": tfds.features.Tensor(shape=(3,), dtype=np.float32),
            # fx, fy, u0, v0 of this frame; zeros where joints are 2D only.
            "camera": tfds.features.Tensor(shape=(4,), dtype=np.float32),
            # Position in the split as shipped: skipped frames leave gaps.
            "index": tfds.features.Scalar(dtype=np.int64),
            "frame_id": tfds.features.Text(),
        }
    )


def make_example(
    track: TrackSpec,
    *,
    index: int,
    frame_id: str,
    crop: Crop,
    joints_uvd: npt.ArrayLike | None,
    valid: npt.ArrayLike | None = None,
    center_uvd: npt.ArrayLike | None = None,
    camera: Camera | None = None,
) -> Example:
    """Puts one example together; see `features` for units.

    Args:
      track: the track.
      index: position in its split.
      frame_id: how the raw distribution calls the frame.
      crop: from `a2j_jax.data.crops.cut`.
      joints_uvd: (K, 3) or (K, 2), NaN where a joint is not labelled; None: no joint is.
      valid: (K,) bool, further joints without a label.
      center_uvd: (3,); zeros by default.
      camera: of the frame; the track's by default.

    Raises:
      UserError: the labels do not have the track's number of joints.
    """
    expected = (track.num_joints, track.joint_dims)
    joints = np.full(expected, np.nan) if joints_uvd is None else np.asarray(joints_uvd)
    if joints.shape != expected:
        raise UserError(
            f"frame {frame_id!r}: labels of shape {joints.shape}, track {track.name!r} has "
            f"{expected[0]} joints of {expected[1]} numbers; is this the right label file?"
        )
    labelled = np.isfinite(joints).all(-1)
    if valid is not None:
        labelled &= np.asarray(valid, bool)
    camera = camera or track.camera
    return {
        "canvas": crop.canvas,
        # A number everywhere: what is not labelled must not turn a gradient into NaN.
        "joints_uvd": np.where(np.isfinite(joints), joints, 0.0).astype(np.float32),
        "valid": labelled,
        "box_px": np.asarray(crop.box_px, np.float64),
        "window_px": np.asarray(crop.window_px, np.float64),
        "center_uvd": np.asarray((0, 0, 0) if center_uvd is None else center_uvd, np.float32),
        "camera": np.zeros(4, np.float32) if camera is None else np.float32(camera.as_array()),
        "index": index,
        "frame_id": frame_id,
    }


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
      example: see `tfds_builders.examples.features`.
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
