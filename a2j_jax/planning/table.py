"""Plans as text: one column per batch size."""

from collections.abc import Callable, Sequence

from a2j_jax.evaluation.tables import Table
from a2j_jax.planning.chips import GIB
from a2j_jax.planning.plan import Plan

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
