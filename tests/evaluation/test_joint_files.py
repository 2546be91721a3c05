"""Joint files: every format round-trips, the authors' files read right, bad ones say where."""

import json
import resource
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from a2j_jax import geometry
from a2j_jax.errors import UserError
from a2j_jax.evaluation.compare import compare_predictions
from a2j_jax.evaluation.joint_files import (
    JointSet,
    frame_index,
    read_joints,
    write_joints,
    write_submission,
)
from a2j_jax.tracks import TrackSpec, get_track

NYU, ITOP, K2HPD = get_track("nyu"), get_track("itop_front"), get_track("k2hpd")
UVD = np.random.default_rng(0).uniform(1, 600, (5, 14, 3))


def test_authors_nyu_files(official: Path) -> None:
    predicted = read_joints(official / "nyu_861_epoch32_UVD.txt", NYU)
    labels = read_joints(official / "nyu" / "nyu_keypointsUVD_test.mat", NYU)
    assert predicted.joints_uvd.shape == labels.joints_uvd.shape == (8252, 14, 3)
    np.testing.assert_allclose(predicted.joints_uvd[0, 0], [172.26993, 200.02567, 736.3868])


def test_authors_labels_of_every_track(official: Path) -> None:
    for name, file, shape in (
        ("icvl", "icvl/icvl_keypointsUVD_test.mat", (1596, 16, 3)),
        ("itop_front", "itop_side/itop_side_keypoints3D_test.mat", (4863, 15, 3)),
        ("itop_top", "itop_top/itop_top_keypoints3D_test.mat", (4863, 15, 3)),
        ("k2hpd", "k2hpd/k2hpd_keypoints_test.mat", (39732, 19, 2)),
        ("k2hpd", "k2hpd/k2hpd_keypoints_train.mat", (55943, 19, 2)),
    ):
        track = get_track(name)
        joints = read_joints(official / file, track).joints_uvd
        assert joints.shape == shape
        # Pixels, so nearly all joints lie in the frame: metres or swapped axes would not.
        inside = (joints[..., :2] >= 0) & (joints[..., :2] < track.frame_size)
        assert inside.mean() > 0.98, name
        if track.joint_dims == 3:
            assert 100 < np.median(joints[..., 2]) < 4000, name  # mm


def test_itop_is_xyz_or_uvd_in_meters(tmp_path: Path) -> None:
    """As its labels and the authors' predictions are."""
    uvd = np.random.default_rng(1).uniform([10, 10, 2000], [300, 200, 3500], (4, 15, 3))
    assert ITOP.camera is not None
    for name, values in {
        "keypoints3D": geometry.uvd_to_xyz(uvd, ITOP.camera) / 1000,
        "resultUVD": uvd * [1, 1, 1e-3],
        "mm": uvd,
    }.items():
        savemat(tmp_path / f"{name}.mat", {name: values})
        np.savetxt(tmp_path / f"{name}.txt", values.reshape(4, -1), fmt="%.12g")
        for suffix in (".mat", ".txt"):
            joints = read_joints(tmp_path / f"{name}{suffix}", ITOP)
            np.testing.assert_allclose(joints.joints_uvd, uvd, rtol=1e-8)
            assert bool(joints.notes) == (name != "mm")


def test_text_with_everything_in_the_way(tmp_path: Path) -> None:
    confidence = np.random.default_rng(4).random((5, 14))
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


def test_matlab_arrays_of_other_shapes_and_kinds(tmp_path: Path) -> None:
    assert NYU.camera is not None
    xyz = geometry.uvd_to_xyz(UVD, NYU.camera)
    savemat(tmp_path / "flat.mat", {"result": UVD.reshape(5, -1)})
    savemat(tmp_path / "named.mat", {"joints_uvd": UVD.reshape(5, -1)})
    savemat(tmp_path / "xyz.mat", {"xyz_estimation": xyz})
    for name in ("flat.mat", "named.mat", "xyz.mat"):
        np.testing.assert_allclose(read_joints(tmp_path / name, NYU).joints_uvd, UVD)
    savemat(
        tmp_path / "ints.mat", {"keypointsTest": np.arange(114, dtype=np.uint8).reshape(3, 19, 2)}
    )
    assert read_joints(tmp_path / "ints.mat", K2HPD).joints_uvd[2, 18, 1] == 113
    hand = np.random.default_rng(5).uniform([100, 100, 600], [540, 380, 900], (5, 14, 3))
    savemat(tmp_path / "unsaid.mat", {"keypoints3D": geometry.uvd_to_xyz(hand, NYU.camera)})
    with pytest.raises(UserError, match=r"unsaid\.mat: .*look like camera coordinates"):
        read_joints(tmp_path / "unsaid.mat", NYU)


@pytest.mark.parametrize("frames", [5, 1])
@pytest.mark.parametrize("suffix", [".npz", ".jsonl", ".mat"])
def test_our_formats_keep_everything(tmp_path: Path, suffix: str, frames: int) -> None:
    uvd, confidence = UVD[:frames], np.random.default_rng(2).random((frames, 14))
    index = np.array([0, 2, 3, 7, 9])[:frames]
    joints = JointSet(uvd, confidence > 0.5, confidence, uvd * 2, index)
    path = tmp_path / f"p{suffix}"
    write_joints(path, joints)
    back = read_joints(path, NYU)
    for name in ("joints_uvd", "valid", "confidence", "joints_xyz_mm", "index"):
        np.testing.assert_array_equal(getattr(back, name), getattr(joints, name), err_msg=name)


@pytest.mark.parametrize("suffix", [".txt", ".mat", ".npz", ".jsonl"])
@pytest.mark.parametrize("track", [NYU, ITOP, K2HPD], ids=lambda track: track.name)
def test_every_suffix_round_trips(tmp_path: Path, suffix: str, track: TrackSpec) -> None:
    shape = (4, track.num_joints, track.joint_dims)
    uvd = np.random.default_rng(6).uniform([10, 10, 900][: shape[-1]], 1100, shape)
    write_joints(tmp_path / f"p{suffix}", JointSet(uvd))
    back = read_joints(tmp_path / f"p{suffix}", track)
    np.testing.assert_allclose(back.joints_uvd, uvd, rtol=0, atol=1e-6 if suffix == ".txt" else 0)
    assert back.notes == ()


def test_the_output_of_predict_can_be_scored(tmp_path: Path) -> None:
    frames = [
        {"path": f"{i}.png", "joints_uvd": f, "milliseconds": 1.0}
        for i, f in enumerate(UVD.tolist())
    ]
    (tmp_path / "p.json").write_text(json.dumps({"frames": frames}))
    np.testing.assert_array_equal(read_joints(tmp_path / "p.json", NYU).joints_uvd, UVD)


def test_rows_are_put_in_dataset_order(tmp_path: Path) -> None:
    order = np.array([3, 0, 4, 1, 2])
    np.savez(tmp_path / "p.npz", joints_uvd=UVD[order], index=order)
    back = read_joints(tmp_path / "p.npz", NYU)
    np.testing.assert_array_equal(back.joints_uvd, UVD)
    np.testing.assert_array_equal(back.index, np.arange(5))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "columns.txt", UVD.reshape(5, -1)[:, :-1])
    np.savetxt(tmp_path / "infinite.txt", np.where(UVD[1, 0, 0] == UVD, np.inf, UVD).reshape(5, -1))
    savemat(tmp_path / "joints.mat", {"keypoints3D": UVD[:, :10]})
    savemat(tmp_path / "two.mat", {"a": UVD, "b": UVD})
    savemat(tmp_path / "cut.mat", {"keypoints3D": UVD})
    (tmp_path / "cut.mat").write_bytes((tmp_path / "cut.mat").read_bytes()[:300])
    (tmp_path / "noise.mat").write_text("hello")
    np.savez(tmp_path / "names.npz", joints=UVD)
    np.savez(tmp_path / "shape.npz", joints_uvd=UVD[:, :10])
    np.savez(tmp_path / "object.npz", joints_uvd=np.array([{}], object))
    np.savez(tmp_path / "twice.npz", joints_uvd=UVD, index=[0, 1, 1, 2, 3])
    np.savez(tmp_path / "cut.npz", joints_uvd=UVD)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:200])
    (tmp_path / "row.jsonl").write_text(
        json.dumps({"joints_uvd": UVD[0].tolist()}) + "\n" + json.dumps({"joints_uvd": [[1, 2, 3]]})
    )
    (tmp_path / "cut.jsonl").write_text(json.dumps({"joints_uvd": UVD[0].tolist()})[:-5])
    (tmp_path / "list.jsonl").write_text("[1, 2]")
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "word.jsonl").write_text(json.dumps({"joints_uvd": [["a", 1, 2]] * 14}))
    (tmp_path / "p.csv").write_text("1,2")
    cases = {
        "missing.txt": "no such file",
        "columns.txt": "row 1: expected 42 numbers .*found 41",
        "infinite.txt": "row 2: joint 1 is not finite",
        "joints.mat": r"expected one array \(frames, 14 joints, 3\).*\(5, 10, 3\)",
        "two.mat": "expected one array",
        "cut.mat": "truncated",
        "noise.mat": "not readable as a MATLAB",
        "names.npz": "expected an array 'joints_uvd', found joints",
        "shape.npz": r"should have shape \(5, 14, 3\).*found \(5, 10, 3\)",
        "object.npz": "not readable",
        "twice.npz": "rows 2 and 3 are both frame 1",
        "cut.npz": "not readable",
        "row.jsonl": r"row 2: expected 14 joints × 3.*found shape \(1, 3\)",
        "cut.jsonl": "row 1: not readable as JSON",
        "list.jsonl": "row 1: expected an object",
        "list.json": "expected one object",
        "empty.jsonl": "empty",
        "word.jsonl": "not an array of numbers",
        "p.csv": "unknown kind of joint file '.csv'",
    }
    for name, message in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            read_joints(tmp_path / name, NYU)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value), name


def test_unknown_suffix_to_write(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write"):
        write_joints(tmp_path / "p.csv", JointSet(UVD))


@pytest.mark.parametrize("suffix", [".npz", ".mat", ".jsonl", ".txt"])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p{suffix}"
    write_joints(path, JointSet(UVD[:1]))
    before = path.read_bytes()
    noise = np.random.default_rng(0).uniform(1, 600, (500, 14, 3))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(UserError, match=f"p{suffix}: cannot be written") as caught:
            write_joints(path, JointSet(noise))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


HANDS = get_track("hands2017")
XYZ = np.random.default_rng(0).normal([0, 0, 500], 60, (4, 21, 3))


def test_every_field_ends_in_a_tab(tmp_path: Path) -> None:
    write_submission(tmp_path / "s.txt", XYZ)
    lines = (tmp_path / "s.txt").read_bytes().split(b"\n")
    assert lines[-1] == b""
    assert len(lines) == 5
    fields = lines[2].split(b"\t")
    assert fields[0] == b"frame/images/image_D00000003.png"
    assert fields[-1] == b""
    np.testing.assert_allclose([float(f) for f in fields[1:-1]], XYZ[2].ravel(), atol=5e-5)


def test_it_reads_back_in_any_order(tmp_path: Path) -> None:
    order = [2, 0, 3, 1]
    write_submission(tmp_path / "s.txt", XYZ[order], order)
    back = read_joints(tmp_path / "s.txt", HANDS)
    assert HANDS.camera is not None
    np.testing.assert_allclose(geometry.uvd_to_xyz(back.joints_uvd, HANDS.camera), XYZ, atol=1e-4)
    np.testing.assert_array_equal(back.index, np.arange(4))
    assert any("projected" in note for note in back.notes)


def test_labels_of_some_frames_score_those(tmp_path: Path) -> None:
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


def test_names() -> None:
    np.testing.assert_array_equal(frame_index(["image_D00000007.png"]), [6])
    np.testing.assert_array_equal(frame_index(["frame\\images\\image_D00957032.png"]), [957031])
    assert frame_index(["image_D00000001.png", "test_seq_1/image_0000.png"]) is None


def test_what_cannot_be_written(tmp_path: Path) -> None:
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


def test_other_tracks_names_are_only_names(tmp_path: Path) -> None:
    uvd = np.random.default_rng(1).uniform(10, 200, (2, 16, 3))
    text = "\n".join(
        f"test_seq_1/image_{n:04d}.png " + " ".join(map(str, frame.ravel())) + " "
        for n, frame in enumerate(uvd)
    )
    (tmp_path / "labels.txt").write_text(text)
    joints: JointSet = read_joints(tmp_path / "labels.txt", get_track("icvl"))
    np.testing.assert_allclose(joints.joints_uvd, uvd)
    assert joints.index is None
