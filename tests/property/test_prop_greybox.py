"""Grey-box sensitivity: on small hostile databases, one person less moves each exact vector by at most what was proven.

The vectors come from the worker's own functions, in exact integers; a second opinion in plain Python must agree; and
planted faults must be caught by the very same check.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from enclave_runner.contract.dataset import ColumnType, DatasetSpec, KeyKind
from enclave_runner.kinds import extract
from enclave_runner.plan import render
from enclave_runner.plan.bind import WEIGHT_SCALE, BoundTable
from tests.support.enclave_home import changed, column
from tests.support.plan_interpreter import Case, Row, bound, cases, interpret
from tests.support.worker_files import exact_vectors

SLOW = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def squared_moves(plan: BoundTable, spec: DatasetSpec, rows: tuple[Row, ...], entity: object) -> list[int]:
    """For each aggregate, the squared L2 distance that removing one entity makes."""
    rest = tuple(row for row in rows if row[0] != entity)
    with_all, without = exact_vectors(plan, spec, rows), exact_vectors(plan, spec, rest)
    return [sum((a - b) ** 2 for a, b in zip(*pair, strict=True)) for pair in zip(with_all, without, strict=True)]


def holds(plan: BoundTable, spec: DatasetSpec, rows: tuple[Row, ...], entity: object) -> bool:
    moves = squared_moves(plan, spec, rows, entity)
    return all(move <= item.sensitivity**2 for move, item in zip(moves, plan.aggregates, strict=True))


@given(cases())
@SLOW
def test_one_entity_moves_no_vector_beyond_its_sensitivity(case: Case) -> None:
    for entity in sorted({str(row[0]) for row in case.rows}):
        assert holds(case.plan, case.spec, case.rows, entity), (case.sql, case.plan)


@given(cases())
@SLOW
def test_the_rendered_sql_means_what_the_plan_means(case: Case) -> None:
    assert exact_vectors(case.plan, case.spec, case.rows) == interpret(case.plan, case.spec, case.rows)


def proof_holds_in_plain_integers(case: Case) -> None:
    """The interpreter alone, no DuckDB: cheap enough to remove everybody in turn."""
    whole = interpret(case.plan, case.spec, case.rows)
    for entity in {row[0] for row in case.rows}:
        rest = interpret(case.plan, case.spec, tuple(row for row in case.rows if row[0] != entity))
        for item, first, second in zip(case.plan.aggregates, whole, rest, strict=True):
            assert sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) <= item.sensitivity**2


@given(cases())
@SLOW
def test_the_proof_holds_in_plain_integers(case: Case) -> None:
    proof_holds_in_plain_integers(case)


@pytest.mark.slow
@given(cases())
@settings(SLOW, max_examples=3000)
def test_the_proof_holds_in_plain_integers_over_thousands_of_databases(case: Case) -> None:
    proof_holds_in_plain_integers(case)


def events(bounds: tuple[int, int] = (-10, 4), rows_per_entity: int = 3, unique: bool = False) -> DatasetSpec:
    return DatasetSpec(
        dataset_id="events",
        columns=(column("who", ColumnType.TEXT), column("amount", ColumnType.INTEGER, bounds=bounds, nullable=True)),
        entity_set="resident",
        entity_column="who",
        key_kind=KeyKind.OPAQUE,
        population_cap=1000,
        unique=unique,
        rows_per_entity=rows_per_entity,
    )


def worst(count: int, amount: int = -10) -> tuple[Row, ...]:
    return (*(("e0", amount) for _ in range(count)), ("e1", 1), ("e1", 2))


@pytest.mark.parametrize("sql", ["SELECT COUNT(*) FROM events", "SELECT SUM(amount) FROM events"])
@pytest.mark.parametrize(("bound_k", "count"), [(1, 1), (3, 3), (4, 8), (5000, 5000)])
def test_the_bound_is_tight(sql: str, bound_k: int, count: int) -> None:
    spec = events(rows_per_entity=bound_k)
    plan = bound(sql, spec)
    assert squared_moves(plan, spec, worst(count), "e0") == [plan.aggregates[0].sensitivity ** 2]


def test_a_unique_entity_moves_a_count_by_one() -> None:
    spec = events(rows_per_entity=1, unique=True)
    plan = bound("SELECT COUNT(*) FROM events", spec)
    assert (plan.aggregates[0].sensitivity, squared_moves(plan, spec, (("e0", 1), ("e1", 2)), "e0")) == (1, [1])


def test_a_coarsened_vector_keeps_its_bound_at_every_rounding_edge() -> None:
    spec = changed(events((-(10**15), 10**15), rows_per_entity=10**6), population_cap=2 * 10**9)
    plan = bound("SELECT SUM(amount) FROM events", spec)
    assert plan.aggregates[0].coarsening > 1
    for rest in (-1, 0, 1, plan.aggregates[0].coarsening - 1):
        rows: tuple[Row, ...] = (("e0", 10**15), ("e0", -1), ("e1", rest))
        assert holds(plan, spec, rows, "e0")


# Faults planted into the code that runs; the same check must catch each with an honest declared bound.


def test_a_weight_that_rounds_up_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def rounds_up(spec: DatasetSpec, scale: int) -> str:
        rows = f'count(*) OVER (PARTITION BY "{spec.entity_column}")'
        return f"CAST(ceil({scale} * least(1.0, {spec.rows_per_entity} / {rows})) AS BIGINT)"

    monkeypatch.setattr(extract, "_weight", rounds_up)
    spec = events(rows_per_entity=3)
    assert not holds(bound("SELECT COUNT(*) FROM events", spec), spec, worst(7), "e0")


def test_one_row_too_many_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = extract._weight
    monkeypatch.setattr(
        extract, "_weight", lambda spec, scale: honest(changed(spec, rows_per_entity=spec.rows_per_entity + 1), scale)
    )
    spec = events(rows_per_entity=3)
    assert not holds(bound("SELECT COUNT(*) FROM events", spec), spec, worst(7), "e0")


def test_a_forgotten_weight_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "_weight", lambda spec, scale: str(scale))
    spec = events(rows_per_entity=3)
    assert not holds(bound("SELECT COUNT(*) FROM events", spec), spec, worst(7), "e0")


def test_a_weight_over_all_rows_together_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other people's weights would depend on one person's rows."""
    monkeypatch.setattr(extract, "_weight", lambda spec, scale: f"{scale} * 3 // count(*) OVER ()")
    spec = events(rows_per_entity=1)
    rows: tuple[Row, ...] = (("e0", 1), *((f"x{n}", 1) for n in range(5)))
    plan = bound("SELECT COUNT(*), SUM(amount) FROM events WHERE amount <= 1", spec)
    rest = (*rows, *(("e0", 4) for _ in range(30)))
    assert not holds(plan, spec, rest, "e0")


def test_a_forgotten_clip_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        render, "_sum", lambda item: f'sum(CAST("{item.column}" AS HUGEINT) * CAST("_weight" AS HUGEINT))'
    )
    spec = events(rows_per_entity=3)
    assert not holds(bound("SELECT SUM(amount) FROM events", spec), spec, worst(3, amount=-11), "e0")


def test_a_clip_of_one_side_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        render,
        "_sum",
        lambda item: f'sum(CAST(least("{item.column}", {item.high}) AS HUGEINT) * CAST("_weight" AS HUGEINT))',
    )
    spec = events(rows_per_entity=3)
    assert not holds(bound("SELECT SUM(amount) FROM events", spec), spec, worst(3, amount=-1000), "e0")


def test_a_bound_that_forgets_negative_values_is_caught() -> None:
    spec = events(rows_per_entity=3)
    plan = bound("SELECT SUM(amount) FROM events", spec)
    (item,) = plan.aggregates
    forgetful = {**{name: getattr(item, name) for name in item.__struct_fields__}, "sensitivity": 3 * WEIGHT_SCALE * 4}
    wrong = {**{name: getattr(plan, name) for name in plan.__struct_fields__}, "aggregates": (type(item)(**forgetful),)}
    assert not holds(BoundTable(**wrong), spec, worst(3), "e0")
