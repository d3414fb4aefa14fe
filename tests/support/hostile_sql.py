"""SQL as an attack: what the engine's settings close, what only the gate over the parse tree closes, what tells values.

The table is always `t0(v VARCHAR, n BIGINT)` with the planted value in both columns.
"""

from __future__ import annotations

import json

import duckdb

from enclave_runner.kinds.engine import engine, lock_job
from enclave_runner.kinds.sql_gate import UnlistedSqlError, checked

CANARY, NUMBER = "Canary-Zhang-7391", 739_155_021_843
PLANT = f"CREATE TABLE t0 AS SELECT '{CANARY}' AS v, CAST({NUMBER} AS BIGINT) AS n FROM range(3)"
# `{file}` can be read and `{made}` can be written by the process itself: what says no is the engine.
CLOSED_BY_SETTINGS = {
    "read-text": "FROM read_text('{file}')", "read-blob": "FROM read_blob('{file}')",
    "read-csv": "FROM read_csv('{file}', auto_detect = false, columns = {{'a': 'VARCHAR'}}, delim = '\t', "
    "strict_mode = false, ignore_errors = true)",
    "sniff-csv": "FROM sniff_csv('{file}')", "glob": "FROM glob('{file}*')",
    "read-json": "FROM read_json_objects('{file}', format = 'unstructured', ignore_errors = true) LIMIT 0",
    "dots": "FROM read_text('/proc/../{file}')",
    "copy-csv": "COPY t0 TO '{made}.csv'", "copy-blob": "COPY (SELECT 'x'::BLOB) TO '{made}.wal' (FORMAT blob)",
    "copy-parquet": "COPY t0 TO '{made}.parquet' (FORMAT parquet)",
    "copy-partitioned": "COPY t0 TO '{made}.d' (FORMAT csv, PARTITION_BY v)",
    "copy-in-cte": "WITH x AS (COPY t0 TO '{made}.cte') SELECT 1", "export": "EXPORT DATABASE '{made}.export'",
    "attach": "ATTACH '{made}.db' AS other", "attach-read-write": "ATTACH '{made}2.db' AS third (READ_WRITE)",
    "copy-from": "COPY t0 FROM '{file}' (FORMAT csv, ignore_errors true, strict_mode false)",
    "set-memory": "SET memory_limit = '30GB'", "set-threads": "SET threads = 8",
    "set-temporary": "SET temp_directory = '{made}.spill'", "set-secret-folder": "SET secret_directory = '{made}.s'",
    "set-home": "SET home_directory = '/'", "set-search-files": "SET file_search_path = '/'",
    "set-logging": "SET enable_logging = true", "set-profile": "SET enable_profiling = 'json'",
    "pragma-profile": "PRAGMA enable_profiling", "set-depth": "SET max_expression_depth = 100000",
    "set-replacements": "SET python_scan_all_frames = true", "set-repository": "SET custom_extension_repository = '/x'",
    "set-autoload": "SET autoload_known_extensions = true", "set-extensions": "SET extension_directory = '{made}.e'",
    "reset-threads": "RESET threads", "reset-memory": "RESET memory_limit",
    "set-zone": "SET TimeZone = 'Asia/Shanghai'",
    "set-unlock": "SET lock_configuration = false",
}  # fmt: skip
CLOSED_BY_GATE = {
    "use": "USE memory", "search-path": "SET search_path = 'main'", "variable": "SET VARIABLE a = 1",
    "prepare": "PREPARE p AS SELECT 1", "temporary-table": "CREATE TEMP TABLE planted AS SELECT 1",
    "shadow": "CREATE TEMP VIEW shadow AS SELECT 1 AS v", "macro": "CREATE MACRO total(x) AS 0",
    "dynamic": "FROM query('SELECT 1')", "dynamic-table": "FROM query_table('t0')",
    "serialized": "FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "settings": "FROM duckdb_settings()", "databases": "FROM duckdb_databases()", "columns": "FROM duckdb_columns()",
    "tables": "FROM duckdb_tables()", "statistics": "SELECT stats(v) FROM t0",
    "storage": "FROM pragma_storage_info('t0')", "summarize": "SUMMARIZE t0",
    "explain": "EXPLAIN SELECT sum(n) FROM t0", "explain-analyze": "EXPLAIN ANALYZE SELECT sum(n) FROM t0",
    "describe": "DESCRIBE t0", "show": "SHOW TABLES", "checkpoint": "CHECKPOINT", "vacuum": "VACUUM",
    "pivot": "PIVOT t0 ON v USING sum(n)", "two-statements": "SELECT sum(n) FROM t0; SELECT 1",
    "insert-in-cte": "WITH x AS (INSERT INTO t0 VALUES ('a', 1) RETURNING n) SELECT sum(n) FROM x",
    "update-in-cte": "WITH x AS (UPDATE t0 SET n = 1 RETURNING n) SELECT sum(n) FROM x",
    "delete-in-cte": "WITH x AS (DELETE FROM t0 WHERE n = 1 RETURNING n) SELECT sum(n) FROM x",
    "recursive": "WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r WHERE i < 3) SELECT sum(i) FROM r",
    "get-variable": "SELECT getvariable('a')", "ask-setting": "SELECT current_setting('threads')",
    "sleep": "SELECT sleep_ms(1)", "range": "SELECT sum(range) FROM range(10)", "repeat": "SELECT repeat('x', 9)",
    "pad": "SELECT lpad('x', 9, 'y')", "list": "SELECT list(v) FROM t0",
    "join-texts": "SELECT string_agg(v) FROM t0",
    "lambda": "SELECT list_transform([1], lambda x: x + 1)", "plain-rows": "SELECT * FROM t0",
    "plain-min": "SELECT min(n) FROM t0", "any-value": "SELECT any_value(v) FROM t0",
    "window": "SELECT sum(n) OVER () FROM t0", "sample": "SELECT sum(n) FROM t0 USING SAMPLE 1 ROWS",
    "sub-query": "SELECT (SELECT sum(n) FROM t0)", "qualified": "SELECT system.main.sum(n) FROM t0",
    "other-table": "SELECT sum(oid) FROM pg_class", "catalog": "SELECT sum(table_oid) FROM duckdb_tables()",
    "copy-statement": "COPY t0 TO '/dev/null'", "distinct": "SELECT sum(DISTINCT n) FROM t0",
    "filtered": "SELECT sum(n) FILTER (WHERE n > 0) FROM t0", "random": "SELECT sum(random()) FROM t0",
}  # fmt: skip
# Each of these prints a planted value, or a part of it, in DuckDB's own words.
PROVOCATIONS = {
    "cast-integer": "CAST(v AS INTEGER)", "cast-bigint": "CAST(v AS BIGINT)", "cast-double": "CAST(v AS DOUBLE)",
    "cast-date": "CAST(v AS DATE)", "cast-time": "CAST(v AS TIME)", "cast-timestamp": "CAST(v AS TIMESTAMP)",
    "cast-interval": "CAST(v AS INTERVAL)", "cast-boolean": "CAST(v AS BOOLEAN)", "cast-uuid": "CAST(v AS UUID)",
    "cast-decimal": "CAST(v AS DECIMAL(9, 2))", "cast-json": "CAST(v AS JSON)", "cast-list": "CAST(v AS INTEGER[])",
    "cast-struct": "CAST(v AS STRUCT(a INTEGER))", "cast-enum": "CAST(v AS ENUM('a', 'b'))",
    "cast-huge": "CAST(v AS HUGEINT)", "cast-tiny": "CAST(n AS TINYINT)", "cast-small": "CAST(n AS SMALLINT)",
    "cast-narrow": "CAST(n AS INTEGER)", "cast-small-decimal": "CAST(n AS DECIMAL(4, 0))",
    "cast-unsigned": "CAST(-n AS UBIGINT)",
    "multiply": "n * 9223372036854775807", "add": "n + 9223372036854775807", "subtract": "-9223372036854775807 - n",
    "shift": "n << 60", "error": "error(v)",
    "error-of-all": "error((SELECT string_agg(v) FROM t0))", "date-part": "date_part(v, DATE '2020-01-01')",
    "date-trunc": "date_trunc(v, DATE '2020-01-01')", "parse-time": "strptime(v, '%Y')",
    "pattern": "regexp_matches('a', '(' || v)",
    "make-date": "make_date(n, 1, 1)", "json": "json_extract(v, '$.a')",
    "from-base64": "from_base64(v)", "timezone": "timezone(v, TIMESTAMP '2020-01-01')",
    "json-path": "json_extract('{}', '$' || v)",
    "try-enum": "enum_code(CAST(v AS ENUM('x')))",
}  # fmt: skip


def run_sql(task: bytes) -> bytes:
    """In a worker: run one statement against the engine as a job finds it.

    "judge": the exception's name. "raise": as a job does, the exception ends the worker.
    """
    order = json.loads(task)
    with engine() as connection:
        connection.execute(PLANT)
        lock_job(connection)
        if order["mode"] == "gate":
            return gated(connection, order["sql"]).encode()
        if order["mode"] == "raise":
            connection.execute(order["sql"]).fetchall()
            return b"ok"
        return judged(connection, order["sql"]).encode()


def judged(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """ "ok", or the exception's name."""
    try:
        connection.execute(sql).fetchall()
    except Exception as error:
        return type(error).__name__
    return "ok"


def gated(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """The same through the gate over the parse tree."""
    try:
        connection.execute(checked(connection, sql)).fetchall()
    except UnlistedSqlError:
        return "UnlistedSqlError"
    except Exception as error:
        return type(error).__name__
    return "ok"
