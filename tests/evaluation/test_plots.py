"""Plots draw the numbers that are meant, and pictures the right frames."""

import dataclasses

import numpy as np
import pytest

from a2j_jax import geometry
from a2j_jax.evaluation import plots
from a2j_jax.evaluation.scores import score_errors, success_auc, success_rate
from a2j_jax.tracks import get_track, with_crop_size
from tests.evaluation import made_up

NYU = get_track("nyu")


def scores(errors):
    return score_errors(errors, NYU)


def spread(seed, scale):
    return np.random.default_rng(seed).gamma(3.0, scale, (60, 14))


def texts(labels):
    return [label.get_text() for label in labels]


def test_bins_hold_equally_many_and_their_quartiles():
    x = np.arange(400.0)
    errors = np.where(x < 200, 1.0, 5.0)
    errors[::4] += 1.0  # a quarter of each half
    order = np.random.default_rng(0).permutation(400)
    x, errors = (values[order].reshape(20, 20) for values in (x, errors))
    *found, high = plots.quartile_bins(x, errors, bins=2)
    np.testing.assert_allclose(found, [[99.5, 299.5], [1.0, 5.0], [1.0, 5.0]])
    assert (high > found[2]).all()
    # Unknown ones are left out.
    bins = plots.quartile_bins([1.0, np.nan, 3.0], [np.nan, 2.0, 7.0])
    np.testing.assert_allclose(bins, [[3.0], [7.0], [7.0], [7.0]])
    with pytest.raises(ValueError, match="nothing to bin"):
        plots.quartile_bins([np.nan], [1.0])


@pytest.mark.parametrize("by", ["worst", "mean"])
def test_the_success_curve_is_the_metrics(by):
    table = spread(0, 4.0)
    axes = plots.success_curve({"A": scores(table), "B": scores(2 * table)}, by).axes[0]
    one, two = axes.lines
    np.testing.assert_allclose(one.get_ydata(), 100 * success_rate(table, one.get_xdata(), by))
    assert (two.get_ydata() <= one.get_ydata()).all()
    assert one.get_color() != two.get_color()
    auc = success_auc(table, 80.0, by)
    assert texts(axes.get_legend().get_texts())[0] == f"A, AUC {auc:.1%}"


@pytest.mark.parametrize(
    ("errors", "ends"),
    [
        (spread(0, 4.0), (80,)),
        (spread(0, 20.0), (160, 320)),  # a body is not cut at a hand's error
        (np.full((5, 14), 1e6), (320,)),  # but not for ever: a method that fails is no reason to
    ],
)
def test_the_end_of_the_curve(errors, ends):
    low, high = plots.success_curve({"A": scores(errors)}).axes[0].get_xlim()
    assert low == 0
    assert high in ends


def test_bars_have_the_joints_from_above_and_the_mean_below_them():
    values = {"A": [1.0, 2.0, np.nan, 1.5], "B": [3.0, 4.0, 5.0, 4.0]}
    axes = plots.joint_bars(values, ("one_tip", "two", "three"), "error (mm)").axes[0]
    assert texts(axes.get_yticklabels()) == ["one tip", "two", "three", "mean"]
    first, second = ([bar.get_width() for bar in group] for group in axes.containers)
    assert (first, second) == ([1.0, 2.0, 0.0, 1.5], values["B"])
    assert axes.yaxis_inverted()
    places = [bar.get_y() for bar in axes.containers[0]]
    assert places == sorted(places)
    assert texts(axes.get_legend().get_texts()) == ["A", "B"]


def test_error_against_draws_a_line_and_a_band_per_method():
    table = spread(0, 4.0)
    depth = np.tile(np.linspace(500, 1000, 60)[:, None], (1, 14))
    methods = {"A": scores(table), "B": scores(table + 9)}
    axes = plots.error_against(depth, "depth (mm)", methods).axes[0]
    bins = plots.quartile_bins(depth, table)
    np.testing.assert_allclose(axes.lines[0].get_xydata(), bins[[0, 2]].T)
    assert len(axes.collections) == 2
    assert axes.get_ylim()[0] == 0
    assert axes.get_xlabel() == "depth (mm)"


def test_many_methods_and_long_names_leave_room_for_the_plot():
    many = {f"a rather long name of method {n}": scores(spread(n, 4.0)) for n in range(8)}
    figure = plots.success_curve(many)
    figure.draw_without_rendering()
    box = figure.axes[0].get_position()
    assert box.height * figure.get_size_inches()[1] == pytest.approx(2.7, abs=0.3)
    legend = figure.axes[0].get_legend().get_window_extent(figure.canvas.get_renderer())
    assert legend.y1 <= figure.bbox.y1


@pytest.mark.parametrize(
    ("errors", "count", "best", "median", "worst"),
    [
        (np.arange(9.0), 3, [0, 1, 2], [3, 4, 5], [8, 7, 6]),
        ([1.0, np.nan, 3.0], 6, [0], [0], [2]),  # without labels: never picked
        (np.arange(10.0), 6, [0, 1, 2], [3, 4, 5], [9, 8, 7]),  # no frame is of two kinds
    ],
)
def test_best_median_and_worst_frames_are_those(errors, count, best, median, worst):
    picked = plots.pick_frames(np.array(errors)[:, None], count)
    assert {kind: rows.tolist() for kind, rows in picked.items()} == {
        "worst": worst, "median": median, "best": best
    }  # fmt: skip


def test_the_tile_shows_the_joints_in_crop_pixels():
    one = made_up.example(0)
    tile = plots.example_tile(one, made_up.TRACK, one["joints_uvd"] + 10)
    np.testing.assert_allclose(tile.truth_uv, (one["joints_uvd"][:, :2] - 280) * 0.8)
    np.testing.assert_allclose(np.subtract(tile.joints_uv, tile.truth_uv), 8.0, atol=1e-5)
    assert tile.depth.shape == (64, 64)
    assert tile.far == 850.0


def test_a_frame_is_fetched_by_its_place_in_the_split():
    """Frames were skipped: numbers 0, 5, 10 … of the distribution are places 0, 1, 2 … of the split."""
    numbers = range(0, 45, 5)
    gaps = made_up.comparison(numbers=numbers)
    np.testing.assert_array_equal(gaps.labels.index, list(numbers))
    tile = plots.frame_tile(gaps, 3, "A2J")
    assert tile.depth.max() == 700 + 15
    np.testing.assert_allclose(tile.joints_uv, np.add(tile.truth_uv, [15, 0]), atol=1e-3)
    assert plots.frame_name(gaps, 3) == "made_up/15"
    unnamed = dataclasses.replace(gaps.labels, frame_id=None)
    assert plots.frame_name(dataclasses.replace(gaps, labels=unnamed), 3) == "frame 15"
    assert plots.frame_name(made_up.bare(gaps), 3) == "frame 3"
    # Labels of another file replace the stored ones.
    labels = dataclasses.replace(gaps.labels, joints_uvd=gaps.labels.joints_uvd + 10)
    moved = plots.frame_tile(dataclasses.replace(gaps, labels=labels), 3, "A2J")
    np.testing.assert_allclose(np.subtract(moved.truth_uv, tile.truth_uv), 8.0)


def test_without_a_data_set_the_skeletons_are_drawn_on_white():
    bare = made_up.bare(made_up.comparison())
    bare.labels.joints_uvd[8, 3] = np.nan
    tile = plots.frame_tile(bare, 8, "A2J")
    assert not tile.depth.any()
    truth = np.asarray(tile.truth_uv)[bare.labels.labeled[8]]
    uv = np.concatenate([np.asarray(tile.joints_uv), truth]) / tile.depth.shape[0]
    assert ((uv > 0.05) & (uv < 0.95)).all()
    assert np.ptp(uv, axis=0).max() > 0.6  # and they fill it


def test_the_sheet_has_three_rows():
    titles = texts(axes.title for axes in plots.frames_sheet(made_up.comparison(), 2).axes)
    kinds = [title.split(" ")[0] for title in titles]
    assert kinds == ["best"] * 2 + ["median"] * 2 + ["worst"] * 2


def test_around_a_center_the_distance_is_in_space():
    one = made_up.comparison()
    one.labels.valid[2, 5] = False
    distance, label = plots.center_distances(one)
    assert label == "distance from the crop center (mm)"
    in_space = (one.labels.joints_uvd[3], [320, 320, 700])
    points, center = (geometry.uvd_to_xyz(uvd, made_up.TRACK.camera) for uvd in in_space)
    np.testing.assert_allclose(distance[3], np.linalg.norm(points - center, axis=-1), rtol=1e-5)
    assert np.argwhere(np.isnan(distance)).tolist() == [[2, 5]]


def test_of_a_box_the_distance_is_in_the_crop():
    track = with_crop_size(get_track("k2hpd"), 64)
    distance, label = plots.center_distances(made_up.comparison(track))
    assert label == "distance from the crop center (px of the crop)"
    np.testing.assert_allclose(distance, 20 * 64 / 80, rtol=1e-4)


def test_without_a_data_set_the_mean_joint_stands_in():
    bare = made_up.bare(made_up.comparison())
    bare.labels.valid[0, :10] = False
    distance, label = plots.center_distances(bare)
    assert label == "distance from the mean labeled joint (mm)"
    assert np.isnan(distance[0, :10]).all()
    points = geometry.uvd_to_xyz(bare.labels.joints_uvd[0, 10:], made_up.TRACK.camera)
    expected = np.linalg.norm(points - points.mean(0), axis=-1)
    np.testing.assert_allclose(distance[0, 10:], expected)
