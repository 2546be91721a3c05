"""A checkpoint on a data set: with labels, and without."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
import pytest

from a2j_jax.data import pipeline
from a2j_jax.errors import UserError
from a2j_jax.evaluation import evaluate_run
from a2j_jax.evaluation.scores import score_errors
from a2j_jax.runs.checkpoints import save_variables
from a2j_jax.runs.experiment import resolve
from a2j_jax.runs.load import Restored
from a2j_jax.runs.run_dir import ranking_metrics
from tests import tiny


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "run"
    save_variables(folder, tiny.variables(), tiny.config())
    return folder


def restored(config: Any, step: int = 6) -> Restored:
    return Restored(resolve(config), {}, step, False)


def test_without_a_training_split_there_are_no_baselines(
    tiny_data: Path, logged: list[str]
) -> None:
    track = resolve(tiny.config(tiny_data)).track
    data, frames = evaluate_run.SplitToScore(tiny_data, batch_size=8), cast(Any, None)
    assert evaluate_run.baselines(frames, track, data, "nothing") == {}
    (line,) = logged
    assert line.startswith("no baselines: ")


def test_weights_that_are_not_finite(workdir: Path, tiny_data: Path, tmp_path: Path) -> None:
    broken = jax.tree.map(lambda x: np.full_like(x, np.nan), tiny.variables())
    save_variables(tmp_path / "broken", broken, tiny.config(tiny_data))
    with pytest.raises(UserError, match="step 0 predicts joints that are not finite"):
        evaluate_run.evaluate_checkpoint(tmp_path / "broken", batch_size=8)


def test_without_labels_the_submission_is_written(
    workdir: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    logged: list[str],
) -> None:
    batches = pipeline.eval_batches

    def unlabelled(*arguments: Any, **options: Any) -> Iterator[Any]:
        for batch in batches(*arguments, **options):
            nothing = np.full_like(batch["joints_uvd"], np.nan)
            yield {**batch, "joints_uvd": nothing, "valid": np.zeros_like(batch["valid"])}

    monkeypatch.setattr(pipeline, "eval_batches", unlabelled)
    out, text = tmp_path / "new" / "eval", tmp_path / "joints.txt"
    contents = evaluate_run.evaluate_checkpoint(
        workdir, data_dir=tiny_data, batch_size=8, out=out, write=[text]
    )
    assert np.loadtxt(text).shape == (tiny.FRAMES["test"], 63)
    assert contents == {
        "track": "synthetic_hand",
        "frames": tiny.FRAMES["test"],
        "predictions": str(out / "predictions.npz"),
        "submission": str(out / "submission.txt"),
        "step": 0,
        "split": "test",
        "crops_from": {"rendered": tiny.FRAMES["test"]},
        "unreadable": 0,
    }
    assert any("no labels" in line for line in logged)
    lines = (out / "submission.txt").read_text().splitlines()
    assert len(lines) == tiny.FRAMES["test"]
    assert lines[1].startswith("frame/images/image_D00000002.png\t")
    assert len(lines[1].split("\t")) == 1 + 63 + 1
    assert sorted(path.name for path in out.iterdir()) == ["predictions.npz", "submission.txt"]


def test_joints_are_written_in_known_formats_only(workdir: Path, tiny_data: Path) -> None:
    with pytest.raises(UserError, match=r"joints\.xyz: joints are written as one of \.npz"):
        evaluate_run.evaluate_checkpoint(workdir, data_dir=tiny_data, write=["joints.xyz"])


def test_only_boxes_can_be_unclipped(workdir: Path, tiny_data: Path) -> None:
    with pytest.raises(UserError, match=r"tracks that crop by box; 'synthetic_hand' does not"):
        evaluate_run.evaluate_checkpoint(workdir, data_dir=tiny_data, unclipped_boxes=True)


def test_the_run_table_has_the_best_and_the_final_epoch(tiny_data: Path) -> None:
    ranking = {3: {"error": 20.0, "frames": 16.0}, 6: {"error": 21.5, "frames": 16.0}}
    config = tiny.config(tiny_data)
    track = resolve(config).track
    scores = {step: score_errors(np.full((4, 21), float(step)), track) for step in (6, 3)}
    data = evaluate_run.SplitToScore(tiny_data)
    table = evaluate_run.run_table(ranking, restored(config), scores, data)
    assert table is not None
    assert table.columns == ("", "step", "epoch", "validation, while training (mm)", "test (mm)")
    # 64 training frames, batches of 8: an epoch has 8 steps.
    assert table.rows == (
        ("best checkpoint", "3", "0.38", "20.00", "3.00"),
        ("final checkpoint", "6", "0.75", "21.50", "6.00"),
    )


def test_the_best_may_be_the_final_one_and_training_frames_gone(tmp_path: Path) -> None:
    config = tiny.config()
    track = resolve(config).track
    scores = {6: score_errors(np.ones((4, 21)), track)}
    ranking, data = {6: {"error": 20.0}}, evaluate_run.SplitToScore(tmp_path)
    table = evaluate_run.run_table(ranking, restored(config), scores, data)
    assert table is not None
    assert table.rows == (("best and final checkpoint", "6", "–", "20.00", "1.00"),)


def test_a_converted_checkpoint_has_no_history(workdir: Path, tiny_data: Path) -> None:
    data = evaluate_run.SplitToScore(tiny_data)
    assert (
        evaluate_run.run_table(ranking_metrics(workdir), restored(tiny.config()), {}, data) is None
    )


def test_reports_of_different_things_go_to_different_folders(tmp_path):
    assert evaluate_run.report_folder("test", None, None) == "eval"
    unusual = {
        evaluate_run.report_folder("test", "latest", None),
        evaluate_run.report_folder("test", 940, None),
        evaluate_run.report_folder("validation", None, None),
        evaluate_run.report_folder("train[:80%]", None, None),
        evaluate_run.report_folder("test", None, tmp_path / "other"),
    }
    assert unusual == {
        "eval-step_latest", "eval-step_940", "eval-validation", "eval-train_80", "eval-other",
    }  # fmt: skip
