"""Equal questions take turns: while one runs, the same question of the same grant waits for its answer.

Without turns, whether the second of two equal orders was charged would tell to the millisecond when the first ended.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """A lock for each question that is being answered, and none for others. Several threads may use it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: dict[tuple[str, str], tuple[threading.Lock, int]] = {}

    @contextmanager
    def of(self, grant_id: str, key: str | None) -> Iterator[None]:
        """The turn of that question; at once when nobody else asks it, or when it has no key."""
        if key is None:
            yield
            return
        name = (grant_id, key)
        with self._guard:
            lock, askers = self._waiting.get(name, (threading.Lock(), 0))
            self._waiting[name] = lock, askers + 1
        try:
            with lock:
                yield
        finally:
            self._leave(name)

    def _leave(self, name: tuple[str, str]) -> None:
        with self._guard:
            lock, askers = self._waiting.pop(name)
            if askers > 1:
                self._waiting[name] = lock, askers - 1

    def count(self) -> int:
        """How many different questions are being answered."""
        with self._guard:
            return len(self._waiting)
