"""Attempts of SQL against the engine as a job finds it: every door that it has of its own is closed.

Only what DuckDB's settings close is tried; what only the gate over the parsed tree refuses never gets here.
"""

from __future__ import annotations

from collections.abc import Iterator

import duckdb

from enclave_runner.kinds.engine import engine, lock_job
from enclave_runner.kinds.tasks import Finding, Outcome

LAYER = "engine"
STATEMENTS = {
    "sql-read-file": "FROM read_text('/proc/self/status')",
    "sql-list-files": "FROM glob('/*')",
    "sql-file-as-table": "FROM '/proc/self/status'",
    "sql-write-file": "COPY (SELECT 1) TO '/scratch/planted'",
    "sql-write-in-cte": "WITH x AS (COPY (SELECT 1) TO '/scratch/planted') SELECT 1",
    "sql-attach": "ATTACH '/scratch/planted.db'",
    "sql-extension": "INSTALL httpfs",
    "sql-secret": "CREATE SECRET planted (TYPE s3)",
    "sql-unlock": "SET lock_configuration = false",
    "sql-external-access": "SET enable_external_access = true",
    "sql-file-system": "RESET disabled_filesystems",
    "sql-memory-limit": "SET memory_limit = '100GB'",
}
CLOSED = (duckdb.PermissionException, duckdb.InvalidInputException, duckdb.CatalogException)


def try_engine() -> Iterator[Finding]:
    """Every statement against one locked engine."""
    with engine() as connection:
        lock_job(connection)
        for name, statement in STATEMENTS.items():
            yield _judge(connection, name, statement)


def _judge(connection: duckdb.DuckDBPyConnection, name: str, statement: str) -> Finding:
    try:
        connection.execute(statement)
    except CLOSED as error:
        return Finding(name=name, layer=LAYER, outcome=Outcome.BLOCKED, detail=type(error).__name__)
    except Exception as error:
        detail = f"{type(error).__name__} where the lock was expected"
        return Finding(name=name, layer=LAYER, outcome=Outcome.MISSING, detail=detail)
    return Finding(name=name, layer=LAYER, outcome=Outcome.ALLOWED, detail="it went through")
