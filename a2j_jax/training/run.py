"""One experiment from a config to a trained run directory, which it may resume."""

import dataclasses
import itertools
import math
import os
import shlex
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, closing, nullcontext, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from a2j_jax import distributed, lowering, stores
from a2j_jax.config import Config
from a2j_jax.data import pipeline
from a2j_jax.data.crops import Batch
from a2j_jax.errors import UserError, in_one_line
from a2j_jax.evaluation.evaluate import (
    Frames,
    counting,
    evaluate_batches,
    mean_pose,
    score_constant_pose,
)
from a2j_jax.evaluation.scores import Scores
from a2j_jax.files import check_folder_name, is_address, local_path, same_file
from a2j_jax.inference.predictor import make_predict_fn, place_variables
from a2j_jax.interrupts import Watchdog
from a2j_jax.log import logger
from a2j_jax.models.a2j import flops_per_frame, init_variables, variable_shapes
from a2j_jax.parts import explained, needed_path
from a2j_jax.runs import run_dir, sharding
from a2j_jax.runs.checkpoints import RunCheckpoints
from a2j_jax.runs.experiment import (
    MAY_CHANGE,
    Experiment,
    Settings,
    conflicts,
    differences,
    fill_in,
    resolve,
)
from a2j_jax.runs.load import variables_from
from a2j_jax.runs.sharding import TrainState
from a2j_jax.track_files import TRACK_FILE, track_file
from a2j_jax.tracks import TRACKS, TrackRecord
from a2j_jax.training.logs import (
    METRICS_FILE,
    Pace,
    RunLog,
    WandbLog,
    peak_flops,
    record_start,
    require_wandb,
)
from a2j_jax.training.loop import Intervals, ProfileWindow, TrainingLoop, to_be_scored
from a2j_jax.training.step import (
    check_prefixes,
    checked_schedule,
    experiment_step,
    first_not_finite,
    learning_rate_schedule,
    optimizer_of,
)
from a2j_jax.weights.convert import initial_variables
from a2j_jax.weights.packed import find_packed

_FEW_STEPS = 1000
_MEAN_POSE_FRAMES = 20_000  # are enough, and take seconds


def run_experiment(
    config: Config,
    workdir: str | Path,
    *,
    command: str | None = None,
    profile_steps: range = range(0),
    debug: Collection[str] = (),
    preset_flags: bool = False,
) -> TrainState:
    """Train an experiment in a run directory; resumes where an earlier run of it stopped.

    Precedence: the latest complete checkpoint in `workdir`; else `config.model.init_from`; else random weights. A run
    that has reached its length is returned as it is, and nothing is written. Every process of a job of several calls
    this; the primary one writes. `command` is recorded; `profile_steps` are traced, numbered from 1; `debug` is some
    of "nans" (what broke first in a broken step is named) and "transfers" (a step that moves data between host and
    devices by itself is an error); `preset_flags` compiles the step with those of its platform. `workdir` may be an
    address in an object store (`stores.in_step`).

    Raises:
      UserError: no data, a run directory of another experiment (`check_run_directory`), a broken loss, a checkpoint
        that cannot be saved.
      Stopped: SIGTERM or SIGINT came, and the state was saved.
    """
    with stores.in_step(workdir, "run directory") as folder:
        return _run(config, folder, command, profile_steps, debug, preset_flags)


def _run(
    config: Config,
    workdir: Path,
    command: str | None,
    profile_steps: range,
    debug: Collection[str],
    preset_flags: bool,
) -> TrainState:
    # Experiment and run directory
    pace = Pace()
    check_run_directory(workdir, fill_in(config))
    experiment = _with_facts(config)
    check_run_directory(workdir, experiment)
    config, track, model = experiment.config, experiment.track, experiment.model
    data, optim = config.data, config.optim
    if config.run.wandb is not None:
        require_wandb()
    layout = sharding.layout(config.parallel)
    sharding.check_batch_size(optim.batch_size, optim.accumulate, len(layout.devices))
    if "transfers" in debug and layout.mode == "pmap":
        raise UserError(
            "--debug transfers: pmap moves batches by itself; use --config.parallel=mesh"
        )
    flags = _preset_flags(layout) if preset_flags else {}

    # Data
    batches = pipeline.train_batches(
        data.dir,
        track,
        data.train_split,
        optim.batch_size,
        config.run.seed,
        on_bad_example=data.on_bad_example,
        workers=_workers(data.workers),
    )
    frames = pipeline.num_frames(data.dir, track, data.train_split)
    if frames < optim.batch_size:
        raise UserError(
            f"split {data.train_split!r} has {frames} frames, fewer than a batch of "
            f"{optim.batch_size}; lower --config.optim.batch_size"
        )
    for split in (data.eval_split, data.train_split):  # now, rather than at the first evaluation
        if not pipeline.has_labels(data.dir, track, split, on_bad_example=data.on_bad_example):
            raise UserError(  # as the test split of a challenge
                f"split {split!r} of track {track.name!r} has no labels; name one that has, for instance the "
                "last frames of training: --config.data.train_split='train[:98%]' "
                "--config.data.eval_split='train[98%:]'"
            )

    # Model, optimizer, step
    steps_per_epoch = frames // optim.batch_size
    intervals = _intervals(config, steps_per_epoch)
    schedule = schedule_of(experiment, steps_per_epoch)
    optimizer = optimizer_of(experiment, schedule)
    resumes = bool(run_dir.kept_checkpoints(workdir))
    if resumes:  # its weights are read below; what it once started from may be gone by now
        shapes = variable_shapes(model, track.crop_size)
        variables = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    else:
        variables = _starting_point(experiment)
    check_prefixes(optim.freeze, variables["params"])
    # Placed explicitly, as restored states are: JAX would compile the step again for another placement.
    state = sharding.put(
        TrainState.create(variables, optimizer, average=optim.ema_decay is not None),
        layout.everywhere,
    )
    step = layout.wrap(experiment_step(experiment, optimizer, layout.axis_name), flags)

    # Run
    if stores.address_of(workdir) is None:
        distributed.require_shared(workdir, "the run directory")
    where = pipeline.place_and_digest(data.dir, track)
    distributed.require_same("the data set", where[1], where[0])
    workdir.mkdir(parents=True, exist_ok=True)
    with (
        run_dir.claimed(workdir) if distributed.is_primary() else nullcontext(),
        closing(RunCheckpoints(workdir, config.run.keep_best)) as checkpoints,
        closing(batches),
    ):
        before = run_dir.read_config(workdir) if (workdir / run_dir.CONFIG_FILE).exists() else None
        with pace.spent("restore"):
            restored = checkpoints.restore_latest(state)
        last = checkpoints.latest_step()
        if restored is None and resumes:
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
            run_dir.write_config(workdir, config, pipeline.depth_unit_mm(data.dir, track))
        if done:
            _log_finished(workdir, last or 0, intervals.total, before, steps_per_epoch)
            return state
        parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        logger.info(
            f"{config.name}: {model.label} ({parameters / 1e6:.1f} M parameters) on {track.name}, {frames} frames "
            f"at {track.crop_size} px, {intervals.total} steps of {optim.batch_size}, {layout}"
        )
        if last is not None:
            manifest = run_dir.read_manifest(workdir / run_dir.CHECKPOINTS / str(last))
            run_dir.log_other_source(manifest and manifest.parts, config.parts, str(last))
            _log_resumption(experiment, before, last, steps_per_epoch)
            logged = [line["step"] for line in run_dir.read(workdir / METRICS_FILE)]
            pace.redone_steps = max(0, max(logged, default=0) - last)
            _log_other_machine(workdir, optim.batch_size, layout, frames)
        else:
            _log_beginning(workdir, intervals.total)
        evaluate = Evaluator(experiment, layout)
        with ExitStack() as stack:
            log: Callable[[str, int, dict[str, float]], None] = lambda *_: None  # noqa: E731
            window = ProfileWindow()
            if distributed.is_primary():
                start = record_start(
                    workdir,
                    command=command,
                    step=last or 0,
                    parallel=layout.mode,  # read by `_log_other_machine`, as the next two
                    batch_per_device=optim.batch_size // len(layout.devices),
                    frames=frames,
                    preset_flags=flags,
                )
                wandb = None
                if config.run.wandb is not None:
                    wandb = WandbLog(workdir, config.run.wandb, dataclasses.asdict(config))
                log = stack.enter_context(closing(RunLog(workdir, start=start, wandb=wandb))).write
                window = stack.enter_context(closing(ProfileWindow(profile_steps, workdir)))
            key = jax.random.fold_in(jax.random.key(config.run.seed), 1)
            if layout.mode != "pmap":  # no step moves it, see --debug transfers
                bits = sharding.put(jax.random.key_data(key), layout.everywhere)
                key = jax.random.wrap_key_data(bits)
            loop = TrainingLoop(
                step,
                batches,
                key,
                intervals,
                evaluate,
                checkpoints,
                log,
                schedule,
                optim.batch_size,
                unit=track.error_unit,
                window=window,
                skippable=optim.skip_nonfinite_updates,
                gather=layout.gather,
                place=layout.distribute,
                pace=pace,
                watchdog=Watchdog(
                    config.run.stall_seconds,
                    config.run.grace_seconds,
                    _end_stuck,
                    distributed.preempted,
                ),
                peak=_peak_steps(experiment, layout),
                explain=_explain(experiment, layout) if "nans" in debug else None,
                guarded="transfers" in debug,
            )
            state = loop.run(layout.place(state))
        evaluate.compare_with_mean_pose(checkpoints.metrics(intervals.total))
        command = (
            f"{needed_path(config.parts)}a2j eval --workdir {shlex.quote(stores.shown(workdir))}"
        )
        logger.info(f"trained; look at it: {command}")
        return state


def _with_facts(config: Config) -> Experiment:
    """The experiment as a run directory records it: a checkpoint is evaluated from elsewhere, and needs no data set.

    Its config has the full path of the data set, and facts of it: the mean and std, if the computed ones are asked for,
    and the camera that an embedded data set was rendered for, where it is not the track's.
    """
    if not is_address(config.data.dir):
        data_dir = str(local_path(config.data.dir, "config key 'data.dir'").absolute())
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, dir=data_dir))
    experiment, data = resolve(config), config.data
    facts: dict[str, Any] = {}
    if data.normalization == "computed" and (data.mean is None or data.std is None):
        found = pipeline.metadata(data.dir, experiment.track).get("statistics")
        if not found or not found["std"] > 0:
            raise UserError(
                f"data set in {data.dir} has no usable statistics of its training crops: build it again with a "
                "training split, or set --config.data.normalization=published"
            )
        facts |= {"mean": found["mean"], "std": found["std"]}
    if config.track in TRACKS and data.camera is None:
        there = pipeline.record_of(data.dir, experiment.track)
        ours = TrackRecord.of(experiment.track)
        if there.camera and (there.camera, there.frame_size) != (ours.camera, ours.frame_size):
            facts |= {"camera": there.camera, "frame_size": there.frame_size}
    if not facts:
        return experiment
    data = dataclasses.replace(data, **facts)
    return resolve(dataclasses.replace(config, data=data))


def _preset_flags(layout: sharding.Layout) -> dict[str, bool]:
    """The flags of XLA for this platform; a `UserError` where they cannot be given, or XLA does not know them."""
    if layout.mode == "pmap":
        raise UserError("--preset_flags: pmap takes none; use --config.parallel=shard_map or mesh")
    flags = lowering.preset_flags()
    try:
        jax.jit(lambda: 0, compiler_options=dict(flags)).lower().compile()
    except jax.errors.JaxRuntimeError as error:
        raise UserError(
            f"--preset_flags: jaxlib {metadata.version('jaxlib')} refuses them ({in_one_line(error)}); leave it out"
        ) from error
    said = " ".join(f"{name}={value}".lower() for name, value in flags.items())
    logger.info(f"preset flags for {lowering.platform()}: {said or 'none'}")
    return flags


def _explain(
    experiment: Experiment, layout: sharding.Layout
) -> Callable[[TrainState, dict[str, Any]], str]:
    """What broke first in a step, from the gathered state before it and its batch."""
    if experiment.parts.make_step is not None or jax.process_count() > 1:
        raise UserError(
            "--debug nans: looks into A2J's own step (parts.make_step is set), in a single process; JAX_DEBUG_NANS=1 "
            "stops at the first operation of any"
        )
    key = jax.random.fold_in(jax.random.key(experiment.config.run.seed), 1)

    def explain(state: TrainState, batch: dict[str, Any]) -> str:
        rows = batch["valid"].ndim > 2  # by device, under pmap
        whole = {n: x.reshape(-1, *x.shape[2:]) if rows else x for n, x in batch.items()}
        alone = layout.devices[0]
        return first_not_finite(experiment, *jax.device_put((state, whole, key), alone))

    return explain


def _peak_steps(experiment: Experiment, layout: sharding.Layout) -> float | None:
    """Steps per second at the peak of all devices, for three times the operations of a forward; None: not known."""
    peak = peak_flops(layout.devices[0].device_kind)
    if peak is None:
        return None
    images = experiment.config.optim.batch_size
    per_step = 3 * images * flops_per_frame(experiment.model, experiment.track)
    return peak * len(layout.devices) / per_step


def _end_stuck(reason: str, status: int) -> None:
    """What `Watchdog` ends a run by."""
    who = f"{distributed.name()}: " if distributed.name() else ""
    how = "the last complete checkpoint stays, and the same command resumes from it"
    distributed.end_now(
        f"{who}{reason}: a step, a save or another process hangs (stacks above); {how}", status
    )


def _workers(asked: int | None) -> int:
    """Processes that read examples for this one."""
    if asked is not None:
        return asked
    if jax.default_backend() == "cpu":  # the step needs the cores itself
        return 0
    return min((os.cpu_count() or 1) - 1, 8)


def _intervals(config: Config, steps_per_epoch: int) -> Intervals:
    steps, epochs = config.optim.steps, config.optim.epochs
    assert epochs is not None  # `resolve` filled it in
    total = round(epochs * steps_per_epoch) if steps is None else steps
    if total < 1:
        raise UserError(
            f"{epochs:g} epochs of {steps_per_epoch} steps leave nothing to train; raise "
            "--config.optim.epochs, or set --config.optim.steps"
        )
    every, epochs = config.run.eval_every, config.run.eval_epochs or 1
    if every and config.run.eval_epochs:
        raise UserError("--config.run.eval_every and --config.run.eval_epochs: give one of them")
    return Intervals(
        total=total,
        log=config.run.log_every,
        evaluate=every or min(max(1, round(epochs * steps_per_epoch)), total),
        save=config.run.save_every,
        save_minutes=config.run.save_minutes,
    )


def schedule_of(experiment: Experiment, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate of an experiment.

    With `base_batch_size` it grows in proportion to the batch (Goyal et al. 2017, arXiv 1706.02677).
    """
    optim, total = experiment.config.optim, _intervals(experiment.config, steps_per_epoch).total
    if experiment.parts.schedule is not None:
        with explained(str(experiment.config.parts)):
            return checked_schedule(experiment.parts.schedule(total, steps_per_epoch))
    if optim.warmup_steps and optim.warmup_epochs:
        raise UserError(
            "--config.optim.warmup_steps and --config.optim.warmup_epochs: give one of them"
        )
    every = optim.decay_every_epochs
    return learning_rate_schedule(
        optim.schedule,
        optim.learning_rate * optim.batch_size / (optim.base_batch_size or optim.batch_size),
        total,
        warmup_steps=optim.warmup_steps or round((optim.warmup_epochs or 0) * steps_per_epoch),
        decay_every=every and every * steps_per_epoch,
        decay_factor=optim.decay_factor,
    )


def _starting_point(experiment: Experiment) -> dict[str, Any]:
    """Variables of a run that begins: random ones, or those of `model.init_from`."""
    source, size = experiment.config.model.init_from, experiment.track.crop_size
    # XLA's own generator: the unrolled threefry of some 60 tensors takes 10 s to compile on a CPU.
    key = jax.random.key(experiment.config.run.seed, impl="rbg")
    variables = init_variables(experiment.model, key, size, size)
    if source is None:
        return variables
    if (
        is_address(source)
        or run_dir.run_and_step(source)[0].is_dir()
        or find_packed(source) is not None
    ):
        return variables_from(source, variables)
    return initial_variables(source, variables)


class Evaluator:
    """`evaluate(state, on_batch)` -> mean errors of its weights on the evaluation split, and of their average."""

    def __init__(self, experiment: Experiment, layout: sharding.Layout):
        """For the network of an experiment, on the devices of this process."""
        self._experiment, self._devices = experiment, layout.local
        self._predict = make_predict_fn(experiment.model, experiment.track, self._devices)
        self._frames: Frames | None = None  # of the last evaluation

    def __call__(self, state: TrainState, on_batch: Callable[[int], None]) -> dict[str, float]:
        """Scores of a gathered state; `on_batch` is called after each batch."""
        raw = self._score(state.variables, on_batch)
        scores = {run_dir.METRIC: raw.mean_error, "frames": float(raw.frames)}
        if state.ema is not None:
            scores[run_dir.METRIC_EMA] = self._score(state.ema, on_batch).mean_error
        return scores

    def compare_with_mean_pose(self, metrics: dict[str, float] | None) -> None:
        """Log whether a run has ended behind the mean pose, which ignores the image."""
        track, split = self._experiment.track, self._experiment.config.data.train_split
        if self._frames is None or metrics is None:
            return
        try:
            pose = mean_pose(self._batches(split, _MEAN_POSE_FRAMES), track)
        except UserError:  # a joint that no frame labels: there is no mean pose to compare with
            return
        baseline = score_constant_pose(pose, self._frames, track).mean_error
        error = run_dir.rank(metrics)
        if error >= baseline:
            logger.info(
                f"worse than the mean pose: error {error:.2f} {track.error_unit} where the mean pose of the "
                f"training split has {baseline:.2f}; train for more steps, on more frames, or start from a trained "
                "network (--config.model.init_from)"
            )

    def _score(self, variables: dict[str, Any], on_batch: Callable[[int], None]) -> Scores:
        data = self._experiment.config.data
        placed = place_variables(variables, self._devices)
        result = evaluate_batches(
            lambda batch: self._predict(placed, batch),
            counting(self._batches(data.eval_split, data.eval_frames), on_batch),
            self._experiment.track,
        )
        self._frames = result.frames
        return result.scores

    def _batches(self, split: str, frames: int | None) -> Iterator[Batch]:
        """Examples of a split without augmentation, about the first `frames` of them."""
        config = self._experiment.config
        data, size = config.data, config.optim.batch_size
        batches = pipeline.eval_batches(
            data.dir, self._experiment.track, split, size, on_bad_example=data.on_bad_example
        )
        return itertools.islice(batches, None if frames is None else math.ceil(frames / size))


def _log_finished(
    workdir: Path, step: int, total: int, recorded: Config | None, steps_per_epoch: int
) -> None:
    """Log that nothing is left to train, and how to continue a run that was started with more steps."""
    if step <= total:
        logger.info(f"this run is finished at step {step}; nothing left to train")
        return
    text = f"{workdir} is at step {step}, beyond the {total} steps asked for; nothing left to train"
    if recorded is not None:
        before = _intervals(fill_in(recorded).config, steps_per_epoch).total
        if before > step:
            own = shlex.quote(str(workdir / run_dir.CONFIG_FILE))
            text += f": it was to be {before}; a2j train --config {own} continues it"
    logger.info(text)


def _log_beginning(workdir: Path, total: int) -> None:
    """Log what is unusual about a run that begins: an earlier start left no checkpoint, or it is short."""
    if run_dir.read_starts(workdir):
        logger.info(
            f"{workdir}: an earlier start ended before its first checkpoint; starting at step 0"
        )
    if total < _FEW_STEPS:
        logger.info(
            f"{total} steps are few: below about {_FEW_STEPS:,} a network seldom beats the mean pose; raise "
            "--config.optim.steps or --config.optim.epochs"
        )


def _log_resumption(
    experiment: Experiment, recorded: Config | None, step: int, steps_per_epoch: int
) -> None:
    """Where a run resumes, and with which other values than it was started with."""
    total = _intervals(experiment.config, steps_per_epoch).total
    logger.info(f"resuming from step {step} of {total}")
    before = fill_in(experiment.config if recorded is None else recorded)
    values = "; ".join(map(str, differences(before, experiment)))
    if not values:
        return
    there = dataclasses.replace(experiment, config=before.config)
    old, new = (float(schedule_of(one, steps_per_epoch)(step)) for one in (there, experiment))
    if not math.isclose(old, new, rel_tol=1e-6):
        values += (
            f". The {experiment.config.optim.schedule} schedule is stretched over the new length: learning rate "
            f"{new:.2g} from here on, where it was {old:.2g}"
        )
    logger.info(f"with other values than before: {values}")


def _log_other_machine(
    workdir: Path, batch_size: int, layout: sharding.Layout, frames: int
) -> None:
    """Whether a run resumes on other devices than its last start, or with another data set."""
    starts = run_dir.read_starts(workdir)
    last = starts[-1] if starts else {}
    if share := last.get("batch_per_device"):
        kinds, mode = " and ".join(last["devices"]), last["parallel"]
        now = layout.devices[0].device_kind, layout.mode, batch_size // len(layout.devices)
        if (kinds, mode, share) != now:
            logger.info(
                f"before: {mode} on {batch_size // share} x {kinds}; the results are those of an uninterrupted run "
                "up to the order of sums, not bit for bit"
            )
    if last.get("frames", frames) not in (None, frames):
        logger.info(
            f"before: {last['frames']:,} training frames, now {frames:,}: epochs differ in length; "
            "resuming with a different shuffle order"
        )


def check_run_directory(workdir: Path, experiment: Settings) -> None:
    """Refuse to continue a run as another experiment.

    Everything that decides what is optimized, and by what its checkpoints are ranked, stays as it was (`MAY_CHANGE`).
    Mean and std that are to be computed and are not known yet are not compared. A folder without any checkpoint yet may
    become any run.

    Raises:
      UserError: `workdir` is no folder, has a name that checkpoints cannot be written below, holds a converted
        checkpoint, or a run with other values, naming them all.
    """
    check_folder_name(workdir.absolute(), run_dir.UNWRITABLE)
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"{workdir} is a file; name a folder for the run")
    kept = run_dir.kept_checkpoints(workdir)
    if kept and all(run_dir.is_converted(folder) for folder in kept):
        raise UserError(
            f"{workdir} holds a converted checkpoint, which has no training to continue; name another "
            "--workdir"
        )
    recorded = _newest_record(kept)
    before = run_dir.read_config(workdir) if (workdir / run_dir.CONFIG_FILE).exists() else recorded
    if before is None and not kept:
        _check_not_foreign(workdir, experiment.config.track)
    if before is None or not kept:
        return
    found = [*conflicts(recorded, experiment), *differences(fill_in(before), experiment)]
    other = {d.key: d for d in found if d.key not in MAY_CHANGE}
    if other:
        raise UserError(
            f"{workdir} holds a run of another experiment ({'; '.join(map(str, other.values()))}); "
            "name another --workdir (of a table: --out), or give the values it was started with; a new run starts from "
            f"its weights with --config.model.init_from={workdir}@latest"
        )


def _check_not_foreign(workdir: Path, track: str) -> None:
    """Refuse a folder without `config.json` in which a run would change the files of somebody else."""
    own = track_file(track)
    written = [METRICS_FILE, run_dir.STARTS_FILE, run_dir.PARTS_FILE] + (
        [] if own is None else [TRACK_FILE]
    )
    for path in (workdir / name for name in written):
        if os.path.lexists(path) and not (own is not None and same_file(path, own)):
            raise UserError(
                f"{path}: exists, and a run would change it, but there is no {run_dir.CONFIG_FILE} of a run beside it; "
                "name another --workdir"
            )


def _newest_record(kept: list[Path]) -> Config | None:
    """The config that the newest of these checkpoints was written with; None: none of them records it."""
    for folder in reversed(kept):
        with suppress(run_dir.DamagedError):
            found = run_dir.recorded_config(folder)
            if found is not None:
                return found
    return None
