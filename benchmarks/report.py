"""How a benchmark reports: a table for people, one JSON document for scripts."""

from __future__ import annotations

import json
import operator
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

RELATIONS: dict[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True)
class Check:
    """One figure against its goal, such as "<= 1.10"; no value means that it could not be measured, and `note` why."""

    name: str
    value: float | None
    unit: str
    goal: str
    peer: str
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether the goal is met."""
        relation, bound = self.goal.split()
        return self.value is not None and RELATIONS[relation](self.value, float(bound))


def interleaved(rounds: int, *actions: Callable[[], object]) -> list[float]:
    """Median seconds of each action, all of them in turn in every round, so that a busy machine hits them alike."""
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for action, seconds in zip(actions, times, strict=True):
            start = perf_counter()
            action()
            seconds.append(perf_counter() - start)
    return [median(seconds) for seconds in times]


def publish(name: str, checks: list[Check]) -> None:
    """Print the table, write build/bench/<name>.json."""
    for check in checks:
        value = "-" if check.value is None else f"{check.value:.3g}"
        mark = "ok  " if check.ok else "MISS"
        print(f"{mark} {check.name:28} {value:>9} {check.unit:8} goal {check.goal:9} beside {check.peer}. {check.note}")
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    document = {"machine": machine, "checks": [{**asdict(check), "ok": check.ok} for check in checks]}
    folder = Path("build/bench")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
