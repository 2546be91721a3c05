"""Networks timed against each other: what `a2j bench` does.

What `a2j bench` found, as tables and as JSON.
"""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import jax
import numpy as np

from a2j_jax import __version__
from a2j_jax.evaluation.published import published_speed, row_values
from a2j_jax.evaluation.tables import ABSENT, Table
from a2j_jax.log import logger, progress
from a2j_jax.models.a2j import A2J, PoseNetwork
from a2j_jax.tools.timing import (
    WARM_UP_ROUNDS,
    Call,
    Images,
    Spread,
    Timing,
    flops_per_frame,
    forward_of,
    parameters,
    ratio,
    read_and_warp_of,
    take_turns,
    write_frames,
)
from a2j_jax.tracks import TrackSpec

FRAMES_ON_DISK = 4  # files are read in turn: no two take equally long
OfficialOf = Callable[[Any, Any, int], Callable[[Images], Any]]


@dataclass(frozen=True)
class Network:
    """What is timed: a name to print, and a network with its variables."""

    name: str
    model: PoseNetwork
    variables: Any

    @property
    def is_official(self) -> bool:
        """Whether it is the network of the official program, of whatever width and depth."""
        model = self.model
        return isinstance(model, A2J) and model.proposals and not model.one_branch


@dataclass(frozen=True)
class Row:
    """What was found of a network at a batch size.

    Attributes:
      network: its name.
      parameters: trainable numbers.
      flops: floating-point operations per frame.
      batch_size: frames that go through the network at once.
      forward: the network and its decoding.
      official: the official network in PyTorch, with the same weights, on the same crops; None: not timed.
    """

    network: str
    parameters: int
    flops: float
    batch_size: int
    forward: Timing
    official: Timing | None


@dataclass(frozen=True)
class Measured:
    """What was found in one run, in which everything took turns.

    Attributes:
      read_and_warp: a frame on disk -> a normalised crop in host memory.
      rows: the networks, each at every batch size.
    """

    read_and_warp: Timing
    rows: tuple[Row, ...]


class _Key(NamedTuple):
    """Of a call: the program that runs, number of the network, frames at once."""

    program: str
    network: int
    batch_size: int


_READ = _Key("read and warp", 0, 1)


def measure(
    networks: Sequence[Network],
    track: TrackSpec,
    batch_sizes: Sequence[int],
    rounds: int,
    official_of: OfficialOf | None = None,
) -> Measured:
    """Time both parts of finding joints, for some networks; says how far it is.

    Args:
      networks: for crops of this track.
      track: whose frames are rendered and cropped.
      batch_sizes: frames that go through a network at once.
      rounds: times that everything is run.
      official_of: as `official.official_forward_of`; None: no comparison.
    """
    with TemporaryDirectory() as folder:
        logger.info(f"rendering {FRAMES_ON_DISK} frames of {track.name}")
        files = write_frames(Path(folder), track, FRAMES_ON_DISK)
        read_and_warp = read_and_warp_of(track)
        crops = np.stack([read_and_warp(file) for file in files])
        calls = {_READ: Call(lambda: [read_and_warp(file) for file in files], len(files))}
        batches = {size: np.resize(crops, (size, *crops.shape[1:])) for size in batch_sizes}
        for number, network in enumerate(networks):
            sizes = ", ".join(map(str, batch_sizes))
            logger.info(
                f"compiling {network.name}, batch {sizes} ({number + 1} of {len(networks)})"
            )
            for (program, size), call in _calls(network, track, batches, official_of).items():
                calls[_Key(program, number, size)] = call
        total = (WARM_UP_ROUNDS + rounds) * len(calls)
        with progress("timing", total, "calls") as advance:
            timings = take_turns(calls, rounds, advance=advance)
    rows = []
    for number, network in enumerate(networks):
        weights, flops = parameters(network.variables), flops_per_frame(network.model, track)
        for size in batch_sizes:
            ours, theirs = _Key("ours", number, size), _Key("official", number, size)
            row = Row(network.name, weights, flops, size, timings[ours], timings.get(theirs))
            rows.append(row)
    return Measured(timings[_READ], tuple(rows))


def _calls(
    network: Network,
    track: TrackSpec,
    batches: Mapping[int, Images],
    official_of: OfficialOf | None,
) -> dict[tuple[str, int], Call]:
    """The calls of one network, by program ("ours", "official") and batch size; neighbours are to be compared."""
    model, variables = network.model, jax.device_put(network.variables)
    official = None
    if official_of is not None and network.is_official:
        official = official_of(model, variables, track.crop_size)
    calls = {}
    for size, images in batches.items():
        ours = forward_of(model, variables, track, size)
        calls["ours", size] = Call(partial(ours, images), size)
        if official is not None:
            calls["official", size] = Call(partial(official, images), size)
    return calls


def machine() -> dict[str, str]:
    """What the numbers are of, to be printed with them: device, what else it does, threads, versions."""
    kind, count = jax.devices()[0].device_kind, jax.device_count()
    used = f"{kind}, 1 of {count} used" if count > 1 else kind
    versions = [f"{name} {version(name)}" for name in ("jax", "jaxlib", "numpy")]
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return {
        "device": f"{used} ({platform.machine()})",
        "load": f"{load} before the first call",
        "threads": f"{usable_cores()} (as many as processor cores)",
        "versions": ", ".join(
            [f"a2j_jax {__version__}", f"Python {platform.python_version()}", *versions]
        ),
    }


def usable_cores() -> int:
    """Processor cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
