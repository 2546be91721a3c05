"""The bound by hand, and its three terms."""

import dataclasses

import pytest

from a2j_jax.tools.hlo import Collective, Usage
from a2j_jax.tools.planning import bound, bytes_sent
from a2j_jax.tools.tpu import CHIPS, Chip

CHIP = Chip(
    "made up",
    memory=1000,
    flops=100.0,
    memory_bandwidth=10.0,
    ports=4,
    port_bandwidth=2.0,
    slices=(),
)
USAGE = Usage(
    arguments=300,
    outputs=250,
    aliased=240,
    temporaries=500,
    program=90,
    flops=600.0,
    bytes_accessed=1e9,
    memory_traffic=50,
    collectives=(Collective("all-reduce", 3, 8),),
)


def test_the_terms_and_the_one_that_binds() -> None:
    found = bound(USAGE, CHIP, devices=4, links=2)
    assert (found.compute, found.memory) == (6.0, 5.0)
    assert found.interconnect == 2 * 3 / 4 * 8 / (2 * 2.0)
    assert (found.seconds, found.binds) == (6.0, "compute")
    slow = dataclasses.replace(USAGE, memory_traffic=70)
    assert bound(slow, CHIP, devices=4, links=2).binds == "memory"


def test_one_chip_has_nothing_to_send() -> None:
    alone = dataclasses.replace(USAGE, collectives=())
    assert bound(alone, CHIP, devices=1, links=0).interconnect == 0


@pytest.mark.parametrize(
    ("kind", "sent"),
    # Of 4 chips with results of 8 bytes: a sum is collected and given out again, a gather is given
    # out, and of a scatter every chip sends what is the others'.
    [("all-reduce", 12), ("all-gather", 6), ("reduce-scatter", 24), ("collective-permute", 8)],
)
def test_bytes_that_must_leave_a_chip(kind: str, sent: float) -> None:
    assert bytes_sent(Collective(kind, 1, 8), devices=4) == sent


def test_an_all_reduce_is_a_scatter_and_a_gather() -> None:
    both = (
        bytes_sent(Collective("reduce-scatter", 1, 2), 4),
        bytes_sent(Collective("all-gather", 1, 8), 4),
    )
    assert bytes_sent(Collective("all-reduce", 1, 8), 4) == sum(both)


def test_peak_memory_counts_what_is_rewritten_once() -> None:
    assert USAGE.peak == 300 + (250 - 240) + 500 + 90


@pytest.mark.parametrize(
    ("name", "sides", "links"),
    [
        ("v5e", (1, 1), 0),
        ("v5e", (2, 2), 2),
        ("v5e", (4, 4), 4),
        ("v5p", (2, 2, 1), 2),
        ("v5p", (4, 4, 4), 6),
    ],
)
def test_ports_that_lead_somewhere(name: str, sides: tuple[int, ...], links: int) -> None:
    assert CHIPS[name].links(sides) == links


def test_chips_are_in_the_right_units() -> None:
    for chip in CHIPS.values():
        assert 15 * 2**30 < chip.memory < 100 * 2**30
        assert 1e14 < chip.flops < 1e15
        assert 8e11 < chip.memory_bandwidth < 3e12
        assert 4e10 < chip.port_bandwidth < 1.1e11
