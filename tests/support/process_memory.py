"""What stands in the memory of a running process and of all that it started, as its host's root could read it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

PIECE = 8 << 20


def family_of(pid: int) -> tuple[int, ...]:
    """The process and its descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            parents.setdefault(_parent_of(int(entry.name)), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += parents.get(found[-1], [])
    return tuple(found)


def found_in(pid: int, needles: Mapping[str, bytes]) -> frozenset[str]:
    """Which of the needles stand in its writable memory.

    Raises:
        PermissionError: this process may not look.
    """
    longest = max(map(len, needles.values()))
    found: set[str] = set()
    for piece in _memory(pid, longest):
        found |= {name for name, needle in needles.items() if name not in found and needle in piece}
    return frozenset(found)


def _parent_of(pid: int) -> int:
    try:
        return int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def _memory(pid: int, overlap: int) -> Iterator[bytes]:
    folder = Path("/proc") / str(pid)
    with (folder / "mem").open("rb", buffering=0) as memory:
        for line in (folder / "maps").read_text().splitlines():
            place, rights, *_ = line.split()
            if "rw" not in rights:
                continue
            start, _, end = place.partition("-")
            yield from _pieces(memory.fileno(), int(start, 16), int(end, 16), overlap)


def _pieces(descriptor: int, start: int, end: int, overlap: int) -> Iterator[bytes]:
    while start < end:
        try:
            piece = os.pread(descriptor, min(PIECE, end - start), start)
        except (OSError, OverflowError):  # a hole, or what nobody may read
            return
        if not piece:
            return
        yield piece
        start += len(piece) - (overlap if len(piece) > overlap and start + len(piece) < end else 0)
