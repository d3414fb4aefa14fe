"""A small interpreter of classic BPF as seccomp runs it: what a filter says of one system call."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

LOAD, JUMP, JEQ, JGE, JSET, AND, RET = 0x20, 0x05, 0x15, 0x35, 0x45, 0x54, 0x06
MAX_STEPS = 4096


@dataclass(frozen=True)
class Call:
    """struct seccomp_data: number, architecture, six 64-bit arguments."""

    number: int
    arguments: tuple[int, ...] = ()
    architecture: int = 0xC000003E

    def word(self, offset: int) -> int:
        """The 32-bit word at an offset; the filter may load no other size."""
        padded = (*self.arguments, *(0,) * (6 - len(self.arguments)))
        data = struct.pack("<IIQ6Q", self.number, self.architecture, 0, *(value % (1 << 64) for value in padded))
        assert offset % 4 == 0
        return int(struct.unpack_from("<I", data, offset)[0])


def verdict(program: Sequence[tuple[int, int, int, int]], call: Call) -> int:
    """The value that the filter returns."""
    place, accumulator = 0, 0
    for _ in range(MAX_STEPS):
        operation, if_true, if_false, operand = program[place]
        place += 1
        if operation == RET:
            return operand
        if operation == LOAD:
            accumulator = call.word(operand)
        elif operation == AND:
            accumulator &= operand
        elif operation == JUMP:
            place += operand
        else:
            holds = {JEQ: accumulator == operand, JGE: accumulator >= operand, JSET: bool(accumulator & operand)}
            place += if_true if holds[operation] else if_false
    raise AssertionError("the filter does not end")
