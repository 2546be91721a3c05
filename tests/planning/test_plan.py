"""Plans without compiling: verdicts, schedules, the search for the largest batch, and the table."""

import dataclasses
import json

import pytest

from a2j_jax.tools import planning as planning
from a2j_jax.tools.planning import (
    DoesNotFit,
    Plan,
    Schedule,
    find_largest,
    make_plan,
    plan_largest,
    plan_table,
    scaled,
    verdict,
)
from a2j_jax.tools.tpu import CHIPS, GIB, Target
from tests import tiny
from tests.planning.test_roofline import USAGE

TARGET = Target("v5e:2x2", "tpu", (None,) * 4, memory=900, chip=CHIPS["v5e"], links=2)  # type: ignore[arg-type]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch sizes that were compiled: each image takes 10 bytes, and 701 are too many."""
    sizes: list[int] = []

    def compile_step(config, target):  # type: ignore[no-untyped-def]
        sizes.append(config.optim.batch_size)
        temporaries = 10 * config.optim.batch_size
        if temporaries > 700:
            return DoesNotFit("no room", needed=temporaries + 200)
        return dataclasses.replace(
            USAGE, arguments=100, outputs=0, aliased=0, program=100, temporaries=temporaries
        )

    monkeypatch.setattr(planning, "compile_step", compile_step)
    return sizes


def test_a_plan_that_fits(compiled: list[int]) -> None:
    plan = make_plan(tiny.config(batch_size=64), TARGET, Schedule(frames=1000, epochs=2))
    assert plan.fits
    assert (plan.needed, plan.memory) == (840, 900)
    assert plan.steps == 30  # 15 full batches in an epoch
    assert plan.bound is not None
    assert plan.images_per_second == 64 / plan.bound.seconds
    assert plan.hours == 30 * plan.bound.seconds / 3600


def test_a_plan_that_does_not_fit(compiled: list[int]) -> None:
    plan = make_plan(tiny.config(batch_size=72), TARGET)
    assert plan.fits is False
    assert (plan.needed, plan.usage, plan.bound, plan.hours) == (920, None, None, None)


def test_a_program_may_compile_and_be_too_large_all_the_same(compiled: list[int]) -> None:
    small = dataclasses.replace(TARGET, memory=800)
    assert make_plan(tiny.config(batch_size=64), small).fits is False
    unknown = dataclasses.replace(TARGET, memory=None)
    assert make_plan(tiny.config(batch_size=64), unknown).fits is None


def test_steps_may_be_set_instead_of_epochs() -> None:
    assert Schedule(frames=1000, epochs=2, steps=7).steps_of(64) == 7


def test_a_batch_larger_than_the_data_has_no_steps() -> None:
    schedule = Schedule(frames=1000, epochs=2)
    assert schedule.steps_of(1000) == 2
    assert schedule.steps_of(1024) is None


@pytest.mark.parametrize(("start", "most"), [(8, 10_000), (4, 10_000), (640, 10_000), (10, 10_000)])
def test_the_search_ends_near_the_limit(start: int, most: int) -> None:
    asked: list[int] = []

    def fits(size: int) -> bool:
        asked.append(size)
        return size <= 300

    found = find_largest(start, 4, most, fits)
    assert found is not None
    assert 0.85 * 300 <= found <= 300
    assert all(size % 4 == 0 for size in asked)
    assert len(asked) == len(set(asked)) <= 12


def test_the_search_stops_at_what_is_wanted_at_most() -> None:
    asked: list[int] = []
    assert find_largest(16, 4, 50, lambda size: asked.append(size) or True) == 48
    assert asked == [16, 32, 48]


def test_the_search_may_find_nothing() -> None:
    asked: list[int] = []
    assert find_largest(16, 4, 1000, lambda size: bool(asked.append(size))) is None
    assert asked == [16, 8, 4]


def test_plans_on_the_way_to_the_largest(compiled: list[int]) -> None:
    def make(size: int) -> Plan:
        return make_plan(tiny.config(batch_size=size), TARGET)

    plans = plan_largest(make, start=16, unit=4, most=1000)
    assert compiled == [16, 32, 64, 128, 96, 80, 72]
    assert [plan.batch_size for plan in plans] == sorted(compiled)
    assert max(plan.batch_size for plan in plans if plan.fits) == 64


def test_the_table_says_everything(compiled: list[int]) -> None:
    schedule = Schedule(frames=1000, epochs=2)
    plans = [make_plan(tiny.config(batch_size=size), TARGET, schedule) for size in (64, 72)]
    table = plan_table("tiny", plans)
    cells = {row[0]: row[1:] for row in table.rows}
    assert table.columns[1:] == ("batch 64", "batch 72")
    assert cells["batch, per chip"] == ("16", "18")
    assert cells["all-reduce"] == ("3 ×, 8 B", "–")
    assert cells["steps"] == ("30", "26")
    assert cells["step ≥"][1] == "–"
    assert "not a measurement" in table.notes[0]
    assert table.notes[1] == "Batch 72: no room"


def test_verdicts_say_by_how_much() -> None:
    usage = dataclasses.replace(USAGE, arguments=0, outputs=0, aliased=0, program=0)
    plan = Plan(4, 1, 3 * GIB, dataclasses.replace(usage, temporaries=1 * GIB))
    assert verdict(plan) == "fits, 2.0 GiB free"
    plan = Plan(4, 1, 3 * GIB, dataclasses.replace(usage, temporaries=5 * GIB))
    assert verdict(plan) == "2.0 GiB too much"
    assert verdict(Plan(4, 1, 3 * GIB, None, DoesNotFit("?"))) == "does not fit"
    assert verdict(Plan(4, 1, None, usage)) == "–"


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (8, "8 B"), (2.165e12, "2.17 TB"), (1.69e16, "1.69e+04 TB")]
)
def test_large_numbers(value: float | None, text: str) -> None:
    assert scaled(value, "B") == text


def test_json_is_plain_and_has_what_is_derived(compiled: list[int]) -> None:
    found = json.loads(json.dumps(make_plan(tiny.config(batch_size=64), TARGET).to_json()))
    assert found["usage"]["peak"] == found["needed"] == 840
    assert found["bound"]["binds"] in ("compute", "memory", "interconnect")
    refused = make_plan(tiny.config(batch_size=72), TARGET).to_json()
    assert refused["refusal"] == {"said": "no room", "needed": 920}
