"""What becomes which plan: read once in full, and by what DuckDB makes of the text and of the plan."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Refused
from enclave_runner.plan.nodes import (
    Aggregate,
    AggregateKind,
    Call,
    Constant,
    Function,
    Join,
    Key,
    Literal,
    Name,
    Noise,
    Options,
    Order,
    Output,
    SelectPlan,
    Slot,
    Source,
)
from enclave_runner.plan.parse import parse_features, parse_select
from tests.support.plan_printer import sql_of, without_positions
from tests.support.sql_meanings import DATA, MEANINGS


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(DATA)
        yield connection


@pytest.mark.parametrize("sql", MEANINGS.values(), ids=MEANINGS)
def test_the_plan_means_what_duckdb_understands(sql: str, database: duckdb.DuckDBPyConnection) -> None:
    plan = parse_select(sql)
    wanted, found = database.execute(sql).fetchall(), database.execute(sql_of(plan)).fetchall()
    if not plan.order:
        wanted, found = sorted(wanted, key=repr), sorted(found, key=repr)
    assert found == [tuple(pytest.approx(item) if isinstance(item, float) else item for item in row) for row in wanted]


@pytest.mark.parametrize("sql", MEANINGS.values(), ids=MEANINGS)
def test_a_printed_plan_parses_to_itself(sql: str) -> None:
    plan = parse_select(sql)
    again = parse_select(sql_of(plan))
    assert without_positions(again) == without_positions(plan)


@pytest.mark.parametrize("sql", MEANINGS.values(), ids=MEANINGS)
def test_a_plan_goes_over_the_wire_and_back(sql: str) -> None:
    plan = parse_select(sql)
    assert decode(encode(plan), SelectPlan) == plan


def test_a_plan_in_full() -> None:
    sql = (
        "SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS (epsilon = 0.5, noise = 'laplace')\n"
        "  u.region AS r, SUM(x) FILTER (WHERE x > 0) / COUNT(*) AS m FROM users AS u JOIN events e USING (id)\n"
        "WHERE d >= DATE '2026-01-31' GROUP BY u.region HAVING COUNT(*) > 9 ORDER BY m DESC LIMIT 5"
    )

    def at(part: str) -> int:
        return sql.index(part) + 1

    region = Name(column="region", table="u", position=at("u.region HAVING"))
    total = Aggregate(
        kind=AggregateKind.SUM,
        argument=Name(column="x", table=None, position=at("x) FILTER")),
        fraction=None,
        condition=Call(
            function=Function.GT,
            arguments=(
                Name(column="x", table=None, position=at("x > 0")),
                Constant(kind=Literal.NUMBER, text="0", position=at("0) /")),
            ),
            position=at("x > 0"),
        ),
        position=at("SUM(x)"),
    )
    rows = Aggregate(kind=AggregateKind.COUNT, argument=None, fraction=None, condition=None, position=at("COUNT(*) AS"))
    key, first, second = Slot(is_key=True, index=0), Slot(is_key=False, index=0), Slot(is_key=False, index=1)
    mean = Call(function=Function.DIVIDE, arguments=(first, second), position=at("SUM(x)"))
    assert parse_select(sql) == SelectPlan(
        sources=(
            Source(dataset_id="users", alias="u", position=at("users")),
            Source(dataset_id="events", alias="e", position=at("events")),
        ),
        joins=(
            Join(
                source=1,
                pairs=(
                    (
                        Name(column="id", table="u", position=at("id)")),
                        Name(column="id", table="e", position=at("id)")),
                    ),
                ),
                position=at("JOIN"),
            ),
        ),
        condition=Call(
            function=Function.GE,
            arguments=(
                Name(column="d", table=None, position=at("d >=")),
                Constant(kind=Literal.DATE, text="2026-01-31", position=at("DATE '")),
            ),
            position=at("d >="),
        ),
        keys=(Key(expression=region, name="r", position=region.position),),
        grouping_sets=((0,),),
        aggregates=(total, rows),
        outputs=(Output(name="r", expression=key), Output(name="m", expression=mean)),
        having=Call(
            function=Function.GT,
            arguments=(second, Constant(kind=Literal.NUMBER, text="9", position=at("9 ORDER"))),
            position=at("COUNT(*) > 9"),
        ),
        order=(Order(expression=mean, descending=True),),
        limit=5,
        options=Options(epsilon="0.5", noise=Noise.LAPLACE),
    )


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT COUNT(*), COUNT(x), COUNT(DISTINCT x) FROM t", ["count", "count_x", "count_distinct_x"]),
        ("SELECT SUM(x), AVG(x), VARIANCE(x), STDDEV(x) FROM t", ["sum_x", "avg_x", "variance_x", "stddev_x"]),
        ("SELECT MEDIAN(x), QUANTILE(x, .9), MIN(x), MAX(x) FROM t", ["median_x", "quantile_x", "min_x", "max_x"]),
        ("SELECT SUM(x + 1), COUNT(*) + 1, a, FLOOR(a) FROM t GROUP BY ALL", ["sum", "column_2", "a", "column_4"]),
        ("SELECT T.A, COUNT(*) AS 人数 FROM t GROUP BY A", ["A", "人数"]),
    ],
)
def test_outputs_are_named(sql: str, names: list[str]) -> None:
    assert [item.name for item in parse_select(sql).outputs] == names


def test_keys_are_named_by_what_shows_them_and_never_alike() -> None:
    plan = parse_select("SELECT a AS k, COUNT(*) FROM t GROUP BY a, b, a + b")
    assert [key.name for key in plan.keys] == ["k", "b", "key_3"]
    plan = parse_select("SELECT a AS b, COUNT(*) FROM t GROUP BY a, t.b")
    assert [key.name for key in plan.keys] == ["b", "b_2"]


def test_an_aggregate_that_is_written_twice_is_one() -> None:
    plan = parse_select("SELECT AVG(x), SUM(x) AS s FROM t HAVING SUM( t.x ) > AVG(x) ORDER BY sum(x), QUANTILE(x, .5)")
    assert [item.kind.value for item in plan.aggregates] == ["avg", "sum", "quantile"]
    assert parse_select("SELECT MEDIAN(x), QUANTILE(x, .5) AS q FROM t").aggregates[0].fraction == "0.5"
    assert len(parse_select("SELECT MEDIAN(x), QUANTILE(x, .500) AS q FROM t").aggregates) == 1


@pytest.mark.parametrize(
    ("written", "fraction"),
    [
        ("MIN(x)", "0"), ("MAX(x)", "1"), ("MEDIAN(x)", "0.5"), ("QUANTILE(x, 0)", "0"), ("QUANTILE(x, 1.0)", "1"),
        ("APPROX_QUANTILE(x, .25)", "0.25"), ("QUANTILE_DISC(x, 1e-3)", "0.001"), ("QUANTILE_CONT(x, 0.10)", "0.1"),
        ("PERCENTILE_DISC(0.9) WITHIN GROUP (ORDER BY x)", "0.9"),
        ("PERCENTILE_CONT(0.9) WITHIN GROUP (ORDER BY x DESC)", "0.1"),
    ],
)  # fmt: skip
def test_quantiles_have_one_form(written: str, fraction: str) -> None:
    (aggregate,) = parse_select(f"SELECT {written} AS q FROM t").aggregates
    assert (aggregate.kind, aggregate.fraction) == (AggregateKind.QUANTILE, fraction)
    assert isinstance(aggregate.argument, Name)


def test_positions_point_at_what_is_meant() -> None:
    sql = "SELECT sex,\n  SUM(income + 1)\nFROM people\nWHERE NOT age >= 18 GROUP BY sex"
    plan = parse_select(sql)
    assert plan.condition is not None
    assert isinstance(plan.condition, Call)
    assert isinstance(plan.aggregates[0].argument, Call)
    for position, text in (
        (plan.keys[0].position, "sex"), (plan.aggregates[0].position, "SUM"), (plan.condition.position, "NOT"),
        (plan.aggregates[0].argument.position, "income"), (plan.sources[0].position, "people"),
    ):  # fmt: skip
        assert sql[position - 1 :].startswith(text)


def test_features_are_plain_columns() -> None:
    plan = parse_features("SELECT a, b FROM t WHERE c = 1 OR ABS(d) > 2")
    assert [(item.column, item.table) for item in plan.columns] == [("a", None), ("b", None)]
    assert isinstance(plan.condition, Call)
    assert plan.condition.function is Function.OR
    assert parse_features("SELECT a FROM t").condition is None


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("SELECT * FROM t", "sql.feature"), ("SELECT a, a FROM t", "sql.output-name"),
        ("SELECT a + 1 FROM t", "sql.feature"), ("SELECT COUNT(*) FROM t", "sql.feature"),
        ("SELECT 1 FROM t", "sql.feature"), ("SELECT a AS b FROM t", "sql.feature"),
        ("SELECT t.a FROM t", "sql.feature"), ("SELECT a FROM t WHERE t.a = 1", "sql.feature"),
        ("SELECT a FROM t GROUP BY a", "sql.clause"), ("SELECT a FROM t LIMIT 5", "sql.clause"),
        ("SELECT a FROM t ORDER BY a", "sql.clause"), ("SELECT a FROM t JOIN u USING (a)", "sql.clause"),
        ("WITH t AS (SELECT 1) SELECT a FROM t", "sql.clause"), ("SELECT a FROM (SELECT a FROM t)", "sql.source"),
        ("SELECT a", "sql.source"), ("SELECT a FROM t v", "sql.unsupported"), ("SELECT a FROM m.t", "sql.unsupported"),
        ("SELECT a FROM t WHERE SUM(a) > 1", "sql.aggregate-place"),
        ("SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS (epsilon = 1) a FROM t", "sql.clause"),
    ],
)  # fmt: skip
def test_features_are_nothing_else(sql: str, rule: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_features(sql)
    assert caught.value.rule == rule
