"""`a2j figure`: one command, four files; and mistakes in one line."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from a2j_jax.config import variant
from a2j_jax.evaluation.joint_files import JointSet, write_joints
from a2j_jax.figures import anchor_figures as votes
from a2j_jax.figures.anchor_figures import row_without
from a2j_jax.runs.checkpoints import save_variables
from a2j_jax.runs.experiment import resolve
from a2j_jax.runs.load import restore
from tests import tiny

SUFFIXES = (".csv", ".json", ".png", ".svg")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_data):
    """Made-up checkpoints: full, and without loss, proposals, anchors."""
    folder = tmp_path_factory.mktemp("runs")
    kinds = {
        "full": {},
        "no_loss": {"loss": {"surrounding": False}},
        "no_proposals": {"model": {"proposals": False}},
        "regression": {"parts": "a2j_jax.baselines:global_regression"},
    }
    for seed, (name, changes) in enumerate(kinds.items()):
        config = variant(tiny.config(tiny_data), name, **changes)
        variables = tiny.made_up(tiny.shapes(resolve(config).model), seed)
        save_variables(folder / name, variables, config)
    return folder


def written(folder: Path, number: int) -> dict[str, Any]:
    """The JSON of a figure, once all four files are there."""
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"figure_{number}{suffix}" for suffix in SUFFIXES]
    assert (folder / f"figure_{number}.png").read_bytes()[:4] == b"\x89PNG"
    assert "</svg>" in (folder / f"figure_{number}.svg").read_text()
    contents: dict[str, Any] = json.loads((folder / f"figure_{number}.json").read_text())
    return contents


@pytest.mark.slow
def test_figure_1_holds_what_the_network_says(a2j, runs, tmp_path):
    options = f"--joints wrist ring_tip --frames 2 --min_weight 0.017 --out {tmp_path}/f"
    assert "wrote" in a2j(f"figure 1 --checkpoint {runs}/full {options}").err
    contents = written(tmp_path / "f", 1)
    assert "--min_weight 0.017" in contents["command"]
    assert [frame["frame"] for frame in contents["frames"]] == ["test/000005", "test/000015"]
    network = restore(runs / "full")
    shown = votes.evenly_spaced(network.config.data.dir, network.track, "test", 2)
    expected = votes.frame_votes(network, shown, [0, 17], 0.017)
    for frame, found in zip(contents["frames"], expected, strict=True):
        assert frame["joints"] == [joint.to_json("mm") for joint in found.joints]
        for joint, one in zip(frame["joints"], found.joints, strict=True):
            assert joint["error_mm"] == one.error > 0
            assert joint["predicted_uv"] == one.predicted_uv.tolist()
            assert [a["uv"] for a in joint["anchors"]] == one.anchor_uv.tolist()
            assert [a["weight"] for a in joint["anchors"]] == one.weight.tolist()
    with (tmp_path / "f" / "figure_1.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(len(j["anchors"]) for f in contents["frames"] for j in f["joints"])
    first = contents["frames"][0]["joints"][0]["anchors"][0]
    assert [float(rows[0][name]) for name in ("anchor_u", "anchor_v")] == first["uv"]


@pytest.mark.slow
def test_figures_3_and_7_of_any_paradigm(a2j, runs):
    folder = runs / "regression" / "figures"
    a2j("figure", "3", "--checkpoint", runs / "regression")
    assert written(folder, 3)["anchors_per_cell"] == 16
    for path in folder.iterdir():
        path.unlink()
    names = [runs / "regression", f"plain={runs / 'no_proposals'}", f"anchors={runs / 'full'}"]
    a2j("figure", "7", "--checkpoint", *names)
    contents = written(folder, 7)
    assert list(contents["methods"]) == ["regression", "plain", "anchors"]
    assert contents["frames"] == tiny.FRAMES["test"]


def test_figure_7_of_files_against_a_file_of_labels(a2j, tmp_path):
    uvd = np.random.default_rng(0).uniform(300, 700, (6, 14, 3))
    for name, shift in (("labels", 0), ("far", 9)):
        write_joints(tmp_path / f"{name}.npz", JointSet(np.add(uvd, (0, 0, shift))))
    files = [f"far={tmp_path / 'far.npz'}", f"near={tmp_path / 'labels.npz'}"]
    options = ["--predictions", *files, "--labels", tmp_path / "labels.npz", "--track", "nyu"]
    a2j("figure", "7", *options, "--out", tmp_path / "f")
    methods = written(tmp_path / "f", 7)["methods"]
    assert list(methods) == ["far", "near"]
    assert methods["near"]["mean_error_mm"] == 0
    assert methods["far"]["mean_error_mm"] > 9


@pytest.mark.slow
def test_figure_6_shows_both_on_the_same_frames(a2j, runs, tmp_path):
    options = f"--frames 1 --min_weight 0.01 --out {tmp_path}/f"
    a2j(f"figure 6 --checkpoint {runs}/full --without {runs}/no_loss {options}")
    contents = written(tmp_path / "f", 6)
    one, other = contents["without"]["frames"], contents["with"]["frames"]
    assert one[0]["frame"] == other[0]["frame"] == "test/000010"
    for mine, theirs in zip(one[0]["joints"], other[0]["joints"], strict=True):
        assert mine["label_uv"] == theirs["label_uv"]
        assert mine["predicted_uv"] != theirs["predicted_uv"]
    distances = [
        np.linalg.norm(np.subtract(joint["mean_anchor_uv"], joint["label_uv"]))
        for joint in other[0]["joints"]
    ]
    assert contents["with"]["mean_anchor_to_label_px"] == pytest.approx(np.mean(distances))
    with (tmp_path / "f" / "figure_6.csv").open(newline="") as file:
        rows = [row["surrounding_loss"] for row in csv.DictReader(file)]
    for kind, frame in (("without", one[0]), ("with", other[0])):
        anchors = sum(len(joint["anchors"]) for joint in frame["joints"])
        assert rows.count(kind) == anchors > 0


def test_figure_6_finds_the_row_without(tmp_path, monkeypatch):
    row, without = (tmp_path / name / "seed_1" for name in ("a2j", "no_surrounding_loss"))
    row.mkdir(parents=True)
    assert row_without(row) is None
    without.mkdir(parents=True)
    assert row_without(row) == without
    monkeypatch.chdir(tmp_path)
    assert row_without("a2j/seed_1") == Path("no_surrounding_loss/seed_1")
    assert row_without(without) is None
    assert row_without(tmp_path / "a2j" / "seed_2") is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1 --checkpoint no_proposals", "model.proposals=false"),
        ("1 --checkpoint regression", "no weight to draw"),
        ("6 --checkpoint regression", "has no anchors"),
        ("6 --checkpoint full", "table7/no_surrounding_loss"),
        ("6 --checkpoint full --without full", "was trained with the surrounding loss"),
        ("6 --checkpoint no_loss --without no_loss", "no_loss was trained without"),
        ("6 --checkpoint no_loss --without full", "swap them"),
    ],
)
def test_networks_that_a_figure_cannot_show(refused, runs, monkeypatch, line, said):
    monkeypatch.chdir(runs)
    assert said in refused("figure", *line.split())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2 --checkpoint RUN", "invalid choice: '2'"),
        ("1", "required"),
        ("1 --checkpoint RUN --without RUN", "--without"),
        ("1 --checkpoint RUN --min_weight 2", "from 0 to 0.999999"),
        ("3 --checkpoint none", "not found"),
        ("1 --checkpoint RUN --data_dir none", "no data directory"),
        ("1 --checkpoint RUN --joints nose", "no such joint"),
        ("7", "needs --checkpoint"),
        ("7 --checkpoint RUN --track nyu", "without --checkpoint"),
        ("7 --checkpoint a=RUN --predictions a=b.txt", "call one of them"),
    ],
)
def test_mistakes(mistake, checkpoints, line, said):
    mistake("figure " + line.replace("RUN", "CHECKPOINTS/synthetic_hand"), said)
    assert not (checkpoints / "synthetic_hand" / "figures").exists()
