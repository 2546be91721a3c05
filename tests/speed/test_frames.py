"""Frames to read: rendered, written as the track's camera would, with where to look."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from a2j_jax.inference.predictor import read_frame
from a2j_jax.tools.timing import write_frames
from a2j_jax.tracks import TrackSpec, get_track


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nyu", "k2hpd"])
def test_frames_show_what_is_cropped(tmp_path: Path, name: str) -> None:
    track = get_track(name)
    files = write_frames(tmp_path, track, 2)
    assert len({file.path for file in files}) == 2
    for file in files:
        depth = read_frame(file.path, track.frame_format)
        assert depth.shape == track.frame_size[::-1]
        assert (depth > 0).mean() > 0.5  # something behind the subject, as in a room
        assert np.ptp(depth[depth > 0]) > 100
        if track.crop_by == "center":
            assert file.box_px is None
            assert file.center_uvd is not None
            _check_hand(depth, file.center_uvd, track)
        else:
            assert file.center_uvd is None
            assert file.box_px is not None
            x0, y0, x1, y1 = file.box_px
            assert x1 - x0 > 20
            assert y1 - y0 > 50


def _check_hand(depth: np.ndarray, center_uvd: np.ndarray, track: TrackSpec) -> None:
    u, v, d = center_uvd
    assert 0 <= u < track.frame_size[0]
    assert 0 <= v < track.frame_size[1]
    near = np.abs(depth - d) < 150
    rows, columns = np.nonzero(near)
    assert near.any()
    assert np.hypot(rows - v, columns - u).min() < 20


def test_other_resolutions_see_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from a2j_jax.tools import timing

    track = dataclasses.replace(get_track("itop_front"), camera=None)
    camera = timing._camera_of_bodies(track.frame_size)
    assert camera == get_track("itop_front").camera
    half = timing._camera_of_bodies((160, 120))
    assert (half.fx, half.v0) == (camera.fx / 2, camera.v0 / 2)
