"""When an answer may leave: at doubling steps after its order came in, so that how long a job took tells little.

The time of a job depends on the data. At the wall limits of the pack a dozen steps are possible: at most four bits a
job, where an unscheduled answer gave about seven at a resolution of 10 ms. The exact time is nowhere outside the
enclave.
"""

from __future__ import annotations

import time


def due(elapsed: float, first: float) -> float:
    """The first of `first`, 2 · `first`, 4 · `first`, … that is not before `elapsed`; all in seconds."""
    step = first
    while step < elapsed:
        step *= 2
    return step


def wait_until_due(began: float, first: float) -> None:
    """Sleep until the next step of what began at that monotonic time."""
    time.sleep(max(0.0, began + due(time.monotonic() - began, first) - time.monotonic()))
