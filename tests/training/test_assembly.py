"""Earlier names still give the parts of an experiment."""

from a2j_jax.runs.experiment import resolve
from a2j_jax.training import assembly
from tests import tiny


def test_they_are_those_of_the_experiment() -> None:
    config = tiny.config()
    experiment = resolve(config)
    track = assembly.track_of(config)
    assert track == experiment.track
    model = assembly.model_of(config, track)
    assert model == experiment.model
    assert assembly.expected_variables(model, track) == tiny.shapes(model)
