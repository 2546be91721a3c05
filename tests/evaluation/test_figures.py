"""Plots: the numbers drawn are the numbers meant."""

import numpy as np
import pytest

from a2j_jax.evaluation import metrics, plots
from a2j_jax.evaluation.scores import score_errors
from a2j_jax.tracks import get_track

NYU = get_track("nyu")


def scores(errors: np.ndarray):
    return score_errors(errors, NYU)


def spread(seed: int, scale: float) -> np.ndarray:
    return np.random.default_rng(seed).gamma(3.0, scale, (60, 14))


def test_bins_hold_equally_many_and_their_quartiles() -> None:
    x = np.arange(400.0)
    errors = np.where(x < 200, 1.0, 5.0)
    errors[::4] += 1.0  # a quarter of each half
    order = np.random.default_rng(0).permutation(400)
    bins = plots.quartile_bins(x[order].reshape(20, 20), errors[order].reshape(20, 20), bins=2)
    np.testing.assert_allclose(bins.x, [99.5, 299.5])
    np.testing.assert_allclose(bins.median, [1.0, 5.0])
    np.testing.assert_allclose(bins.low, [1.0, 5.0])
    assert (bins.high > bins.median).all()


def test_bins_leave_out_what_is_not_known() -> None:
    bins = plots.quartile_bins([1.0, np.nan, 3.0], [np.nan, 2.0, 7.0])
    np.testing.assert_allclose([bins.x, bins.median], [[3.0], [7.0]])
    with pytest.raises(ValueError, match="nothing to bin"):
        plots.quartile_bins([np.nan], [1.0])


@pytest.mark.parametrize("by", ["worst", "mean"])
def test_the_success_curve_is_the_metrics(by) -> None:
    table = spread(0, 4.0)
    axes = plots.success_curve({"A": scores(table), "B": scores(2 * table)}, by).axes[0]
    one, two = axes.lines
    np.testing.assert_allclose(
        one.get_ydata(), 100 * metrics.success_rate(table, one.get_xdata(), by)
    )
    assert (two.get_ydata() <= one.get_ydata()).all()
    assert one.get_color() != two.get_color()
    auc = metrics.success_auc(table, 80.0, by)
    assert axes.get_legend().get_texts()[0].get_text() == f"A, AUC {auc:.1%}"


def test_the_curve_of_a_body_is_not_cut_at_a_hands_error() -> None:
    hand, body = (plots.success_curve({"A": scores(spread(0, s))}).axes[0] for s in (4.0, 20.0))
    assert hand.get_xlim() == (0, 80)
    assert body.get_xlim()[1] in (160, 320)
    # But not for ever: a method that fails is no reason to.
    lost = plots.success_curve({"A": scores(np.full((5, 14), 1e6))}).axes[0]
    assert lost.get_xlim() == (0, 320)


def test_bars_have_the_joints_from_above_and_the_mean_below_them() -> None:
    values = {"A": [1.0, 2.0, np.nan, 1.5], "B": [3.0, 4.0, 5.0, 4.0]}
    axes = plots.joint_bars(values, ("one_tip", "two", "three"), "error (mm)").axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["one tip", "two", "three", "mean"]
    first, second = ([bar.get_width() for bar in group] for group in axes.containers)
    assert first == [1.0, 2.0, 0.0, 1.5]
    assert second == values["B"]
    assert axes.yaxis_inverted()
    places = [bar.get_y() for bar in axes.containers[0]]
    assert places == sorted(places)
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["A", "B"]


def test_error_against_draws_a_line_and_a_band_per_method() -> None:
    table = spread(0, 4.0)
    depth = np.tile(np.linspace(500, 1000, 60)[:, None], (1, 14))
    axes = plots.error_against(
        depth, "depth (mm)", {"A": scores(table), "B": scores(table + 9)}
    ).axes[0]
    bins = plots.quartile_bins(depth, table)
    np.testing.assert_allclose(axes.lines[0].get_xydata(), np.stack([bins.x, bins.median], -1))
    assert len(axes.collections) == 2
    assert axes.get_ylim()[0] == 0
    assert axes.get_xlabel() == "depth (mm)"


def test_many_methods_and_long_names_leave_room_for_the_plot() -> None:
    many = {f"a rather long name of method {n}": scores(spread(n, 4.0)) for n in range(8)}
    figure = plots.success_curve(many)
    figure.draw_without_rendering()
    box = figure.axes[0].get_position()
    assert box.height * figure.get_size_inches()[1] == pytest.approx(2.7, abs=0.3)
    legend = figure.axes[0].get_legend().get_window_extent(figure.canvas.get_renderer())
    assert legend.y1 <= figure.bbox.y1
