"""What happens above the noise: its SQL, its meaning over noisy columns, and what cannot be computed from them."""

from __future__ import annotations

import duckdb
import pytest

from enclave_runner.contract.errors import Refused
from enclave_runner.plan.finish import computed_outputs, render_finish
from tests.support.bound_plans import bound

Noisy = tuple[int, str | None, float | None, float | None]
ROWS: list[Noisy] = [(0, "a", 10.0, 4.0), (1, "b", -3.0, 0.0), (2, "c", 25.5, None), (3, None, 10.0, 2.0)]


def finished(outputs: str, rest: str = "", rows: list[Noisy] | None = None) -> list[tuple[object, ...]]:
    """The rows that stay, as DuckDB answers over the noisy table."""
    sql = render_finish(bound(f"SELECT kind, {outputs} FROM visits GROUP BY kind {rest}"))
    assert sql is not None
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE noisy (i BIGINT, k0 VARCHAR, a0 DOUBLE, a1 DOUBLE)")
        connection.executemany("INSERT INTO noisy VALUES (?, ?, ?, ?)", rows or ROWS)
        return connection.execute(sql).fetchall()


def test_rows_that_stay_as_they_are_need_no_sql() -> None:
    assert render_finish(bound("SELECT kind, COUNT(*) AS n FROM visits GROUP BY kind")) is None
    assert render_finish(bound("SELECT COUNT(*) AS n, kind FROM visits GROUP BY kind")) is None


def test_the_text_in_full() -> None:
    plan = bound(
        "SELECT kind, SUM(amount) / COUNT(*) AS r FROM visits GROUP BY kind HAVING COUNT(*) > 5 ORDER BY 2 DESC LIMIT 3"
    )
    assert render_finish(plan) == (
        "SELECT i, (CAST(a0 AS DOUBLE) / nullif(a1, CAST(0 AS DOUBLE))) FROM noisy WHERE (a1 > CAST(5 AS DOUBLE)) "
        "ORDER BY (CAST(a0 AS DOUBLE) / nullif(a1, CAST(0 AS DOUBLE))) DESC, i ASC LIMIT 3"
    )
    assert [output.name for output in computed_outputs(plan)] == ["r"]


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        ("COUNT(*) + COUNT(amount)", [14, -3, None, 12]),
        ("COUNT(*) / COUNT(amount)", [2.5, None, None, 5]),
        ("-COUNT(*)", [-10, 3, -25.5, -10]),
        ("ABS(COUNT(*)) * 2", [20, 6, 51, 20]),
        ("ROUND(COUNT(*) / 3, 1)", [3.3, -1.0, 8.5, 3.3]),
        ("FLOOR(COUNT(*) / 2)", [5, -2, 12, 5]),
        ("LEAST(COUNT(*), 5)", [5, -3, 5, 5]),
        ("GREATEST(COUNT(*), COUNT(amount))", [10, 0, 25.5, 10]),
        ("COALESCE(COUNT(amount), 7)", [4, 0, 7, 2]),
        ("CASE WHEN COUNT(*) > 9 THEN 1 WHEN kind = 'b' THEN 2 ELSE 3 END", [1, 2, 1, 1]),
    ],
)
def test_arithmetic_over_noisy_columns(expression: str, values: list[float | None]) -> None:
    outputs = f"COUNT(*) AS n, COUNT(amount) AS m, {expression} AS x"
    assert [row[1] for row in finished(outputs)] == values


@pytest.mark.parametrize(
    ("having", "kept"),
    [
        ("COUNT(*) > 9", [0, 2, 3]),
        ("COUNT(*) BETWEEN 0 AND 20 OR kind = 'b'", [0, 1, 3]),
        ("NOT kind IN ('a', 'b')", [2]),  # where rows are summed over there is no key to compare
        ("COUNT(amount) IS NULL", [2]),
        ("COUNT(*) / COUNT(amount) > 1", [0, 3]),  # what is not known is not kept
        ("kind IS NULL", [3]),
    ],
)
def test_having_keeps_what_is_true(having: str, kept: list[int]) -> None:
    assert [row[0] for row in finished("COUNT(*) AS n, COUNT(amount) AS m", f"HAVING {having}")] == kept


def test_equal_rows_keep_the_order_of_the_table() -> None:
    assert [row[0] for row in finished("COUNT(*) AS n", "ORDER BY n")] == [1, 0, 3, 2]
    assert [row[0] for row in finished("COUNT(*) AS n", "ORDER BY n DESC LIMIT 2")] == [2, 0]
    assert [row[0] for row in finished("COUNT(*) AS n", "ORDER BY kind DESC")] == [2, 1, 0, 3]


def test_whole_numbers_as_keys_compare_as_numbers() -> None:
    sql = render_finish(bound("SELECT age, COUNT(*) AS n FROM homes GROUP BY age HAVING age < 10 ORDER BY age DESC"))
    assert sql is not None
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE noisy (i BIGINT, k0 VARCHAR, a0 DOUBLE)")
        connection.executemany("INSERT INTO noisy VALUES (?, ?, 0)", [(0, "2"), (1, "9"), (2, "10"), (3, "100")])
        assert connection.execute(sql).fetchall() == [(1,), (0,)]


@pytest.mark.parametrize("expression", ["WIDTH_BUCKET(COUNT(*), 0, 10, 5)", "YEAR(DATE '2020-01-01') + COUNT(*)"])
def test_what_noisy_columns_do_not_have_is_refused(expression: str) -> None:
    with pytest.raises(Refused) as caught:
        render_finish(bound(f"SELECT {expression} AS x FROM visits"))
    assert caught.value.rule == "sql.unsupported"


@pytest.mark.parametrize("text", ["it's", '"; DROP TABLE noisy; --', "男", "\\"])
def test_a_text_constant_stays_one(text: str) -> None:
    quoted = text.replace("'", "''")
    rows: list[Noisy] = [(0, text, 1.0, 1.0), (1, "b", 1.0, 1.0)]
    assert finished("COUNT(*) AS n", f"HAVING kind = '{quoted}'", rows) == [(0,)]
