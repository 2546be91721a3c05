"""Exchanges and traffic, read off a program whose numbers can be counted by hand."""

import pytest

from a2j_jax.tools.hlo import Collective, collectives_of, memory_traffic
from tests.planning.hlo_text import PROGRAM


def test_exchanges_are_counted_by_their_results() -> None:
    found = {one.kind: one for one in collectives_of(PROGRAM)}
    # A tuple of two moments of 64 bytes, and the loop's array of 128.
    assert found["all-reduce"] == Collective("all-reduce", 2, 2 * 64 + 128)
    # Of a start, the result and not the operand.
    assert found["all-gather"] == Collective("all-gather", 1, 256)
    assert [one.bytes for one in collectives_of(PROGRAM)] == [256, 256]


def test_what_a_loop_exchanges_counts_every_turn() -> None:
    found = {one.kind: one for one in collectives_of(PROGRAM, turns=5)}
    assert found["all-reduce"] == Collective("all-reduce", 6, 2 * 64 + 5 * 128)
    assert found["all-gather"].count == 1


@pytest.mark.parametrize("turns", [1, 5])
def test_traffic_is_what_kernels_read_and_write_off_the_chip(turns: int) -> None:
    kernels = {
        "near: reads the weights, writes on the chip": 128,
        "far: reads the weights, writes": 2 * 128,
        "copy: reads far": 128,
        "slice: reads a quarter of the rows": 64,
        "moments: on the chip": 0,
        "gather: its operand and its result": 128 + 256,
    }
    in_the_loop = 2 * 128  # reads and writes what is summed
    assert memory_traffic(PROGRAM, turns) == sum(kernels.values()) + turns * in_the_loop


def test_the_insides_of_a_kernel_cost_nothing() -> None:
    without = PROGRAM.replace("multiply(%param_0.1, %param_0.1)", "negate(%param_0.1)")
    assert memory_traffic(without) == memory_traffic(PROGRAM)


@pytest.mark.parametrize(
    ("shape", "size"),
    [("pred[3,5]{1,0}", 15), ("u16[]", 2), ("f8e4m3fn[8]{0}", 8), ("s4[6]{0}", 3), ("f64[2]", 16)],
)
def test_sizes_by_dtype(shape: str, size: int) -> None:
    program = f"ENTRY %main (x: f32[]) -> f32[] {{\n  %y = {shape} all-to-all(%x)\n}}\n"
    assert collectives_of(program) == (Collective("all-to-all", 1, size),)
