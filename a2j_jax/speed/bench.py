"""Networks timed against each other: what `a2j bench` does."""

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
from a2j_jax.models.a2j import A2J
from a2j_jax.models.network import PoseNetwork
from a2j_jax.progress import progress, say
from a2j_jax.speed.frames import write_frames
from a2j_jax.speed.stages import (
    Images,
    flops_per_frame,
    forward_of,
    parameters,
    read_and_warp_of,
)
from a2j_jax.speed.timing import WARM_UP_ROUNDS, Call, Timing, take_turns
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
        say(f"rendering {FRAMES_ON_DISK} frames of {track.name}")
        files = write_frames(Path(folder), track, FRAMES_ON_DISK)
        read_and_warp = read_and_warp_of(track)
        crops = np.stack([read_and_warp(file) for file in files])
        calls = {_READ: Call(lambda: [read_and_warp(file) for file in files], len(files))}
        batches = {size: np.resize(crops, (size, *crops.shape[1:])) for size in batch_sizes}
        for number, network in enumerate(networks):
            sizes = ", ".join(map(str, batch_sizes))
            say(f"compiling {network.name}, batch {sizes} ({number + 1} of {len(networks)})")
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
