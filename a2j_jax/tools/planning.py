"""The least time a step can take, from what it does and what the vendor says the chip can do.

Three things must happen, and the slowest of them bounds the step even if the others hide behind it perfectly:
arithmetic at the matrix units' peak, traffic at the full bandwidth of memory, and exchanges between chips at the
full bandwidth of all links. Latencies, kernels that wait for each other and input are not in it.

The training step of a config, compiled for devices that need not be here, from shapes alone.

A plan: what one configuration takes on one slice, whether it fits, and how fast it can be at best.

Plans as text: one column per batch size.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from a2j_jax.config import Config
from a2j_jax.data.batch import DEVICE_KEYS
from a2j_jax.errors import UserError
from a2j_jax.evaluation.tables import Table
from a2j_jax.lowering import lowering_for
from a2j_jax.models.a2j import init_variables
from a2j_jax.runs import sharding
from a2j_jax.runs.state import TrainState
from a2j_jax.tools.hlo import Collective, Usage, usage_of
from a2j_jax.tools.tpu import GIB, Chip, Target
from a2j_jax.tracks import TrackSpec
from a2j_jax.training import assembly
from a2j_jax.training.step import TrainStep


@dataclass(frozen=True)
class Bound:
    """Lower bounds on the time of one step, seconds."""

    compute: float
    memory: float
    interconnect: float

    @property
    def seconds(self) -> float:
        """The bound on the step."""
        return max(self.compute, self.memory, self.interconnect)

    @property
    def binds(self) -> str:
        """The name of the term that is the bound."""
        terms = {"compute": self.compute, "memory": self.memory, "interconnect": self.interconnect}
        return max(terms, key=lambda name: terms[name])


def bound(usage: Usage, chip: Chip, devices: int, links: int) -> Bound:
    """The roofline bound of a step.

    Args:
      usage: of one device.
      chip: its figures.
      devices: chips that take part.
      links: ports of a chip that lead to the others.
    """
    sent = sum(bytes_sent(one, devices) for one in usage.collectives)
    return Bound(
        compute=usage.flops / chip.flops,
        memory=usage.memory_traffic / chip.memory_bandwidth,
        interconnect=sent / (links * chip.port_bandwidth) if sent else 0.0,
    )


def bytes_sent(collective: Collective, devices: int) -> float:
    """The least that one device must send for these exchanges, whatever the algorithm.

    Of an all-reduce, everyone's share of the sum must be collected (n - 1 parts of n) and given out again
    (the same); a gather and a scatter are one half of that each. Sizes are of results.
    """
    others = devices - 1
    parts = {
        "all-reduce": 2 * others / devices,
        "all-gather": others / devices,
        "all-to-all": others / devices,
        "reduce-scatter": others,
        "collective-permute": 1.0,
    }
    return collective.bytes * parts[collective.kind]


@dataclass(frozen=True)
class DoesNotFit:
    """The compiler's refusal of a program that takes more memory than there is; bytes where it names them."""

    said: str
    needed: int | None = None


def compile_step(config: Config, target: Target) -> Usage | DoesNotFit:
    """Compile the step that `a2j train` would run at `config.optim.batch_size`; takes minutes.

    The batch is spread over all devices of the target as `parallel="mesh"` does it; pmap's numbers are the same.

    Raises:
      UserError: a batch that does not spread evenly over the devices.
    """
    config = assembly.with_preset(config)
    track = assembly.track_of(config)
    layout = sharding.layout("auto", target.devices)
    sharding.check_batch_size(config.optim.batch_size, config.optim.accumulate, len(target.devices))
    with lowering_for(target.platform):
        step, state = _step_and_state(config, track)
        batch = abstract_batch(track, config.optim.batch_size)
        lowered = layout.compile(step).lower(
            state, batch, jax.eval_shape(partial(jax.random.key, 0))
        )
    try:
        return usage_of(lowered.compile(), config.optim.accumulate)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise UserError(f"{target.name}: {' '.join(str(error).split())[:300]}") from error
        return refusal(str(error))


def _step_and_state(config: Config, track: TrackSpec) -> tuple[TrainStep, Any]:
    """The step, and the shapes of the state it takes."""
    # When the learning rate falls changes constants of the program, and nothing of what it takes.
    optimizer = assembly.optimizer_of(config.optim, assembly.schedule_of(config.optim, 1000, 100))
    model = assembly.make_model(config, track)

    def state() -> TrainState:
        variables = init_variables(model, jax.random.key(0), track.crop_size, track.crop_size)
        average = config.optim.ema_decay is not None
        return TrainState.create(variables, optimizer, average=average)

    return assembly.train_step_of(config, track, optimizer), jax.eval_shape(state)


def abstract_batch(track: TrackSpec, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of what a training step is given of a batch, as it is on a device."""
    size, joints, dims = track.canvas_size, track.num_joints, track.joint_dims
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "canvas": ((size, size), jnp.uint16),
        "joints_uvd": ((joints, dims), jnp.float32),
        "valid": ((joints,), jnp.bool_),
        "box_px": ((4,), jnp.float64),
        "window_px": ((4,), jnp.float64),
        "center_uvd": ((3,), jnp.float32),
    }
    assert shapes.keys() == set(DEVICE_KEYS)
    return {
        name: jax.ShapeDtypeStruct((batch_size, *shape), jax.dtypes.canonicalize_dtype(dtype))
        for name, (shape, dtype) in shapes.items()
    }


def refusal(message: str) -> DoesNotFit:
    """What the compiler says where it runs out of memory, in one line, and the bytes it wanted."""
    line = message.split("RESOURCE_EXHAUSTED:")[-1].strip().splitlines()[0]
    found = re.search(r"\(([\d.]+)([KMGT])\) exceeds|Used ([\d.]+)([KMGT]) of", line)
    if found is None:
        return DoesNotFit(line)
    number, unit = (text for text in found.groups() if text is not None)
    return DoesNotFit(line, round(float(number) * 1024 ** ("KMGT".index(unit) + 1)))


# Compilations spent between the largest batch that is known to fit and the smallest that is not.
_BISECTIONS = 3


@dataclass(frozen=True)
class Schedule:
    """Length of a training run: epochs of a number of frames, or a number of steps whatever the batch."""

    frames: int
    epochs: float
    steps: int | None = None

    def steps_of(self, batch_size: int) -> int | None:
        """Steps of a run; the frames of an epoch that fill no batch are left over, as in training.

        None where there is no batch of that size in an epoch: training refuses that.
        """
        whole = self.frames // batch_size
        return self.steps or (round(self.epochs * whole) if whole else None)


@dataclass(frozen=True)
class Plan:
    """What one batch size takes on a target.

    Attributes:
      batch_size: of all devices together.
      devices: that share it.
      memory: bytes that each may fill; None: not known.
      usage: of each; None: the compiler refused, as `refusal` says.
      bound: on the time of a step; None: nothing compiled, or no figures of the chip.
      steps: of the whole run; None: the number of frames is not known, or less than a batch.
    """

    batch_size: int
    devices: int
    memory: int | None
    usage: Usage | None
    refusal: DoesNotFit | None = None
    bound: Bound | None = None
    steps: int | None = None

    @property
    def needed(self) -> int | None:
        """Bytes of memory that a device must have; None: the compiler did not say."""
        if self.usage is not None:
            return self.usage.peak
        return self.refusal.needed if self.refusal else None

    @property
    def fits(self) -> bool | None:
        """Whether a step fits into memory; None: its size is not known."""
        if self.usage is None:
            return False
        return None if self.memory is None else self.usage.peak <= self.memory

    @property
    def images_per_second(self) -> float | None:
        """The most images per second that the bound allows."""
        return None if self.bound is None else self.batch_size / self.bound.seconds

    @property
    def hours(self) -> float | None:
        """The least hours of a run that the bound allows, evaluations and input apart."""
        if self.bound is None or self.steps is None:
            return None
        return self.steps * self.bound.seconds / 3600

    def to_json(self) -> dict[str, Any]:
        """All numbers, bytes and seconds, as plain JSON."""
        values = dataclasses.asdict(self)
        if self.usage is not None:
            values["usage"]["peak"] = self.usage.peak
        if self.bound is not None:
            values["bound"] |= {"seconds": self.bound.seconds, "binds": self.bound.binds}
        derived = ("needed", "fits", "images_per_second", "hours")
        return values | {name: getattr(self, name) for name in derived}


def make_plan(config: Config, target: Target, schedule: Schedule | None = None) -> Plan:
    """Compile the training step of a config for a target and say what it takes; minutes on one core.

    Raises:
      UserError: a batch that does not spread evenly over the devices, or a program the compiler fails on.
    """
    batch_size, devices = config.optim.batch_size, len(target.devices)
    found = compile_step(config, target)
    steps = schedule.steps_of(batch_size) if schedule else None
    if isinstance(found, DoesNotFit):
        return Plan(batch_size, devices, target.memory, None, found, steps=steps)
    limit = bound(found, target.chip, devices, target.links) if target.chip else None
    return Plan(batch_size, devices, target.memory, found, None, limit, steps)


def plan_largest(make: Callable[[int], Plan], start: int, unit: int, most: int) -> list[Plan]:
    """The plans that were made on the way to the largest batch that fits, by size; see `find_largest`."""
    made: dict[int, Plan] = {}

    def fits(batch_size: int) -> bool:
        made[batch_size] = make(batch_size)
        return bool(made[batch_size].fits)

    find_largest(start, unit, most, fits)
    return [made[size] for size in sorted(made)]


def find_largest(start: int, unit: int, most: int, fits: Callable[[int], bool]) -> int | None:
    """The largest batch that was seen to fit: by doubling, then by halving the gap a few times.

    Args:
      start: the first to try, rounded up to a multiple of `unit`.
      unit: batches are multiples of it.
      most: nothing larger is tried.
      fits: tells whether a batch does.

    Returns:
      The batch; None where not even `unit` fits.
    """
    most = max(most // unit, 1)
    low, high = 0, most + 1  # in units: known to fit, and known not to (or not wanted)
    size = min(max(-(-start // unit), 1), most)
    while low < size < high:
        if fits(size * unit):
            low = size
            size = min(2 * size, most) if high > most else low
        else:
            high = size
            size = low or size // 2
    for _ in range(_BISECTIONS):
        middle = (low + high) // 2
        if middle == low or low == most:
            break
        low, high = (middle, high) if fits(middle * unit) else (low, middle)
    return low * unit or None


def with_batch(config: Config, batch_size: int) -> Config:
    """The config with another batch size."""
    return dataclasses.replace(
        config, optim=dataclasses.replace(config.optim, batch_size=batch_size)
    )


_MIB = 2**20
_NONE = "–"


def plan_table(title: str, plans: Sequence[Plan]) -> Table:
    """Everything about some plans of one config and target, a column each."""
    kinds = sorted({one.kind for plan in plans if plan.usage for one in plan.usage.collectives})
    rows = [
        _row("batch, per chip", plans, lambda p: f"{p.batch_size // p.devices:,}"),
        _row("arguments", plans, lambda p: _mib(p.usage and p.usage.arguments)),
        _row("temporaries", plans, lambda p: _mib(p.usage and p.usage.temporaries)),
        _row("other outputs", plans, lambda p: _mib(_own_outputs(p))),
        _row("program", plans, lambda p: _mib(p.usage and p.usage.program)),
        _row("peak memory", plans, lambda p: _mib(p.needed)),
        _row("of", plans, lambda p: _mib(p.memory)),
        _row("", plans, verdict),
        _row("FLOPs", plans, lambda p: scaled(p.usage and p.usage.flops)),
        _row("bytes accessed", plans, lambda p: scaled(p.usage and p.usage.bytes_accessed, "B")),
        _row("of them in memory", plans, lambda p: scaled(p.usage and p.usage.memory_traffic, "B")),
        *(_row(kind, plans, lambda p, kind=kind: _exchanged(p, kind)) for kind in kinds),
        _row("compute ≥", plans, lambda p: _ms(p.bound and p.bound.compute)),
        _row("memory ≥", plans, lambda p: _ms(p.bound and p.bound.memory)),
        _row("interconnect ≥", plans, lambda p: _ms(p.bound and p.bound.interconnect)),
        _row("step ≥", plans, _step),
        _row("images/s ≤", plans, lambda p: _whole(p.images_per_second)),
        _row("steps", plans, lambda p: _whole(p.steps)),
        _row("hours ≥", plans, lambda p: _hours(p.hours)),
    ]
    strong = frozenset(place for place, row in enumerate(rows) if row[0] in ("", "step ≥"))
    columns = ("per chip and step", *(f"batch {plan.batch_size:,}" for plan in plans))
    return Table(title, columns, tuple(rows), strong, notes(plans))


def verdict(plan: Plan) -> str:
    """Whether a plan fits, and by how much."""
    if plan.fits is None:
        return _NONE
    if plan.needed is None or plan.memory is None:
        return "does not fit"
    by = abs(plan.memory - plan.needed) / GIB
    return f"fits, {by:.1f} GiB free" if plan.fits else f"{by:.1f} GiB too much"


def notes(plans: Sequence[Plan]) -> tuple[str, ...]:
    """What must be known before any of the numbers is used."""
    found = []
    if any(plan.bound for plan in plans):
        found.append(
            "A bound, not a measurement: the slowest of compute, memory and interconnect at the vendor's peak "
            "rates, as if the others hid behind it perfectly and every kernel read its operands once. Real steps "
            "take longer: latencies, input and evaluations are not in it."
        )
    elif any(plan.usage for plan in plans):
        found.append("No bound on time: there are no figures of this processor's peak rates here.")
    found += [f"Batch {plan.batch_size:,}: {plan.refusal.said}" for plan in plans if plan.refusal]
    return tuple(found)


def scaled(value: float | None, unit: str = "") -> str:
    """A large number with three digits and a decimal prefix, e.g. "2.17 T"."""
    if value is None:
        return _NONE
    for prefix in ("", "k", "M", "G", "T"):
        if abs(value) < 1000 or prefix == "T":
            break
        value /= 1000
    return f"{value:.3g} {prefix}{unit}".strip()


def _row(label: str, plans: Sequence[Plan], value: Callable[..., str]) -> tuple[str, ...]:
    return (label, *(value(plan) for plan in plans))


def _own_outputs(plan: Plan) -> int | None:
    return None if plan.usage is None else plan.usage.outputs - plan.usage.aliased


def _exchanged(plan: Plan, kind: str) -> str:
    found = [one for one in plan.usage.collectives if one.kind == kind] if plan.usage else []
    return f"{found[0].count} ×, {scaled(found[0].bytes, 'B')}" if found else _NONE


def _step(plan: Plan) -> str:
    return _NONE if plan.bound is None else f"{_ms(plan.bound.seconds)} ({plan.bound.binds})"


def _mib(value: int | None) -> str:
    return _NONE if value is None else f"{value / _MIB:,.0f} MiB"


def _ms(seconds: float | None) -> str:
    return _NONE if seconds is None else f"{1000 * seconds:.2f} ms"


def _whole(value: float | None) -> str:
    return _NONE if value is None else f"{value:,.0f}"


def _hours(value: float | None) -> str:
    return _NONE if value is None else f"{value:.2g}"
