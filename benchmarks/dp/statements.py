"""The query classes: what is asked, the exact answer's SQL, and how far an answer is from it. Standard library only:
the peers' environments read this module too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

EPSILON, DELTA = 1.0, 1e-6
GROUPS = tuple(f"g{number:02d}" for number in range(20))
REGIONS = tuple(f"r{number}" for number in range(8))
AMOUNT = (0, 100)
QUARTILES = (0.25, 0.5, 0.75)
TOTAL = ""  # the key of an answer without groups

Answer = dict[str, dict[str, float]]  # column -> key -> value


@dataclass(frozen=True)
class Bound:
    """What everyone may know of a unit's activity: so many rows in all, or so many groups of so many rows each."""

    rows: int
    groups: int
    rows_per_group: int


BOUNDS = {bound.rows: bound for bound in (Bound(32, 8, 4), Bound(128, 16, 8))}
LEARNED = Bound(0, 0, 0)  # none is stated: whoever can learn one does so privately, out of the same ε


@dataclass(frozen=True)
class Statement:
    """One question at (EPSILON, DELTA) for all of its columns together; `exact` is what plain SQL answers.

    `bounded` says which bounds on a unit change the answer: on its "rows", on its "groups", or none.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    exact: str
    bounded: str = "rows"


STATEMENTS = {
    statement.name: statement
    for statement in (
        Statement("q1", "count by group", ("rows",), "SELECT grp, count(*) FROM events GROUP BY grp"),
        Statement(
            "q2",
            "clipped sum and mean by group",
            ("sum", "mean"),
            "SELECT grp, sum(least(amount, 100)), avg(least(amount, 100)) FROM events GROUP BY grp",
        ),
        Statement("q3", "distinct units", ("units",), "SELECT '', count(DISTINCT user_id) FROM events", bounded=""),
        Statement(
            "q3g",
            "distinct units by group",
            ("units",),
            "SELECT grp, count(DISTINCT user_id) FROM events GROUP BY grp",
            bounded="groups",
        ),
        Statement(
            "q4",
            "quartiles",
            ("quartile",),
            "SELECT unnest(['0.25', '0.5', '0.75']), unnest(quantile_cont(amount, [0.25, 0.5, 0.75])) FROM events",
        ),
        Statement(
            "q5",
            "join, count by region",
            ("rows",),
            "SELECT region, count(*) FROM events JOIN users USING (user_id) GROUP BY region",
        ),
    )
}


def answer_of(statement: str, rows: Iterable[Sequence[Any]]) -> Answer:
    """The answer in rows of (key, one value per column); a value that is missing is no key."""
    answer: Answer = {column: {} for column in STATEMENTS[statement].columns}
    for key, *values in rows:
        for column, value in zip(answer, values, strict=True):
            if value is not None:
                answer[column][str(key)] = float(str(value))
    return answer


def relative_error(noisy: dict[str, float], exact: dict[str, float]) -> float:
    """The median over the keys of |noisy − exact| / |exact|; a key without an answer counts 1, as if it said zero."""
    return median(abs(noisy.get(key, 0.0) - value) / abs(value) for key, value in exact.items())
