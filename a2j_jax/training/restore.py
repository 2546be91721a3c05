"""A run or a converted checkpoint, ready to predict."""

from pathlib import Path
from typing import Any, NamedTuple

from a2j_jax.config import Config
from a2j_jax.models.a2j import A2J
from a2j_jax.tracks import TrackSpec
from a2j_jax.training import assembly
from a2j_jax.training.checkpoints import load_variables, read_config


class Restored(NamedTuple):
    """A trained network with what it was trained on and for."""

    model: A2J
    variables: dict[str, Any]
    track: TrackSpec
    config: Config
    step: int


def restore(directory: str | Path, step: int | str = "best") -> Restored:
    """Load a work directory of `a2j train`, or what `a2j convert` made.

    Args:
      directory: holding `config.json` and `checkpoints/`.
      step: a step number, "best" or "latest".

    Raises:
      UserError: nothing there, no such step, or tensors of another architecture.
    """
    config = read_config(directory)
    track = assembly.track_of(config)
    model = assembly.model_of(config, track)
    expected = assembly.expected_variables(model, track)
    variables, found = load_variables(directory, expected, step)
    return Restored(model, variables, track, config, found)
