"""A run or a converted checkpoint, ready to predict."""

from pathlib import Path
from typing import Any, NamedTuple

from flax.traverse_util import flatten_dict, unflatten_dict

from a2j_jax.config import Config
from a2j_jax.errors import UserError
from a2j_jax.files import local_path
from a2j_jax.models.a2j import PoseNetwork
from a2j_jax.tracks import TrackSpec
from a2j_jax.training import assembly
from a2j_jax.runs.checkpoints import Weights, choose_step, load_variables, undamaged
from a2j_jax.training.resume import check_recorded
from a2j_jax.runs.run_dir import has_average, read_config, run_and_step
from a2j_jax.weights.convert import say_initialised


class Restored(NamedTuple):
    """A trained network with what it was trained on and for."""

    model: PoseNetwork
    variables: dict[str, Any]
    track: TrackSpec
    config: Config
    step: int
    averaged: bool  # whether the variables are the moving average


def restore(directory: str | Path, step: int | str = "best", weights: Weights = "best") -> Restored:
    """Load a work directory of `a2j train`, or what `a2j convert` made.

    Args:
      directory: holding `config.json` and `checkpoints/`.
      step: a step number, "best" or "latest".
      weights: "raw", their moving average "ema", or "best": the average where one was kept.

    Raises:
      UserError: nothing there, no such step, no average, a damaged checkpoint, a `config.json` that was changed since,
        or tensors of another architecture.
    """
    directory = local_path(directory, "checkpoint")
    config = read_config(directory)
    folder = choose_step(directory, step)
    undamaged(folder, lambda: check_recorded(folder, config))
    track = assembly.track_of(config)
    model = assembly.make_model(config, track)
    expected = assembly.expected_variables(model, track)
    variables, found = load_variables(directory, expected, int(folder.name), weights)
    averaged = weights != "raw" and has_average(folder)
    return Restored(model, variables, track, config, found, averaged)


def variables_from(source: str | Path, variables: dict[str, Any]) -> dict[str, Any]:
    """Start from another run's weights, as `--config.model.init_from=RUN@STEP` does; says what was taken.

    The trunk has to be the same. Of the heads, what is not there or has another shape (another number of joints)
    stays as it is.

    Args:
      source: a work directory of `a2j train`, or what `a2j convert` made, alone (its best step) or as FOLDER@STEP: a
        number, best or latest.
      variables: freshly initialised {"params", "batch_stats"}.

    Raises:
      UserError: nothing there, or a trunk of another architecture.
    """
    directory, step = run_and_step(source)
    found = restore(directory, step)
    there = flatten_dict(found.variables, sep="/")
    fresh = flatten_dict(variables, sep="/")
    fits = {name for name, x in fresh.items() if name in there and there[name].shape == x.shape}
    other = sorted(name for name in fresh if name not in fits)
    if any("/trunk/" in name for name in other):
        raise UserError(
            f"--config.model.init_from={source}: its trunk is a {found.config.model.backbone} of width "
            f"{found.config.model.width}, another one than this config's"
        )
    unused = sorted({name.split("/")[1] for name in there if name not in fresh})
    say_initialised(f"{directory}, step {found.step}", len(fits), other, unused)
    started: dict[str, Any] = unflatten_dict(
        {name: there[name] if name in fits else x for name, x in fresh.items()}, sep="/"
    )
    return started
