"""A log of memory: every value that a name of the enclave's code ever holds while the log records.

For the test build only. Names are followed line by line in every Python frame below `enclave_runner`, in this thread;
what its functions return is logged too, and so is what libsodium takes and gives, whose functions have no frames.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from types import FrameType
from typing import Any

import msgspec
import pytest
import rbcl

PACKAGE = "enclave_runner."
# What is there before the first question, and of that size, is a table; a question's own values are smaller.
LARGE = 1 << 20
DEPTH = 4


@dataclass(frozen=True)
class Entry:
    """One value: where it was held, under which name, of which type, and its bytes."""

    where: str
    name: str
    kind: str
    value: bytes

    @property
    def shape(self) -> tuple[str, str, str, int]:
        """All but the bytes themselves. Of a number the length is not told: 9 and 10 have the same shape."""
        return self.where, self.name, self.kind, 0 if self.kind == "int" else len(self.value)


class MemoryLog:
    """What was held, in the order in which it was first seen."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._held: dict[tuple[int, str], Any] = {}

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Follow this thread until the block ends."""
        before = sys.gettrace()
        with pytest.MonkeyPatch.context() as patch:
            for name in dir(rbcl):
                if name.startswith("crypto_") and callable(getattr(rbcl, name)):
                    patch.setattr(rbcl, name, self._overheard(name, getattr(rbcl, name)))
            sys.settrace(self._trace)
            try:
                yield
            finally:
                sys.settrace(before)

    def holds(self, needle: bytes) -> bool:
        """Whether those bytes stand in any value."""
        return any(needle in entry.value for entry in self.entries)

    def numbers(self) -> list[tuple[str, str, bytes]]:
        """Every number that was held, in order."""
        return [(entry.where, entry.name, entry.value) for entry in self.entries if entry.kind == "int"]

    def shape(self) -> list[tuple[str, str, str, int]]:
        """The log without its bytes: equal shapes mean the same steps over values of the same sizes."""
        return [entry.shape for entry in self.entries]

    def differing(self, other: MemoryLog) -> set[tuple[str, str]]:
        """Where two logs of the same shape differ, as place and name."""
        pairs = zip(self.entries, other.entries, strict=True)
        return {(mine.where, mine.name) for mine, theirs in pairs if mine.value != theirs.value}

    def _trace(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        if not str(frame.f_globals.get("__name__", "")).startswith(PACKAGE):
            return None
        where = f"{frame.f_globals['__name__']}:{frame.f_code.co_qualname}"
        for name, value in list(frame.f_locals.items()):
            key = (id(frame), name)
            if key not in self._held or self._held[key] is not value:
                self._held[key] = value
                self._note(where, name, value)
        if event == "return":
            self._note(where, "return", argument)
            self._held = {key: value for key, value in self._held.items() if key[0] != id(frame)}
        return self._trace

    def _overheard(self, name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(inner)
        def call(*arguments: Any) -> Any:
            given = inner(*arguments)
            for place, value in enumerate((*arguments, given)):
                self._note(f"rbcl:{name}", str(place), value)
            return given

        return call

    def _note(self, where: str, name: str, value: object) -> None:
        for kind, content in _leaves(value, DEPTH):
            self.entries.append(Entry(where, name, kind, content))


def _leaves(value: object, depth: int) -> Iterator[tuple[str, bytes]]:
    """The plain values in a value. Objects that are no values (sockets, locks, modules) are named, not opened."""
    if isinstance(value, bool) or value is None:
        yield "flag", str(value).encode()
    elif isinstance(value, int):
        yield "int", str(value).encode()
    elif isinstance(value, str):
        yield "str", value.encode()
    elif isinstance(value, bytes | bytearray | memoryview) or hasattr(value, "tobytes"):
        yield _buffer(value)
    elif depth and isinstance(value, msgspec.Struct):  # maybe not filled yet: its maker is followed too
        for name in value.__struct_fields__:
            yield from _leaves(getattr(value, name, None), depth - 1)
    elif depth and is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _leaves(getattr(value, field.name, None), depth - 1)
    elif depth and isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(key, depth - 1)
            yield from _leaves(item, depth - 1)
    elif depth and isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item, depth - 1)
    else:
        yield type(value).__name__, b""


def _buffer(value: Any) -> tuple[str, bytes]:
    size = len(value) if isinstance(value, bytes | bytearray) else value.nbytes
    kind = "bytes" if isinstance(value, bytes | bytearray | memoryview) else type(value).__name__
    if size >= LARGE:
        return f"large-{kind}", b""
    return kind, bytes(value) if isinstance(value, bytes | bytearray) else value.tobytes()
