"""Row expressions over a few columns: typed and rendered by the planner, and run by DuckDB on given rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import duckdb

from enclave_runner.contract.dataset import Column, ColumnType
from enclave_runner.kinds.rehearsal import SQL_TYPES
from enclave_runner.plan.expression import scalar
from enclave_runner.plan.nodes import Expression, Name
from enclave_runner.plan.parse import parse_select
from enclave_runner.plan.scalar import Scalar, column_scalar
from tests.support.enclave_home import column

Cell = int | str | bool | date | None
Row = Sequence[Cell]
COLUMNS = (
    column("x", ColumnType.INTEGER, bounds=(-6, 6)),
    column("y", ColumnType.DECIMAL, scale=1, bounds=(-15, 25)),
    column("z", ColumnType.INTEGER, bounds=(-3, 4), nullable=True),
    column("u", ColumnType.INTEGER, nullable=True),
    column("t", ColumnType.TEXT, domain=("a", "b"), nullable=True),
    column("f", ColumnType.BOOLEAN, nullable=True),
    column("d", ColumnType.DATE, bounds=(-400, 400), nullable=True),
    column("e", ColumnType.DATE),
)
BY_NAME = {item.name: item for item in COLUMNS}


def resolve(name: Name) -> Scalar:
    """A column of t0."""
    found: Column = BY_NAME[name.column]
    return column_scalar(found, f't0."{found.name}"', name.position)


def parsed(text: str) -> Expression:
    """The expression inside an aggregate."""
    (aggregate,) = parse_select(f"SELECT SUM({text}) AS s FROM people").aggregates
    assert aggregate.argument is not None
    return aggregate.argument


def typed(text: str) -> Scalar:
    """The scalar of an expression's text."""
    return scalar(parsed(text), resolve)


@dataclass(frozen=True)
class Engine:
    """DuckDB with the table t0."""

    connection: duckdb.DuckDBPyConnection

    def values(self, sql: str) -> list[Cell]:
        """The expression on every row, in order."""
        return [row[0] for row in self.connection.execute(f"SELECT {sql} FROM t0 ORDER BY n").fetchall()]

    @classmethod
    def of(cls, rows: Sequence[dict[str, Cell]]) -> Engine:
        """An engine whose table has these rows; cells that are not named are null."""
        connection = duckdb.connect()
        types = ", ".join(f'"{item.name}" {SQL_TYPES[item.type]}' for item in COLUMNS)
        connection.execute(f"CREATE TABLE t0 (n BIGINT, {types})")
        cells = [[number, *(row.get(item.name) for item in COLUMNS)] for number, row in enumerate(rows)]
        connection.executemany(f"INSERT INTO t0 VALUES ({', '.join('?' * (len(COLUMNS) + 1))})", cells)
        return cls(connection)
