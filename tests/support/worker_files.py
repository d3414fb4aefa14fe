"""The work of a jailed worker, done in this process: the same functions on real files, without the jail around them."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from enclave_runner.contract.dataset import Column, ColumnType, DatasetSpec
from enclave_runner.contract.wire import FileFormat
from enclave_runner.jail.launcher import MemoryFile
from enclave_runner.kinds import extract, intake, unpack
from enclave_runner.kinds.engine import GRANTED, STORED
from enclave_runner.kinds.frames import DUPLICATES, HEADER
from enclave_runner.kinds.rehearsal import SQL_TYPES
from enclave_runner.kinds.source import GZIP_MAGIC
from enclave_runner.kinds.tasks import Declined, Extraction, Intake, IntakeAnswer, Unpacking

ARROW_TYPES = {
    ColumnType.TEXT: pa.string(),
    ColumnType.INTEGER: pa.int64(),
    ColumnType.DECIMAL: pa.int64(),
    ColumnType.BOOLEAN: pa.bool_(),
    ColumnType.DATE: pa.date32(),
}
Row = Sequence[object]
Answer = TypeVar("Answer")


def on_a_thread(work: Callable[[], Answer]) -> Answer:
    """Do a worker's work that loads a model: it changes the arithmetic of its thread, which must not be pytest's."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


@contextmanager
def empty_file() -> Iterator[int]:
    """A descriptor that a worker may write. A named file: outside the jail DuckDB opens no database in bare memory."""
    with tempfile.NamedTemporaryFile() as file:
        yield file.fileno()


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
    """Import a file's content, reading it again where a worker asks for that."""
    content = data.encode() if isinstance(data, str) else data
    task = Intake(spec=spec, format=kind, header=header)
    answer, columns = read_once(task, content)
    if isinstance(answer, IntakeAnswer) and answer.again:
        answer, columns = read_once(task, content, columns[DUPLICATES])
    return Taken(answer, rows_of_columns([columns.get(index, b"") for index in range(len(task.columns))], answer))


def read_once(
    task: Intake, content: bytes, left_out: bytes | None = None
) -> tuple[IntakeAnswer | Declined, dict[int, bytes]]:
    """One reading: the worker's answer, and what its frames bring of each column."""
    entry, entry_write = os.pipe()
    frames, frames_write = os.pipe()
    packed = task.format is FileFormat.CSV and content.startswith(GZIP_MAGIC)
    with ExitStack() as held, ThreadPoolExecutor(3) as pool:
        source = entry
        if packed:
            source, plain = os.pipe()
            unpacking = pool.submit(unpack.run, Unpacking(), [entry, plain])
            entry = source
        if task.format is FileFormat.PARQUET:
            source = held.enter_context(MemoryFile(content)).descriptor
        head = held.enter_context(MemoryFile(content[: 1 << 16]))
        extra = [] if left_out is None else [held.enter_context(MemoryFile(left_out)).descriptor]
        pool.submit(_feed, entry_write, content if source == entry else b"")
        collecting = pool.submit(_collect, frames)
        try:
            answer = intake.run(task, [source, head.descriptor, frames_write, *extra])
        finally:
            os.close(entry)
            os.close(frames_write)
        columns = collecting.result()
        if packed and isinstance(answer, IntakeAnswer) and isinstance(cut := unpacking.result(), Declined):
            return cut, {}
        return answer, columns


def _feed(pipe: int, content: bytes) -> None:
    with os.fdopen(pipe, "wb", buffering=0) as file:
        view = memoryview(content)
        try:
            while view:
                view = view[file.write(view) :]
        except BrokenPipeError:
            return  # the worker has seen enough


def _collect(pipe: int) -> dict[int, bytes]:
    columns: dict[int, bytes] = {}
    with os.fdopen(pipe, "rb") as file:
        while header := file.read(HEADER.size):
            index, length = HEADER.unpack(header)
            columns[index] = columns.get(index, b"") + file.read(length)
    return columns


def rows_of_columns(columns: list[bytes], answer: IntakeAnswer | Declined) -> list[tuple[object, ...]]:
    """The rows that single-column Parquet files hold together."""
    if not isinstance(answer, IntakeAnswer) or answer.accepted == 0:
        return []
    tables = [pq.read_table(io.BytesIO(content)) for content in columns]
    return list(zip(*(table.column(0).to_pylist() for table in tables), strict=True))


def read_extract(descriptor: int, table: str = "stored0") -> list[tuple[object, ...]]:
    """All rows of one table of an extract."""
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '/proc/self/fd/{descriptor}' AS {GRANTED} (READ_ONLY)")
        return connection.execute(f"FROM {GRANTED}.main.{table}").fetchall()


def parquet_of(select: str) -> bytes:
    """A Parquet file of a DuckDB query."""
    with empty_file() as target, duckdb.connect() as connection:
        connection.execute(f"COPY ({select}) TO '/proc/self/fd/{target}' (FORMAT parquet, USE_TMP_FILE false)")
        return os.pread(target, os.fstat(target).st_size, 0)


@contextmanager
def stored(columns: Sequence[Column], rows: Sequence[Row]) -> Iterator[int]:
    """A table as an extract holds it: typed columns, numbers in units of 10^-scale."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "extract"
        with duckdb.connect() as connection:
            types = ", ".join(f'"{column.name}" {SQL_TYPES[column.type]}' for column in columns)
            connection.execute(f"ATTACH '{path}' AS {GRANTED}")
            connection.execute(f"CREATE TABLE {STORED}0 ({types})")
            if rows:
                lists = ", ".join(f"unnest(CAST(? AS {SQL_TYPES[column.type]}[]))" for column in columns)
                connection.execute(
                    f"INSERT INTO {STORED}0 SELECT {lists}", [list(item) for item in zip(*rows, strict=True)]
                )
            connection.execute(f"DETACH {GRANTED}")
        with path.open("rb") as file:
            yield file.fileno()


@contextmanager
def column_files(spec: DatasetSpec, rows: Sequence[Row], names: Sequence[str]) -> Iterator[list[int]]:
    """Some columns of a table as the raw store hands them out."""
    with ExitStack() as held:
        places = {column.name: place for place, column in enumerate(spec.columns)}
        files = []
        for name in names:
            column = spec.column(name)
            kind = ARROW_TYPES[column.type] if column else pa.int64()
            cells = [row[places[name]] for row in rows] if column else list(range(1, len(rows) + 1))
            sink = io.BytesIO()
            pq.write_table(pa.table({name: pa.array(cells, kind)}), sink, compression="zstd", write_statistics=False)
            files.append(held.enter_context(MemoryFile(sink.getvalue())).descriptor)
        yield files


@contextmanager
def extracted(order: Extraction, *tables: Sequence[Row]) -> Iterator[int]:
    """The extract that an order makes of stored tables, one for each of its parts."""
    with ExitStack() as held:
        files = []
        for part, rows in zip(order.parts, tables, strict=True):
            files += held.enter_context(column_files(part.spec, rows, order.needed(part)))
        yield held.enter_context(build(order, files))


@contextmanager
def build(order: Extraction, files: list[int]) -> Iterator[int]:
    """What an extract builder makes of these files."""
    with tempfile.TemporaryDirectory() as folder, empty_file() as target:
        with patch.object(extract, "BUILT_AT", f"{folder}/extract.db"):
            extract.run(order, [*files, target])
        yield target
