"""Rendered hands and bodies (`a2j_jax.synthetic`): exact labels, no download.

The simplest reader, a template for others. Example i of a split depends on (seed, split, i) alone, so a
larger build of the same seed begins with the frames of a smaller one.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from a2j_jax.data.crops import Crop, Example
from a2j_jax.synthetic.render import SensorSpec
from a2j_jax.synthetic.scene import KINECT, generate
from a2j_jax.synthetic.views import FRONT, TOP, XTION, BodyView, HandView, RoomSpec
from a2j_jax.tracks import TrackSpec
from tfds_builders.shards import Job, make_example

# Splits draw from disjoint ranges of scene numbers, far apart, so that none moves when another
# grows.
_FIRST_SCENE = {"train": 0, "validation": 1 << 30, "test": 1 << 31}


@dataclasses.dataclass(frozen=True)
class SyntheticReader:
    """Renders the frames it is asked for.

    Attributes:
      track: camera, frame and crop of the examples.
      train, validation, test: frames per split.
      view: the scene, and how it is cropped.
      sensor: how the camera measures it; None: without error.
      seed: of everything random.
    """

    track: TrackSpec
    train: int
    validation: int
    test: int
    view: HandView | BodyView
    sensor: SensorSpec | None
    seed: int = 0

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
        rendered = generate(
            self.seed,
            range(first + indices.start, first + indices.stop),
            view=self.view,
            camera=track.camera,
            frame_size=track.frame_size,
            crop_size=track.crop_size,
            margin=track.margin,
            unit_mm=track.storage_unit_mm,
            sensor=self.sensor,
        )
        for index, frame in zip(indices, rendered, strict=True):
            box, window = (np.asarray(frame[name], np.float64) for name in ("box_px", "window_px"))
            yield make_example(
                track,
                index=index,
                frame_id=f"{split}/{index:06d}",
                crop=Crop(frame["canvas"], box, window),
                joints_uvd=frame["joints_uvd"],
                center_uvd=frame["center_uvd"] if track.crop_by == "center" else None,
            )

    def spec(self) -> dict[str, Any]:
        """Everything the examples depend on."""
        return {
            "seed": self.seed,
            "frames": dict(self.frames()),
            "crop_size": self.track.crop_size,
            "frame_size": list(self.track.frame_size),
            "camera": dataclasses.asdict(self.track.camera) if self.track.camera else None,
            **dataclasses.asdict(self.view),
            "sensor": dataclasses.asdict(self.sensor) if self.sensor else None,
        }

    def provenance(self) -> dict[str, Any]:
        """See `tfds_builders.base.Reader`; how the frames are rendered is in `spec`."""
        return {"centers": {split: {"rendered": n} for split, n in self.frames().items() if n}}


# Track -> the room that its bodies are in; None: hands. These frames are rendered here: nothing has to be downloaded.
_ROOMS: dict[str, RoomSpec | None] = {
    "synthetic_hand": None,
    "synthetic_body": FRONT,
    "synthetic_body_top": TOP,
}
EMBEDDED = tuple(_ROOMS)


def reader_for(
    track: TrackSpec, *, train: int, validation: int, test: int, seed: int = 0
) -> SyntheticReader:
    """The reader of an embedded track with so many frames of each split."""
    room = _ROOMS[track.name]
    view: HandView | BodyView
    if room is None:
        assert track.half_window_mm is not None
        view, sensor = HandView(track.half_window_mm), KINECT
    else:
        view, sensor = BodyView(track.label_box_margin_px, room), XTION
    return SyntheticReader(track, train, validation, test, view, sensor, seed)
