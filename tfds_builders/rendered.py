"""Rendered hands and bodies (`a2j_jax.synthetic`): exact labels, no download.

The simplest reader, a template for others. Example i of a split depends on (seed, split, i) alone, so a
larger build of the same seed begins with the frames of a smaller one.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from a2j_jax.config import Scenes
from a2j_jax.data.crops import Crop, Example
from a2j_jax.errors import UserError
from a2j_jax.synthetic.render import KINECT, SHIFTED_SENSORS, XTION, SensorMix, SensorSpec
from a2j_jax.synthetic.views import (
    FRONT,
    SHIFTED,
    TOP,
    VARIED,
    BodyView,
    HandView,
    RoomSpec,
    SceneSpec,
    generate,
)
from a2j_jax.tracks import TrackSpec
from tfds_builders.writer import Job, make_example

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
      scenes: what the view and the sensor are called, for the spec.
    """

    track: TrackSpec
    train: int
    validation: int
    test: int
    view: HandView | BodyView
    sensor: SensorSpec | SensorMix | None
    seed: int = 0
    scenes: Scenes = "plain"

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
        """Everything the examples depend on.

        What a data set has none of is left out: those that were built before it existed are the same.
        """
        view = dataclasses.asdict(self.view)
        view.pop("without_hand", None)  # no data set has such scenes
        found: dict[str, Any] = {
            "seed": self.seed,
            "frames": dict(self.frames()),
            "crop_size": self.track.crop_size,
            "frame_size": list(self.track.frame_size),
            "camera": dataclasses.asdict(self.track.camera) if self.track.camera else None,
            **view,
            "sensor": dataclasses.asdict(self.sensor) if self.sensor else None,
        }
        if self.scenes == "plain":
            _leave_out_defaults(found["scene"], SceneSpec(), ("hand", "props"))
            _leave_out_defaults(found["sensor"] or {}, SensorSpec(), _EFFECTS)
            return found
        return {**found, "scenes": self.scenes}

    def provenance(self) -> dict[str, Any]:
        """See `tfds_builders.writer.Reader`; how the frames are rendered is in `spec`."""
        return {"centers": {split: {"rendered": n} for split, n in self.frames().items() if n}}


# Fields of a sensor that have no effect by default.
_EFFECTS = (
    *("effects", "pixel_px", "shadow_mm_px", "flying_px", "fatten_px"),
    *("offset_mm", "bias_mm", "bias_px"),
)


def _leave_out_defaults(values: dict[str, Any], defaults: Any, names: Iterable[str]) -> None:
    """Takes out of `values` those of these names that have the value of a default dataclass."""
    for name in names:
        if values.get(name) == dataclasses.asdict(defaults).get(name):
            values.pop(name, None)


# Track -> the room that its bodies are in; None: hands. These frames are rendered here: nothing has to be downloaded.
_ROOMS: dict[str, RoomSpec | None] = {
    "synthetic_hand": None,
    "synthetic_body": FRONT,
    "synthetic_body_top": TOP,
}
EMBEDDED = tuple(_ROOMS)
# Of hands: the scenes, and what sees them.
_HANDS: dict[Scenes, tuple[SceneSpec, SensorSpec | SensorMix]] = {
    "plain": (SceneSpec(), KINECT),
    "varied": (VARIED, SensorMix()),
    "shifted": (SHIFTED, SHIFTED_SENSORS),
}


def reader_for(
    track: TrackSpec,
    *,
    train: int,
    validation: int,
    test: int,
    seed: int = 0,
    scenes: Scenes = "plain",
) -> SyntheticReader:
    """The reader of an embedded track with so many frames of each split.

    Raises:
      UserError: the track does not have these scenes.
    """
    room = _ROOMS[track.name]
    view: HandView | BodyView
    sensor: SensorSpec | SensorMix
    if room is None:
        assert track.half_window_mm is not None
        scene, sensor = _HANDS[scenes]
        view = HandView(track.half_window_mm, scene)
    elif scenes == "plain":
        view, sensor = BodyView(track.label_box_margin_px, room), XTION
    else:
        raise UserError(
            f"track {track.name!r} has no {scenes} scenes; use synthetic_hand, or plain"
        )
    return SyntheticReader(track, train, validation, test, view, sensor, seed, scenes)
