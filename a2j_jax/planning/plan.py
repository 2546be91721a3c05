"""A plan: what one configuration takes on one slice, whether it fits, and how fast it can be at best."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from a2j_jax.config import Config
from a2j_jax.planning.analysis import Usage
from a2j_jax.planning.compile import DoesNotFit, compile_step
from a2j_jax.planning.roofline import Bound, bound
from a2j_jax.planning.targets import Target

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
