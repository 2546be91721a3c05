"""Files of many frames: every kind gives the same ones, one at a time, and damage costs the frames that it hits."""

import sys

import av
import numpy as np
import pytest
from PIL import Image

from a2j_jax.data.recordings import (
    count_frames,
    depth_frames,
    open_recording,
    open_recordings,
)
from a2j_jax.errors import UnreadableFrame, UserError
from tests.data.made_files import changed

RATE = 10
STACK = (700 + np.random.default_rng(0).integers(0, 90, (30, 24, 32))).astype(np.uint16)


def write_video(path, frames, codec="ffv1", pixels="gray16le", **options):
    """Writes a video of these frames, (N, H, W) or (N, H, W, 3), at `RATE`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels
        kind = "rgb24" if frames.ndim == 4 else pixels
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format=kind)))
        container.mux(stream.encode(None))
    return path


def write(path):
    """`STACK` as a file of this name."""
    if path.suffix == ".npy":
        np.save(path, STACK)
    elif path.suffix == ".tiff":
        first, *others = map(Image.fromarray, STACK)
        first.save(path, save_all=True, append_images=others)
    else:
        write_video(path, STACK, g="5")
    return path


def read(path):
    """The frames of a file: depth, or an error."""
    return [found for _, found in depth_frames(path)]


@pytest.mark.parametrize(
    ("name", "rate", "kind"),
    [
        ("clip.npy", None, "uint16 .npy"),
        ("clip.tiff", None, "16-bit TIFF"),
        ("clip.mkv", RATE, "16-bit FFV1 video"),
        ("clip.avi", RATE, "16-bit FFV1 video"),
    ],
)
def test_every_kind_gives_the_frames_as_they_were(tmp_path, name, rate, kind):
    path = write(tmp_path / name)
    recording = open_recording(path)
    assert recording is not None
    assert (recording.count, recording.rate_hz) == (30, rate)
    names, found = zip(*depth_frames(recording, depth_unit_mm=0.5), strict=True)
    assert names[::29] == (f"{path}#0", f"{path}#29")
    np.testing.assert_array_equal([frame.depth for frame in found], STACK / 2)
    assert found[0].description == f"{kind}, 0.5 mm per count"


@pytest.mark.parametrize("name", ["clip.npy", "clip.tiff", "clip.mkv", "clip.avi"])
def test_a_recording_that_is_cut_off(tmp_path, name):
    """What is there is read, and then an error says that frames are missing."""
    path = write(tmp_path / name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    *found, error = read(path)
    if isinstance(found[-1], UnreadableFrame):
        found.pop()  # half a frame
    assert 10 <= len(found) < 20
    np.testing.assert_array_equal([frame.depth for frame in found], STACK[: len(found)])
    assert isinstance(error, UnreadableFrame)
    assert "truncated" in error.reason
    assert str(error).startswith(f"{path}#1")


def test_a_damaged_frame_of_a_video(tmp_path):
    """FFmpeg alone would show the frame before in its place, and in that of the frames that build on it."""
    path = write(tmp_path / "clip.mkv")
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 255
    path.write_bytes(contents)
    found = read(path)
    assert len(found) == 30
    broken = [number for number, frame in enumerate(found) if isinstance(frame, UnreadableFrame)]
    assert 1 <= len(broken) <= 5
    assert all("damaged frame" in found[number].reason for number in broken)
    for number in set(range(30)) - set(broken):
        np.testing.assert_array_equal(found[number].depth, STACK[number])


def test_videos_without_depth(tmp_path):
    color = np.zeros((3, 24, 32, 3), np.uint8)
    for made, said in (
        (
            write_video(tmp_path / "a.mp4", color, "mpeg4", "yuv420p"),
            "8-bit video (mpeg4, yuv420p)",
        ),
        (
            write_video(tmp_path / "b.mkv", color[..., 0], "ffv1", "gray"),
            "8-bit video (ffv1, gray)",
        ),
        (write_video(tmp_path / "c.mkv", STACK[:3], "jpeg2000"), "with loss (jpeg2000, gray16le)"),
    ):
        with pytest.raises(UnreadableFrame, match="record FFV1") as error:
            open_recording(made)
        assert said in str(error.value)
        assert open_recordings([made], keep_damaged=True) == [made]
        (refused,) = read(made)
        assert str(refused) == str(error.value)


def test_depth_beside_color_of_a_recorder_that_was_killed(tmp_path):
    """Several videos in a file, and no duration in its header."""
    path = tmp_path / "kinect.mkv"
    with av.open(str(path), "w", options={"live": "1"}) as container:
        color, depth = (container.add_stream("ffv1", rate=RATE) for _ in range(2))
        for stream, pixels in ((color, "gray"), (depth, "gray12le")):
            stream.height, stream.width, stream.pix_fmt = 24, 32, pixels
        for frame in STACK[:4]:
            gray = av.VideoFrame.from_ndarray(frame.astype(np.uint8), format="gray")
            container.mux(color.encode(gray))
            container.mux(depth.encode(av.VideoFrame.from_ndarray(frame, format="gray12le")))
    recording = open_recording(path)
    assert recording is not None
    assert recording.count == 4
    found = read(path)
    np.testing.assert_array_equal([frame.depth for frame in found], STACK[:4])
    assert found[0].description == "12-bit FFV1 video, 1 mm per count"


def test_without_the_library_of_videos(tmp_path, monkeypatch):
    path = write(tmp_path / "clip.mkv")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"pip install 'a2j-jax\[video\]'"):
        open_recordings([path], keep_damaged=True)


def test_single_frames_are_no_recordings(tmp_path):
    np.save(tmp_path / "one.npy", STACK[0])
    Image.fromarray(STACK[0]).save(tmp_path / "one.tiff")
    np.save(tmp_path / "text.npy", np.full((2, 3, 4), "x"))
    paths = [tmp_path / name for name in ("one.npy", "one.tiff", "text.npy", "gone.mkv")]
    assert open_recordings(paths) == paths
    assert count_frames([*paths, open_recording(write(tmp_path / "clip.npy"))]) == 34
    for path in paths[:2]:
        assert [name for name, _ in depth_frames(path)] == [str(path)]
    np.save(tmp_path / "columns.npy", np.asfortranarray(STACK))
    with pytest.raises(UnreadableFrame, match="ascontiguousarray"):
        open_recording(tmp_path / "columns.npy")


@pytest.mark.parametrize("name", ["clip.npy", "clip.tiff", "clip.mkv", "clip.avi"])
def test_damage_is_never_more_than_an_error(tmp_path, name):
    path, rng = write(tmp_path / name), np.random.default_rng(1)
    contents = path.read_bytes()
    for _ in range(20):
        path.write_bytes(changed(contents, rng))
        for found in read(path):
            assert isinstance(found, UserError) or found.depth.ndim == 2
