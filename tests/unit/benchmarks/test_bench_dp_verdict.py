"""The goals, on made-up scores."""

from __future__ import annotations

from benchmarks.dp.race import FLOOR, OURS, Score
from benchmarks.dp.statements import STATEMENTS
from benchmarks.dp.verdict import error_checks, memory_checks, time_checks
from benchmarks.report import Check


def scores(contestant: str, seconds: float, error: float, runs: int = 20) -> list[Score]:
    """The same on every statement, with runs that differ a little."""
    spread = [error * (1 + number / 1000) for number in range(runs)]
    return [
        Score(contestant, key, 128, [seconds] * runs, {column: list(spread) for column in statement.columns}, 1.0)
        for key, statement in STATEMENTS.items()
    ]


def named(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_time_may_be_a_tenth_of_the_fastest_peer() -> None:
    found = scores(FLOOR, 0.01, 0.0) + scores(OURS, 0.1, 0.1) + scores("a", 2.0, 0.1) + scores("b", 1.0, 0.1)
    checks = named(time_checks("s", found))
    assert checks["dp_time_s_q1"].value == 1.0
    assert checks["dp_time_s_q1"].ok
    assert checks["dp_floor_s_q1"].value == 10
    assert not checks["dp_floor_s_q1"].ok
    assert "dp_floor_s_q4" not in checks


def test_time_may_be_one_and_a_half_floors_when_that_is_larger() -> None:
    found = scores(FLOOR, 0.1, 0.0) + scores(OURS, 0.15, 0.1) + scores("a", 1.0, 0.1)
    assert abs((named(time_checks("s", found))["dp_time_s_q5"].value or 0) - 1) < 1e-9


def test_without_our_answer_there_is_no_value_and_the_goal_is_missed() -> None:
    found = scores(FLOOR, 0.1, 0.0) + scores("a", 1.0, 0.1)
    checks = [*time_checks("s", found), *error_checks(found)]
    assert not any(check.ok for check in checks)
    assert all(check.value in (None, 0) for check in checks)


def test_a_larger_error_misses_and_a_clearly_smaller_one_is_counted() -> None:
    worse = named(error_checks(scores(OURS, 1, 0.2) + scores("a", 1, 0.1)))
    assert not worse["dp_error_q1_rows"].ok
    assert worse["dp_error_classes_below_0.7"].value == 0
    better = named(error_checks(scores(OURS, 1, 0.06) + scores("a", 1, 0.1) + scores("b", 1, 0.2)))
    assert abs((better["dp_error_q2_mean"].value or 0) - 0.6) < 1e-9
    assert better["dp_error_classes_below_0.7"].value == 5


def test_a_tie_within_chance_is_told_as_one() -> None:
    tie = named(error_checks(scores(OURS, 1, 0.1001) + scores("a", 1, 0.1)))["dp_error_q3_units"]
    assert (tie.value, tie.ok) == (1.0, True)
    assert "tie" in tie.note


def test_memory_is_compared_by_statement_and_nothing_is_not_enough() -> None:
    checks = named(memory_checks("s", {"q1": (120.0, 80.0), "q2": (float("nan"), 80.0)}))
    assert checks["dp_memory_s_q1"].ok
    assert checks["dp_memory_s_q2"].value is None
