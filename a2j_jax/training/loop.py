"""The training loop: step, report, evaluate, save; it stops when the loss breaks. And its profiler window."""

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Protocol

import jax
import optax

from a2j_jax import distributed
from a2j_jax.data.crops import Batch, on_device
from a2j_jax.errors import UserError
from a2j_jax.evaluation.metrics import NotFiniteError
from a2j_jax.log import Advance, logger, progress
from a2j_jax.runs.checkpoints import RunCheckpoints
from a2j_jax.runs.run_dir import METRIC, METRIC_EMA
from a2j_jax.runs.state import TrainState
from a2j_jax.training.logs import NoLog, RunLog
from a2j_jax.training.preemption import SOMETHING_TO_SAVE, StopRequests, stopped
from a2j_jax.training.step import Metrics, TrainStep

FOLDER = "profile"


class ProfileWindow:
    """Traces some steps of a training loop, from an idle device to an idle device.

    The loop calls `before` and `after` around every step, and `close` when it ends, however it ends. Of
    several processes one has a window: traces of all, written to one folder, would be mixed up.
    """

    def __init__(self, steps: range, folder: str | Path):
        """Traces `steps`, numbered from 1 as in the log, into a folder; nothing for an empty range."""
        self._steps, self._folder = steps, Path(folder)
        self._step: jax.profiler.StepTraceAnnotation | None = None
        self._outputs: Any = None
        self._tracing = self._begun = self._traced = False

    @staticmethod
    def parse(text: str) -> range:
        """`"100:110"` → steps 100 to 109, numbered from 1 as in the log.

        Raises:
          UserError: anything else, and an empty window.
        """
        numbers = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,9})", text)
        steps = range(int(numbers[1]), int(numbers[2])) if numbers else range(0)
        if not steps or steps[0] < 1:
            raise UserError(
                f"--profile_steps {text!r}: expected FIRST:END, for instance 100:110 for steps 100 to "
                "109 (the first step of a run is 1)"
            )
        return steps

    def before(self, step: int) -> None:
        """Called before a step is dispatched."""
        if not self._begun:
            self._begun = True
            self._warn_of_window(step)
        if step in self._steps:
            if not self._tracing:
                self._start()
            self._step = jax.profiler.StepTraceAnnotation("train", step_num=step)
            self._step.__enter__()

    def after(self, step: int, outputs: Any) -> None:
        """Called once a step is dispatched; waits for it where a trace begins or ends.

        Args:
          step: its number.
          outputs: arrays that it computes and that no later step is given to overwrite: its metrics.
        """
        # The first traced step must not begin while the device still works on those before it.
        self._outputs = outputs if step + 1 in self._steps or step in self._steps else None
        if self._step is not None:
            self._step.__exit__(None, None, None)
            self._step = None
        if self._tracing and step + 1 not in self._steps:
            self._stop()

    def close(self) -> None:
        """Write the trace of a window that the end of training cut."""
        if self._tracing:
            self._stop()
        elif self._begun and self._steps and not self._traced:
            logger.info(
                f"--profile_steps: nothing was traced, training ended without {_named(self._steps)}"
            )

    def _warn_of_window(self, first: int) -> None:
        if not self._steps:
            return
        if first > self._steps[-1]:
            logger.info(
                f"--profile_steps: this run resumes at step {first}, beyond {_named(self._steps)}"
            )
            self._steps = range(0)
        elif first in self._steps:
            logger.info(
                f"--profile_steps: step {first} is the first of this start: it compiles in its trace"
            )

    def _start(self) -> None:
        jax.block_until_ready(self._outputs)
        options = jax.profiler.ProfileOptions()
        # Without every call of a Python function: they fill the trace (1 M events) and slow what it shows.
        options.python_tracer_level = 0
        jax.profiler.start_trace(self._folder, create_perfetto_trace=True, profiler_options=options)
        self._tracing = self._traced = True

    def _stop(self) -> None:
        jax.block_until_ready(self._outputs)
        self._tracing, self._outputs = False, None
        try:
            jax.profiler.stop_trace()
        except (
            OSError,
            RuntimeError,
            ValueError,
        ) as error:  # a full disk is no reason to end a run here
            logger.info(f"{self._folder}: the profile could not be written: {error}")
            return
        newest = max(self._folder.glob("plugins/profile/*"), key=lambda path: path.stat().st_mtime)
        logger.info(
            f"profiled {_named(self._steps)}: tensorboard --logdir {self._folder} (with its plug-in: pip "
            f"install xprof), or open {newest / 'perfetto_trace.json.gz'} in https://ui.perfetto.dev"
        )


def _named(steps: range) -> str:
    return f"steps {steps[0]} to {steps[-1]}" if len(steps) > 1 else f"step {steps[0]}"


# (state, called after each batch) -> scores of the evaluation split; the "error", or that of the averaged weights,
# ranks checkpoints
Evaluate = Callable[[TrainState, Callable[[int], None]], dict[str, float]]


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
    save: int | None = None  # without evaluating

    def evaluates(self, step: int) -> bool:
        """Whether the state after a step is evaluated."""
        return step % self.evaluate == 0 or step >= self.total


class Window(Protocol):
    """Called before and after every step is dispatched; steps count from 1 (`ProfileWindow`)."""

    def before(self, step: int) -> None: ...

    def after(self, step: int, outputs: Any) -> None: ...


def train(
    train_step: TrainStep,
    state: TrainState,
    batches: BatchIterator,
    key: jax.Array,
    intervals: Intervals,
    *,
    evaluate: Evaluate,
    checkpoints: RunCheckpoints,
    log: RunLog | NoLog,
    schedule: optax.Schedule,
    batch_size: int,
    unit: str = "",
    window: Window | None = None,
    skippable: int = 0,
    gather: Callable[[TrainState], TrainState] = lambda state: state,
) -> TrainState:
    """Train from `state.step` to `intervals.total`.

    Metrics are read one step late, so that the device never waits for the host. Every `intervals.evaluate` steps
    and at the end the state is saved, after its losses were seen to be finite, and then evaluated. An evaluation that
    was interrupted is done when the run continues from that step.

    Args:
      train_step: compiled; it is given the host's batches.
      state: as `train_step` takes it.
      batches: from the position that belongs to the state.
      key: of the run.
      intervals: how often to log, evaluate and save.
      evaluate: scores of a gathered state; calls its second argument after each batch.
      checkpoints, log: of the run directory.
      schedule: the learning rate, to be logged.
      batch_size: of all devices together.
      unit: of the error, for messages.
      window: the profiler, called around every step.
      skippable: non-finite updates in a row that may be skipped.
      gather: converts the state of `train_step` to the one that is evaluated and saved.

    Returns:
      The gathered state.

    Raises:
      UserError: the loss, the gradient norm or an evaluated joint is NaN or infinite, naming the step and the
        last good checkpoint; a checkpoint that cannot be saved.
      Stopped: SIGTERM or SIGINT came; the last step's state is saved.
    """
    SOMETHING_TO_SAVE.clear()
    whole = gather(state)
    first = int(whole.step)
    reporter = _Reporter(log, schedule, intervals.log, checkpoints, skippable)
    with StopRequests() as stop:

        def look_for_signal(_: int) -> None:
            # Several processes stop after the same step alone: they cannot agree on a batch.
            if stop.received is not None and not distributed.is_multiprocess():
                checkpoints.wait()
                raise stopped(stop.received, int(whole.step), intervals.total)

        def score() -> None:
            step = int(whole.step)
            scores = reporter.checked(step, lambda: evaluate(whole, look_for_signal))
            log.write("eval", step, scores)
            checkpoints.score(step, scores)
            logger.info(f"step {step}: {_in_words(scores, unit)}")

        if to_be_scored(checkpoints, intervals):
            score()
        with progress(
            "training", intervals.total * batch_size, "images", first * batch_size
        ) as advance:
            for step in range(first + 1, intervals.total + 1):
                batch = next(batches)
                if window is not None:
                    window.before(step)
                state, metrics = train_step(state, on_device(batch), key)
                SOMETHING_TO_SAVE.set()
                if window is not None:
                    window.after(step, metrics)
                reporter.read(advance)
                advance(batch_size)
                reporter.pending = (step, metrics)
                signal = stop.after(step)
                due = intervals.evaluates(step)
                if due or signal is not None or (intervals.save and step % intervals.save == 0):
                    reporter.read(advance)
                    whole = gather(state)
                    checkpoints.save(whole, batches.get_state(), to_be_scored=due)
                if signal is not None:
                    checkpoints.wait()
                    raise stopped(signal, step, intervals.total)
                if due:
                    score()
            checkpoints.wait()
    SOMETHING_TO_SAVE.clear()
    return gather(state)


def to_be_scored(checkpoints: RunCheckpoints, intervals: Intervals) -> bool:
    """Whether the latest checkpoint is of a step that is evaluated, and was not yet."""
    last = checkpoints.latest_step()
    return last is not None and intervals.evaluates(last) and checkpoints.metrics(last) is None


def _in_words(scores: dict[str, float], unit: str) -> str:
    averaged = f", of the averaged weights {scores[METRIC_EMA]:.2f}" if METRIC_EMA in scores else ""
    where = f" on {scores['frames']:.0f} frames" if "frames" in scores else ""
    return f"error {scores[METRIC]:.2f} {unit}{averaged}{where}"


class _Reporter:
    """Reads the metrics of a step once they are computed, checks them, and logs some of them."""

    def __init__(
        self,
        log: RunLog | NoLog,
        schedule: optax.Schedule,
        log_every: int,
        checkpoints: RunCheckpoints,
        skippable: int,
    ):
        self.pending: tuple[int, Metrics] | None = None
        self._log, self._schedule, self._log_every = log, schedule, log_every
        self._checkpoints, self._skippable = checkpoints, skippable

    def read(self, advance: Advance) -> None:
        if self.pending is None:
            return
        step, metrics = self.pending
        self.pending = None
        scalars = {name: float(value) for name, value in metrics.items()}
        finite = all(math.isfinite(value) for value in scalars.values())
        if not finite:
            told = ", ".join(f"{name} {value:g}" for name, value in scalars.items())
            if not 0 < scalars.get("skipped_in_a_row", 0) <= self._skippable:
                self._stop(step, told)
            logger.info(f"step {step}: left out ({told})")
        if step % self._log_every and finite:
            return
        self._checkpoints.check()
        # Skipped updates did not count for the schedule either.
        scalars["learning_rate"] = float(self._schedule(step - 1 - int(scalars.get("skipped", 0))))
        self._log.write("train", step, {n: v for n, v in scalars.items() if math.isfinite(v)})
        advance(
            0,
            note=f"loss {scalars['loss']:.2f}  lr {scalars['learning_rate']:.1e}",
        )

    def checked(self, step: int, evaluate: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Scores of a state; it is discarded if its weights broke, as they may after a finite loss."""
        try:
            return evaluate()
        except NotFiniteError as error:
            self._checkpoints.discard(step)
            self._stop(step, str(error))

    def _stop(self, step: int, what: str) -> NoReturn:
        self._checkpoints.wait()
        last = self._checkpoints.latest_step()
        milder = "a lower --config.optim.learning_rate or longer --config.optim.warmup_steps"
        if last is None:
            how = f"No checkpoint was saved yet. Start again with {milder}"
        else:
            folder = self._checkpoints.workdir
            how = (
                f"Last checkpoint: step {last}, kept. Go on from its weights in another run, --workdir OTHER "
                f"--config.model.init_from={folder}, with {milder}"
            )
        raise UserError(
            f"training broke at step {step}: {what}. {how}; or leave out single broken updates with "
            "--config.optim.skip_nonfinite_updates=10"
        )
