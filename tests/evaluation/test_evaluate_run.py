"""A checkpoint on a data set: with labels, and without."""

import html
import sys
from dataclasses import replace
from typing import Any, cast

import jax
import numpy as np
import pytest

from a2j_jax.errors import UserError
from a2j_jax.evaluation.evaluate import SplitToScore
from a2j_jax.evaluation.evaluate_run import baselines, evaluate_checkpoint, report_folder, run_table
from a2j_jax.evaluation.scores import score_errors
from a2j_jax.runs.checkpoints import save_variables
from a2j_jax.runs.experiment import resolve
from a2j_jax.runs.load import Restored, save_packed
from tests import tiny


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "run"
    save_variables(folder, tiny.variables(), tiny.config())
    return folder


def test_without_a_training_split_there_are_no_baselines(tiny_data, logged):
    track = resolve(tiny.config(tiny_data)).track
    data, frames = SplitToScore(tiny_data, batch_size=8), cast(Any, None)
    assert baselines(frames, track, data, "nothing") == {}
    (line,) = logged
    assert line.startswith("no baselines: ")


def test_weights_that_are_not_finite(workdir, tiny_data, tmp_path):
    broken = jax.tree.map(lambda x: np.full_like(x, np.nan), tiny.variables())
    save_variables(tmp_path / "broken", broken, tiny.config(tiny_data))
    with pytest.raises(UserError, match="step 0 predicts joints that are not finite"):
        evaluate_checkpoint(tmp_path / "broken", batch_size=8)


def test_what_cannot_be_asked_for(workdir, tiny_data):
    for asked, message in (
        ({"write": ["joints.xyz"]}, r"joints\.xyz: joints are written as one of \.npz"),
        ({"unclipped_boxes": True}, r"tracks that crop by box; 'synthetic_hand' does not"),
    ):
        with pytest.raises(UserError, match=message):
            evaluate_checkpoint(workdir, data_dir=tiny_data, **asked)


@pytest.mark.usefixtures("no_matplotlib")
def test_a_file_of_weights(tiny_data, tmp_path):
    """Its one network is scored once, though averaged; the report needs a folder."""
    file, out = tmp_path / "hand.npz", tmp_path / "report"
    save_packed(Restored(resolve(tiny.config()), tiny.variables(), 7, averaged=True), file)
    scores = evaluate_checkpoint(file, data_dir=tiny_data, batch_size=8, out=out)
    assert (scores["step"], scores["frames"]) == (7, tiny.FRAMES["test"])
    assert scores["compared"].keys() == {"mean pose", "crop center"}
    assert (out / "report.html").exists()
    with pytest.raises(UserError, match="--out"):
        evaluate_checkpoint(file, data_dir=tiny_data)
    assert {path.name for path in tmp_path.iterdir()} == {"hand.npz", "report"}


BEST_AND_FINAL = (
    ("best checkpoint", "3", "0.38", "20.00", "3.00"),
    ("final checkpoint", "6", "0.75", "21.50", "6.00"),
)


@pytest.mark.parametrize(
    ("errors", "rows"),
    [
        ({3: 20.0, 6: 21.5}, BEST_AND_FINAL),  # 64 training frames, batches of 8: 8 steps an epoch
        ({6: 20.0}, (("best and final checkpoint", "6", "0.75", "20.00", "6.00"),)),
        ({6: 20.0}, (("best and final checkpoint", "6", "–", "20.00", "6.00"),)),  # frames are gone
        ({}, None),  # a converted checkpoint has no history
    ],
)
def test_the_run_table_has_the_best_and_the_final_epoch(tiny_data, tmp_path, errors, rows):
    experiment = resolve(tiny.config(tiny_data))
    ranking = {step: {"error": error, "frames": 16.0} for step, error in errors.items()}
    scores = {
        step: score_errors(np.full((4, 21), float(step)), experiment.track) for step in errors
    }
    data = SplitToScore(tmp_path if rows and "–" in rows[0] else tiny_data)
    table = run_table(ranking, Restored(experiment, {}, 6, False), scores, data)
    assert (table and table.rows) == rows
    if table is not None:
        while_training = "validation, while training (mm)"
        assert table.columns == ("", "step", "epoch", while_training, "test (mm)")


@pytest.mark.slow
@pytest.mark.usefixtures("no_matplotlib")
def test_a_report_of_own_parts(tiny_data, tmp_path, monkeypatch, logged):
    """It names network, parts and options; a source that has changed is said once for all steps that are read."""
    module = tmp_path / "code" / "reported.py"
    module.parent.mkdir()
    module.write_text(
        "from tests.own_parts import Parts, parts as whole\n"
        "def parts(config, track, *, drop: float = 0.5) -> Parts:\n"
        "    return whole(config, track, drop=drop)\n"
    )
    monkeypatch.syspath_prepend(module.parent)
    config = replace(tiny.config(tiny_data), parts="reported:parts", options={"drop": 0.25})
    run, out = tmp_path / "run", tmp_path / "eval"
    save_variables(run, tiny.made_up(tiny.shapes(resolve(config).model)), config)
    module.write_text(module.read_text() + "# another loss\n")
    evaluate_checkpoint(run, batch_size=8, out=out)
    page = html.unescape((out / "report.html").read_text())
    assert "<h1>Evaluation of Tiny on synthetic_hand</h1>" in page
    for fact in ("reported:parts", "drop=0.25", "no installed package", "<dd>Tiny</dd>"):
        assert fact in page
    assert sum("reported.py" in line and "has changed" in line for line in logged) == 1
    del sys.modules["reported"]


def test_reports_of_different_things_go_to_different_folders(tmp_path):
    for asked, folder in (
        (("test", None, None), "eval"),
        (("test", "latest", None), "eval-step_latest"),
        (("test", 940, None), "eval-step_940"),
        (("validation", None, None), "eval-validation"),
        (("train[:80%]", None, None), "eval-train_80"),
        (("test", None, tmp_path / "other"), "eval-other"),
    ):
        assert report_folder(*asked) == folder
