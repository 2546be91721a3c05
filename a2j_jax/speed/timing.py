"""Times of calls that take turns, so that what else the machine does meets all of them alike."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

Key = TypeVar("Key", bound=Hashable)
WARM_UP_ROUNDS = 1  # the first call of anything is slower, and medians forgive the second


class Call(NamedTuple):
    """What is timed.

    Attributes:
      run: must not return before its work is done: JAX answers at once and computes later.
      frames: that one call handles.
    """

    run: Callable[[], Any]
    frames: int = 1


class Spread(NamedTuple):
    """The middle of some numbers, and the half of them that lies around it."""

    median: float
    lower: float  # quartile
    upper: float


@dataclass(frozen=True)
class Timing:
    """How long a frame took.

    Attributes:
      milliseconds: per frame, a number per round.
    """

    milliseconds: tuple[float, ...]

    @property
    def spread(self) -> Spread:
        """Of the rounds, milliseconds per frame."""
        return _spread(self.milliseconds)


def take_turns(
    calls: Mapping[Key, Call],
    rounds: int,
    *,
    advance: Callable[[int], Any] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Key, Timing]:
    """Time calls against each other: every round runs each once, every other round in the opposite order.

    Neighbours leave their traces (caches, threads that still wait for work): turning the order around lets no call
    have the same one before it each time.

    Args:
      calls: name -> call.
      rounds: that are timed, after `WARM_UP_ROUNDS` that are not.
      advance: called with 1 after every call, those of the warm-up too, for a progress bar.
      clock: seconds.
    """
    seconds: dict[Key, list[float]] = {key: [] for key in calls}
    for number in range(-WARM_UP_ROUNDS, rounds):
        order = list(calls)
        for key in reversed(order) if number % 2 else order:
            started = clock()
            calls[key].run()
            elapsed = clock() - started
            if number >= 0:
                seconds[key].append(elapsed)
            if advance is not None:
                advance(1)
    return {
        key: Timing(tuple(1e3 * one / calls[key].frames for one in values))
        for key, values in seconds.items()
    }


def ratio(one: Timing, other: Timing) -> Spread:
    """How many times as long `one` took as `other`, round by round: a machine that drifts slows both."""
    pairs = zip(one.milliseconds, other.milliseconds, strict=True)
    return _spread([a / b for a, b in pairs])


def _spread(values: Sequence[float]) -> Spread:
    return Spread(*(float(x) for x in np.percentile(values, (50, 25, 75))))
