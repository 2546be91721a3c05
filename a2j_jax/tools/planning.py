"""`a2j plan`: memory, work and a bound on the speed of a config's training step, on chips that need not be here.

The step is compiled from shapes alone. Three things bound its time even if the others hide behind them perfectly:
arithmetic at the matrix units' peak, memory traffic at full bandwidth, and exchanges between chips over all links.
Latencies, kernels that wait for each other, and input are not included. `find_target` names the devices; the figures
of chips are their vendor's.
"""

import contextlib
import dataclasses
import math
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import optax
from jax.experimental import topologies
from jax.extend.core import Jaxpr, jaxprs_in_params

from a2j_jax.config import LARGEST_BATCH, Config
from a2j_jax.data.crops import abstract_batch
from a2j_jax.errors import UserError
from a2j_jax.evaluation.tables import ABSENT, Table
from a2j_jax.log import clock, logger
from a2j_jax.lowering import lowering_for, preset_flags
from a2j_jax.models.a2j import init_variables
from a2j_jax.runs import sharding
from a2j_jax.runs.experiment import resolve
from a2j_jax.runs.sharding import TrainState
from a2j_jax.tracks import PUBLISHED_FRAMES
from a2j_jax.training.logs import PEAK_FLOPS
from a2j_jax.training.step import experiment_step, optimizer_of
from tfds_builders.rendered import EMBEDDED

GIB = 2**30
_GBIT = 1e9 / 8  # vendors give the interconnect of a chip in Gbit/s, one way, over all its ports


@dataclass(frozen=True)
class Chip:
    """Published figures of one TPU chip.

    The peak of the matrix units on bfloat16 holds for float32 networks too: by JAX's default precision a TPU multiplies
    float32 in one pass of bfloat16 and adds up in float32.
    """

    memory: int  # bytes of HBM that a program may fill, by the compiler: it refuses anything above
    flops: float  # peak FLOP/s of the matrix units on bfloat16
    memory_bandwidth: float  # bytes/s between HBM and the cores
    ports: int  # links to neighboring chips
    port_bandwidth: float  # bytes/s that leave through one of them
    slices: tuple[str, ...] = ()  # shapes it is rented in, chips by axis
    topology_options: tuple[tuple[str, str], ...] = ()  # of `jax.experimental.topologies`
    clock: float | None = None  # Hz: the peak over what the matrix units do in a cycle

    def links(self, sides: tuple[int, ...]) -> int:
        """Ports that lead to another chip, for a chip in the middle of a slice of this shape."""
        return min(self.ports, sum(min(side - 1, 2) for side in sides))


_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16")
# Two cores that share their work and memory, as v4 and v5p are used: one device per chip.
_MEGACORE = (("chip_config_name", "megacore"),)

CHIPS = {
    # https://cloud.google.com/tpu/docs/v5e: 197 TFLOP/s, 16 GB at 819 GB/s, 1,600 Gbit/s over 4 ports.
    # Four matrix units of 128 x 128.
    "v5e": Chip(
        int(15.75 * GIB), PEAK_FLOPS["TPU v5 lite"], 819e9, 4, 1600 * _GBIT / 4, _FLAT, clock=1.5e9
    ),
    # https://cloud.google.com/tpu/docs/v6e: 918 TFLOP/s, 32 GB at 1,600 GB/s, 3,200 Gbit/s over 4 ports.
    "v6e": Chip(int(31.25 * GIB), PEAK_FLOPS["TPU v6 lite"], 1600e9, 4, 3200 * _GBIT / 4, _FLAT),
    # https://cloud.google.com/tpu/docs/v5p: 459 TFLOP/s, 95 GB at 2,765 GB/s, 4,800 Gbit/s, a 3D torus. Eight matrix
    # units of 128 x 128.
    "v5p": Chip(
        int(95.74 * GIB),
        PEAK_FLOPS["TPU v5"],
        2765e9,
        6,
        4800 * _GBIT / 6,
        _CUBES,
        _MEGACORE,
        clock=1.75e9,
    ),
    # https://cloud.google.com/tpu/docs/v4: 275 TFLOP/s, 32 GiB at 1,200 GB/s, a 3D torus. Its links:
    # Jouppi et al. 2023 (arXiv:2304.01433), Table 4: six of 50 GB/s, 1,050 MHz.
    "v4": Chip(
        int(30.75 * GIB), PEAK_FLOPS["TPU v4"], 1200e9, 6, 50e9, _CUBES, _MEGACORE, clock=1.05e9
    ),
}
# libtpu looks for a TPU virtual machine, asks its metadata server, and takes a machine-wide lock. A compiler
# alone needs none of that; what the user has set stays.
_COMPILER_ONLY = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_LOG_DIR": "disabled",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclass(frozen=True)
class Target:
    """The devices that a step is compiled for."""

    name: str  # as given, e.g. "v5e:4x4"
    platform: str  # "tpu", "cpu" or "gpu"
    devices: tuple[jax.Device, ...]  # share the batch; compile-only ones for a TPU
    memory: int | None = None  # bytes each may fill; None: not known
    chip: Chip | None = None  # figures of its vendor; None: not known, so there is no bound
    links: int = 0  # ports of a chip that lead to others of the slice


def find_target(name: str) -> Target:
    """The devices of a topology: "v5e:4x4" and the like, "cpu", "cpu:8", "gpu" or "gpu:8".

    Raises:
      UserError: an unknown topology (the message lists the known ones), or missing devices or compiler.
    """
    kind, _, shape = name.partition(":")
    if kind in CHIPS and shape in CHIPS[kind].slices:
        return _tpu(name, CHIPS[kind], tuple(int(side) for side in shape.split("x")))
    count = int(shape) if re.fullmatch("[0-9]{1,4}", shape) else 0 if shape else 1
    if kind in ("cpu", "gpu") and count:
        return _local(name, kind, count)
    slices = [f"{kind}: {', '.join(chip.slices)}" for kind, chip in CHIPS.items()]
    known = "; ".join([*slices, "cpu[:DEVICES]", "gpu[:DEVICES]"])
    raise UserError(f"no topology {name!r}; there are: {known}")


def _tpu(name: str, chip: Chip, sides: tuple[int, ...]) -> Target:
    for variable, value in _COMPILER_ONLY.items():
        os.environ.setdefault(variable, value)
    options: dict[str, Any] = dict(chip.topology_options)
    if math.prod(sides) == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)  # four to a host, otherwise
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=name, **options)
    except Exception as error:  # a missing library, or any error of the compiler
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"no compiler for {name}: libtpu is missing or does not know it ({said}); "
            "pip install 'a2j-jax[tpu]' (no TPU is needed)"
        ) from error
    return Target(name, "tpu", tuple(found.devices), chip.memory, chip, chip.links(sides))


def _local(name: str, platform: str, count: int) -> Target:
    """Devices of this machine: unlike that of a TPU, a GPU's compiler times its kernels on one."""
    if platform == "cpu":
        with contextlib.suppress(RuntimeError):  # JAX has its devices already; they may be enough
            jax.config.update("jax_num_cpu_devices", count)
    try:
        devices = jax.devices(platform)
    except RuntimeError as error:
        raise UserError(
            f"{name}: JAX finds no {platform.upper()} here, and unlike that of a TPU its compiler needs one; run this "
            "on a machine that has it, after pip install 'a2j-jax[cuda]'"
        ) from error
    if len(devices) < count:
        raise UserError(f"{name}: this process has {len(devices)} {platform.upper()} devices only")
    memory = (devices[0].memory_stats() or {}).get("bytes_limit")
    if platform == "cpu":
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // count
    return Target(name, platform, tuple(devices[:count]), memory)


_BISECTIONS = 3  # compilations between the largest batch that fits and the smallest that does not

# HLO text is a list of computations; a line of one is `%name = shape opcode(%operand, ...), attribute=...`, where a
# shape is an array, `f32[64,14]{1,0:T(8,128)S(1)}`, or a tuple of them. `1,0` are its axes, the one that lies closest
# together first; `T(8,128)` are tiles of the last of them, which memory holds in full. `S(1)` is memory on the chip,
# which takes no bandwidth of HBM. An asynchronous operation is a pair of instructions, `-start` and `-done`, or kernels
# that each name its `channel_id`.
_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(
    r"^\s+(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<shape>.+?) (?P<opcode>[a-z][a-z\-]*)\((?P<rest>.*)$"
)
_ARRAY = re.compile(r"\b(pred|bf16|[a-z]\d+)(?:e\dm\d\w*)?\[([\d,]*)\](\{[^}]*\})?")
_BODY = re.compile(r" while\(.*body=%?([\w.\-]+)")
_TILE = re.compile(r":T\(([\d,]+)\)")
_CHANNEL = re.compile(r"\bchannel_id=(\d+)")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_OPERAND = re.compile(r"%([\w.\-]+)")
# `metadata={op_name="jit(step)/transpose(jvp(A2J))/trunk/layer1_block0/conv1/..."}`: the modules and scopes of
# `training.step` around what a kernel was made of; of a fusion, around its last operation.
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_COMPONENTS = {
    "batch norm": re.compile(r"/(\w+_)?bn\d*/"),
    "trunk": re.compile(r"/trunk/"),
    "heads": re.compile(r"/\w+_head/"),
    "aggregation, losses": re.compile(r"\blosses\b"),
    "augmentation": re.compile(r"\bprepare\b"),
    "optimizer": re.compile(r"\boptimizer\b"),
}
# Names for results of other instructions, and calls of computations that are counted by themselves.
_FREE = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "while",
    "call",
    "conditional",
}
# What one of n devices must send at least, as a part of the result's bytes: of an all-reduce, everyone's share of
# the sum is collected (n - 1 parts of n) and given out again (the same).
_SENT: dict[str, Callable[[int], float]] = {
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "all-gather": lambda n: (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "reduce-scatter": lambda n: n - 1,
    "collective-permute": lambda n: 1.0,
}


class _Array(NamedTuple):
    bytes: int
    on_chip: bool
    padded: int  # bytes of the tiles that hold it


@dataclass(frozen=True)
class Collective:
    """Exchanges of one kind in a step: how many, and bytes of their results on one device."""

    kind: str
    count: int
    bytes: int
    waiting: int = 0  # of these bytes, those of exchanges during which a device does nothing else

    def sent(self, devices: int) -> float:
        """The least bytes that one device must send for them, whatever the algorithm."""
        return self.bytes * _SENT[self.kind](devices)


def component_of(op_name: str) -> str:
    """The part of a step that an operation belongs to, "trunk, backward", by the names around it."""
    for name, pattern in _COMPONENTS.items():
        if pattern.search(op_name):
            return f"{name}, backward" if "transpose(" in op_name else name
    return "other"


@dataclass(frozen=True)
class Program:
    """What a compiled step does on each device, by its text."""

    traffic_of: dict[str, int]  # bytes to and from memory, by `component_of`, the largest first
    padded_traffic: int  # the same in all, with the padding of layouts
    collectives: tuple[Collective, ...]  # exchanges with other devices, the largest first
    cycles: int | None  # of kernels, by XLA's estimate; None: the text has none


def read_program(hlo: str, turns: int = 1) -> Program:
    """Reads the text of a compiled step.

    Every kernel reads its operands once and writes its results once; memory on the chip is free. XLA's own "bytes
    accessed" counts both kinds of memory, and reads that a kernel repeats. Branches of a conditional are left out: the
    step has them for what is rare (`models.layers.batch_moments`).

    `turns` says how often the body of a loop runs; the text does not always say.
    """
    bodies = set(_BODY.findall(hlo))
    arrays: dict[str, list[_Array]] = {}
    exchanged: dict[str, list[tuple[int, bool]]] = defaultdict(list)
    traffic: dict[str, int] = defaultdict(int)
    padded_traffic, cycles, channels = 0, 0, set()
    runs, is_kernel = 1, False
    for line in hlo.splitlines():
        if header := _COMPUTATION.match(line):
            in_loop = header["name"] in bodies
            runs = turns if in_loop else 1
            # A fusion, or another computation that runs as one kernel.
            is_kernel = not (header["entry"] or in_loop)
        elif found := _INSTRUCTION.match(line):
            opcode, kind = found["opcode"], found["opcode"].removesuffix("-start")
            results = [_array(*texts) for texts in _ARRAY.findall(found["shape"])]
            channel = _CHANNEL.search(found["rest"])
            if kind in _SENT and not (channel and channel[1] in channels):
                channels |= {channel[1]} if channel else set()
                sizes = [array.bytes for array in results]
                paired = opcode != kind and kind in ("all-gather", "collective-permute")
                # The results of these starts are (operand, result, ...).
                size = sizes[1] if paired else sum(sizes)
                exchanged[kind] += [(size, opcode == kind and not is_kernel)] * runs
            if not is_kernel:
                arrays[found["name"]] = results
                names = _OPERAND.findall(found["rest"].split("), ")[0])
                operands = [array for name in names for array in arrays.get(name, [])]
                touched = [x for x in _touched(opcode, operands, results) if not x.on_chip]
                name = _OP_NAME.search(found["rest"])
                component = component_of(name[1] if name else "")
                traffic[component] += runs * sum(x.bytes for x in touched)
                padded_traffic += runs * sum(x.padded for x in touched)
                cycles += runs * sum(map(int, _CYCLES.findall(found["rest"])))
    totals = [
        Collective(
            kind,
            len(found),
            sum(size for size, _ in found),
            sum(size for size, alone in found if alone),
        )
        for kind, found in exchanged.items()
    ]
    by_size = sorted(traffic.items(), key=lambda item: -item[1])
    largest_first = tuple(sorted(totals, key=lambda one: -one.bytes))
    return Program(dict(by_size), padded_traffic, largest_first, cycles or None)


def _touched(opcode: str, operands: list[_Array], results: list[_Array]) -> list[_Array]:
    """The arrays that an instruction reads or writes."""
    if opcode in _FREE or opcode.endswith("-done"):
        return []
    if opcode == "slice-start":  # ((source), slice, ...): only the slice is read
        source, part, *_ = results
        return [part._replace(on_chip=source.on_chip), part]
    if opcode.endswith("-start"):  # whose results name its operands
        return results
    return results + operands


def _array(dtype: str, sides: str, layout: str) -> _Array:
    bits = 8 if dtype == "pred" else int(re.sub(r"\D", "", dtype))
    shape = [int(side) for side in sides.split(",")] if sides else []
    filled, tile = list(shape), _TILE.search(layout)
    closest_first = [int(axis) for axis in re.findall(r"\d+", layout.partition(":")[0])]
    if tile:
        tiled = zip(closest_first, reversed(tile[1].split(",")), strict=False)
        for axis, side in tiled:
            filled[axis] = -(-shape[axis] // int(side)) * int(side)
    bytes_of, padded = (math.prod(sides) * bits // 8 for sides in (shape, filled))
    return _Array(bytes_of, "S(" in layout, padded)


def count_gathers(program: Jaxpr) -> tuple[int, int]:
    """Indices that the gathers of a traced program look up, and the elements they fetch; bodies of scans count as often
    as they run, those of other loops once.
    """
    indices = elements = 0
    for operation in program.eqns:
        parameters = operation.params
        if operation.primitive.name == "gather":
            result: Any = operation.outvars[0].aval
            fetched = math.prod(result.shape)
            elements += fetched
            indices += fetched // math.prod(parameters["slice_sizes"])
        turns = parameters["length"] if operation.primitive.name == "scan" else 1
        for inner in jaxprs_in_params(parameters):
            more = count_gathers(inner)
            indices, elements = indices + turns * more[0], elements + turns * more[1]
    return indices, elements


@dataclass(frozen=True)
class Usage:
    """Memory, in bytes, and work of one step on each device."""

    arguments: int
    outputs: int
    aliased: int  # outputs that replace arguments (the state that a step rewrites)
    temporaries: int
    program: int
    peak: int  # must be free for a step
    flops: float  # floating-point operations, by XLA's count
    bytes_accessed: float  # by kernels, by XLA's count, on-chip memory included
    memory_traffic: int  # between the chip and its memory, see `read_program`
    padded_traffic: int  # the same with the padding of layouts: 64 channels may fill 128 lanes
    cycles: int | None = None  # of kernels, by XLA's estimate; None: it gives none
    traffic_of: dict[str, int] = dataclasses.field(default_factory=dict)  # parts of the step
    collectives: tuple[Collective, ...] = ()  # exchanges with other devices
    gathered_indices: int = 0  # of gathers, see `count_gathers`; in no term of the bound
    gathered_elements: int = 0


@dataclass(frozen=True)
class Refusal:
    """The compiler's message on a program that does not fit, in one line, and the bytes it names, if any."""

    said: str
    needed: int | None = None


def compile_step(config: Config, target: Target, flags: bool = False) -> Usage | Refusal:
    """Compile the step that `a2j train` would run at `config.optim.batch_size`; takes minutes.

    The batch is spread over all devices of the target as `parallel="mesh"` does it; pmap's numbers are the same.
    `flags` adds `lowering.preset_flags` of the target's platform.

    Raises:
      UserError: a batch that does not spread evenly over the devices, or a program the compiler fails on.
    """
    experiment = resolve(config)
    track, settings = experiment.track, experiment.config.optim
    parts = settings.accumulate
    sharding.check_batch_size(settings.batch_size, parts, len(target.devices))
    # The schedule is part of the program and changes nothing about its size.
    schedule = optax.constant_schedule(settings.learning_rate)
    optimizer = optimizer_of(experiment, schedule)

    def state() -> TrainState:
        key, size = jax.random.key(0), track.crop_size
        variables = init_variables(experiment.model, key, size, size)
        return TrainState.create(variables, optimizer, average=settings.ema_decay is not None)

    batch = abstract_batch(track, settings.batch_size)
    key = jax.eval_shape(partial(jax.random.key, 0))
    with lowering_for(target.platform):
        step = sharding.layout("auto", target.devices).wrap(
            experiment_step(experiment, optimizer),
            preset_flags() if flags else None,
        )
        traced = step.trace(jax.eval_shape(state), batch, key)
        lowered = traced.lower()
    # All of the batch's, in equal shares.
    indices, elements = (n // len(target.devices) for n in count_gathers(traced.jaxpr.jaxpr))
    try:
        usage = _usage(lowered.compile(), parts)
        return dataclasses.replace(usage, gathered_indices=indices, gathered_elements=elements)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise UserError(f"{target.name}: {' '.join(str(error).split())[:300]}") from error
        return refusal(str(error))


def _usage(compiled: Any, turns: int) -> Usage:
    """Reads a `jax.stages.Compiled`. XLA counts the body of a loop once: its counts are multiplied by the `turns`."""
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    program = read_program(compiled.as_text(), turns)
    sizes = {
        "arguments": memory.argument_size_in_bytes,
        "outputs": memory.output_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "program": memory.generated_code_size_in_bytes,
    }
    aliased = memory.alias_size_in_bytes
    return Usage(
        **sizes,
        aliased=aliased,
        peak=sum(sizes.values()) - aliased,
        flops=turns * cost["flops"],
        bytes_accessed=turns * cost["bytes accessed"],
        memory_traffic=sum(program.traffic_of.values()),
        padded_traffic=program.padded_traffic,
        cycles=program.cycles,
        traffic_of=program.traffic_of,
        collectives=program.collectives,
    )


def refusal(message: str) -> Refusal:
    """Reads the compiler's message where it runs out of memory."""
    line = message.split("RESOURCE_EXHAUSTED:")[-1].strip().splitlines()[0]
    found = re.search(r"\(([\d.]+)([KMGT])\) exceeds|Used ([\d.]+)([KMGT]) of", line)
    if found is None:
        return Refusal(line)
    number, unit = (text for text in found.groups() if text is not None)
    return Refusal(line, round(float(number) * 1024 ** ("KMGT".index(unit) + 1)))


@dataclass(frozen=True)
class Bound:
    """Lower bounds on the time of one step, seconds; `binds` names the largest one, which is `seconds`."""

    compute: float
    memory: float
    interconnect: float
    waiting: float  # the part of `interconnect` during which a device does nothing else; comes on top of `compute`
    seconds: float
    binds: str


def bound(usage: Usage, target: Target) -> Bound | None:
    """The roofline bound of a step, from its usage of each device; None: the chip's figures are not known."""
    chip = target.chip
    if chip is None:
        return None

    def seconds(exchanges: Iterable[Collective]) -> float:
        sent = sum(one.sent(len(target.devices)) for one in exchanges)
        return sent / (target.links * chip.port_bandwidth) if sent else 0.0

    waiting = seconds(dataclasses.replace(one, bytes=one.waiting) for one in usage.collectives)
    terms = {
        "compute": usage.flops / chip.flops,
        "memory": usage.padded_traffic / chip.memory_bandwidth,
        "interconnect": seconds(usage.collectives),
    }
    together = {**terms, "compute": terms["compute"] + waiting}
    binds = max(together, key=lambda name: together[name])
    return Bound(**terms, waiting=waiting, seconds=together[binds], binds=binds)


#: Bytes of canvases that a core reads per second by worker processes: 2,900 of 220 x 220 px (docs/scaling.md).
READ_PER_CORE = 2_900 * 2 * 220**2


@dataclass(frozen=True)
class Plan:
    """Memory, work and bounds of one batch size on a target; None: not known."""

    batch_size: int  # of all devices together
    devices: int  # share it
    memory: int | None  # bytes that each may fill
    usage: Usage | None = None  # of each; None: the compiler refused, see `refusal`
    refusal: Refusal | None = None
    bound: Bound | None = None  # on the time of a step
    kernels: float | None = None  # seconds of a step's kernels, by XLA's estimate
    steps: int | None = None  # of the whole run; None, too, where an epoch has less than a batch
    needed: int | None = None  # bytes of memory that a device must have
    fits: bool | None = None
    images_per_second: float | None = None  # the most that the bound allows
    hours: float | None = None  # the least of a run, without evaluations and input
    host_cores: float | None = None  # of all hosts together, that read so many images

    def with_host_cores(self, canvas_size: int) -> "Plan":
        """With the cores that it takes to read examples of canvases of (S, S) px as fast as the bound allows."""
        rate = self.images_per_second
        if rate is None:
            return self
        bytes_per_second = rate * 2 * canvas_size**2
        return dataclasses.replace(self, host_cores=bytes_per_second / READ_PER_CORE)


def make_plan(
    found: Usage | Refusal, batch_size: int, target: Target, steps: int | None = None
) -> Plan:
    """The plan of a batch size, from what compiling its step found."""
    memory = target.memory
    make = partial(Plan, batch_size, len(target.devices), memory, steps=steps)
    if isinstance(found, Refusal):
        return make(refusal=found, needed=found.needed, fits=False)
    limit, clock = bound(found, target), target.chip and target.chip.clock
    return make(
        usage=found,
        bound=limit,
        kernels=found.cycles / clock if found.cycles and clock else None,
        needed=found.peak,
        fits=None if memory is None else found.peak <= memory,
        images_per_second=batch_size / limit.seconds if limit else None,
        hours=steps * limit.seconds / 3600 if limit and steps else None,
    )


def plan_batches(
    config: Config, target: Target, sizes: Sequence[int], flags: bool = False
) -> list[Plan]:
    """Compile the step of a config (with the values of its presets) at some batch sizes; logs each.

    Without sizes: search for the largest one that fits, from the config's. `flags`: as of `compile_step`.

    Raises:
      UserError: a batch that does not spread evenly over the devices, or a program the compiler fails on.
    """
    chips = f"{len(target.devices)} x {target.devices[0].device_kind}"
    frames = _training_frames(config)

    def plan(size: int) -> Plan:
        logger.info(
            f"compiling {config.name} for {target.name} ({chips}), batch {size:,}; large networks take minutes"
        )
        started = time.monotonic()
        optim = dataclasses.replace(config.optim, batch_size=size)
        changed = dataclasses.replace(config, optim=optim)
        step = compile_step(changed, target, flags)
        made = make_plan(step, size, target, run_steps(changed, frames))
        made = made.with_host_cores(resolve(changed).track.canvas_size)
        logger.info(f"batch {size:,}: {verdict(made)}; {clock(time.monotonic() - started)}")
        return made

    if sizes:
        return [plan(size) for size in sizes]
    unit = len(target.devices) * config.optim.accumulate
    return plan_largest(plan, config.optim.batch_size, unit, frames or LARGEST_BATCH)


def _training_frames(config: Config) -> int | None:
    """Frames of an epoch; None: a custom data set, which need not be here."""
    if config.track in EMBEDDED:
        return config.data.train_frames
    published = PUBLISHED_FRAMES.get(config.track)
    return published["train"] if published else None


def run_steps(config: Config, frames: int | None) -> int | None:
    """Steps of a run on so many frames; as in training, the frames of an epoch that fill no batch are left over."""
    if config.optim.steps:
        return config.optim.steps
    assert config.optim.epochs is not None, "a preset's, where the config names none"
    return round(config.optim.epochs * ((frames or 0) // config.optim.batch_size)) or None


def plan_largest(make: Callable[[int], Plan], start: int, unit: int, most: int) -> list[Plan]:
    """Search for the largest batch that fits: by doubling, then by halving the gap a few times.

    Batches are multiples of `unit`; the first is `start`, rounded up, and none is larger than `most`. Returns all plans
    that were made on the way, by size.
    """
    made: dict[int, Plan] = {}

    def fits(units: int) -> bool:
        made[units] = make(units * unit)
        return bool(made[units].fits)

    most = max(most // unit, 1)
    low, high = 0, most + 1  # in units: known to fit, and known not to (or not wanted)
    size = min(max(-(-start // unit), 1), most)
    while low < size < high:
        if fits(size):
            low = size
            size = min(2 * size, most) if high > most else low
        else:
            high = size
            size = low or size // 2
    for _ in range(_BISECTIONS):
        middle = (low + high) // 2
        if middle == low:
            break
        low, high = (middle, high) if fits(middle) else (low, middle)
    return [made[units] for units in sorted(made)]


def plan_table(title: str, plans: Sequence[Plan]) -> Table:
    """All numbers of some plans of one config and target, a column each."""
    kinds = sorted({one.kind for plan in plans if plan.usage for one in plan.usage.collectives})
    usages = [plan.usage for plan in plans if plan.usage]
    parts = list(dict.fromkeys(name for usage in usages for name in usage.traffic_of))
    # Label, the part of a plan that it is read from (empty: all of it), its text.
    rows: list[tuple[str, str, Callable[[Any], str]]] = [
        ("batch, per chip", "", lambda p: f"{p.batch_size // p.devices:,}"),
        ("arguments", "usage", lambda u: _mib(u.arguments)),
        ("temporaries", "usage", lambda u: _mib(u.temporaries)),
        ("other outputs", "usage", lambda u: _mib(u.outputs - u.aliased)),
        ("program", "usage", lambda u: _mib(u.program)),
        ("peak memory", "needed", _mib),
        ("of", "memory", _mib),
        ("", "", verdict),
        ("FLOPs", "usage", lambda u: scaled(u.flops)),
        ("bytes accessed", "usage", lambda u: scaled(u.bytes_accessed, "B")),
        ("of them in memory", "usage", lambda u: scaled(u.memory_traffic, "B")),
        ("with padding", "usage", lambda u: scaled(u.padded_traffic, "B")),
        *((f"  {name}", "usage", partial(_traffic_of, name)) for name in parts),
        ("gathered indices", "usage", lambda u: scaled(u.gathered_indices)),
        ("elements they fetch", "usage", lambda u: scaled(u.gathered_elements)),
        *((kind, "usage", partial(_exchanged, kind)) for kind in kinds),
        ("compute ≥", "bound", lambda b: _ms(b.compute)),
        ("memory ≥", "bound", lambda b: _ms(b.memory)),
        ("interconnect ≥", "bound", lambda b: _ms(b.interconnect)),
        ("of it alone ≥", "bound", lambda b: _ms(b.waiting)),
        ("step ≥", "bound", lambda b: f"{_ms(b.seconds)} ({b.binds})"),
        ("kernels, XLA's estimate", "kernels", _ms),
        ("images/s ≤", "images_per_second", "{:,.0f}".format),
        ("host cores ≥", "host_cores", "{:,.1f}".format),
        ("steps", "steps", "{:,}".format),
        ("hours ≥", "hours", "{:.2g}".format),
    ]
    cells = []
    for label, part, text in rows:
        found = [getattr(plan, part) if part else plan for plan in plans]
        cells.append((label, *(ABSENT if one is None else text(one) for one in found)))
    strong = frozenset(place for place, (label, *_) in enumerate(rows) if label in ("", "step ≥"))
    columns = ("per chip and step", *(f"batch {plan.batch_size:,}" for plan in plans))
    return Table(title, columns, tuple(cells), strong, _notes(plans))


def verdict(plan: Plan) -> str:
    """Whether a plan fits, and by how much."""
    if plan.fits is None:
        return ABSENT
    if plan.needed is None or plan.memory is None:
        return "does not fit"
    by = abs(plan.memory - plan.needed) / GIB
    return f"fits, {by:.1f} GiB free" if plan.fits else f"{by:.1f} GiB too much"


def _notes(plans: Sequence[Plan]) -> tuple[str, ...]:
    found = []
    if any(plan.bound for plan in plans):
        found.append(
            "A bound, not a measurement: the slowest of compute, memory and interconnect at the vendor's peak "
            "rates, as if the others hid behind it perfectly and every kernel read its operands once; exchanges that "
            "leave a chip idle come on top of compute. XLA's estimate is of kernels alone. Real steps take longer: "
            "latencies, input and evaluations are not in it. Host cores: all that it takes to read examples that fast "
            "by worker processes, by `a2j bench --input` on an x86-64 core."
        )
    elif any(plan.usage for plan in plans):
        found.append("No bound on time: the peak rates of this processor are not known here.")
    found += [f"Batch {plan.batch_size:,}: {plan.refusal.said}" for plan in plans if plan.refusal]
    return tuple(found)


def scaled(value: float, unit: str = "") -> str:
    """A large number with three digits and a decimal prefix, e.g. "2.17 T"."""
    prefixes = ["", "k", "M", "G", "T"]
    while abs(value) >= 1000 and len(prefixes) > 1:
        value /= 1000
        prefixes.pop(0)
    return f"{value:.3g} {prefixes[0]}{unit}".strip()


def _exchanged(kind: str, usage: Usage) -> str:
    of_kind = {one.kind: f"{one.count} ×, {scaled(one.bytes, 'B')}" for one in usage.collectives}
    return of_kind.get(kind, ABSENT)


def _traffic_of(name: str, usage: Usage) -> str:
    return scaled(usage.traffic_of.get(name, 0), "B")


def _mib(value: int) -> str:
    return f"{value / 2**20:,.0f} MiB"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2f} ms"
