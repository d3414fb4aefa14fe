"""Post-processing over noisy columns, in an engine that has never held a raw row: no answer of it can cost privacy."""

from __future__ import annotations

import duckdb

from enclave_runner.kinds.engine import engine, lock_job
from enclave_runner.kinds.sql_gate import checked
from enclave_runner.kinds.tasks import Declined, Finished, Finishing
from enclave_runner.plan.finish import NOISY


def run(task: Finishing, descriptors: list[int]) -> Finished | Declined:
    """The rows that stay and what was computed from them; a refusal by `sql.engine` carries the engine's own words."""
    keys = [f"k{index} VARCHAR" for index in range(task.depth)]
    columns = ["i BIGINT", *keys, *(f"a{index} DOUBLE" for index in range(task.width))]
    rows = [
        (number, *keys, *(None if value is None else float(value) for value in values))
        for number, (keys, values) in enumerate(zip(task.keys, task.values, strict=True))
    ]
    with engine() as connection:
        connection.execute(f"CREATE TABLE {NOISY} ({', '.join(columns)})")
        if rows:
            connection.executemany(f"INSERT INTO {NOISY} VALUES ({', '.join('?' * len(columns))})", rows)
        lock_job(connection)
        try:
            found = connection.execute(checked(connection, task.sql)).fetchall()
        except duckdb.Error as error:
            return Declined.quoting("sql.engine", {"what": " ".join(str(error).split()).rstrip(".")})
    return Finished(
        rows=tuple(int(row[0]) for row in found),
        computed=tuple(tuple(None if cell is None else _shown(cell) for cell in row[1:]) for row in found),
    )


def _shown(cell: object) -> str:
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return repr(cell) if isinstance(cell, float) else str(cell)
