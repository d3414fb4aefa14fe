"""The work of a jailed worker, done in this process: the same functions on real files, without the jail around them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import duckdb

from enclave_runner.contract.dataset import Column, ColumnType, DatasetSpec
from enclave_runner.contract.wire import FileFormat
from enclave_runner.kinds import aggregate, extract, intake
from enclave_runner.kinds.tasks import Aggregation, Declined, Extraction, Intake, IntakeAnswer
from enclave_runner.plan.bind import BoundTable
from enclave_runner.plan.render import render_table
from tests.support.enclave_home import rewound

SQL_TYPES = {
    ColumnType.TEXT: "VARCHAR",
    ColumnType.INTEGER: "BIGINT",
    ColumnType.DECIMAL: "BIGINT",
    ColumnType.BOOLEAN: "BOOLEAN",
    ColumnType.DATE: "DATE",
}
Row = Sequence[object]
Answer = TypeVar("Answer")


def on_a_thread(work: Callable[[], Answer]) -> Answer:
    """Do a worker's work that loads a model: it changes the arithmetic of its thread, which must not be pytest's."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


@contextmanager
def empty_file() -> Iterator[int]:
    """A descriptor that a worker may write."""
    descriptor = os.memfd_create("empty")
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Taken:
    """What an import gave: its answer, and the rows that were published."""

    answer: IntakeAnswer | Declined
    rows: list[tuple[object, ...]]

    @property
    def marks(self) -> list[tuple[int, str, str]]:
        """The rejections as (row, column, rule)."""
        assert isinstance(self.answer, IntakeAnswer), self.answer
        return [(item.row, item.column, item.rule) for item in self.answer.rejections]


def take_in(spec: DatasetSpec, data: str | bytes, kind: FileFormat = FileFormat.CSV, header: bool = True) -> Taken:
    """Import a file's content."""
    content = data.encode() if isinstance(data, str) else data
    with rewound(content) as source, empty_file() as stage, empty_file() as final:
        answer = intake.run(Intake(spec=spec, format=kind, header=header), [source, stage, final])
        rows = read_parquet(final) if isinstance(answer, IntakeAnswer) else []
    return Taken(answer, rows)


def read_parquet(descriptor: int) -> list[tuple[object, ...]]:
    """All rows of a Parquet file."""
    with duckdb.connect() as connection:
        return connection.execute(f"FROM read_parquet('/proc/self/fd/{descriptor}')").fetchall()


def parquet_of(select: str) -> bytes:
    """A Parquet file of a DuckDB query."""
    with empty_file() as target, duckdb.connect() as connection:
        connection.execute(f"COPY ({select}) TO '/proc/self/fd/{target}' (FORMAT parquet, USE_TMP_FILE false)")
        return os.pread(target, os.fstat(target).st_size, 0)


@contextmanager
def stored(columns: Sequence[Column], rows: Sequence[Row]) -> Iterator[int]:
    """A table as the raw store keeps it: typed columns, numbers in units of 10^-scale."""
    with empty_file() as target, duckdb.connect() as connection:
        types = ", ".join(f'"{column.name}" {SQL_TYPES[column.type]}' for column in columns)
        connection.execute(f"CREATE TABLE t ({types})")
        if rows:
            lists = ", ".join(f"unnest(CAST(? AS {SQL_TYPES[column.type]}[]))" for column in columns)
            connection.execute(f"INSERT INTO t SELECT {lists}", [list(cells) for cells in zip(*rows, strict=True)])
        connection.execute(f"COPY t TO '/proc/self/fd/{target}' (FORMAT parquet, USE_TMP_FILE false)")
        yield target


@contextmanager
def extracted(
    spec: DatasetSpec, rows: Sequence[Row], columns: tuple[str, ...], weight_scale: int, subject: str | None = None
) -> Iterator[int]:
    """The extract of a stored table."""
    order = Extraction(spec=spec, columns=columns, weight_scale=weight_scale, weighted=subject is None, subject=subject)
    with stored(spec.columns, rows) as source, empty_file() as target:
        extract.run(order, [source, target])
        yield target


def exact_vectors(plan: BoundTable, spec: DatasetSpec, rows: Sequence[Row]) -> tuple[tuple[int, ...], ...]:
    """The exact answer of a plan over a stored table, as a worker computes it."""
    with extracted(spec, rows, plan.columns, plan.weight_scale) as file:
        task = Aggregation(
            sql=render_table(plan),
            domains=tuple(key.domain for key in plan.keys),
            coarsenings=tuple(item.coarsening for item in plan.aggregates),
        )
        return aggregate.run(task, [file]).vectors
