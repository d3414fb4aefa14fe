"""A workload on a real enclave: joint answers, told apart, consistent, under one budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

import pytest

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.job import QueryJob
from enclave_runner.contract.privacy import Budget
from enclave_runner.contract.receipt import DPTable, DPTables
from enclave_runner.dp.conversion import pico_rho_of
from enclave_runner.supervisor.execute import execute
from enclave_runner.supervisor.prepare import PreparedWorkload, prepare
from tests.support.query_site import HOME_ROWS, TRIP_ROWS, QuerySite, query_site

KIND = "SELECT kind, COUNT(*) AS n FROM visits GROUP BY kind"
ALL = "SELECT COUNT(*) AS n, AVG(amount) AS mean FROM visits"
TURNED = "SELECT quarter(day) AS q, kind, COUNT(*) AS n FROM visits GROUP BY quarter(day), kind"
HOMES = "SELECT region, COUNT(*) AS n FROM homes GROUP BY region ORDER BY n DESC LIMIT 1"
BUDGET = Budget(epsilon="8", delta="1e-6")


@pytest.fixture(scope="module")
def queries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuerySite]:
    with query_site(tmp_path_factory.mktemp("site")) as site:
        yield site


def planned(queries: QuerySite, *statements: str) -> PreparedWorkload:
    job = QueryJob(sql=";\n".join(statements), budget=BUDGET)
    prepared = prepare(queries.site.enclave, queries.grant, job, None)
    assert isinstance(prepared, PreparedWorkload)
    return prepared


def answered(queries: QuerySite, *statements: str) -> tuple[DPTable, ...]:
    release = execute(queries.site.enclave, planned(queries, *statements), None).release
    assert isinstance(release, DPTables)
    return release.tables


def value(cell: str | None) -> Decimal:
    assert cell is not None
    return Decimal(cell)


def test_every_statement_gets_its_table_in_the_order_of_the_text(queries: QuerySite) -> None:
    kind, homes, whole, turned = answered(queries, KIND, HOMES, ALL, TURNED)
    assert [table.keys for table in (kind, homes, whole, turned)] == [("kind",), ("region",), (), ("q", "kind")]
    truth = Counter(row[1] for row in TRIP_ROWS)
    for (key, shown), (width,) in zip(kind.rows, kind.half_widths, strict=True):
        assert abs(value(shown) - truth[str(key)]) < 6 * value(width) + 200  # the clip takes a little
    assert len(homes.rows) == 1
    assert abs(value(homes.rows[0][1]) - len(HOME_ROWS) // 2) < 60
    assert whole.measures[1].name == "mean"
    assert [row[:2] for row in turned.rows[:4]] == [("1", "a"), ("1", "b"), ("1", "c"), ("2", "a")]


def test_joint_answers_are_consistent(queries: QuerySite) -> None:
    kind, whole, turned = answered(queries, KIND, ALL, TURNED)
    total = value(whole.rows[0][0])
    assert abs(sum(value(row[1]) for row in kind.rows) - total) < Decimal("0.05")
    for key, shown in kind.rows:
        assert abs(sum(value(row[2]) for row in turned.rows if row[1] == key) - value(shown)) < Decimal("0.05")


def test_all_together_cost_the_budget_of_the_job(queries: QuerySite) -> None:
    prepared = planned(queries, KIND, HOMES, ALL)
    (loss,) = prepared.losses
    assert loss.entity_set == "resident"
    assert pico_rho_of(BUDGET) * 0.999 < loss.pico_rho <= pico_rho_of(BUDGET)
    tables = answered(queries, KIND, HOMES, ALL)
    assert {table.loss for table in tables} == {loss}
    assert all(float(table.epsilon) <= 8 for table in tables)


def test_an_answer_key_follows_the_statements(queries: QuerySite) -> None:
    keys = {planned(queries, *statements).answer_key for statements in ((KIND, ALL), (ALL, KIND), (KIND, HOMES))}
    assert len(keys) == 3
    assert planned(queries, KIND, ALL).answer_key == planned(queries, f"  {KIND} ", f"{ALL};").answer_key


def test_groups_that_are_too_many_together_are_answered_apart(queries: QuerySite) -> None:
    day = "SELECT day, COUNT(*) AS n FROM visits GROUP BY day"
    cents = "SELECT FLOOR(amount) AS a, COUNT(*) AS n FROM visits GROUP BY a"
    assert len(planned(queries, day, cents).workload.queries) == 2
    assert len(planned(queries, day, KIND).workload.queries) == 1


def test_open_keys_have_no_place_in_a_workload(queries: QuerySite) -> None:
    with pytest.raises(Refused) as caught:
        planned(queries, KIND, "SELECT shop, COUNT(*) AS n FROM visits GROUP BY shop")
    assert caught.value.rule == "sql.workload"
