"""The devices that `a2j plan` compiles for: TPU slices that need not be here, with their vendor's figures."""

import contextlib
import math
import os
import re
from dataclasses import dataclass
from typing import Any

import jax
from jax.experimental import topologies

from a2j_jax.errors import UserError

GIB = 2**30
_GBIT = 1e9 / 8  # vendors give the interconnect of a chip in Gbit/s, one way, over all its ports


@dataclass(frozen=True)
class Chip:
    """Published figures of one TPU chip.

    The peak of the matrix units on bfloat16 holds for float32 networks too: by JAX's default precision a TPU multiplies
    float32 in one pass of bfloat16 and adds up in float32.
    """

    memory: int  # bytes of HBM that a program may fill, by the compiler: it refuses anything above
    flops: float  # peak FLOP/s of the matrix units on bfloat16
    memory_bandwidth: float  # bytes/s between HBM and the cores
    ports: int  # links to neighboring chips
    port_bandwidth: float  # bytes/s that leave through one of them
    slices: tuple[str, ...] = ()  # shapes it is rented in, chips by axis
    topology_options: tuple[tuple[str, str], ...] = ()  # of `jax.experimental.topologies`

    def links(self, sides: tuple[int, ...]) -> int:
        """Ports that lead to another chip, for a chip in the middle of a slice of this shape."""
        return min(self.ports, sum(min(side - 1, 2) for side in sides))


_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16")
# Two cores that share their work and memory, as v4 and v5p are used: one device per chip.
_MEGACORE = (("chip_config_name", "megacore"),)

CHIPS = {
    # https://cloud.google.com/tpu/docs/v5e: 197 TFLOP/s, 16 GB at 819 GB/s, 1,600 Gbit/s over 4 ports.
    "v5e": Chip(int(15.75 * GIB), 197e12, 819e9, 4, 1600 * _GBIT / 4, _FLAT),
    # https://cloud.google.com/tpu/docs/v6e: 918 TFLOP/s, 32 GB at 1,600 GB/s, 3,200 Gbit/s over 4 ports.
    "v6e": Chip(int(31.25 * GIB), 918e12, 1600e9, 4, 3200 * _GBIT / 4, _FLAT),
    # https://cloud.google.com/tpu/docs/v5p: 459 TFLOP/s, 95 GB at 2,765 GB/s, 4,800 Gbit/s, a 3D torus.
    "v5p": Chip(int(95.74 * GIB), 459e12, 2765e9, 6, 4800 * _GBIT / 6, _CUBES, _MEGACORE),
    # https://cloud.google.com/tpu/docs/v4: 275 TFLOP/s, 32 GiB at 1,200 GB/s, a 3D torus. Its links:
    # Jouppi et al. 2023 (arXiv:2304.01433), Table 4: six of 50 GB/s.
    "v4": Chip(int(30.75 * GIB), 275e12, 1200e9, 6, 50e9, _CUBES, _MEGACORE),
}
# libtpu looks for a TPU virtual machine, asks its metadata server, and takes a machine-wide lock. A compiler
# alone needs none of that; what the user has set stays.
_COMPILER_ONLY = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_LOG_DIR": "disabled",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclass(frozen=True)
class Target:
    """The devices that a step is compiled for."""

    name: str  # as given, e.g. "v5e:4x4"
    platform: str  # "tpu", "cpu" or "gpu"
    devices: tuple[jax.Device, ...]  # share the batch; compile-only ones for a TPU
    memory: int | None = None  # bytes each may fill; None: not known
    chip: Chip | None = None  # figures of its vendor; None: not known, so there is no bound
    links: int = 0  # ports of a chip that lead to others of the slice


def find_target(name: str) -> Target:
    """The devices of a topology: "v5e:4x4" and the like, "cpu", "cpu:8", "gpu" or "gpu:8".

    Raises:
      UserError: an unknown topology (the message lists the known ones), or missing devices or compiler.
    """
    kind, _, shape = name.partition(":")
    if kind in CHIPS and shape in CHIPS[kind].slices:
        return _tpu(name, CHIPS[kind], tuple(int(side) for side in shape.split("x")))
    count = int(shape) if re.fullmatch("[0-9]{1,4}", shape) else 0 if shape else 1
    if kind in ("cpu", "gpu") and count:
        return _local(name, kind, count)
    slices = [f"{kind}: {', '.join(chip.slices)}" for kind, chip in CHIPS.items()]
    known = "; ".join([*slices, "cpu[:DEVICES]", "gpu[:DEVICES]"])
    raise UserError(f"no topology {name!r}; there are: {known}")


def _tpu(name: str, chip: Chip, sides: tuple[int, ...]) -> Target:
    for variable, value in _COMPILER_ONLY.items():
        os.environ.setdefault(variable, value)
    options: dict[str, Any] = dict(chip.topology_options)
    if math.prod(sides) == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)  # four to a host, otherwise
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=name, **options)
    except Exception as error:  # a missing library, or any error of the compiler
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"no compiler for {name}: libtpu is missing or does not know it ({said}); "
            "pip install 'a2j-jax[tpu]' (no TPU is needed)"
        ) from error
    return Target(name, "tpu", tuple(found.devices), chip.memory, chip, chip.links(sides))


def _local(name: str, platform: str, count: int) -> Target:
    """Devices of this machine: unlike that of a TPU, a GPU's compiler times its kernels on one."""
    if platform == "cpu":
        with contextlib.suppress(RuntimeError):  # JAX has its devices already; they may be enough
            jax.config.update("jax_num_cpu_devices", count)
    try:
        devices = jax.devices(platform)
    except RuntimeError as error:
        raise UserError(
            f"{name}: JAX finds no {platform.upper()} here, and unlike that of a TPU its compiler needs one; run this "
            "on a machine that has it, after pip install 'a2j-jax[cuda]'"
        ) from error
    if len(devices) < count:
        raise UserError(f"{name}: this process has {len(devices)} {platform.upper()} devices only")
    memory = (devices[0].memory_stats() or {}).get("bytes_limit")
    if platform == "cpu":
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // count
    return Target(name, platform, tuple(devices[:count]), memory)
