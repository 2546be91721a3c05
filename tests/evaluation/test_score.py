"""Scores, against the authors' published numbers."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from a2j_jax.errors import UserError
from a2j_jax.evaluation.joint_files import JointSet, read_joints
from a2j_jax.evaluation.scores import score_errors, score_joint_sets, score_predictions
from a2j_jax.tracks import get_track

NYU, K2HPD = get_track("nyu"), get_track("k2hpd")
# reference/README.md: per joint error of the authors' NYU prediction file, mm.
AUTHORS_PER_JOINT = (
    "9.151 7.143 8.654 6.897 9.583 7.373 10.753 8.445 10.615 8.224 7.856 9.276 9.251 7.316"
)


def test_authors_nyu_prediction_scores_8_61_mm(official: Path) -> None:
    predicted = read_joints(official / "nyu_861_epoch32_UVD.txt", NYU)
    labels = read_joints(official / "nyu" / "nyu_keypointsUVD_test.mat", NYU)
    scores = score_joint_sets(predicted, labels, NYU)
    assert scores.frames == 8252
    assert scores.mean_error == pytest.approx(8.6098, abs=5e-4)
    expected = [float(x) for x in AUTHORS_PER_JOINT.split()]
    np.testing.assert_allclose(scores.per_joint, expected, atol=5.1e-4)
    assert scores.success_rate[20.0] == pytest.approx(0.7056, abs=5e-5)
    assert scores.success_rate[40.0] == pytest.approx(0.9094, abs=5e-5)


def test_authors_itop_prediction_has_88_percent_within_10_cm(official: Path) -> None:
    track = get_track("itop_front")
    predicted = read_joints(official / "itop_side_88.mat", track)
    labels = read_joints(official / "itop_side" / "itop_side_keypoints3D_test.mat", track)
    errors = score_joint_sets(predicted, labels, track).errors
    assert (errors < 100).mean() == pytest.approx(0.88018, abs=5e-6)


def test_json_has_the_contracted_keys_and_is_json() -> None:
    errors = np.full((3, 14), 15.0)
    errors[:, 5] = np.nan
    out = json.loads(json.dumps(score_errors(errors, NYU).to_json(), allow_nan=False))
    assert out["track"] == "nyu"
    assert out["frames"] == 3
    assert out["mean_error_mm"] == 15.0
    assert out["per_joint_mm"][4:7] == [15.0, None, 15.0]
    assert out["success_rate"] == {"10": 0.0, "20": 1.0, "30": 1.0, "40": 1.0}
    assert out["success_rate_mean_joint"] == out["success_rate"]
    assert out["auc"] == out["success_auc_80mm"] == pytest.approx(1 - 15 / 80)
    assert out["auc_mean_joint"] == pytest.approx(1 - 15 / 80)
    assert not {"map_10cm", "pdj"} & out.keys()


def test_millimetres_come_from_the_camera() -> None:
    uvd = np.full((1, 14, 3), 400.0)
    moved = uvd + np.array([1.0, 0.0, 0.0])  # one pixel at 400 mm is 400/fx mm
    assert score_predictions(moved, uvd, NYU).mean_error == pytest.approx(400 / 588.03)
    other = np.array([[100.0, 100.0, 0.0, 0.0]])
    assert score_predictions(moved, uvd, NYU, cameras=other).mean_error == pytest.approx(4.0)


def test_unlabelled_joints_do_not_count() -> None:
    uvd = np.full((2, 14, 3), 400.0)
    wrong, valid = uvd.copy(), np.ones((2, 14), bool)
    wrong[1, 3, 2] += 50
    valid[1, 3] = False
    assert score_predictions(wrong, uvd, NYU, valid).mean_error == 0.0
    assert score_predictions(wrong, uvd, NYU).mean_error > 0.0


def test_2d_tracks_are_scored_in_pixels() -> None:
    uv = np.zeros((2, 19, 2))
    scores = score_predictions(uv + np.array([3.0, 4.0]), uv, K2HPD)
    assert scores.unit == "px"
    assert scores.to_json()["mean_error_px"] == pytest.approx(5.0)
    assert "per_joint_px" in scores.to_json()


def test_a_3d_track_without_a_camera_needs_one() -> None:
    track = dataclasses.replace(NYU, camera=None)
    with pytest.raises(ValueError, match="camera"):
        score_predictions(np.ones((1, 14, 3)), np.ones((1, 14, 3)), track)


def test_success_by_the_mean_joint_is_easier() -> None:
    errors = np.full((4, 14), 5.0)
    errors[:, 2] = 35.0
    scores = score_errors(errors, NYU)
    assert scores.success_rate[30.0] == 0.0
    assert scores.success_rate_mean_joint[10.0] == 1.0
    assert scores.success_auc < scores.success_auc_mean_joint


def test_the_labels_may_be_of_some_of_the_frames() -> None:
    uvd = np.random.default_rng(0).uniform(300, 400, (4, 14, 3))
    predicted = JointSet(uvd, index=np.array([1, 3, 5, 7]))
    labels = JointSet(uvd[[1, 2]], index=np.array([3, 5]))
    scores = score_joint_sets(predicted, labels, NYU)
    assert (scores.frames, scores.mean_error) == (2, 0.0)
    with pytest.raises(UserError, match=r"3 of 4 frames .* frame 1\), and .* frame 4"):
        score_joint_sets(predicted, JointSet(uvd[:2], index=np.array([3, 4])), NYU)


def test_different_frames_are_refused() -> None:
    uvd = np.ones((4, 14, 3))
    with pytest.raises(UserError, match=r"3 frames.*4"):
        score_joint_sets(JointSet(uvd[:3]), JointSet(uvd), NYU)
    shifted = JointSet(uvd, index=np.array([0, 1, 3, 4]))
    with pytest.raises(UserError, match=r"holds frame 4 .*4 frames"):
        score_joint_sets(shifted, JointSet(uvd), NYU)
