"""Overlays as a video file; windows are tested with `a2j live`."""

import av
import numpy as np
import pytest

from a2j_jax.files import is_ours
from a2j_jax.inference.frames import video_file
from a2j_jax.tracks import HANDS2017
from tests.inference.test_hands import disk

JOINTS = np.random.default_rng(0).uniform(60, 120, (21, 3))


def watch(path):
    """The codec, the rate and the frames (N, H, W, 3) of a video."""
    with av.open(str(path)) as container:
        (stream,) = container.streams.video
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return stream.codec_context.name, float(stream.average_rate), np.array(frames)


@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
def test_overlays_of_frames_of_two_sizes(tmp_path, monkeypatch, codec):
    if codec == "mpeg4":
        monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    path = tmp_path / "new" / "overlay.mp4"
    with video_file(path, HANDS2017, 29.97) as add:
        add(disk(160.0)[:239, :319], JOINTS, "")  # sides of H.264 are even
        add(disk(160.0), JOINTS * np.nan, "")
        add(disk(160.0)[::2, ::2], JOINTS, "")
    found, rate, frames = watch(path)
    assert (found, rate) == (codec, pytest.approx(29.97, abs=1e-3))
    assert frames.shape == (3, 238, 318, 3)
    colorful = (frames.max(-1).astype(int) - frames.min(-1) > 50).sum(axis=(1, 2))
    assert colorful[0] > 100
    assert colorful[1] == 0
    assert colorful[2] > 100
    assert is_ours(path)


def test_a_video_keeps_time(tmp_path):
    """A frame that cannot be read is an empty picture with a note, also before the size is known."""
    path, note = tmp_path / "overlay.mp4", "clip.npy#0: truncated; copy or record it again " * 3
    with video_file(path, HANDS2017) as add:
        add(None, JOINTS[:0], note)
        add(disk(160.0), JOINTS[:0], "")
        add(None, JOINTS[:0], note)
        add(disk(160.0), JOINTS[:0], note)
    frames = watch(path)[2].astype(int)
    assert frames.shape == (4, 240, 320, 3)
    assert ((frames[[0, 2]] > 200).mean(axis=(1, 2, 3)) > 0.9).all()
    dark = (frames < 80).all(-1).sum(axis=(1, 2))
    assert min(dark[0], dark[2]) > 300
    np.testing.assert_allclose(frames[3, 120:], frames[1, 120:], atol=12)
    assert dark[3] > dark[1] + 300


@pytest.mark.parametrize("frames", [0, 1])
def test_a_video_that_is_not_finished_leaves_no_file(tmp_path, frames):
    def break_off():
        with video_file(tmp_path / "overlay.mp4", HANDS2017) as add:
            for _ in range(frames):
                add(disk(160.0), JOINTS, "")
            raise KeyError

    with pytest.raises(KeyError):
        break_off()
    assert list(tmp_path.iterdir()) == []
