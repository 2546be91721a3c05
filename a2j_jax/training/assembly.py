"""Earlier names for the parts of an experiment, for programs that use them; see `a2j_jax.runs.experiment.resolve`."""

from typing import Any

from a2j_jax.config import Config
from a2j_jax.models.a2j import PoseNetwork, variable_shapes
from a2j_jax.runs.experiment import make_model, resolve
from a2j_jax.tracks import TrackSpec


def track_of(config: Config) -> TrackSpec:
    """The track of a config: `resolve(config).track`."""
    return resolve(config).track


def model_of(config: Config, track: TrackSpec) -> PoseNetwork:
    """The network of a config for the joints of a track."""
    return make_model(config.model, track)


def expected_variables(model: PoseNetwork, track: TrackSpec) -> Any:
    """Shapes and dtypes of a network's variables."""
    return variable_shapes(model, track.crop_size)
