"""The example on disk: what every builder writes and the input pipeline reads."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow_datasets as tfds

from a2j_jax.crops import Crop
from a2j_jax.errors import UserError
from a2j_jax.geometry import Camera
from a2j_jax.tracks import TrackSpec

Example = dict[str, Any]


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
      crop: from `a2j_jax.crops.cut`.
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
