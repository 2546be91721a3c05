"""Depth frames on disk to read from: rendered, so that timing needs no data set."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import numpy.typing as npt
from PIL import Image

from a2j_jax.geometry import Camera
from a2j_jax.synthetic.body_scene import XTION, BodyView
from a2j_jax.synthetic.hand_scene import HandView, SceneSpec
from a2j_jax.synthetic.scene import KINECT, View, synthetic_frame
from a2j_jax.synthetic.sensor import SensorSpec
from a2j_jax.tracks import TRACKS, TrackSpec

# A camera's frame has readings everywhere, and a file's size is what reading it takes.
_BEFORE_A_WALL = SceneSpec(wall_probability=1.0)


class FrameFile(NamedTuple):
    """A depth frame on disk and where to look in it; one of the two is None.

    Attributes:
      path: PNG, of 16-bit mm or packed as NYU's.
      center_uvd: (3,) px, px, mm, on a track that crops by centre.
      box_px: (4,) on one that crops by box.
    """

    path: Path
    center_uvd: npt.NDArray[np.float64] | None
    box_px: npt.NDArray[np.float64] | None


def write_frames(folder: Path, track: TrackSpec, count: int) -> list[FrameFile]:
    """Render hands or bodies as the track's camera would see them, before a wall, and write them.

    Args:
      folder: exists; gets `count` files.
      track: frame size, camera, file format ("nyu_packed"; PNG of 16-bit mm for all others) and what is cropped.
      count: of frames, the same ones every time.
    """
    files = []
    for number, truth in enumerate(_rendered(track, count)):
        path = folder / f"{number:04d}.png"
        depth = truth["frame"]
        if track.frame_format == "nyu_packed":
            depth = np.stack([depth * 0, depth >> 8, depth & 255], axis=-1).astype(np.uint8)
        Image.fromarray(depth).save(path)
        by_center = track.crop_by == "center"
        center, box = (truth[name].astype(np.float64) for name in ("center_uvd", "window_px"))
        files.append(FrameFile(path, center if by_center else None, None if by_center else box))
    return files


def _rendered(track: TrackSpec, count: int) -> Iterator[dict[str, np.ndarray]]:
    view: View
    sensor: SensorSpec
    if track.crop_by == "center":
        assert track.half_window_mm is not None
        view, sensor = HandView(track.half_window_mm, _BEFORE_A_WALL), KINECT
    else:
        view, sensor = BodyView(track.label_box_margin_px), XTION
    size, camera = track.frame_size, track.camera or _camera_of_bodies(track.frame_size)
    render = jax.jit(
        partial(synthetic_frame, view=view, camera=camera, frame_size=size, sensor=sensor)
    )
    for number in range(count):
        yield jax.device_get(render(jax.random.key(number)))


def _camera_of_bodies(frame_size: tuple[int, int]) -> Camera:
    """ITOP's camera at another resolution, for tracks that have joints in pixels only and name no camera."""
    known = TRACKS["itop_front"]
    assert known.camera is not None
    x, y = (new / old for new, old in zip(frame_size, known.frame_size, strict=True))
    camera = known.camera
    return dataclasses.replace(
        camera, fx=camera.fx * x, fy=camera.fy * y, u0=camera.u0 * x, v0=camera.v0 * y
    )
