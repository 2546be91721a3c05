"""What a run starts from: a whole network or an ImageNet trunk, told apart by its names."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from a2j_jax.config import Config
from a2j_jax.errors import UserError
from a2j_jax.tracks import get_track
from a2j_jax.weights.convert import official_from_variables
from a2j_jax.weights.files import write_state_dict
from a2j_jax.weights.load import initial_variables
from tests import tiny

TRACK = get_track("synthetic_hand")


def starting_from(path: Path) -> Config:
    config = tiny.config()
    return dataclasses.replace(config, model=dataclasses.replace(config.model, init_from=str(path)))


@pytest.fixture(scope="module")
def official() -> dict[str, np.ndarray]:
    return official_from_variables(
        tiny.variables(seed=1), backbone="resnet18", joint_dims=3, head_depth=1
    )


def load(path: Path, tensors: dict[str, np.ndarray]) -> Any:
    write_state_dict(path, tensors)
    return initial_variables(starting_from(path), TRACK, tiny.variables())


def test_a_whole_network(tmp_path: Path, official: dict[str, np.ndarray]) -> None:
    loaded = load(tmp_path / "w.safetensors", official)
    assert tiny.same(loaded, tiny.variables(seed=1))


def test_a_trunk(tmp_path: Path, official: dict[str, np.ndarray]) -> None:
    prefix = "Backbone.model."
    trunk = {k.removeprefix(prefix): v for k, v in official.items() if k.startswith(prefix)}
    loaded = load(tmp_path / "w.npz", trunk)
    assert tiny.same(loaded["params"]["trunk"], tiny.variables(seed=1)["params"]["trunk"])
    assert tiny.same(loaded["params"]["depth_head"], tiny.variables()["params"]["depth_head"])


def test_what_does_not_fit_names_the_file(tmp_path: Path, official: dict[str, np.ndarray]) -> None:
    name, _ = official.popitem()
    with pytest.raises(UserError, match=rf"w\.npz does not fit this model; 1 missing: {name}"):
        load(tmp_path / "w.npz", official)
