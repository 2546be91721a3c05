"""What vendors say of their chips: memory, arithmetic, bandwidths, and the slices they are rented in."""

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """One generation of accelerator; all numbers are of one chip.

    Attributes:
      name: as its topologies begin, "v5e" in "v5e:4x4".
      memory: bytes of HBM that a program may fill. The compiler's own figure: it refuses anything above, and keeps
        the rest of what the vendor counts for itself.
      flops: peak FLOP/s of the matrix units on bfloat16. It holds for float32 networks too: by JAX's
        default precision a TPU multiplies float32 in one pass of bfloat16 and adds up in float32.
      memory_bandwidth: bytes/s between HBM and the cores.
      ports: links to neighbouring chips.
      port_bandwidth: bytes/s that leave through one of them.
      slices: shapes it is rented in, chips by axis.
      topology_options: what `jax.experimental.topologies` must be told beside the name.
    """

    name: str
    memory: int
    flops: float
    memory_bandwidth: float
    ports: int
    port_bandwidth: float
    slices: tuple[str, ...]
    topology_options: tuple[tuple[str, str], ...] = ()

    def links(self, sides: tuple[int, ...]) -> int:
        """Ports that lead anywhere on a chip in the middle of a slice of this shape."""
        return min(self.ports, sum(min(side - 1, 2) for side in sides))


_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16")
# Vendors give the interconnect of a chip in Gbit/s, one way, over all its ports.
_GBIT = 1e9 / 8
# Two cores that share their work and memory, as v4 and v5p are used: one device per chip.
_MEGACORE = (("chip_config_name", "megacore"),)

CHIPS: dict[str, Chip] = {
    chip.name: chip
    for chip in (
        # https://cloud.google.com/tpu/docs/v5e: 197 TFLOP/s, 16 GB at 819 GB/s, 1,600 Gbit/s over 4 ports.
        Chip("v5e", int(15.75 * GIB), 197e12, 819e9, 4, 1600 * _GBIT / 4, _FLAT),
        # https://cloud.google.com/tpu/docs/v6e: 918 TFLOP/s, 32 GB at 1,600 GB/s, 3,200 Gbit/s over 4 ports.
        Chip("v6e", int(31.25 * GIB), 918e12, 1600e9, 4, 3200 * _GBIT / 4, _FLAT),
        # https://cloud.google.com/tpu/docs/v5p: 459 TFLOP/s, 95 GB at 2,765 GB/s, 4,800 Gbit/s, a 3D torus.
        Chip("v5p", int(95.74 * GIB), 459e12, 2765e9, 6, 4800 * _GBIT / 6, _CUBES, _MEGACORE),
        # https://cloud.google.com/tpu/docs/v4: 275 TFLOP/s, 32 GiB at 1,200 GB/s, a 3D torus. Its links:
        # Jouppi et al. 2023 (arXiv:2304.01433), Table 4: six of 50 GB/s.
        Chip("v4", int(30.75 * GIB), 275e12, 1200e9, 6, 50e9, _CUBES, _MEGACORE),
    )
}
