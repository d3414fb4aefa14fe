"""The zero-row twin: the SQL of a job over an empty extract, made from the catalogue alone.

Whatever the engine says there is about the SQL, since there are no data; so it is told in full.
"""

from __future__ import annotations

import duckdb

from enclave_runner.contract.dataset import ColumnType
from enclave_runner.kinds.engine import engine, lock_job
from enclave_runner.kinds.sql_gate import checked
from enclave_runner.kinds.tasks import Declined, Done, Rehearsal
from enclave_runner.plan.bound import NORM, ROWS, UNIT
from enclave_runner.plan.tables import quote

# Never an ENUM: its dictionary would be the values.
SQL_TYPES = {
    ColumnType.TEXT: "VARCHAR",
    ColumnType.INTEGER: "BIGINT",
    ColumnType.DECIMAL: "BIGINT",
    ColumnType.BOOLEAN: "BOOLEAN",
    ColumnType.DATE: "DATE",
}
TOLD = 400


def run(task: Rehearsal, descriptors: list[int]) -> Done | Declined:
    """Run it; a refusal by `sql.engine` carries the engine's own words."""
    with engine() as connection:
        for index, table in enumerate(task.tables):
            columns = [f"{quote(name)} {SQL_TYPES[kind]}" for name, kind in table]
            added = [f"{UNIT} UINTEGER", f"{ROWS} BIGINT", f"{NORM} BIGINT"]
            connection.execute(f"CREATE TABLE t{index} ({', '.join([*columns, *added])})")
        lock_job(connection)
        try:
            for sql in task.sql:
                connection.execute(checked(connection, sql)).fetchall()
        except duckdb.Error as error:
            said = " ".join(str(error).split())
            return Declined.quoting("sql.engine", {"what": said[:TOLD].rstrip(".")})
    return Done()
