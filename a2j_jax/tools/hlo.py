"""Reading the text of a compiled program: which exchanges it makes, and what it moves through memory.

HLO text is a list of computations; a line of one is `%name = shape opcode(%operand, ...), attribute=...`, where a
shape is an array, `f32[64,14]{1,0:T(8,128)S(1)}`, or a tuple of them. `S(1)` is memory on the chip, which costs no
bandwidth of the device's own memory. What runs beside other work is split in two instructions, `-start` and `-done`.

What a compiled program takes of each device: memory, arithmetic, traffic.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(
    r"^\s+(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<shape>.+?) (?P<opcode>[a-z][a-z\-]*)\((?P<rest>.*)$"
)
_ARRAY = re.compile(r"\b(pred|bf16|[a-z]\d+)(?:e\dm\d\w*)?\[([\d,]*)\](\{[^}]*\})?")
_BODY = re.compile(r" while\(.*body=%?([\w.\-]+)")
_OPERAND = re.compile(r"%([\w.\-]+)")
_COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)
# Names for what other instructions made, and calls of computations that are counted by themselves.
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call"}


@dataclass(frozen=True)
class Collective:
    """Exchanges of one kind in a step: how many, and bytes of their results on one device."""

    kind: str
    count: int
    bytes: int


class _Array(NamedTuple):
    bytes: int
    on_chip: bool


class _Instruction(NamedTuple):
    name: str
    results: list[_Array]
    opcode: str
    operands: list[str]
    turns: int  # how often a step runs it
    in_fusion: bool  # or in another computation that is part of one kernel


def collectives_of(hlo: str, turns: int = 1) -> tuple[Collective, ...]:
    """The exchanges between devices in a program, the largest kind first; `turns` is of its loops."""
    found: dict[str, list[int]] = defaultdict(list)
    for one in _instructions(hlo, turns):
        kind = one.opcode.removesuffix("-start")
        if kind in _COLLECTIVES:
            sizes = [array.bytes for array in one.results]
            paired = one.opcode != kind and kind in ("all-gather", "collective-permute")
            # These starts are (operand, result, ...).
            found[kind] += [sizes[1] if paired else sum(sizes)] * one.turns
    kinds = (Collective(kind, len(sizes), sum(sizes)) for kind, sizes in found.items())
    return tuple(sorted(kinds, key=lambda one: -one.bytes))


def memory_traffic(hlo: str, turns: int = 1) -> int:
    """Bytes that a step reads from and writes to the device's memory.

    Every kernel reads its operands once and writes its results once; what lies on the chip is free, and so is
    the padding of layouts. XLA's own "bytes accessed" counts both kinds of memory, and reads that a kernel repeats.

    Args:
      hlo: text of a compiled program.
      turns: how often the body of a loop runs; the text does not always say.
    """
    arrays: dict[str, list[_Array]] = {}
    total = 0
    for one in _instructions(hlo, turns):
        if one.in_fusion:
            continue
        arrays[one.name] = one.results
        if one.opcode in _FREE or one.opcode.endswith("-done"):
            continue
        touched = list(one.results)
        if one.opcode == "slice-start":  # ((source), slice, ...): no more than the slice is read
            source, part, *_ = one.results
            touched = [_Array(part.bytes, source.on_chip), part]
        elif not one.opcode.endswith("-start"):  # whose results name its operands
            touched += [array for operand in one.operands for array in arrays.get(operand, [])]
        total += one.turns * sum(array.bytes for array in touched if not array.on_chip)
    return total


def _instructions(hlo: str, turns: int) -> Iterator[_Instruction]:
    bodies = set(_BODY.findall(hlo))
    is_entry, name = False, ""
    for line in hlo.splitlines():
        if header := _COMPUTATION.match(line):
            is_entry, name = header["entry"] is not None, header["name"]
        elif found := _INSTRUCTION.match(line):
            yield _Instruction(
                found["name"],
                [_array(*texts) for texts in _ARRAY.findall(found["shape"])],
                found["opcode"],
                _OPERAND.findall(found["rest"].split("), ")[0]),
                turns if name in bodies else 1,
                not is_entry and name not in bodies,
            )


def _array(dtype: str, sides: str, layout: str) -> _Array:
    bits = 8 if dtype == "pred" else int(re.sub(r"\D", "", dtype))
    elements = math.prod(int(side) for side in sides.split(",")) if sides else 1
    return _Array(elements * bits // 8, "S(" in layout)


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
