"""Which frames are shown, and what is on their pictures."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from a2j_jax import pictures
from a2j_jax.evaluation import plots
from tests.evaluation import made_up


def test_best_median_and_worst_frames_are_those() -> None:
    picked = plots.pick_frames(made_up.comparison().scores["A2J"].errors, 3)
    np.testing.assert_array_equal(picked["best"], [0, 1, 2])
    np.testing.assert_array_equal(picked["median"], [3, 4, 5])
    np.testing.assert_array_equal(picked["worst"], [8, 7, 6])


def test_frames_without_labels_are_never_picked() -> None:
    errors = np.array([[1.0], [np.nan], [3.0]])
    picked = plots.pick_frames(errors, 6)
    assert picked["best"].tolist() == [0]
    assert picked["worst"].tolist() == [2]


def test_no_frame_of_a_small_set_is_best_and_worst() -> None:
    picked = plots.pick_frames(np.arange(10.0)[:, None], 6)
    kinds = [set(rows.tolist()) for rows in picked.values()]
    assert [len(kind) for kind in kinds] == [3, 3, 3]
    assert len(set.union(*kinds)) == 9


def test_the_tile_shows_the_joints_in_crop_pixels() -> None:
    one = made_up.example(0)
    tile = plots.example_tile(one, made_up.TRACK, one["joints_uvd"] + 10)
    assert tile.truth_uv is not None
    assert tile.joints_uv is not None
    np.testing.assert_allclose(tile.truth_uv, (one["joints_uvd"][:, :2] - 280) * 0.8)
    np.testing.assert_allclose(np.asarray(tile.joints_uv) - tile.truth_uv, 8.0, atol=1e-5)
    assert tile.depth.shape == (64, 64)
    assert tile.far == 850.0


def test_a_frame_is_fetched_by_its_place_in_the_split() -> None:
    """Frames were skipped: numbers 0, 5, 10 … of the distribution are places 0, 1, 2 … of the split."""
    numbers = range(0, 45, 5)
    gaps = made_up.comparison(numbers=numbers)
    np.testing.assert_array_equal(gaps.labels.index, list(numbers))
    tile = plots.frame_tile(gaps, 3, "A2J")
    assert tile.depth.max() == 700 + 15
    assert plots.frame_name(gaps, 3) == "made_up/15"
    np.testing.assert_allclose(tile.joints_uv, np.add(tile.truth_uv, [15, 0]), atol=1e-3)


def test_a_frame_without_a_name_has_its_number() -> None:
    gaps = made_up.comparison(numbers=range(0, 45, 5))
    unnamed = dataclasses.replace(gaps.labels, frame_id=None)
    assert plots.frame_name(dataclasses.replace(gaps, labels=unnamed), 3) == "frame 15"
    assert plots.frame_name(made_up.bare(gaps), 3) == "frame 3"


def test_labels_of_another_file_replace_the_stored_ones() -> None:
    one = made_up.comparison()
    labels = dataclasses.replace(one.labels, joints_uvd=one.labels.joints_uvd + 10)
    moved = dataclasses.replace(one, labels=labels)
    before, after = (np.asarray(plots.frame_tile(c, 2, "A2J").truth_uv) for c in (one, moved))
    np.testing.assert_allclose(after - before, 8.0)


def test_without_a_data_set_the_skeletons_are_drawn_on_white() -> None:
    bare = made_up.bare(made_up.comparison())
    bare.labels.joints_uvd[8, 3] = np.nan
    valid = bare.labels.labeled
    tile = plots.frame_tile(bare, 8, "A2J")
    assert not tile.depth.any()
    size = tile.depth.shape[0]
    uv = np.concatenate([np.asarray(tile.joints_uv), np.asarray(tile.truth_uv)[valid[8]]])
    assert (uv > 0.05 * size).all()
    assert (uv < 0.95 * size).all()
    assert np.ptp(uv, axis=0).max() > 0.6 * size  # and they fill it


def test_the_sheet_has_three_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[pictures.Tile] = []
    sheet = pictures.draw_sheet

    def spy(pictured, *arguments, **options):
        drawn.extend(pictured)
        return sheet(pictured, *arguments, **options)

    monkeypatch.setattr(pictures, "draw_sheet", spy)
    plots.frames_sheet(made_up.comparison(), columns=2)
    assert [tile.title.split(" ")[0] for tile in drawn] == [
        *("best", "best"), *("median", "median"), *("worst", "worst")
    ]  # fmt: skip
