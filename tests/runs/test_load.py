"""Starting from another run's weights."""

import dataclasses
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


def test_another_trunk_is_refused(hands: Path) -> None:
    model = dataclasses.replace(tiny.config().model, width=4)
    config = dataclasses.replace(tiny.config(), model=model)
    other = tiny.made_up(tiny.shapes(resolve(config).model))
    with pytest.raises(UserError, match="trunk is a resnet18 of width 8, another"):
        variables_from(hands, other)
