"""Everyone asked in turn, round by round, so that a busy machine hits all alike; and what came out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.dp.contestant import Contestant, Run
from benchmarks.dp.statements import BOUNDS, LEARNED, STATEMENTS, Answer, Bound, relative_error

FLOOR, OURS = "plain_duckdb", "ours"
SLOW, CHEAP = 10, 3.0  # so many times the fastest peer: once is enough, unless an answer takes under so many seconds
EARLY, HOPELESS = 5, 2.0  # after so many rounds a bound that errs so many times more than the other is dropped
WRONG = 1.0  # who errs by more than the value itself has not answered the question
NORMAL_95 = 1.645


@dataclass
class Score:
    """All runs of one contestant on one statement under one bound; `reason` when it gave up or was left out."""

    contestant: str
    statement: str
    bound: int
    seconds: list[float] = field(default_factory=list)
    errors: dict[str, list[float]] = field(default_factory=dict)
    peak_mib: float = 0.0
    reason: str = ""

    def add(self, run: Run, exact: Answer) -> None:
        """One more run, measured against the exact answer."""
        self.seconds.append(run.seconds)
        self.peak_mib = max(self.peak_mib, run.peak_mib)
        for column, values in exact.items():
            self.errors.setdefault(column, []).append(relative_error(run.answer.get(column, {}), values))

    @property
    def time(self) -> float:
        """Median seconds; infinite without a run."""
        return median(self.seconds) if self.seconds else math.inf

    def error(self, column: str) -> float:
        """Median over the runs of the median relative error over the keys; infinite without a run."""
        return median(self.errors[column]) if self.errors.get(column) else math.inf

    @property
    def wrong(self) -> bool:
        """Whether every column is off by more than its own value."""
        return bool(self.errors) and all(self.error(column) > WRONG for column in self.errors)


Pairs = Mapping[tuple[str, str], tuple[int, ...]]


def every_bound(names: Iterable[str]) -> dict[tuple[str, str], tuple[int, ...]]:
    """Both bounds for all, for ours that of its own choice too; one where the statement does not depend on it."""
    return {(name, key): _bounds(name, statement.bounded) for name in names for key, statement in STATEMENTS.items()}


def _bounds(name: str, bounded: str) -> tuple[int, ...]:
    stated = tuple(BOUNDS)
    if name == FLOOR or not bounded:
        return stated[-1:]
    if name == OURS:  # in how many groups a unit may count is its plan's business
        return (LEARNED.rows, *stated) if bounded == "rows" else stated[-1:]
    return stated


def race(
    contestants: Sequence[Contestant], statement: str, bounds: Pairs, exact: Answer, rounds: int, slow_runs: int = 1
) -> list[Score]:
    """The scores on one statement, every contestant under its bounds. A peer that is SLOW stops after `slow_runs`."""
    scores = {
        (one.name, bound): Score(one.name, statement, bound)
        for one in contestants
        for bound in bounds.get((one.name, statement), ())
    }
    for number in range(rounds):
        slow = _slow(scores.values()) if number >= slow_runs else set()
        for one in contestants:
            for bound in [bound for name, bound in scores if name == one.name]:
                score = scores[one.name, bound]
                if score.reason or one.name in slow or (number >= EARLY and _hopeless(score, scores.values())):
                    continue
                came = one.ask(statement, bound_of(bound))
                if isinstance(came, Run):
                    score.add(came, exact)
                else:
                    score.reason = came.reason
    return list(scores.values())


def _slow(scores: Iterable[Score]) -> set[str]:
    """Peers whose faster first run took over SLOW times the fastest peer's."""
    first: dict[str, float] = {}
    for score in scores:
        if score.contestant not in (FLOOR, OURS) and score.seconds and not score.wrong:
            first[score.contestant] = min(score.seconds[0], first.get(score.contestant, math.inf))
    fastest = min(first.values(), default=math.inf)
    return {name for name, seconds in first.items() if seconds > max(CHEAP, SLOW * fastest)}


def _hopeless(score: Score, scores: Iterable[Score]) -> bool:
    others = [other for other in scores if other.contestant == score.contestant and other is not score and other.errors]
    return any(all(score.error(column) > HOPELESS * other.error(column) for column in score.errors) for other in others)


def of(scores: Iterable[Score], contestant: str, statement: str) -> list[Score]:
    """One contestant's scores on one statement, those without a run left out."""
    return [s for s in scores if (s.contestant, s.statement) == (contestant, statement) and s.seconds]


def best_time(scores: Iterable[Score], contestant: str, statement: str) -> float:
    """The median seconds under its faster bound; infinite when it has not answered, or only wrongly."""
    return min((s.time for s in of(scores, contestant, statement) if not s.wrong), default=math.inf)


def bound_of(number: int) -> Bound:
    """The bound of that number of rows, 0 for a learned one."""
    return BOUNDS.get(number, LEARNED)


def best_bound(scores: Iterable[Score], contestant: str, statement: str) -> int:
    """The bound with the smaller error in the statement's first column; it must have answered."""
    column = STATEMENTS[statement].columns[0]
    return min(of(scores, contestant, statement), key=lambda score: score.error(column)).bound


def settled(scores: Sequence[Score]) -> list[Score]:
    """Ours under ONE clip per statement, so that its time and all of its columns belong together; peers as they are.

    It is the clip whose worst column compares best with the peers, whose best bound is taken column by column.
    """
    chosen = {key: _chosen(scores, key) for key in STATEMENTS}
    return [score for score in scores if score.contestant != OURS or chosen[score.statement] in (score.bound, None)]


def _chosen(scores: Sequence[Score], statement: str) -> int | None:
    def worst(score: Score) -> float:
        return max(score.error(column) / max(rivals[column], 1e-12) for column in rivals)

    rivals = {column: _rival(scores, statement, column) for column in STATEMENTS[statement].columns}
    found = of(scores, OURS, statement)
    return min(found, key=worst).bound if found else None


def _rival(scores: Sequence[Score], statement: str, column: str) -> float:
    """The least error of a peer; 1 where there is none."""
    names = {score.contestant for score in scores} - {FLOOR, OURS}
    errors = [best_errors(scores, name, statement, column) for name in names]
    return min((median(found) for found in errors if found), default=1.0)


def best_errors(scores: Iterable[Score], contestant: str, statement: str, column: str) -> list[float]:
    """The errors of all runs under the bound with the smaller median; empty when it has not answered."""
    found = of(scores, contestant, statement)
    return min(found, key=lambda score: score.error(column)).errors[column] if found else []


def clearly_larger(mine: Sequence[float], theirs: Sequence[float]) -> bool:
    """Whether `mine` is larger beyond chance: one-sided Mann-Whitney test at 5 %, normal approximation, ties at half.

    One run of theirs counts: it must be below all of twenty of ours.
    """
    pooled = sorted([*mine, *theirs])
    n, m, total = len(mine), len(theirs), len(mine) + len(theirs)
    wins = sum((a > b) + 0.5 * (a == b) for a in mine for b in theirs)
    ties = sum((t := pooled.count(value)) ** 3 - t for value in set(pooled))
    variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
    return variance > 0 and (wins - n * m / 2) / math.sqrt(variance) > NORMAL_95
