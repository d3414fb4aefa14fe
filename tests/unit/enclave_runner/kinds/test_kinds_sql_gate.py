"""DuckDB's parse tree of rendered SQL: what the renderer writes passes, anything else is refused by its place."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from enclave_runner.kinds.sql_gate import UnlistedSqlError, checked


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """A table like an extract."""
    with duckdb.connect() as opened:
        opened.execute("CREATE TABLE extract AS SELECT 'x' AS sex, 41::BIGINT AS age, 3::BIGINT AS _weight")
        yield opened


def test_an_unusual_text_constant_stays_itself(connection: duckdb.DuckDBPyConnection) -> None:
    for text in ("男", "o'x", '"; --', "\\", "a\nb", "\u2028", "é", "e\u0301"):
        constant = text.replace("'", "''")
        connection.execute("UPDATE extract SET sex = ?", [text])
        sql = checked(connection, f'SELECT "sex", "_weight" FROM extract WHERE "sex" IN (\'{constant}\')')
        assert connection.execute(sql).fetchall() == [(text, 3)]


def test_a_number_keeps_its_type(connection: duckdb.DuckDBPyConnection) -> None:
    sql = checked(connection, 'SELECT sum(CAST(2147483647 AS BIGINT) * CAST("_weight" AS HUGEINT)) FROM extract')
    assert connection.execute(sql).fetchall() == [(6442450941,)]


REFUSED = {
    "no table": "SELECT 1",
    "star": "SELECT * FROM extract",
    "two statements": "SELECT age FROM extract; SELECT age FROM extract",
    "copy in a CTE": "WITH x AS (COPY extract TO 'f') SELECT age FROM extract",
    "insert in a CTE": "WITH x AS (INSERT INTO extract VALUES ('a', 1, 1)) SELECT age FROM extract",
    "update in a CTE": "WITH x AS (UPDATE extract SET age = 1) SELECT age FROM extract",
    "delete in a CTE": "WITH x AS (DELETE FROM extract) SELECT age FROM extract",
    "plain CTE": "WITH x AS (SELECT age FROM extract) SELECT age FROM extract",
    "recursive CTE": "WITH RECURSIVE x AS (SELECT 1 UNION ALL SELECT 1 FROM x) SELECT age FROM extract",
    "copy": "COPY extract TO 'f'",
    "file as a table": "SELECT age FROM 'f.csv'",
    "remote file": "SELECT age FROM 's3://bucket/f.parquet'",
    "file function": "SELECT age FROM read_csv('f.csv')",
    "glob": "SELECT age FROM glob('*')",
    "another table": "SELECT age FROM people",
    "qualified table": "SELECT age FROM memory.main.extract",
    "system table": "SELECT age FROM duckdb_settings()",
    "table twice": "SELECT age FROM extract, extract",
    "join": "SELECT age FROM extract JOIN extract USING (age)",
    "subquery": "SELECT (SELECT sum(age) FROM extract) FROM extract",
    "subquery as a table": "SELECT age FROM (SELECT age FROM extract)",
    "error()": "SELECT error(sex) FROM extract",
    "qualified function": "SELECT system.main.sum(age) FROM extract",
    "query()": "SELECT age FROM query('SELECT 1 AS age')",
    "getvariable": "SELECT getvariable('x') FROM extract",
    "current_setting": "SELECT current_setting('threads') FROM extract",
    "stats": "SELECT stats(age) FROM extract",
    "sleep": "SELECT sleep_ms(1000) FROM extract",
    "repeat": "SELECT repeat(sex, 1000000000) FROM extract",
    "random": "SELECT random() FROM extract",
    "regular expression": "SELECT age FROM extract WHERE sex LIKE 'x%'",
    "cast to another type": "SELECT CAST(sex AS BLOB) FROM extract",
    "try_cast": "SELECT TRY_CAST(sex AS BIGINT) FROM extract",
    "distinct": "SELECT DISTINCT age FROM extract",
    "aggregate distinct": "SELECT sum(DISTINCT age) FROM extract",
    "aggregate filter": "SELECT sum(age) FILTER (age > 2) FROM extract",
    "aggregate order": "SELECT sum(age ORDER BY age) FROM extract",
    "window": "SELECT sum(age) OVER () FROM extract",
    "having": "SELECT sum(age) FROM extract HAVING sum(age) > 1",
    "qualify": "SELECT age FROM extract QUALIFY row_number() OVER () = 1",
    "order": "SELECT age FROM extract ORDER BY age",
    "limit": "SELECT age FROM extract LIMIT 1",
    "sample": "SELECT age FROM extract USING SAMPLE 3",
    "union": "SELECT age FROM extract UNION ALL SELECT age FROM extract",
    "group by all": "SELECT age, sum(age) FROM extract GROUP BY ALL",
    "pivot": "PIVOT extract ON sex USING sum(age)",
    "summarize": "SUMMARIZE extract",
    "describe": "DESCRIBE extract",
    "explain": "EXPLAIN SELECT age FROM extract",
    "parameter": "SELECT age FROM extract WHERE age = $1",
    "lambda": "SELECT list_transform([1], x -> x) FROM extract",
    "qualified column": "SELECT extract.age FROM extract",
    "or": "SELECT age FROM extract WHERE age = 1 OR age = 2",
    "division": "SELECT age // 2 FROM extract",
    "set": "SET threads = 1",
    "attach": "ATTACH 'f.db'",
    "pragma": "PRAGMA database_list",
    "nothing": "",
    "no SQL": "hello",
    "null byte": "SELECT age FROM extract\0",
}


@pytest.mark.parametrize("sql", REFUSED.values(), ids=REFUSED.keys())
def test_what_the_renderer_never_writes_is_refused(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    with pytest.raises(UnlistedSqlError) as caught:
        checked(connection, sql)
    assert str(caught.value).isidentifier()  # a place in the tree, nothing of the text


def test_the_rewritten_statement_passes_again_and_says_the_same(connection: duckdb.DuckDBPyConnection) -> None:
    sql = (
        'SELECT CAST("sex" AS VARCHAR), coalesce(sum(CASE WHEN "age" IS NULL THEN CAST(0 AS BIGINT) ELSE '
        'greatest(least("age", CAST(120 AS BIGINT)), CAST(-3 AS BIGINT)) END), CAST(0 AS HUGEINT)) FROM extract '
        'WHERE "age" >= CAST(3 AS BIGINT) AND "sex" <> \'y\' GROUP BY CAST("sex" AS VARCHAR)'
    )
    once = checked(connection, sql)
    assert checked(connection, once) == once
    assert connection.execute(once).fetchall() == connection.execute(sql).fetchall() == [("x", 41)]
