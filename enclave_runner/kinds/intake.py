"""Import: one pass over the source, every row checked in SQL against the declared spec, rejections by number and rule.

Typed rows stream from DuckDB into one Parquet writer per column, whose bytes go to the supervisor in frames; nothing is
ever on a disk. Types, bounds and domains are declared, never inferred. Where a unique key turns out to repeat, the
supervisor throws the output away and has the source read once more without the rows that are too many.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from enclave_runner.contract.dataset import KeyKind
from enclave_runner.contract.wire import Rejection
from enclave_runner.kinds.checks import row_checks, typed
from enclave_runner.kinds.engine import engine, lock_builder, path_of
from enclave_runner.kinds.frames import DUPLICATES, FrameSink
from enclave_runner.kinds.keys import Keys
from enclave_runner.kinds.source import UnreadableSourceError, malformed_rows, table_of
from enclave_runner.kinds.tasks import Declined, Intake, IntakeAnswer
from enclave_runner.plan.tables import quote

LISTED = 1000
BROKEN = "_broken"
BATCH_ROWS, GROUP_ROWS, GROUP_BYTES = 16_384, 131_072, 64 << 20
# The reader runs ahead of the writers by this much; digests of keys may spill into the memory of /scratch.
INTAKE_SETTINGS = ("SET streaming_buffer_size = '16MB'", "SET max_temp_directory_size = '1900MB'")
ZSTD_LEVEL = 1


def run(task: Intake, descriptors: list[int]) -> IntakeAnswer | Declined:
    """Take the whole source, or decline it by a rule that says nothing of its rows."""
    source, head, output, *left_out = descriptors
    duplicates = _numbers(left_out[0]) if left_out else None
    try:
        with engine() as connection:
            for setting in INTAKE_SETTINGS:
                connection.execute(setting)
            table = table_of(connection, task, source, head)
            lock_builder(connection, path_of(source))
            taking = _Taking(connection, task, output, duplicates)
            taking.take(table)
            count, listed = malformed_rows(connection, task, LISTED)
            return taking.answer(count, listed)
    except UnreadableSourceError as error:
        return Declined(rule=error.rule, facts=error.facts)


def _numbers(descriptor: int) -> np.ndarray:
    return np.frombuffer(os.pread(descriptor, os.fstat(descriptor).st_size, 0), dtype="<u8")


@contextmanager
def _refusing() -> Iterator[None]:
    """What the engine cannot read is no file of that format; once it streams, its errors come in Arrow's dress."""
    try:
        yield
    except duckdb.OutOfMemoryException:
        raise
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        if str(error).startswith("Out of Memory"):
            raise MemoryError from None
        raise UnreadableSourceError("import.format") from None


class _Taking:
    """One pass: what was accepted so far, and what not."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, task: Intake, output: int, duplicates: np.ndarray | None
    ) -> None:
        self._connection, self._task, self._output, self._duplicates = connection, task, output, duplicates
        self._columns = _ColumnWriters(task.columns, output)
        spec = task.spec
        self._numbered = spec.key_kind is KeyKind.ROW
        self._keys = Keys(connection.cursor(), spec.unique and duplicates is None) if not self._numbered else None
        self._rows = self._accepted = 0
        self._marks: list[tuple[int, str]] = []

    def take(self, table: str) -> None:
        """Read everything; good rows go out, bad ones are noted."""
        gathered: list[pa.RecordBatch] = []
        for batch in self._batches(table):
            gathered.append(batch)
            taken = sum(item.num_rows for item in gathered)
            if taken >= GROUP_ROWS or sum(item.nbytes for item in gathered) >= GROUP_BYTES:
                self._take_group(pa.Table.from_batches(gathered))
                gathered = []
        if gathered:
            self._take_group(pa.Table.from_batches(gathered))
        self._columns.close()

    def _batches(self, table: str) -> Iterator[pa.RecordBatch]:
        spec = self._task.spec
        outputs = [
            f"{row_checks(spec)} AS {BROKEN}",
            *(f"{typed(item)} AS {quote(item.name)}" for item in spec.columns),
        ]
        with _refusing():
            reader = self._connection.sql(f"SELECT {', '.join(outputs)} FROM {table}").to_arrow_reader(BATCH_ROWS)
        self._columns.open(reader.schema)
        with _refusing():
            yield from reader

    def _take_group(self, group: pa.Table) -> None:
        numbers = np.arange(self._rows + 1, self._rows + 1 + group.num_rows, dtype=np.uint64)
        self._rows += group.num_rows
        marks = group.column(BROKEN)
        good = np.asarray(marks.is_null())
        self._note(numbers[~good], marks.filter(pa.array(~good)).to_pylist())
        if self._duplicates is not None:
            repeated = good & np.isin(numbers, self._duplicates)
            self._note(numbers[repeated], [":row.duplicate"] * int(repeated.sum()))
            good &= ~repeated
        kept, numbers = group.filter(pa.array(good)).drop_columns([BROKEN]), numbers[good]
        if not kept.num_rows:
            return
        self._accepted += kept.num_rows
        if self._keys is not None:
            self._keys.add(kept.column(self._task.spec.entity_column), numbers)
        else:
            kept = kept.append_column(self._task.spec.entity_column, pa.array(numbers.astype(np.int64)))
        self._columns.write(kept)

    def _note(self, numbers: np.ndarray, marks: list[str]) -> None:
        room = LISTED - len(self._marks)
        self._marks += [(int(number), mark) for number, mark in zip(numbers[:room], marks[:room], strict=True)]

    def answer(self, malformed: int, listed: list[int]) -> IntakeAnswer:
        """The outcome; repeated keys that a second reading would leave out have their numbers sent."""
        spec, marks = self._task.spec, self._marks
        repeated = np.empty(0, np.uint64)
        entities = self._accepted
        if self._keys is not None:
            entities = self._keys.count()
            if spec.unique and self._duplicates is None and entities < self._accepted:
                repeated = self._keys.repeated()
                marks = sorted([*marks, *((int(number), ":row.duplicate") for number in repeated[:LISTED])])
        accepted = self._accepted - len(repeated)
        rejected = self._rows - accepted + malformed
        again = len(repeated) > 0 and rejected * 1000 <= spec.max_rejected_permille * (accepted + rejected)
        if again:
            FrameSink(self._output, DUPLICATES).write(repeated.astype("<u8").tobytes())
        return IntakeAnswer(
            accepted=accepted,
            rejected=rejected,
            rejections=_rejections(marks, listed),
            entities=entities,
            again=again,
        )


class _ColumnWriters:
    """One Parquet file per column, all with the same row groups."""

    def __init__(self, names: tuple[str, ...], output: int) -> None:
        self._names, self._output = names, output
        self._writers: list[pq.ParquetWriter] = []

    def open(self, schema: pa.Schema) -> None:
        """Types as the engine gives them; a generated key is a number."""
        fields = {field.name: field for field in schema}
        for index, name in enumerate(self._names):
            field = fields.get(name, pa.field(name, pa.int64()))
            self._writers.append(
                pq.ParquetWriter(
                    FrameSink(self._output, index),
                    pa.schema([field]),
                    compression="zstd",
                    compression_level=ZSTD_LEVEL,
                    write_statistics=False,
                    store_schema=False,
                )
            )

    def write(self, rows: pa.Table) -> None:
        """One row group."""
        for name, writer in zip(self._names, self._writers, strict=True):
            writer.write_table(rows.select([name]), row_group_size=rows.num_rows)

    def close(self) -> None:
        """Make every file whole."""
        for writer in self._writers:
            writer.close()


def _rejections(marks: list[tuple[int, str]], malformed: list[int]) -> tuple[Rejection, ...]:
    listed = [Rejection(row=row, column="", rule="row.malformed") for row in malformed]
    for number, mark in marks[:LISTED]:
        column, rule = mark.split(":")
        listed.append(Rejection(row=_number_in_file(number, malformed), column=column, rule=rule))
    return tuple(sorted(listed, key=lambda item: item.row)[:LISTED])


def _number_in_file(position: int, malformed: list[int]) -> int:
    """The file's number of the row that is `position`-th among the well-formed ones."""
    for number in malformed:
        if number > position:
            break
        position += 1
    return position
