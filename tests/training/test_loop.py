"""The training loop: intervals, late reading of metrics, broken losses, profiles."""

import gzip
import json
import signal
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax.data.crops import STEP_ARRAYS
from a2j_jax.errors import Stopped, UserError
from a2j_jax.evaluation.scores import joint_errors
from a2j_jax.runs.checkpoints import RunCheckpoints, load_variables
from a2j_jax.runs.run_dir import choose_step, kept_checkpoints, ranking_metrics
from a2j_jax.runs.sharding import TrainState
from a2j_jax.training.logs import SPEED, RunLog
from a2j_jax.training.loop import Intervals, ProfileWindow, TrainingLoop, _SaveClock
from a2j_jax.training.step import adam_with_l2

Loss = Callable[[int], float]


class Batches:
    """Batch k holds the number k everywhere."""

    def __init__(self) -> None:
        self.position = 0

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> dict[str, Any]:
        self.position += 1
        return {name: np.full(2, self.position) for name in (*STEP_ARRAYS, "index", "frame_id")}

    def get_state(self) -> dict[str, Any]:
        return {"position": self.position}

    def set_state(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


def make_step(loss: Loss) -> Any:
    def step(state: TrainState, batch: Any, key: Any) -> tuple[TrainState, dict[str, Any]]:
        assert sorted(batch) == sorted(STEP_ARRAYS)  # nothing else travels to the device
        number = int(batch["canvas"][0])
        assert number == int(state.step) + 1
        params = {"w": jnp.full(3, float(number))}
        metrics = {"loss": jnp.float32(loss(number)), "regression": 1.0, "surrounding": 2.0}
        return state.replace(step=jnp.int32(number), params=params), metrics

    return step


def run(
    workdir: Path,
    loss: Loss = float,
    evaluate: Callable[[Any, Any], dict[str, float]] | None = None,
    total: int = 7,
    start: int = 0,
    save: int | None = None,
    skippable: int = 0,
    step: Any = None,
    batches: Batches | None = None,
    checkpoints: type[RunCheckpoints] = RunCheckpoints,
) -> TrainState:
    batches = batches or Batches()
    batches.position = start
    with closing(checkpoints(workdir)) as saved, closing(RunLog(workdir)) as log:
        loop: Any = TrainingLoop(
            step or make_step(loss),
            batches,  # type: ignore[arg-type]
            jax.random.key(0),
            Intervals(total=total, log=2, evaluate=3, save=save),
            evaluate=evaluate or (lambda state, _: {"error": 10 - float(state.params["w"][0])}),
            checkpoints=saved,
            log=log.write,
            schedule=lambda step: 0.5 * step,
            batch_size=2,
            unit="mm",
            skippable=skippable,
        )
        return loop.run(state_of(start))


def state_of(step: int = 0) -> TrainState:
    variables = {"params": {"w": jnp.full(3, float(step))}, "batch_stats": {}}
    return TrainState.create(variables, adam_with_l2(1e-3, 0.0)).replace(step=jnp.int32(step))


def latest(workdir: Path) -> tuple[float, int]:
    """The weight and step of the newest checkpoint."""
    folder = choose_step(workdir, "latest")
    weights, _ = load_variables(folder, state_of().variables)
    (weight,) = set(weights["params"]["w"].tolist())
    return weight, int(folder.name)


def kept_steps(workdir: Path) -> list[int]:
    return [int(path.name) for path in kept_checkpoints(workdir)]


def records(workdir: Path, kind: str) -> dict[int, dict[str, float]]:
    found = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {record["step"]: record for record in found if record["kind"] == kind}


def evaluate_to(errors: list[float]) -> Callable[[Any, Any], dict[str, float]]:
    left = iter(errors)
    return lambda *_: {"error": next(left)}


def test_steps_are_logged_evaluated_and_saved_at_their_intervals(
    tmp_path: Path, logged: list[str]
) -> None:
    state = run(tmp_path, evaluate=evaluate_to([5.0, 7.0, 6.0]))
    assert int(state.step) == 7
    train = records(tmp_path, "train")
    assert list(train) == [2, 4, 6]
    assert [record["loss"] for record in train.values()] == [2, 4, 6]  # each its own step's
    # The rate that was used in a step: the first one has that of step 0.
    assert [record["learning_rate"] for record in train.values()] == [0.5, 1.5, 2.5]
    errors = {step: record["error"] for step, record in records(tmp_path, "eval").items()}
    assert errors == {3: 5.0, 6: 7.0, 7: 6.0}  # and at the end
    assert ranking_metrics(tmp_path) == {3: {"error": 5.0}, 7: {"error": 6.0}}
    assert [line for line in logged if line.startswith("step ")] == [
        f"step {step}: error {error:.2f} mm" for step, error in errors.items()
    ]
    assert any("training: " in line and "loss " in line for line in logged)


def test_a_run_goes_on_from_where_its_state_is(tmp_path: Path) -> None:
    assert int(run(tmp_path, start=7).step) == 7  # it is finished
    assert not (tmp_path / "metrics.jsonl").exists()
    assert not ranking_metrics(tmp_path)
    assert int(run(tmp_path, start=4).step) == 7
    assert list(records(tmp_path, "train")) == [6]


def stopped(workdir: Path, **how: Any) -> str:
    with pytest.raises(UserError) as caught:
        run(workdir, **how)
    message = str(caught.value)
    assert "\n" not in message
    for key in ("learning_rate", "warmup_steps", "skip_nonfinite_updates"):
        assert f"--config.optim.{key}" in message
    return message


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(("step", "good"), [(2, 0), (4, 3), (6, 3), (7, 6)])
def test_a_loss_that_is_not_finite_stops_with_the_last_good_checkpoint(
    tmp_path: Path, bad: float, step: int, good: int
) -> None:
    message = stopped(tmp_path, loss=lambda number: bad if number == step else 1.0)
    assert f"training broke at step {step}: loss {bad:g}" in message
    if not good:
        assert "No checkpoint was saved yet" in message
        return
    assert f"Last checkpoint: step {good}, kept. " in message
    assert f"--config.model.init_from={tmp_path}" in message
    assert max(ranking_metrics(tmp_path)) == good
    assert latest(tmp_path) == (good, good)


def test_weights_that_answer_with_nan_are_not_kept(tmp_path: Path) -> None:
    """A step of finite loss may lead to weights that are broken."""

    def evaluate(state: TrainState, _: Any) -> dict[str, float]:
        if state.params["w"][0] > 5:
            joint_errors(np.full((1, 14, 3), np.nan), np.zeros((1, 14, 3)))
        return {"error": 1.0}

    message = stopped(tmp_path, evaluate=evaluate)
    assert "training broke at step 6: predicted joint 0 of frame 0 is not finite" in message
    assert "Last checkpoint: step 3" in message
    assert list(ranking_metrics(tmp_path)) == [3]


def leaving_out(*broken: int) -> Any:
    """A step whose updates at these numbers are not finite, and are left out as `step.py` does it."""
    plain = make_step(lambda number: float("nan") if number in broken else float(number))

    def step(state: TrainState, batch: Any, key: Any) -> tuple[TrainState, dict[str, Any]]:
        new, metrics = plain(state, batch, key)
        missed = int(new.step) in broken
        new = new.replace(
            params=state.params if missed else new.params,
            skipped=state.skipped + missed,
            skipped_in_a_row=(state.skipped_in_a_row + 1) * missed,
        )
        counts = {name: getattr(new, name) for name in ("skipped", "skipped_in_a_row")}
        return new, metrics | counts

    return step


def test_updates_that_are_left_out_are_counted_logged_and_said(
    tmp_path: Path, logged: list[str]
) -> None:
    state = run(tmp_path, step=leaving_out(2, 3, 5), skippable=2)
    assert (int(state.step), int(state.skipped), int(state.skipped_in_a_row)) == (7, 3, 0)
    said = [line for line in logged if "left out" in line]
    assert [line.partition(" (")[0] for line in said] == [
        f"step {step}: left out" for step in (2, 3, 5)
    ]
    assert "loss nan" in said[0]
    train = records(tmp_path, "train")
    assert {n: (r["skipped"], r["skipped_in_a_row"]) for n, r in train.items()} == {
        2: (1, 1), 3: (2, 2), 4: (2, 0), 5: (3, 1), 6: (3, 0),  # whether or not it is their turn
    }  # fmt: skip
    # Of a falling rate: what is left out does not count.
    rates = [record["learning_rate"] for record in train.values()]
    np.testing.assert_allclose(rates, [0.5 * step for step in (0, 0, 1, 1, 2)], rtol=1e-6)
    assert "loss" not in train[3]  # NaN is no JSON
    assert train[4]["loss"] == 4


@pytest.mark.parametrize(("skippable", "at"), [(0, 4), (1, 5), (2, 6)])
def test_too_many_updates_left_out_in_a_row_stop_the_run(
    tmp_path: Path, skippable: int, at: int
) -> None:
    message = stopped(tmp_path, step=leaving_out(4, 5, 6), skippable=skippable)
    assert f"training broke at step {at}: loss nan" in message
    assert "Last checkpoint: step 3" in message


def test_how_many_were_left_out_survives_a_restart(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        run(tmp_path, step=leaving_out(2, 3, 4), skippable=2)
    with closing(RunCheckpoints(tmp_path)) as checkpoints:
        state, _ = checkpoints.restore(state_of(), 3)
    assert (int(state.skipped), int(state.skipped_in_a_row)) == (2, 2)
    np.testing.assert_array_equal(state.params["w"], 1)  # of the last update that was not left out


def test_states_are_saved_between_evaluations(tmp_path: Path) -> None:
    saved: list[tuple[int, int, bool]] = []

    class Watched(RunCheckpoints):
        def save(self, state: TrainState, position: Any, to_be_scored: bool = False) -> None:
            saved.append((int(state.step), position["position"], to_be_scored))
            super().save(state, position, to_be_scored)

    run(tmp_path, evaluate=evaluate_to([5.0, 7.0, 6.0]), save=2, checkpoints=Watched)
    evaluated = {3, 6, 7}
    assert saved == [(step, step, step in evaluated) for step in (2, 3, 4, 6, 7)]
    assert list(ranking_metrics(tmp_path)) == [3, 7]  # the best outlived what was saved after it
    assert list(records(tmp_path, "eval")) == [3, 6, 7]


class Signaling(Batches):
    """Batches, of which some come with a signal."""

    def __init__(self, signals: dict[int, signal.Signals]) -> None:
        super().__init__()
        self.signals = signals

    def __next__(self) -> dict[str, Any]:
        batch = super().__next__()
        if self.position - 1 in self.signals:  # while the step before runs
            signal.raise_signal(self.signals[self.position - 1])
        return batch


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=str
)
@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_signal_ends_the_run_once_its_step_is_saved(
    tmp_path: Path, number: signal.Signals, status: int, step: int
) -> None:
    with pytest.raises(Stopped, match=f"{number.name}: stopped after step {step} of 7") as caught:
        run(tmp_path, batches=Signaling({step: number}))
    assert caught.value.status == status
    assert latest(tmp_path) == (step, step)
    # Where it was the turn of an evaluation, the next start begins with it.
    assert (3 in ranking_metrics(tmp_path)) == (step > 3)
    run(tmp_path, start=step)
    assert list(records(tmp_path, "eval")) == [3, 6, 7]
    assert ranking_metrics(tmp_path) == {7: {"error": 3.0}}


@pytest.mark.parametrize("step", [3, 6, 7])
def test_a_signal_in_an_evaluation_ends_it_and_the_next_start_begins_with_it(
    tmp_path: Path, step: int
) -> None:
    batches_done = []

    def evaluate(state: TrainState, on_batch: Any) -> dict[str, float]:
        deadline = time.monotonic() + 20
        while int(state.step) not in kept_steps(tmp_path):  # saved before, in the background
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for batch in range(9):
            batches_done.append(batch)
            if int(state.step) == step and batch == 4:
                signal.raise_signal(signal.SIGTERM)
            on_batch(8)
        return {"error": 10 - float(state.params["w"][0])}

    with pytest.raises(Stopped, match=f"SIGTERM: stopped after step {step} of 7"):
        run(tmp_path, evaluate=evaluate)
    assert batches_done[-1] == 4
    assert kept_steps(tmp_path)[-1] == step
    assert step not in ranking_metrics(tmp_path)
    run(tmp_path / "in_peace")
    run(tmp_path, start=step)
    assert records_without_time(tmp_path) == records_without_time(tmp_path / "in_peace")
    assert ranking_metrics(tmp_path) == ranking_metrics(tmp_path / "in_peace")
    assert kept_steps(tmp_path) == kept_steps(tmp_path / "in_peace")


def records_without_time(workdir: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [
        {k: v for k, v in line.items() if k not in ("time", *SPEED)}
        for line in lines
        if line["kind"] != "time"
    ]


@pytest.mark.parametrize("reading", [0.05, 0.0001])
def test_a_log_says_how_long_devices_wait_for_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reading: float
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)

    class Slow(Batches):
        def __next__(self) -> dict[str, Any]:
            nonlocal now
            now += reading
            return super().__next__()

    def step(*arguments: Any) -> Any:
        nonlocal now
        now += 0.005
        return make_step(float)(*arguments)

    def evaluate(*_: Any) -> dict[str, float]:
        nonlocal now
        now += 0.2
        return {"error": 1.0}

    run(tmp_path, batches=Slow(), step=step, evaluate=evaluate)
    for record in records(tmp_path, "train").values():
        waited = record["input_wait_fraction"]
        assert waited == pytest.approx(reading / (reading + 0.005))
        assert waited > 0.8 if reading == 0.05 else waited < 0.05
        assert record["step_ms"] == pytest.approx(1e3 * (reading + 0.005))  # without evaluations
        assert record["images_per_second"] == pytest.approx(2e3 / record["step_ms"])
    (times,) = records(tmp_path, "time").values()
    assert times["evaluate_seconds"] == pytest.approx(0.6)
    assert times["total_seconds"] == pytest.approx(7 * (reading + 0.005) + 0.6, abs=1e-3)
    assert times["step"] == 7


def test_examples_that_cannot_be_read_cost_their_own_step_alone(tmp_path: Path) -> None:
    class Damaged(Batches):
        def __next__(self) -> dict[str, Any]:
            if self.position == 3:
                raise UserError("damaged")
            return super().__next__()

    with pytest.raises(UserError, match="damaged"):
        run(tmp_path, batches=Damaged())
    assert latest(tmp_path) == (3, 3)  # saved and scored, though batch 4 was asked for before
    assert list(ranking_metrics(tmp_path)) == [3]


def test_a_signal_while_the_last_checkpoint_is_written_waits_for_it(tmp_path: Path) -> None:
    class Signaled(RunCheckpoints):
        def wait(self) -> None:
            signal.raise_signal(signal.SIGTERM)  # would end this process
            super().wait()

    assert int(run(tmp_path, checkpoints=Signaled).step) == 7
    assert 7 in ranking_metrics(tmp_path)


@pytest.mark.parametrize(
    ("window", "steps", "traced", "said"),
    [
        (ProfileWindow.parse("3:5"), range(1, 8), [3, 4], "profiled steps 3 to 4: tensorboard"),
        (range(2, 100), range(1, 4), [2, 3], "profiled steps 2 to 99"),  # the end cuts it
        (range(2, 4), range(5, 7), [], "traced: this start took steps 5 to 6, not steps 2 to 3"),
        (range(5, 6), range(1, 4), [], "traced: this start took steps 1 to 3, not step 5"),
        (range(0), range(1, 4), [], ""),
    ],
)
def test_exactly_these_steps_are_traced(
    tmp_path: Path, logged: list[str], window: range, steps: range, traced: list[int], said: str
) -> None:
    profile, matmul, x = ProfileWindow(window, tmp_path), jax.jit(lambda x: x @ x), jnp.eye(64)
    for step in steps:
        x, _ = profile.run(step, lambda x: (matmul(x), x), x)
    profile.close()
    assert len(logged) == (said != "")
    assert said in " ".join(logged)
    assert (tmp_path / "profile").exists() == (traced != [])
    if traced:
        (file,) = tmp_path.glob("profile/plugins/profile/*/perfetto_trace.json.gz")
        assert list(file.parent.glob("*.xplane.pb"))  # TensorBoard's
        events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
        assert traced == [
            int(event["args"]["step_num"]) for event in events if event.get("name") == "train"
        ]


def test_what_is_no_window_is_refused() -> None:
    for text in ("100", "5:5", "6:5", "0:3", "a:b", "1:2:3", ":3", "-1:3"):
        with pytest.raises(UserError, match=f"--profile_steps '{text}'.*FIRST:END"):
            ProfileWindow.parse(text)


def test_saves_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every half a minute, though steps become twice as fast on the way."""
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    clock, saved = _SaveClock(0.5, 100), []
    for step in range(101, 500):
        now += 1.0 if step < 300 else 0.5
        if clock.is_due(step):
            saved.append(now)
    gaps = np.diff([0.0, *saved])
    assert len(gaps) > 8
    assert (np.abs(gaps - 30) <= 15).all()
    assert np.median(gaps) == 30
    assert not any(_SaveClock(None, 0).is_due(step) for step in range(50))
