"""What `a2j bench` found, as tables and as JSON."""

from collections.abc import Mapping
from typing import Any

from a2j_jax.evaluation.published import published_rows
from a2j_jax.evaluation.tables import Table
from a2j_jax.speed.bench import Measured
from a2j_jax.speed.timing import Spread, ratio
from a2j_jax.tracks import TrackSpec


def speed_table(found: Measured, title: str, track: TrackSpec) -> Table:
    """Every network at every batch size, a row each: both parts, their sum, frames per second."""
    reading = found.read_and_warp.spread.median
    columns = (
        "network", "M weights", "GFLOP", "batch", "read, warp", "forward", "sum", "frames/s"
    )  # fmt: skip
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
        f"normalised crop, one frame after the other; {_with_quartiles(found.read_and_warp.spread)}. Forward: from "
        "crops in host memory to joints in host memory, post-processing included. GFLOP: of one frame's forward, by "
        "XLA's count.",
        *published_speed(track),
    )
    return Table(title, columns, tuple(rows), notes=notes)


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


def published_speed(track: TrackSpec) -> tuple[str, ...]:
    """The paper's frames per second on a track, and who says so; empty where none is known."""
    return tuple(
        f"The paper: {row.values['fps']:g} frames/s on one NVIDIA GTX 1080 Ti. {row.sources['fps']}."
        for row in published_rows(track.name)
        if row.method == "A2J" and "fps" in row.values
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
        "published": list(published_speed(track)),
    }


def _ms(value: float) -> str:
    """Three digits: what they are worth."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _with_quartiles(spread: Spread) -> str:
    return f"{_ms(spread.median)} ({_ms(spread.lower)}–{_ms(spread.upper)})"
