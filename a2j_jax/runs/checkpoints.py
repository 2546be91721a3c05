"""Checkpoints on disk: the one module that talks to Orbax.

A run directory holds `config.json` and `checkpoints/<step>/` with these items each: `variables` (parameters and
running statistics: all that inference needs), `ema` (their moving average, where one is kept), `optimizer`,
`iterator` (position in the data), `counters`. `manifest.json` beside them has the digest of every file, which is
compared before a file is read, and the metrics that ranked the step, if it was evaluated. A converted checkpoint has
`variables` alone, and the same `config.json`.
"""

import asyncio
import contextlib
import errno
import functools
import logging
import os
import re
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging as absl_logging
from jax.sharding import SingleDeviceSharding

from a2j_jax import distributed, stores
from a2j_jax.config import Config
from a2j_jax.errors import UserError
from a2j_jax.files import check_folder_name, local_path
from a2j_jax.log import logger
from a2j_jax.runs import run_dir
from a2j_jax.runs.sharding import TrainState, put

Weights = Literal["raw", "ema", "best"]

_COUNTERS = ("skipped", "skipped_in_a_row")  # of a `TrainState`

# Orbax logs every save, and prints what it raises. Set through absl, which resets the level of its logger at times.
absl_logging.set_verbosity(absl_logging.FATAL)


# Raised by other reads and writes when one has failed and nobody waits for them any more.
_CONSEQUENCES = ("Event loop is closed", "Encountered error while reading array")


@contextlib.contextmanager
def quiet_after_failure() -> Iterator[None]:
    """Silence the consequences of a failed restore or save, whose other reads and writes end in a closed event loop.

    Each would print a traceback from wherever the interpreter happens to be. The failure itself is still raised.
    """
    before, asyncio_log = sys.unraisablehook, logging.getLogger("asyncio")
    level = asyncio_log.level

    def hook(unraisable: Any) -> None:
        if not any(text in str(unraisable.exc_value) for text in _CONSEQUENCES):
            before(unraisable)

    sys.unraisablehook = hook
    asyncio_log.setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    never_awaited = warnings.filters[0]
    yield
    sys.unraisablehook = before
    asyncio_log.setLevel(level)
    with contextlib.suppress(ValueError):  # whoever called has put back the filters of before
        warnings.filters.remove(never_awaited)  # type: ignore[attr-defined]


@contextlib.contextmanager
def failures_as(explain: Callable[[Exception], UserError]) -> Iterator[None]:
    """Turn what Orbax, TensorStore and the file system raise into a `UserError`; Ctrl-C stays what it is."""
    try:
        with quiet_after_failure():
            yield
    except Exception as error:
        stops = (KeyboardInterrupt, asyncio.CancelledError)
        if any(isinstance(one, stops) for one in _chain(error)):  # Orbax raises an error for it
            raise KeyboardInterrupt from error
        raise explain(error) from error


def reason(error: Exception) -> str:
    """Why it failed: the error of the file system in the chain of exceptions, or the first line of its message."""
    for one in _chain(error):
        code = re.search(r"os_error_code='(\d+)'", str(one))  # as TensorStore writes it
        if code:
            return os.strerror(int(code[1]))
        if isinstance(one, OSError) and one.strerror:
            return one.strerror
    text = str(error).partition(". See full TensorStore details")[0].strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, and those that it came of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class _WithManifest(ocp.path.atomicity.AtomicRenameTemporaryPath):
    """The temporary folder of a checkpoint, renamed once the manifest with the digests of its files is in it."""

    async def finalize(self, *args: Any, **kwargs: Any) -> None:
        final = self._final_path
        if final.parent.name != run_dir.CHECKPOINTS:  # one part of a checkpoint
            return await super().finalize(*args, **kwargs)
        # Orbax still changes one of its files before it renames the folder, so it renames to a temporary name first.
        almost = final.parent / f"{final.name}.orbax-checkpoint-tmp-manifest"
        self._final_path: Any = almost
        await super().finalize(*args, **kwargs)
        self._final_path = final
        await asyncio.to_thread(lambda: run_dir.Manifest.of(Path(almost)).write(Path(almost)))
        almost.rename(final)


def _processes(alone: bool) -> ocp.options.MultiprocessingOptions:
    """Who saves and restores together: all processes, or each on its own."""
    if not alone:
        return ocp.options.MultiprocessingOptions()
    index = distributed.index()
    return ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process {index}"
    )


class RunCheckpoints:
    """The checkpoints of one run: the latest is kept, and the best `keep_best` by `run_dir.rank`.

    Saves are asynchronous and become visible only when complete; `close` waits for the last one. A state that is to be
    evaluated is saved first and gets its metrics afterwards (`score`); until then the one before it is kept, too.
    """

    def __init__(self, workdir: str | Path, keep_best: int = 1):
        """Opens, or makes, the checkpoints of a run directory.

        One whose metrics cannot be read is put aside; a `UserError` where it is the only one.
        """
        self.workdir = Path(workdir)
        # The mirror of an object store: every process reads its own, and process 0 alone saves.
        self._alone = distributed.is_multiprocess() and stores.address_of(workdir) is not None
        self._follows = self._alone and not distributed.is_primary()
        self._last_seen: int | None = None  # saved by the process that this one follows
        self._keep_best = keep_best
        self._metrics: dict[int, dict[str, float]] = {}
        kept = run_dir.kept_checkpoints(workdir)
        for folder in kept:
            try:
                if (metrics := run_dir.metrics_of(folder)) is not None:
                    self._metrics[int(folder.name)] = metrics
            except run_dir.DamagedError as error:
                if len(kept) == 1:
                    raise
                self._put_aside(folder, error)
        self._to_be_scored: int | None = None
        self._quiet = contextlib.ExitStack()  # left open by a failure
        self._quiet.enter_context(quiet_after_failure())
        folder = self.workdir.absolute() / run_dir.CHECKPOINTS
        if self._alone:  # Orbax does not make it then
            folder.mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(
            folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=self,
                temporary_path_class=_WithManifest,
                cleanup_tmp_directories=True,  # what a killed save has left
                create=not self._alone,
                multiprocessing_options=_processes(self._alone),
            ),
        )

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """Which of these to keep, as Orbax asks after a save."""
        del context
        wanted = self._wanted([one.step for one in checkpoints])
        return [one.step in wanted for one in checkpoints]

    def _wanted(self, steps: Collection[int]) -> set[int]:
        scored = {step: m for step, m in self._metrics.items() if step in steps}
        latest = sorted(steps)[-1 if self._to_be_scored is None else -2 :]
        return {*latest, *run_dir.best_of(scored, self._keep_best)}

    def latest_step(self) -> int | None:
        """Step of the newest complete checkpoint."""
        return self._manager.latest_step() if self._last_seen is None else self._last_seen

    def metrics(self, step: int) -> dict[str, float] | None:
        """Metrics of a checkpoint; None: it was not evaluated."""
        return self._metrics.get(step)

    def save(
        self, state: TrainState, iterator_state: dict[str, Any], to_be_scored: bool = False
    ) -> None:
        """Save everything a run needs to continue; until it is scored it is not ranked, and kept while the latest.

        Where `score` or `discard` is to follow, the checkpoint before it is kept as well until then. A `UserError` says
        that this save or the one before failed (a full disk, say).
        """
        step = int(state.step)
        if self.latest_step() == step:
            return
        if self._follows:
            self._last_seen = step
            return
        trees = {"variables": state.variables, "optimizer": state.opt_state}
        if state.ema is not None:
            trees["ema"] = state.ema
        if self._alone:  # replicated: of a global array Orbax would write this process's part
            trees = jax.tree.map(lambda x: np.asarray(x.addressable_data(0)), trees)
        items = {
            **{name: ocp.args.StandardSave(tree) for name, tree in trees.items()},
            "iterator": ocp.args.JsonSave(iterator_state),
            "counters": ocp.args.JsonSave({name: int(getattr(state, name)) for name in _COUNTERS}),
        }
        self._to_be_scored = step if to_be_scored else None
        with self._explained(f"the checkpoint of step {step} or the one before it"):
            self._manager.save(step, args=ocp.args.Composite(**items))

    def score(self, step: int, metrics: dict[str, float]) -> None:
        """Write the metrics of a checkpoint, by which it is ranked, and delete those that are no longer wanted."""
        with self._explained(f"the checkpoint of step {step}"):
            self._manager.wait_until_finished()
            folder = self.workdir / run_dir.CHECKPOINTS / str(step)
            if distributed.is_primary():
                manifest = run_dir.read_manifest(folder) or run_dir.Manifest.of(folder)
                manifest._replace(metrics=metrics).write(folder)
            distributed.wait_for_all(f"checkpoint {step} is scored")
            self._metrics[step] = metrics
            self._to_be_scored = None
            steps = () if self._follows else self._manager.all_steps()
            for unwanted in sorted(set(steps) - self._wanted(steps)):
                self._manager.delete(unwanted)

    def discard(self, step: int) -> None:
        """Delete a checkpoint whose weights are broken."""
        with self._explained(f"the checkpoint of step {step}"):
            self._manager.wait_until_finished()
            self._last_seen = None
            if step in self._manager.all_steps():
                self._manager.delete(step)

    def restore_latest(self, state: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """Restore the newest checkpoint that is not damaged, as `restore` does; None where there is no checkpoint.

        Damaged ones are put aside; where only one is left, it raises as `restore` does.
        """
        while (step := self.latest_step()) is not None:
            try:
                return self.restore(state, step)
            except run_dir.DamagedError as error:
                if len(self._manager.all_steps()) == 1:
                    raise
                self._put_aside(self.workdir / run_dir.CHECKPOINTS / str(step), error)
                self._manager.reload()
        return None

    def _put_aside(self, folder: Path, error: run_dir.DamagedError) -> None:
        """Rename a damaged checkpoint, so that its step can be saved again."""
        self._metrics.pop(int(folder.name), None)
        if self._alone or distributed.is_primary():
            count = len(list(folder.parent.glob(f"{folder.name}.damaged*")))
            aside = folder.with_name(f"{folder.name}.damaged{f'-{count}' if count else ''}")
            folder.rename(aside)
            logger.info(
                f"{str(error).partition(';')[0]}; using an earlier checkpoint, this one is kept as {aside.name}"
            )
        distributed.wait_for_all(f"checkpoint {folder.name} is put aside")

    def restore(self, state: TrainState, step: int) -> tuple[TrainState, dict[str, Any]]:
        """Restore a training state into the shapes and shardings of `state`, and the iterator's position.

        An average that a checkpoint does not have starts from the weights.

        Raises:
          DamagedError: a damaged checkpoint.
          UserError: tensors of another architecture or optimizer.
        """
        folder = Path(self._manager.directory) / str(step)
        trees = {"variables": state.variables, "optimizer": state.opt_state}
        try:
            with run_dir.explained_damage(folder):
                if state.ema is not None and run_dir.has_average(folder):
                    trees["ema"] = state.ema
                found = _restore(folder, trees, ("iterator", "counters"), self._alone)
        except UserError:
            self._quiet.pop_all()
            raise
        variables, counters = found["variables"], found["counters"] or {}
        if state.ema is not None:
            found.setdefault("ema", jax.tree.map(jax.numpy.copy, variables))
        numbers = {"step": step, **{name: counters.get(name, 0) for name in _COUNTERS}}
        restored = state.replace(
            **variables,
            **{n: put(jax.numpy.int32(x), state.step.sharding) for n, x in numbers.items()},
            opt_state=found["optimizer"],
            ema=found.get("ema"),
        )
        return restored, found["iterator"]

    def wait(self) -> None:
        """Block until the last save is complete; raises a `UserError` if it failed."""
        with self._explained("the last checkpoint"):
            self._manager.wait_until_finished()

    def check(self) -> None:
        """Raise a `UserError` if a save has failed, without waiting."""
        with self._explained("the last checkpoint"):
            self._manager.check_for_errors()

    def _explained(self, what: str) -> contextlib.AbstractContextManager[None]:
        """Turn the failure of a save into a `UserError` that names what is still there."""

        def explain(error: Exception) -> UserError:
            self._quiet.pop_all()
            folder, why = Path(self._manager.directory), reason(error)
            kept = run_dir.kept_checkpoints(folder.parent)
            there = f"step {kept[-1].name} is kept" if kept else "none was saved before"
            fix = "Make room and run" if why == os.strerror(errno.ENOSPC) else "Run"
            return UserError(
                f"{folder}: {what} could not be saved ({why}); {there}. {fix} the same command again: it "
                "resumes from there"
            )

        return failures_as(explain)

    def close(self) -> None:
        """Finish pending saves and close the directory."""
        with contextlib.suppress(Exception):  # raised by `wait`, or superseded by a worse error
            self._manager.wait_until_finished()
        with contextlib.suppress(Exception):
            self._manager.close()
        self._quiet.close()


def save_variables(directory: str | Path, variables: dict[str, Any], config: Config) -> None:
    """Write a checkpoint for inference alone (what `a2j convert` makes), into a folder that is new or empty."""
    directory = local_path(directory, "checkpoint")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"{directory} already exists; name a new folder")
    check_folder_name(directory.absolute(), run_dir.UNWRITABLE)
    run_dir.write_config(directory, config)
    options = ocp.CheckpointManagerOptions(temporary_path_class=_WithManifest)

    def explain(error: Exception) -> UserError:
        for _ in range(10):  # writes that are still under way make their folders again
            shutil.rmtree(directory, ignore_errors=True)
            time.sleep(0.05)
        return UserError(f"{directory}: cannot be written ({reason(error)})")

    with (
        failures_as(explain),
        ocp.CheckpointManager(
            directory.absolute() / run_dir.CHECKPOINTS, options=options
        ) as manager,
    ):
        manager.save(0, args=ocp.args.Composite(variables=ocp.args.StandardSave(variables)))
        manager.wait_until_finished()


def load_variables(
    folder: Path, expected: dict[str, Any], weights: Weights = "best"
) -> tuple[dict[str, Any], bool]:
    """Read parameters and running statistics from the folder of a checkpoint, as `choose_step` gives it.

    Args:
      folder: of the checkpoint.
      expected: the model's variables, or their shapes.
      weights: "raw", their moving average "ema", or "best": the average where there is one.

    Returns:
      The variables, and whether they are the average.

    Raises:
      UserError: no average in it, tensors of another architecture, or (a `DamagedError`) a damaged checkpoint.
    """
    if weights not in (kinds := get_args(Weights)):
        raise UserError(f"weights {weights!r}: expected one of {', '.join(kinds)}")
    with run_dir.explained_damage(folder):
        averaged = weights != "raw" and run_dir.has_average(folder)
        if weights == "ema" and not averaged:
            raise UserError(
                f"{folder} holds no average of the weights: the run was trained without --config.optim.ema_decay"
            )
        item = "ema" if averaged else "variables"
        return _restore(folder, {item: expected})[item], averaged


def _restore(
    folder: Path, trees: dict[str, Any], json_items: Sequence[str] = (), alone: bool = False
) -> dict[str, Any]:
    """Restore parts of a checkpoint by name: trees in the shapes of those given, and JSON; `alone`: by this process."""
    manifest = run_dir.read_manifest(folder)
    if manifest is None:
        _log_unchecked(folder)
    else:
        manifest.check(folder, [*trees, *json_items])

    def explain(error: Exception) -> UserError:
        if (why := reason(error)) == os.strerror(errno.EACCES):
            return UserError(f"{folder}: no permission to read")
        return run_dir.DamagedError(why)  # Orbax raises whatever its parsers do on a damaged file

    found: dict[str, Any] = {}
    processes = _processes(alone)
    with ocp.StandardCheckpointer(multiprocessing_options=processes) as tensors:
        for item, tree in trees.items():
            with failures_as(explain):
                stored = tensors.metadata(folder / item).item_metadata
                if stored is None:
                    raise ValueError(f"no tensors in {item}")
            _check_structure(folder / item, stored.tree, tree)
        with failures_as(explain):
            for item, tree in trees.items():
                found[item] = tensors.restore(folder / item, _abstract(tree))
            for item in json_items:
                with ocp.Checkpointer(
                    ocp.JsonCheckpointHandler(), multiprocessing_options=processes
                ) as plain:
                    there = item == "iterator" or (folder / item).exists()
                    found[item] = plain.restore(folder / item) if there else None
    return found


@functools.cache
def _log_unchecked(folder: Path) -> None:
    logger.info(
        f"{folder}: was written without digests by an earlier version; damage would go unnoticed"
    )


def _check_structure(folder: Path, found: Any, expected: Any) -> None:
    """Refuse a tree on disk other than the expected one: Orbax cuts or pads an array to the shape it is asked for."""
    there, wanted = (
        {
            "/".join(map(str, name)): tuple(leaf.shape)
            for name, leaf in ocp.tree.to_flat_dict(tree).items()
            if hasattr(leaf, "shape")
        }
        for tree in (found, expected)
    )
    differences = [
        f"{name} is {there.get(name, 'missing')}, expected {wanted.get(name, 'none')}"
        for name in sorted(there.keys() | wanted.keys())
        if there.get(name) != wanted.get(name)
    ]
    if differences:
        holds, fix = (
            ("the state of another optimizer", "continue with the config it was trained with")
            if folder.name == "optimizer"
            else ("weights of another model", f"was {run_dir.CONFIG_FILE} changed?")
        )
        shown = "; ".join(differences[:3]) + ("; ..." if len(differences) > 3 else "")
        raise UserError(
            f"{folder.parent} holds {holds}, {len(differences)} tensors differ ({shown}); {fix}"
        )


def _abstract(tree: Any) -> Any:
    """Shapes, dtypes and shardings to restore into; shapes alone are restored to a device of this process.

    Never left to Orbax: it would look for the devices that a checkpoint was written on.
    """
    here = SingleDeviceSharding(jax.local_devices()[0])

    def one(leaf: Any) -> jax.ShapeDtypeStruct:
        sharding = leaf.sharding if isinstance(leaf, jax.Array) else here
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(one, tree)
