"""One experiment from a config to a trained run directory."""

import contextlib
import dataclasses
import itertools
import math
import shlex
from pathlib import Path
from typing import Any

import jax

from a2j_jax import input_pipeline
from a2j_jax.config import Config
from a2j_jax.errors import UserError
from a2j_jax.evaluation.evaluate import evaluate_batches
from a2j_jax.models.a2j import A2J, init_variables
from a2j_jax.progress import say
from a2j_jax.tracks import TrackSpec
from a2j_jax.training import assembly
from a2j_jax.training.checkpoints import CONFIG_FILE, RunCheckpoints, read_config, write_config
from a2j_jax.training.continuing import Difference, check_run_directory
from a2j_jax.training.logs import RunLog
from a2j_jax.training.loop import Evaluate, Intervals, train
from a2j_jax.training.state import TrainState
from a2j_jax.training.step import make_train_step
from a2j_jax.weights.load import initial_variables


def run_experiment(config: Config, workdir: str | Path) -> TrainState:
    """Train an experiment in a run directory; continues where an earlier run of it stopped.

    Precedence: the latest complete checkpoint in `workdir`; else `config.model.init_from`; else random weights.
    A run that has reached its length already is returned as it is, and nothing is written.

    Raises:
      UserError: no data, a run directory of another experiment (`continuing.check_run_directory`), a broken loss.
    """
    workdir = Path(workdir)
    config = assembly.with_statistics(config)
    changed = check_run_directory(workdir, config)

    # Data
    track = assembly.track_of(config)
    batch_size = config.optim.batch_size
    batches = input_pipeline.train_batches(
        config.data.dir, track, config.data.train_split, batch_size, config.run.seed
    )
    frames = input_pipeline.num_frames(config.data.dir, track, config.data.train_split)
    if frames < batch_size:
        raise UserError(
            f"split {config.data.train_split!r} has {frames} frames, fewer than a batch of "
            f"{batch_size}; lower --config.optim.batch_size"
        )
    # Looked up now, rather than found missing at the first evaluation.
    for split in ("eval_split", "train_split"):
        _check_labels(config, track, split)

    # Model, optimiser, step
    steps_per_epoch = frames // batch_size
    intervals = _intervals(config, steps_per_epoch)
    model = assembly.model_of(config, track)
    schedule = assembly.schedule_of(config.optim, intervals.total, steps_per_epoch)
    optimizer = assembly.optimizer_of(config.optim, schedule)
    key = jax.random.key(config.run.seed)
    # XLA's own generator: the unrolled threefry of some 60 tensors takes 10 s to compile on a CPU.
    init_key = jax.random.key(config.run.seed, impl="rbg")
    variables = init_variables(model, init_key, track.crop_size, track.crop_size)
    if config.model.init_from is not None:
        variables = initial_variables(config, track, variables)
    # Placed explicitly, as restored states are: JAX compiles the step anew where that differs.
    state = jax.device_put(TrainState.create(variables, optimizer), jax.devices()[0])
    step = make_train_step(
        model, optimizer, assembly.prepare_of(config, track), assembly.objective_of(config, track)
    )

    # Run
    workdir.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(RunCheckpoints(workdir, config.run.keep_best)) as checkpoints:
        before = read_config(workdir) if (workdir / CONFIG_FILE).exists() else None
        last = checkpoints.latest_step()
        if last is not None:
            state, position = checkpoints.restore(state, last)
            batches.set_state(position)
        done = last is not None and last >= intervals.total
        if not done or before is None:
            write_config(workdir, _with_absolute_paths(config))
        if done:
            say(f"this run is finished: step {last} of {intervals.total}; nothing left to train")
            return state
        say(_headline(config, track, model, state, frames, intervals))
        if last is not None:
            _say_continued(config, before, changed, last, intervals.total, steps_per_epoch)
        with contextlib.closing(RunLog(workdir)) as log:
            state = train(
                jax.jit(step, donate_argnums=0),
                state,
                batches,
                jax.random.fold_in(key, 1),
                intervals,
                evaluate=evaluator(config, track, model),
                checkpoints=checkpoints,
                log=log,
                schedule=schedule,
                batch_size=batch_size,
                unit="mm" if track.joint_dims == 3 else "px",
            )
        say(f"trained; look at it: a2j eval --workdir {shlex.quote(str(workdir))}")
        return state


def _check_labels(config: Config, track: TrackSpec, key: str) -> None:
    """A challenge's test split has no labels: neither to learn from nor to rank checkpoints by."""
    split = getattr(config.data, key)
    if not input_pipeline.has_labels(config.data.dir, track, split):
        raise UserError(
            f"split {split!r} of track {track.name!r} has no labels; name one that has, for instance the "
            "last frames of training: --config.data.train_split='train[:98%]' "
            "--config.data.eval_split='train[98%:]'"
        )


def evaluator(config: Config, track: TrackSpec, model: A2J) -> Evaluate:
    """`evaluate(variables)` -> scores of the evaluation split; "error" is the mean error, mm (px in 2D)."""
    predict = assembly.predict_of(model, track)

    def evaluate(variables: dict[str, Any]) -> dict[str, float]:
        batches = input_pipeline.eval_batches(
            config.data.dir, track, config.data.eval_split, config.optim.batch_size
        )
        if config.data.eval_frames is not None:
            count = math.ceil(config.data.eval_frames / config.optim.batch_size)
            batches = itertools.islice(batches, count)
        result = evaluate_batches(lambda batch: predict(variables, batch), batches, track)
        return {"error": result.scores.mean_error, "frames": float(result.scores.frames)}

    return evaluate


def _with_absolute_paths(config: Config) -> Config:
    """What a run directory records: it is evaluated from elsewhere too, and on the data it was trained on."""
    data_dir = Path(config.data.dir).expanduser().absolute()
    return dataclasses.replace(config, data=dataclasses.replace(config.data, dir=str(data_dir)))


def _intervals(config: Config, steps_per_epoch: int) -> Intervals:
    steps = config.optim.steps
    total = round(config.optim.epochs * steps_per_epoch) if steps is None else steps
    if total < 1:
        raise UserError(
            f"{config.optim.epochs:g} epochs of {steps_per_epoch} steps leave nothing to train; raise "
            "--config.optim.epochs, or set --config.optim.steps"
        )
    return Intervals(
        total=total,
        log=config.run.log_every,
        evaluate=config.run.eval_every or min(steps_per_epoch, total),
    )


def _say_continued(
    config: Config,
    before: Config | None,
    changed: list[Difference],
    step: int,
    total: int,
    steps_per_epoch: int,
) -> None:
    """Where a run goes on, and with which other values than it was started with."""
    say(f"resuming from step {step} of {total}")
    if not changed or before is None:
        return
    said = "; ".join(map(str, changed))
    old, new = (
        float(
            assembly.schedule_of(
                one.optim, _intervals(one, steps_per_epoch).total, steps_per_epoch
            )(step)
        )
        for one in (before, config)
    )
    if not math.isclose(old, new, rel_tol=1e-6):
        said += (
            f". The {config.optim.schedule} schedule is stretched over the new length: learning rate "
            f"{new:.2g} from here on, where it was {old:.2g}"
        )
    say(f"with other values than before: {said}")


def _headline(
    config: Config,
    track: TrackSpec,
    model: A2J,
    state: TrainState,
    frames: int,
    intervals: Intervals,
) -> str:
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    return (
        f"{config.name}: {model.backbone} ({parameters / 1e6:.1f} M parameters) on {track.name}, "
        f"{frames} frames at {track.crop_size} px, {intervals.total} steps of "
        f"{config.optim.batch_size}, {jax.device_count()} x {jax.devices()[0].device_kind}"
    )
