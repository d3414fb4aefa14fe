"""DuckDB's parse tree of rendered SQL: what the renderer writes passes, anything else is refused by its place."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from enclave_runner.kinds.sql_gate import UnlistedSqlError, checked
from enclave_runner.plan.finish import render_finish
from enclave_runner.supervisor.plan_query import rendered
from tests.support.bound_plans import SPECS, bound
from tests.support.rehearsed import empty_engine

WRITTEN = {
    "weighted counts": "SELECT kind, COUNT(*) AS n FROM visits GROUP BY kind",
    "no groups": "SELECT COUNT(*) AS n FROM homes",
    "moments": "SELECT AVG(amount) AS a, VARIANCE(amount) AS v, COUNT(flag) AS f FROM visits WHERE amount > 1.5",
    "filters": "SELECT SUM(income) FILTER (WHERE age > 60 OR NOT region = 'N') AS s FROM homes "
    "WHERE income IS NOT NULL",
    "arithmetic": "SELECT SUM((income - 3) * -2 / 7 + ABS(age) + FLOOR(income / 10) "
    "+ ROUND(income / 3, 1)) AS s FROM homes",
    "choices": "SELECT SUM(CASE WHEN age IN (1, 2) THEN 1 WHEN region <> 'N' THEN LEAST(income, 3) "
    "ELSE GREATEST(age, 2) "
    "END + COALESCE(income, 0)) AS s FROM homes WHERE age BETWEEN 3 AND 90",
    "dates": "SELECT DATE_TRUNC('month', day) AS m, YEAR(day) AS y, MONTH(day) AS mm, QUARTER(day) AS q, COUNT(*) AS n "
    "FROM visits WHERE day >= DATE '2022-02-01' GROUP BY 1, 2, 3, 4",
    "buckets": "SELECT WIDTH_BUCKET(age, 20, 80, 3) AS b, COUNT(*) AS n FROM homes GROUP BY b",
    "truth keys": "SELECT flag, age > 3 AS old, COUNT(*) AS n FROM visits JOIN homes USING (who) GROUP BY flag, old",
    "units": "SELECT kind, COUNT(DISTINCT who) AS u FROM visits GROUP BY kind",
    "values": "SELECT COUNT(DISTINCT kind) AS k, COUNT(DISTINCT age) AS a FROM visits JOIN homes USING (who)",
    "quantiles": "SELECT region, MEDIAN(income) AS m FROM homes GROUP BY region",
    "weighted quantiles": "SELECT QUANTILE(amount, 0.25) AS q FROM visits",
    "open keys": "SELECT shop, COUNT(*) AS n, SUM(amount) AS s FROM visits GROUP BY shop",
    "listed keys": "SELECT shop, COUNT(*) AS n FROM visits WHERE shop IN ('it''s', '男') AND amount > 0 GROUP BY shop",
    "three tables": "SELECT city, COUNT(*) AS n, SUM(income) AS s FROM visits JOIN homes USING (who) "
    "JOIN divisions ON visits.division = divisions.code GROUP BY city",
    "many times many": "SELECT SUM(minutes) AS s FROM visits JOIN calls USING (who)",
    "rollup": "SELECT region, age > 3 AS old, COUNT(*) AS n FROM homes GROUP BY ROLLUP (region, old)",
    "wide sums": "SELECT SUM(income * income * income * income * income) AS s FROM homes",
}
FINISHED = {
    "having": "SELECT kind, COUNT(*) AS n FROM visits GROUP BY kind HAVING COUNT(*) > 5 AND NOT kind = 'a'",
    "order and limit": "SELECT kind, COUNT(*) AS n FROM visits GROUP BY kind ORDER BY n DESC, kind LIMIT 2",
    "ratios": "SELECT kind, ROUND(SUM(amount) / COUNT(*), 2) AS r, -COUNT(*) + 1 AS m, ABS(COUNT(*) - 3) * 2 AS z "
    "FROM visits GROUP BY kind ORDER BY r",
    "choices": "SELECT kind, CASE WHEN COUNT(*) > 3 THEN LEAST(COUNT(*), 9) ELSE GREATEST(COUNT(*), 0) END AS c, "
    "COALESCE(AVG(amount), 0) AS a, FLOOR(AVG(amount)) AS f FROM visits GROUP BY kind HAVING AVG(amount) IS NOT NULL",
    "numbers as keys": "SELECT age, COUNT(*) AS n FROM homes GROUP BY age HAVING age > 18 OR age IN (1, 2)",
}


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """A table like one of an extract's."""
    with duckdb.connect() as opened:
        opened.execute("CREATE TABLE t0 AS SELECT 'x' AS sex, 41::BIGINT AS age, 3::BIGINT AS _rows, 1 AS _unit")
        yield opened


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("sql", WRITTEN.values(), ids=WRITTEN)
def test_all_that_the_renderer_writes_passes_and_comes_back_the_same(sql: str, power: int) -> None:
    plan = bound(sql, power)
    with empty_engine([SPECS[source.dataset_id] for source in plan.sources]) as engine:
        for text in rendered(plan):
            once = checked(engine, text)
            assert checked(engine, once) == once
            assert engine.execute(once).fetchall() == engine.execute(text).fetchall()


@pytest.mark.parametrize("sql", FINISHED.values(), ids=FINISHED)
def test_so_does_what_runs_over_noisy_columns(sql: str) -> None:
    plan = bound(sql)
    text = render_finish(plan)
    assert text is not None
    with duckdb.connect() as engine:
        engine.execute("CREATE TABLE noisy (i BIGINT, k0 VARCHAR, a0 DOUBLE, a1 DOUBLE)")
        engine.execute("INSERT INTO noisy VALUES (0, '20', 10, 4), (1, 'b', -3, NULL)" if "age" not in sql else
                       "INSERT INTO noisy VALUES (0, '20', 10, 4), (1, '1', -3, NULL)")  # fmt: skip
        once = checked(engine, text)
        assert checked(engine, once) == once
        assert engine.execute(once).fetchall() == engine.execute(text).fetchall()


def test_an_unusual_text_constant_stays_itself(connection: duckdb.DuckDBPyConnection) -> None:
    for text in ("男", "o'x", '"; --', "\\", "a\nb", "\u2028", "é", "e\u0301"):
        constant = text.replace("'", "''")
        connection.execute("UPDATE t0 SET sex = ?", [text])
        sql = checked(connection, f'SELECT "sex", "_rows" FROM t0 WHERE "sex" IN (\'{constant}\')')
        assert connection.execute(sql).fetchall() == [(text, 3)]


def test_a_number_keeps_its_type(connection: duckdb.DuckDBPyConnection) -> None:
    sql = checked(connection, 'SELECT sum(CAST(2147483647 AS BIGINT) * CAST("_rows" AS HUGEINT)) FROM t0')
    assert connection.execute(sql).fetchall() == [(6442450941,)]


REFUSED = {
    "no table": "SELECT 1",
    "star": "SELECT * FROM t0",
    "two statements": "SELECT age FROM t0; SELECT age FROM t0",
    "copy in a CTE": "WITH x AS (COPY t0 TO 'f') SELECT age FROM t0",
    "insert in a CTE": "WITH x AS (INSERT INTO t0 VALUES ('a', 1, 1)) SELECT age FROM t0",
    "update in a CTE": "WITH x AS (UPDATE t0 SET age = 1) SELECT age FROM t0",
    "delete in a CTE": "WITH x AS (DELETE FROM t0) SELECT age FROM t0",
    "plain CTE": "WITH x AS (SELECT age FROM t0) SELECT age FROM t0",
    "recursive CTE": "WITH RECURSIVE x AS (SELECT 1 UNION ALL SELECT 1 FROM x) SELECT age FROM t0",
    "copy": "COPY t0 TO 'f'",
    "file as a table": "SELECT age FROM 'f.csv'",
    "remote file": "SELECT age FROM 's3://bucket/f.parquet'",
    "file function": "SELECT age FROM read_csv('f.csv')",
    "glob": "SELECT age FROM glob('*')",
    "another table": "SELECT age FROM people",
    "the table beyond the last": "SELECT age FROM t4",
    "the norms of the units": "SELECT _rows FROM spread",
    "qualified table": "SELECT age FROM memory.main.t0",
    "stored table": "SELECT age FROM granted.main.stored0",
    "system table": "SELECT age FROM duckdb_settings()",
    "table twice": "SELECT t0.age FROM t0, t0 AS t1",
    "outer join": "SELECT t0.age FROM t0 LEFT JOIN t1 ON t0._unit = t1._unit",
    "semi join": "SELECT t0.age FROM t0 SEMI JOIN t1 ON t0._unit = t1._unit",
    "natural join": "SELECT t0.age FROM t0 NATURAL JOIN t1",
    "positional join": "SELECT t0.age FROM t0 POSITIONAL JOIN t1",
    "asof join": "SELECT t0.age FROM t0 ASOF JOIN t1 ON t0.age >= t1.age",
    "lateral": "SELECT t0.age FROM t0, LATERAL (SELECT t0.age) AS x",
    "using": "SELECT t0.age FROM t0 JOIN t1 USING (age)",
    "union": "SELECT age FROM t0 UNION ALL SELECT age FROM t0",
    "scalar subquery": "SELECT (SELECT max(age) FROM t0) FROM t0",
    "exists": "SELECT age FROM t0 WHERE EXISTS (SELECT age FROM t0)",
    "in subquery": "SELECT age FROM t0 WHERE age IN (SELECT age FROM t0)",
    "window sum": "SELECT sum(age) OVER (PARTITION BY sex) FROM t0",
    "rank": "SELECT rank() OVER (PARTITION BY sex ORDER BY age) FROM t0",
    "window frame": "SELECT row_number() OVER (ORDER BY age ROWS 3 PRECEDING) FROM t0",
    "filter": "SELECT sum(age) FILTER (WHERE age > 1) FROM t0",
    "having": "SELECT sex, count(*) FROM t0 GROUP BY sex HAVING count(*) > 1",
    "qualify": "SELECT age FROM t0 QUALIFY row_number() OVER (ORDER BY age) = 1",
    "distinct sum": "SELECT sum(DISTINCT age) FROM t0",
    "distinct on": "SELECT DISTINCT ON (sex) age FROM t0",
    "grouping sets": "SELECT sex, count(*) FROM t0 GROUP BY ROLLUP (sex)",
    "group by all": "SELECT sex, count(*) FROM t0 GROUP BY ALL",
    "sample": "SELECT age FROM t0 USING SAMPLE 10 ROWS",
    "offset": "SELECT age FROM t0 LIMIT 1 OFFSET 1",
    "percent": "SELECT age FROM t0 LIMIT 10 PERCENT",
    "nulls first": "SELECT age FROM t0 ORDER BY age NULLS FIRST",
    "at a version": "SELECT age FROM t0 AT (VERSION => 1)",
    "maximum": "SELECT max(age) FROM t0",
    "first": "SELECT first(age) FROM t0",
    "list": "SELECT list(age) FROM t0",
    "text of all": "SELECT string_agg(sex, ',') FROM t0",
    "average in floats": "SELECT avg(age) FROM t0",
    "error": "SELECT error(sex) FROM t0",
    "random": "SELECT random() FROM t0",
    "setting": "SELECT current_setting('threads') FROM t0",
    "getenv": "SELECT getenv('HOME') FROM t0",
    "another hash": "SELECT hash(age) FROM t0",
    "pattern": "SELECT age FROM t0 WHERE sex LIKE 'x%'",
    "regular expression": "SELECT age FROM t0 WHERE sex ~ 'x'",
    "join of texts": "SELECT sex || 'x' FROM t0",
    "shift": "SELECT age << 2 FROM t0",
    "power": "SELECT age ** 2 FROM t0",
    "try": "SELECT TRY(age) FROM t0",
    "try cast": "SELECT TRY_CAST(sex AS BIGINT) FROM t0",
    "narrow cast": "SELECT CAST(age AS TINYINT) FROM t0",
    "decimal cast": "SELECT CAST(age AS DECIMAL(4, 0)) FROM t0",
    "enum cast": "SELECT CAST(sex AS ENUM('x')) FROM t0",
    "is distinct": "SELECT age FROM t0 WHERE age IS DISTINCT FROM 1",
    "between": "SELECT age FROM t0 WHERE age BETWEEN 1 AND 2",
    "parameter": "SELECT $1 FROM t0",
    "struct": "SELECT {'a': age} FROM t0",
    "lambda": "SELECT list_transform([1], x -> x) FROM t0",
    "columns": "SELECT COLUMNS('a.*') FROM t0",
    "qualified column of another schema": "SELECT main.t0.age FROM t0",
    "qualified function": "SELECT main.sum(age) FROM t0",
    "set": "SET threads = 1",
    "attach": "ATTACH 'f.db'",
    "pragma": "PRAGMA database_list",
    "nothing": "",
    "no SQL": "hello",
    "null byte": "SELECT age FROM t0\0",
}


@pytest.mark.parametrize("sql", REFUSED.values(), ids=REFUSED.keys())
def test_what_the_renderer_never_writes_is_refused(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    with pytest.raises(UnlistedSqlError) as caught:
        checked(connection, sql)
    assert str(caught.value).isidentifier()  # a place in the tree, nothing of the text
