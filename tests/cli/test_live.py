"""`a2j live`: the whole path from a folder, a camera that is unplugged, and lines for what is missing."""

import json
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from a2j_jax.geometry import Camera, xyz_to_uvd
from a2j_jax.inference.frames import overlay
from a2j_jax.inference.live import Rerun, SourceFrame, Window
from a2j_jax.tracks import HANDS2017
from tests.inference import made_cameras
from tests.inference.test_hands import disk

CAMERA = "300,300,160,120"


@pytest.fixture
def folder(tmp_path):
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", disk(180.0 + 5 * number).astype(np.uint16))
    np.save(tmp_path / "3.npy", np.full((240, 320), 7, np.uint8))
    return tmp_path


def lines(out: str) -> tuple[dict, list[dict], dict]:
    head, *frames, end = map(json.loads, out.splitlines())
    return head, frames, end


def test_a_folder_is_followed(a2j, checkpoints, folder):
    line = ["live", "--source", "folder", "--folder", folder, "--camera", CAMERA, "--rate", 0]
    line += ["--model", checkpoints / "synthetic_hand", "--viewer", "none", "--smooth", "--json"]
    outcome = a2j(*line)
    head, frames, end = lines(outcome.out)
    assert head["joint_names"] == list(HANDS2017.joints)
    assert [frame["time_s"] for frame in frames] == pytest.approx([0, 1 / 30, 2 / 30], abs=1e-5)
    for frame in frames:
        assert np.shape(frame["joints_xyz_mm"]) == (21, 3) == np.shape(frame["joints_uvd"])
        assert frame["milliseconds"].keys() == {"read", "find", "network", "draw"}
    assert end["frames"] == 3
    assert end["latency_ms"]["network"].keys() == {"median", "p95"}
    assert "3.npy" in outcome.err
    assert "left out" in outcome.err
    assert "8-bit values" in outcome.err
    assert f"warning: {folder}/0.npy: " in outcome.err  # of the random network's pose
    assert "median" in outcome.err
    assert len(lines(a2j(*line, "--frames", 2).out)[1]) == 2


def test_what_was_printed_is_kept_when_a_camera_is_unplugged(ended, checkpoints, monkeypatch):
    frames = [(disk(180.0) * 8).astype(np.uint16)] * 3
    module, calls = made_cameras.package("pyrealsense2", frames)
    monkeypatch.setitem(sys.modules, "pyrealsense2", module)
    monkeypatch.setattr("a2j_jax.cli.camera_commands.keep_stdout_for_results", lambda: None)
    line = ["live", "--source", "realsense", "--viewer", "none", "--json"]
    outcome = ended(*line, "--model", checkpoints / "synthetic_hand")
    assert outcome.status == 1
    assert len(lines(outcome.out)[1]) == 3
    assert lines(outcome.out)[2]["frames"] == 3
    last = outcome.err.splitlines()[-1]
    assert "the camera is gone" in last
    assert "after 3 frames" in last
    assert "Traceback" not in outcome.err
    assert calls.stopped == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("live --source folder", "--folder FOLDER"),
        ("live --source folder --folder .", "and --camera FX,FY,CX,CY"),
        ("live --source folder --folder none --camera 300,300,160,120 --viewer none", "none"),
        ("live --source realsense --folder x", "--folder goes with --source folder"),
        ("live --source realsense --camera 1,1,1,1", "--camera goes with --source folder"),
        ("live --source oak --viewer none", "a2j-jax[oak]"),
        ("live --source oak --viewer rerun", "a2j-jax[rerun]"),
        ("live --source oak --viewer window", "no window can be opened"),
    ],
)
def test_mistakes(refused, checkpoints, monkeypatch, line, said):
    for package in ("depthai", "rerun", "tkinter"):
        monkeypatch.setitem(sys.modules, package, None)
    assert said in refused(*line.split(), "--model", checkpoints / "synthetic_hand")


def test_an_overlay_has_the_joints_in_it():
    depth = disk(160.0)
    nothing = np.full((21, 3), np.nan)
    assert overlay(depth, nothing, HANDS2017).size == (320, 240)
    drawn = np.asarray(
        overlay(depth, np.random.default_rng(0).uniform(50, 200, (21, 3)), HANDS2017)
    )
    assert (drawn.max(-1) - drawn.min(-1) > 50).sum() > 100
    assert overlay(np.ones((10, 1921)), nothing, HANDS2017).size == (641, 4)


def test_a_window_shows_frames_until_it_is_closed(monkeypatch):
    calls: dict[str, Any] = {}

    class Tk:
        def __init__(self, **options: Any) -> None:
            calls.update(options)

        def protocol(self, event: str, act: Any) -> None:
            calls[event] = act

        def title(self, text: str) -> None:
            calls["title"] = text

        def update(self) -> None:
            pass

        def destroy(self) -> None:
            calls["destroyed"] = True

    class Label:
        def __init__(self, root: Tk) -> None: ...

        def pack(self) -> None: ...

        def configure(self, image: Any) -> None:
            calls["size"] = image.size

    tkinter: Any = ModuleType("tkinter")
    tkinter.Tk, tkinter.Label = Tk, Label
    pictures: Any = ModuleType("PIL.ImageTk")
    pictures.PhotoImage = lambda picture: picture
    monkeypatch.setitem(sys.modules, "tkinter", tkinter)
    monkeypatch.setitem(sys.modules, "PIL.ImageTk", pictures)
    window = Window(HANDS2017)
    frame = SourceFrame(disk(160.0), Camera(300.0, 300.0, 160.0, 120.0), 0.0)
    joints = np.full((21, 3), 100.0)
    assert window.show(frame, joints, joints, "right hand")
    assert calls["size"] == (320, 240)
    assert calls["title"] == "right hand"
    calls["WM_DELETE_WINDOW"]()
    assert not window.show(frame, joints, joints, "")
    window.close()
    assert calls["destroyed"]


@pytest.mark.parametrize("signs", [(1, -1), (-1, 1), (-1, -1)])
def test_rerun_gets_the_frame_and_the_joints_in_m(monkeypatch, signs):
    """Of a camera with mirrored axes, joints lie where rerun puts the readings at their pixels."""
    logged: list[tuple[str, Any]] = []
    rerun: Any = ModuleType("rerun")
    rerun.init = lambda name, spawn: logged.append((name, spawn))
    rerun.set_time = lambda timeline, duration: logged.append((timeline, duration))
    rerun.log = lambda path, entity: logged.append((path, entity))
    for name in ("Pinhole", "DepthImage", "Points3D", "LineStrips3D", "Clear", "TextLog"):
        kind = lambda *args, name=name, **style: SimpleNamespace(name=name, args=args, style=style)  # noqa: E731
        setattr(rerun, name, kind)
    monkeypatch.setitem(sys.modules, "rerun", rerun)
    viewer = Rerun(HANDS2017)
    camera = Camera(300.0 * signs[0], 310.0 * signs[1], 160.0, 120.0)
    frame = SourceFrame(disk(160.0), camera, 2.5)
    joints = np.tile([50.0, 100.0, 500.0], (21, 1))
    assert viewer.show(frame, xyz_to_uvd(joints, camera), joints, "text")
    assert viewer.show(frame, joints * np.nan, joints * np.nan, "text")
    entities = dict(logged[::-1])
    assert entities["a2j"] is True
    assert entities["frame"] == 2.5
    pinhole = entities["camera"].style
    assert min(pinhole["focal_length"]) > 0
    in_m = entities["hand/joints"].args[0][0]
    shown = in_m[:2] / in_m[2] * pinhole["focal_length"] + pinhole["principal_point"]
    np.testing.assert_allclose(shown, xyz_to_uvd(joints, camera)[0, :2])
    np.testing.assert_allclose(np.abs(in_m), (0.05, 0.1, 0.5))
    assert entities["hand/bones"].args[0].shape == (20, 2, 3)
    assert entities["hand"].name == "Clear"
    assert entities["camera/depth"].style == {"meter": 1000.0}
