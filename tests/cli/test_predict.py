"""`a2j predict`: joints of frames of every kind, and one line for what is no frame or no place in it."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from a2j_jax import geometry
from a2j_jax.geometry import Camera
from a2j_jax.inference.predictor import Predictor
from a2j_jax.runs.checkpoints import save_variables
from a2j_jax.tracks import get_track
from tests import tiny
from tests.cli.conftest import Command, Mistake, Refused

CENTER = "300,200,700"
BOX = "60,40,200,220"


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One scene in all the ways a frame can be stored, and things that are no frames."""
    folder = tmp_path_factory.mktemp("frames")
    rows, columns = np.mgrid[:480, :640]
    near = (rows - 200) ** 2 + (columns - 300) ** 2 < 70**2
    depth = np.where(near, 690 + (rows + columns) % 20, 2001).astype(np.uint16)
    small = depth[::2, ::2]

    np.save(folder / "depth.npy", depth)
    np.save(folder / "small.npy", small.astype(np.float64))
    Image.fromarray(depth).save(folder / "depth16.png")
    Image.fromarray((depth * 8).astype(np.uint16)).save(folder / "eighths.png")
    packed = np.stack([np.zeros_like(depth), depth // 256, depth % 256], -1).astype(np.uint8)
    Image.fromarray(packed).save(folder / "packed.png")
    Image.fromarray((depth // 8).astype(np.uint8)).save(folder / "grey8.png")
    np.save(folder / "color.npy", np.zeros((4, 5, 3)))
    np.save(folder / "blank.npy", np.zeros((480, 640), np.uint16))
    np.save(folder / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(folder / "negative.npy", -depth.astype(np.float32))
    (folder / "text.png").write_text("hello")
    (folder / "cut.png").write_bytes((folder / "depth16.png").read_bytes()[:300])
    (folder / "frame.xyz").write_text("hello")
    return folder


def joints(out: str) -> list[dict]:
    assert out.count("\n") == 1
    contents = json.loads(out)
    assert contents.keys() == {"track", "joint_names", "about", "frames"}
    names = list(get_track(contents["track"]).skeleton.joints)
    assert contents["joint_names"] == names
    for frame in contents["frames"]:
        assert len(frame["joints_uvd"]) == len(names)
    return contents["frames"]


@pytest.mark.slow
def test_a_hand_nobody_pointed_at(a2j: Command, checkpoints: Path, frames: Path) -> None:
    path = frames / "depth.npy"
    outcome = a2j("predict", checkpoints / "nyu", "--json", path)
    assert "camera of track nyu: fx 588.03, fy -587.07, cx 320, cy 240, 640x480 px" in outcome.err
    assert f"{path}: no --center or --box; found in the depth: --center 300,200,7" in outcome.err
    assert len(joints(outcome.out)) == 1


@pytest.mark.slow
def test_hands(a2j: Command, checkpoints: Path, frames: Path) -> None:
    paths = [frames / name for name in ("depth.npy", "depth16.png", "packed.png")]
    outcome = a2j(
        "predict", "--checkpoint", checkpoints / "nyu", "--depth", *paths,
        "--center", CENTER, "--json",
    )  # fmt: skip
    found = joints(outcome.out)
    assert [frame["path"] for frame in found] == [str(path) for path in paths]
    assert all(f"{path}: " in outcome.err and " ms" in outcome.err for path in paths)
    for frame in found:
        assert frame.keys() == {
            "path", "joints_uvd", "joints_xyz_mm", "confidence", "box_px", "center_uvd", "milliseconds"
        }  # fmt: skip
        assert frame["center_uvd"] == [300, 200, 700]
        assert frame["joints_uvd"] == found[0]["joints_uvd"]  # however it is stored
        assert frame["milliseconds"] > 0
    assert np.shape(found[0]["joints_uvd"]) == np.shape(found[0]["joints_xyz_mm"]) == (14, 3)
    assert np.shape(found[0]["confidence"]) == (14,)
    camera = get_track("nyu").camera
    assert camera is not None
    np.testing.assert_allclose(
        geometry.uvd_to_xyz(np.array(found[0]["joints_uvd"]), camera),
        found[0]["joints_xyz_mm"],
        atol=1e-3,
    )
    in_python = Predictor.from_checkpoint(checkpoints / "nyu")(
        np.load(paths[0]), center_uvd=[300, 200, 700]
    )
    np.testing.assert_allclose(found[0]["joints_uvd"], in_python.joints_uvd, atol=1e-4)


@pytest.mark.slow
def test_a_camera_of_ones_own(a2j: Command, checkpoints: Path, frames: Path) -> None:
    outcome = a2j(
        "predict", "--checkpoint", checkpoints / "nyu", "--depth", frames / "eighths.png",
        "--depth_unit_mm", "0.125", "--center", CENTER, "--json",
        "--fx", "476.007", "--fy", "-476.007", "--cx", "313.683", "--cy", "242.755",
    )  # fmt: skip
    frame = joints(outcome.out)[0]
    assert "camera of track" not in outcome.err
    camera = Camera(476.007, -476.007, 313.683, 242.755)
    assert json.loads(outcome.out)["about"]["track"]["camera"] == list(camera.as_array())
    xyz = geometry.uvd_to_xyz(np.array(frame["joints_uvd"]), camera)
    np.testing.assert_allclose(frame["joints_xyz_mm"], xyz, atol=1e-3)


@pytest.mark.slow
def test_bodies(a2j: Command, checkpoints: Path, frames: Path, tmp_path: Path) -> None:
    """Boxes may reach over the border; a joint of a 2D track is two numbers, and has no millimeters."""
    picture = tmp_path / "overlay.png"
    outcome = a2j(
        "predict", "--checkpoint", checkpoints / "itop_front", "--depth", frames / "small.npy",
        "--box", "-20,40,200,250", "--json", "--out", picture,
    )  # fmt: skip
    frame = joints(outcome.out)[0]
    assert np.shape(frame["joints_uvd"]) == np.shape(frame["joints_xyz_mm"]) == (15, 3)
    assert picture.read_bytes().startswith(b"\x89PNG")

    outcome = a2j(
        "predict", "--checkpoint", checkpoints / "k2hpd", "--depth", frames / "grey8.png",
        frames / "depth16.png", "--box", BOX, "--box", "200,100,400,300", "--json",
    )  # fmt: skip
    for frame in joints(outcome.out):
        assert frame.keys() == {
            "path", "joints_uvd", "confidence", "box_px", "center_uvd", "milliseconds"
        }  # fmt: skip
        assert frame["center_uvd"] is None
        assert np.shape(frame["joints_uvd"]) == (19, 2)


@pytest.mark.slow
def test_without_json_there_is_a_table(a2j: Command, checkpoints: Path, frames: Path) -> None:
    """Synthetic-trained networks read NYU's files when told whose frames they are."""
    outcome = a2j(
        "predict", "--checkpoint", checkpoints / "synthetic_hand", "--track", "nyu",
        "--depth", frames / "packed.png", "--center", CENTER,
    )  # fmt: skip
    for name in get_track("synthetic_hand").skeleton.joints:
        assert name in outcome.out


@pytest.fixture(scope="module")
def loaded(checkpoints: Path) -> Predictor:
    return Predictor.from_checkpoint(checkpoints / "nyu")


@pytest.mark.parametrize(
    ("file", "where", "said"),
    [
        ("none.png", f"--center {CENTER}", "no such file"),
        ("grey8.png", f"--center {CENTER}", "is an 8-bit gray PNG"),
        ("negative.npy", f"--center {CENTER}", "no depth is above 0"),
        ("small.npy", f"--center {CENTER} --depth_unit_mm 0.1", "holds decimal numbers"),
        ("cut.png", f"--center {CENTER}", "truncated"),
        ("text.png", f"--center {CENTER}", "not an image"),
        ("frame.xyz", f"--center {CENTER}", "not an image"),
        ("color.npy", f"--center {CENTER}", "found shape (4, 5, 3)"),
        ("objects.npy", f"--center {CENTER}", "not an array of numbers"),
        ("blank.npy", f"--center {CENTER}", "no reading at all"),
        ("depth.npy", "--center 640,200,700", "outside the 640×480 frame"),
        ("depth.npy", "--center -1,200,700", "outside the 640×480 frame"),
        ("depth.npy", "--center 300,200,0", "--center depth 0 mm"),
        ("depth.npy", "--center 300,200,0.7", "check --center and the unit"),
        ("depth.npy", "--center nan,200,700", "expected U,V,D"),
        ("depth.npy", "--box 200,40,60,220", "expected x0 < x1"),
        ("depth.npy", "--box 700,40,900,220", "covers no pixel"),
        ("depth.npy", f"--center {CENTER} --center {CENTER}", "2 --center for 1 frames"),
        ("depth.npy", "--fx 0 --fy 1 --cx 1 --cy 1", "camera fx 0, fy 1"),
        ("depth.npy", "--fx 475", "--fx without --fy --cx --cy"),
        ("depth.npy", f"--center {CENTER} --step 7", "7"),
        ("depth.npy", f"--center {CENTER} --depth_unit_mm 0", "expected a number from 0.001"),
        ("depth.npy", f"--center {CENTER} --track nuy", "did you mean 'nyu'?"),
        ("depth.npy", f"--center {CENTER} --track itop_front", "trained on track 'nyu'"),
    ],
)
def test_bad_frames_and_places(
    mistake: Mistake,
    frames: Path,
    monkeypatch: pytest.MonkeyPatch,
    loaded: Predictor,
    file: str,
    where: str,
    said: str,
) -> None:
    # Loading and compiling anew for every mistake would take most of a minute.
    real = Predictor.from_checkpoint
    monkeypatch.setattr(
        Predictor,
        "from_checkpoint",
        lambda run, step: loaded if step == "best" else real(run, step=step),
    )
    line = f"predict --checkpoint CHECKPOINTS/nyu --depth {frames / file} {where}"
    mistake(f"{line} --json --out overlay.png", said)


@pytest.mark.slow
def test_color_where_depth_is_expected(mistake: Mistake, frames: Path) -> None:
    line = f"predict --checkpoint CHECKPOINTS/itop_front --depth {frames / 'packed.png'}"
    assert "--track nyu" in mistake(f"{line} --box {BOX}", "8-bit RGB PNG")


def test_run_and_frames_are_looked_for_before_the_network_is_loaded(
    refused: Refused, frames: Path
) -> None:
    assert "no checkpoint; expected a2j predict RUN FRAME" in refused("predict")
    assert "no checkpoint" in refused("predict", "--depth", "f.png", "--center", "1,2,3")
    assert "no frames; expected a2j predict RUN FRAME" in refused("predict", "runs/mine")
    assert "no frames" in refused("predict", "--checkpoint", "runs/mine")
    depth, missing = frames / "depth.npy", frames / "none.npy"
    message = refused("predict", "--checkpoint", "none", "--depth", depth, missing)
    assert f"{missing}: no such file" in message
    assert "checkpoint folder not found: none" in refused("predict", "none", depth)


@pytest.mark.slow
def test_a_folder_of_frames(a2j: Command, checkpoints: Path, frames: Path, tmp_path: Path) -> None:
    for name in ("b.png", "a.PNG", "._a.PNG"):
        (tmp_path / name).write_bytes((frames / "depth16.png").read_bytes())
    centers = ["--center", CENTER, "--center", "310,200,700"]
    outcome = a2j("predict", checkpoints / "nyu", tmp_path, *centers, "--json")
    found = joints(outcome.out)
    assert [frame["path"] for frame in found] == [str(tmp_path / n) for n in ("a.PNG", "b.png")]
    assert [frame["center_uvd"][0] for frame in found] == [300, 310]


def test_a_network_that_answers_nan(refused: Refused, frames: Path, tmp_path: Path) -> None:
    broken = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), tiny.variables("nyu"))
    save_variables(tmp_path / "broken", broken, tiny.config(track="nyu"))
    message = refused(
        "predict", "--checkpoint", tmp_path / "broken", "--depth", frames / "depth.npy",
        "--center", CENTER, "--json",
    )  # fmt: skip
    assert "depth.npy: the network predicts numbers that are not finite" in message
