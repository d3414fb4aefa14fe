"""Our engine as a contestant: SQL text to plan, a sealed extract, the exact vector in the jail, noise and the finish.

Timed is what lies between a ready plan over a built extract and the noised table; planning and building are measured
once beside it. Nothing is charged: the odometer is a ticket's business, and `make bench-main` times tickets.
"""

from __future__ import annotations

import math
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from benchmarks.dp.contestant import NoRun, Run
from benchmarks.dp.memory import Watch
from benchmarks.dp.protocol import Given
from benchmarks.dp.race import OURS
from benchmarks.dp.statements import (
    DELTA,
    EPSILON,
    GROUPS,
    LEARNED,
    QUARTILES,
    REGIONS,
    STATEMENTS,
    TOTAL,
    Answer,
    Bound,
    answer_of,
)
from benchmarks.office import Office, open_office
from enclave_runner.contract.dataset import Column, ColumnType, DatasetSpec, KeyKind
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.grant import Grant, Mode, Purpose, Scope
from enclave_runner.contract.job import QueryJob
from enclave_runner.contract.privacy import RHO_UNIT, Budget, PrivacyLoss
from enclave_runner.contract.receipt import DPTable
from enclave_runner.supervisor.extracts import Extracts
from enclave_runner.supervisor.plan_query import PlannedQuery
from enclave_runner.supervisor.prepare import PreparedQuery, prepare_query
from enclave_runner.supervisor.run_query import finished_table, measured_groups, query_extracts

KEY = Column(name="user_id", title="user_id", type=ColumnType.TEXT, grade=3)
ENTITY = "resident"
ROWS_PER_ENTITY, POPULATION = 1000, 100_000_000  # what the catalogue promises, well above what there is
SQL = {
    "q1": "grp, COUNT(*) AS n FROM events GROUP BY grp",
    "q2": "grp, SUM(LEAST(amount, 100)) AS total, AVG(LEAST(amount, 100)) AS mean FROM events GROUP BY grp",
    "q3": "COUNT(DISTINCT user_id) AS units FROM events",
    "q3g": "grp, COUNT(DISTINCT user_id) AS units FROM events GROUP BY grp",
    "q4": ", ".join(f"QUANTILE(LEAST(amount, 100), {alpha}) AS q{round(alpha * 100)}" for alpha in QUARTILES)
    + " FROM events",
    "q5": "region, COUNT(*) AS n FROM events JOIN users USING (user_id) GROUP BY region",
}


def sql_of(statement: str, bound: Bound) -> str:
    """The text that an operator would write."""
    learned = "bounds = auto" if statement == "q4" else "bounds = auto, clip_correction = true"
    clip = learned if bound is LEARNED else f"bounds = catalogue, max_rows_contributed = {bound.rows}"
    options = f"epsilon = {EPSILON:g}, delta = {DELTA:g}, noise = auto"
    if STATEMENTS[statement].bounded == "rows":
        options += f", {clip}"
    return f"SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS ({options}) {SQL[statement]}"


@dataclass(frozen=True)
class Built:
    """A plan and its extract, and the seconds that each took."""

    query: PlannedQuery
    made: Extracts
    planning: float
    building: float


class Ours:
    """One deployment with both tables imported, and a grant for all of their columns."""

    name = OURS

    def __init__(self, given: Given) -> None:
        """Import both tables; nothing is planned or built yet."""
        self._stack = ExitStack()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="yunei-bench-")))
        folder.chmod(0o755)
        self._office: Office = self._stack.enter_context(open_office(folder))
        for spec in specs():
            self._office.import_csv(spec, given.folder / f"{spec.dataset_id}.csv")
        self._grant = grant()
        self._built: dict[tuple[str, Bound], Built | str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Lets go of the extracts and ends the deployment."""
        self._stack.close()

    def ask(self, statement: str, bound: Bound) -> Run | NoRun:
        """One answer; planned and built at the first asking."""
        built = self._ready(statement, bound)
        if isinstance(built, str):
            return NoRun(built)
        began = time.perf_counter()
        try:
            table = self._table(built)
        except (Failed, Refused) as error:
            return NoRun(repr(error))
        return Run(time.perf_counter() - began, answer_from(statement, table), 0.0)

    def peak_mib(self, statement: str, bound: Bound) -> float:
        """The most memory that one worker held while answering over a built extract; NaN without an answer."""
        self._ready(statement, bound)
        with Watch(self._office.enclave.zygote.pid) as watch:
            came = self.ask(statement, bound)
        return watch.peak_mib if isinstance(came, Run) else math.nan

    def partitions(self, statement: str, bound: Bound) -> int:
        """In how many partitions its extract is built; 0 when it is not."""
        built = self._ready(statement, bound)
        return 0 if isinstance(built, str) else built.query.partitions

    @property
    def extract_mib(self) -> int:
        """The largest extract, or partition of one, that is held in memory."""
        return self._office.enclave.limits.extract_profile.file_mb

    def costs(self) -> list[str]:
        """What planning and building took, one line per statement and bound."""
        return [
            f"{statement} {'learned' if bound is LEARNED else bound.rows}: planned in {built.planning * 1000:.0f} ms, "
            f"extract built in {built.building:.2f} s"
            for (statement, bound), built in self._built.items()
            if isinstance(built, Built)
        ]

    def _ready(self, statement: str, bound: Bound) -> Built | str:
        known = self._built.get((statement, bound))
        if known is None:
            try:
                known = self._build(statement, bound)
            except (Failed, Refused) as error:
                known = repr(error)
            self._built[statement, bound] = known
        return known

    def _build(self, statement: str, bound: Bound) -> Built:
        enclave = self._office.enclave
        began = time.perf_counter()
        job = QueryJob(sql=sql_of(statement, bound), budget=Budget(epsilon=f"{EPSILON:g}", delta=f"{DELTA:g}"))
        prepared = prepare_query(enclave, self._grant, job)
        assert isinstance(prepared, PreparedQuery)
        query = prepared.query
        planned = time.perf_counter()
        made = self._stack.enter_context(query_extracts(enclave, query))
        if query.partitions == 1:  # more of them are built anew at every asking, and that is then timed
            next(made.each())
        return Built(query, made, planned - began, time.perf_counter() - planned)

    def _table(self, built: Built) -> DPTable:
        """What `answer_query` does once its extract is there."""
        enclave, query = self._office.enclave, built.query
        groups, clip = measured_groups(enclave, query, query.shares, built.made)
        return finished_table(enclave, query, query.shares, groups, clip)


def answer_from(statement: str, table: DPTable) -> Answer:
    """The released table as an answer."""
    if statement == "q4":
        return answer_of(statement, zip(map(str, QUARTILES), table.rows[0], strict=True))
    return answer_of(statement, [row if table.keys else (TOTAL, *row) for row in table.rows])


def specs() -> tuple[DatasetSpec, DatasetSpec]:
    """Both tables as the bureau would declare them."""
    group = Column(name="grp", title="grp", type=ColumnType.TEXT, domain=GROUPS)
    amount = Column(name="amount", title="amount", type=ColumnType.DECIMAL, scale=2, bounds=(0, 500_000))
    day = Column(name="d", title="d", type=ColumnType.INTEGER, bounds=(0, 364))
    region = Column(name="region", title="region", type=ColumnType.TEXT, domain=REGIONS)
    age = Column(name="age", title="age", type=ColumnType.INTEGER, bounds=(0, 120))
    return _spec("events", (KEY, group, amount, day), ROWS_PER_ENTITY), _spec("users", (KEY, region, age), 1)


def _spec(name: str, columns: tuple[Column, ...], rows: int) -> DatasetSpec:
    return DatasetSpec(
        dataset_id=name,
        columns=columns,
        entity_set=ENTITY,
        entity_column=KEY.name,
        key_kind=KeyKind.OPAQUE,
        population_cap=POPULATION,
        unique=rows == 1,
        rows_per_entity=rows,
    )


def grant() -> Grant:
    """A grant for queries over all columns but the key, for a day around now."""
    now = datetime.now(UTC)
    scopes = (
        Scope(dataset_id=spec.dataset_id, columns=tuple(c.name for c in spec.columns if c is not KEY))
        for spec in specs()
    )
    return Grant(
        grant_id="bench",
        operator_id="bench",
        operator_code="-",
        scenario_id="bench",
        purpose=Purpose.PUBLIC_INTEREST,
        modes=(Mode.QUERY,),
        scopes=tuple(scopes),
        not_before=now - timedelta(days=1),
        deadline=now + timedelta(days=1),
        budgets=(PrivacyLoss(entity_set=ENTITY, pico_rho=8 * RHO_UNIT),),
        max_uses=100_000,
    )
