"""`a2j plan`: the step it compiles, the program it reads, the bound, the search for the largest batch, the table."""

import dataclasses
import importlib.util
import json

import jax
import jax.numpy as jnp
import pytest

from a2j_jax.data import augment, pipeline
from a2j_jax.data.crops import abstract_batch, step_arrays
from a2j_jax.errors import UserError
from a2j_jax.lowering import lowering_for
from a2j_jax.runs.experiment import resolve
from a2j_jax.tools.planning import (
    CHIPS,
    GIB,
    Chip,
    Collective,
    Plan,
    Refusal,
    Target,
    Usage,
    bound,
    compile_step,
    count_gathers,
    find_target,
    make_plan,
    plan_largest,
    plan_table,
    read_program,
    refusal,
    run_steps,
    scaled,
    verdict,
)
from tests import tiny

CHIP = Chip(memory=1000, flops=100.0, memory_bandwidth=10.0, ports=4, port_bandwidth=2.0)
TARGET = Target("v5e:2x2", "tpu", (None,) * 4, memory=900, chip=CHIPS["v5e"], links=2)  # type: ignore[arg-type]
USAGE = Usage(
    arguments=300,
    outputs=250,
    aliased=240,
    temporaries=440,
    program=90,
    peak=840,
    flops=600.0,
    bytes_accessed=1e9,
    memory_traffic=40,
    padded_traffic=50,
    cycles=3000,
    collectives=(Collective("all-reduce", 3, 8, waiting=2),),
    gathered_indices=700,
    gathered_elements=2800,
)


def test_shapes_are_those_of_the_input_pipeline(tiny_data):
    track = resolve(tiny.config()).track
    batch = next(pipeline.train_batches(tiny_data, track, "train", 8, seed=0))
    placed = jax.device_put(step_arrays(batch))
    assert {name: (x.shape, x.dtype) for name, x in abstract_batch(track, 8).items()} == {
        name: (x.shape, x.dtype) for name, x in placed.items()
    }


@pytest.mark.slow
def test_the_state_is_among_the_arguments_and_rewritten_in_place():
    usage = compile_step(tiny.config(), find_target("cpu"))
    assert isinstance(usage, Usage)
    numbers = sum(x.size for x in jax.tree.leaves(tiny.variables()["params"]))
    weights_and_moments = 3 * 4 * numbers
    assert weights_and_moments < usage.aliased < 1.1 * weights_and_moments
    assert usage.aliased < usage.arguments < 1.1 * usage.aliased
    assert usage.temporaries > 0
    memory = usage.arguments + usage.outputs + usage.temporaries + usage.program
    assert usage.peak == memory - usage.aliased
    assert usage.collectives == ()
    assert sum(usage.traffic_of.values()) == usage.memory_traffic
    assert {"trunk", "trunk, backward", "heads"} <= usage.traffic_of.keys()
    assert usage.gathered_elements >= usage.gathered_indices > 4 * 8 * tiny.SIZE**2  # of the warp
    # Three times the forward pass, which is more than two operations per weight and cell.
    assert usage.flops > 3 * 8 * 2 * numbers


@pytest.mark.parametrize("turns", [1, 3])
def test_gathers_are_counted_as_often_as_they_run(turns):
    def rows(table, index):
        found = jax.lax.scan(lambda sums, i: (sums + table[i].sum(), None), 0.0, index)[0]
        return found + jax.jit(lambda x: x[:, index[0]])(table).sum()

    shapes = jax.ShapeDtypeStruct((8, 5), jnp.float32), jax.ShapeDtypeStruct((turns, 7), jnp.int32)
    program = jax.make_jaxpr(rows)(*shapes).jaxpr
    assert count_gathers(program) == (7 * turns + 7, 7 * 5 * turns + 7 * 8)


@pytest.mark.parametrize(("platform", "warp"), [("cpu", 4), ("tpu", 1)])
def test_a_crop_is_looked_up_by_rows_and_columns(platform, warp):
    """Beside the warp, an index for each row and column of the crop; 176 px are a sixth of one for each pixel."""
    track, size = resolve(tiny.config()).track, tiny.SIZE
    with lowering_for(platform):
        program = jax.make_jaxpr(lambda *x: augment.augment(*x, track))(
            abstract_batch(track, 2), augment.no_draws(2, track)
        )
    side = size + 2 * (track.margin + 1)
    elements = side * track.canvas_size + side**2 + 4 * size**2
    assert count_gathers(program.jaxpr) == (2 * (2 * side + warp * size**2), 2 * elements)


def test_the_bytes_that_the_compiler_names():
    found = refusal(
        "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required "
        "for HLO temporaries (17.50G) exceeds available HBM (15.75G). HLO module: jit_step.\nSee https://..."
    )
    assert found.needed == 17.5 * GIB
    assert found.said.startswith("E1000: CompileTimeHbmOom")
    assert "\n" not in found.said
    assert refusal("RESOURCE_EXHAUSTED: Used 20.00G of 15.75G hbm.").needed == 20 * GIB
    assert refusal("RESOURCE_EXHAUSTED: too much") == Refusal("too much")


# A compiled program as XLA prints it, cut to the parts that are read.
# Sizes in bytes: 4x8 f32 is 128, 16x8 bf16 is 256, 16 f32 is 64.
PROGRAM = """\
HloModule jit_step, is_scheduled=true, entry_computation_layout={(f32[4,8]{1,0})->f32[4,8]{1,0}}

%fused_computation (param_0.1: f32[4,8]) -> f32[4,8] {
  %param_0.1 = f32[4,8]{1,0:T(8,128)} parameter(0)
  ROOT %inner = f32[4,8]{1,0:T(8,128)} multiply(%param_0.1, %param_0.1)
}

%async_collective_fusion.1 (param_0.2: f32[4,8]) -> f32[4,8] {
  %param_0.2 = f32[4,8]{1,0:T(8,128)} parameter(0)
  ROOT %swapped = f32[4,8]{1,0:T(8,128)} all-to-all(%param_0.2), channel_id=7, dimensions={1}
}

%async_collective_done.1 (param_0.3: f32[4,8]) -> f32[4,8] {
  %param_0.3 = f32[4,8]{1,0:T(8,128)} parameter(0)
  ROOT %swapped.1 = f32[4,8]{1,0:T(8,128)} all-to-all(%param_0.3), channel_id=7, dimensions={1}
}

%rare (param_0.4: f32[4,8]) -> f32[4,8] {
  %param_0.4 = f32[4,8]{1,0:T(8,128)} parameter(0)
  ROOT %again = f32[4,8]{1,0:T(8,128)} negate(%param_0.4), backend_config={"estimated_cycles":"77"}
}

%body.1 (state: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %state = (s32[]{:T(128)}, f32[4,8]{1,0:T(8,128)}) parameter(0)
  %value = f32[4,8]{1,0:T(8,128)} get-tuple-element(%state), index=1
  %summed = f32[4,8]{1,0:T(8,128)} all-reduce(%value), channel_id=3, replica_groups={{0,1}}, to_apply=%add.27
  %count = s32[]{:T(128)S(1)} add(%one, %one), backend_config={"estimated_cycles":"10"}
  ROOT %next = (s32[]{:T(128)}, f32[4,8]{1,0:T(8,128)}) tuple(%count, %summed)
}

ENTRY %main.9 (weights: f32[4,8], rows: bf16[16,8]) -> (f32[4,8]) {
  %weights = f32[4,8]{1,0:T(8,128)} parameter(0), sharding={replicated}
  %rows = bf16[16,8]{1,0:T(8,128)(2,1)} parameter(1), metadata={op_name="batch['canvas']"}
  %near = f32[4,8]{1,0:T(8,128)S(1)} fusion(%weights), kind=kLoop, calls=%fused_computation
  %far = f32[4,8]{1,0:T(8,128)} fusion(%near, %weights), calls=%fused_computation, config={"estimated_cycles":"1000"}
  %either = f32[4,8]{1,0:T(8,128)} conditional(%near, %weights), branch_computations={%usual, %rare}
  %copy-start.1 = (f32[4,8]{1,0:T(8,128)S(1)}, f32[4,8]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%far)
  %copy-done.1 = f32[4,8]{1,0:T(8,128)S(1)} copy-done(%copy-start.1)
  %slice-start.1 = ((bf16[16,8]{1,0:T(8,128)(2,1)}), bf16[4,8]{1,0:T(8,128)(2,1)S(1)}, s32[]{:S(2)}) slice-start(%rows)
  %slice-done.1 = bf16[4,8]{1,0:T(8,128)(2,1)S(1)} slice-done(%slice-start.1)
  %moments = (f32[16]{0:T(128)S(1)}, /*index=1*/f32[16]{0:T(128)S(1)}) all-reduce(%near, %near), to_apply=%add.27
  %gather-start = (f32[4,8]{1,0}, f32[8,8]{1,0}) all-gather-start(%far), dimensions={0}
  %gather-done = f32[8,8]{1,0} all-gather-done(%gather-start)
  %while.1 = (s32[]{:T(128)}, f32[4,8]{1,0:T(8,128)}) while(%start), condition=%condition.1, body=%body.1
  ROOT %done = (f32[4,8]{1,0:T(8,128)}) tuple(%far)
}
"""


@pytest.mark.parametrize("turns", [1, 5])
def test_exchanges_and_traffic_of_a_program(turns):
    """Exchanges are counted by their results, traffic is what kernels read and write off the chip."""
    program = read_program(PROGRAM, turns)
    traffic, found = program.traffic_of, program.collectives
    sums = 2 * 64 + turns * 128
    assert set(found) == {
        # A tuple of two moments of 64 bytes, and the loop's array of 128.
        Collective("all-reduce", 1 + turns, sums, waiting=sums),
        Collective("all-gather", 1, 256),  # of a start, the result and not the operand
        Collective("all-to-all", 1, 128),  # of kernels that overlap it, once
    }
    assert found[0].bytes >= found[1].bytes
    kernels = {
        "near: reads the weights, writes on the chip": 128,
        "far: reads the weights, writes": 2 * 128,
        "copy: reads far": 128,
        "slice: reads a quarter of the rows": 64,
        "moments: on the chip": 0,
        "gather: its operand and its result": 128 + 256,
    }
    in_the_loop = 2 * 128  # reads and writes what is summed
    # The rows' array is named; nothing is known of the others.
    assert traffic == {"other": sum(kernels.values()) + turns * in_the_loop}
    # Tiles of 8 x 128 are 4,096 bytes of float32, twice as many rows of bfloat16 as the slice has.
    tiles = 4096 * (1 + 2 + 1 + 2 * turns) + 2048 + 128 + 256
    assert program.padded_traffic == tiles
    assert program.cycles == 1000 + 10 * turns
    # The insides of a kernel cost nothing.
    without = PROGRAM.replace("multiply(%param_0.1, %param_0.1)", "negate(%param_0.1)")
    assert read_program(without) == read_program(PROGRAM)


def test_traffic_belongs_to_the_parts_of_a_step():
    kernels = {
        "trunk": "jit(step)/jvp(A2J)/trunk/layer1_block0/conv1/conv_general_dilated",
        "trunk, backward": "jit(step)/transpose(jvp(A2J))/trunk/conv1/reduce_sum",
        "batch norm": "jit(step)/jvp(A2J)/trunk/layer2_block0/downsample_bn/mul",
        "batch norm, backward": "jit(step)/transpose(jvp(A2J))/offset_head/bn3/sub",
        "heads": "jit(step)/jvp(A2J)/depth_head/output/add",
        "aggregation, losses": "jit(step)/jvp(losses)/exp",
        "augmentation": "jit(step)/prepare/vmap(jit(warp))/gather",
        "optimizer": "jit(step)/optimizer/sqrt",
        "other": "copy",
    }
    lines = [
        f'  %k{i} = f32[{i + 1}]{{0}} negate(), metadata={{op_name="{name}" source_line=7}}'
        for i, name in enumerate(kernels.values())
    ]
    program = "\n".join(["ENTRY %main (x: f32[]) -> f32[] {", *lines, "}", ""])
    assert read_program(program).traffic_of == {part: 4 * (i + 1) for i, part in enumerate(kernels)}
    assert next(iter(read_program(program).traffic_of)) == "other"  # the largest first


@pytest.mark.parametrize(
    ("shape", "size"),
    [("pred[3,5]{1,0}", 15), ("u16[]", 2), ("f8e4m3fn[8]{0}", 8), ("s4[6]{0}", 3), ("f64[2]", 16)],
)
def test_sizes_by_dtype(shape, size):
    program = f"ENTRY %main (x: f32[]) -> f32[] {{\n  %y = {shape} all-to-all(%x)\n}}\n"
    assert read_program(program).collectives == (Collective("all-to-all", 1, size, waiting=size),)


def test_the_bound_and_its_terms():
    target = dataclasses.replace(TARGET, chip=CHIP)
    found = bound(USAGE, target)
    assert found is not None
    assert (found.compute, found.memory) == (6.0, 5.0)
    assert found.interconnect == 2 * 3 / 4 * 8 / (2 * 2.0)
    assert (found.waiting, found.seconds, found.binds) == (0.75, 6.75, "compute")
    slow = bound(dataclasses.replace(USAGE, padded_traffic=80), target)
    alone = bound(dataclasses.replace(USAGE, collectives=()), dataclasses.replace(target, links=0))
    assert slow is not None
    assert alone is not None
    assert (slow.binds, alone.interconnect) == ("memory", 0)
    assert bound(USAGE, dataclasses.replace(target, chip=None)) is None


def test_bytes_that_must_leave_a_chip():
    """Of 4 chips with results of 8 bytes.

    A sum is collected and given out again, a gather is given out, and of a scatter each sends what belongs to others.
    """
    sent = {"all-reduce": 12, "all-gather": 6, "reduce-scatter": 24, "collective-permute": 8}
    assert {kind: Collective(kind, 1, 8).sent(devices=4) for kind in sent} == sent


def test_plans_and_their_json():
    plan = make_plan(USAGE, 64, TARGET, steps=30).with_host_cores(440)
    assert plan.images_per_second is not None
    assert plan.host_cores == pytest.approx(4 * plan.images_per_second / 2_900)
    assert (plan.needed, plan.memory, plan.fits) == (840, 900, True)
    assert plan.bound is not None
    assert plan.images_per_second == 64 / plan.bound.seconds
    assert plan.hours == 30 * plan.bound.seconds / 3600
    found = json.loads(json.dumps(dataclasses.asdict(plan)))
    assert found["usage"]["peak"] == found["needed"] == 840
    assert found["bound"]["binds"] in ("compute", "memory", "interconnect")
    # A program that compiles may be too large.
    for memory, fits in ((800, False), (None, None)):
        assert make_plan(USAGE, 64, dataclasses.replace(TARGET, memory=memory)).fits is fits
    refused = make_plan(Refusal("no room", 920), 72, TARGET)
    assert refused.fits is False
    assert (refused.needed, refused.usage, refused.bound, refused.hours) == (920, None, None, None)
    assert dataclasses.asdict(refused)["refusal"] == {"said": "no room", "needed": 920}


@pytest.mark.parametrize(
    ("batch_size", "frames", "optim", "steps"),
    [
        (64, 1000, {}, 30),  # 15 full batches in an epoch
        (1000, 1000, {}, 2),
        (1024, 1000, {}, None),  # training refuses that
        (64, None, {}, None),
        (64, 1000, {"steps": 7}, 7),
    ],
)
def test_steps_of_a_run(batch_size, frames, optim, steps):
    config = tiny.config(batch_size=batch_size, **{"steps": None, "epochs": 2, **optim})
    assert run_steps(config, frames) == steps


@pytest.mark.parametrize(
    ("limit", "start", "most", "sizes"),
    [
        (10_000, 16, 50, [16, 32, 48]),
        (0, 16, 1000, [16, 8, 4]),
        (71, 16, 1000, [16, 32, 64, 128, 96, 80, 72]),
        (300, 10, 10_000, [12, 24, 48, 96, 192, 384, 288, 336, 312]),
        (300, 640, 10_000, [640, 320, 160, 240, 280, 300]),
    ],
)
def test_sizes_that_the_search_tries(limit, start, most, sizes):
    tried: list[int] = []

    def make(size: int) -> Plan:
        tried.append(size)
        return Plan(size, 1, None, fits=size <= limit)

    plans = plan_largest(make, start, 4, most)
    assert tried == sizes
    assert [plan.batch_size for plan in plans] == sorted(tried)


def test_the_table():
    plans = [make_plan(USAGE, 64, TARGET, 30), make_plan(Refusal("no room", 920), 72, TARGET, 26)]
    table = plan_table("tiny", plans)
    cells = {row[0]: row[1:] for row in table.rows}
    assert table.columns[1:] == ("batch 64", "batch 72")
    assert cells["batch, per chip"] == ("16", "18")
    assert cells["gathered indices"] == ("700", "–")
    assert cells["all-reduce"] == ("3 ×, 8 B", "–")
    assert cells["steps"] == ("30", "26")
    assert cells["step ≥"][1] == "–"
    assert "not a measurement" in table.notes[0]
    assert table.notes[1] == "Batch 72: no room"


def test_verdicts_and_large_numbers():
    for needed, memory, fits, said in (
        (1 * GIB, 3 * GIB, True, "fits, 2.0 GiB free"),
        (5 * GIB, 3 * GIB, False, "2.0 GiB too much"),
        (None, 3 * GIB, False, "does not fit"),
        (1 * GIB, None, None, "–"),
    ):
        assert verdict(Plan(4, 1, memory, needed=needed, fits=fits)) == said
    shown = [scaled(value, "B") for value in (8, 2.165e12, 1.69e16)]
    assert shown == ["8 B", "2.17 TB", "1.69e+04 TB"]


def test_chips():
    """Figures are in the right units; ports that lead to another chip are counted."""
    for chip in CHIPS.values():
        assert 15 * GIB < chip.memory < 100 * GIB
        assert 1e14 < chip.flops < 1e15
        assert 8e11 < chip.memory_bandwidth < 3e12
        assert 4e10 < chip.port_bandwidth < 1.1e11
    assert [CHIPS["v5e"].links(sides) for sides in ((1, 1), (2, 2), (4, 4))] == [0, 2, 4]
    assert [CHIPS["v5p"].links(sides) for sides in ((2, 2, 1), (4, 4, 4))] == [2, 6]


@pytest.mark.parametrize(
    "name", ["v5e:3x3", "v5e:0x2", "v5e", "v9:2x2", "cpu:0", "cpu:two", "tpu", ""]
)
def test_unknown_topologies_are_refused_with_a_list(name):
    with pytest.raises(UserError) as refused:
        find_target(name)
    known = [f"{kind}: {', '.join(chip.slices)}" for kind, chip in CHIPS.items()]
    assert all(text in str(refused.value) for text in (repr(name), *known))


def test_the_cpu_shares_the_memory_of_the_machine():
    target = find_target("cpu")
    assert (target.platform, target.devices, target.chip) == ("cpu", (jax.devices()[0],), None)
    assert target.memory is not None
    assert target.memory > 2**28


@pytest.mark.parametrize(
    ("name", "said"), [("cpu:9999", "CPU devices only"), ("gpu", r"a2j-jax\[cuda\]")]
)
def test_devices_that_are_not_here(name, said):
    with pytest.raises(UserError, match=said):
        find_target(name)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed")
def test_without_libtpu_the_extra_is_named():
    with pytest.raises(UserError, match=r"a2j-jax\[tpu\]"):
        find_target("v5e:2x2")
