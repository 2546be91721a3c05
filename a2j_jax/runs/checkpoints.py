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
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import orbax.checkpoint as ocp
from absl import logging as absl_logging
from jax.sharding import SingleDeviceSharding
from orbax.checkpoint.checkpoint_managers import preservation_policy

from a2j_jax import distributed
from a2j_jax.config import Config
from a2j_jax.errors import UserError
from a2j_jax.files import check_folder_name, local_path
from a2j_jax.log import logger
from a2j_jax.runs.run_dir import (
    CHECKPOINTS,
    CONFIG_FILE,
    UNWRITABLE,
    DamagedError,
    Manifest,
    best_of,
    has_average,
    kept_checkpoints,
    metrics_of,
    ranking_metrics,
    read_manifest,
    write_config,
)
from a2j_jax.runs.sharding import TrainState, put

# Raised by other reads and writes when one has failed and nobody waits for them any more.
_CONSEQUENCES = ("Event loop is closed", "Encountered error while reading array")


@contextlib.contextmanager
def quiet_after_failure() -> Iterator[None]:
    """Silence the consequences of a failed restore or save, whose other reads and writes end in a closed event loop.

    Each would print a traceback from wherever the interpreter happens to be. The failure itself is still raised.
    """
    before, logger = sys.unraisablehook, logging.getLogger("asyncio")
    level = logger.level

    def hook(unraisable: Any) -> None:
        if not any(text in str(unraisable.exc_value) for text in _CONSEQUENCES):
            before(unraisable)

    sys.unraisablehook = hook
    logger.setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    never_awaited = warnings.filters[0]
    yield
    sys.unraisablehook = before
    logger.setLevel(level)
    with contextlib.suppress(ValueError):  # whoever called has put back the filters of before
        warnings.filters.remove(never_awaited)  # type: ignore[attr-defined]


def reason(error: BaseException) -> str:
    """Why a save failed: the error of the file system in the chain of exceptions, if there is one."""
    found: BaseException | None = error
    while found is not None:
        code = re.search(r"os_error_code='(\d+)'", str(found))  # as TensorStore writes it
        if code:
            return os.strerror(int(code[1]))
        if isinstance(found, OSError) and found.strerror:
            return found.strerror
        found = found.__cause__ or found.__context__
    return first_line(error) if isinstance(error, Exception) else type(error).__name__


def was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C caused an exception: Orbax raises its own for whatever stops a read."""
    while error is not None:
        if isinstance(error, (KeyboardInterrupt, asyncio.CancelledError)):
            return True
        error = error.__cause__ or error.__context__
    return False


def first_line(error: Exception) -> str:
    """The first line of an exception of Orbax or TensorStore, without its pointers to details."""
    text = str(error).partition(". See full TensorStore details")[0].strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


Weights = Literal["raw", "ema", "best"]

_COUNTERS = ("skipped", "skipped_in_a_row")  # of a `TrainState`

# Orbax logs every save, and prints what it raises. Set through absl, which resets the level of its logger at times.
absl_logging.set_verbosity(absl_logging.FATAL)


class _WithManifest(ocp.path.atomicity.AtomicRenameTemporaryPath):
    """The temporary folder of a checkpoint, renamed once the manifest with the digests of its files is in it."""

    async def finalize(self, *args: Any, **kwargs: Any) -> None:
        final = self._final_path
        if final.parent.name != CHECKPOINTS:  # one part of a checkpoint
            return await super().finalize(*args, **kwargs)
        # Orbax still changes one of its files before it renames the folder, so it renames to a temporary name first.
        almost = final.parent / f"{final.name}.orbax-checkpoint-tmp-manifest"
        self._final_path: Any = almost
        await super().finalize(*args, **kwargs)
        self._final_path = final
        await asyncio.to_thread(lambda: Manifest.of(Path(almost)).write(Path(almost)))
        almost.rename(final)


class RunCheckpoints:
    """The checkpoints of one run: the latest is kept, and the best `keep_best` by `error`.

    Saves are asynchronous and become visible only when complete; `close` waits for the last one. A state that is to be
    evaluated is saved first and gets its metrics afterwards (`score`); until then the one before it is kept, too.
    """

    def __init__(self, workdir: str | Path, keep_best: int = 1):
        """Opens, or makes, the checkpoints of a run directory.

        Raises:
          UserError: metrics of the only checkpoint that cannot be read. If there are others, it is put aside.
        """
        self.workdir = Path(workdir)
        self._keep_best = keep_best
        self._metrics: dict[int, dict[str, float]] = {}
        kept = kept_checkpoints(workdir)
        for folder in kept:
            try:
                metrics = metrics_of(folder)
                self._metrics |= {} if metrics is None else {int(folder.name): metrics}
            except DamagedError as error:
                if len(kept) == 1:
                    raise
                self._put_aside(folder, error)
        self._to_be_scored: int | None = None
        self._quiet = contextlib.ExitStack()
        self._quiet.enter_context(quiet_after_failure())
        self._manager = ocp.CheckpointManager(
            self.workdir.absolute() / CHECKPOINTS,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=_Preserve(self._wanted),
                temporary_path_class=_WithManifest,
                cleanup_tmp_directories=True,  # what a killed save has left
            ),
        )

    def _wanted(self, steps: Collection[int]) -> set[int]:
        """The steps to keep of these: the latest and the best."""
        scored = {step: m for step, m in self._metrics.items() if step in steps}
        latest = sorted(steps)[-1 if self._to_be_scored is None else -2 :]
        return {*latest, *best_of(scored, self._keep_best)}

    def latest_step(self) -> int | None:
        """Step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """Step of the checkpoint with the lowest error; the latest, if none was evaluated."""
        return next(iter(best_of(self._metrics)), self.latest_step())

    def metrics(self, step: int) -> dict[str, float] | None:
        """Metrics of a checkpoint; None: it was not evaluated."""
        return self._metrics.get(step)

    def save(
        self, state: TrainState, iterator_state: dict[str, Any], to_be_scored: bool = False
    ) -> None:
        """Save everything a run needs to continue; until it is scored it is not ranked, and kept while the latest.

        Args:
          state: of the run.
          iterator_state: position in the data.
          to_be_scored: `score` or `discard` follows; until then the checkpoint before it is kept as well.

        Raises:
          UserError: this save or the one before failed (a full disk, say).
        """
        step = int(state.step)
        if self.latest_step() == step:
            return
        items = {
            "variables": ocp.args.StandardSave(state.variables),
            "optimizer": ocp.args.StandardSave(state.opt_state),
            "iterator": ocp.args.JsonSave(iterator_state),
            "counters": ocp.args.JsonSave({name: int(getattr(state, name)) for name in _COUNTERS}),
        }
        if state.ema is not None:
            items["ema"] = ocp.args.StandardSave(state.ema)
        self._to_be_scored = step if to_be_scored else None
        with self._explained(f"the checkpoint of step {step} or the one before it"):
            self._manager.save(step, args=ocp.args.Composite(**items))

    def score(self, step: int, metrics: dict[str, float]) -> None:
        """Write the metrics of a checkpoint, by which it is ranked, and delete those that are no longer wanted.

        Raises:
          UserError: its save failed, or the metrics cannot be written.
        """
        with self._explained(f"the checkpoint of step {step}"):
            self._manager.wait_until_finished()
            folder = self.workdir / CHECKPOINTS / str(step)
            if distributed.is_primary():
                manifest = read_manifest(folder) or Manifest.of(folder)
                manifest._replace(metrics=metrics).write(folder)
            distributed.wait_for_all(f"checkpoint {step} is scored")
            self._metrics[step] = metrics
            self._to_be_scored = None
            steps = self._manager.all_steps()
            for unwanted in sorted(set(steps) - self._wanted(steps)):
                self._manager.delete(unwanted)

    def discard(self, step: int) -> None:
        """Delete a checkpoint that turned out to be broken when it was evaluated.

        Raises:
          UserError: its save failed.
        """
        with self._explained(f"the checkpoint of step {step}"):
            self._manager.wait_until_finished()
            if step in self._manager.all_steps():
                self._manager.delete(step)

    def restore_latest(self, state: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """Restore the newest checkpoint that is not damaged, as `restore` does; damaged ones are put aside.

        Returns:
          The state and the iterator's position; None where there is no checkpoint.

        Raises:
          UserError: as `restore`; the only one that is left is damaged.
        """
        while (step := self.latest_step()) is not None:
            try:
                return self.restore(state, step)
            except DamagedError as error:
                if len(self._manager.all_steps()) == 1:
                    raise
                self._put_aside(self.workdir / CHECKPOINTS / str(step), error)
                self._manager.reload()
        return None

    def _put_aside(self, folder: Path, error: DamagedError) -> None:
        """Rename a damaged checkpoint, so that its step can be saved again."""
        self._metrics.pop(int(folder.name), None)
        if distributed.is_primary():
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
        try:
            averaged = state.ema is not None and has_average(folder)
            found = _restore(
                folder,
                {"variables": state.variables, "optimizer": state.opt_state}
                | ({"ema": state.ema} if averaged else {}),
                ("iterator", "counters"),
            )
        except UserError:
            self._quiet.pop_all()  # for good
            raise
        counters = found["counters"] or {}
        variables = found["variables"]
        ema = found["ema"] if averaged else jax.tree.map(jax.numpy.copy, variables)
        restored = TrainState(
            step=_placed(step, state.step),
            params=variables["params"],
            batch_stats=variables["batch_stats"],
            opt_state=found["optimizer"],
            ema=None if state.ema is None else ema,
            **{name: _placed(counters.get(name, 0), state.step) for name in _COUNTERS},
        )
        return restored, found["iterator"]

    def wait(self) -> None:
        """Block until the last save is complete.

        Raises:
          UserError: it failed.
        """
        with self._explained("the last checkpoint"):
            self._manager.wait_until_finished()

    def check(self) -> None:
        """Raise the error of a failed save, without waiting.

        Raises:
          UserError: it did.
        """
        with self._explained("the last checkpoint"):
            self._manager.check_for_errors()

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Turn the failure of a save into a `UserError` that names what is still there."""
        try:
            yield
        except Exception as error:  # of Orbax, TensorStore and the file system
            if was_interrupted(error):
                raise KeyboardInterrupt from error
            self._quiet.pop_all()  # for good
            folder = Path(self._manager.directory)
            kept = kept_checkpoints(folder.parent)
            there = f"step {kept[-1].name} is kept" if kept else "none was saved before"
            why = reason(error)
            fix = "Make room and run" if why == os.strerror(errno.ENOSPC) else "Run"
            raise UserError(
                f"{folder}: {what} could not be saved ({why}); {there}. {fix} the same command again: it "
                "resumes from there"
            ) from error

    def close(self) -> None:
        """Finish pending saves and close the directory."""
        with contextlib.suppress(Exception):  # raised by `wait`, or superseded by a worse error
            self._manager.wait_until_finished()
        with contextlib.suppress(Exception):
            self._manager.close()
        self._quiet.close()


class _Preserve(preservation_policy.PreservationPolicy):
    """Keeps the checkpoints of some steps."""

    def __init__(self, wanted: Callable[[Collection[int]], set[int]]):
        self._wanted = wanted

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        del context
        wanted = self._wanted([one.step for one in checkpoints])
        return [one.step in wanted for one in checkpoints]


def save_variables(directory: str | Path, variables: dict[str, Any], config: Config) -> None:
    """Write a checkpoint for inference alone (what `a2j convert` makes).

    Raises:
      UserError: the folder already holds something, or cannot be written.
    """
    directory = local_path(directory, "checkpoint")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"{directory} already exists; name a new folder")
    check_folder_name(directory.absolute(), UNWRITABLE)
    write_config(directory, config)
    options = ocp.CheckpointManagerOptions(temporary_path_class=_WithManifest)
    try:
        with (
            quiet_after_failure(),
            ocp.CheckpointManager(directory.absolute() / CHECKPOINTS, options=options) as manager,
        ):
            manager.save(0, args=ocp.args.Composite(variables=ocp.args.StandardSave(variables)))
            manager.wait_until_finished()
    except Exception as error:  # of Orbax, TensorStore and the file system
        if was_interrupted(error):
            raise KeyboardInterrupt from error
        shutil.rmtree(directory, ignore_errors=True)
        raise UserError(f"{directory}: cannot be written ({reason(error)})") from error


def load_variables(
    directory: str | Path,
    expected: dict[str, Any],
    step: int | str = "best",
    weights: Weights = "best",
) -> tuple[dict[str, Any], int]:
    """Read parameters and running statistics of a run or a converted checkpoint.

    Args:
      directory: holding `config.json` and `checkpoints/`.
      expected: the model's variables, or their shapes.
      step: a step number, "best" or "latest".
      weights: "raw", their moving average "ema", or "best": the average where there is one.

    Returns:
      (variables, step).

    Raises:
      DamagedError: a damaged checkpoint.
      UserError: no checkpoint there, no such step, no average in it, or tensors of another architecture.
    """
    folder = choose_step(directory, step)
    averaged = undamaged(folder, lambda: has_average(folder))
    if weights == "ema" and not averaged:
        raise UserError(
            f"{folder} holds no average of the weights: the run was trained without --config.optim.ema_decay"
        )
    item = "ema" if averaged and weights != "raw" else "variables"
    return _restore(folder, {item: expected})[item], int(folder.name)


def choose_step(directory: str | Path, step: int | str) -> Path:
    """The folder of one checkpoint of a run.

    Args:
      directory: of a run or a converted checkpoint.
      step: a step number, "best" or "latest".

    Raises:
      UserError: no checkpoint there, or none of that step; for "best", metrics that cannot be read.
    """
    folder = Path(directory).absolute() / CHECKPOINTS
    check_folder_name(folder, "\\")
    if not folder.is_dir():
        raise UserError(
            f"no checkpoint in {directory}: expected {CONFIG_FILE} and {CHECKPOINTS}/ as `a2j train` and "
            "`a2j convert` write them"
        )
    kept = {int(path.name): path for path in kept_checkpoints(folder.parent)}
    if not kept:
        raise UserError(f"no complete checkpoint in {folder}")
    if step == "latest":
        return kept[max(kept)]
    if step == "best":
        return kept[next(iter(best_of(ranking_metrics(directory))), max(kept))]
    if not str(step).isdecimal() or int(step) not in kept:
        raise UserError(
            f"no checkpoint of step {step} in {folder}; kept: {', '.join(map(str, kept))} (or best, latest)"
        )
    return kept[int(step)]


def undamaged(folder: Path, read: Callable[[], Any]) -> Any:
    """The result of a function that reads a checkpoint; its `DamagedError` gets the way to go on."""
    try:
        return read()
    except DamagedError as error:
        others = [p.name for p in kept_checkpoints(folder.parent.parent) if p != folder]
        fix = (
            f"delete that folder to use what else is kept (step {', '.join(others)})"
            if others
            else "it is the only one here: train into a new --workdir, or convert the weights again"
        )
        raise DamagedError(
            f"{folder}: this checkpoint is damaged or incomplete ({error}); {fix}"
        ) from error


def _restore(folder: Path, trees: dict[str, Any], json_items: Sequence[str] = ()) -> dict[str, Any]:
    """Restore parts of a checkpoint by name: trees in the shapes of those given, and JSON."""

    def read() -> dict[str, Any]:
        manifest = read_manifest(folder)
        if manifest is None:
            _say_unchecked(folder)
        else:
            manifest.check(folder, [*trees, *json_items])
        try:
            with quiet_after_failure():
                for item, tree in trees.items():
                    _check_structure(folder / item, tree)
                found = {
                    item: _read_item(folder / item, ocp.args.StandardRestore(_abstract(tree)))
                    for item, tree in trees.items()
                }
                for item in json_items:
                    there = item == "iterator" or (folder / item).exists()
                    found[item] = (
                        _read_item(folder / item, ocp.args.JsonRestore()) if there else None
                    )
                return found
        except UserError:
            raise
        except Exception as error:  # Orbax raises whatever its parsers do on a damaged file
            if was_interrupted(error):
                raise KeyboardInterrupt from error
            why = reason(error)
            if why == os.strerror(errno.EACCES):
                raise UserError(f"{folder}: no permission to read") from error
            raise DamagedError(first_line(error)) from error

    found: dict[str, Any] = undamaged(folder, read)
    return found


def _read_item(folder: Path, how: ocp.args.StandardRestore | ocp.args.JsonRestore) -> Any:
    json_item = isinstance(how, ocp.args.JsonRestore)
    handler = ocp.JsonCheckpointHandler() if json_item else ocp.StandardCheckpointHandler()
    with ocp.Checkpointer(handler) as checkpointer:
        return checkpointer.restore(folder, args=how)


@functools.cache
def _say_unchecked(folder: Path) -> None:
    logger.info(
        f"{folder}: was written without digests by an earlier version; damage would go unnoticed"
    )


def _check_structure(folder: Path, expected: Any) -> None:
    """Compare a tree on disk with the expected one: Orbax cuts or pads an array to the shape it is asked for.

    Raises:
      UserError: tensors missing from a checkpoint, unknown to the model or optimizer, or of another shape.
    """
    with ocp.StandardCheckpointer() as checkpointer:
        metadata = checkpointer.metadata(folder).item_metadata
    if metadata is None:
        raise ValueError(f"no tensors in {folder.name}")
    found, wanted = (
        {
            "/".join(map(str, name)): tuple(leaf.shape)
            for name, leaf in ocp.tree.to_flat_dict(tree).items()
            if hasattr(leaf, "shape")
        }
        for tree in (metadata.tree, expected)
    )
    differences = [
        f"{name} is {found.get(name, 'missing')}, expected {wanted.get(name, 'none')}"
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    ]
    if differences:
        holds, fix = (
            ("the state of another optimizer", "continue with the config it was trained with")
            if folder.name == "optimizer"
            else ("weights of another model", f"was {CONFIG_FILE} changed?")
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


def _placed(value: int, like: jax.Array) -> jax.Array:
    return put(jax.numpy.int32(value), like.sharding)
