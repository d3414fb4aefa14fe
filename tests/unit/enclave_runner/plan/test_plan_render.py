"""Rendering: names and constants cannot leave their quotes, golden texts, exact types; meaning is the grey box's."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_runner.plan.bind import bind_features
from enclave_runner.plan.bound import WEIGHT_SCALE, Clipping, NormKind
from enclave_runner.plan.parse import parse_features
from enclave_runner.plan.render import (
    _weight,
    literal,
    render_candidates,
    render_features,
    render_histogram,
    render_sums,
    render_units,
    render_values,
)
from enclave_runner.plan.scalar import SAFE, number
from enclave_runner.plan.tables import quote
from tests.support.bound_plans import HOMES, SPECS, VISITS, bound, granted, vectors, visit
from tests.support.enclave_home import changed
from tests.support.rehearsed import empty_engine

ENGINE = duckdb.connect()
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
WEIGHTED = (
    "CASE WHEN t0._rows <= CAST(4 AS BIGINT) THEN CAST(1048576 AS BIGINT) ELSE CAST(4194304 AS BIGINT) // t0._rows END"
)


@given(TEXTS)
@settings(max_examples=60, deadline=None)
def test_any_text_constant_is_read_back_as_itself(text: str) -> None:
    assert ENGINE.execute(f"SELECT {literal(text)}").fetchall() == [(text,)]


@given(st.integers(-(2**63) + 1, 2**63 - 1))
@settings(max_examples=30, deadline=None)
def test_any_number_is_a_bigint_and_itself(value: int) -> None:
    assert ENGINE.execute(f"SELECT {number(value)}, typeof({number(value)})").fetchall() == [(value, "BIGINT")]


def test_a_number_beyond_is_a_hugeint() -> None:
    for value in (2**63, -(2**63), 2**100):
        assert ENGINE.execute(f"SELECT {number(value)}, typeof({number(value)})").fetchall() == [(value, "HUGEINT")]


@given(TEXTS.filter(bool))
@settings(max_examples=60, deadline=None)
def test_any_name_is_one_name(name: str) -> None:
    assert [item[0] for item in ENGINE.execute(f"SELECT 1 AS {quote(name)}").description or ()] == [name]


def test_the_text_of_a_weighted_count() -> None:
    plan = bound("SELECT kind, COUNT(*) AS n FROM visits WHERE amount >= 1.5 AND flag GROUP BY kind")
    assert render_sums(plan, 4) == (
        f'SELECT t0."kind", coalesce(sum({WEIGHTED}), CAST(0 AS BIGINT)) FROM t0 '
        'WHERE ((t0."amount" >= CAST(150 AS BIGINT)) AND t0."flag") GROUP BY t0."kind"'
    )


def test_the_text_of_sums_without_weights_over_a_join() -> None:
    plan = bound("SELECT region, COUNT(*) AS n FROM homes GROUP BY region")
    assert render_sums(plan, 1) == 'SELECT t0."region", count(*) FROM t0 GROUP BY t0."region"'
    joined = bound(
        "SELECT city, COUNT(*) AS n FROM visits JOIN divisions ON visits.division = divisions.code GROUP BY 1"
    )
    assert render_sums(joined, 4) == (
        f'SELECT t1."city", coalesce(sum({WEIGHTED}), CAST(0 AS BIGINT)) FROM t0 JOIN t1 '
        'ON t0."division" = t1."code" GROUP BY t1."city"'
    )


def test_the_text_of_distinct_units_values_and_candidates() -> None:
    plan = bound("SELECT kind, COUNT(DISTINCT who) AS u FROM visits GROUP BY kind")
    assert render_units(plan, plan.units[0]) == (
        'SELECT t0."kind", count(DISTINCT t0._unit) FROM t0 GROUP BY t0."kind"'
    )
    values = bound("SELECT COUNT(DISTINCT kind) AS k FROM visits")
    assert render_values(values, values.values[0]) == (
        "SELECT k0, count(*) FROM (SELECT k0, row_number() OVER (PARTITION BY u ORDER BY "
        "md5(concat_ws('yunei', k0)), k0)"
        ' AS r FROM (SELECT DISTINCT t0._unit AS u, t0."kind" AS k0 FROM t0 WHERE (t0."kind") IS NOT NULL) AS d) AS s '
        "WHERE r <= CAST(3 AS BIGINT) GROUP BY k0"
    )
    opened = bound("SELECT shop, COUNT(*) AS n FROM visits GROUP BY shop")
    assert render_candidates(opened) == (
        "SELECT k0, count(*) FROM (SELECT k0, row_number() OVER (PARTITION BY u ORDER BY "
        "md5(concat_ws('yunei', k0)), k0)"
        ' AS r FROM (SELECT DISTINCT t0._unit AS u, t0."shop" AS k0 FROM t0 WHERE (t0."shop") IS NOT NULL) AS d) AS s '
        "WHERE r <= CAST(4 AS BIGINT) GROUP BY k0"
    )


def test_units_of_one_row_each_are_counted_as_rows() -> None:
    spec = changed(VISITS, unique=True, rows_per_entity=1)
    plan = bound("SELECT shop, COUNT(DISTINCT who) AS u, COUNT(*) AS n FROM visits GROUP BY shop", visits=spec)
    counted = 'SELECT t0."shop", count(*) FROM t0 WHERE (t0."shop") IS NOT NULL GROUP BY t0."shop"'
    assert render_candidates(plan) == render_units(plan, plan.units[0]) == render_sums(plan, 1) == counted


def test_the_text_of_a_histogram() -> None:
    plan = bound("SELECT MEDIAN(age) AS m FROM homes")
    assert render_histogram(plan, plan.histograms[0], 1) == (
        'SELECT (greatest(least(t0."age", CAST(120 AS BIGINT)), CAST(0 AS BIGINT)) - CAST(0 AS BIGINT)) // '
        'CAST(1 AS BIGINT), count(*) FROM t0 GROUP BY (greatest(least(t0."age", CAST(120 AS BIGINT)), '
        "CAST(0 AS BIGINT)) - CAST(0 AS BIGINT)) // CAST(1 AS BIGINT)"
    )


def test_the_text_of_features() -> None:
    plan = bind_features(parse_features("SELECT amount FROM visits WHERE kind = 'it''s'"), {"visits": granted(VISITS)})
    assert render_features(plan) == f"SELECT t0.\"amount\", {WEIGHTED} FROM t0 WHERE (t0.\"kind\" = 'it''s')"


@pytest.mark.parametrize("constant", ["x' OR '1'='1", "'; DROP TABLE t0; --", "\\'", "it''s", '"', "\n"])
def test_a_hostile_constant_stays_a_constant(constant: str) -> None:
    quoted = constant.replace("'", "''")
    plan = bind_features(
        parse_features(f"SELECT kind FROM visits WHERE shop = '{quoted}'"), {"visits": granted(VISITS)}
    )
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t0 (kind VARCHAR, shop VARCHAR, _rows BIGINT)")
        connection.executemany("INSERT INTO t0 VALUES ('a', ?, 1)", [[constant], ["other"]])
        assert connection.execute(render_features(plan)).fetchall() == [("a", WEIGHT_SCALE)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT SUM(amount) AS s, COUNT(*) AS n, AVG(amount) AS a FROM visits",
        "SELECT SUM(minutes) AS s FROM visits JOIN calls USING (who)",
        "SELECT VARIANCE(income) AS v FROM homes",
        "SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(noise = 'laplace') SUM(amount / 7) AS s FROM visits",
    ],
)
def test_every_sum_is_an_integer_of_128_bits(sql: str) -> None:
    plan = bound(sql)
    assert plan.sums is not None
    with empty_engine([SPECS[source.dataset_id] for source in plan.sources]) as connection:
        types = connection.execute(f"DESCRIBE {render_sums(plan, plan.sums.clipping.limit)}").fetchall()
    assert {row[1] for row in types} == {"HUGEINT"}


@given(
    st.integers(1, 10**6) | st.integers(1, SAFE),
    st.integers(1, 10**7) | st.sampled_from([1, 2**31, 2**32, SAFE - 1]),
    st.booleans(),
)
@settings(max_examples=120, deadline=None)
def test_a_weight_is_the_floor_of_the_scale_by_the_norm(clip: int, norm: int, is_product: bool) -> None:
    sql = "(CAST(x AS HUGEINT) * CAST(1 AS HUGEINT))" if is_product else "x"
    weight = _weight(Clipping(kind=NormKind.ROWS, norm=sql, limit=clip, factor=1), clip)
    ((found,),) = ENGINE.execute(f"SELECT {weight} FROM (SELECT CAST({norm} AS BIGINT) AS x)").fetchall()
    assert int(found) == min(WEIGHT_SCALE, WEIGHT_SCALE * clip // norm)


def test_the_vectors_of_a_small_table_by_hand() -> None:
    rows = [visit("p1", "a", 100), visit("p1", "b", 200), visit("p2", "a", None), *[visit("p3", "c", 10_000)] * 8]
    plan = bound("SELECT kind, COUNT(*) AS n, COUNT(DISTINCT who) AS u FROM visits GROUP BY kind")
    half = WEIGHT_SCALE // 2
    assert vectors(plan, {"visits": rows}) == ((2 * WEIGHT_SCALE, WEIGHT_SCALE, 8 * half), (2, 1, 1))
    assert vectors(plan, {"visits": rows}, clip=1)[0] == (half + WEIGHT_SCALE, half, 8 * (WEIGHT_SCALE // 8))
    total = bound("SELECT kind, SUM(amount) AS s FROM visits GROUP BY kind")
    assert vectors(total, {"visits": rows}) == ((100 * WEIGHT_SCALE, 200 * WEIGHT_SCALE, 8 * 10_000 * half),)


def test_a_key_outside_its_domain_and_a_missing_one_are_in_no_cell() -> None:
    rows = [visit("p1", "a"), visit("p2", "z"), visit("p3", "A"), visit("p4", "a ")]
    plan = bound("SELECT kind, COUNT(*) AS n FROM visits GROUP BY kind")
    assert vectors(plan, {"visits": rows}) == ((WEIGHT_SCALE, 0, 0),)
    assert HOMES.unique
