"""Published numbers: every one has a source, and ours line up beside them."""

import math

import numpy as np
import pytest

from a2j_jax.evaluation.published import published_rows, published_table
from a2j_jax.evaluation.score import score_errors, score_predictions
from a2j_jax.tracks import TRACKS, get_track

PAPER = {
    "hands2017": "2",
    "nyu": "3",
    "icvl": "4",
    "itop_front": "5",
    "itop_top": "5",
    "k2hpd": "6",
}


@pytest.mark.parametrize("track", PAPER)
def test_every_number_has_a_column_and_a_source(track: str) -> None:
    table = published_table(track)
    assert table is not None
    assert table.paper_table == PAPER[track]
    keys = {column.key for column in table.columns}
    methods = [row.method for row in table.rows]
    assert methods[-1] == "A2J"
    assert len(set(methods)) == len(methods)
    for row in table.rows:
        assert row.values
        assert set(row.values) <= keys
        assert set(row.sources) == set(row.values)
        assert all(math.isfinite(value) and value > 0 for value in row.values.values())
        assert all(len(source) > 20 for source in row.sources.values())
        assert row.source
    assert table.absent


def test_the_authors_own_numbers() -> None:
    found = {track: published_rows(track)[-1].values for track in PAPER}
    assert found["nyu"]["mean_error_mm"] == 8.61
    assert found["icvl"]["mean_error_mm"] == 6.461
    assert found["hands2017"]["mean_error_mm"] == 8.57
    assert found["itop_front"]["map_10cm"] == 88.0
    assert "unseen_mm" not in found["hands2017"]  # no source: absent, not guessed


def test_hand_rows_run_from_the_weakest_to_the_strongest() -> None:
    for track in ("nyu", "icvl", "hands2017"):
        errors = [row.values["mean_error_mm"] for row in published_rows(track)[:-1]]
        assert errors == sorted(errors, reverse=True)


def test_tracks_that_nobody_published_have_none() -> None:
    for track in set(TRACKS) - set(PAPER) | {"my_own"}:
        assert published_rows(track) == []
        assert published_table(track) is None


def test_ours_has_the_tables_units() -> None:
    hands = published_table("nyu")
    assert hands is not None
    scores = score_errors(np.full((2, 14), 9.0), get_track("nyu")).to_json()
    assert hands.ours("ours", scores).values == {"mean_error_mm": 9.0}

    bodies = published_table("itop_front")
    assert bodies is not None
    errors = np.full((2, 15), 50.0)
    errors[:, 2] = 150.0  # one of the two shoulders
    ours = bodies.ours("ours", score_errors(errors, get_track("itop_front")).to_json())
    assert ours.values["shoulders"] == 50.0
    assert ours.values["head"] == 100.0
    assert set(ours.values) == {column.key for column in bodies.columns}

    poses = published_table("k2hpd")
    assert poses is not None
    labels = np.random.default_rng(0).uniform(0, 200, (3, 19, 2))
    scores = score_predictions(labels, labels, get_track("k2hpd")).to_json()
    ours = poses.ours("ours", scores)
    assert ours.values["pdj_0.05"] == ours.values["pdj_mean"] == 100.0
    assert "fps" not in ours.values
