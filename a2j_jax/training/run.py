"""One experiment from a config to a trained run directory."""

import contextlib
import dataclasses
import itertools
import math
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from a2j_jax import distributed
from a2j_jax.config import Config
from a2j_jax.data import pipeline
from a2j_jax.data.batch import Batch
from a2j_jax.errors import UserError
from a2j_jax.evaluation.evaluate import Frames, evaluate_batches, mean_pose, score_constant_pose
from a2j_jax.evaluation.scores import Scores
from a2j_jax.files import local_path
from a2j_jax.log import logger
from a2j_jax.models.a2j import PoseNetwork, init_variables
from a2j_jax.runs import sharding
from a2j_jax.runs.checkpoints import RunCheckpoints
from a2j_jax.runs.load import variables_from
from a2j_jax.runs.run_dir import (
    CONFIG_FILE,
    METRIC,
    METRIC_EMA,
    claimed,
    kept_checkpoints,
    rank,
    read_config,
    read_starts,
    record_start,
    run_and_step,
    write_config,
)
from a2j_jax.runs.state import TrainState
from a2j_jax.tracks import TrackSpec
from a2j_jax.training import assembly
from a2j_jax.training.logs import NoLog, RunLog, WandbLog, require_wandb
from a2j_jax.training.loop import FOLDER as PROFILE_FOLDER
from a2j_jax.training.loop import Intervals, ProfileWindow, to_be_scored, train
from a2j_jax.training.optim import check_prefixes
from a2j_jax.training.resume import Difference, check_run_directory
from a2j_jax.weights.convert import initial_variables

_FEW_STEPS = 1000
_MEAN_POSE_FRAMES = 20_000  # are enough, and take seconds


def run_experiment(
    config: Config,
    workdir: str | Path,
    *,
    command: str | None = None,
    profile_steps: range = range(0),
) -> TrainState:
    """Train an experiment in a run directory; continues where an earlier run of it stopped.

    Precedence: the latest complete checkpoint in `workdir`; else `config.model.init_from`; else random weights.
    A run that has reached its length already is returned as it is, and nothing is written. Every process of
    a job of several calls this; the first one writes.

    Args:
      config: of the experiment.
      workdir: the run directory.
      command: the command line, for the run's record.
      profile_steps: to trace, numbered from 1.

    Raises:
      UserError: no data, a run directory of another experiment (`resume.check_run_directory`), a broken loss,
        a checkpoint that cannot be saved.
      Stopped: SIGTERM or SIGINT came, and the state was saved.
    """
    workdir = local_path(workdir, "run directory")
    config = assembly.with_statistics(assembly.with_preset(config))
    changed = check_run_directory(workdir, _with_absolute_paths(config))
    if config.run.wandb is not None:
        require_wandb()
    layout = sharding.layout(config.parallel)
    batch_size = config.optim.batch_size
    sharding.check_batch_size(batch_size, config.optim.accumulate, len(layout.devices))

    # Data
    config = assembly.with_camera(config)
    track = assembly.track_of(config)
    batches = pipeline.train_batches(
        config.data.dir,
        track,
        config.data.train_split,
        batch_size,
        config.run.seed,
        on_bad_example=config.data.on_bad_example,
    )
    frames = pipeline.num_frames(config.data.dir, track, config.data.train_split)
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
    model = assembly.make_model(config, track)
    schedule = assembly.schedule_of(config.optim, intervals.total, steps_per_epoch)
    optimizer = assembly.optimizer_of(config.optim, schedule)
    key = jax.random.key(config.run.seed)
    goes_on = bool(kept_checkpoints(workdir))
    if goes_on:  # its weights are read below; what it once started from may be gone by now
        shapes = assembly.expected_variables(model, track)
        variables = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    else:
        variables = _starting_point(config, model, track)
    check_prefixes(config.optim.freeze, variables["params"])
    # Placed explicitly, as restored states are: JAX compiles the step anew where that differs.
    state = sharding.put(
        TrainState.create(variables, optimizer, average=config.optim.ema_decay is not None),
        layout.everywhere,
    )
    step = layout.compile(assembly.train_step_of(config, track, optimizer, layout.axis_name))

    # Run
    workdir.mkdir(parents=True, exist_ok=True)
    with (
        claimed(workdir) if distributed.is_primary() else contextlib.nullcontext(),
        contextlib.closing(RunCheckpoints(workdir, config.run.keep_best)) as checkpoints,
    ):
        before = read_config(workdir) if (workdir / CONFIG_FILE).exists() else None
        restored = checkpoints.restore_latest(state)
        last = checkpoints.latest_step()
        if restored is None and goes_on:
            raise UserError(f"{workdir}: its checkpoints have gone while they were being read")
        if restored is not None:
            state, position = restored
            batches.set_state(position)
        done = (
            last is not None
            and last >= intervals.total
            and not to_be_scored(checkpoints, intervals)
        )
        distributed.wait_for_all("the run directory is read")
        if distributed.is_primary() and (not done or before is None):
            unit = pipeline.depth_unit_mm(config.data.dir, track)
            write_config(workdir, _with_absolute_paths(config), unit)
        if done:
            logger.info(f"this run is finished at step {last}; nothing left to train")
            return state
        logger.info(_headline(config, track, model, state, frames, intervals, layout))
        if last is None and intervals.total < _FEW_STEPS:
            logger.info(
                f"{intervals.total} steps are few: below about {_FEW_STEPS:,} a network seldom beats the mean "
                "pose; raise --config.optim.steps or --config.optim.epochs"
            )
        if last is not None:
            _say_continued(config, before, changed, last, intervals.total, steps_per_epoch)
            _say_other_devices(workdir, batch_size, layout)
            _say_other_frames(workdir, frames)
        evaluate = Evaluator(config, track, model, layout.local)
        with (
            contextlib.closing(
                _run_log(config, workdir, command, last or 0, layout, frames)
            ) as log,
            contextlib.closing(_window(profile_steps, workdir)) as window,
        ):
            state = train(
                lambda state, batch, key: step(state, layout.share(batch), key),
                layout.place(state),
                batches,
                jax.random.fold_in(key, 1),
                intervals,
                evaluate=evaluate,
                checkpoints=checkpoints,
                log=log,
                schedule=schedule,
                batch_size=batch_size,
                unit="mm" if track.joint_dims == 3 else "px",
                window=window,
                skippable=config.optim.skip_nonfinite_updates,
                gather=layout.gather,
            )
        _say_behind_mean_pose(config, track, evaluate.frames, checkpoints.metrics(intervals.total))
        logger.info(f"trained; look at it: a2j eval --workdir {shlex.quote(str(workdir))}")
        return state


def _starting_point(config: Config, model: PoseNetwork, track: TrackSpec) -> dict[str, Any]:
    """Variables of a run that begins: random ones, or those of `model.init_from`."""
    # XLA's own generator: the unrolled threefry of some 60 tensors takes 10 s to compile on a CPU.
    key = jax.random.key(config.run.seed, impl="rbg")
    variables = init_variables(model, key, track.crop_size, track.crop_size)
    source = config.model.init_from
    if source is None:
        return variables
    if run_and_step(source)[0].is_dir():
        return variables_from(source, variables)
    return initial_variables(
        source, variables, backbone=model.backbone, head_depth=config.model.head_depth
    )


def _check_labels(config: Config, track: TrackSpec, key: str) -> None:
    """A challenge's test split has no labels: neither to learn from nor to rank checkpoints by."""
    split = getattr(config.data, key)
    skip = config.data.on_bad_example
    if not pipeline.has_labels(config.data.dir, track, split, on_bad_example=skip):
        raise UserError(
            f"split {split!r} of track {track.name!r} has no labels; name one that has, for instance the "
            "last frames of training: --config.data.train_split='train[:98%]' "
            "--config.data.eval_split='train[98%:]'"
        )


class Evaluator:
    """`evaluate(state, on_batch)` -> mean errors of its weights on the evaluation split, and of their average.

    Attributes:
      frames: of the last evaluation; None before the first.
    """

    def __init__(
        self, config: Config, track: TrackSpec, model: PoseNetwork, devices: Sequence[jax.Device]
    ):
        """For a network on these devices of this process."""
        self._config, self._track, self._devices = config, track, devices
        self._predict = assembly.predict_of(model, track, devices)
        self.frames: Frames | None = None

    def __call__(self, state: TrainState, on_batch: Callable[[int], None]) -> dict[str, float]:
        """Scores of a gathered state; `on_batch` is called after each batch."""
        raw = self._score(state.variables, on_batch)
        scores = {METRIC: raw.mean_error, "frames": float(raw.frames)}
        if state.ema is not None:
            scores[METRIC_EMA] = self._score(state.ema, on_batch).mean_error
        return scores

    def _score(self, variables: dict[str, Any], on_batch: Callable[[int], None]) -> Scores:
        config = self._config
        batches = _plain_batches(
            config, self._track, config.data.eval_split, config.data.eval_frames
        )
        placed = assembly.place_variables(variables, self._devices)
        result = evaluate_batches(
            lambda batch: self._predict(placed, batch), batches, self._track, on_batch
        )
        self.frames = result.frames
        return result.scores


def _plain_batches(
    config: Config, track: TrackSpec, split: str, frames: int | None
) -> Iterator[Batch]:
    """Examples of a split without augmentation, about the first `frames` of them."""
    batches = pipeline.eval_batches(
        config.data.dir,
        track,
        split,
        config.optim.batch_size,
        on_bad_example=config.data.on_bad_example,
    )
    count = None if frames is None else math.ceil(frames / config.optim.batch_size)
    return itertools.islice(batches, count)


def _say_behind_mean_pose(
    config: Config, track: TrackSpec, frames: Frames | None, metrics: dict[str, float] | None
) -> None:
    """Whether a run has ended behind the mean pose, the answer that ignores the image."""
    if frames is None or metrics is None:
        return
    try:
        pose = mean_pose(
            _plain_batches(config, track, config.data.train_split, _MEAN_POSE_FRAMES), track
        )
    except UserError:  # a joint that no frame labels: there is no mean pose to compare with
        return
    baseline = score_constant_pose(pose, frames, track).mean_error
    if rank(metrics) >= baseline:
        unit = "mm" if track.joint_dims == 3 else "px"
        logger.info(
            f"worse than the mean pose: error {rank(metrics):.2f} {unit} where the mean pose of the training split has "
            f"{baseline:.2f}; train for more steps, on more frames, or start from a trained network "
            "(--config.model.init_from)"
        )


def _run_log(
    config: Config,
    workdir: Path,
    command: str | None,
    step: int,
    layout: sharding.Layout,
    frames: int,
) -> RunLog | NoLog:
    """The logs of a run, opened by its first process, with a record of this start."""
    if not distributed.is_primary():
        return NoLog()
    start = record_start(
        workdir,
        command=command,
        step=step,
        parallel=layout.mode,
        batch_per_device=config.optim.batch_size // len(layout.devices),
        frames=frames,
    )
    project = config.run.wandb
    wandb = None if project is None else WandbLog(workdir, project, dataclasses.asdict(config))
    return RunLog(workdir, start=start, wandb=wandb)


def _window(steps: range, workdir: Path) -> ProfileWindow:
    return ProfileWindow(steps if distributed.is_primary() else range(0), workdir / PROFILE_FOLDER)


def _with_absolute_paths(config: Config) -> Config:
    """What a run directory records: it is evaluated from elsewhere too, and on the data it was trained on."""
    data_dir = local_path(config.data.dir, "config key 'data.dir'").absolute()
    return dataclasses.replace(config, data=dataclasses.replace(config.data, dir=str(data_dir)))


def _intervals(config: Config, steps_per_epoch: int) -> Intervals:
    steps, epochs = config.optim.steps, config.optim.epochs
    assert epochs is not None  # as `assembly.with_preset` leaves it
    total = round(epochs * steps_per_epoch) if steps is None else steps
    if total < 1:
        raise UserError(
            f"{epochs:g} epochs of {steps_per_epoch} steps leave nothing to train; raise "
            "--config.optim.epochs, or set --config.optim.steps"
        )
    return Intervals(
        total=total,
        log=config.run.log_every,
        evaluate=config.run.eval_every or min(steps_per_epoch, total),
        save=config.run.save_every,
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
    logger.info(f"resuming from step {step} of {total}")
    if not changed or before is None:
        return
    said = "; ".join(map(str, changed))
    old, new = (
        float(
            assembly.schedule_of(
                one.optim, _intervals(one, steps_per_epoch).total, steps_per_epoch
            )(step)
        )
        for one in map(assembly.with_preset, (before, config))
    )
    if not math.isclose(old, new, rel_tol=1e-6):
        said += (
            f". The {config.optim.schedule} schedule is stretched over the new length: learning rate "
            f"{new:.2g} from here on, where it was {old:.2g}"
        )
    logger.info(f"with other values than before: {said}")


def _say_other_devices(workdir: Path, batch_size: int, layout: sharding.Layout) -> None:
    """Whether a run goes on on other devices than its last start: sums in another order differ in their last bits."""
    starts = read_starts(workdir)
    if not starts or not starts[-1].get("batch_per_device"):
        return
    last, count = starts[-1], len(layout.devices)
    kinds, mode, share = " and ".join(last["devices"]), last["parallel"], last["batch_per_device"]
    if (kinds, mode, share) != (layout.devices[0].device_kind, layout.mode, batch_size // count):
        logger.info(
            f"before: {mode} on {batch_size // share} x {kinds}; the results are those of an uninterrupted run "
            "up to the order of sums, not bit for bit"
        )


def _say_other_frames(workdir: Path, frames: int) -> None:
    """Whether the data set is another one than at the run's last start."""
    starts = read_starts(workdir)
    before = starts[-1].get("frames") if starts else None
    if before is not None and before != frames:
        logger.info(
            f"before: {before:,} training frames, now {frames:,}: epochs differ in length; "
            "resuming with a different shuffle order"
        )


def _headline(
    config: Config,
    track: TrackSpec,
    model: PoseNetwork,
    state: TrainState,
    frames: int,
    intervals: Intervals,
    layout: sharding.Layout,
) -> str:
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    return (
        f"{config.name}: {model.backbone} ({parameters / 1e6:.1f} M parameters) on {track.name}, "
        f"{frames} frames at {track.crop_size} px, {intervals.total} steps of "
        f"{config.optim.batch_size}, {layout}"
    )
