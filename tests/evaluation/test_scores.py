"""Errors, scores and protocols, against hand-made cases, plain loops and the authors' published numbers."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2j_jax.evaluation.compare import compare_predictions
from a2j_jax.evaluation.joint_files import read_joints
from a2j_jax.evaluation.scores import (
    PDJ_RATIOS,
    NotFiniteError,
    frame_errors,
    joint_errors,
    mean_error,
    pdj,
    per_joint_error,
    rate_below,
    score_errors,
    score_map,
    score_pdj,
    score_predictions,
    success_auc,
    success_rate,
)
from a2j_jax.tracks import get_track

NAN = np.nan


def test_joint_errors_is_the_distance_in_the_units_of_the_input():
    predicted = [[[3.0, 4.0, 0.0], [1.0, 2.0, 2.0]]]
    np.testing.assert_allclose(joint_errors(predicted, np.zeros((1, 2, 3))), [[5.0, 3.0]])
    np.testing.assert_allclose(joint_errors([[[3.0, 4.0]]], np.zeros((1, 1, 2))), [[5.0]])


def test_unlabelled_joints_do_not_count():
    truth, predicted = np.zeros((2, 2, 2, 3))
    predicted[..., 0] = [[10, 1000], [20, 0]]
    truth[0, 1] = NAN  # an unlabelled joint may hold anything
    errors = joint_errors(predicted, truth, [[True, False], [True, False]])
    assert mean_error(errors) == 15.0
    np.testing.assert_array_equal(per_joint_error(errors), [15.0, NAN])
    np.testing.assert_array_equal(success_rate(errors, [10, 15, 25]), [0.0, 0.5, 1.0])


@pytest.mark.parametrize("which", ["predicted", "truth"])
def test_a_labelled_joint_that_is_not_finite_is_refused(which):
    arrays = {"predicted": np.zeros((3, 4, 3)), "truth": np.zeros((3, 4, 3))}
    arrays[which][2, 1, 0] = NAN
    with pytest.raises(NotFiniteError, match=f"{which} joint 1 of frame 2"):
        joint_errors(**arrays)


@pytest.mark.parametrize(
    ("predicted", "truth", "valid"),
    [
        ((0, 2, 3), (0, 2, 3), None),
        ((2, 2, 3), (2, 3, 3), None),
        ((2, 3), (2, 3), None),
        ((2, 2, 4), (2, 2, 4), None),
        ((2, 2, 3), (2, 2, 3), (2, 3)),
        ((2, 2, 3), (2, 2, 3), (2, 2)),  # nothing is labeled
    ],
)
def test_empty_or_mismatched_input_is_refused(predicted, truth, valid):
    labeled = None if valid is None else np.zeros(valid, bool)
    with pytest.raises(ValueError):
        mean_error(joint_errors(np.zeros(predicted), np.zeros(truth), labeled))


@pytest.mark.parametrize(
    ("by", "of_frames", "thresholds", "rates"),
    [
        ("worst", [19.0, 12.0, 8.0, NAN], [12.0, 19.0, 20.0], [1 / 3, 2 / 3, 1.0]),  # strict
        ("mean", [10.0, 11.0, 8.0, NAN], [10.0, 10.5, 12.0], [1 / 3, 2 / 3, 1.0]),
    ],
)
def test_success_by_the_worst_or_the_mean_joint(by, of_frames, thresholds, rates):
    """A frame without labels is left out."""
    errors = [[1.0, 19.0], [10.0, 12.0], [8.0, NAN], [NAN, NAN]]
    np.testing.assert_array_equal(frame_errors(errors, by), of_frames)
    np.testing.assert_allclose(success_rate(errors, thresholds, by), rates)
    expected = np.nanmean(1 - np.array(of_frames) / 20)
    assert success_auc(errors, 20.0, by) == pytest.approx(expected)


def test_auc_is_the_integral_of_the_curve():
    errors = np.random.default_rng(0).gamma(2.0, 10.0, (500, 4))
    curve = success_rate(errors, np.linspace(0, 50, 20001))
    assert success_auc(errors, 50.0) == pytest.approx(curve.mean(), abs=1e-4)


def test_rate_below_is_strict_and_pools_what_is_labelled():
    errors = np.array([[99.9, 100.0], [NAN, 5.0]])
    assert rate_below(errors, 100.0) == pytest.approx(2 / 3)
    assert np.isnan(rate_below(errors[1:, :1], 100.0))


def test_pdj_is_inclusive_and_measured_in_each_frames_torso():
    errors = np.array([[5.0, 5.1], [10.0, NAN], [0.0, 0.0]])
    table = pdj(errors, [100.0, 50.0, NAN], (0.05, 0.2))
    np.testing.assert_allclose(table, [[0.5, 0.0], [1.0, 1.0]])
    assert np.isnan(pdj(errors[2:], [NAN], (0.05,))).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 5), st.integers(0, 2**31))
def test_reductions_agree_with_loops(frames, joints, seed):
    rng = np.random.default_rng(seed)
    p, t = rng.normal(0, 20, (2, frames, joints, 3))
    valid = rng.random((frames, joints)) < 0.7
    valid[0, 0] = True
    errors = joint_errors(p, t, valid)
    distances = {(n, k): np.sqrt(sum((p[n, k] - t[n, k]) ** 2)) for n, k in np.argwhere(valid)}
    assert mean_error(errors) == pytest.approx(np.mean(list(distances.values())))
    worst = [max(errors[n, valid[n]]) for n in range(frames) if valid[n].any()]
    expected = sum(w < 30.0 for w in worst) / len(worst)
    assert success_rate(errors, [30.0])[0] == pytest.approx(expected)
    for joint in {k for _, k in distances}:
        mean = np.mean([error for (_, k), error in distances.items() if k == joint])
        assert per_joint_error(errors)[joint] == pytest.approx(mean)


# --- Scores of predictions

NYU, ITOP, K2HPD = (get_track(name) for name in ("nyu", "itop_front", "k2hpd"))


def test_json_has_the_contracted_keys_and_is_json():
    errors = np.full((3, 14), 15.0)
    errors[:, 5], errors[:, 6] = np.nan, 35.0
    out = json.loads(json.dumps(score_errors(errors, NYU).to_json(), allow_nan=False))
    assert (out["track"], out["frames"]) == ("nyu", 3)
    assert out["mean_error_mm"] == pytest.approx(215 / 13)
    assert out["per_joint_mm"][4:7] == [15.0, None, 35.0]
    assert out["success_rate"] == {"10": 0.0, "20": 0.0, "30": 0.0, "40": 1.0}
    assert out["success_rate_mean_joint"] == {"10": 0.0, "20": 1.0, "30": 1.0, "40": 1.0}
    assert out["auc"] == out["success_auc_80mm"] == pytest.approx(1 - 35 / 80)
    assert out["auc_mean_joint"] == pytest.approx(1 - 215 / 13 / 80)
    assert not {"map_10cm", "pdj", "subsets"} & out.keys()


def test_millimetres_come_from_the_camera():
    uvd = np.full((1, 14, 3), 400.0)
    moved = uvd + np.array([1.0, 0.0, 0.0])  # one pixel at 400 mm is 400/fx mm
    assert score_predictions(moved, uvd, NYU).mean_error == pytest.approx(400 / 588.03)
    other = np.array([[100.0, 100.0, 0.0, 0.0]])
    assert score_predictions(moved, uvd, NYU, cameras=other).mean_error == pytest.approx(4.0)
    with pytest.raises(ValueError, match="camera"):
        score_predictions(moved, uvd, dataclasses.replace(NYU, camera=None))


def test_2d_tracks_are_scored_in_pixels():
    uv = np.zeros((2, 19, 2))
    scores = score_predictions(uv + np.array([3.0, 4.0]), uv, K2HPD)
    assert scores.unit == "px"
    assert scores.to_json()["mean_error_px"] == pytest.approx(5.0)
    assert "per_joint_px" in scores.to_json()


# reference/README.md, percent.
PER_JOINT = (
    "98.54 99.20 96.48 95.97 79.35 78.49 69.59 67.12 98.52 91.90 89.80 91.26 90.23 87.37 86.45"
)


# The authors' predictions of the front view, left and right pooled as in the paper's Table 5; published.json has them.
TABLE_5 = {
    "head": 98.54, "neck": 99.20, "shoulders": 96.23, "elbows": 78.92, "hands": 68.35,
    "torso": 98.52, "hips": 90.85, "knees": 90.75, "feet": 86.91,
}  # fmt: skip


def test_the_authors_itop_predictions_give_table_5(official):
    labels = official / "itop_side" / "itop_side_keypoints3D_test.mat"
    out = compare_predictions({"A2J": official / "itop_side_88.mat"}, ITOP, labels=labels)
    assert out["frames"] == 4863
    assert out["map_10cm"] == pytest.approx(0.88018, abs=5e-6)
    expected = [float(x) / 100 for x in PER_JOINT.split()]
    np.testing.assert_allclose(out["map_10cm_per_joint"], expected, atol=5.1e-5)
    groups = out["map_10cm_groups"]
    for name, percent in TABLE_5.items():
        assert groups[name] == pytest.approx(percent / 100, abs=5.1e-5), name
    assert list(groups)[-3:] == ["upper_body", "lower_body", "full_body"]
    assert groups["full_body"] == out["map_10cm"]
    assert groups["upper_body"] == pytest.approx(np.mean(out["map_10cm_per_joint"][:8]))
    assert groups["lower_body"] == pytest.approx(np.mean(out["map_10cm_per_joint"][9:]))


def test_map_is_strict_and_counts_only_labels():
    errors = np.full((2, 15), 99.0)
    errors[0, 0] = 100.0  # not nearer than 10 cm
    errors[1, 2:4] = np.nan
    errors[:, 8] = np.nan
    scores = score_map(errors, ITOP)
    assert scores.per_joint[0] == 0.5
    assert np.isnan(scores.per_joint[8])
    assert scores.mean == pytest.approx(25 / 26)
    out = json.loads(json.dumps(scores.json, allow_nan=False))
    assert out["map_10cm_groups"]["torso"] is None
    assert out["map_10cm_groups"]["shoulders"] == 1.0


def slow_pdj(predicted, labels, ratio):
    """As the official test program counts."""
    count = 0
    for p, t in zip(predicted, labels, strict=True):
        torso = np.hypot(*(t[1] - (t[9] / 2 + t[12] / 2)))
        count += sum(np.hypot(*(p[k] - t[k])) <= ratio * torso for k in range(19))
    return count / predicted[..., 0].size


def test_pdj_on_the_published_labels(official):
    labels = read_joints(official / "k2hpd" / "k2hpd_keypoints_test.mat", K2HPD).joints_uvd[::200]
    noise = np.random.default_rng(0).normal(0, 4, labels.shape)
    scores = score_predictions(labels + noise, labels, K2HPD)
    out = json.loads(json.dumps(scores.to_json()))
    assert list(out["pdj"]) == ["0.05", "0.10", "0.15", "0.20"]
    for ratio in PDJ_RATIOS:
        assert out["pdj"][f"{ratio:.2f}"] == pytest.approx(slow_pdj(labels + noise, labels, ratio))
    assert out["pdj_mean"] == pytest.approx(np.mean(list(out["pdj"].values())))
    assert 0.05 < out["pdj"]["0.05"] < out["pdj"]["0.20"] < 1.0
    table = np.array([out["pdj_per_joint"][ratio] for ratio in out["pdj"]])
    np.testing.assert_allclose(table.mean(1), list(out["pdj"].values()))
    np.testing.assert_allclose(out["pdj_mean_per_joint"], table.mean(0))
    assert "map_10cm" not in out


def test_pdj_leaves_out_what_is_not_labelled():
    labels = np.random.default_rng(1).uniform(0, 200, (4, 19, 2))
    errors = np.zeros((4, 19))
    errors[0, 9] = np.nan  # no torso: the frame does not count
    errors[0, 0] = 1e3
    errors[1, 5] = np.nan
    errors[:, 18] = np.nan
    scores = score_pdj(errors, labels, K2HPD)
    assert scores.parts["PDJ at 0.05"] == 1.0
    assert np.isnan(scores.per_joint[18])
    assert scores.json["pdj_per_joint"]["0.20"][18] is None
    assert score_pdj(errors, labels, get_track("nyu")) is None  # a skeleton without a torso
    assert score_pdj(np.full((4, 19), np.nan), labels, K2HPD) is None
