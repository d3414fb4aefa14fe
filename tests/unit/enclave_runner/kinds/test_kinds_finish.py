"""Above the noise: an engine that holds noisy columns and nothing else; its faults are the text's and may be told."""

from __future__ import annotations

from pathlib import Path

import pytest

from enclave_runner.kinds.finish import run
from enclave_runner.kinds.sql_gate import UnlistedSqlError
from enclave_runner.kinds.tasks import MAX_FACT, Declined, Finished, Finishing
from enclave_runner.plan.finish import render_finish
from tests.support.bound_plans import bound

KEYS: tuple[tuple[str | None, ...], ...] = (("a",), ("b",), (None,))
VALUES: tuple[tuple[str | None, ...], ...] = (("10", "4.50"), ("-3.25", None), ("1e3", "0"))


def finished(sql: str, depth: int = 1, width: int = 2) -> Finished:
    answer = run(Finishing(sql=sql, depth=depth, width=width, keys=KEYS, values=VALUES), [])
    assert isinstance(answer, Finished), answer
    return answer


def test_rows_come_by_number_in_the_order_asked_for() -> None:
    assert finished("SELECT i FROM noisy ORDER BY a0 DESC, i ASC") == Finished(rows=(2, 0, 1), computed=((), (), ()))
    assert finished("SELECT i FROM noisy WHERE (a1 > CAST(1 AS DOUBLE)) ORDER BY i ASC LIMIT 1").rows == (0,)


def test_computed_columns_are_texts_and_what_is_not_known_is_none() -> None:
    answer = finished("SELECT i, (a0 + a1), k0, (a0 > a1) FROM noisy ORDER BY i ASC")
    assert answer.computed == (("14.5", "a", "true"), (None, "b", None), ("1000.0", None, "true"))


def test_a_number_is_told_in_as_many_digits_as_it_has() -> None:
    (first, *_) = finished("SELECT i, (a0 / CAST(3 AS DOUBLE)) FROM noisy ORDER BY i ASC").computed
    assert float(str(first[0])) == 10 / 3


def test_the_rendered_text_runs_with_no_rows_at_all() -> None:
    """That is how it is rehearsed before anything is spent."""
    plan = bound(
        "SELECT kind, SUM(amount) / COUNT(*) AS r FROM visits GROUP BY kind HAVING COUNT(*) > 3 ORDER BY r LIMIT 2"
    )
    sql = render_finish(plan)
    assert sql is not None
    task = Finishing(sql=sql, depth=1, width=len(plan.estimates), keys=(), values=())
    assert run(task, []) == Finished(rows=(), computed=())
    filled = task.over((("a",), ("b",)), (("30", "10"), ("90", "9")))
    assert run(filled, []) == Finished(rows=(0, 1), computed=(("3.0",), ("10.0",)))


def test_what_the_engine_says_reaches_the_operator_in_one_line() -> None:
    answer = run(Finishing(sql=f'SELECT "{"x" * 2000}" FROM noisy', depth=1, width=1, keys=(), values=()), [])
    assert isinstance(answer, Declined)
    assert answer.rule == "sql.engine"
    assert len(answer.facts["what"]) <= MAX_FACT
    assert "\n" not in answer.facts["what"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT max(a0) FROM noisy",
        "SELECT i FROM read_csv('/etc/passwd')",
        "SELECT i FROM noisy, noisy AS n",
        "SELECT i FROM granted.main.stored0",
        "SELECT i, a0 FROM noisy; DROP TABLE noisy",
    ],
)
def test_the_gate_stands_here_too(sql: str) -> None:
    with pytest.raises(UnlistedSqlError):
        finished(sql)


def open_descriptors() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def test_it_is_given_no_descriptor_and_opens_none() -> None:
    before = open_descriptors()
    finished("SELECT i FROM noisy ORDER BY i ASC")
    assert open_descriptors() == before
