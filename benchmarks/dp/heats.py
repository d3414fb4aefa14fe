"""Who races whom on which data: everyone on the small set; on the large one the slow peers alone, once, if time allows.

All that race together stay loaded together; the slow ones, which are also the large ones, are loaded one at a time.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.dp.contestant import Contestant, Run, running, start
from benchmarks.dp.data import Size, exact_answer
from benchmarks.dp.memory import Watch
from benchmarks.dp.ours import Ours
from benchmarks.dp.protocol import Given
from benchmarks.dp.race import (
    CHEAP,
    FLOOR,
    OURS,
    SLOW,
    Pairs,
    Score,
    best_bound,
    best_time,
    bound_of,
    every_bound,
    race,
    settled,
)
from benchmarks.dp.statements import BOUNDS, STATEMENTS, Answer, relative_error
from benchmarks.dp.table import percent
from benchmarks.dp.verdict import peers
from benchmarks.report import Check

Say = Callable[[str], None]
PYTHON = {FLOOR: Path(sys.executable)}


@dataclass(frozen=True)
class Field:
    """One data set, its exact answers, and the interpreters of the peers that could be installed."""

    size: Size
    given: Given
    exact: Mapping[str, Answer]
    pythons: Mapping[str, Path]

    @staticmethod
    def of(size: Size, given: Given, pythons: Mapping[str, Path], keys: Iterable[str] = STATEMENTS) -> Field:
        """Computes the exact answers to those statements."""
        return Field(size, given, {key: exact_answer(given, key) for key in keys}, pythons)


def small_heat(field: Field, ours: Ours, rounds: int, slow_runs: int, say: Say) -> list[Score]:
    """Everyone under both bounds, all statements."""
    scores: list[Score] = []
    say(f"loading {', '.join(field.pythons)}")
    with running({**PYTHON, **field.pythons}, field.given) as programs:
        contestants: list[Contestant] = [programs[0], ours, *programs[1:]]
        bounds = every_bound(one.name for one in contestants)
        for key, exact in field.exact.items():
            say(f"{field.size.rows:,} rows, {key}: {STATEMENTS[key].title}")
            scores += race(contestants, key, bounds, exact, rounds, slow_runs)
    return scores


def large_heat(
    field: Field, ours: Ours, small: Sequence[Score], rounds: int, patience: float, growth: float, say: Say
) -> list[Score]:
    """Everyone under the better bound of the small heat; who was slow there runs once, alone, in `patience` seconds.

    `growth` is how many times more rows there are than in the small heat.
    """
    known = settled(small)
    bounds = {(s.contestant, s.statement): (best_bound(known, s.contestant, s.statement),) for s in known if s.seconds}
    slow = slow_pairs(small)
    quick = {
        name: python for name, python in field.pythons.items() if any((name, key) not in slow for key in STATEMENTS)
    }
    scores: list[Score] = []
    say(f"loading {', '.join(quick)}")
    with running({**PYTHON, **quick}, field.given) as programs:
        for key, exact in field.exact.items():
            say(f"{field.size.rows:,} rows, {key}: {STATEMENTS[key].title}")
            racing: list[Contestant] = [programs[0], ours]
            racing += [one for one in programs[1:] if (one.name, key) not in slow]
            scores += race(racing, key, bounds, exact, rounds)
    for name, python in field.pythons.items():
        keys = [key for key in STATEMENTS if (name, key) in slow]
        if keys:
            say(f"{field.size.rows:,} rows, {name} alone: {', '.join(keys)}")
            expected = {key: best_time(small, name, key) * growth for key in keys}
            scores += _alone(field, name, python, bounds, expected, patience)
    return scores


def slow_pairs(scores: Sequence[Score]) -> set[tuple[str, str]]:
    """(contestant, statement) of every peer that took more than SLOW times the fastest."""
    names = peers(scores)
    times = {(name, key): best_time(scores, name, key) for name in names for key in STATEMENTS}
    fastest = {key: min((times[name, key] for name in names), default=math.inf) for key in STATEMENTS}
    return {(n, key) for (n, key), seconds in times.items() if max(CHEAP, SLOW * fastest[key]) < seconds < math.inf}


def _alone(
    field: Field, name: str, python: Path, bounds: Pairs, expected: Mapping[str, float], patience: float
) -> list[Score]:
    scores, left = [], patience
    with running({name: python}, field.given) as programs:
        for key, seconds in expected.items():
            if seconds > left:
                reason = f"left out at {field.size.rows:,} rows: it would take about {seconds:.0f} s more"
                scores.append(Score(name, key, bounds[name, key][0], reason=reason))
                continue
            found = race(programs, key, bounds, field.exact[key], 1)
            left -= sum(second for score in found for second in score.seconds)
            scores += found
    return scores


def memory_heat(field: Field, ours: Ours, scores: Sequence[Score]) -> dict[str, tuple[float, float]]:
    """Peak MiB of our workers and of a fresh process of plain DuckDB, by statement; NaN where there was no answer."""
    clips = {s.statement: bound_of(s.bound) for s in settled(scores) if s.contestant == OURS}
    return {key: (ours.peak_mib(key, clip), _floor_peak(field.given, key)) for key, clip in clips.items()}


def huge_heat(field: Field, ours: Ours, key: str = "q1") -> Check:
    """One answer over a table that no extract holds: the largest worker and one partition together, against 4 GiB."""
    bound = BOUNDS[128]
    peer, name = "a machine of 4 GiB", f"dp_partitions_{field.size.name}_{key}"
    with Watch(os.getpid()) as watch:
        came = ours.ask(key, bound)
    if not isinstance(came, Run):
        return Check(name, None, "MiB", "<= 4096", peer, came.reason)
    error = relative_error(came.answer[STATEMENTS[key].columns[0]], field.exact[key][STATEMENTS[key].columns[0]])
    note = f"{field.size.rows:,} rows in {ours.partitions(key, bound)} partitions, built and answered in "
    note += f"{came.seconds:.0f} s, error {percent(error)}"
    return Check(name, watch.peak_mib + ours.extract_mib, "MiB", "<= 4096", peer, note)


def _floor_peak(given: Given, key: str) -> float:
    with start(FLOOR, PYTHON[FLOOR], given) as program:
        came = program.ask(key, next(iter(BOUNDS.values())))
        return came.peak_mib if isinstance(came, Run) else math.nan
