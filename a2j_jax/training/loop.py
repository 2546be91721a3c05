"""The training loop: step, report, evaluate, save; stops rather than train on a broken loss."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn, Protocol

import jax
import optax

from a2j_jax.errors import UserError
from a2j_jax.evaluation.metrics import NotFiniteError
from a2j_jax.progress import Advance, progress, say
from a2j_jax.training.checkpoints import RANKED_BY, RunCheckpoints
from a2j_jax.training.logs import RunLog
from a2j_jax.training.state import TrainState
from a2j_jax.training.step import Batch, Metrics, TrainStep

# variables -> scores of the evaluation split; "error" ranks checkpoints
Evaluate = Callable[[dict[str, Any]], dict[str, float]]
# What travels to the device; the rest of an example is for evaluation.
BATCH_KEYS = ("canvas", "box_px", "window_px", "center_uvd", "joints_uvd", "valid")


class BatchIterator(Protocol):
    """Batches whose position can be saved and restored."""

    def __next__(self) -> Batch: ...

    def __iter__(self) -> Iterator[Batch]: ...

    def get_state(self) -> dict[str, Any]: ...

    def set_state(self, state: dict[str, Any]) -> None: ...


class Intervals(NamedTuple):
    """How often things happen, in steps."""

    total: int
    log: int
    evaluate: int  # and save


def train(
    train_step: TrainStep,
    state: TrainState,
    batches: BatchIterator,
    key: jax.Array,
    intervals: Intervals,
    *,
    evaluate: Evaluate,
    checkpoints: RunCheckpoints,
    log: RunLog,
    schedule: optax.Schedule,
    batch_size: int,
    unit: str = "",
) -> TrainState:
    """Train from `state.step` to `intervals.total`.

    Metrics are read one step late, so that the device never waits for the host. Every `intervals.evaluate` steps
    and at the end the state is evaluated and saved, after its losses were seen to be finite. `unit` is that of
    the error, for what is told.

    Raises:
      UserError: the loss, the gradient norm or an evaluated joint is NaN or infinite, naming the step and the
        last good checkpoint.
    """
    first = int(state.step)
    reporter = _Reporter(log, schedule, intervals.log, checkpoints)
    with progress(
        "training", intervals.total * batch_size, "images", first * batch_size
    ) as advance:
        for step in range(first, intervals.total):
            batch = next(batches)
            state, metrics = train_step(state, {name: batch[name] for name in BATCH_KEYS}, key)
            reporter.read(advance)
            advance(batch_size)
            reporter.pending = (step + 1, metrics)
            if (step + 1) % intervals.evaluate == 0 or step + 1 == intervals.total:
                reporter.read(advance)
                scores = reporter.checked(step + 1, evaluate, state.variables)
                log.write("eval", step + 1, scores)
                checkpoints.save(state, batches.get_state(), scores)
                say(f"step {step + 1}: error {scores[RANKED_BY]:.2f} {unit}{_where(scores)}")
    checkpoints.wait()
    return state


def _where(scores: dict[str, float]) -> str:
    return f" on {scores['frames']:.0f} frames" if "frames" in scores else ""


class _Reporter:
    """Reads a step's metrics once they are surely there, checks them, logs some of them."""

    def __init__(
        self, log: RunLog, schedule: optax.Schedule, log_every: int, checkpoints: RunCheckpoints
    ):
        self.pending: tuple[int, Metrics] | None = None
        self._log, self._schedule, self._log_every = log, schedule, log_every
        self._checkpoints = checkpoints

    def read(self, advance: Advance) -> None:
        if self.pending is None:
            return
        step, metrics = self.pending
        self.pending = None
        scalars = {name: float(value) for name, value in metrics.items()}
        if not all(math.isfinite(value) for value in scalars.values()):
            self._stop(step, ", ".join(f"{name} {value:g}" for name, value in scalars.items()))
        if step % self._log_every:
            return
        scalars["learning_rate"] = float(self._schedule(step - 1))
        self._log.write("train", step, scalars)
        advance(
            0,
            note=f"loss {scalars['loss']:.2f}  lr {scalars['learning_rate']:.1e}",
        )

    def checked(self, step: int, evaluate: Evaluate, variables: dict[str, Any]) -> dict[str, float]:
        """Scores of a state that is fit to be saved: a finite loss may still break the weights it leads to."""
        try:
            return evaluate(variables)
        except NotFiniteError as error:
            self._stop(step, str(error))

    def _stop(self, step: int, what: str) -> NoReturn:
        self._checkpoints.wait()
        good = self._checkpoints.latest_step()
        where = "none was saved yet" if good is None else f"step {good}, kept in the run directory"
        raise UserError(
            f"training broke at step {step}: {what}. Last good checkpoint: {where}. "
            "Lower --config.optim.learning_rate or lengthen --config.optim.warmup_steps"
        )
