"""Binding: what is not granted, declared or bounded is refused; what is bound carries its proof in integers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_runner.contract.dataset import MAX_MAGNITUDE, Column, ColumnType, DatasetSpec, KeyKind
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import Scope
from enclave_runner.plan.bind import (
    CELL_BITS,
    SENSITIVITY_BITS,
    WEIGHT_SCALE,
    BoundFeatures,
    BoundTable,
    bind_features,
    bind_table,
    typed_constant,
)
from enclave_runner.plan.parse import parse_features, parse_table
from tests.support.enclave_home import changed, column

COLUMNS = (
    column("who", ColumnType.TEXT, grade=3),
    column("kind", ColumnType.TEXT, domain=("a", "b")),
    column("flag", ColumnType.BOOLEAN),
    column("amount", ColumnType.INTEGER, bounds=(-7, 5)),
    column("money", ColumnType.DECIMAL, scale=2, bounds=(0, 1000)),
    column("free", ColumnType.INTEGER),
    column("day", ColumnType.DATE),
    column("name", ColumnType.TEXT),
    column("core", ColumnType.INTEGER, grade=4, bounds=(0, 1)),
    column("listed", ColumnType.INTEGER, withheld="第二十四条", bounds=(0, 1)),
    column("ungranted", ColumnType.INTEGER, bounds=(0, 1), domain=("0", "1")),
)
EVENTS = DatasetSpec(
    dataset_id="events",
    columns=COLUMNS,
    entity_set="resident",
    entity_column="who",
    key_kind=KeyKind.OPAQUE,
    population_cap=1000,
    rows_per_entity=3,
)
GRANTED = Scope(dataset_id="events", columns=tuple(item.name for item in COLUMNS if item.name != "ungranted"))


def table(sql: str, spec: DatasetSpec = EVENTS, max_cells: int = 100) -> BoundTable:
    return bind_table(parse_table(sql), spec, GRANTED, max_cells)


def features(sql: str, spec: DatasetSpec = EVENTS) -> BoundFeatures:
    return bind_features(parse_features(sql), spec, GRANTED)


@pytest.mark.parametrize(
    ("sql", "rule", "facts"),
    [
        ("SELECT SUM(nothing) FROM events", "sql.column", {"column": "nothing", "position": "12"}),
        ("SELECT SUM(ungranted) FROM events", "grant.column", {"column": "ungranted"}),
        ("SELECT ungranted, COUNT(*) FROM events GROUP BY ungranted", "grant.column", {"column": "ungranted"}),
        ("SELECT COUNT(*) FROM events WHERE ungranted = 1", "grant.column", {"column": "ungranted"}),
        ("SELECT COUNT(ungranted) FROM events", "grant.column", {"column": "ungranted"}),
        ("SELECT SUM(listed) FROM events", "dataset.withheld", {"column": "listed", "basis": "第二十四条"}),
        (
            "SELECT COUNT(*) FROM events WHERE listed = 1",
            "dataset.withheld",
            {"column": "listed", "basis": "第二十四条"},
        ),
        ("SELECT SUM(core) FROM events", "dataset.core-grade", {"column": "core"}),
        ("SELECT COUNT(*) FROM events WHERE core > 0", "dataset.core-grade", {"column": "core"}),
        ("SELECT SUM(free) FROM events", "dataset.bound-missing", {"column": "free"}),
        ("SELECT SUM(name) FROM events", "dataset.bound-missing", {"column": "name"}),
        ("SELECT SUM(flag) FROM events", "dataset.bound-missing", {"column": "flag"}),
        ("SELECT name, COUNT(*) FROM events GROUP BY name", "dataset.domain-missing", {"column": "name"}),
        ("SELECT amount, COUNT(*) FROM events GROUP BY amount", "dataset.domain-missing", {"column": "amount"}),
        (
            "SELECT COUNT(*) FROM events WHERE name > 'a'",
            "sql.unsupported",
            {"what": "ordering name", "position": "35"},
        ),
        (
            "SELECT COUNT(*) FROM events WHERE flag >= true",
            "sql.unsupported",
            {"what": "ordering flag", "position": "35"},
        ),
        ("SELECT COUNT(*) FROM events WHERE amount = 'x'", "sql.constant", {"column": "amount", "position": "35"}),
        ("SELECT COUNT(*) FROM events WHERE amount = 1.5", "sql.constant", {"column": "amount", "position": "35"}),
        ("SELECT COUNT(*) FROM events WHERE money = 1.005", "sql.constant", {"column": "money", "position": "35"}),
        ("SELECT COUNT(*) FROM events WHERE day = '2023-02-30'", "sql.constant", {"column": "day", "position": "35"}),
        ("SELECT COUNT(*) FROM events WHERE flag = 1", "sql.constant", {"column": "flag", "position": "35"}),
        (
            "SELECT COUNT(*) FROM events WHERE amount IN (1, 'x')",
            "sql.constant",
            {"column": "amount", "position": "35"},
        ),
    ],
)
def test_what_is_refused(sql: str, rule: str, facts: dict[str, str]) -> None:
    with pytest.raises(Refused) as caught:
        table(sql)
    assert (caught.value.rule, caught.value.facts) == (rule, facts)


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("SELECT nothing FROM events", "sql.column"),
        ("SELECT ungranted FROM events", "grant.column"),
        ("SELECT listed FROM events", "dataset.withheld"),
        ("SELECT core FROM events", "dataset.core-grade"),
        ("SELECT amount FROM events WHERE core = 1", "dataset.core-grade"),
        ("SELECT amount FROM events WHERE amount = 'x'", "sql.constant"),
    ],
)
def test_features_are_held_to_the_same_rules(sql: str, rule: str) -> None:
    with pytest.raises(Refused) as caught:
        features(sql)
    assert caught.value.rule == rule


def test_without_a_bound_on_rows_per_entity_nothing_is_counted() -> None:
    spec = changed(EVENTS, rows_per_entity=None)
    for bind, sql in ((table, "SELECT COUNT(*) FROM events"), (features, "SELECT amount FROM events")):
        with pytest.raises(Refused) as caught:
            bind(sql, spec)  # type: ignore[operator]
        assert (caught.value.rule, caught.value.facts) == ("dataset.unit-bound-missing", {"dataset": "events"})


def test_the_number_of_cells_is_the_product_of_the_domains_and_capped() -> None:
    sql = "SELECT kind, flag, COUNT(*) FROM events GROUP BY kind, flag"
    assert table(sql, max_cells=4).cells == 4
    assert table("SELECT COUNT(*) FROM events", max_cells=1).cells == 1
    with pytest.raises(Refused) as caught:
        table(sql, max_cells=3)
    assert (caught.value.rule, caught.value.facts) == ("sql.cells", {"max": "3"})


def test_sensitivities_are_bound_times_scale_times_magnitude() -> None:
    plan = table("SELECT COUNT(*), COUNT(name), SUM(amount), SUM(money) FROM events")
    assert [item.sensitivity for item in plan.aggregates] == [3 * WEIGHT_SCALE * m for m in (1, 1, 7, 1000)]
    assert [item.scale for item in plan.aggregates] == [0, 0, 0, 2]
    assert {item.coarsening for item in plan.aggregates} == {1}
    assert features("SELECT amount FROM events").sensitivity == 3 * WEIGHT_SCALE


def test_a_unique_entity_needs_no_weights() -> None:
    plan = table("SELECT COUNT(*), SUM(amount) FROM events", changed(EVENTS, unique=True, rows_per_entity=1))
    assert ([item.sensitivity for item in plan.aggregates], plan.weight_scale) == ([1, 7], 1)


def test_only_the_columns_that_are_used_are_extracted() -> None:
    plan = table("SELECT kind, SUM(amount) FROM events WHERE day > '2020-01-01' AND amount > 0 GROUP BY kind")
    assert plan.columns == ("kind", "amount", "day")
    assert features("SELECT amount, money FROM events WHERE flag = true").columns == ("amount", "money", "flag")
    assert table("SELECT COUNT(*) FROM events").columns == ()


@given(
    st.integers(1, 2 * 10**9),
    st.integers(1, 10**6),
    st.integers(-MAX_MAGNITUDE, MAX_MAGNITUDE),
    st.integers(0, MAX_MAGNITUDE),
)
def test_cells_and_noise_stay_inside_64_bits_whatever_is_declared(cap: int, rows: int, low: int, width: int) -> None:
    high = min(low + width, MAX_MAGNITUDE)
    columns = (column("who", ColumnType.TEXT), column("amount", ColumnType.INTEGER, bounds=(low, high)))
    spec = changed(EVENTS, columns=columns, population_cap=cap, rows_per_entity=rows)
    scope = Scope(dataset_id="events", columns=("amount",))
    (item,) = bind_table(parse_table("SELECT SUM(amount) FROM events"), spec, scope, 1).aggregates
    exact = rows * WEIGHT_SCALE * max(abs(low), abs(high), 1)
    assert cap * exact // item.coarsening < 1 << CELL_BITS
    assert item.sensitivity <= (1 << SENSITIVITY_BITS) + 2
    assert item.sensitivity * item.coarsening >= exact
    assert item.coarsening & (item.coarsening - 1) == 0


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("5", "amount", 5), ("-5", "amount", -5), ("+5", "amount", 5), ("007", "amount", 7),
        ("1.5", "money", 150), ("-1.05", "money", -105), ("2", "money", 200),
        ("2020-02-29", "day", "2020-02-29"), ("true", "flag", "true"), ("it's", "name", "it's"), ("", "name", ""),
    ],
)  # fmt: skip
def test_a_constant_in_the_representation_of_its_column(text: str, name: str, value: int | str) -> None:
    assert typed_constant(text, _column(name)) == value


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "amount"), ("1e5", "amount"), ("NaN", "amount"), ("inf", "amount"), ("0x1", "amount"), ("1_0", "amount"),
        ("１", "amount"), ("٣", "amount"), (" 1", "amount"), ("1\n", "amount"), ("9" * 16, "amount"), ("1.0", "amount"),
        ("1.", "money"), (".5", "money"), ("1.123", "money"), ("yes", "flag"), ("TRUE", "flag"), ("today", "day"),
        ("2020-13-01", "day"), ("x" * 1001, "name"), ("a\0b", "name"),
    ],
)  # fmt: skip
def test_what_is_no_constant_of_its_column(text: str, name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        typed_constant(text, _column(name))


def test_a_constant_that_its_scale_lifts_out_of_64_bits_is_none() -> None:
    fine = column("fine", ColumnType.DECIMAL, scale=6)
    assert typed_constant("999999999999.999999", fine) == 999_999_999_999_999_999
    with pytest.raises(ValueError, match="64"):
        typed_constant("999999999999999", fine)


def _column(name: str) -> Column:
    found = EVENTS.column(name)
    assert found is not None
    return found
