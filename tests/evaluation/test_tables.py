"""Tables: the right number in the right row and column."""

import numpy as np
import pytest

from a2j_jax.evaluation import tables
from a2j_jax.evaluation.scores import score_errors, score_predictions
from a2j_jax.tracks import get_track


def cells(table: tables.Table) -> dict[str, tuple[str, ...]]:
    return {label: tuple(rest) for label, *rest in table.rows}


def test_the_main_table() -> None:
    nyu = get_track("nyu")
    errors = np.full((4, 14), 5.0)
    errors[0, 0] = 25.0
    together, by_joint = tables.score_tables(
        {"A": score_errors(errors, nyu), "B": score_errors(errors + 10, nyu)}
    )
    (main,), (joints,) = together, by_joint
    assert main.title == "nyu · 4 frames"
    assert main.columns == ("", "A", "B")
    assert cells(main)["mean error (mm)"] == ("5.36", "15.36")
    assert cells(main)["frames with worst joint < 20 mm"] == ("75.0%", "75.0%")
    assert cells(main)["frames with worst joint < 10 mm"] == ("75.0%", "0.0%")
    assert main.rows[0][0] == "mean error (mm)"
    assert main.strong == {0}
    assert cells(joints)["pinky tip"] == ("10.00", "20.00")
    assert len(joints.rows) == 14


def test_itop_has_its_groups_and_joints() -> None:
    itop = get_track("itop_front")
    errors = np.full((4, 15), 50.0)
    errors[:2, :2] = 150.0
    errors[:, 14] = np.nan
    together, by_joint = tables.score_tables({"A": score_errors(errors, itop)})
    assert [t.title for t in together][1:] == ["mAP@10 cm"]
    assert cells(together[1])["all joints"] == ("92.86%",)
    assert cells(together[1])["head"] == ("50.00%",)
    assert cells(by_joint[1])["head"] == ("50.00%",)
    assert cells(by_joint[1])["left foot"] == ("–",)


def test_k2hpd_has_its_ratios() -> None:
    track = get_track("k2hpd")
    rng = np.random.default_rng(0)
    labels = rng.uniform(50, 200, (6, 19, 2))
    scores = {"A": score_predictions(labels + 1e-3, labels, track)}
    together, by_joint = tables.score_tables(scores)
    pdj = cells(together[1])
    assert pdj["all joints"] == ("100.00%",)
    assert {"PDJ at 0.05", "PDJ at 0.20"} <= pdj.keys()
    assert by_joint[1].title == "mean PDJ of each joint"


def test_ours_stands_below_the_papers_rows() -> None:
    scores = {"mine": score_errors(np.full((4, 14), 7.125), get_track("nyu"))}
    table = tables.paper_table("nyu", scores)
    assert table is not None
    assert table.title.startswith("Table 3 of the paper")
    assert table.rows[-1] == ("mine", "7.12", "–")
    assert table.strong == {len(table.rows) - 1}
    assert cells(table)["A2J"] == ("8.61", "105.06")
    assert cells(table)["V2V"] == ("9.22", "35")
    assert table.notes[0].startswith("Table 3 of the paper (Xiong et al.")
    assert any("8.42" in note for note in table.notes)
    assert "TriHorn-Net" not in cells(table)
    later = tables.later_table("nyu")
    assert later is not None
    assert later.title.startswith("Not in the paper")
    assert cells(later)["TriHorn-Net"] == ("7.68",)
    assert tables.later_table("itop_front") is None


@pytest.mark.parametrize(
    ("track", "joints", "own", "expected"),
    [
        ("nyu", 14, {"table7": "no_proposals"}, ("10.08", "–", "7.12")),
        ("itop_front", 15, {"table7": "no_proposals"}, ("80.1", "–", "100.00")),
        ("nyu", 14, {}, ("10.08", "–")),
    ],
)
def test_the_papers_row_of_an_ablation_stands_beside_ours(
    track: str, joints: int, own: dict[str, str], expected: tuple[str, ...]
) -> None:
    scores = score_errors(np.full((4, joints), 7.125), get_track(track))
    table = tables.rows_table(track, own, "mine", scores)
    assert table is not None
    found = cells(table)
    assert found["Table 7: without the anchor proposal branch"] == expected
    assert len(table.strong) == len(own)
    if track == "nyu":
        assert found["Table 7: without the surrounding loss"][0] == "9.00"
        assert found["Table 10: ResNet-18"][:2] == ("9.32", "192.25")
    assert len(found) == 9
    assert tables.rows_table("icvl", {}, "mine", scores) is None


def test_a_wide_published_table_is_turned() -> None:
    scores = {"mine": score_errors(np.full((4, 15), 50.0), get_track("itop_front"))}
    table = tables.paper_table("itop_front", scores)
    assert table is not None
    assert table.columns[0] == ""
    assert table.columns[-1] == "mine"
    assert cells(table)["head (%)"][-1] == "100.00"


def test_tracks_the_paper_does_not_have() -> None:
    errors = np.full((4, 21), 7.0)
    scores = {"mine": score_errors(errors, get_track("synthetic_hand"))}
    assert tables.paper_table("synthetic_hand", scores) is None


def test_what_is_not_known_is_a_dash() -> None:
    assert tables.cell(float("nan")) == tables.cell(None) == "–"
    assert tables.cell(0.88018, ".2%") == "88.02%"
