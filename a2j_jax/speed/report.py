"""What `a2j bench` found, as tables and as JSON."""

from collections.abc import Mapping
from typing import Any

from a2j_jax.evaluation.published import published_speed, row_values
from a2j_jax.evaluation.tables import ABSENT, Table
from a2j_jax.speed.bench import Measured, Row
from a2j_jax.speed.timing import Spread, ratio
from a2j_jax.tracks import TrackSpec


def speed_table(found: Measured, title: str, track: TrackSpec) -> Table:
    """Every network at every batch size, a row each: both parts, their sum, frames per second."""
    reading = found.read_and_warp.spread.median
    columns = (
        "network", "M weights", "GFLOP", "batch", "read, warp", "forward", "sum", "frames/s"
    )  # fmt: skip
    paper = [_paper_speed(row, track) for row in found.rows]
    rows = []
    for row in found.rows:
        total = reading + row.forward.spread.median
        rows.append(
            (
                row.network,
                f"{row.parameters / 1e6:.1f}",
                f"{row.flops / 1e9:.2f}",
                str(row.batch_size),
                _ms(reading),
                _with_quartiles(row.forward.spread),
                _ms(total),
                f"{1e3 / total:.1f}",
            )
        )
    notes = (
        "Milliseconds per frame: medians (and quartiles). Read, warp: from a PNG on disk (in the system's cache) to a "
        f"normalized crop, one frame after the other; {_with_quartiles(found.read_and_warp.spread)}. Forward: from "
        "crops in host memory to joints in host memory, post-processing included. GFLOP: of one frame's forward, by "
        "XLA's count.",
        *paper_speed(track),
    )
    if not any(paper):
        return Table(title, columns, tuple(rows), notes=notes)
    cells = [ABSENT if value is None else f"{value:g}" for value in paper]
    beside = tuple((*row, cell) for row, cell in zip(rows, cells, strict=True))
    return Table(title, (*columns, "paper"), beside, notes=notes)


# Networks of Tables 8 and 10 (A2J on ResNet-50 is of both): paradigm → row, and backbone → row.
_PARADIGMS = {"regression": "global_regression", "heat_maps": "heat_maps", "a2j": "a2j"}


def _paper_speed(row: Row, track: TrackSpec) -> float | None:
    """The paper's frames per second of a network on a track, one frame at a time; None where it has none."""
    paradigm, _, backbone = row.network.partition(" ")
    if row.batch_size != 1 or paradigm not in _PARADIGMS:
        return None
    of_backbone = row_values("table10", backbone, track.name, is_a2j=backbone == "resnet50")
    of_paradigm = row_values("table8", _PARADIGMS[paradigm], track.name, is_a2j=False)
    if paradigm == "a2j":
        return of_backbone.get("fps")
    return of_paradigm.get("fps") if backbone == "resnet50" else None


def comparison_table(found: Measured) -> Table:
    """Ours beside the official network in PyTorch, where that was timed."""
    rows = []
    for row in found.rows:
        if row.official is None:
            continue
        faster = ratio(row.official, row.forward)
        rows.append(
            (
                row.network,
                str(row.batch_size),
                _with_quartiles(row.forward.spread),
                _with_quartiles(row.official.spread),
                f"{faster.median:.2f} ({faster.lower:.2f}–{faster.upper:.2f})",
            )
        )
    columns = ("network", "batch", "a2j_jax", "PyTorch", "times as fast")
    notes = (
        "The official network and its post-processing in PyTorch, in float32 as it is published, with the same weights "
        "on the same crops. Times as fast: PyTorch's time divided by ours, round by round.",
    )
    return Table(
        "Forward, beside the official network in PyTorch", columns, tuple(rows), notes=notes
    )


def paper_speed(track: TrackSpec) -> tuple[str, ...]:
    """A2J's speed on a track as the paper has it (Sec. 4.4); empty where it has none."""
    found = published_speed(track.name)
    if found is None:
        return ()
    return (
        f"The paper: {found.fps:g} frames/s on {found.device}, {found.read_and_warp_ms:g} ms of it to read and warp "
        f"and {found.forward_and_post_ms:g} ms for forward and post-processing (Sec. 4.4); column: Tables 8 and 10.",
    )


def to_json(found: Measured, facts: Mapping[str, Any], track: TrackSpec) -> dict[str, Any]:
    """Everything: medians and quartiles, ms per frame, and the rounds they are of."""
    reading = found.read_and_warp.spread.median
    networks = []
    for row in found.rows:
        total = reading + row.forward.spread.median
        compared = None
        if row.official is not None:
            compared = {
                "forward_ms": row.official.spread._asdict(),
                "rounds_ms": row.official.milliseconds,
                "times_as_fast": ratio(row.official, row.forward)._asdict(),
            }
        networks.append(
            {
                "network": row.network,
                "parameters": row.parameters,
                "flops_per_frame": row.flops,
                "batch_size": row.batch_size,
                "forward_ms": row.forward.spread._asdict(),
                "rounds_ms": row.forward.milliseconds,
                "total_ms": total,
                "frames_per_second": 1e3 / total,
                "official": compared,
            }
        )
    return {
        **facts,
        "track": track.name,
        "crop_size": track.crop_size,
        "read_and_warp_ms": found.read_and_warp.spread._asdict(),
        "networks": networks,
        "published": list(paper_speed(track)),
    }


def _ms(value: float) -> str:
    """Three digits: what they are worth."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _with_quartiles(spread: Spread) -> str:
    return f"{_ms(spread.median)} ({_ms(spread.lower)}–{_ms(spread.upper)})"
