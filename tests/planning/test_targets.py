"""Topologies by name, and what is said of those that are not there."""

import importlib.util

import jax
import pytest

from a2j_jax.errors import UserError
from a2j_jax.tools.tpu import CHIPS, find_target, known_topologies


@pytest.mark.parametrize(
    "name", ["v5e:3x3", "v5e:0x2", "v5e", "v9:2x2", "cpu:0", "cpu:two", "tpu", ""]
)
def test_unknown_topologies_are_refused_with_a_list(name: str) -> None:
    with pytest.raises(UserError, match="v5e: 1x1, 2x2, 2x4, 4x4") as refused:
        find_target(name)
    assert repr(name) in str(refused.value)


def test_the_list_names_every_slice() -> None:
    for chip in CHIPS.values():
        assert f"{chip.name}: {', '.join(chip.slices)}" in known_topologies()


def test_the_cpu_shares_the_memory_of_the_machine() -> None:
    target = find_target("cpu")
    assert (target.platform, target.devices, target.chip) == ("cpu", (jax.devices()[0],), None)
    assert target.memory is not None
    assert target.memory > 2**28


def test_devices_that_are_not_here() -> None:
    with pytest.raises(UserError, match="CPU devices already"):
        find_target(f"cpu:{len(jax.devices()) + 1}")
    with pytest.raises(UserError, match="a2j-jax\\[cuda\\]"):
        find_target("gpu")


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed")
def test_without_libtpu_it_says_what_to_install() -> None:
    with pytest.raises(UserError, match="pip install 'a2j-jax\\[tpu\\]'"):
        find_target("v5e:2x2")
