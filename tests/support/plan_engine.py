"""The run of a bound plan without jail and without noise: the real builders, workers and egress, in one connection.

Noise is replaced by a recorder: what it is handed is the exact vector, and the sensitivity that it was promised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import duckdb
import pyarrow as pa

from enclave_runner.contract.dataset import ColumnType, DatasetSpec
from enclave_runner.egress import measure
from enclave_runner.egress.shares import learned_norms, quantiles
from enclave_runner.kinds import aggregate, discover, extract, spread
from enclave_runner.kinds.tasks import Aggregation, Discovery, Extraction, KeyedVectors, Spread, Vectors
from enclave_runner.plan.bound import BoundSelect, NormKind
from enclave_runner.supervisor import extracts, run_query
from enclave_runner.supervisor.holdings import HeldVersion
from tests.support.plan_interpreter import Clips, Database, Share, dense, sized

ARROW = {
    ColumnType.TEXT: pa.string(),
    ColumnType.INTEGER: pa.int64(),
    ColumnType.DECIMAL: pa.int64(),
    ColumnType.BOOLEAN: pa.bool_(),
    ColumnType.DATE: pa.date32(),
}
Worker = Callable[[object, int], object]
# Text that is replaced in the builder's SQL, for a fault to be planted there.
REWRITES: list[tuple[str, str]] = []
_connection: list[duckdb.DuckDBPyConnection] = []


def connection() -> duckdb.DuckDBPyConnection:
    """One engine for all cases: opening one costs more than a case."""
    if not _connection:
        _connection.append(duckdb.connect(config={"threads": 1}))
        _connection[0].execute("SET TimeZone = 'UTC'")
    return _connection[0]


@dataclass
class Draw:
    """One vector at the door to the noise."""

    name: str
    sensitivity: int
    cells: tuple[int, ...]


@dataclass
class Recorder:
    """In place of noise: keeps what it is given, in order."""

    draws: list[Draw] = field(default_factory=list)

    def share(self, name: str, sensitivity: int = 0) -> Any:
        """A share, or the mechanism of one, that adds nothing."""

        def add(cells: Sequence[int]) -> list[int]:
            self.draws.append(Draw(name, sensitivity, tuple(map(int, cells))))
            return list(cells)

        return SimpleNamespace(
            mechanism=lambda bound: self.share(name, bound),
            part=lambda of: self.share(name),
            add=add,
            variance=1.0,
            half_width=1.0,
            choice_pico_rho=1,
        )

    def shares(self, plan: BoundSelect) -> Any:
        """A share for every vector of a plan; the correction is always tried."""
        sums = plan.sums is not None
        corrects = sums and not plan.is_open and plan.sums.clipping.kind is not NormKind.NONE  # type: ignore[union-attr]
        return SimpleNamespace(
            learning={kind: self.share(f"learning-{kind}") for kind in learned_norms(plan)},
            sums=self.share("sums") if sums else None,
            correction=self.share("correction") if corrects else None,
            units=tuple(self.share(f"units-{index}") for index in range(len(plan.units))),
            values=tuple(self.share(f"values-{index}") for index in range(len(plan.values))),
            quantiles={key: self.share(f"quantile-{key[0]}-{key[1]}") for key in quantiles(plan)},
            selection=self.share("selection") if plan.is_open else None,
            counting=self.share("counting") if plan.is_open else None,
            delta=0,
        )

    def choose(self, part: Sequence[int], numerator: int, denominator: int, bound: int, pico_rho: int) -> int:
        """A quantile's histogram: one draw for every group, all at one scale."""
        self.draws.append(Draw("quantile", bound, tuple(part)))
        return 0


@dataclass
class Run:
    """What a plan's run showed: every worker's answer and every vector at the door to the noise."""

    answers: list[object]
    draws: list[Draw]

    @property
    def keys(self) -> list[tuple[str, ...]]:
        """The keys that are not public, of all partitions, in the order of the draws."""
        return sorted({key for answer in self.answers if isinstance(answer, KeyedVectors) for key in answer.keys})


class Enclave:
    """Stands where the supervisor's handle on its workers stands: `work` is done at once, in this process."""

    def __init__(self, worker: Worker) -> None:
        self.answers: list[object] = []
        self._worker = worker

    def work(self, task: object, descriptors: Sequence[int]) -> object:
        """The answer of a worker to whom the extract of that number was handed."""
        self.answers.append(self._worker(task, descriptors[0]))
        return self.answers[-1]


def run_plan(plan: BoundSelect, worker: Worker, partitions: int, clips: Clips, high: int) -> Run:
    """The whole run at given clips, up to the noise."""
    enclave = Enclave(worker)

    def spread(task: Spread) -> tuple[int, ...]:
        found = [enclave.work(task, [partition]).vectors[0] for partition in range(partitions)]  # type: ignore[attr-defined]
        return tuple(map(sum, zip(*found, strict=True)))

    made = SimpleNamespace(each=lambda: iter(range(partitions)), spread=spread)
    return Run(enclave.answers, recorded(plan, enclave, made, clips, high))


def recorded(plan: BoundSelect, enclave: Any, made: Any, clips: Clips, high: int) -> list[Draw]:
    """What a run hands to the noise; `enclave` may be a real one, and `made` its extracts."""
    recorder, groups = Recorder(), run_query.Clips(clips.sums, clips.histograms, high)
    shares = recorder.shares(plan)
    with patch.object(measure, "choose_quantile", recorder.choose):
        if shares.learning:
            run_query._learn(plan, shares, made)
        if plan.is_open:
            with patch.object(run_query, "threshold_for", lambda *_: 0):
                run_query._open_groups(enclave, plan, shares, groups, made)
        else:
            run_query._public_groups(enclave, plan, shares, groups, made)
    return recorder.draws


@contextmanager
def sql_worker(
    plan: BoundSelect, specs: Mapping[str, DatasetSpec], database: Database, partitions: int
) -> Iterator[Worker]:
    """A worker that does what is done in the jail, over an extract that the real builder makes in memory."""
    order = order_of(plan, specs, database, partitions)
    engine, built = connection(), [-1]

    def work(task: object, partition: int) -> object:
        if built[0] != partition:
            _clear(engine)
            _build(engine, extracts._numbered(order, partition) if partitions > 1 else order, database)
            built[0] = partition
        worker: Any = {Aggregation: aggregate, Discovery: discover, Spread: spread}[type(task)]
        with patch.object(worker, "engine", lambda: nullcontext(engine)), patch.object(worker, "load_extract", _loaded):
            return worker.run(task, [0])

    try:
        yield work
    finally:
        _clear(engine)


@contextmanager
def extract_of(
    plan: BoundSelect, specs: Mapping[str, DatasetSpec], database: Database
) -> Iterator[duckdb.DuckDBPyConnection]:
    """The engine with the extract of a plan as t0, t1, …"""
    engine = connection()
    _build(engine, order_of(plan, specs, database, 1), database)
    try:
        _loaded(engine, 0, len(plan.sources))
        yield engine
    finally:
        _clear(engine)


def order_of(plan: BoundSelect, specs: Mapping[str, DatasetSpec], database: Database, partitions: int) -> Extraction:
    """What the supervisor orders for a plan."""
    held = tuple(
        HeldVersion(
            source.dataset_id, "1", "file", len(database[source.dataset_id]), specs[source.dataset_id], "2026-01-01"
        )
        for source in plan.sources
    )
    return extracts.query_extraction(plan, held, bool(learned_norms(plan)), partitions)


class Rewriting:
    """A connection that plants faults into what it is told; with nothing to plant it is the connection."""

    def __init__(self, engine: duckdb.DuckDBPyConnection) -> None:
        self._engine = engine
        self.register, self.unregister = engine.register, engine.unregister

    def execute(self, sql: str, parameters: object = None) -> duckdb.DuckDBPyConnection:
        """Run a statement."""
        for old, new in REWRITES:
            sql = sql.replace(old, new)
        return self._engine.execute(sql, parameters)


def _loaded(connection: duckdb.DuckDBPyConnection, descriptor: int, tables: int = 1) -> None:
    for index in range(tables):
        connection.execute(f"CREATE OR REPLACE TEMP VIEW t{index} AS FROM granted.main.stored{index}")


def _build(engine: duckdb.DuckDBPyConnection, order: Extraction, database: Database) -> None:
    """`extract.run` but for the files."""
    engine.execute("ATTACH ':memory:' AS granted")

    def reader(pool: object, part: Any, columns: tuple[str, ...], stored: object) -> pa.Table:
        places = [[column.name for column in part.spec.columns].index(name) for name in columns]
        rows = database[part.spec.dataset_id]
        return pa.table(
            {
                name: pa.array([row[place] for row in rows], ARROW[part.spec.columns[place].type])
                for name, place in zip(columns, places, strict=True)
            }
        )

    with patch.object(extract, "_reader", reader), ThreadPoolExecutor(1) as pool:
        files = iter(range(1000))
        built: Any = Rewriting(engine)
        tables = [extract.Table(built, pool, order, index, files) for index in range(len(order.parts))]
        for table in sorted(tables, key=lambda table: table.index != order.root):
            table.build()


def _clear(engine: duckdb.DuckDBPyConnection) -> None:
    for index in range(4):
        engine.execute(f"DROP VIEW IF EXISTS temp.t{index}")
        engine.execute(f"DROP TABLE IF EXISTS temp.units{index}")
    engine.execute("DROP TABLE IF EXISTS temp.ids")
    engine.execute("DETACH DATABASE IF EXISTS granted")


def plain_worker(plan: BoundSelect, shares: Sequence[Share], high: Sequence[Share]) -> Worker:
    """A worker that adds up what the interpreter says of every unit, and never sees SQL.

    `high` are the same units at the clip of the correction. All lie in partition 0.
    """

    def work(task: object, partition: int) -> object:
        match task:
            case Spread():
                return Vectors(vectors=(_spread(task, shares),))
            case Discovery():
                return _keyed(task, shares)
            case Aggregation():
                return Vectors(vectors=tuple(_aggregated(plan, task, shares, high)))
        raise AssertionError(task)

    return work


def _spread(task: Spread, shares: Sequence[Share]) -> tuple[int, ...]:
    bins = [0] * len(task.edges)
    for share in shares:
        norm = share.norms.get(task.norm, 0)
        if norm > 0:
            bins[next((at for at, edge in enumerate(task.edges) if norm <= edge), len(bins) - 1)] += 1
    return tuple(bins)


def total(counters: Sequence[Counter[Any]]) -> Counter[Any]:
    """The sum; negative cells stay."""
    found: Counter[Any] = Counter()
    for counter in counters:
        for key, value in counter.items():
            found[key] += value
    return found


def _keyed(task: Discovery, shares: Sequence[Share]) -> KeyedVectors:
    if task.keys:
        sums = total([share.sums for share in shares])
        width = sum(query.width for query in task.queries)
        vectors = tuple(tuple(sums[at, key] // task.coarsening for key in task.keys) for at in range(width))
        return KeyedVectors(keys=task.keys, units=(0,) * len(task.keys), vectors=vectors)
    candidates = total([share.candidates for share in shares])
    keys = sorted(tuple(map(str, key)) for key in candidates if None not in key)
    return KeyedVectors(keys=tuple(keys), units=tuple(candidates[key] for key in keys), vectors=())


def _aggregated(
    plan: BoundSelect, task: Aggregation, shares: Sequence[Share], high: Sequence[Share]
) -> Iterator[tuple[int, ...]]:
    """Every exact vector in the order of the task's queries."""
    axes = [axis.labels for axis in plan.axes]
    if plan.is_open:
        yield (len(total([share.candidates for share in shares])),)
        return
    queries = list(zip(task.queries, task.coarsenings, strict=True))
    others = len(plan.units) + len(plan.values) + len(plan.histograms)
    clipped = iter((shares, high))
    width = len(plan.sums.statistics) if plan.sums is not None else 1
    for query, coarsening in queries[: len(queries) - others]:
        for _ in range(query.width // width):  # one query may sum at both clips
            sums = total([share.sums for share in next(clipped)])
            for at in range(width):
                yield tuple(sums[at, key] // coarsening for key in product(*axes))
    for index in range(len(plan.units)):
        yield tuple(dense(total([share.units[index] for share in shares]), axes))
    for index, values in enumerate(plan.values):
        found = total([share.values[index] for share in shares])
        yield tuple(found[label] for label in values.labels)
    for index, (query, _) in enumerate(queries[len(queries) - len(plan.histograms) :]):
        yield tuple(sized(total([share.histograms[index] for share in shares]), query))


def moved(plan: BoundSelect, first: Run, second: Run) -> dict[str, Fraction]:
    """For every noisy release the distance of its exact vectors as a part of the promised sensitivity; exact.

    Releases that are answered at one scale together (statistics, groups) are one vector. Distances are L1 for Laplace
    noise and for quantiles; for Gaussian noise the squares of distance and promise are compared.
    """
    found: dict[str, Fraction] = {}
    sets, kinds = len(plan.grouping_sets), Counter[str]()
    joint: dict[str, list[tuple[Draw, Draw]]] = {}
    for one, other in _paired(plan, first, second):
        place = kinds[one.name]
        kinds[one.name] += 1
        if one.name == "sums" and sets > 1:
            joint.setdefault(f"sums of set {place % sets}", []).append((one, other))
        elif one.name == "quantile":
            joint.setdefault(f"quantile {place // plan.cells}", []).append((one, other))
        else:
            joint.setdefault(one.name, []).append((one, other))
    for name, pairs in joint.items():
        power = 1 if name.startswith("quantile") else plan.power
        promises = {draw.sensitivity for pair in pairs for draw in pair}
        # What flooring adds counts the told keys, of which the recorder, without a threshold, tells one side more.
        assert len(promises) == 1 or plan.is_open, promises
        promised = max(promises)
        distance = sum(abs(a - b) ** power for x, y in pairs for a, b in zip(x.cells, y.cells, strict=True))
        found[name] = Fraction(distance, promised**power)
    return found


def _paired(plan: BoundSelect, first: Run, second: Run) -> list[tuple[Draw, Draw]]:
    """The draws side by side; of keys that are not public those of the smaller database decide, others are none."""
    assert [draw.name for draw in first.draws] == [draw.name for draw in second.draws]
    pairs = list(zip(first.draws, second.draws, strict=True))
    if not plan.is_open:
        return pairs
    assert set(second.keys) <= set(first.keys)
    place = {key: at for at, key in enumerate(second.keys)}
    made = []
    for one, other in pairs:
        if one.name == "selection":
            cells = tuple(other.cells[place[key]] if key in place else 0 for key in first.keys)
            made.append((one, Draw(other.name, other.sensitivity, cells)))
        elif one.name == "sums":
            width = len(one.cells) // max(1, len(first.keys))
            both = [at for at, key in enumerate(first.keys) if key in place]
            cells = tuple(one.cells[step * len(first.keys) + at] for step in range(width) for at in both)
            kept = other.cells if place else ()
            made.append((Draw(one.name, one.sensitivity, cells), Draw(other.name, other.sensitivity, kept)))
        else:
            made.append((one, other))
    return made
