"""The metrics, against hand-made cases and against slow, obvious loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2j_jax.evaluation import metrics

NAN = np.nan


def test_joint_errors_is_the_distance_in_the_units_of_the_input():
    predicted = [[[3.0, 4.0, 0.0], [1.0, 2.0, 2.0]]]
    np.testing.assert_allclose(metrics.joint_errors(predicted, np.zeros((1, 2, 3))), [[5.0, 3.0]])
    np.testing.assert_allclose(metrics.joint_errors([[[3.0, 4.0]]], np.zeros((1, 1, 2))), [[5.0]])


def test_unlabelled_joints_do_not_count():
    truth, predicted = np.zeros((2, 2, 2, 3))
    predicted[..., 0] = [[10, 1000], [20, 0]]
    truth[0, 1] = NAN  # an unlabelled joint may hold anything
    errors = metrics.joint_errors(predicted, truth, [[True, False], [True, False]])
    assert metrics.mean_error(errors) == 15.0
    np.testing.assert_array_equal(metrics.per_joint_error(errors), [15.0, NAN])
    np.testing.assert_array_equal(metrics.success_rate(errors, [10, 15, 25]), [0.0, 0.5, 1.0])


@pytest.mark.parametrize("which", ["predicted", "truth"])
def test_a_labelled_joint_that_is_not_finite_is_refused(which):
    arrays = {"predicted": np.zeros((3, 4, 3)), "truth": np.zeros((3, 4, 3))}
    arrays[which][2, 1, 0] = NAN
    with pytest.raises(metrics.NotFiniteError, match=f"{which} joint 1 of frame 2"):
        metrics.joint_errors(**arrays)


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
        metrics.mean_error(metrics.joint_errors(np.zeros(predicted), np.zeros(truth), labeled))


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
    np.testing.assert_array_equal(metrics.frame_errors(errors, by), of_frames)
    np.testing.assert_allclose(metrics.success_rate(errors, thresholds, by), rates)
    expected = np.nanmean(1 - np.array(of_frames) / 20)
    assert metrics.success_auc(errors, 20.0, by) == pytest.approx(expected)


def test_auc_is_the_integral_of_the_curve():
    errors = np.random.default_rng(0).gamma(2.0, 10.0, (500, 4))
    curve = metrics.success_rate(errors, np.linspace(0, 50, 20001))
    assert metrics.success_auc(errors, 50.0) == pytest.approx(curve.mean(), abs=1e-4)


def test_rate_below_is_strict_and_pools_what_is_labelled():
    errors = np.array([[99.9, 100.0], [NAN, 5.0]])
    assert metrics.rate_below(errors, 100.0) == pytest.approx(2 / 3)
    assert np.isnan(metrics.rate_below(errors[1:, :1], 100.0))


def test_pdj_is_inclusive_and_measured_in_each_frames_torso():
    errors = np.array([[5.0, 5.1], [10.0, NAN], [0.0, 0.0]])
    table = metrics.pdj(errors, [100.0, 50.0, NAN], (0.05, 0.2))
    np.testing.assert_allclose(table, [[0.5, 0.0], [1.0, 1.0]])
    assert np.isnan(metrics.pdj(errors[2:], [NAN], (0.05,))).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 5), st.integers(0, 2**31))
def test_reductions_agree_with_loops(frames, joints, seed):
    rng = np.random.default_rng(seed)
    p, t = rng.normal(0, 20, (2, frames, joints, 3))
    valid = rng.random((frames, joints)) < 0.7
    valid[0, 0] = True
    errors = metrics.joint_errors(p, t, valid)
    distances = {(n, k): np.sqrt(sum((p[n, k] - t[n, k]) ** 2)) for n, k in np.argwhere(valid)}
    assert metrics.mean_error(errors) == pytest.approx(np.mean(list(distances.values())))
    worst = [max(errors[n, valid[n]]) for n in range(frames) if valid[n].any()]
    expected = sum(w < 30.0 for w in worst) / len(worst)
    assert metrics.success_rate(errors, [30.0])[0] == pytest.approx(expected)
    for joint in {k for _, k in distances}:
        mean = np.mean([error for (_, k), error in distances.items() if k == joint])
        assert metrics.per_joint_error(errors)[joint] == pytest.approx(mean)
