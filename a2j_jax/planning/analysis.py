"""What a compiled program takes of each device: memory, arithmetic, traffic."""

from dataclasses import dataclass
from typing import Any

from a2j_jax.planning.hlo import Collective, collectives_of, memory_traffic


@dataclass(frozen=True)
class Usage:
    """What one step takes of each device.

    Attributes:
      arguments, outputs, temporaries, program: bytes of device memory.
      aliased: bytes of outputs that lie where arguments lay (the state that a step rewrites).
      flops: floating-point operations, by XLA's count.
      bytes_accessed: bytes that kernels read and write, by XLA's count, on-chip memory included.
      memory_traffic: bytes between the chip and its memory (`hlo.memory_traffic`).
      collectives: exchanges with other devices.
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    program: int
    flops: float
    bytes_accessed: float
    memory_traffic: int
    collectives: tuple[Collective, ...] = ()

    @property
    def peak(self) -> int:
        """Bytes of memory that must be free for a step."""
        return self.arguments + self.outputs - self.aliased + self.temporaries + self.program


def usage_of(compiled: Any, turns: int = 1) -> Usage:
    """What a `jax.stages.Compiled` takes of each device.

    Args:
      compiled: the program.
      turns: parts that a batch is split into. XLA counts the body of a loop once; its numbers are multiplied
        by this, which counts the optimiser, about a thousandth of the arithmetic, too often.
    """
    memory, cost, text = compiled.memory_analysis(), compiled.cost_analysis(), compiled.as_text()
    return Usage(
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes,
        aliased=memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        program=memory.generated_code_size_in_bytes,
        flops=turns * cost["flops"],
        bytes_accessed=turns * cost["bytes accessed"],
        memory_traffic=memory_traffic(text, turns),
        collectives=collectives_of(text, turns),
    )
