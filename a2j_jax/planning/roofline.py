"""The least time a step can take, from what it does and what the vendor says the chip can do.

Three things must happen, and the slowest of them bounds the step even if the others hide behind it perfectly:
arithmetic at the matrix units' peak, traffic at the full bandwidth of memory, and exchanges between chips at the
full bandwidth of all links. Latencies, kernels that wait for each other and input are not in it.
"""

from dataclasses import dataclass

from a2j_jax.planning.analysis import Usage
from a2j_jax.planning.chips import Chip
from a2j_jax.planning.hlo import Collective


@dataclass(frozen=True)
class Bound:
    """Lower bounds on the time of one step, seconds."""

    compute: float
    memory: float
    interconnect: float

    @property
    def seconds(self) -> float:
        """The bound on the step."""
        return max(self.compute, self.memory, self.interconnect)

    @property
    def binds(self) -> str:
        """The name of the term that is the bound."""
        terms = {"compute": self.compute, "memory": self.memory, "interconnect": self.interconnect}
        return max(terms, key=lambda name: terms[name])


def bound(usage: Usage, chip: Chip, devices: int, links: int) -> Bound:
    """The roofline bound of a step.

    Args:
      usage: of one device.
      chip: its figures.
      devices: chips that take part.
      links: ports of a chip that lead to the others.
    """
    sent = sum(bytes_sent(one, devices) for one in usage.collectives)
    return Bound(
        compute=usage.flops / chip.flops,
        memory=usage.memory_traffic / chip.memory_bandwidth,
        interconnect=sent / (links * chip.port_bandwidth) if sent else 0.0,
    )


def bytes_sent(collective: Collective, devices: int) -> float:
    """The least that one device must send for these exchanges, whatever the algorithm.

    Of an all-reduce, everyone's share of the sum must be collected (n - 1 parts of n) and given out again
    (the same); a gather and a scatter are one half of that each. Sizes are of results.
    """
    others = devices - 1
    parts = {
        "all-reduce": 2 * others / devices,
        "all-gather": others / devices,
        "all-to-all": others / devices,
        "reduce-scatter": others,
        "collective-permute": 1.0,
    }
    return collective.bytes * parts[collective.kind]
