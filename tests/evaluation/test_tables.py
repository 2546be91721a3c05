"""Tables: the right number in the right row and column; the paper's stand at their place, others apart, ours beside."""

import argparse
import json
import re
from typing import Any

import numpy as np
import pytest

from a2j_jax import losses
from a2j_jax.cli.paper_commands import FIGURE
from a2j_jax.config import OptimConfig
from a2j_jax.evaluation import tables
from a2j_jax.evaluation.scores import score_errors, score_predictions
from a2j_jax.evaluation.tables import published_table, row_values
from a2j_jax.models.anchors import anchor_grid
from a2j_jax.tracks import TRACKS, get_track
from tests.conftest import REPOSITORY


def cells(table):
    return {label: tuple(rest) for label, *rest in table.rows}


def of(track, error):
    spec = get_track(track)
    return score_errors(np.full((4, spec.num_joints), error), spec)


def test_the_main_table():
    nyu = get_track("nyu")
    errors = np.full((4, 14), 5.0)
    errors[0, 0] = 25.0
    methods = {"A": score_errors(errors, nyu), "B": score_errors(errors + 10, nyu)}
    (main,), (joints,) = tables.score_tables(methods)
    assert (main.title, main.columns) == ("nyu · 4 frames", ("", "A", "B"))
    assert main.rows[0][0] == "mean error (mm)"
    assert main.strong == {0}
    assert {
        "mean error (mm)": ("5.36", "15.36"),
        "frames with worst joint < 20 mm": ("75.0%", "75.0%"),
        "frames with worst joint < 10 mm": ("75.0%", "0.0%"),
    }.items() <= cells(main).items()
    assert cells(joints)["pinky tip"] == ("10.00", "20.00")
    assert len(joints.rows) == 14


def test_protocols_have_their_parts_and_joints():
    errors = np.full((4, 15), 50.0)
    errors[:2, :2] = 150.0
    errors[:, 14] = np.nan
    methods = {"A": score_errors(errors, get_track("itop_front"))}
    (_, together), (_, by_joint) = tables.score_tables(methods)
    assert together.title == "mAP@10 cm"
    assert (cells(together)["all joints"], cells(together)["head"]) == (("92.86%",), ("50.00%",))
    assert (cells(by_joint)["head"], cells(by_joint)["left foot"]) == (("50.00%",), ("–",))
    uv = np.random.default_rng(0).uniform(50, 200, (6, 19, 2))
    methods = {"A": score_predictions(uv + 1e-3, uv, get_track("k2hpd"))}
    (_, together), (_, by_joint) = tables.score_tables(methods)
    assert cells(together)["all joints"] == ("100.00%",)
    assert {"PDJ at 0.05", "PDJ at 0.20"} <= cells(together).keys()
    assert by_joint.title == "mean PDJ of each joint"


def test_ours_stands_below_the_papers_rows():
    table = tables.paper_table("nyu", {"mine": of("nyu", 7.125)})
    assert table.title.startswith("Table 3 of the paper")
    assert table.rows[-1] == ("mine", "7.12", "–")
    assert table.strong == {len(table.rows) - 1}
    assert (cells(table)["A2J"], cells(table)["V2V"]) == (("8.61", "105.06"), ("9.22", "35"))
    assert table.notes[0].startswith("Table 3 of the paper (Xiong et al.")
    assert any("8.42" in note for note in table.notes)
    assert "TriHorn-Net" not in cells(table)
    later = tables.later_table("nyu")
    assert later.title.startswith("Not in the paper")
    assert (cells(later)["TriHorn-Net"], cells(later)["V2V-PoseNet"]) == (("7.68",), ("8.419",))
    assert all(note.startswith("Not of the paper") for note in later.notes)
    assert tables.later_table("itop_front") is None


@pytest.mark.parametrize(
    ("track", "own", "expected"),
    [
        ("nyu", {"table7": "no_proposals"}, ("10.08", "–", "7.12")),
        ("itop_front", {"table7": "no_proposals"}, ("80.1", "–", "100.00")),
        ("nyu", {}, ("10.08", "–")),
    ],
)
def test_the_papers_row_of_an_ablation_stands_beside_ours(track, own, expected):
    table = tables.rows_table(track, own, "mine", of(track, 7.125))
    found = cells(table)
    assert found["Table 7: without the anchor proposal branch"] == expected
    assert len(table.strong) == len(own)
    if track == "nyu":
        assert found["Table 7: without the surrounding loss"][0] == "9.00"
        assert found["Table 10: ResNet-18"][:2] == ("9.32", "192.25")
    assert len(found) == 9
    assert tables.rows_table("icvl", {}, "mine", of("icvl", 7.125)) is None


def test_a_wide_published_table_is_turned():
    table = tables.paper_table("itop_front", {"mine": of("itop_front", 50.0)})
    assert (table.columns[0], table.columns[-1]) == ("", "mine")
    assert cells(table)["head (%)"][-1] == "100.00"


def test_what_is_not_known_is_a_dash():
    assert tables.cell(float("nan")) == tables.cell(None) == "–"
    assert tables.cell(0.88018, ".2%") == "88.02%"


# --- The paper's numbers

TABLES = {
    "table2_hands2017": "hands2017",
    "table3_nyu": "nyu",
    "table4_icvl": "icvl",
    "table5_itop_front": "itop_front",
    "table5_itop_top": "itop_top",
    "table6_k2hpd": "k2hpd",
}
KEYS = {"avg_mm": "mean_error_mm", "mean": "map_10cm", "average": "pdj_mean"}
ROWS = {
    "without anchor proposal branch": "no_proposals",
    "without informative anchor point surrounding loss": "no_surrounding_loss",
    "in-plane offset and depth value in one branch": "one_branch",
    "A2J": "a2j",
    "global regression": "global_regression",
    "FCN": "heat_maps",
    "from scratch": "from_scratch",
    "ImageNet": "imagenet",
}


# Sec. 4.1.3, where the code has it: of the track, by the "paper" presets.
SCHEDULE = {"epochs": "epochs", "decay": "decay_factor", "every_epochs": "decay_every_epochs"}
THETA: dict[str, Any] = {"center": "centre depth", "zero": 0}  # codespell:ignore centre


def constant(name):
    hand, body = get_track("nyu"), get_track("itop_front")
    grid = np.unique(anchor_grid(32, 32)[:, 0])
    figure = argparse.ArgumentParser()
    FIGURE.add_arguments(figure)
    return {
        "alpha": {TRACKS[track].paper_training.alpha for track in TABLES.values()},
        "lambda": {TRACKS[track].loss_lambda for track in TABLES.values()},
        "tau_1": {losses.TAU_UV_PX},
        "tau_2": {losses.TAU_DEPTH},
        "mu_hand": {hand.joint_depth_scale * hand.image_unit_mm},
        "mu_body": {body.joint_depth_scale * body.image_unit_mm},  # depth in meters
        "theta_hand": {THETA[hand.depth_reference]},
        "theta_body": {THETA[body.depth_reference]},
        "informative_anchor_weight": {figure.parse_args(["1", "--checkpoint", "x"]).min_weight},
        "stride": set(np.diff(grid).tolist()),
        "optimizer": {"Adam"},  # tests/training/test_optim.py
        "learning_rate": {OptimConfig().learning_rate},
        "weight_decay": {OptimConfig().weight_decay},
        "noise_probability": {
            TRACKS[track].augmentation.noise_probability for track in TABLES.values()
        },
    }[name]


def ours(path):
    """What the project has at a path of the paper's tables; a set, for a path may be of several places."""
    match path:
        case (table, method, key) if table in TABLES:
            published = published_table(TABLES[table])
            assert table.startswith(f"table{published.paper_table}_")
            (row,) = (row for row in published.rows if row.method == method)
            assert f"Table {published.paper_table} of the paper" in row.source
            return {row.values.get(KEYS.get(key, key))}
        case (("table7" | "table9") as table, measure, row):
            track = "nyu" if measure == "nyu_mean_error_mm" else "itop_front"
            return set(paper_row(table, ROWS[row]).values[track].values())
        case ("table8_k2hpd", row, key):
            return {paper_row("table8", ROWS[row]).values["k2hpd"][key]}
        case ("table10", track, row, key):
            return {paper_row("table10", row).values[track][key]}
        case ("section4.4", "device"):
            return {published_table("nyu").speed.device}
        case ("section4.4", subject, key):
            tracks = ("itop_front", "k2hpd") if subject == "body" else ("nyu", "icvl", "hands2017")
            return {getattr(published_table(track).speed, key) for track in tracks}
        case ("section4.1.3", tracks, key):
            found = tracks.replace("itop", "itop_front and itop_top").split(" and ")
            return {getattr(TRACKS[track].paper_training, SCHEDULE[key]) for track in found}
        case ("section3.2" | "section4.1.3", name):
            return set(constant(name))
    raise AssertionError(path)


def paper_row(table, name):
    (row,) = (row for row in tables.TABLES[table].rows if row.name == name)
    return row


def leaves(node, path=()):
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, (*path, key))
    else:
        yield path, node


def test_every_number_of_the_paper_stands_at_its_place_and_no_other(reference):
    paper = json.loads((reference / "paper" / "tables.json").read_text())
    found = list(leaves(paper))
    assert len(found) > 320
    wrong = {path: (value, ours(path)) for path, value in found if ours(path) != {value}}
    assert not wrong
    for table, track in TABLES.items():
        published = published_table(track)
        assert [row.method for row in published.rows] == list(paper[table])
        keys = {column.key for column in published.columns}
        for row in (*published.rows, *published.later):
            assert set(row.values) <= keys


@pytest.mark.parametrize(
    ("track", "both"), [("nyu", ("9.22", "8.42")), ("itop_front", ("80.5", "81.8"))]
)
def test_where_the_paper_is_contradicted_both_numbers_stand(track, both):
    published = published_table(track)
    assert any(all(number in note for number in both) for note in published.notes)


def test_a2j_in_another_table_has_the_numbers_of_its_own():
    assert row_values("table7", "a2j", "nyu") == {"fps": 105.06, "mean_error_mm": 8.61}
    assert row_values("table8", "a2j", "nyu")["mean_error_mm"] == 8.61
    assert row_values("table8", "global_regression", "nyu") == {}
    assert row_values("table8", "a2j", "k2hpd")["pdj_mean"] == 91.7
    assert "10.08" in tables.TABLES["table9"].notes["nyu"]
    assert tables.TABLES["table9"].notes.keys() == {"nyu"}


def test_tracks_that_nobody_published_have_none():
    for track in set(TRACKS) - set(TABLES.values()) | {"my_own"}:
        assert published_table(track) is None
        assert row_values("table7", "a2j", track) == {}
    assert tables.paper_table("synthetic_hand", {"mine": of("synthetic_hand", 7.0)}) is None


def test_ours_has_the_tables_units():
    def measured(track, scores):
        columns = published_table(track).columns
        return {column.key: column.measured(scores.to_json()) for column in columns}

    assert measured("nyu", of("nyu", 9.0)) == {"mean_error_mm": 9.0, "fps": None}
    errors = np.full((2, 15), 50.0)
    errors[:, 2] = 150.0  # one of the two shoulders
    bodies = measured("itop_front", score_errors(errors, get_track("itop_front")))
    assert (bodies["shoulders"], bodies["head"]) == (50.0, 100.0)
    assert None not in bodies.values()
    labels = np.random.default_rng(0).uniform(0, 200, (3, 19, 2))
    poses = measured("k2hpd", score_predictions(labels, labels, get_track("k2hpd")))
    assert poses["pdj_0.05"] == poses["pdj_mean"] == 100.0


def test_the_table_of_the_papers_statements_points_at_what_is_there():
    """`models/a2j.py:AnchorHead` in docs/fidelity.md: a file of the package, which has that name."""
    text = (REPOSITORY / "docs" / "fidelity.md").read_text("utf-8")
    pointed = re.findall(r"`([\w/]+\.py):(\w+)", text)
    assert len(pointed) > 40
    for path, name in pointed:
        (file,) = (f for f in (REPOSITORY / "a2j_jax" / path, REPOSITORY / path) if f.is_file())
        assert re.search(rf"\b{name}\b", file.read_text("utf-8")), f"{path}:{name}"
