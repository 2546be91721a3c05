"""`a2j predict`: joints of frames of every kind, and one line for what is no frame or no place in it."""

import csv
import io
import json
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from a2j_jax import geometry
from a2j_jax.errors import UserError
from a2j_jax.geometry import Camera
from a2j_jax.inference.hands import HandModel
from a2j_jax.inference.predictor import Predictor
from a2j_jax.runs.checkpoints import save_variables
from a2j_jax.tracks import get_track
from tests import tiny
from tests.data.test_recordings import RATE, write_video
from tests.inference.test_hands import disk
from tests.inference.test_video import watch

CENTER = "300,200,700"
BOX = "60,40,200,220"
KEYS = {
    *("path", "joints_uvd", "joints_xyz_mm", "confidence", "box_px", "center_uvd"),
    *("milliseconds", "warning"),
}


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
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
    (folder / "text.png").write_text("hello")
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
def test_a_hand_nobody_pointed_at(a2j, checkpoints, frames):
    path = frames / "depth.npy"
    outcome = a2j("predict", checkpoints / "nyu", "--json", path)
    assert "camera of track nyu: fx 588.03, fy -587.07, cx 320, cy 240, 640x480 px" in outcome.err
    assert f"{path}: no --center or --box; found in the depth: --center 300,200,7" in outcome.err
    assert len(joints(outcome.out)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--runtime", "openvino"]])
def test_an_exported_file(a2j, refused, checkpoints, frames, tmp_path, options):
    """Its joints are the checkpoint's, with the size of frames that it was exported for."""
    a2j("export", checkpoints / "nyu", tmp_path / "hand.onnx")
    asked = [frames / "packed.png", "--center", CENTER, "--json"]
    theirs = a2j("predict", tmp_path / "hand.onnx", *asked, *options)
    ours = a2j("predict", checkpoints / "nyu", *asked)
    assert f"run by {options[-1] if options else 'onnxruntime'}" in theirs.err
    (found,), (wanted,) = joints(theirs.out), joints(ours.out)
    np.testing.assert_allclose(found["joints_xyz_mm"], wanted["joints_xyz_mm"], atol=2e-2)
    assert found["box_px"] == wanted["box_px"]
    assert "--step: " in refused("predict", tmp_path / "hand.onnx", *asked, "--step", "5")


@pytest.mark.slow
def test_hands(a2j, checkpoints, frames):
    paths = [frames / name for name in ("depth.npy", "depth16.png", "packed.png")]
    named = " ".join(map(str, paths))
    outcome = a2j(f"predict {checkpoints}/nyu --depth {named} --center {CENTER} --json")
    found = joints(outcome.out)
    assert [frame["path"] for frame in found] == [str(path) for path in paths]
    assert all(f"{path}: " in outcome.err and " ms" in outcome.err for path in paths)
    for frame in found:
        assert frame.keys() == KEYS
        assert frame["center_uvd"] == [300, 200, 700]
        assert frame["joints_uvd"] == found[0]["joints_uvd"]  # however it is stored
        assert frame["milliseconds"] > 0
    assert np.shape(found[0]["joints_uvd"]) == np.shape(found[0]["joints_xyz_mm"]) == (14, 3)
    assert np.shape(found[0]["confidence"]) == (14,)
    camera = get_track("nyu").camera
    assert camera is not None
    xyz = geometry.uvd_to_xyz(np.array(found[0]["joints_uvd"]), camera)
    np.testing.assert_allclose(found[0]["joints_xyz_mm"], xyz, atol=1e-3)
    network = Predictor.from_checkpoint(checkpoints / "nyu")
    in_python = network(np.load(paths[0]), center_uvd=[300, 200, 700])
    np.testing.assert_allclose(found[0]["joints_uvd"], in_python.joints_uvd, atol=1e-4)


@pytest.mark.slow
def test_a_camera_of_ones_own(a2j, checkpoints, frames):
    own = "--depth_unit_mm 0.125 --fx 476.007 --fy -476.007 --cx 313.683 --cy 242.755"
    line = f"predict {checkpoints}/nyu {frames}/eighths.png --center {CENTER} --json"
    outcome = a2j(f"{line} {own}")
    frame = joints(outcome.out)[0]
    assert "camera of track" not in outcome.err
    camera = Camera(476.007, -476.007, 313.683, 242.755)
    assert json.loads(outcome.out)["about"]["track"]["camera"] == list(camera.as_array())
    xyz = geometry.uvd_to_xyz(np.array(frame["joints_uvd"]), camera)
    np.testing.assert_allclose(frame["joints_xyz_mm"], xyz, atol=1e-3)


@pytest.mark.slow
def test_bodies(a2j, checkpoints, frames, tmp_path):
    """Boxes may reach over the border; a joint of a 2D track is two numbers, and has no millimeters."""
    picture = tmp_path / "overlay.png"
    line = f"predict {checkpoints}/itop_front {frames}/small.npy --box -20,40,200,250"
    outcome = a2j(f"{line} --json --out {picture}")
    frame = joints(outcome.out)[0]
    assert np.shape(frame["joints_uvd"]) == np.shape(frame["joints_xyz_mm"]) == (15, 3)
    assert picture.read_bytes().startswith(b"\x89PNG")

    line = f"predict {checkpoints}/k2hpd {frames}/grey8.png {frames}/depth16.png --json"
    outcome = a2j(f"{line} --box {BOX} --box 200,100,400,300")
    for frame in joints(outcome.out):
        assert frame.keys() == KEYS - {"joints_xyz_mm"}
        assert frame["center_uvd"] is None
        assert np.shape(frame["joints_uvd"]) == (19, 2)


@pytest.mark.slow
def test_without_json_there_is_a_table(a2j, checkpoints, frames):
    """Synthetic-trained networks read NYU's files when told whose frames they are."""
    line = f"predict {checkpoints}/synthetic_hand {frames}/packed.png --track nyu"
    outcome = a2j(f"{line} --center {CENTER}")
    for name in get_track("synthetic_hand").skeleton.joints:
        assert name in outcome.out


@pytest.fixture(scope="module")
def loaded(checkpoints):
    return Predictor.from_checkpoint(checkpoints / "nyu")


@pytest.mark.parametrize(
    ("file", "where", "said"),
    [
        ("none.png", f"--center {CENTER}", "no such file"),
        ("small.npy", f"--center {CENTER} --depth_unit_mm 0.1", "holds decimal numbers"),
        ("text.png", f"--center {CENTER}", "not an image"),
        ("depth.npy", "--center 640,200,700", "outside the 640×480 frame"),
        ("depth.npy", "--center 300,200,0", "--center depth 0 mm"),
        ("depth.npy", "--center 300,200,0.7", "check --center and the unit"),
        ("depth.npy", "--center nan,200,700", "expected U,V,D"),
        ("depth.npy", "--box 200,40,60,220", "expected x0 < x1"),
        ("depth.npy", f"--center {CENTER} --center {CENTER}", "2 --center for 1 frames"),
        ("depth.npy", "--fx 0 --fy 1 --cx 1 --cy 1", "camera fx 0, fy 1"),
        ("depth.npy", "--fx 475", "--fx without --fy --cx --cy"),
        ("depth.npy", f"--center {CENTER} --step 7", "7"),
        ("depth.npy", f"--center {CENTER} --depth_unit_mm 0", "expected a number from 0.001"),
        ("depth.npy", f"--center {CENTER} --track nuy", "did you mean 'nyu'?"),
        ("depth.npy", f"--center {CENTER} --track itop_front", "trained on track 'nyu'"),
    ],
)
def test_bad_frames_and_places(mistake, frames, monkeypatch, loaded, file, where, said):
    # Loading and compiling anew for every mistake would take most of a minute.
    real = Predictor.from_checkpoint
    pick = lambda run, step, runtime: loaded if step == "best" else real(run, step=step)  # noqa: E731
    monkeypatch.setattr(Predictor, "from_checkpoint", pick)
    line = f"predict --checkpoint CHECKPOINTS/nyu --depth {frames / file} {where}"
    mistake(f"{line} --json --out overlay.png", said)


@pytest.mark.slow
def test_color_where_depth_is_expected(mistake, frames):
    line = f"predict --checkpoint CHECKPOINTS/itop_front --depth {frames / 'packed.png'}"
    assert "--track nyu" in mistake(f"{line} --box {BOX}", "8-bit RGB PNG")


def test_run_and_frames_are_looked_for_before_the_network_is_loaded(refused, frames):
    assert "no checkpoint; expected a2j predict RUN FRAME" in refused("predict")
    assert "no checkpoint" in refused("predict", "--depth", "f.png", "--center", "1,2,3")
    assert "no frames; expected a2j predict RUN FRAME" in refused("predict", "runs/mine")
    assert "no frames" in refused("predict", "--checkpoint", "runs/mine")
    assert "no frames" in refused("predict", "--model", "hand-small")
    depth, missing = frames / "depth.npy", frames / "none.npy"
    assert "'hand-smal'; did you mean" in refused("predict", "--model", "hand-smal", depth)
    model = ["predict", "--model", "hand-small", depth]
    assert "--step goes with a RUN" in refused(*model, "--step", "7")
    assert "one of the two" in refused(*model, "--camera", "1,1,1,1", "--fx", "1")
    assert "go with --model" in refused("predict", "none", depth, "--tips", "skin")
    message = refused("predict", "--checkpoint", "none", "--depth", depth, missing)
    assert f"{missing}: no such file" in message
    assert "checkpoint folder not found: none" in refused("predict", "none", depth)


@pytest.mark.slow
def test_a_folder_of_frames(a2j, checkpoints, frames, tmp_path):
    for name in ("b.png", "a.PNG", "._a.PNG"):
        (tmp_path / name).write_bytes((frames / "depth16.png").read_bytes())
    centers = ["--center", CENTER, "--center", "310,200,700"]
    outcome = a2j("predict", checkpoints / "nyu", tmp_path, *centers, "--json")
    found = joints(outcome.out)
    assert [frame["path"] for frame in found] == [str(tmp_path / n) for n in ("a.PNG", "b.png")]
    assert [frame["center_uvd"][0] for frame in found] == [300, 310]


def test_a_network_that_answers_nan(refused, frames, tmp_path):
    broken = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), tiny.variables("nyu"))
    save_variables(tmp_path / "broken", broken, tiny.config(track="nyu"))
    message = refused(f"predict {tmp_path}/broken {frames}/depth.npy --center {CENTER} --json")
    assert "depth.npy: the network predicts numbers that are not finite" in message


def test_hands_with_the_weights_that_ship(a2j, frames, tmp_path):
    """One broken frame among others is left out and listed, if asked for."""
    folder = tmp_path / "recording"
    folder.mkdir()
    for name in ("depth16.png", "small.npy", "text.png"):
        (folder / name).write_bytes((frames / name).read_bytes())
    line = f"predict --model hand-small {folder} --camera 588,587,320,240 --hand right --json"
    outcome = a2j(f"{line} --on_bad_frame skip")
    contents = json.loads(outcome.out)
    (skipped,) = contents["skipped"]
    assert skipped["path"].endswith("text.png")
    assert "1 of 3 frames left out" in outcome.err
    full, _ = contents["frames"]
    of_hands = {"hand", "score", "handedness", "handedness_probability", "expected_error_mm"}
    assert full.keys() == {*KEYS, *of_hands}
    assert (full["handedness"], full["handedness_probability"]) == ("right", 1)
    assert "right hand, score" in outcome.err
    assert "principal point 320,240 lies outside" in outcome.err  # of the smaller frame
    assert contents["about"]["centers"] == {"depth": 2}


DISKS = "predict --model disks --camera 300,300,160,120"


def test_csv_has_a_row_for_each_frame_and_joint(a2j, refused, disks, tmp_path):
    for u in (100, 140):
        np.save(tmp_path / f"{u}.npy", disk(u))
    outcome = a2j(f"{DISKS} {tmp_path} --csv")
    rows = list(csv.DictReader(io.StringIO(outcome.out)))
    frames = json.loads(a2j(f"{DISKS} {tmp_path} --json").out)["frames"]
    assert [(row["path"], row["frame"]) for row in rows[20:22]] == [
        (frames[0]["path"], "0"),
        (frames[1]["path"], "1"),
    ]
    numbers = [[float(row[name]) for name in ("x_mm", "y_mm", "z_mm")] for row in rows]
    expected = np.concatenate([frame["joints_xyz_mm"] for frame in frames])
    np.testing.assert_allclose(numbers, expected, atol=1e-3)
    assert {row["score"] for row in rows} == {str(frame["score"]) for frame in frames}
    assert "not allowed with" in refused(f"{DISKS} {tmp_path} --json --csv")


def middles(out: str) -> list[float]:
    """The mean u of each frame's joints."""
    return [np.mean(frame["joints_uvd"], axis=0)[0] for frame in json.loads(out)["frames"]]


def test_a_hand_is_followed_through_a_video_and_not_through_a_folder(a2j, disks, tmp_path):
    """A nearer disk appears beside it."""
    both = np.minimum(disk(140), disk(260, depth=580))
    sequence = np.array([disk(100), disk(120), both], np.uint16)
    video = write_video(tmp_path / "clip.mkv", sequence)
    (tmp_path / "folder").mkdir()
    for number, frame in enumerate(sequence):
        np.save(tmp_path / "folder" / f"{number}.npy", frame)
    outcome = a2j(f"{DISKS} {video} --json")
    assert "clip.mkv#0: 16-bit FFV1 video, 1 mm per count" in outcome.err
    assert [f["path"] for f in joints(outcome.out)] == [f"{video}#{number}" for number in range(3)]
    np.testing.assert_allclose(middles(outcome.out), (100, 120, 140), atol=5)
    folder = a2j(f"{DISKS} {tmp_path}/folder --json").out
    np.testing.assert_allclose(middles(folder), (100, 120, 260), atol=5)
    near = a2j(f"{DISKS} {video} --center 260,120,580 --json").out
    assert middles(near)[2] == pytest.approx(260, abs=5)


def test_several_hands_in_frames_and_in_a_recording(a2j, refused, disks, tmp_path):
    """Each has a number, which stays in a recording; a frame without hands has no rows."""
    both, none = np.minimum(disk(80), disk(250, depth=620)), np.full((240, 320), 1500)
    frames = np.array([both, np.minimum(disk(90), disk(240, depth=620)), none], np.uint16)
    np.save(tmp_path / "clip.npy", frames)
    outcome = a2j(f"{DISKS} {tmp_path}/clip.npy --hands 2 --json")
    found = json.loads(outcome.out)["frames"]
    places = {
        (one["path"][-1], one["hand"]): np.mean(one["joints_uvd"], axis=0)[0] for one in found
    }
    first = min((0, 1), key=lambda hand: places["0", hand])
    expected = {("0", first): 80, ("1", first): 90, ("0", 1 - first): 250, ("1", 1 - first): 240}
    assert places == pytest.approx(expected, abs=5)
    assert "no hand in 1 of 3 frames" in outcome.err
    np.save(tmp_path / "frame.npy", frames[0])
    table = a2j(f"{DISKS} {tmp_path}/frame.npy --hands 2 --csv").out
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [row["hand"] for row in rows[20:22]] == ["0", "1"]
    assert rows[0]["expected_error_mm"] == ""
    out = tmp_path / "both.mp4"
    a2j(f"{DISKS} {tmp_path}/clip.npy --hands 2 --out {out}")
    colorful = np.ptp(watch(out)[2].astype(int), axis=-1) > 50
    sides = [[one[:, :160].any(), one[:, 160:].any()] for one in colorful]
    assert sides == [[True, True], [True, True], [False, False]]
    np.save(tmp_path / "none.npy", frames[2])
    assert "no hand in any of 1 frames" in refused(f"{DISKS} {tmp_path}/none.npy --hands 2")
    assert "--hands with" in refused(f"{DISKS} {tmp_path}/none.npy --hands 2 --center 9,9,600")


def test_frames_of_an_unknown_camera_and_of_another_size(a2j, disks, tmp_path):
    """One warning each."""
    np.save(tmp_path / "frame.npy", disk(100))
    line = f"predict --model disks {tmp_path}/frame.npy --hand right"
    outcome = a2j(line)
    assert outcome.err.count("warning: no --camera, taken for that of track synthetic_hand") == 1
    assert outcome.err.count("principal point") == 1
    for camera in ("600,600,320,240", "150,150,80,60"):
        outcome = a2j(f"{line} --camera {camera}")
        assert "no --camera" not in outcome.err
    assert "warning: no --camera" not in a2j("predict --model disks --example").err


def test_two_hands_where_one_was_asked_for(a2j, disks, tmp_path):
    both = np.minimum(disk(80), disk(250))
    np.save(tmp_path / "clip.npy", np.array([both, both], np.uint16))
    outcome = a2j(f"{DISKS} {tmp_path}/clip.npy --json")
    assert outcome.err.count("clip.npy#0: another hand is in view") == 1
    assert "--hands 2" in outcome.err
    assert "another hand" not in a2j(f"{DISKS} {tmp_path}/clip.npy --json --hands 2").err


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros((240, 320), np.uint16), "no reading at all"),
        (np.full((240, 320), np.nan), "no reading at all"),
        (np.full((240, 320), 65535, np.uint16), "saturated"),
        (-disk(100), "no depth is above 0"),
        (disk(100) / 1000, "are these meters"),
        ((disk(100) / 1000).astype(np.uint16), "are these meters"),
        (disk(100).astype(np.uint8), "8-bit values"),
        (np.ones((240, 320, 3), np.uint16), "color picture"),
    ],
)
def test_arrays_that_are_no_depth_in_mm(refused, disks, tmp_path, values, said):
    np.save(tmp_path / "frame.npy", values)
    assert said in refused(f"{DISKS} {tmp_path}/frame.npy")


def test_a_frame_that_cannot_be_used_changes_no_number(a2j, disks, tmp_path, monkeypatch):
    """Nor does another hand that scores better then. Warnings name the frame."""
    depths = [(600, 640), (610, 630), (640, 600), (640, 600)]
    frames = [np.minimum(disk(80, depth=a), disk(250, depth=b)) for a, b in depths]
    np.save(tmp_path / "clip.npy", np.array(frames, np.uint16))
    check = HandModel._checked

    def refuse(hand, depth, camera):
        if (depth == frames[1].astype(np.uint16)).all():
            raise UserError("not this one")
        return check(hand, depth, camera)

    monkeypatch.setattr(HandModel, "_checked", refuse)
    line = f"{DISKS} {tmp_path}/clip.npy --hands 2 --json --on_bad_frame skip"
    outcome = a2j(line)
    assert "clip.npy#1: not this one" in outcome.err
    assert "warning: frame 0" not in outcome.err
    assert "clip.npy#0: a right or a left hand?" in outcome.err
    found = zip(json.loads(outcome.out)["frames"], middles(outcome.out), strict=True)
    places = {(one["path"][-1], one["hand"]): u for one, u in found}
    assert places == pytest.approx(
        {(number, hand): (250, 80)[hand] for number in "023" for hand in (0, 1)}, abs=5
    )


def test_the_example_that_ships(a2j, refused, disks):
    """--example takes no other frames and no other camera."""
    contents = json.loads(a2j("predict --model disks --example --json").out)
    assert contents["frames"][0]["path"].endswith("example.png")
    assert "frames with --example" in refused("predict --model disks --example frame.png")
    assert "--camera with --example" in refused(f"{DISKS} --example")
    assert "go with --model" in refused("predict runs/mine --example")


def test_a_video_that_is_cut_off(a2j, refused, disks, tmp_path):
    np.save(tmp_path / "clip.npy", np.array([disk(100), disk(110), disk(120)], np.uint16))
    path = tmp_path / "clip.npy"
    path.write_bytes(path.read_bytes()[:-9])
    message = refused(f"{DISKS} {path} --json")
    assert message.startswith(f"{path}#2: truncated")
    assert "--on_bad_frame skip" in message
    contents = json.loads(a2j(f"{DISKS} {path} --json --on_bad_frame skip").out)
    assert [frame["path"] for frame in contents["frames"]] == [f"{path}#0", f"{path}#1"]
    assert [one["path"] for one in contents["skipped"]] == [f"{path}#2"]


def test_a_video_without_depth_is_refused_before_the_network_is_loaded(refused, tmp_path):
    video = write_video(tmp_path / "color.mkv", np.zeros((2, 24, 32), np.uint8), "ffv1", "gray")
    line = f"predict --model none {video} --camera 1,1,1,1"
    assert "color.mkv: is an 8-bit video" in refused(line)
    assert "'none'" in refused(f"{line} --on_bad_frame skip")


def test_an_overlay_as_a_video(a2j, refused, disks, tmp_path, monkeypatch):
    """Entire frames, drawn where the hand is, at the rate of the recording; bad ones are empty."""
    clip = write_video(tmp_path / "clip.mkv", np.array([disk(100), disk(200)], np.uint16))
    out = tmp_path / "overlay.mp4"
    a2j(f"{DISKS} {clip} --out {out} --json")
    _, rate, frames = watch(out)
    assert rate == RATE
    colorful = frames.max(-1).astype(int) - frames.min(-1) > 50
    places = [np.nonzero(one)[1].mean() for one in colorful]
    np.testing.assert_allclose(places, (100, 200), atol=8)
    a2j(f"{DISKS} {clip} --out {out} --fps 25")  # the file is ours
    assert watch(out)[1] == 25
    out.write_bytes(b"somebody else's")
    assert "--overwrite" in refused(f"{DISKS} {clip} --out {out}")
    assert "--fps goes with" in refused(f"{DISKS} {clip} --out o.png --fps 5")
    assert "or a video's, .mp4" in refused(f"{DISKS} {clip} --out o.avi")
    np.save(tmp_path / "frame.npy", disk(100))
    np.save(tmp_path / "0.npy", disk(100)[0])
    frames = f"{tmp_path}/0.npy {tmp_path}/frame.npy {tmp_path}/0.npy {tmp_path}/frame.npy"
    a2j(f"{DISKS} {frames} --out {tmp_path}/new.mp4 --on_bad_frame skip")
    drawn = np.ptp(watch(tmp_path / "new.mp4")[2].astype(int), axis=-1).max(axis=(1, 2)) > 50
    assert drawn.tolist() == [False, True, False, True]
    monkeypatch.setitem(sys.modules, "av", None)
    assert "a2j-jax[video]" in refused(f"{DISKS} {tmp_path}/frame.npy --out {tmp_path}/new.mp4")


@pytest.mark.slow
def test_a_thousand_frames_of_which_one_is_broken(a2j, refused, disks, tmp_path):
    rows, columns = np.mgrid[:48, :64]
    near = (rows - 24) ** 2 + (columns - 32) ** 2 < 6**2
    frame = np.where(near, 595 + (rows + columns) % 10, 1500).astype(np.uint16)
    names = [f"{number:04}.npy" for number in range(1000)]
    np.save(tmp_path / names[0], frame)
    for name in names[1:]:
        (tmp_path / name).hardlink_to(tmp_path / names[0])
    (tmp_path / names[300]).unlink()
    (tmp_path / names[300]).write_bytes((tmp_path / names[0]).read_bytes()[:-1])
    line = f"predict --model disks --camera 70,70,32,24 --center 32,24,600 {tmp_path} --csv"
    outcome = a2j(f"{line} --on_bad_frame skip")
    numbers = [int(row["frame"]) for row in csv.DictReader(io.StringIO(outcome.out))]
    assert sorted(set(numbers)) == [*range(300), *range(301, 1000)]
    assert len(numbers) == 999 * 21
    assert "0300.npy: truncated" in outcome.err
    assert outcome.err.count("left out: ") == 1
    assert "1 of 1000 frames left out" in outcome.err
    message = refused(line.replace("--csv", "--json"))
    assert "0300.npy: truncated" in message
    assert "--on_bad_frame skip leaves such frames out" in message
