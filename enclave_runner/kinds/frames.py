"""How columns travel from a worker to the supervisor: one pipe, in frames of one column's next bytes.

A frame is the column's index (u16) and the length of what follows (u32), both big-endian, then at most 1 MiB.
"""

from __future__ import annotations

import os
import struct

HEADER = struct.Struct(">HI")
MAX_PAYLOAD = 1 << 20
DUPLICATES = 0xFFFF  # not a column: row numbers (u64, little-endian) that a second reading leaves out


class FrameSink:
    """A file that is one column's part of the pipe. Writes block until the supervisor has taken them."""

    closed = False

    def __init__(self, pipe: int, index: int) -> None:
        self._pipe, self._index = pipe, index

    def write(self, data: bytes) -> int:
        """All of it, in as many frames as it takes."""
        view = memoryview(data)
        for start in range(0, len(view), MAX_PAYLOAD):
            part = view[start : start + MAX_PAYLOAD]
            self._write_all(memoryview(HEADER.pack(self._index, len(part))))
            self._write_all(part)
        return len(view)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """The pipe is the others' too: it stays open."""

    def _write_all(self, view: memoryview) -> None:
        while view:
            view = view[os.write(self._pipe, view) :]
