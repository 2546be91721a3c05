"""Where to crop: the sources and their order, published files, labels and the depth."""

import dataclasses
import re

import numpy as np
import pytest
from scipy import io

from a2j_jax import geometry
from a2j_jax.errors import UnreadableFrame, UserError
from a2j_jax.tracks import get_track
from tests.scenes import hand
from tfds_builders.crop_plan import (
    boxes_from_labels,
    centers_from_labels,
    crop_from_depth,
    plan_crops,
)
from tfds_builders.raw_files import RawSplit

NYU = get_track("nyu")
ITOP = get_track("itop_front")
K2HPD = get_track("k2hpd")
HANDS = get_track("hands2017")
N, NAN = 6, float("nan")
HERE = [80, 60, 600]


def split_of(joints, frames=N, **more):
    labels = None if joints is None else joints.astype(np.float32)
    return RawSplit([f"{i}" for i in range(frames)], range(frames), labels, **more)  # type: ignore[arg-type]


def save_centers(folder, centers, split="test"):
    """NYU's as the authors publish them; returns the file's name."""
    io.savemat(folder / f"nyu_center_{split}.mat", {"centre_pixel": centers})
    return f"nyu_center_{split}.mat"


def joints_of(track, frames=N):
    """(N, K, D) labels around a different point in every frame."""
    rng = np.random.default_rng(0)
    middle = np.array([150.0, 110.0, 900.0]) + 5 * np.arange(frames)[:, None]
    joints = middle[:, None] + rng.uniform(-20, 20, (frames, track.num_joints, 3))
    return joints[..., : track.joint_dims]


def centers_of(joints):
    """(N, 1, 3) as the authors publish: a little off the middle of the joints."""
    return joints.mean(axis=1, keepdims=True) + 0.5


def write_text(path, xyz):
    lines = ["invalid" if np.isnan(row).any() else "{} {} {}".format(*row) for row in xyz]
    path.write_text("\n".join(lines) + "\n")


def used(plan):
    return plan.sources.tolist()


# The sources and their order


def test_every_source_takes_what_those_before_it_leave(tmp_path):
    joints = joints_of(NYU)
    centers = centers_of(joints)
    centers[1, 0, 0] = np.nan
    centers[2, 0, 2] = 0.0
    centers[3] = [[9000.0, 9000.0, 700.0]]  # a window that misses the frame
    centers[4] = np.inf
    mat = save_centers(tmp_path, centers, "train")
    xyz = geometry.uvd_to_xyz(joints[:, 0], NYU.camera)
    xyz[[0, 2, 3, 4]] = np.nan
    write_text(tmp_path / "center_train_refined.txt", xyz)
    joints[3, 2:] = np.nan
    joints[3, 1, 0] = np.nan  # without all its numbers, it is not labeled
    joints[4] = np.nan
    plan = plan_crops(NYU, "train", split_of(joints), str(tmp_path))
    text = "center_train_refined.txt"
    assert used(plan) == [mat, text, "labels", "labels", "depth", mat]
    np.testing.assert_array_equal(plan.values[[0, 5]], centers[[0, 5], 0])
    np.testing.assert_allclose(plan.values[1], joints[1, 0], rtol=1e-9)
    middle = geometry.uvd_to_xyz(joints[2], NYU.camera).mean(axis=0)
    np.testing.assert_allclose(geometry.uvd_to_xyz(plan.values[2], NYU.camera), middle, rtol=1e-5)
    np.testing.assert_allclose(plan.values[3], joints[3, 0], rtol=1e-5)
    assert np.isnan(plan.values[4]).all()
    notes = "\n".join(plan.notes)
    for name, left in ((mat, 4), (text, 3), ("labels", 1)):
        assert f"{name}: {left} of 6 training frames without a usable center" in notes


@pytest.mark.parametrize(
    ("split", "centers", "name"),
    [
        ("train", None, "labels"),
        ("test", None, "depth"),
        ("test", "labels", "labels"),
        ("train", "depth", "depth"),
    ],
)
def test_without_files(split, centers, name):
    plan = plan_crops(NYU, split, split_of(joints_of(NYU)), centers)
    assert used(plan) == [name] * N
    assert np.isnan(plan.values).all() == (name == "depth")
    assert ("--centers" in "".join(plan.notes)) == (split == "test" and centers is None)


def test_a_missing_file_is_a_note(tmp_path):
    split = split_of(joints_of(NYU))
    plan = plan_crops(NYU, "train", split, tmp_path)
    assert used(plan) == ["labels"] * N
    (note,) = plan.notes
    assert re.match(f"warning: no nyu_center_train.mat or .* in {tmp_path}.* by ground truth", note)
    (note,) = plan_crops(NYU, "test", split, tmp_path).notes
    assert re.match("warning: .* 6 test frames cropped by the depth frame alone", note)
    write_text(tmp_path / "center_test.txt", geometry.uvd_to_xyz(joints_of(NYU)[:, 0], NYU.camera))
    plan = plan_crops(NYU, "test", split, tmp_path)
    assert (used(plan), plan.notes) == (["center_test.txt"] * N, ())


def test_frames_without_public_labels():
    plan = plan_crops(HANDS, "test", split_of(None), "labels")
    assert used(plan) == ["depth"] * N
    assert "without labels" in plan.notes[0]
    # Shipped boxes are where the depth is searched.
    boxes = np.tile([10.0, 10.0, 200.0, 200.0], (N, 1))
    boxes[2] = np.nan
    plan = plan_crops(HANDS, "test", split_of(None, boxes_px=boxes), None)
    inside = "depth in the shipped box"
    assert used(plan) == [inside, inside, "depth", inside, inside, inside]
    assert "6 test frames cropped by the depth inside the shipped boxes" in plan.notes[0]


def test_nobody_publishes_files_for_tracks_of_ones_own(tmp_path):
    own = dataclasses.replace(NYU, name="my_hands")
    assert plan_crops(own, "test", split_of(joints_of(NYU)), None).notes == ()
    shipped = split_of(joints_of(NYU), crops=centers_of(joints_of(NYU))[:, 0])
    assert plan_crops(own, "test", shipped, None).notes == ()
    (note,) = plan_crops(own, "test", shipped, tmp_path).notes
    assert "not used" in note
    one = plan_crops(NYU, "test", split_of(joints_of(NYU, 1), 1), None)
    assert "1 test frame cropped" in one.notes[0]


@pytest.mark.parametrize(
    ("track", "crops", "usable"),
    [  # a window around a point off the frame may still reach into it
        (
            NYU,
            [HERE, [9000, 9000, 700], [80, NAN, 600], [NAN] * 3, [80, 60, 0], [-9, 60, 9]],
            [0, 5],
        ),
        (ITOP, [[10, 10, 90, 90], [500, 10, 600, 90], [90, 10, 10, 90], *[[NAN] * 4] * 3], [0]),
    ],
)
def test_shipped_crops_that_cannot_be_used_are_counted(track, crops, usable):
    split = split_of(joints_of(track), crops=np.array(crops, np.float64))
    plan = plan_crops(dataclasses.replace(track, name="own"), "train", split, None)
    assert [i for i, name in enumerate(used(plan)) if name == "shipped with the frames"] == usable
    np.testing.assert_array_equal(plan.values[usable], np.array(crops)[usable])
    assert np.isfinite(plan.values).all()
    given = sum(np.isfinite(row).any() for row in crops)
    assert plan.notes[0].startswith(f"warning: {given - len(usable)} of {given} ")
    assert used(plan_crops(track, "train", split, "labels")) == ["labels"] * N


# The files


@pytest.mark.parametrize(
    ("track", "name", "variable"),
    [
        ("itop_front", "itop_side_bndbox_test.mat", "FRbndbox_test"),
        ("itop_top", "itop_top_bndbox_test.mat", "bndbox"),
        ("k2hpd", "k2hpd_bndbox_test.mat", "FRbndbox_train"),
    ],
)
def test_boxes_of_bodies_under_their_published_names(tmp_path, track, name, variable):
    spec = get_track(track)
    joints = joints_of(spec)
    boxes = boxes_from_labels(joints, 9.0)
    boxes[1] = [50, 60, 50, 90]  # no width
    boxes[2] = [-20, -10, 300, 400]  # over the border: legal
    folder = tmp_path / "anything"
    folder.mkdir()
    io.savemat(folder / name, {variable: boxes})
    plan = plan_crops(spec, "test", split_of(joints), tmp_path)
    assert used(plan) == [name, "depth", *[name] * 4]
    np.testing.assert_array_equal(plan.values[[0, 2]], boxes[[0, 2]])
    assert np.isnan(plan.values[1]).all()


@pytest.mark.parametrize(
    ("rows", "key", "more", "note"),
    [
        ([0, 3, 4, 7, 8, 9], "rows", {"total": 12}, ""),
        ([7, 2, 3, 5, 11, 0], "numbers", {}, "has 12 rows; .* taken by the numbers in the names"),
    ],
)
def test_files_with_a_row_for_every_frame_of_the_distribution(tmp_path, rows, key, more, note):
    joints, everything = joints_of(NYU), np.full((12, 1, 3), 500.0)
    everything[rows] = centers_of(joints)
    save_centers(tmp_path, everything)
    plan = plan_crops(NYU, "test", split_of(joints, **{key: np.array(rows), **more}), tmp_path)
    np.testing.assert_array_equal(plan.values, everything[rows, 0])
    assert re.search(note, "".join(plan.notes))
    assert len(plan.notes) == bool(note)


@pytest.mark.parametrize(
    ("rows", "more"),
    [
        *((rows, {"rows": np.arange(N), "total": 10}) for rows in (5, 7, 12)),
        (12, {"numbers": np.array([7, 2, 3, 5, 12, 0])}),  # beyond the file
        (12, {}),
    ],
)
def test_any_other_number_of_rows_is_refused(tmp_path, rows, more):
    save_centers(tmp_path, np.full((rows, 1, 3), 500.0))
    of = ".*of 10" if "total" in more else ""
    with pytest.raises(UserError, match=rf"test.mat: has {rows} rows, .*'test' has 6 frames{of}"):
        plan_crops(NYU, "test", split_of(joints_of(NYU), **more), tmp_path)


def test_itop_text_is_in_metres_and_becomes_a_place_to_look(tmp_path):
    joints = joints_of(ITOP)
    joints[..., 2] += 2000
    xyz = geometry.uvd_to_xyz(joints.mean(axis=1), ITOP.camera) / 1000
    xyz[2] = np.nan
    write_text(tmp_path / "center_test.txt", xyz)
    plan = plan_crops(ITOP, "test", split_of(joints), tmp_path)
    assert used(plan) == ["center_test.txt"] * 2 + ["depth"] + ["center_test.txt"] * 3
    assert np.isnan(plan.values).all()
    assert plan.near_uvd is not None
    there = geometry.uvd_to_xyz(plan.near_uvd, ITOP.camera)
    np.testing.assert_allclose(there, xyz * 1000, rtol=1e-9)


def test_folders_of_other_tracks_are_left_alone(tmp_path):
    """V2V's files have the same name for every data set."""
    joints = joints_of(NYU)
    for number, folder in enumerate(("icvl_center", "ITOP-side", "my_NYU_files")):
        (tmp_path / folder).mkdir()
        xyz = geometry.uvd_to_xyz(joints[:, number], NYU.camera)
        write_text(tmp_path / folder / "center_test_refined.txt", xyz)
    plan = plan_crops(NYU, "test", split_of(joints), tmp_path)
    np.testing.assert_allclose(plan.values, joints[:, 2], rtol=1e-9)
    plan = plan_crops(HANDS, "test", split_of(None), tmp_path)
    assert used(plan) == ["depth"] * N
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_text(tmp_path / folder / "center_test_refined.txt", xyz)
    with pytest.raises(UserError, match=r"in several folders \(a, b\)"):
        plan_crops(HANDS, "test", split_of(None), tmp_path)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("1 2 700\n1 2\n", "row 2: expected .*`x y z` or `invalid`"),
        ("1 2 700\n\n1 2 700\n", "row 2"),
        ("a b c\n", "row 1"),
        ("\n", "is empty"),
        ({"other": np.ones((N, 3))}, "no variable 'centre_pixel'"),
        ({"centre_pixel": np.ones((N, 4))}, r"shape \(6, 4\)"),
    ],
)
def test_broken_files_are_named(tmp_path, contents, message):
    if isinstance(contents, str):
        (tmp_path / "center_test_refined.txt").write_text(contents)
    else:
        io.savemat(tmp_path / "nyu_center_test.mat", contents)
    with pytest.raises(UserError, match=message):
        plan_crops(NYU, "test", split_of(joints_of(NYU)), tmp_path)


@pytest.mark.parametrize(
    ("centers", "message"),
    [
        ("/nowhere", r"no such folder \(expected"),
        ("lables", "lables: no such folder; did you mean 'labels'"),
        (__file__, "is a file"),
    ],
)
def test_the_folder_must_be_one(centers, message):
    with pytest.raises(UserError, match=message):
        plan_crops(NYU, "test", split_of(None), centers)


def test_files_that_contradict_the_labels_are_warned_about(tmp_path):
    """y down instead of y up: the mistake one makes with NYU's text files."""
    joints = joints_of(NYU)
    xyz = geometry.uvd_to_xyz(joints.mean(axis=1), NYU.camera)
    write_text(tmp_path / "center_test.txt", xyz * [1, -1, 1])
    plan = plan_crops(NYU, "test", split_of(joints), tmp_path)
    assert any("warning: center_test.txt: half of the centers" in note for note in plan.notes)
    boxes = boxes_from_labels(joints_of(K2HPD), 5.0) + 90
    io.savemat(tmp_path / "k2hpd_bndbox_test.mat", {"bndbox": boxes})
    plan = plan_crops(K2HPD, "test", split_of(joints_of(K2HPD)), tmp_path)
    assert any("warning: k2hpd_bndbox_test.mat" in note for note in plan.notes)


# Labels


def test_the_k2hpd_rule_gives_every_published_training_box(official):
    folder = official / "k2hpd"
    joints = io.loadmat(folder / "k2hpd_keypoints_train.mat")["keypointsTrain"].astype(np.float32)
    plan = plan_crops(K2HPD, "train", split_of(joints, len(joints)), "labels")
    published = plan_crops(K2HPD, "train", split_of(joints, len(joints)), folder)
    assert used(published)[:1] == ["k2hpd_bndbox_train.mat"]
    # Stored as unsigned integers: what was negative is 0.
    np.testing.assert_array_equal(np.maximum(plan.values, 0), published.values)


@pytest.mark.parametrize(
    ("track", "files"), [("itop_front", "itop_side"), ("itop_top", "itop_top")]
)
def test_boxes_from_itop_labels_are_like_the_published(official, track, files):
    spec = get_track(track)
    xyz = io.loadmat(official / files / f"{files}_keypoints3D_test.mat")["keypoints3D"] * 1000.0
    split = split_of(geometry.xyz_to_uvd(xyz, spec.camera), len(xyz))
    ours, theirs = (
        geometry.clip_box(plan_crops(spec, "test", split, source).values, spec.frame_size)
        for source in ("labels", official)
    )
    shared = np.minimum(ours[:, 2:], theirs[:, 2:]) - np.maximum(ours[:, :2], theirs[:, :2])
    both = np.prod(np.maximum(shared, 0), axis=1)
    areas = [np.prod(box[:, 2:] - box[:, :2], axis=1) for box in (ours, theirs)]
    assert np.mean(both / (sum(areas) - both)) > 0.89


@pytest.mark.parametrize(("track", "bar"), [("nyu", 20), ("icvl", 12)])
def test_published_hand_centers_are_near_those_of_labels(official, track, bar):
    spec = get_track(track)
    joints = io.loadmat(official / track / f"{track}_keypointsUVD_test.mat")["keypoints3D"]
    split = split_of(joints, len(joints))
    ours, theirs = (
        geometry.uvd_to_xyz(plan_crops(spec, "test", split, source).values, spec.camera)
        for source in ("labels", official)
    )
    assert np.median(np.linalg.norm(ours - theirs, axis=1)) < bar


# The depth


def test_a_center_from_depth_and_from_a_box():
    palm = np.array([30.0, 20.0, 700.0])
    depth = hand(NYU.camera, NYU.frame_size, palm, 0.5).measured(np.random.default_rng(0))
    depth = np.rint(depth).astype(np.uint16)
    alone = crop_from_depth(depth, NYU)
    assert np.linalg.norm(geometry.uvd_to_xyz(alone, NYU.camera) - palm) < 80
    np.testing.assert_array_equal(crop_from_depth(depth, NYU, np.full(4, np.nan)), alone)
    with pytest.raises(UnreadableFrame, match="no depth reading inside the box"):
        crop_from_depth(depth, NYU, (0, 0, 50, 50))


def test_frames_without_a_reading():
    for track in (NYU, ITOP, K2HPD):
        width, height = track.frame_size
        with pytest.raises(UnreadableFrame, match="no depth reading"):
            crop_from_depth(np.zeros((height, width), np.uint16), track)
    far = np.full((240, 320), 5000, np.float32)
    with pytest.raises(UnreadableFrame, match="near the given center"):
        crop_from_depth(far, ITOP, near_uvd=(160, 120, 2500))
    assert crop_from_depth(far, ITOP, near_uvd=np.full(3, np.nan)).shape == (4,)


def test_many_frames_are_worked_through_in_parts():
    joints = joints_of(NYU, 2**16 + 9)
    centers = centers_from_labels(joints, NYU.camera)[-20:]
    np.testing.assert_array_equal(centers, centers_from_labels(joints[-20:], NYU.camera))


def test_boxes_from_labels_in_two_and_three_dimensions():
    joints = np.array([[[10, 20], [30, 60], [np.nan, np.nan]], np.full((3, 2), np.nan)])
    boxes = boxes_from_labels(joints, 15.0)
    np.testing.assert_array_equal(boxes[0], [-5, 5, 45, 75])
    assert np.isnan(boxes[1]).all()
    deep = np.concatenate([joints, np.zeros((2, 3, 1))], axis=-1)
    np.testing.assert_array_equal(boxes_from_labels(deep, 15.0), boxes)
