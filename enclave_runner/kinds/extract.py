"""The per-job extract: granted columns, granted rows, and an integer weight in place of the entity's identifier.

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

from enclave_runner.contract.dataset import DatasetSpec
from enclave_runner.kinds.engine import GRANTED, STORED, engine, lock_builder, path_of
from enclave_runner.kinds.tasks import Done, Extraction
from enclave_runner.plan.render import WEIGHT, literal, quote

BUILT_AT = "/scratch/extract.db"  # not in the memfd at once: DuckDB makes a database only where there is no file yet
PIECE = 32 << 20
AHEAD = 2
KEY, ROWS = "_key", "_rows"


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
        _build(connection, task, stored)
        connection.execute(f"CHECKPOINT {GRANTED}")
        connection.execute(f"DETACH {GRANTED}")
    _move(Path(BUILT_AT), target)
    return Done()


def _build(connection: duckdb.DuckDBPyConnection, task: Extraction, stored: list[int]) -> None:
    outputs = [quote(column) for column in task.columns]
    if task.weighted:
        outputs.append(f"{_weight(task.spec, task.weight_scale)} AS {quote(WEIGHT)}")
    key = quote(task.spec.entity_column)
    with ThreadPoolExecutor(1) as pool:  # one thread: a Parquet reader is for one at a time
        source = f"range({task.rows})" if not stored else "stored"
        if stored:
            connection.register("stored", _reader(pool, task, stored))
        if task.counted:
            connection.execute(
                f"CREATE TEMP TABLE busy AS SELECT {key} AS {KEY}, count(*) AS {ROWS} "
                f"FROM read_parquet('{path_of(stored[0])}') "
                f"GROUP BY ALL HAVING count(*) > {literal(task.spec.rows_per_entity or 0)}"
            )
            source += f" LEFT JOIN busy ON {KEY} = {key}"
        where = f" WHERE CAST({key} AS VARCHAR) = $subject" if task.subject is not None else ""
        sql = f"CREATE TABLE {STORED} AS SELECT {', '.join(outputs)} FROM {source}{where}"
        connection.execute(sql, {"subject": task.subject} if task.subject is not None else None)


def _weight(spec: DatasetSpec, scale: int) -> str:
    """floor(S · min(1, K / n)), n = rows of the entity in the extract; in BIGINT throughout.

    Only entities with n > K are counted; where the count is missing the weight is S whatever it is.
    """
    if spec.unique:
        return literal(scale)
    bound = spec.rows_per_entity or 0
    return f"least({literal(scale)}, {literal(scale * bound)} // coalesce({ROWS}, {literal(max(bound, 1))}))"


def _reader(pool: ThreadPoolExecutor, task: Extraction, stored: list[int]) -> pa.RecordBatchReader:
    """The columns side by side, one row group after the other, the next ones being read ahead."""
    files = [pq.ParquetFile(pa.BufferReader(_mapped(descriptor))) for descriptor in stored]
    schema = pa.schema([file.schema_arrow.field(0) for file in files])
    if schema.names != list(task.needed) or any(file.metadata.num_rows != task.rows for file in files):
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
