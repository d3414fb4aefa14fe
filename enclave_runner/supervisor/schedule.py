"""When an answer may leave: at doubling steps after its order came in, so that how long a job took tells little.

The time of a job depends on the data. At the wall limits of the pack a dozen steps are possible: at most four bits a
job, where an unscheduled answer gave about seven at a resolution of 10 ms. Until its step a receipt is durable but
held: whoever asks how its ticket ended, or for the odometer, is told that it still runs. The log, which is the
bureau's, shows it at once.
"""

from __future__ import annotations

import threading
import time


def due(elapsed: float, first: float) -> float:
    """The first of `first`, 2 · `first`, 4 · `first`, … that is not before `elapsed`; all in seconds."""
    step = first
    while step < elapsed:
        step *= 2
    return step


class Schedule:
    """Which tickets have ended and wait for their step. Several threads may use it; times are monotonic."""

    def __init__(self, first: float) -> None:
        self._first = first
        self._lock = threading.Lock()
        self._due: dict[str, float] = {}

    def hold(self, ticket_id: str, began: float) -> float:
        """From now on the ticket is held until the next step of its order; return the time of that step."""
        leaves = began + due(time.monotonic() - began, self._first)
        with self._lock:
            self._due[ticket_id] = leaves
        return leaves

    def held(self) -> frozenset[str]:
        """The tickets whose step has not come."""
        now = time.monotonic()
        with self._lock:
            self._due = {ticket_id: leaves for ticket_id, leaves in self._due.items() if leaves > now}
            return frozenset(self._due)

    def wait(self, ticket_id: str) -> None:
        """Sleep until the ticket is no longer held."""
        with self._lock:
            leaves = self._due.get(ticket_id, 0.0)
        time.sleep(max(0.0, leaves - time.monotonic()))
