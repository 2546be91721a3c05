"""Rows of tables: what they differ in, their runs, and the table of results beside the paper's numbers."""

import dataclasses
import io
import os
import signal
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from a2j_jax.config import Config, keys, override
from a2j_jax.config_files import load_config
from a2j_jax.errors import Stopped, UserError
from a2j_jax.evaluation.tables import TABLES, rows_of
from a2j_jax.tools import reproduce
from a2j_jax.tools.reproduce import BUDGETS, Job, base_config, jobs, result_table, run_all
from a2j_jax.tracks import TRACKS, get_track
from tests import tiny

TABLE = TABLES["table7"]
BASE = base_config("synthetic_hand", "smoke")


def test_every_row_with_the_first_seed_then_with_the_next():
    todo = list(jobs(TABLE, BASE, 2, Path("out")))
    assert [(job.row.name, job.seed - BASE.run.seed) for job in todo] == [
        (row.name, number) for number in (0, 1) for row in TABLE.rows
    ]
    assert todo[-1].workdir == Path("out") / "a2j" / f"seed_{BASE.run.seed + 1}"
    assert todo[-1].config.run.seed == BASE.run.seed + 1
    assert todo[-1].config.data.seed == BASE.data.seed  # the frames stay the same


def test_rows_that_would_be_the_same_are_refused():
    """A value for all rows that one of them is to differ in leaves two of one kind, one of them with a false name."""
    with pytest.raises(UserError, match="'without the surrounding loss' and 'A2J' are one and the"):
        list(jobs(TABLE, override(BASE, "loss.surrounding", "false"), 1, Path("out")))


def test_a_split_that_is_not_there_is_told_before_training(tiny_data, tmp_path):
    data = dataclasses.replace(BASE.data, dir=str(tiny_data))
    (job,) = jobs(TABLES["table3"], dataclasses.replace(BASE, data=data), 1, tmp_path)
    with pytest.raises(UserError, match="tset"):
        reproduce.run(job, pdj=False, split="tset", command="")
    assert not job.workdir.exists()


def test_a_split_without_labels_is_told_before_training(monkeypatch, capsys):
    """That of HANDS 2017's challenge is: rows are scored by what ranks checkpoints, or by what is asked for."""
    labeled = {"train[98%:]"}
    monkeypatch.setattr(
        reproduce.pipeline, "has_labels", lambda _dir, _track, split: split in labeled
    )
    config = load_config("hands2017")
    assert reproduce.split_to_score(config, None) == "train[98%:]"
    assert "split 'test' of track 'hands2017' has no labels" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"'test' of track 'hands2017' has no labels.*--split"):
        reproduce.split_to_score(config, "test")
    labeled.add("test")
    assert reproduce.split_to_score(config, None) == "test"


def test_what_was_done_is_shown_where_another_seed_cannot_be_run(tmp_path):
    todo = list(jobs(TABLES["table3"], with_weights(tmp_path / "gone.npz"), 2, tmp_path / "out"))
    todo[0].workdir.mkdir(parents=True)
    results, skipped = run_all(todo, lambda job: {"seed": job.seed}, print)
    assert results == [{"seed": todo[0].seed}]
    assert skipped == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_the_end_of_a_run_ends_the_table(number):
    """The run is through and scored; those after it must not begin."""
    begun = []

    def run(job: Job) -> dict[str, Any]:
        begun.append(job.row.name)
        os.kill(os.getpid(), number)
        return {}

    with pytest.raises(Stopped, match=f"{number.name}: stopped after run 1 of 4") as caught:
        run_all(list(jobs(TABLE, BASE, 1, Path("out"))), run, print)
    assert caught.value.status == 128 + number
    assert begun == ["no_proposals"]


def with_weights(path: Path) -> Any:
    model = dataclasses.replace(BASE.model, init_from=str(path))
    return dataclasses.replace(BASE, model=model)


def test_weights_of_another_size_are_told_before_anything_is_trained(tmp_path):
    path = tmp_path / "resnet50.npz"
    assert reproduce.unusable_weights(BASE) is None
    missing = reproduce.unusable_weights(with_weights(path))
    assert missing is not None
    assert missing.startswith(f"{path} is not there; ImageNet's are of width 64")
    assert missing.endswith("of 8: --budget full")
    np.savez(path, **{"conv1.weight": np.zeros((64, 3, 7, 7), np.float32)})
    told = reproduce.unusable_weights(with_weights(path))
    assert told == f"{path} does not fit a resnet18 of width 8"


def test_where_no_row_can_be_run_the_reason_is_told_once(tmp_path):
    todo = list(jobs(TABLE, with_weights(tmp_path / "none.npz"), 1, tmp_path / "out"))
    with pytest.raises(UserError) as caught:
        run_all(todo, lambda job: {}, print)
    assert str(caught.value).count("none.npz is not there") == 1


def result(row: str, final: float, best: float, seed: int = 1, **more: Any) -> dict[str, Any]:
    scores = {"frames": 2000, **more}
    return {
        "row": row,
        "seed": seed,
        "scored": {"split": "test", "data_dir": "/data", "pdj": False},
        "final": {"step": 9, "mean_error_mm": final, **scores},
        "best": {"step": 6, "mean_error_mm": best, **scores},
        "parameters": 2_500_000,
        "flops": 3.25e9,
        "speed": {"frames_per_second": 50.04},
        "commits": ["0123456" + ("+" if seed > 1 else "")],
        "devices": {"cpu": 1},
    }


def cells(contents: Any, label: str) -> dict[str, str]:
    (row,) = (row for row in contents.rows if row[0].startswith(label))
    return dict(zip(contents.columns, row, strict=True))


def test_hands_by_their_error():
    runs = [result("no_proposals", 21.5, 20.25), result("a2j", 19.0, 18.5)]
    contents = result_table(TABLE, get_track("nyu"), runs, {})
    assert [row[0] for row in contents.rows] == [row.label for row in TABLE.rows]
    a2j = cells(contents, "A2J")
    assert a2j["paper: mean error (mm)"] == "8.61"
    assert a2j["paper: frames/s"] == "105.06"
    assert (a2j["mean error (mm), final"], a2j["mean error (mm), best"]) == ("19.00", "18.50")
    assert a2j["frames/s"] == "50.0"
    assert (a2j["parameters (M)"], a2j["GFLOP"], a2j["commit"]) == ("2.5", "3.25", "0123456")
    without = cells(contents, "without the anchor")
    assert without["paper: mean error (mm)"] == "10.08"
    assert without["paper: frames/s"] == "–"  # the paper timed A2J alone
    not_run = cells(contents, "offset and depth")
    assert not_run.pop("paper: mean error (mm)") == "8.95"
    assert set(not_run.values()) == {"offset and depth in one branch", "–"}
    assert any("10.08" in note for note in contents.notes)


def test_labels_tell_of_missing_frames_and_runs():
    why = {"imagenet": "not run: weights/resnet50.safetensors is not there (docs/weights.md)"}
    run = result("from_scratch", 20.0, 19.0, caveat="3 of 8,252 frames")
    contents = result_table(TABLES["table9"], get_track("nyu"), [run], why)
    done, left_out = contents.rows
    assert done[0].endswith("(3 of 8,252 frames)")
    assert left_out[0] == "from ImageNet's weights (not run)"
    assert left_out[2] == "–"
    assert contents.notes[-1] == f"imagenet: {why['imagenet']}."


def test_of_several_seeds_the_mean_and_the_deviation():
    runs = [result("a2j", 19.0, 18.0), result("a2j", 21.0, 18.0, seed=2)]
    contents = result_table(TABLE, get_track("synthetic_hand"), runs, {})
    a2j = cells(contents, "A2J")
    assert a2j["mean error (mm), final"] == "20.00 ± 1.41"
    assert a2j["mean error (mm), best"] == "18.00 ± 0.00"
    assert a2j["commit"] == "0123456, 0123456+"  # what was not committed is marked
    assert not [column for column in contents.columns if "paper" in column]  # nothing to compare
    assert any("of 2 seeds" in note for note in contents.notes)


PDJ = {"pdj_mean": 0.5, "pdj": {f"{r:.2f}": r for r in (0.05, 0.1, 0.15, 0.2)}}


def test_bodies_by_map_and_pdj():
    runs = [
        result("heat_maps", 80.0, 70.0, map_10cm=0.875, **PDJ),
        result("a2j", 80.0, 70.0, map_10cm=0.5),
    ]
    contents = result_table(TABLES["table8"], get_track("itop_front"), runs, {})
    heat, unmeasured = cells(contents, "FCN"), cells(contents, "A2J")
    assert heat["mean PDJ (%), final"] == "50.00"
    assert heat["PDJ 0.15 (%), final"] == "15.00"
    assert heat["mAP@10 cm (%), final"] == "87.50"
    assert unmeasured["mean PDJ (%), final"] == unmeasured["PDJ 0.10 (%), best"] == "–"
    assert unmeasured["mAP@10 cm (%), final"] == "50.00"


@pytest.mark.parametrize(
    ("table", "track", "row", "expected"),
    [
        ("table7", "itop_front", "no_proposals", {"mAP@10 cm (%)": "80.1"}),
        ("table8", "k2hpd", "global_regression", {"PDJ 0.05 (%)": "61.5", "frames/s": "145.12"}),
        ("table8", "k2hpd", "a2j", {"PDJ 0.05 (%)": "76.3", "frames/s": "93.78"}),
        ("table7", "itop_front", "a2j", {"mAP@10 cm (%)": "88.0"}),
        ("table8", "nyu", "a2j", {"mean error (mm)": "8.61"}),
        ("table9", "nyu", "from_scratch", {"mean error (mm)": "10.08"}),
        ("table10", "nyu", "resnet34", {"mean error (mm)": "9.01", "frames/s": "144.63"}),
        ("table2", "hands2017", "a2j", {"seen subjects (mm)": "6.92"}),
        ("table4", "icvl", "a2j", {"mean error (mm)": "6.461"}),
        ("table5", "itop_top", "a2j", {"feet (%)": "58.34", "mAP@10 cm (%)": "80.5"}),
        ("table6", "k2hpd", "a2j", {"PDJ, mean (%)": "91.7", "PDJ@0.20 (%)": "98.6"}),
    ],
)
def test_the_papers_number_stands_before_ours(table, track, row, expected):
    run = result(row, 80.0, 70.0, mean_error_px=3.0, map_10cm=0.5, **PDJ)
    contents = result_table(TABLES[table], get_track(track), [run], {})
    label = next(one.label for one in TABLES[table].rows if one.name == row)
    found = cells(contents, label)
    for name, number in expected.items():
        assert found[f"paper: {name}"] == number, name
        at = contents.columns.index(f"paper: {name}")
        assert contents.columns[at + 1].startswith(name)


@pytest.mark.parametrize("name", list(TABLES))
def test_rows_do_not_wrap_in_a_terminal(name):
    """At 80 columns, over several seeds: heads wrap, rows of numbers do not."""
    table, lines = TABLES[name], io.StringIO()
    track = get_track(table.data[0])
    runs = [
        result(row.name, 18.0 + seed, 18.5, seed, mean_error_px=3.0, map_10cm=0.5, **PDJ)
        for row in table.rows
        for seed in (0, 1)
    ]
    contents = result_table(table, track, runs, {})
    reproduce.print_results(contents, Console(file=lines, width=80))
    printed = lines.getvalue().splitlines()
    assert max(map(len, printed)) <= 80
    for column, *values in zip(
        contents.columns[1:], *(row[1:] for row in contents.rows), strict=True
    ):
        (line,) = (line for line in printed if line.strip().startswith(column + " "))
        assert line.split() == " ".join([column, *values]).split()


def test_it_is_written_as_markdown_html_and_json(tmp_path):
    runs = [result("a2j", 19.0, 18.5)]
    contents = result_table(TABLE, get_track("nyu"), runs, {})
    paths = reproduce.write_table(contents, runs, tmp_path, "table7", "a2j reproduce table7")
    assert [path.name for path in paths] == ["table7.md", "table7.html", "table7.json"]
    text = paths[0].read_text()
    assert "| A2J | 8.61 | 19.00 | 18.50 | 105.06 | 50.0 | 2.5 | 3.25 | 0123456 |" in text
    assert "8.61" in paths[2].read_text()
    assert "`a2j reproduce table7`" in text
    assert "18.50" in paths[1].read_text()


DIFFERENCES: dict[str, dict[str, Any]] = {
    "table7/no_proposals": {"model.proposals": False},
    "table7/no_surrounding_loss": {"loss.surrounding": False},
    "table7/one_branch": {"model.one_branch": True},
    "table8/global_regression": {"parts": "a2j_jax.baselines:global_regression"},
    "table8/heat_maps": {"parts": "a2j_jax.baselines:heat_maps"},
    "table9/from_scratch": {"model.init_from": None},
    "table9/imagenet": {},
    **{
        f"table10/{x}": {"model.backbone": x, "model.init_from": f"weights/{x}.safetensors"}
        for x in ("resnet18", "resnet34")
    },
    "table10/resnet50": {},
}


def differences(one: Config, other: Config) -> dict[str, Any]:
    """Values of `one` that `other` has otherwise, the name left out."""
    values = {key.name: [attrgetter(key.name)(config) for config in (one, other)] for key in keys()}
    return {key: x for key, (x, y) in values.items() if x != y and key != "name"}


@pytest.mark.parametrize("base", ["nyu", "itop_front"])
@pytest.mark.parametrize("row", list(DIFFERENCES))
def test_a_row_differs_from_its_base_by_what_matters(row, base):
    config = load_config(row, load_config(base))
    assert differences(config, load_config(base)) == DIFFERENCES[row]
    assert config.name == f"{base}-{row.rpartition('/')[2]}"


def test_rows_of_tables_are_configs():
    rows = {row.config for table in TABLES.values() for row in table.rows} - {None}
    assert rows == set(DIFFERENCES)
    for row in (row for table in TABLES.values() for row in table.rows if row.config):
        assert row.differs is None or row.differs in DIFFERENCES[str(row.config)].items()
    for row in rows:
        assert load_config(str(row)).track in ("nyu", "k2hpd")  # by itself


def test_rows_from_random_weights_stay_there():
    """A base that starts from nothing has nothing of ImageNet's in Table 10, and Table 9 is what adds it."""
    base = load_config("synthetic_hand")
    assert base.model.init_from is None
    assert load_config("table10/resnet18", base).model.init_from is None
    assert load_config("table9/imagenet", base).model.init_from == "weights/resnet50.safetensors"


@pytest.mark.parametrize("track", sorted({data for t in TABLES.values() for data in t.data}))
@pytest.mark.parametrize("budget", list(BUDGETS))
def test_every_data_set_has_a_base_for_every_budget(track, budget):
    config = base_config(track, budget)
    assert config.track == track in TRACKS
    if budget == "full":
        assert (config.model.backbone, config.model.width) == ("resnet50", 64)
    else:
        assert config.model.init_from is None  # no weights of that size were ever published


def test_the_papers_configs_start_from_imagenet_and_train_as_its_program():
    for track in ("nyu", "icvl", "hands2017", "itop_front", "itop_top", "k2hpd"):
        config = load_config(track)
        assert (config.name, config.track) == (track, track)
        assert config.model.init_from == "weights/resnet50.safetensors"
        assert config.optim.preset == "official"


RESNET18 = {"model.backbone": "resnet18", "model.init_from": "weights/resnet18.safetensors"}


@pytest.mark.parametrize(
    ("changes", "trained_here", "expected"),
    [
        ({}, True, {"table7": "a2j", "table8": "a2j", "table9": "imagenet", "table10": "resnet50"}),
        ({"model.proposals": "false"}, True, {"table7": "no_proposals"}),
        ({"loss.surrounding": "false"}, True, {"table7": "no_surrounding_loss"}),
        ({"parts": "a2j_jax.baselines:heat_maps"}, True, {"table8": "heat_maps"}),
        ({"parts": "my_paper.awr:parts"}, True, {}),
        ({"parts": "my_paper.awr:parts", "model.proposals": "false"}, True, {}),
        ({"model.init_from": "none"}, True, {"table9": "from_scratch"}),
        ({"model.init_from": "none", "model.one_branch": "true"}, True, {}),
        ({"model.init_from": "none", "model.one_branch": "true"}, False, {"table7": "one_branch"}),
        (RESNET18, True, {"table10": "resnet18"}),
    ],
)
def test_which_row_a_network_is(changes, trained_here, expected):
    config = tiny.changed(load_config("nyu"), changes)
    assert rows_of(config, trained_here=trained_here) == expected
