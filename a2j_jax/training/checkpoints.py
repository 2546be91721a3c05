"""Checkpoints on disk: the one module that talks to Orbax.

A run directory holds `config.json` and `checkpoints/<step>/` with these items each: `variables` (parameters and
running statistics: all that inference needs), `ema` (their moving average, where one is kept), `optimizer`,
`iterator` (position in the data), `counters`, and the metrics that ranked the step, if it was evaluated. A
converted checkpoint has `variables` alone, and the same `config.json`.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import jax
import orbax.checkpoint as ocp
from absl import logging as absl_logging
from flax.traverse_util import flatten_dict
from jax.sharding import SingleDeviceSharding
from orbax.checkpoint.checkpoint_managers import preservation_policy

from a2j_jax.config import Config
from a2j_jax.errors import UserError
from a2j_jax.files import local_path
from a2j_jax.training.checkpoint_faults import (
    first_line,
    quiet_after_failure,
    reason,
    was_interrupted,
)
from a2j_jax.training.parallel import put
from a2j_jax.training.run_directory import (
    CHECKPOINTS,
    CONFIG_FILE,
    has_average,
    kept_checkpoints,
    rank,
    ranking_metrics,
    write_config,
)
from a2j_jax.training.state import TrainState

Weights = Literal["raw", "ema", "best"]

_COUNTERS = ("skipped", "skipped_in_a_row")  # of a `TrainState`

# Orbax narrates every save, and prints what it raises. Said to absl: it sets its logger's level anew now and then.
absl_logging.set_verbosity(absl_logging.FATAL)


class RunCheckpoints:
    """The checkpoints of one run: the latest is kept, and the best `keep_best` by `error`.

    Saves are asynchronous and become visible only when complete; `close` waits for the last one.
    """

    def __init__(self, workdir: str | Path, keep_best: int = 1):
        """Opens, or makes, the checkpoints of a run directory.

        Raises:
          UserError: metrics of a checkpoint that cannot be read.
        """
        ranking_metrics(workdir)
        self._quiet = contextlib.ExitStack()
        self._quiet.enter_context(quiet_after_failure())
        self.workdir = Path(workdir)
        directory = self.workdir.absolute() / CHECKPOINTS
        keep = preservation_policy.AnyPreservationPolicy(
            [
                preservation_policy.LatestN(1),
                preservation_policy.BestN(
                    get_metric_fn=rank,
                    reverse=True,
                    n=keep_best,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        self._manager = ocp.CheckpointManager(
            directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=keep,
                # Without `best_fn` metrics are not persisted, and the best step silently is the latest.
                best_fn=rank,
                best_mode="min",
                cleanup_tmp_directories=True,  # what a killed save has left
            ),
        )

    def latest_step(self) -> int | None:
        """Step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """Step of the checkpoint with the lowest error."""
        return self._manager.best_step()

    def save(
        self,
        state: TrainState,
        iterator_state: dict[str, Any],
        metrics: dict[str, float] | None,
    ) -> None:
        """Save everything a run needs to continue; without metrics it is not ranked, and kept while the latest.

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
        with self._told(f"the checkpoint of step {step} or the one before it"):
            self._manager.save(step, args=ocp.args.Composite(**items), metrics=metrics)

    def restore(self, state: TrainState, step: int) -> tuple[TrainState, dict[str, Any]]:
        """Restore a training state into the shapes and shardings of `state`, and the iterator's position.

        An average that a checkpoint does not have starts from the weights.

        Raises:
          UserError: tensors of another architecture, or a damaged checkpoint.
        """
        folder = Path(self._manager.directory) / str(step)
        items: dict[str, Any] = {
            "optimizer": ocp.args.StandardRestore(_abstract(state.opt_state)),
            "iterator": ocp.args.JsonRestore(),
        }
        if (folder / "counters").exists():
            items["counters"] = ocp.args.JsonRestore()
        if state.ema is not None and (folder / "ema").exists():
            items["ema"] = ocp.args.StandardRestore(_abstract(state.ema))
        try:
            found = _restore(self._manager, step, state.variables, **items)
        except UserError:
            self._quiet.pop_all()  # for good
            raise
        counters = (found.counters if "counters" in items else None) or {}
        ema = found.ema if "ema" in items else jax.tree.map(jax.numpy.copy, found.variables)
        restored = TrainState(
            step=_placed(step, state.step),
            params=found.variables["params"],
            batch_stats=found.variables["batch_stats"],
            opt_state=found.optimizer,
            ema=None if state.ema is None else ema,
            **{name: _placed(counters.get(name, 0), state.step) for name in _COUNTERS},
        )
        return restored, found.iterator

    def wait(self) -> None:
        """Block until the last save is complete.

        Raises:
          UserError: it failed.
        """
        with self._told("the last checkpoint"):
            self._manager.wait_until_finished()

    def check(self) -> None:
        """Look, without waiting, whether a save has failed.

        Raises:
          UserError: it did.
        """
        with self._told("the last checkpoint"):
            self._manager.check_for_errors()

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Says what became of a save that failed, and what is still there."""
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
            mend = "Make room and run" if why == os.strerror(errno.ENOSPC) else "Run"
            raise UserError(
                f"{folder}: {what} could not be saved ({why}); {there}. {mend} the same command again: it goes "
                "on from there"
            ) from error

    def close(self) -> None:
        """Finish pending saves and let go of the directory."""
        with contextlib.suppress(Exception):  # told by `wait`, or overtaken by a worse error
            self._manager.wait_until_finished()
        with contextlib.suppress(Exception):
            self._manager.close()
        self._quiet.close()


def save_variables(directory: str | Path, variables: dict[str, Any], config: Config) -> None:
    """Write a checkpoint for inference alone (what `a2j convert` makes).

    Raises:
      UserError: the folder already holds something.
    """
    directory = local_path(directory, "checkpoint")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"{directory} already exists; name a new folder")
    directory.mkdir(parents=True, exist_ok=True)
    with ocp.CheckpointManager(directory.absolute() / CHECKPOINTS) as manager:
        manager.save(0, args=ocp.args.Composite(variables=ocp.args.StandardSave(variables)))
        manager.wait_until_finished()
    write_config(directory, config)


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
      UserError: no checkpoint there, no such step, no average in it, tensors of another architecture, or a
        damaged file.
    """
    folder = Path(directory).absolute() / CHECKPOINTS
    if not folder.is_dir():
        raise UserError(
            f"no checkpoint in {directory}: expected {CONFIG_FILE} and {CHECKPOINTS}/ as `a2j train` and "
            "`a2j convert` write them"
        )
    ranking_metrics(directory)
    ranking = ocp.CheckpointManagerOptions(best_fn=rank, best_mode="min", read_only=True)
    with ocp.CheckpointManager(folder, options=ranking) as manager:
        chosen = _choose_step(manager, step, folder)
        averaged = has_average(directory, chosen)
        if weights == "ema" and not averaged:
            raise UserError(
                f"{folder / str(chosen)} holds no average of the weights: the run was trained without "
                "--config.optim.ema_decay"
            )
        item = "ema" if averaged and weights != "raw" else "variables"
        items = _restore(manager, chosen, expected, item)
    return items[item], chosen


def _choose_step(manager: ocp.CheckpointManager, step: int | str, folder: Path) -> int:
    steps = manager.all_steps()
    if not steps:
        raise UserError(f"no complete checkpoint in {folder}")
    if step == "latest":
        return int(max(steps))
    if step == "best":
        best = manager.best_step()
        return int(max(steps) if best is None else best)
    if int(step) not in steps:
        kept = ", ".join(str(s) for s in sorted(steps))
        raise UserError(f"no checkpoint of step {step} in {folder}; kept: {kept}")
    return int(step)


def _restore(
    manager: ocp.CheckpointManager,
    step: int,
    expected: dict[str, Any],
    item: str = "variables",
    **others: Any,
) -> Any:
    """Restore `item` in the shapes of `expected`, and others by their Orbax arguments."""
    where = Path(manager.directory) / str(step)
    wanted = {item: ocp.args.StandardRestore(_abstract(expected))}
    try:
        with quiet_after_failure():
            differences = _differences(where / item, expected)
            if not differences:
                return manager.restore(step, args=ocp.args.Composite(**wanted, **others))
    except Exception as error:  # of a damaged file Orbax raises whatever its parsers do
        if was_interrupted(error):
            raise KeyboardInterrupt from error
        others_kept = sorted(set(manager.all_steps()) - {step})
        fix = (
            f"delete that folder to use what else is kept (step {', '.join(map(str, others_kept))})"
            if others_kept
            else "it is the only one here: train into a new --workdir, or convert the weights again"
        )
        raise UserError(
            f"{where}: this checkpoint is damaged or incomplete ({first_line(error)}); {fix}"
        ) from error
    shown = "; ".join(differences[:3]) + ("; ..." if len(differences) > 3 else "")
    raise UserError(
        f"{where} holds weights of another model, {len(differences)} tensors differ ({shown}); was "
        f"{CONFIG_FILE} changed?"
    )


def _differences(folder: Path, expected: dict[str, Any]) -> list[str]:
    """Tensors missing from a checkpoint, unknown to the model, or of another shape.

    Orbax does not look: it cuts or pads an array to the shape it is asked for.
    """
    with ocp.StandardCheckpointer() as reader:
        metadata = reader.metadata(folder).item_metadata
    if metadata is None:
        raise ValueError("its list of tensors cannot be read")
    found, wanted = (
        {name: tuple(leaf.shape) for name, leaf in flatten_dict(dict(tree), sep="/").items()}
        for tree in (metadata.tree, expected)
    )
    return [
        f"{name} is {found.get(name, 'missing')}, expected {wanted.get(name, 'none')}"
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    ]


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
