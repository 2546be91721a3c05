"""The metrics, against hand-made cases and against slow, obvious loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2j_jax.evaluation import metrics


def test_joint_errors_is_the_distance_in_the_units_of_the_input() -> None:
    truth = np.zeros((1, 2, 3))
    predicted = np.array([[[3.0, 4.0, 0.0], [1.0, 2.0, 2.0]]])
    np.testing.assert_allclose(metrics.joint_errors(predicted, truth), [[5.0, 3.0]])
    pixels = metrics.joint_errors(np.array([[[3.0, 4.0]]]), np.zeros((1, 1, 2)))
    np.testing.assert_allclose(pixels, [[5.0]])


def test_unlabelled_joints_do_not_count() -> None:
    truth = np.zeros((2, 2, 3))
    predicted = np.zeros((2, 2, 3))
    predicted[0, 0] = [10, 0, 0]
    predicted[0, 1] = [1000, 0, 0]
    predicted[1, 0] = [20, 0, 0]
    truth[0, 1] = np.nan  # an unlabelled joint may hold anything
    valid = np.array([[True, False], [True, False]])
    errors = metrics.joint_errors(predicted, truth, valid)
    assert metrics.mean_error(errors) == 15.0
    per_joint = metrics.per_joint_error(errors)
    assert per_joint[0] == 15.0
    assert np.isnan(per_joint[1])
    np.testing.assert_array_equal(metrics.success_rate(errors, [10, 15, 25]), [0.0, 0.5, 1.0])


def test_a_frame_without_labels_is_left_out_of_the_success_rate() -> None:
    errors = np.array([[5.0, 5.0], [np.nan, np.nan]])
    assert metrics.success_rate(errors, [10.0])[0] == 1.0
    assert np.isnan(metrics.frame_errors(errors, "worst")[1])


def test_success_is_by_the_worst_joint_and_strict() -> None:
    errors = np.array([[1.0, 10.0], [1.0, 9.999], [30.0, 1.0]])
    np.testing.assert_allclose(metrics.success_rate(errors, [10.0, 31.0]), [1 / 3, 1.0])


@pytest.mark.parametrize("which", ["predicted", "truth"])
def test_a_labelled_joint_that_is_not_finite_is_refused(which: str) -> None:
    arrays = {"predicted": np.zeros((3, 4, 3)), "truth": np.zeros((3, 4, 3))}
    arrays[which][2, 1, 0] = np.nan
    with pytest.raises(ValueError, match=f"{which} joint 1 of frame 2"):
        metrics.joint_errors(**arrays)


@pytest.mark.parametrize(
    ("predicted", "truth", "valid"),
    [
        (np.zeros((0, 2, 3)), np.zeros((0, 2, 3)), None),
        (np.zeros((2, 2, 3)), np.zeros((2, 3, 3)), None),
        (np.zeros((2, 3)), np.zeros((2, 3)), None),
        (np.zeros((2, 2, 4)), np.zeros((2, 2, 4)), None),
        (np.zeros((2, 2, 3)), np.zeros((2, 2, 3)), np.ones((2, 3), bool)),
    ],
)
def test_empty_or_mismatched_input_is_refused(predicted, truth, valid) -> None:
    with pytest.raises(ValueError):
        metrics.joint_errors(predicted, truth, valid)


def test_nothing_labelled_is_refused() -> None:
    errors = metrics.joint_errors(np.zeros((1, 2, 3)), np.zeros((1, 2, 3)), np.zeros((1, 2), bool))
    with pytest.raises(ValueError, match="no labeled joint"):
        metrics.mean_error(errors)


def test_auc_is_the_integral_of_the_curve() -> None:
    errors = np.random.default_rng(0).gamma(2.0, 10.0, (500, 4))
    grid = np.linspace(0, 50, 20001)
    curve = metrics.success_rate(errors, grid)
    assert metrics.success_auc(errors, 50.0) == pytest.approx(curve.mean(), abs=1e-4)


def test_success_by_the_mean_joint() -> None:
    errors = np.array([[1.0, 19.0], [10.0, 12.0], [8.0, np.nan], [np.nan, np.nan]])
    np.testing.assert_array_equal(metrics.frame_errors(errors, "mean"), [10.0, 11.0, 8.0, np.nan])
    rates = metrics.success_rate(errors, [10.0, 10.5, 12.0], by="mean")
    np.testing.assert_allclose(rates, [1 / 3, 2 / 3, 1.0])  # strict
    expected = np.mean([1 - 10 / 20, 1 - 11 / 20, 1 - 8 / 20])
    assert metrics.success_auc(errors, 20.0, by="mean") == pytest.approx(expected)


def test_rate_below_is_strict_and_pools_what_is_labelled() -> None:
    errors = np.array([[99.9, 100.0], [np.nan, 5.0]])
    assert metrics.rate_below(errors, 100.0) == pytest.approx(2 / 3)
    assert np.isnan(metrics.rate_below(errors[1:, :1], 100.0))


def test_pdj_is_inclusive_and_measured_in_each_frames_torso() -> None:
    errors = np.array([[5.0, 5.1], [10.0, np.nan], [0.0, 0.0]])
    table = metrics.pdj(errors, [100.0, 50.0, np.nan], (0.05, 0.2))
    np.testing.assert_allclose(table, [[0.5, 0.0], [1.0, 1.0]])
    assert np.isnan(metrics.pdj(errors[2:], [np.nan], (0.05,))).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 5), st.integers(0, 2**31))
def test_reductions_agree_with_loops(frames: int, joints: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, t = rng.normal(0, 20, (2, frames, joints, 3))
    valid = rng.random((frames, joints)) < 0.7
    valid[0, 0] = True
    errors = metrics.joint_errors(p, t, valid)
    flat = [
        float(np.sqrt(((p[n, k] - t[n, k]) ** 2).sum()))
        for n in range(frames)
        for k in range(joints)
        if valid[n, k]
    ]
    assert metrics.mean_error(errors) == pytest.approx(np.mean(flat))
    worst = [max(errors[n, valid[n]]) for n in range(frames) if valid[n].any()]
    expected = sum(w < 30.0 for w in worst) / len(worst)
    assert metrics.success_rate(errors, [30.0])[0] == pytest.approx(expected)
    for k in range(joints):
        if valid[:, k].any():
            mean = np.mean(errors[valid[:, k], k])
            assert metrics.per_joint_error(errors)[k] == pytest.approx(mean)
