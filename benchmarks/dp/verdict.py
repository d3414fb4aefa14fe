"""The goals: our scores beside the best of the peers and beside plain DuckDB."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.dp.race import FLOOR, OURS, Score, best_errors, best_time, clearly_larger
from benchmarks.dp.statements import STATEMENTS
from benchmarks.dp.table import percent
from benchmarks.report import Check

PEER_SHARE, FLOOR_FACTOR = 1 / 10, 1.5
NO_FLOOR_GOAL = frozenset({"q4"})  # quantiles over a grid do more than a quantile
CLASSES = {"q1": ("q1",), "q2": ("q2",), "q3": ("q3", "q3g"), "q4": ("q4",), "q5": ("q5",)}
CLEARLY_LESS, CLASSES_CLEARLY_LESS = 0.7, 3


def time_checks(size: str, scores: Sequence[Score]) -> list[Check]:
    """From plan to noised table: the larger of a tenth of the fastest peer and 1.5 × the floor; and 3 × the floor."""
    checks = []
    for key, statement in STATEMENTS.items():
        mine, floor = best_time(scores, OURS, key), best_time(scores, FLOOR, key)
        peer, fastest = min(
            ((best_time(scores, name, key), name) for name in peers(scores)), default=(math.inf, "none")
        )
        allowed = max(peer * PEER_SHARE if math.isfinite(peer) else 0.0, floor * FLOOR_FACTOR)
        note = f"{statement.title}: {_ms(mine)}, {fastest} {_ms(peer)}, plain DuckDB {_ms(floor)}"
        beside = "max(1/10 of the fastest entity-level peer, 1.5x plain DuckDB)"
        checks.append(Check(f"dp_time_{size}_{key}", _ratio(mine, allowed), "x", "<= 1", beside, note))
        if key not in NO_FLOOR_GOAL:
            floor_ratio = _ratio(mine, floor)
            checks.append(
                Check(f"dp_floor_{size}_{key}", floor_ratio, "x", "<= 3", "the exact query in plain DuckDB", note)
            )
    return checks


def error_checks(scores: Sequence[Score]) -> list[Check]:
    """Our median error over the best peer's, per column; and the number of classes where it is at most 0.7 of it."""
    checks, ratios = [], {}
    for key, statement in STATEMENTS.items():
        for column in statement.columns:
            mine = best_errors(scores, OURS, key, column)
            best, name = min(
                (
                    (median(theirs), name)
                    for name in peers(scores)
                    if (theirs := best_errors(scores, name, key, column))
                ),
                default=(math.inf, "none"),
            )
            ratios[key, column] = ratio = _ratio(median(mine), best) if mine else None
            better = [n for n in peers(scores) if _clearly_better(scores, n, key, column, mine)]
            tie = ratio is not None and ratio > 1 and not better
            note = f"{statement.title}: {percent(median(mine) if mine else math.inf)}, {name} {percent(best)}"
            note += "; a tie within chance (Mann-Whitney, 5 %)" if tie else ""
            value = 1.0 if tie else ratio
            checks.append(Check(f"dp_error_{key}_{column}", value, "x", "<= 1", "the best entity-level peer", note))
    clearly = sum(
        all(
            (r := ratios[key, column]) is not None and r <= CLEARLY_LESS
            for key in keys
            for column in STATEMENTS[key].columns
        )
        for keys in CLASSES.values()
    )
    goal, unit = f">= {CLASSES_CLEARLY_LESS}", f"of {len(CLASSES)}"
    checks.append(Check("dp_error_classes_below_0.7", clearly, unit, goal, "0.7 of the best peer's median error"))
    return checks


def memory_checks(size: str, peaks: Mapping[str, tuple[float, float]]) -> list[Check]:
    """Peak resident memory of our largest process over that of a process that runs the exact query in plain DuckDB."""
    checks = []
    for key, (mine, floor) in peaks.items():
        value = mine / floor if math.isfinite(mine / floor) else None
        note = (
            f"{STATEMENTS[key].title}: {mine:.0f} MiB beside {floor:.0f} MiB; files and extracts not counted in either"
        )
        checks.append(
            Check(f"dp_memory_{size}_{key}", value, "x", "<= 1.5", "plain DuckDB in a process of its own", note)
        )
    return checks


def peers(scores: Sequence[Score]) -> list[str]:
    """All contestants but the floor and ours, in order of appearance."""
    return [name for name in dict.fromkeys(score.contestant for score in scores) if name not in (FLOOR, OURS)]


def _clearly_better(scores: Sequence[Score], name: str, key: str, column: str, mine: Sequence[float]) -> bool:
    theirs = best_errors(scores, name, key, column)
    return bool(theirs and mine) and median(theirs) < median(mine) and clearly_larger(mine, theirs)


def _ratio(mine: float, other: float) -> float | None:
    if not math.isfinite(mine) or not math.isfinite(other):
        return None
    if other == 0:
        return 1.0 if mine == 0 else math.inf
    return mine / other


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if math.isfinite(seconds) else "no answer"
