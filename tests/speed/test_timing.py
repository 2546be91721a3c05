"""Turns, medians and ratios, by a clock that goes as the test says."""

from collections.abc import Callable

import pytest

from a2j_jax.tools.timing import WARM_UP_ROUNDS, Call, Timing, ratio, take_turns


class Clock:
    """Stands still but while something "works"."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.log: list[str] = []

    def __call__(self) -> float:
        return self.seconds

    def work(self, name: str, *seconds: float) -> Callable[[], None]:
        """A call that takes so long, the first round of the warm-up first, and the last of these from then on."""
        durations = list(seconds)

        def run() -> None:
            self.log.append(name)
            self.seconds += durations.pop(0) if len(durations) > 1 else durations[0]

        return run


def test_medians_are_of_the_rounds_after_the_warm_up() -> None:
    clock = Clock()
    warm_up = [60.0] * WARM_UP_ROUNDS
    calls = {"one": Call(clock.work("one", *warm_up, 1.0, 3.0, 2.0, 9.0, 4.0))}
    timing = take_turns(calls, 5, clock=clock)["one"]
    assert timing.milliseconds == (1000, 3000, 2000, 9000, 4000)
    assert timing.spread == (3000, 2000, 4000)


def test_a_batch_is_counted_by_its_frames() -> None:
    clock = Clock()
    timings = take_turns({8: Call(clock.work("", 2.0), 8)}, 3, clock=clock)
    assert timings[8].spread.median == 250


def test_calls_take_turns() -> None:
    clock = Clock()
    calls = {name: Call(clock.work(name, 1.0)) for name in "abc"}
    advanced: list[int] = []
    take_turns(calls, 3, advance=advanced.append, clock=clock)
    rounds = ["".join(clock.log[i : i + 3]) for i in range(0, len(clock.log), 3)]
    assert len(rounds) == WARM_UP_ROUNDS + 3
    assert rounds[WARM_UP_ROUNDS:] == ["abc", "cba", "abc"]
    assert advanced == [1] * len(clock.log)


def test_what_slows_both_does_not_change_their_ratio() -> None:
    slow = [1.0, 1.0, 5.0, 1.0, 7.0]
    one, other = Timing(tuple(30 * s for s in slow)), Timing(tuple(20 * s for s in slow))
    assert ratio(one, other) == (1.5, 1.5, 1.5)


def test_only_runs_of_the_same_rounds_are_compared() -> None:
    with pytest.raises(ValueError):
        ratio(Timing((1.0, 2.0)), Timing((1.0,)))
