"""A real enclave with a few thousand visits of known totals, and queries run through all of it but the ticket."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from enclave_runner.contract.dataset import ColumnType, DatasetSpec
from enclave_runner.contract.grant import Grant, Scope
from enclave_runner.contract.job import QueryJob
from enclave_runner.contract.privacy import RHO_UNIT, Budget, PrivacyLoss
from enclave_runner.contract.receipt import DPTable
from enclave_runner.supervisor.execute import Executed, execute
from enclave_runner.supervisor.prepare import PreparedQuery, prepare
from tests.support.bound_plans import DIVISIONS, HOMES, VISITS
from tests.support.enclave_home import Site, changed, column, make_bureau, make_grant, running_site

KINDS = ("a", "b", "c")
PEOPLE = 1500
TRIPS = changed(
    VISITS,
    columns=(
        column("who", ColumnType.TEXT, grade=3),
        column("kind", ColumnType.TEXT, domain=KINDS),
        column("amount", ColumnType.DECIMAL, scale=2, bounds=(0, 10_000), nullable=True),
        column("day", ColumnType.DATE, bounds=(18_993, 19_357)),
        column("shop", ColumnType.TEXT),
        column("division", ColumnType.TEXT),
    ),
    rows_per_entity=64,
)
OWNERS = changed(
    HOMES,
    columns=(
        column("who", ColumnType.TEXT, grade=3),
        column("region", ColumnType.TEXT, domain=("N", "S")),
        column("age", ColumnType.INTEGER, bounds=(0, 120)),
    ),
)
Trip = tuple[str, str, float | None, date, str, str]


def make_trips() -> tuple[list[Trip], list[tuple[str, str, int]]]:
    """Visits, a few to each person and many to some, and one home for each person."""
    source = random.Random(5)
    trips: list[Trip] = []
    homes = []
    for number in range(PEOPLE):
        who = f"p{number}"
        homes.append((who, "NS"[number % 2], 18 + number % 70))
        for _ in range(1 + number % 5 + (30 if number % 300 == 0 else 0)):
            amount = None if source.random() < 0.05 else round(min(100.0, source.lognormvariate(3, 0.6)), 2)
            day = date(2022, 1, 1) + timedelta(days=source.randrange(365))
            shop = f"shop{int(6 * source.random() ** 2)}" if number else "only-mine"
            trips.append((who, source.choice(KINDS), amount, day, shop, f"d{source.randrange(4)}"))
    return trips, homes


TRIP_ROWS, HOME_ROWS = make_trips()
DIVISION_CITY = {"d0": "X", "d1": "X", "d2": "Y", "d3": "Y"}
REGION = {who: region for who, region, _ in HOME_ROWS}
ROWS_OF = Counter(row[0] for row in TRIP_ROWS)


def csv_of(spec: DatasetSpec, rows: list[tuple[object, ...]]) -> str:
    """The rows as a file for import."""
    lines = [",".join("" if cell is None else str(cell) for cell in row) for row in rows]
    return "\n".join([",".join(item.name for item in spec.columns), *lines]) + "\n"


@dataclass(frozen=True)
class QuerySite:
    """The running enclave and the grant of everything in it."""

    site: Site
    grant: Grant

    def prepare(self, sql: str, epsilon: str = "4", delta: str = "1e-6") -> PreparedQuery:
        """What would run."""
        job = QueryJob(sql=sql, budget=Budget(epsilon=epsilon, delta=delta))
        prepared = prepare(self.site.enclave, self.grant, job, None)
        assert isinstance(prepared, PreparedQuery), prepared
        return prepared

    def run(self, sql: str, epsilon: str = "4", delta: str = "1e-6") -> Executed:
        """The answer and what it has cost."""
        return execute(self.site.enclave, self.prepare(sql, epsilon, delta), None)

    def table(self, sql: str, epsilon: str = "4", delta: str = "1e-6") -> DPTable:
        """The released table."""
        release = self.run(sql, epsilon, delta).release
        assert isinstance(release, DPTable)
        return release


@contextmanager
def query_site(folder: Path) -> Iterator[QuerySite]:
    """The enclave with its three tables."""
    large = '"100000"'
    bureau = make_bureau(folder, max_cells="10000", max_job_epsilon='"20"', lifetime_rho_default=large, resident=large)
    with running_site(bureau) as site:
        for spec, rows in ((TRIPS, TRIP_ROWS), (OWNERS, HOME_ROWS), (DIVISIONS, [*DIVISION_CITY.items()])):
            report = site.import_csv(spec, csv_of(spec, rows))  # type: ignore[arg-type]
            assert (report.accepted, report.rejected) == (len(rows), 0)
        scopes = tuple(
            Scope(dataset_id=spec.dataset_id, columns=tuple(item.name for item in spec.columns if item.grade < 3))
            for spec in (TRIPS, OWNERS, DIVISIONS)
        )
        budgets = (PrivacyLoss(entity_set="resident", pico_rho=10_000 * RHO_UNIT, atto_delta=10**17),)
        yield QuerySite(site, make_grant(scopes=scopes, budgets=budgets, max_uses=10**6))
