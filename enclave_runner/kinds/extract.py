"""The per-job extract: granted columns and rows of each table, and a number in place of a unit's identifier.

Built into a fresh DuckDB file by CREATE TABLE AS, and never changed: only that leaves nothing of anything else behind.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from enclave_runner.kinds.engine import GRANTED, SPREAD, STORED, engine, lock_builder, path_of
from enclave_runner.kinds.tasks import Done, Extraction, Part
from enclave_runner.plan.bound import NORM, ROWS, UNIT
from enclave_runner.plan.scalar import SAFE, number
from enclave_runner.plan.tables import quote

BUILT_AT = "/scratch/extract.db"  # not in the memfd at once: DuckDB makes a database only where there is no file yet
PIECE = 32 << 20
AHEAD = 2
KEY = "_key"


class ForeignColumnError(Exception):
    """A stored column that does not fit the others."""


def run(task: Extraction, descriptors: list[int]) -> Done:
    """Write the extract into the last descriptor, from one Parquet file per needed column in the others."""
    *stored, target = descriptors
    with engine() as connection:
        # No answer depends on the order of rows, and without it the file is a third smaller.
        connection.execute("SET preserve_insertion_order = false")
        connection.execute(f"ATTACH '{BUILT_AT}' AS {GRANTED}")
        lock_builder(connection, *(path_of(descriptor) for descriptor in stored))
        with ThreadPoolExecutor(1) as pool:  # one thread: a Parquet reader is for one at a time
            files = iter(stored)
            tables = [Table(connection, pool, task, index, files) for index in range(len(task.parts))]
            for table in sorted(tables, key=lambda table: table.index != task.root):
                table.build()
        connection.execute(f"CHECKPOINT {GRANTED}")
        connection.execute(f"DETACH {GRANTED}")
    _move(Path(BUILT_AT), target)
    return Done()


class Table:
    """One part on its way into the extract; the root's units are numbered first, for the others to be joined by."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        pool: ThreadPoolExecutor,
        task: Extraction,
        index: int,
        files: Iterator[int],
    ) -> None:
        self.index = index
        self._connection, self._pool, self._task = connection, pool, task
        self._part = task.parts[index]
        self._columns = task.needed(self._part)
        self._stored = [next(files) for _ in self._columns]
        self._key = f"t{index}.{quote(self._part.spec.entity_column)}"

    def build(self) -> None:
        """Count and measure units where that is asked for, then copy the rows."""
        part = self._part
        measured = part.unit or part.counted or part.norm is not None or self._task.spread
        joins = self._measure() if measured and not part.spec.public else ""
        outputs = [f"t{self.index}.{quote(column)}" for column in part.columns]
        outputs += [f"d.{UNIT}"] if part.unit else []
        if part.counted:
            outputs.append(f"u.{ROWS}" if part.above is None else f"coalesce(u.{ROWS}, {number(1)}) AS {ROWS}")
        outputs += [f"u.{NORM}"] if part.norm is not None else []
        # A table of which nothing but the number of rows is asked still has rows.
        self._execute(f"CREATE TABLE {STORED}{self.index} AS SELECT {', '.join(outputs or ['TRUE AS _row'])}", joins)

    def _measure(self) -> str:
        """The units of this part with their counts and norms, and the joins that bring them to the rows.

        A unit whose norm does not fit 62 bits is left out: it counts for nothing, which no clip forbids.
        """
        part, index = self._part, self.index
        outputs = [f"{self._key} AS {KEY}", f"count(*) AS {ROWS}"]
        having = f" HAVING count(*) > {number(part.above)}" if part.above is not None else ""
        if part.norm is not None:
            outputs.append(f"CAST(sum({part.norm}) AS BIGINT) AS {NORM}")
            having = f" HAVING sum({part.norm}) < CAST({SAFE} AS HUGEINT)"
        self._execute(f"CREATE TEMP TABLE units{index} AS SELECT {', '.join(outputs)}", "", f" GROUP BY ALL{having}")
        if index == self._task.root and self._task.spread:
            listed = ", ".join([ROWS] + ([NORM] if part.norm is not None else []))
            self._connection.execute(f"CREATE TABLE {SPREAD} AS SELECT {listed} FROM units{index}")
        if index == self._task.root and any(other.unit for other in self._task.parts):
            number_of = "CAST(row_number() OVER () AS UINTEGER)"
            self._connection.execute(f"CREATE TEMP TABLE ids AS SELECT {KEY}, {number_of} AS {UNIT} FROM units{index}")
        kind = "LEFT JOIN" if part.above is not None else "JOIN"
        joins = f" {kind} units{index} u ON u.{KEY} = {self._key}" if part.counted or part.norm is not None else ""
        return joins + (f" JOIN ids d ON d.{KEY} = {self._key}" if part.unit else "")

    def _execute(self, head: str, joins: str, tail: str = "") -> None:
        task, part = self._task, self._part
        conditions = [part.condition] if part.condition is not None else []
        if task.subject is not None:
            conditions.append(f"CAST({self._key} AS VARCHAR) = $subject")
        if task.partitions > 1 and not part.spec.public:
            conditions.append(f"hash({self._key}) % {task.partitions} = {task.partition}")
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        source = f"range({part.rows})"
        if self._stored:
            source = f"source{self.index}"
            self._connection.register(source, _reader(self._pool, part, self._columns, self._stored))
        sql = f"{head} FROM {source} AS t{self.index}{joins}{where}{tail}"
        self._connection.execute(sql, {"subject": task.subject} if task.subject is not None else None)
        if self._stored:
            self._connection.unregister(source)


def _reader(pool: ThreadPoolExecutor, part: Part, columns: tuple[str, ...], stored: list[int]) -> pa.RecordBatchReader:
    """The columns side by side, one row group after the other, the next ones being read ahead."""
    files = [pq.ParquetFile(pa.BufferReader(_mapped(descriptor))) for descriptor in stored]
    schema = pa.schema([file.schema_arrow.field(0) for file in files])
    if schema.names != list(columns) or any(file.metadata.num_rows != part.rows for file in files):
        raise ForeignColumnError

    def read(group: int) -> pa.RecordBatch:
        columns = [file.read_row_group(group, use_threads=False).column(0).combine_chunks() for file in files]
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def batches() -> Iterator[pa.RecordBatch]:
        groups = files[0].num_row_groups
        ahead = [pool.submit(read, group) for group in range(min(AHEAD, groups))]
        for group in range(groups):
            if group + AHEAD < groups:
                ahead.append(pool.submit(read, group + AHEAD))
            yield ahead.pop(0).result()

    return pa.RecordBatchReader.from_batches(schema, batches())


def _mapped(descriptor: int) -> pa.Buffer:
    return pa.py_buffer(mmap.mmap(descriptor, 0, mmap.MAP_PRIVATE, mmap.PROT_READ))


def _move(path: Path, target: int) -> None:
    """Copy from the end, cutting the file as it goes: both lie in memory, and together they never take much more."""
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = offset = max(end - PIECE, 0)
            os.lseek(target, start, os.SEEK_SET)
            while offset < end:
                offset += os.sendfile(target, file.fileno(), offset, end - offset)
            file.truncate(start)
            end = start
    path.unlink()
