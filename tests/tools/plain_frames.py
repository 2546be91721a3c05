"""Frames that take no rendering: noise before the camera, and where to look in it."""

from pathlib import Path

import numpy as np
from PIL import Image

from a2j_jax.tools.speed import FrameFile
from a2j_jax.tracks import TrackSpec


def write_frames(folder: Path, track: TrackSpec, count: int) -> list[FrameFile]:
    """As `a2j_jax.tools.speed.write_frames`, of 16-bit mm whatever the track."""
    width, height = track.frame_size
    depth = np.random.default_rng(0).integers(600, 900, (height, width), np.uint16)
    files = []
    for number in range(count):
        path = folder / f"{number}.png"
        Image.fromarray(depth).save(path)
        center, box = np.array([width / 2, height / 2, 750.0]), np.array([20.0, 20.0, 90.0, 90.0])
        by_center = track.crop_by == "center"
        files.append(FrameFile(path, center if by_center else None, None if by_center else box))
    return files
