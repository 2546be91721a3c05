"""Running the rows of a table: which runs there are, which cannot be, and being told to stop."""

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from a2j_jax.errors import Stopped, UserError
from a2j_jax.experiments import reproduce
from a2j_jax.experiments.budgets import base_config
from a2j_jax.experiments.paper_tables import TABLES
from a2j_jax.experiments.reproduce import jobs, run_all, unusable_weights

TABLE = TABLES["table7"]
BASE = base_config("synthetic_hand", "smoke")
HOW: dict[str, Any] = {"pdj": False, "split": "test", "prepare": print, "command": ""}


def test_every_row_with_the_first_seed_then_with_the_next() -> None:
    todo = list(jobs(TABLE, BASE, 2, Path("out")))
    assert [(job.row.name, job.seed - BASE.run.seed) for job in todo] == [
        (row.name, number) for number in (0, 1) for row in TABLE.rows
    ]
    assert todo[-1].workdir == Path("out") / "a2j" / f"seed_{BASE.run.seed + 1}"
    assert todo[-1].config.run.seed == BASE.run.seed + 1
    assert todo[-1].config.data.seed == BASE.data.seed  # the frames stay the same


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_the_end_of_a_run_ends_the_table(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """The run is through and scored; those after it must not begin."""
    begun = []

    def run(job: Any, **_: Any) -> dict[str, Any]:
        begun.append(job.row.name)
        os.kill(os.getpid(), number)
        return {}

    monkeypatch.setattr(reproduce, "run", run)
    with pytest.raises(Stopped, match=f"{number.name}: stopped after run 1 of 4") as caught:
        run_all(list(jobs(TABLE, BASE, 1, Path("out"))), **HOW)
    assert caught.value.status == 128 + number
    assert begun == ["no_proposals"]


def with_weights(path: Path) -> Any:
    model = dataclasses.replace(BASE.model, init_from=str(path))
    return dataclasses.replace(BASE, model=model)


def test_weights_of_another_size_are_told_before_anything_is_trained(tmp_path: Path) -> None:
    path = tmp_path / "resnet50.npz"
    assert unusable_weights(BASE) is None
    assert unusable_weights(with_weights(path)) == f"{path} is not there (docs/weights.md)"
    np.savez(path, **{"conv1.weight": np.zeros((64, 3, 7, 7), np.float32)})
    told = unusable_weights(with_weights(path))
    assert told == f"{path} does not fit a resnet18 of width 8"


def test_where_no_row_can_be_run_the_reason_is_told_once(tmp_path: Path) -> None:
    todo = list(jobs(TABLE, with_weights(tmp_path / "none.npz"), 1, tmp_path / "out"))
    with pytest.raises(UserError) as caught:
        run_all(todo, **HOW)
    assert str(caught.value).count("none.npz is not there") == 1
