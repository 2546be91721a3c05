"""Published numbers: the paper's stand at their place, others stand apart, and ours line up beside them."""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from a2j_jax import losses
from a2j_jax.cli import figure_command
from a2j_jax.config import OptimConfig
from a2j_jax.evaluation.scores import score_errors, score_predictions
from a2j_jax.evaluation.tables import (
    TABLES as PAPER_TABLES,
)
from a2j_jax.evaluation.tables import (
    PublishedTable,
    Row,
    published_speed,
    published_table,
    row_values,
)
from a2j_jax.models.anchors import anchor_grid
from a2j_jax.tracks import TRACKS, get_track
from tests.conftest import REPOSITORY

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


def of_track(track: str, key: str) -> Any:
    """Sec. 4.1.3 and 3.2, where the code has them: of the track, by the "paper" presets."""
    spec = get_track(track)
    names = {"epochs": "epochs", "decay": "decay_factor", "every_epochs": "decay_every_epochs"}
    return getattr(spec.paper_training, names[key])


def figure_arguments(line: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    figure_command.add_arguments(parser)
    return parser.parse_args(line)


THETA: dict[str, Any] = {"center": "centre depth", "zero": 0}  # codespell:ignore centre


def constant(name: str) -> Any:
    hand, body = get_track("nyu"), get_track("itop_front")
    grid = np.unique(anchor_grid(32, 32)[:, 0])
    return {
        "alpha": {TRACKS[track].paper_training.alpha for track in TABLES.values()},
        "lambda": {TRACKS[track].loss_lambda for track in TABLES.values()},
        "tau_1": {losses.TAU_UV_PX},
        "tau_2": {losses.TAU_DEPTH},
        "mu_hand": {hand.joint_depth_scale * hand.image_unit_mm},
        "mu_body": {body.joint_depth_scale * body.image_unit_mm},  # depth in meters
        "theta_hand": {THETA[hand.depth_reference]},
        "theta_body": {THETA[body.depth_reference]},
        "informative_anchor_weight": {figure_arguments(["1", "--checkpoint", "x"]).min_weight},
        "stride": set(np.diff(grid).tolist()),
        "optimizer": {"Adam"},  # tests/training/test_optim.py
        "learning_rate": {OptimConfig().learning_rate},
        "weight_decay": {OptimConfig().weight_decay},
        "noise_probability": {
            TRACKS[track].augmentation.noise_probability for track in TABLES.values()
        },
    }[name]


def ours(path: tuple[str, ...]) -> set[Any]:
    """What the project has at a path of the paper's tables; a set, for a path may be of several places."""
    match path:
        case (table, method, key) if table in TABLES:
            published = published_table(TABLES[table])
            assert published is not None
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
            return {getattr(published_speed("nyu"), "device", None)}
        case ("section4.4", subject, key):
            tracks = ("itop_front", "k2hpd") if subject == "body" else ("nyu", "icvl", "hands2017")
            return {getattr(published_speed(track), key) for track in tracks}
        case ("section4.1.3", tracks, key):
            found = tracks.replace("itop", "itop_front and itop_top").split(" and ")
            return {of_track(track, key) for track in found}
        case ("section3.2" | "section4.1.3", name):
            return set(constant(name))
    raise AssertionError(path)


def paper_row(table: str, name: str) -> Row:
    (row,) = (row for row in PAPER_TABLES[table].rows if row.name == name)
    return row


def leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, (*path, key))
    else:
        yield path, node


def test_every_number_of_the_paper_stands_at_its_place(reference: Path) -> None:
    paper = json.loads((reference / "paper" / "tables.json").read_text())
    found = list(leaves(paper))
    assert len(found) > 320
    wrong = {path: (value, ours(path)) for path, value in found if ours(path) != {value}}
    assert not wrong


def test_the_tables_have_no_other_rows_than_the_papers(reference: Path) -> None:
    paper = json.loads((reference / "paper" / "tables.json").read_text())
    for table, track in TABLES.items():
        published = published_table(track)
        assert published is not None
        assert [row.method for row in published.rows] == list(paper[table])
        keys = {column.key for column in published.columns}
        for row in (*published.rows, *published.later):
            assert set(row.values) <= keys


def test_what_is_not_the_papers_stands_apart_with_its_source() -> None:
    nyu = published_table("nyu")
    assert nyu is not None
    later = {row.method: row for row in nyu.later}
    assert later["TriHorn-Net"].values == {"mean_error_mm": 7.68}
    assert later["V2V-PoseNet"].values == {"mean_error_mm": 8.419}
    assert all(row.source.startswith("Not of the paper") for row in nyu.later)
    assert "TriHorn-Net" not in {row.method for row in nyu.rows}


@pytest.mark.parametrize(
    ("track", "both"), [("nyu", ("9.22", "8.42")), ("itop_front", ("80.5", "81.8"))]
)
def test_where_the_paper_is_contradicted_both_numbers_stand(
    track: str, both: tuple[str, ...]
) -> None:
    published = published_table(track)
    assert published is not None
    assert any(all(number in note for number in both) for note in published.notes)


def test_means_of_table_5_follow_from_their_groups_but_for_the_one_that_is_noted() -> None:
    """Shoulders to feet, elbows and so on are two joints each: head, neck and torso are one."""
    off = []
    for track in ("itop_front", "itop_top"):
        published = published_table(track)
        assert published is not None
        for row in published.rows:
            groups = {key: value for key, value in row.values.items() if key != "map_10cm"}
            count = {key: 1 if key in ("head", "neck", "torso") else 2 for key in groups}
            mean = sum(groups[key] * count[key] for key in groups) / sum(count.values())
            if abs(mean - row.values["map_10cm"]) > 0.1:
                off.append((track, row.method, round(mean, 1)))
    assert off == [("itop_front", "RTW", 81.8)]


def test_a2j_in_another_table_has_the_numbers_of_its_own() -> None:
    assert row_values("table7", "a2j", "nyu") == {"fps": 105.06, "mean_error_mm": 8.61}
    assert row_values("table8", "a2j", "nyu")["mean_error_mm"] == 8.61
    assert row_values("table8", "global_regression", "nyu") == {}
    assert row_values("table8", "a2j", "k2hpd")["pdj_mean"] == 91.7
    assert "10.08" in PAPER_TABLES["table9"].notes["nyu"]
    assert PAPER_TABLES["table9"].notes.keys() == {"nyu"}


def test_tracks_that_nobody_published_have_none() -> None:
    for track in set(TRACKS) - set(TABLES.values()) | {"my_own"}:
        assert published_table(track) is None
        assert published_speed(track) is None
        assert row_values("table7", "a2j", track) == {}


def measured(table: PublishedTable, scores: dict[str, Any]) -> dict[str, float]:
    found = {column.key: column.measured(scores) for column in table.columns}
    return {key: value for key, value in found.items() if value is not None}


def test_ours_has_the_tables_units() -> None:
    hands = published_table("nyu")
    assert hands is not None
    scores = score_errors(np.full((2, 14), 9.0), get_track("nyu")).to_json()
    assert measured(hands, scores) == {"mean_error_mm": 9.0}

    bodies = published_table("itop_front")
    assert bodies is not None
    errors = np.full((2, 15), 50.0)
    errors[:, 2] = 150.0  # one of the two shoulders
    found = measured(bodies, score_errors(errors, get_track("itop_front")).to_json())
    assert found["shoulders"] == 50.0
    assert found["head"] == 100.0
    assert set(found) == {column.key for column in bodies.columns}

    poses = published_table("k2hpd")
    assert poses is not None
    labels = np.random.default_rng(0).uniform(0, 200, (3, 19, 2))
    scores = score_predictions(labels, labels, get_track("k2hpd")).to_json()
    found = measured(poses, scores)
    assert found["pdj_0.05"] == found["pdj_mean"] == 100.0
    assert "fps" not in found


def test_the_table_of_the_papers_statements_points_at_what_is_there() -> None:
    """`models/a2j.py:AnchorHead` in docs/fidelity.md: a file of the package, which has that name."""
    text = (REPOSITORY / "docs" / "fidelity.md").read_text("utf-8")
    pointed = re.findall(r"`([\w/]+\.py):(\w+)", text)
    assert len(pointed) > 40
    for path, name in pointed:
        (file,) = (f for f in (REPOSITORY / "a2j_jax" / path, REPOSITORY / path) if f.is_file())
        assert re.search(rf"\b{name}\b", file.read_text("utf-8")), f"{path}:{name}"
