"""Starting from another run's weights."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from a2j_jax.errors import UserError
from a2j_jax.runs.checkpoints import save_variables
from a2j_jax.runs.experiment import resolve
from a2j_jax.runs.load import variables_from
from tests import tiny


@pytest.fixture
def hands(tmp_path: Path) -> Path:
    save_variables(tmp_path / "hands", tiny.variables(), tiny.config())
    return tmp_path / "hands"


def fresh(track: str = "synthetic_hand") -> Any:
    return tiny.variables(track, seed=1)


def test_a_run_of_the_same_network_gives_all_of_it(hands: Path) -> None:
    assert tiny.same(variables_from(hands, fresh()), tiny.variables())


def test_other_joints_start_afresh_and_are_named(
    hands: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """ICVL has 16 joints where the rendered hands have 21: only the heads' last layers know."""
    before, after = (
        flatten_dict(tree, sep="/")
        for tree in (fresh("icvl"), variables_from(hands, fresh("icvl")))
    )
    there = flatten_dict(tiny.variables(), sep="/")
    left = {name for name in before if np.array_equal(before[name], after[name])}
    assert left == {
        f"params/{head}_head/output/{kind}"
        for head in ("proposal", "offset", "depth")
        for kind in ("kernel", "bias")
    }
    assert all(np.array_equal(after[name], there[name]) for name in set(after) - left)
    said = " ".join(capsys.readouterr().err.split())
    assert "left as initialized: depth_head (2 tensors), offset_head" in said


def another_trunk() -> Any:
    """Variables of a narrower network."""
    model = dataclasses.replace(tiny.config().model, width=4)
    config = dataclasses.replace(tiny.config(), model=model)
    return tiny.made_up(tiny.shapes(resolve(config).model))


def renamed(variables: Any, layers: dict[str, str]) -> Any:
    """The same variables, modules under other names."""
    return {
        group: {layers.get(name, name): x for name, x in parts.items()}
        for group, parts in variables.items()
    }


def fewer_layers() -> Any:
    """The trunk of a shallower network: what it has, the run has, too."""
    variables = fresh()
    for group in variables.values():
        group["trunk"] = {k: x for k, x in group["trunk"].items() if k != "layer4_1"}
    return variables


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(another_trunk, id="of another width"),
        pytest.param(fewer_layers, id="of fewer layers"),
        pytest.param(lambda: renamed(fresh(), {"trunk": "Encoder_0"}), id="heads alone fit"),
        pytest.param(
            lambda: {"params": {"Dense_0": {"kernel": np.zeros((3, 3), np.float32)}}},
            id="nothing fits",
        ),
    ],
)
def test_another_trunk_is_refused(hands: Path, other: Callable[[], Any]) -> None:
    with pytest.raises(UserError, match=r"model\.init_from=.*trunk"):
        variables_from(hands, other())


@pytest.mark.parametrize(
    ("layers", "fits"),
    [
        pytest.param({"Dense_0": "output"}, True, id="one layer fits"),
        pytest.param({"Dense_0": "output", "Conv_0": "offset_head"}, False, id="none fits"),
    ],
)
def test_of_networks_without_a_trunk_one_layer_beside_the_heads_must_fit(
    tmp_path: Path, layers: dict[str, str], fits: bool
) -> None:
    config = dataclasses.replace(tiny.config(), parts="tests.own_parts:parts")
    shapes = tiny.shapes(resolve(config).model)
    save_variables(tmp_path, tiny.made_up(shapes), config)
    wanted = renamed(tiny.made_up(shapes, seed=1), layers)
    if not fits:
        with pytest.raises(UserError, match=r"model\.init_from=.*trunk"):
            variables_from(tmp_path, wanted)
        return
    started = variables_from(tmp_path, wanted)
    assert tiny.same(started["params"]["Conv_0"], tiny.made_up(shapes)["params"]["Conv_0"])
    assert tiny.same(started["params"]["output"], wanted["params"]["output"])
