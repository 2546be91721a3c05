"""`a2j train`, from a config file to a checkpoint that eval and predict read; and again, to go on."""

import json
from pathlib import Path

import numpy as np
import pytest

from a2j_jax.config_files import load_config
from a2j_jax.runs.experiment import resolve
from a2j_jax.runs.run_dir import ranking_metrics, read_config, read_starts, write_config
from a2j_jax.training.logs import METRICS_FILE, read_metrics
from tests import tiny
from tests.cli.conftest import write_config_file

pytestmark = pytest.mark.slow  # a training step compiles


@pytest.fixture
def config_file(tiny_data, tmp_path):
    return write_config_file(tmp_path / "my_config.py", repr(str(tiny_data)), "quick")


def test_train_go_on_evaluate_predict(a2j, refused, tiny_data, tmp_path):
    config_file = write_config_file(tmp_path / "my_config.py", repr(str(tiny_data)))
    workdir = tmp_path / "run"
    train = ("train", "--config", config_file, "--workdir", workdir)

    assert "no run with a checkpoint" in refused(*train, "--resume")
    outcome = a2j(*train)
    assert outcome.out == ""
    assert "is built already" in outcome.err
    assert read_config(workdir) == resolve(tiny.config(tiny_data)).config
    assert 6 in ranking_metrics(workdir)

    outcome = a2j(*train, "--resume")
    assert "nothing left to train" in outcome.err

    config = (workdir / "config.json").read_text()
    assert "model.width: 8 there, 16 now" in refused(*train, "--config.model.width=16")
    assert "track: 'synthetic_hand' there, 'nyu' now" in refused(*train, "--config.track", "nyu")
    assert (workdir / "config.json").read_text() == config

    np.save(tmp_path / "frame.npy", np.full((480, 640), 700, np.uint16))
    outcome = a2j(f"predict {workdir} {tmp_path}/frame.npy --center 320,240,700 --json")
    assert np.shape(json.loads(outcome.out)["frames"][0]["joints_xyz_mm"]) == (21, 3)


def test_a_run_is_repeated_from_its_directory(a2j, config_file, tmp_path):
    first, again = tmp_path / "first", tmp_path / "again"
    train = ("train", "--config", config_file, "--workdir", first, "--config.optim.steps=3")
    a2j(*train, "--on_bad_example", "skip")
    longer = (*train, "--on_bad_example=skip", "--config.optim.steps=6", "--profile_steps", "4:6")
    outcome = a2j(*longer)
    assert "--profile_steps: step 4 is the first of this start" in outcome.err
    assert "profiled steps 4 to 5" in outcome.err
    assert list((first / "profile").rglob("perfetto_trace.json.gz"))

    assert [start["step"] for start in read_starts(first)] == [0, 3]
    assert read_starts(first)[1]["command"].endswith("--profile_steps 4:6")
    assert read_config(first).data.on_bad_example == "skip"

    outcome = a2j("train", "--config", first / "config.json")
    assert "this run is finished at step 6" in outcome.err  # and not one of the same name in runs/
    a2j("train", "--config", first / "config.json", "--workdir", again)
    assert read_config(again) == read_config(first)
    assert [line["step"] for line in read_metrics(again)] == [1, 2, 3, 3, 4, 5, 6, 6]
    # Before the first was lengthened, its learning rates were those of a shorter run.
    assert read_metrics(again)[0]["loss"] == read_metrics(first)[0]["loss"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_disk_that_is_full_is_told(refused, config_file, tmp_path):
    workdir = tmp_path / "run"
    workdir.mkdir()
    write_config(workdir, load_config(str(config_file)))
    (workdir / METRICS_FILE).symlink_to("/dev/full")
    message = refused("train", "--config", config_file, "--workdir", workdir)
    assert f"{workdir / METRICS_FILE}: cannot be written (No space left on device)" in message


def test_an_embedded_data_set_is_not_replaced(refused, config_file, tmp_path):
    other = "--config.data.seed=7 --config.data.train_frames=70"
    message = refused(f"train --config {config_file} --workdir {tmp_path}/run {other}")
    assert "holds another data set (seed: 0 there, 7 wanted)" in message
    assert not (tmp_path / "run").exists()


def test_an_embedded_data_set_of_another_size_is_used(a2j, config_file, tmp_path):
    workdir = tmp_path / "run"
    other = "--config.data.train_frames=70 --config.data.test_frames=7 --config.optim.steps=1"
    outcome = a2j(f"train --config {config_file} --workdir {workdir} {other}")
    built, used, *_ = outcome.err.splitlines()
    assert "is built already" in built
    assert "64 train (not 70), 20 test (not 7)" in used
    assert "64 frames at 32 px" in outcome.err
    assert 1 in ranking_metrics(workdir)


def test_a_sheet_of_examples(a2j, refused, tiny_data, tmp_path):
    sheet = tmp_path / "sheet.png"
    show = ("show", "synthetic_hand", "--data_dir", tiny_data, "--out", sheet)
    outcome = a2j(*show, "--crop_size", tiny.SIZE, "--frames", "3")
    assert outcome.out == f"{sheet}\n"
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert "at crop size 176" in refused(*show)
    assert "no split 'dev'" in refused(*show, "--crop_size", tiny.SIZE, "--split", "dev")


def test_a_named_data_directory_that_is_not_there(refused, tmp_path):
    """Not a reason to render something else instead."""
    show = "show synthetic_hand"
    message = refused(f"{show} --data_dir {tmp_path}/typo --out {tmp_path}/sheet.png")
    assert f"no data directory {tmp_path / 'typo'}" in message
    assert "expected a picture's name" in refused(f"{show} --out {tmp_path}/notes.txt")
    assert list(tmp_path.iterdir()) == []
