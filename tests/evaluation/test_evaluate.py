"""Evaluation over batches: every frame once, mapped back with its own box and camera."""

from types import SimpleNamespace

import numpy as np
import pytest

from a2j_jax import geometry
from a2j_jax.data import crops
from a2j_jax.errors import UserError
from a2j_jax.evaluation.evaluate import (
    center_pose,
    counting,
    evaluate_batches,
    mean_pose,
    predict_batches,
    read_frames,
    score_constant_pose,
    split_info,
    with_unclipped_boxes,
)
from a2j_jax.tracks import TrackRecord, get_track

TRACKS = ("nyu", "itop_front", "k2hpd")


def examples(name, count=11):
    """Made-up frames of a track, each with its own box and camera, some boxes over the border."""
    track = get_track(name)
    rng = np.random.default_rng(0)
    center = rng.uniform([10, 10, 500], [300, 200, 900], (count, 3)).astype(np.float32)
    corner = rng.uniform(-20, 60, (count, 2))
    box = np.concatenate([corner, corner + rng.uniform(80, 150, (count, 2))], -1)
    uvd = center[:, None] + rng.normal(0, 20, (count, track.num_joints, 3))
    cameras = np.array([[588.0, -587.0, 320.0, 240.0], [475.0, 475.0, 315.0, 245.0]], np.float32)
    return {
        "joints_uvd": uvd[..., : track.joint_dims].astype(np.float32),
        "valid": rng.random((count, track.num_joints)) < 0.9,
        "box_px": geometry.clip_box(box, track.frame_size),
        "center_uvd": center if track.crop_by == "center" else np.zeros_like(center),
        "camera": cameras[np.arange(count) % 2],
        "index": np.arange(count, dtype=np.int64),
    }


def batched(data, size=4):
    """Full batches, the last padded with copies of the first frame and masked."""
    count = len(data["index"])
    for start in range(0, count, size):
        rows = np.arange(start, start + size)
        yield {k: v[np.where(rows < count, rows, 0)] for k, v in data.items()} | {
            "mask": rows < count
        }


def oracle(track_name, shift=0.0):
    """Answers with the labels themselves, in crop coordinates."""
    track = get_track(track_name)

    def predict(batch):
        joints = crops.joints_to_crop(
            batch["joints_uvd"], batch["box_px"], batch["center_uvd"][:, 2], track
        )
        joints[~batch["mask"]] = np.nan  # what a padded row says must not matter
        return joints + shift, np.full(joints.shape[:2], 0.5)

    return predict


def evaluated(data, name, shift=0.0):
    return evaluate_batches(oracle(name, shift), batched(data), get_track(name))


@pytest.mark.parametrize("name", TRACKS)
def test_the_labels_themselves_score_zero(name):
    data, track = examples(name), get_track(name)
    counted = []
    batches = counting(batched(data), counted.append)
    result = evaluate_batches(oracle(name), batches, track)
    assert counted == [4, 4, 3]
    assert result.scores.mean_error == pytest.approx(0.0, abs=1e-9)
    assert result.scores.frames == 11
    frames = read_frames(batched(data), track)  # without predicting
    for array in vars(frames):
        np.testing.assert_array_equal(getattr(frames, array), getattr(result.frames, array))
    np.testing.assert_allclose(result.predictions.joints_uvd, data["joints_uvd"], atol=1e-9)
    np.testing.assert_array_equal(result.frames.index, np.arange(11))


def test_each_frame_uses_its_own_camera():
    data = examples("nyu")
    xyz = evaluated(data, "nyu").predictions.joints_xyz_mm
    cameras = map(geometry.Camera.from_array, data["camera"])
    expected = list(map(geometry.uvd_to_xyz, data["joints_uvd"], cameras))
    np.testing.assert_allclose(xyz, expected, atol=1e-6)


def test_the_order_of_the_batches_does_not_matter():
    data = examples("nyu")
    shuffled = {k: v[np.random.default_rng(5).permutation(11)] for k, v in data.items()}
    one = evaluated(data, "nyu", 3.0)
    other = evaluate_batches(oracle("nyu", 3.0), batched(shuffled, 3), get_track("nyu"))
    np.testing.assert_array_equal(one.scores.errors, other.scores.errors)
    assert one.scores.mean_error > 1.0


def test_a_frame_counted_twice_is_a_bug():
    data = examples("nyu")
    data["index"][4] = 3
    with pytest.raises(ValueError, match="frame 3 was evaluated more than once"):
        evaluated(data, "nyu")


def test_no_frames():
    nothing = next(batched(examples("nyu"))) | {"mask": np.zeros(4, bool)}
    for batches in ([], [nothing]):
        with pytest.raises(UserError, match="no frames"):
            evaluate_batches(oracle("nyu"), batches, get_track("nyu"))


def test_without_labels_frames_are_predicted_but_not_scored():
    data = examples("nyu")
    labeled = evaluated(data, "nyu").predictions
    data["valid"][:] = False
    predictions, frames = predict_batches(oracle("nyu"), batched(data), get_track("nyu"))
    assert not frames.labeled.any()
    np.testing.assert_array_equal(predictions.joints_uvd, labeled.joints_uvd)
    with pytest.raises(UserError, match="none of the 11 frames of track 'nyu' has a label"):
        evaluated(data, "nyu")


@pytest.mark.parametrize("name", TRACKS)
def test_baselines_take_the_same_way_back(name):
    data, track = examples(name), get_track(name)
    mean = mean_pose(batched(data), track)
    assert mean.shape == (track.num_joints, track.joint_dims)
    in_crop = crops.joints_to_crop(
        data["joints_uvd"], data["box_px"], data["center_uvd"][:, 2], track
    )
    expected = in_crop[data["valid"][:, 2], 2].mean(0)
    np.testing.assert_allclose(mean[2], expected)

    def constant(batch):
        shape = (len(batch["index"]), *mean.shape)
        return np.broadcast_to(mean, shape), np.ones(shape[:2])

    by_batches = evaluate_batches(constant, batched(data), track)
    found = score_constant_pose(mean, by_batches.frames, track)
    np.testing.assert_array_equal(found.errors, by_batches.scores.errors)


def test_the_centre_baseline_is_the_crop_centre():
    data, track = examples("nyu"), get_track("nyu")
    # Well inside the frame, so that nothing is clipped and the crop's center is the given center.
    data["center_uvd"][:, :2] += 150
    data["camera"][:] = track.camera.as_array()
    data["box_px"] = geometry.box_from_center(
        data["center_uvd"], track.half_window_mm, track.camera
    )
    data["joints_uvd"] = np.repeat(data["center_uvd"][:, None], 14, axis=1)
    pose = center_pose(track, np.ones((14, 3)))
    frames = evaluated(data, "nyu").frames
    assert score_constant_pose(pose, frames, track).mean_error == pytest.approx(0.0, abs=1e-3)
    mean = np.zeros((15, 3))  # a body has its mean depth
    mean[:, 2] = np.arange(15)
    np.testing.assert_array_equal(center_pose(get_track("itop_front"), mean)[3], [144, 144, 7])
    assert center_pose(get_track("k2hpd"), np.zeros((19, 2))).shape == (19, 2)


def test_a_joint_never_labelled_has_no_mean():
    data = examples("nyu")
    data["valid"][:, 3] = False
    with pytest.raises(UserError, match="1 of 14 joints are never labeled"):
        mean_pose(batched(data), get_track("nyu"))


def test_joints_come_back_by_the_unclipped_box_on_request():
    """As the official program does on ITOP and K2HPD: corners of the crop are corners of the window."""
    track = get_track("itop_front")
    data = examples("itop_front")
    window = data["box_px"] + np.array([-7.0, -3.0, 5.0, 1.0])
    corners = np.zeros((len(window), track.num_joints, 3))
    corners[:, 1::2, :2] = track.crop_size

    def predict(batch):
        rows = batch["index"]
        return corners[rows], np.ones((len(rows), track.num_joints))

    batches = [{**data, "window_px": window}]
    found, _ = predict_batches(predict, with_unclipped_boxes(batches), track)
    np.testing.assert_allclose(found.joints_uvd[:, 0, :2], window[:, :2])
    np.testing.assert_allclose(found.joints_uvd[:, 1, :2], window[:, 2:])


def info(metadata, name="nyu", split="test"):
    splits = {
        "test": SimpleNamespace(num_examples=5),
        "train": SimpleNamespace(num_examples=90_000),
    }
    stored = SimpleNamespace(
        data_path="data/nyu", name=name, info=SimpleNamespace(metadata=metadata, splits=splits)
    )
    return split_info(stored, get_track(name), split)


def test_the_centers_and_their_source():
    centers = {"test": {"nyu_center_test.mat": 8000, "depth": 252}, "train": {"labels": 5}}
    metadata = {
        "provenance": {"centers": centers, "notes": {"test": ["two files are missing"]}},
        "skipped": {"test": {"truncated": 2}},
        "statistics": {"mean": -0.66877, "std": 28.3296},
    }
    found = info(metadata)
    assert (found.total, found.centers) == (8252, centers["test"])
    assert dict(found.facts) == {
        "data set": "data/nyu",
        "split": "test",
        "centers from": "nyu_center_test.mat (8,000 frames), depth (252 frames)",
        "left out": "truncated (2 frames)",
        "note": "two files are missing",
        "training crops": "mean -0.6688, std 28.3296",
    }
    sliced = info(metadata, split="train[:50%]")
    assert (sliced.total, dict(sliced.facts)["centers from"]) == (90_000, "labels (5 frames)")
    assert "boxes from" in dict(info(metadata, "itop_front").facts)


@pytest.mark.parametrize(
    "metadata",
    [{"provenance": None}, {"skipped": {"test": 3}}, {"statistics": {"mean": "x", "std": 1}}, [1]],
)
def test_damaged_metadata_are_refused(metadata):
    with pytest.raises(UserError, match=r"metadata\.json: is damaged"):
        info(metadata)


@pytest.mark.parametrize("metadata", [None, {}, {"spec": {}}, {"provenance": {}, "skipped": {}}])
def test_older_data_sets_state_less(metadata):
    found = info(metadata)
    assert dict(found.facts) == {"data set": "data/nyu", "split": "test"}
    assert (found.total, found.centers, found.record) == (
        8252,
        None,
        TrackRecord.of(get_track("nyu")),
    )
