"""Rendered hands (`a2j_jax.synthetic`): exact labels, no download.

The template for the other builders: one reader, one builder class. Example i of a split depends on
(seed, split, i) alone, so a larger build of the same seed begins with the frames of a smaller one.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from a2j_jax import geometry
from a2j_jax.crops import Crop
from a2j_jax.synthetic.placement import SceneSpec
from a2j_jax.synthetic.scene import ARMS_LENGTH, KINECT, generate_hands
from a2j_jax.synthetic.sensor import SensorSpec
from a2j_jax.tracks import TrackSpec
from tfds_builders.depth_pose import DepthPoseBuilder
from tfds_builders.example import Example, make_example
from tfds_builders.shards import Job

# Splits draw from disjoint ranges of scene numbers, far apart, so that none moves when another
# grows.
_FIRST_SCENE = {"train": 0, "validation": 1 << 30, "test": 1 << 31}


@dataclasses.dataclass(frozen=True)
class SyntheticHandReader:
    """Renders the frames it is asked for.

    Attributes:
      track: camera, frame and crop of the examples.
      train, validation, test: frames per split.
      seed: of everything random.
      scene: where the hand is and what is around it.
      sensor: what the camera makes of it.
    """

    track: TrackSpec
    train: int
    validation: int
    test: int
    seed: int = 0
    scene: SceneSpec = ARMS_LENGTH
    sensor: SensorSpec | None = KINECT

    def frames(self) -> Mapping[str, int]:
        """Split -> number of frames."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def job(self, split: str, indices: range) -> Job:
        """Renders some frames, later and perhaps elsewhere."""
        return partial(self.read, split, indices)

    def read(self, split: str, indices: range) -> Iterator[Example]:
        """Renders some examples of a split, in order."""
        track, first = self.track, _FIRST_SCENE[split]
        assert track.camera is not None
        assert track.half_window_mm is not None
        hands = generate_hands(
            self.seed,
            range(first + indices.start, first + indices.stop),
            camera=track.camera,
            frame_size=track.frame_size,
            crop_size=track.crop_size,
            margin=track.margin,
            half_window_mm=track.half_window_mm,
            scene=self.scene,
            sensor=self.sensor,
        )
        for index, hand in zip(indices, hands, strict=True):
            yield make_example(
                track,
                index=index,
                frame_id=f"{split}/{index:06d}",
                crop=_rendered_crop(hand, track),
                joints_uvd=hand["joints_uvd"],
                center_uvd=hand["center_uvd"],
            )

    def spec(self) -> dict[str, Any]:
        """Everything the examples depend on."""
        return {
            "seed": self.seed,
            "frames": dict(self.frames()),
            "crop_size": self.track.crop_size,
            "frame_size": list(self.track.frame_size),
            "half_window_mm": self.track.half_window_mm,
            "camera": dataclasses.asdict(self.track.camera) if self.track.camera else None,
            "scene": dataclasses.asdict(self.scene),
            "sensor": dataclasses.asdict(self.sensor) if self.sensor else None,
        }

    def provenance(self) -> dict[str, Any]:
        """Nothing is known of these frames but how they are rendered, which `spec` says."""
        return {"centers": {split: {"rendered": n} for split, n in self.frames().items() if n}}


def _rendered_crop(hand: dict[str, np.ndarray], track: TrackSpec) -> Crop:
    """The renderer draws the canvas itself; only the box before clipping is still to be had."""
    assert track.camera is not None
    assert track.half_window_mm is not None
    box = np.asarray(hand["box_px"], np.float64)
    window = geometry.box_from_center(hand["center_uvd"], track.half_window_mm, track.camera)
    # The renderer works in float32: where nothing was clipped its edge is the one the canvas has.
    clipped = geometry.clip_box(window, track.frame_size) != window
    return Crop(hand["canvas"], box, np.where(clipped, window, box))


class SyntheticHand(DepthPoseBuilder, skip_registration=True):  # type: ignore[call-arg]
    """TFDS builder `synthetic_hand`."""
