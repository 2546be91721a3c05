"""Running the rows of a table: which runs there are, which cannot be, and being told to stop."""

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from a2j_jax.config import override
from a2j_jax.config_files import load_config
from a2j_jax.errors import Stopped, UserError
from a2j_jax.evaluation.evaluate import EvaluationResult, Frames, score_frames
from a2j_jax.evaluation.joint_files import JointSet
from a2j_jax.evaluation.tables import TABLES
from a2j_jax.tools import reproduce
from a2j_jax.tools.reproduce import (
    Job,
    base_config,
    jobs,
    run_all,
    split_to_score,
    unusable_weights,
)
from a2j_jax.tracks import get_track

TABLE = TABLES["table7"]
BASE = base_config("synthetic_hand", "smoke")


def test_every_row_with_the_first_seed_then_with_the_next() -> None:
    todo = list(jobs(TABLE, BASE, 2, Path("out")))
    assert [(job.row.name, job.seed - BASE.run.seed) for job in todo] == [
        (row.name, number) for number in (0, 1) for row in TABLE.rows
    ]
    assert todo[-1].workdir == Path("out") / "a2j" / f"seed_{BASE.run.seed + 1}"
    assert todo[-1].config.run.seed == BASE.run.seed + 1
    assert todo[-1].config.data.seed == BASE.data.seed  # the frames stay the same


def test_rows_that_would_be_the_same_are_refused() -> None:
    """A value for all rows that one of them is to differ in leaves two of one kind, one of them with a false name."""
    with pytest.raises(UserError, match="'without the surrounding loss' and 'A2J' are one and the"):
        list(jobs(TABLE, override(BASE, "loss.surrounding", "false"), 1, Path("out")))


def test_a_split_that_is_not_there_is_told_before_training(tiny_data: Path, tmp_path: Path) -> None:
    data = dataclasses.replace(BASE.data, dir=str(tiny_data))
    (job,) = jobs(TABLES["table3"], dataclasses.replace(BASE, data=data), 1, tmp_path)
    with pytest.raises(UserError, match="tset"):
        reproduce.run(job, pdj=False, split="tset", command="")
    assert not job.workdir.exists()


def test_a_split_without_labels_is_told_before_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That of HANDS 2017's challenge is: rows are scored by what ranks checkpoints, or by what is asked for."""
    labeled = {"train[98%:]"}
    monkeypatch.setattr(
        reproduce.pipeline, "has_labels", lambda _dir, _track, split: split in labeled
    )
    config = load_config("hands2017")
    assert split_to_score(config, None) == "train[98%:]"
    assert "split 'test' of track 'hands2017' has no labels" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"'test' of track 'hands2017' has no labels.*--split"):
        split_to_score(config, "test")
    labeled.add("test")
    assert split_to_score(config, None) == "test"


def test_what_was_done_is_shown_where_another_seed_cannot_be_run(tmp_path: Path) -> None:
    todo = list(jobs(TABLES["table3"], with_weights(tmp_path / "gone.npz"), 2, tmp_path / "out"))
    todo[0].workdir.mkdir(parents=True)
    results, skipped = run_all(todo, lambda job: {"seed": job.seed}, print)
    assert results == [{"seed": todo[0].seed}]
    assert skipped == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_the_end_of_a_run_ends_the_table(number: signal.Signals) -> None:
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


def test_weights_of_another_size_are_told_before_anything_is_trained(tmp_path: Path) -> None:
    path = tmp_path / "resnet50.npz"
    assert unusable_weights(BASE) is None
    missing = unusable_weights(with_weights(path))
    assert missing is not None
    assert missing.startswith(f"{path} is not there; ImageNet's are of width 64")
    assert missing.endswith("of 8: --budget full")
    np.savez(path, **{"conv1.weight": np.zeros((64, 3, 7, 7), np.float32)})
    told = unusable_weights(with_weights(path))
    assert told == f"{path} does not fit a resnet18 of width 8"


def test_where_no_row_can_be_run_the_reason_is_told_once(tmp_path: Path) -> None:
    todo = list(jobs(TABLE, with_weights(tmp_path / "none.npz"), 1, tmp_path / "out"))
    with pytest.raises(UserError) as caught:
        run_all(todo, lambda job: {}, print)
    assert str(caught.value).count("none.npz is not there") == 1


def test_bodies_are_measured_by_pdj_too_where_the_table_asks() -> None:
    """Joints a tenth of the torso off: none is within 0.05 of it, all are within 0.15."""
    rng = np.random.default_rng(0)
    labels = rng.uniform(50, 200, (3, 15, 3))
    labels[..., 2] = 3000.0
    neck, hips = labels[:, 1, :2], labels[:, 9:11, :2].mean(1)
    predicted = labels.copy()
    predicted[..., 0] += 0.1 * np.linalg.norm(neck - hips, axis=-1)[:, None]
    track = get_track("itop_front")
    frames = Frames(
        joints_uvd=labels,
        valid=np.ones((3, 15), bool),
        box_px=np.zeros((3, 4)),
        center_uvd=np.zeros((3, 3)),
        camera=np.tile([1 / 0.0035, -1 / 0.0035, 160.0, 120.0], (3, 1)),
        index=np.arange(3),
    )
    result = EvaluationResult(JointSet(predicted), frames, score_frames(predicted, frames, track))
    scores = reproduce._scores(result, track, pdj=True)
    assert scores["pdj"]["0.05"] == 0.0
    assert scores["pdj"]["0.15"] == 1.0
    assert "map_10cm" in scores
    assert "pdj" not in reproduce._scores(result, track, pdj=False)
