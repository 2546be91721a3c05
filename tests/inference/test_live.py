"""Frames of folders, and of cameras by made-up packages; what is said where there is none."""

import sys

import numpy as np
import pytest

from a2j_jax.errors import UserError
from a2j_jax.geometry import Camera
from a2j_jax.inference.live import DEVICES, TIMES, CameraLost, camera_frames, folder_frames
from tests.data.test_recordings import RATE, STACK, write
from tests.inference import made_cameras

CAMERA = Camera(made_cameras.FX, made_cameras.FY, made_cameras.CX, made_cameras.CY)
DEPTH_MM = np.arange(600, 612, dtype=np.uint16).reshape(3, 4)


@pytest.fixture
def folder(tmp_path):
    for number in (10, 2, 0):
        np.save(tmp_path / f"{number}.npy", DEPTH_MM + number)
    return tmp_path


@pytest.mark.parametrize("name", DEVICES)
def test_a_camera_until_it_is_unplugged(monkeypatch, name):
    package, unit = DEVICES[name][0], made_cameras.UNIT_MM[DEVICES[name][0]]
    counts = [np.uint16(DEPTH_MM / unit) for _ in range(3)]
    module, calls = made_cameras.package(package, counts)
    monkeypatch.setitem(sys.modules, package, module)
    found, frames = [], camera_frames(name)
    with pytest.raises(CameraLost, match=name) as lost:
        found.extend(frames)
    assert "\n" not in str(lost.value)
    assert calls.stopped == 1
    assert [frame.time_s for frame in found] == pytest.approx([0.998, 0.999, 1.0])
    for frame in found:
        assert frame.camera == CAMERA
        np.testing.assert_allclose(frame.depth_mm, DEPTH_MM, rtol=1e-5)
        assert frame.depth_mm.dtype == (np.uint16 if unit == 1 else np.float32)


@pytest.mark.parametrize("name", DEVICES)
def test_a_camera_that_is_let_go(monkeypatch, name):
    package = DEVICES[name][0]
    module, calls = made_cameras.package(package, [DEPTH_MM] * 2)
    monkeypatch.setitem(sys.modules, package, module)
    frames = camera_frames(name)
    next(frames)
    frames.close()
    assert calls.stopped == 1


@pytest.mark.parametrize("name", DEVICES)
def test_no_camera_and_no_package(monkeypatch, name):
    package = DEVICES[name][0]
    monkeypatch.setitem(sys.modules, package, made_cameras.package(package, [])[0])
    with pytest.raises(UserError, match="no camera answers"):
        next(camera_frames(name))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"pip install 'a2j-jax\[{name}\]'"):
        next(camera_frames(name))


def test_a_package_that_cannot_be_loaded(monkeypatch, tmp_path, capsys):
    text = (
        "import sys\nprint('a long story', file=sys.stderr)\nraise ImportError('libusb is missing')"
    )
    (tmp_path / "pyk4a.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pyk4a", raising=False)
    with pytest.raises(UserError, match="libusb is missing"):
        next(camera_frames("kinect"))
    assert capsys.readouterr().err == ""


def test_a_folder_in_the_order_of_its_numbers(folder):
    found = list(folder_frames(folder, CAMERA, rate_hz=20, in_real_time=False))
    assert [int(frame.depth_mm[0, 0]) for frame in found] == [600, 602, 610]
    assert [frame.time_s for frame in found] == pytest.approx([0, 0.05, 0.1])
    assert all(frame.camera is CAMERA for frame in found)
    (frame, *_) = folder_frames(folder, CAMERA, depth_unit_mm=0.5, in_real_time=False)
    np.testing.assert_array_equal(frame.depth_mm, DEPTH_MM / 2)


def test_a_video_at_its_rate(tmp_path):
    path = write(tmp_path / "clip.mkv")
    found = list(folder_frames(path, CAMERA, in_real_time=False))
    np.testing.assert_array_equal([frame.depth_mm for frame in found], STACK)
    assert found[29].time_s == 29 / RATE
    assert next(folder_frames(write(tmp_path / "clip.npy"), CAMERA)).time_s == 0
    assert list(folder_frames(path, CAMERA, rate_hz=5, in_real_time=False))[1].time_s == 0.2


def test_a_folder_at_recorded_times(folder, monkeypatch):
    (folder / TIMES).write_text("5.0\n5.5\n7.5\n")
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    found = list(folder_frames(folder, CAMERA))
    assert [frame.time_s for frame in found] == [5.0, 5.5, 7.5]
    assert slept == pytest.approx([0.5, 2.5], abs=0.2)
    assert list(folder_frames(folder, CAMERA, rate_hz=10, in_real_time=False))[1].time_s == 0.1


@pytest.mark.parametrize("text", ["1 2", "1 2 x", "1 2 nan"])
def test_times_that_do_not_fit(folder, text):
    (folder / TIMES).write_text(text)
    with pytest.raises(UserError, match=TIMES):
        next(folder_frames(folder, CAMERA))


def test_a_broken_frame_is_left_out(folder):
    (folder / "2.npy").write_bytes(b"broken")
    found = list(folder_frames(folder, CAMERA, in_real_time=False))
    assert [frame.time_s for frame in found] == pytest.approx([0, 2 / 30])
    for file in folder.iterdir():
        file.write_bytes(b"broken")
    with pytest.raises(UserError, match="none of 3 frames"):
        next(folder_frames(folder, CAMERA))
