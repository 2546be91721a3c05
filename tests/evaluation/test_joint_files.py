"""Joint files: every format round-trips, the authors' files read right, bad ones say where."""

import json
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from a2j_jax import geometry
from a2j_jax.errors import UserError
from a2j_jax.evaluation import joint_files
from a2j_jax.evaluation.compare import compare_predictions
from a2j_jax.evaluation.joint_files import (
    JointSet,
    frame_index,
    read_joints,
    split_columns,
    write_joints,
    write_submission,
)
from a2j_jax.files import MARK, is_ours
from a2j_jax.tracks import TrackRecord, get_track
from tests.evaluation import made_up

NYU, ICVL, ITOP, K2HPD, HANDS = (
    get_track(name) for name in ("nyu", "icvl", "itop_front", "k2hpd", "hands2017")
)
RNG = np.random.default_rng(0)
UVD = RNG.uniform(1, 600, (5, 14, 3))
HAND = RNG.uniform([100, 100, 600], [540, 380, 900], (20, 14, 3))
BODY = RNG.uniform([40, 20, 2000], [280, 220, 3500], (20, 15, 3))


def xyz_of(uvd, track):
    return geometry.uvd_to_xyz(uvd, track.camera)


# --- Entire files


@pytest.mark.parametrize(
    ("name", "file", "frames"),
    [
        ("nyu", "nyu/nyu_keypointsUVD_test.mat", 8252),
        ("icvl", "icvl/icvl_keypointsUVD_test.mat", 1596),
        ("itop_front", "itop_side/itop_side_keypoints3D_test.mat", 4863),
        ("itop_top", "itop_top/itop_top_keypoints3D_test.mat", 4863),
        ("k2hpd", "k2hpd/k2hpd_keypoints_test.mat", 39732),
        ("k2hpd", "k2hpd/k2hpd_keypoints_train.mat", 55943),
    ],
)
def test_authors_labels_of_every_track(official, name, file, frames):
    track = get_track(name)
    joints = read_joints(official / file, track).joints_uvd
    assert joints.shape == (frames, track.num_joints, track.joint_dims)
    # Pixels, so nearly all joints lie in the frame: metres or swapped axes would not.
    inside = (joints[..., :2] >= 0) & (joints[..., :2] < track.frame_size)
    assert inside.mean() > 0.98
    if track.joint_dims == 3:
        assert 100 < np.median(joints[..., 2]) < 4000  # mm


@pytest.mark.parametrize(("uvd", "track"), [(BODY, ITOP), (HAND, NYU)], ids=["itop", "nyu"])
@pytest.mark.parametrize("name", ["keypoints3D", "resultUVD", "mm"])
def test_joints_may_be_xyz_or_uvd_in_meters(tmp_path, name, uvd, track):
    """As ITOP's labels and the authors' predictions for it are."""
    forms = {"keypoints3D": xyz_of(uvd, track) / 1000, "resultUVD": uvd * [1, 1, 1e-3], "mm": uvd}
    savemat(tmp_path / "j.mat", {name: forms[name]})
    np.savetxt(tmp_path / "j.txt", forms[name].reshape(len(uvd), -1), fmt="%.12g")
    for file in ("j.mat", "j.txt"):
        joints = read_joints(tmp_path / file, track)
        np.testing.assert_allclose(joints.joints_uvd, uvd, rtol=1e-8)
        assert len(joints.notes) == {"keypoints3D": 2, "resultUVD": 1, "mm": 0}[name]


def test_text_with_everything_in_the_way(tmp_path):
    confidence = RNG.random((5, 14))
    rows = np.concatenate([UVD, confidence[..., None]], -1).reshape(5, -1)
    lines = [f"f{n}.png," + ",".join(f"{x:.8e}" for x in row) + ", " for n, row in enumerate(rows)]
    (tmp_path / "p.txt").write_bytes(("\r\n\r\n".join(lines) + "\r\n").encode())
    joints = read_joints(tmp_path / "p.txt", NYU)
    np.testing.assert_allclose(joints.joints_uvd, UVD, rtol=1e-8)
    np.testing.assert_allclose(joints.confidence, confidence, rtol=1e-8)
    first = f"{UVD[2, 0, 0]:.8e}"
    (tmp_path / "p.txt").write_text((tmp_path / "p.txt").read_text().replace(first, "nan"))
    with pytest.raises(UserError, match="row 5: joint 1 is not finite"):
        read_joints(tmp_path / "p.txt", NYU)


def test_matlab_arrays_of_other_shapes_and_kinds(tmp_path):
    for name, values in {
        "result": UVD.reshape(5, -1),
        "joints_uvd": UVD.reshape(5, -1),
        "xyz_estimation": xyz_of(UVD, NYU),
    }.items():
        savemat(tmp_path / "j.mat", {name: values})
        np.testing.assert_allclose(read_joints(tmp_path / "j.mat", NYU).joints_uvd, UVD)
    integers = np.arange(114, dtype=np.uint8).reshape(3, 19, 2)
    savemat(tmp_path / "ints.mat", {"keypointsTest": integers})
    assert read_joints(tmp_path / "ints.mat", K2HPD).joints_uvd[2, 18, 1] == 113


@pytest.mark.parametrize("frames", [5, 1])
@pytest.mark.parametrize("suffix", [".npz", ".jsonl", ".mat"])
def test_our_formats_keep_everything(tmp_path, suffix, frames):
    uvd, confidence = UVD[:frames], RNG.random((frames, 14))
    index = np.array([0, 2, 3, 7, 9])[:frames]
    names = np.array(["depth_1_0000003.png", "sequence ä/1.png", "a", "b", "c"])[:frames]
    about = {"track": TrackRecord.of(NYU).to_json(), "centers": {"depth": 2}}
    path = tmp_path / f"p{suffix}"
    joints = JointSet(uvd, confidence > 0.5, confidence, uvd * 2, index, names, about)
    write_joints(path, joints)
    assert is_ours(path)
    back = read_joints(path, NYU)
    for name in ("joints_uvd", "valid", "confidence", "joints_xyz_mm", "index", "frame_id"):
        np.testing.assert_array_equal(getattr(back, name), getattr(joints, name), err_msg=name)
    assert (back.about["centers"], back.about["written_by"]) == ({"depth": 2}, MARK)
    assert back.record == TrackRecord.of(NYU)


@pytest.mark.parametrize("suffix", [".txt", ".mat", ".npz", ".jsonl"])
@pytest.mark.parametrize("track", [NYU, ITOP, K2HPD], ids=lambda track: track.name)
def test_every_suffix_round_trips(tmp_path, suffix, track):
    shape = (4, track.num_joints, track.joint_dims)
    uvd = RNG.uniform([10, 10, 900][: shape[-1]], 1100, shape)
    write_joints(tmp_path / f"p{suffix}", JointSet(uvd))
    back = read_joints(tmp_path / f"p{suffix}", track)
    np.testing.assert_allclose(back.joints_uvd, uvd, rtol=0, atol=1e-6 if suffix == ".txt" else 0)
    assert back.notes == ()


def test_rows_are_put_in_dataset_order(tmp_path):
    order = np.array([3, 0, 4, 1, 2])
    np.savez(tmp_path / "p.npz", joints_uvd=UVD[order], index=order)
    back = read_joints(tmp_path / "p.npz", NYU)
    np.testing.assert_array_equal(back.joints_uvd, UVD)
    np.testing.assert_array_equal(back.index, np.arange(5))


def of_frames(**values):
    return json.dumps({"frames": [{"joints_uvd": [[1.5] * 3] * 14, **values}]})


# File → its contents (arrays or text) and what the message names.
ONE = json.dumps({"joints_uvd": UVD[0].tolist()})
BAD: dict[str, tuple[Any, str]] = {
    "missing.txt": (None, "no such file"),
    "columns.txt": (UVD.reshape(5, -1)[:, :-1], "row 1: expected 42 numbers .*found 41"),
    "infinite.txt": (
        np.where(UVD[1, 0, 0] == UVD, np.inf, UVD).reshape(5, -1),
        "row 2: joint 1 is not finite",
    ),
    "joints.mat": ({"keypoints3D": UVD[:, :10]}, r"\(frames, 14 joints, 3\).*\(5, 10, 3\)"),
    "two.mat": ({"a": UVD, "b": UVD}, "expected one array"),
    "unsaid.mat": ({"keypoints3D": xyz_of(HAND, NYU)}, "look like camera coordinates"),
    "noise.mat": ("hello", "not readable as a MATLAB"),
    "names.npz": ({"joints": UVD}, "expected an array 'joints_uvd', found joints"),
    "shape.npz": ({"joints_uvd": UVD[:, :10]}, r"shape \(5, 14, 3\).*found \(5, 10, 3\)"),
    "object.npz": ({"joints_uvd": np.array([{}], object)}, "not readable"),
    "twice.npz": ({"joints_uvd": UVD, "index": [0, 1, 1, 2, 3]}, "rows 2 and 3 .* frame 1"),
    "row.jsonl": (f'{ONE}\n{{"joints_uvd": [[1, 2, 3]]}}', r"row 2: .* 14 .*shape \(1, 3\)"),
    "cut.jsonl": (ONE[:-5], "row 1: not readable as JSON"),
    "list.jsonl": ("[1, 2]", "row 1: expected an object"),
    "list.json": ("[1, 2]", "expected one object"),
    "empty.jsonl": ("", "empty"),
    "word.jsonl": (json.dumps({"joints_uvd": [["a", 1, 2]] * 14}), "not an array of numbers"),
    "p.csv": ("1,2", "unknown kind of joint file '.csv'"),
    "too_large.json": (of_frames(index=2**63), "'index'"),
    "negative.json": (of_frames(index=-1), "'index' -1"),
    "fraction.json": (of_frames(index=1.5), "'index'"),
    "texts.json": (of_frames(joints_uvd=[["1.5"] * 3] * 14), "'joints_uvd'"),
    "truth.json": (of_frames(joints_uvd=[[True] * 3] * 14), "'joints_uvd'"),
    "words.json": (of_frames(valid=["false"] * 14), "'valid'"),
    "a_number.json": (of_frames(path=7), "'frame_id'"),
    "about.json": (of_frames()[:-1] + ', "about": [1]}', "'about'"),
    "record.json": (of_frames()[:-1] + ', "about": {"track": 1}}', "record"),
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_cannot_be_read_are_named(tmp_path, name):
    contents, message = BAD[name]
    path = tmp_path / name
    if isinstance(contents, str):
        path.write_text(contents)
    elif isinstance(contents, np.ndarray):
        np.savetxt(path, contents)
    elif contents is not None:
        np.savez(path, **contents) if path.suffix == ".npz" else savemat(path, contents)
    with pytest.raises(UserError, match=message) as caught:
        read_joints(path, NYU)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".npz", ".mat", ".jsonl", ".txt"])
def test_a_full_disk_leaves_what_was_there(tmp_path, suffix):
    path = tmp_path / f"p{suffix}"
    write_joints(path, JointSet(UVD[:1]))
    before = path.read_bytes()
    noise = JointSet(RNG.uniform(1, 600, (500, 14, 3)))
    refused = pytest.raises(UserError, match=f"p{suffix}: cannot be written")
    with made_up.small_disk(20_000), refused as caught:
        write_joints(path, noise)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# --- The file of the HANDS 2017 challenge

XYZ = RNG.normal([0, 0, 500], 60, (4, 21, 3))


def test_every_field_ends_in_a_tab(tmp_path):
    write_submission(tmp_path / "s.txt", XYZ)
    lines = (tmp_path / "s.txt").read_bytes().split(b"\n")
    assert (len(lines), lines[-1]) == (5, b"")
    name, *numbers, last = lines[2].split(b"\t")
    assert (name, last) == (b"frame/images/image_D00000003.png", b"")
    np.testing.assert_allclose(list(map(float, numbers)), XYZ[2].ravel(), atol=5e-5)


def test_it_reads_back_in_any_order(tmp_path):
    order = [2, 0, 3, 1]
    write_submission(tmp_path / "s.txt", XYZ[order], order)
    back = read_joints(tmp_path / "s.txt", HANDS)
    np.testing.assert_allclose(xyz_of(back.joints_uvd, HANDS), XYZ, atol=1e-4)
    np.testing.assert_array_equal(back.index, np.arange(4))
    assert any("projected" in note for note in back.notes)


def test_labels_of_some_frames_score_those(tmp_path):
    """The seen, or the unseen subjects: as the annotations, without a folder."""
    write_submission(tmp_path / "s.txt", XYZ)
    moved = XYZ[[1, 3]] + [[[3.0, 4.0, 0.0]], [[0.0, 0.0, 0.0]]]
    rows = zip((2, 4), moved.reshape(2, -1), strict=True)
    text = "\n".join(f"image_D{n:08d}.png\t" + "\t".join(map(str, row)) for n, row in rows)
    (tmp_path / "labels.txt").write_text(text)
    one, other = (tmp_path / name for name in ("s.txt", "labels.txt"))
    for predicted, labels in ((one, other), (other, one)):
        scores = compare_predictions({"A2J": predicted}, HANDS, labels=labels)
        assert scores["frames"] == 2
        assert scores["mean_error_mm"] == pytest.approx(2.5, abs=1e-3)


def test_names(tmp_path):
    np.testing.assert_array_equal(frame_index(["image_D00000007.png"]), [6])
    np.testing.assert_array_equal(frame_index(["frame\\images\\image_D00957032.png"]), [957031])
    assert frame_index(["image_D00000001.png", "test_seq_1/image_0000.png"]) is None
    # Other tracks' names are only names.
    numbers = " ".join(["77"] * 48)
    text = "".join(f"test_seq_1/image_{n:04d}.png {numbers} \n" for n in range(2))
    (tmp_path / "labels.txt").write_text(text)
    joints = read_joints(tmp_path / "labels.txt", ICVL)
    assert joints.joints_uvd.shape == (2, 16, 3)
    assert joints.index is None


def test_what_cannot_be_written(tmp_path):
    broken = XYZ.copy()
    broken[2, 5] = np.nan
    with pytest.raises(UserError, match=r"s\.txt.*1 frames.*frame 2"):
        write_submission(tmp_path / "s.txt", broken)
    assert not (tmp_path / "s.txt").exists()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        write_submission(tmp_path / "file" / "s.txt", XYZ)
    with pytest.raises(ValueError, match="shape"):
        write_submission(tmp_path / "s.txt", XYZ[0])
    with pytest.raises(UserError, match="cannot write"):
        write_joints(tmp_path / "p.csv", JointSet(UVD))


# --- Columns and units


def test_columns():
    confidence, flat = RNG.random((20, 14)), HAND.reshape(20, -1)
    plain, nothing = split_columns(flat, NYU, "p.txt")
    np.testing.assert_array_equal(plain, HAND)
    assert nothing is None
    beside = np.concatenate([HAND, confidence[..., None]], -1).reshape(20, -1)
    behind = np.concatenate([flat, confidence], -1)
    for values in (beside, behind):
        joints, found = split_columns(values, NYU, "p.txt")
        np.testing.assert_array_equal(joints, HAND)
        np.testing.assert_array_equal(found, confidence)
    with pytest.raises(UserError, match=r"expected 42 numbers \(14 joints × 3\), found 63"):
        split_columns(np.ones((2, 63)), NYU, "p.txt")
    with pytest.raises(UserError, match="found 56: one more per joint, but neither"):
        split_columns(np.full((2, 56), 30.0), NYU, "p.txt")


def to_uvd_mm(joints, track=NYU, coordinates="unknown"):
    return joint_files.to_uvd_mm(joints, track, "p.txt", coordinates)


@pytest.mark.parametrize(
    ("joints", "track"),
    [
        (HAND, NYU),
        (RNG.uniform(0, 1, (3, 19, 2)), K2HPD),
        (HAND + np.array([2000.0, -900.0, 50.0]), NYU),  # poor predictions
        (np.zeros((2, 14, 3)), NYU),
    ],
)
def test_pixels_pass_through(joints, track):
    found, notes = to_uvd_mm(joints, track)
    np.testing.assert_array_equal(found, joints)
    assert notes == ()


def test_camera_coordinates_are_read_where_the_file_says_so_and_else_refused():
    xyz = xyz_of(HAND, NYU)
    joints, notes = to_uvd_mm(xyz, coordinates="xyz")
    np.testing.assert_allclose(joints, HAND)
    assert "588.03" in notes[0]
    backwards, notes = to_uvd_mm(xyz * [1, -1, -1], coordinates="xyz")
    np.testing.assert_allclose(backwards, HAND)
    assert any("backwards" in note for note in notes)
    for y_sign in (1, -1):
        with pytest.raises(UserError, match=r"look like camera coordinates.*588\.03"):
            to_uvd_mm(xyz * [1, y_sign, 1])
    xyz[3, 4, 2] = 0  # a point that has no pixel
    with pytest.raises(UserError, match="z = 0"):
        to_uvd_mm(xyz, coordinates="xyz")
