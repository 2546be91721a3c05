"""The training loop with a make-believe step: what is read, logged and saved when, and when it stops."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax.errors import UserError
from a2j_jax.evaluation.metrics import joint_errors
from a2j_jax.training.checkpoints import RunCheckpoints, load_variables, ranking_metrics
from a2j_jax.training.logs import RunLog
from a2j_jax.training.loop import BATCH_KEYS, Intervals, train
from a2j_jax.training.optimizer import adam_with_l2
from a2j_jax.training.state import TrainState

Loss = Callable[[int], float]


class Batches:
    """Batch k holds the number k everywhere."""

    def __init__(self) -> None:
        self.position = 0

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> dict[str, Any]:
        self.position += 1
        return {name: np.full(2, self.position) for name in (*BATCH_KEYS, "index", "frame_id")}

    def get_state(self) -> dict[str, Any]:
        return {"position": self.position}

    def set_state(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


def make_step(loss: Loss) -> Any:
    def step(state: TrainState, batch: Any, key: Any) -> tuple[TrainState, dict[str, Any]]:
        assert sorted(batch) == sorted(BATCH_KEYS)  # nothing else travels to the device
        number = int(batch["canvas"][0])
        assert number == int(state.step) + 1
        params = {"w": jnp.full(3, float(number))}
        metrics = {"loss": jnp.float32(loss(number)), "regression": 1.0, "surrounding": 2.0}
        return state.replace(step=jnp.int32(number), params=params), metrics

    return step


def run(
    workdir: Path,
    loss: Loss = float,
    evaluate: Callable[[Any], dict[str, float]] | None = None,
    total: int = 7,
    start: int = 0,
) -> TrainState:
    checkpoints, log = RunCheckpoints(workdir), RunLog(workdir)
    optimizer = adam_with_l2(1e-3, 0.0)
    state = TrainState.create({"params": {"w": jnp.zeros(3)}, "batch_stats": {}}, optimizer)
    batches = Batches()
    batches.position = start
    try:
        return train(
            make_step(loss),
            state.replace(step=jnp.int32(start)),
            batches,
            jax.random.key(0),
            Intervals(total=total, log=2, evaluate=3),
            evaluate=evaluate or (lambda state: {"error": 10 - float(state.params["w"][0])}),
            checkpoints=checkpoints,
            log=log,
            schedule=lambda step: 0.5 * step,
            batch_size=2,
            unit="mm",
        )
    finally:
        checkpoints.close()
        log.close()


def records(workdir: Path, kind: str) -> dict[int, dict[str, float]]:
    found = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {record["step"]: record for record in found if record["kind"] == kind}


def evaluate_to(errors: list[float]) -> Callable[[Any], dict[str, float]]:
    left = iter(errors)
    return lambda _: {"error": next(left)}


def test_steps_are_logged_evaluated_and_saved_at_their_intervals(tmp_path: Path) -> None:
    state = run(tmp_path, evaluate=evaluate_to([5.0, 7.0, 6.0]))
    assert int(state.step) == 7
    logged = records(tmp_path, "train")
    assert list(logged) == [2, 4, 6]
    assert [record["loss"] for record in logged.values()] == [2, 4, 6]  # each its own step's
    # The rate that was used in a step: the first one has that of step 0.
    assert [record["learning_rate"] for record in logged.values()] == [0.5, 1.5, 2.5]
    assert [record["error"] for record in records(tmp_path, "eval").values()] == [5.0, 7.0, 6.0]
    assert list(records(tmp_path, "eval")) == [3, 6, 7]  # and at the end
    assert ranking_metrics(tmp_path) == {3: {"error": 5.0}, 7: {"error": 6.0}}


def test_evaluations_are_said_in_lines_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, evaluate=evaluate_to([5.0, 7.0, 6.0]))
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("step ")] == [
        "step 3: error 5.00 mm", "step 6: error 7.00 mm", "step 7: error 6.00 mm"
    ]  # fmt: skip
    assert any("training: " in line and "loss " in line for line in lines)


def test_a_run_goes_on_from_where_its_state_is(tmp_path: Path) -> None:
    state = run(tmp_path, start=4)
    assert int(state.step) == 7
    assert list(records(tmp_path, "train")) == [6]


def test_a_finished_run_does_nothing(tmp_path: Path) -> None:
    assert int(run(tmp_path, start=7).step) == 7
    assert not (tmp_path / "metrics.jsonl").exists()
    assert not ranking_metrics(tmp_path)


def stopped(workdir: Path, **how: Any) -> str:
    with pytest.raises(UserError) as caught:
        run(workdir, **how)
    message = str(caught.value)
    assert "\n" not in message
    assert "Lower --config.optim.learning_rate" in message
    return message


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(("step", "good"), [(4, 3), (5, 3), (6, 3), (7, 6)])
def test_a_loss_that_is_not_finite_stops_with_the_last_good_checkpoint(
    tmp_path: Path, bad: float, step: int, good: int
) -> None:
    message = stopped(tmp_path, loss=lambda number: bad if number == step else 1.0)
    assert f"training broke at step {step}: loss {bad:g}" in message
    assert f"Last good checkpoint: step {good}, kept" in message
    assert max(ranking_metrics(tmp_path)) == good
    shapes = {"params": {"w": jnp.zeros(3)}, "batch_stats": {}}
    np.testing.assert_array_equal(
        load_variables(tmp_path, shapes, "latest")[0]["params"]["w"], good
    )


def test_a_loss_that_breaks_before_the_first_checkpoint(tmp_path: Path) -> None:
    message = stopped(tmp_path, loss=lambda number: float("nan") if number == 2 else 1.0)
    assert "training broke at step 2" in message
    assert "Last good checkpoint: none was saved yet" in message


def test_weights_that_answer_with_nan_are_not_saved(tmp_path: Path) -> None:
    """A step of finite loss may lead to weights that are broken."""

    def evaluate(state: TrainState) -> dict[str, float]:
        if state.params["w"][0] > 5:
            joint_errors(np.full((1, 14, 3), np.nan), np.zeros((1, 14, 3)))
        return {"error": 1.0}

    message = stopped(tmp_path, evaluate=evaluate)
    assert "training broke at step 6: predicted joint 0 of frame 0 is not finite" in message
    assert "Last good checkpoint: step 3" in message
    assert list(ranking_metrics(tmp_path)) == [3]


def test_other_errors_of_an_evaluation_are_not_swallowed(tmp_path: Path) -> None:
    def evaluate(_: Any) -> dict[str, float]:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        run(tmp_path, evaluate=evaluate)
