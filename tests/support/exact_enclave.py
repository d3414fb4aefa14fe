"""A whole query without jails: planned, run, noised and laid out by the enclave's own functions, in this process.

Only two things differ from a running enclave: a worker's task is a call of the worker's function, and what is exact (or
follows from public facts alone) is kept, so that one query can be noised thousands of times. Noise is OpenDP's, drawn
anew in every run.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq

from enclave_runner.contract.codec import digest, encode
from enclave_runner.contract.dataset import ColumnType, DatasetSpec
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import Scope
from enclave_runner.contract.job import QueryJob
from enclave_runner.contract.privacy import Budget
from enclave_runner.contract.receipt import DPTable, DPTables
from enclave_runner.contract.rulebook import PolicyPack
from enclave_runner.dp.conversion import epsilon_of
from enclave_runner.dp.mechanism import Mechanism
from enclave_runner.egress import measure, table
from enclave_runner.jail.launcher import MemoryFile
from enclave_runner.kinds import aggregate, discover, extract, finish, rehearsal, spread
from enclave_runner.kinds.tasks import (
    Aggregation,
    Discovery,
    Done,
    Extraction,
    Finishing,
    Rehearsal,
    Spread,
    Task,
    TaskAnswer,
)
from enclave_runner.plan.parse import parse_select
from enclave_runner.plan.workload import parse_workload
from enclave_runner.supervisor import run_query
from enclave_runner.supervisor.enclave import Enclave
from enclave_runner.supervisor.extracts import Extracts, query_extraction
from enclave_runner.supervisor.holdings import HeldVersion
from enclave_runner.supervisor.limits import Limits, read_limits
from enclave_runner.supervisor.plan_query import PlannedQuery, finishing_of, plan_query, rehearsal_of
from enclave_runner.supervisor.run_query import Answered, answer_query
from enclave_runner.supervisor.workload import PlannedWorkload, answer_workload, plan_workload

Row = Sequence[object]
ARROW = {
    ColumnType.TEXT: pa.string(),
    ColumnType.INTEGER: pa.int64(),
    ColumnType.DECIMAL: pa.int64(),
    ColumnType.BOOLEAN: pa.bool_(),
    ColumnType.DATE: pa.date32(),
}
RUN = {Aggregation: aggregate.run, Discovery: discover.run, Spread: spread.run, Finishing: finish.run}
LIMITS = read_limits(PolicyPack(Path(__file__).parents[2] / "policies"))


@dataclass(frozen=True)
class Table:
    """A dataset as it is stored: numbers in units of 10^-scale. `ungranted` columns are in no scope."""

    spec: DatasetSpec
    rows: tuple[Row, ...]
    ungranted: frozenset[str] = frozenset()

    def without(self, unit: object) -> Table:
        """The same table with all rows of one unit gone; a public table stays as it is."""
        if self.spec.public:
            return self
        place = [column.name for column in self.spec.columns].index(self.spec.entity_column)
        return Table(self.spec, tuple(row for row in self.rows if row[place] != unit), self.ungranted)


@dataclass
class _Store:
    """Hands out one Parquet file per column, as the raw store does."""

    tables: Mapping[str, Table]

    def open_columns(self, file: str, names: Sequence[str]) -> list[int]:
        stored = self.tables[file]
        places = {column.name: place for place, column in enumerate(stored.spec.columns)}
        return [_file(stored, name, places.get(name)) for name in names]


def _file(stored: Table, name: str, place: int | None) -> int:
    column = stored.spec.column(name)
    kind = ARROW[column.type] if column is not None else pa.int64()
    cells = list(range(1, len(stored.rows) + 1)) if place is None else [row[place] for row in stored.rows]
    sink = io.BytesIO()
    pq.write_table(pa.table({name: pa.array(cells, kind)}), sink)
    with MemoryFile(sink.getvalue()) as held:
        return os.dup(held.descriptor)


@dataclass
class ExactEnclave:
    """What `plan_query` and `answer_query` ask of an enclave. Use it through `exact_enclave`."""

    store: _Store
    limits: Limits
    folder: Path
    done: Counter[str] = field(default_factory=Counter)
    _extracts: dict[str, Path] = field(default_factory=dict)
    _known: dict[tuple[str, str], TaskAnswer] = field(default_factory=dict)

    def plan(self, sql: str, epsilon: str = "1", delta: str = "1e-6") -> PlannedQuery:
        """The bound and rehearsed query. Raises Refused as the enclave does."""
        query = plan_query(
            cast("Enclave", self), parse_select(sql), QueryJob(sql=sql, budget=Budget(epsilon=epsilon, delta=delta)),
            self._find,
        )  # fmt: skip
        rehearsal.run(rehearsal_of(query), [])
        finishing = finishing_of(query)
        if finishing is not None:
            finish.run(finishing, [])
        return query

    def answer(self, query: PlannedQuery) -> Answered:
        """One run: fresh noise over the same exact vectors, and what it cost."""
        return answer_query(cast("Enclave", self), query)

    def answers(self, query: PlannedQuery, runs: int) -> Iterator[Answered]:
        """Many runs over one extract, each with fresh noise."""
        order = query_extraction(query.plan, query.held, query.learns, query.partitions)
        held = Extracts(cast("Enclave", self), order, query.held)

        @contextmanager
        def kept(*_: object) -> Iterator[Extracts]:
            yield held

        with patch.object(run_query, "extracts", kept), patch.object(table, "epsilon_of", lru_cache(epsilon_of)):
            for _ in range(runs):
                yield self.answer(query)
        held.close()

    def exact(self, query: PlannedQuery, clip: int | None = None) -> DPTable:
        """The table without any noise: at that clip where it is learned, and every key that occurs."""
        with ExitStack() as held:
            held.enter_context(patch.object(Mechanism, "add", lambda self, exact: list(exact)))
            held.enter_context(patch.object(run_query, "threshold_for", lambda *_: 1))
            if clip is not None:
                held.enter_context(patch.object(measure, "choose_clip", lambda *_: clip))
            return self.answer(query).table

    def run(self, sql: str, epsilon: str = "1", delta: str = "1e-6") -> DPTable:
        """Plan and run once."""
        return self.answer(self.plan(sql, epsilon, delta)).table

    def tables(self, sql: str, epsilon: str = "1") -> tuple[PlannedWorkload, DPTables]:
        """Several statements under one budget: their plan, and one run of them."""
        job = QueryJob(sql=sql, budget=Budget(epsilon=epsilon))
        workload = plan_workload(cast("Enclave", self), parse_workload(sql), job, self._find)
        return workload, answer_workload(cast("Enclave", self), workload)

    def work(self, task: Task, descriptors: list[int], profile: object = None) -> TaskAnswer:
        """A worker's task, in this process. The memory of an extract holds its digest only; its file is kept."""
        self.done[type(task).__name__] += 1
        if isinstance(task, Extraction):
            return self._extract(task, descriptors)
        if isinstance(task, Finishing):
            return finish.run(task, [])
        if isinstance(task, Rehearsal):
            return rehearsal.run(task, [])
        name = os.pread(descriptors[0], 64, 0).decode()
        key = name, digest(encode(task))
        if key not in self._known:
            with self._extracts[name].open("rb") as file:
                self._known[key] = cast("Any", RUN[type(task)])(task, [file.fileno()])
        return self._known[key]

    def _extract(self, task: Extraction, descriptors: list[int]) -> Done:
        name = digest(encode(task))
        if name not in self._extracts:
            path = self.folder / name
            with path.open("w+b") as file, patch.object(extract, "BUILT_AT", str(self.folder / "building.db")):
                extract.run(task, [*descriptors[:-1], file.fileno()])
            self._extracts[name] = path
        os.pwrite(descriptors[-1], name.encode(), 0)
        return Done()

    def _find(self, dataset_id: str) -> tuple[HeldVersion, Scope]:
        table = self.store.tables.get(dataset_id)
        if table is None:
            raise Refused("grant.dataset", dataset=dataset_id)
        spec = table.spec
        held = HeldVersion(dataset_id, "v1", dataset_id, len(table.rows), spec, "2026-01-01T00:00:00+00:00")
        granted = tuple(column.name for column in spec.columns if column.name not in table.ungranted)
        return held, Scope(dataset_id=dataset_id, columns=granted)


@contextmanager
def exact_enclave(*tables: Table, limits: Limits = LIMITS) -> Iterator[ExactEnclave]:
    """An enclave over these tables, every column of which is granted but the ungranted ones."""
    with tempfile.TemporaryDirectory() as folder:
        yield ExactEnclave(_Store({table.spec.dataset_id: table for table in tables}), limits, Path(folder))


@contextmanager
def neighbours(unit: object, *tables: Table) -> Iterator[tuple[ExactEnclave, ExactEnclave]]:
    """Two enclaves that differ by one unit with all its rows in all tables; the first one has it."""
    with ExitStack() as held:
        whole = held.enter_context(exact_enclave(*tables))
        yield whole, held.enter_context(exact_enclave(*(table.without(unit) for table in tables)))


def cell(table: DPTable, row: int, column: int) -> Decimal | None:
    """A released number: `column` counts measures."""
    text = table.rows[row][len(table.keys) + column]
    return None if text is None else Decimal(text)
