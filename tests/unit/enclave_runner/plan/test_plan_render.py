"""Rendering: names and constants cannot leave their quotes; the rest is held by the differential property test."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_runner.contract.dataset import ColumnType
from enclave_runner.plan.bind import BoundFeatures, BoundFilter
from enclave_runner.plan.render import literal, quote, render_features, render_table
from tests.support.enclave_home import PEOPLE
from tests.support.plan_interpreter import bound

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


@given(TEXTS)
@settings(max_examples=60, deadline=None)
def test_any_text_constant_is_read_back_as_itself(text: str) -> None:
    assert duckdb.sql(f"SELECT {literal(text)}").fetchall() == [(text,)]


@given(st.integers(-(2**63), 2**63 - 1))
@settings(max_examples=30, deadline=None)
def test_any_number_is_a_bigint_and_itself(value: int) -> None:
    assert duckdb.sql(f"SELECT {literal(value)}, typeof({literal(value)})").fetchall() == [(value, "BIGINT")]


@given(TEXTS.filter(bool))
@settings(max_examples=60, deadline=None)
def test_any_name_is_one_name(name: str) -> None:
    assert duckdb.sql(f"SELECT 1 AS {quote(name)}").columns == [name]


def test_the_text_of_a_table_in_full() -> None:
    sql = "SELECT sex, COUNT(*), SUM(income) FROM people WHERE age >= 18 AND active = true GROUP BY sex"
    assert render_table(bound(sql, PEOPLE)) == (
        'SELECT CAST("sex" AS VARCHAR), coalesce(sum(CAST("_weight" AS HUGEINT)), CAST(0 AS HUGEINT)), '
        'coalesce(sum(CAST(CASE WHEN "income" IS NULL THEN CAST(0 AS BIGINT) ELSE greatest(least("income", '
        'CAST(100000 AS BIGINT)), CAST(0 AS BIGINT)) END AS HUGEINT) * CAST("_weight" AS HUGEINT)), '
        "CAST(0 AS HUGEINT)) "
        "FROM extract WHERE CAST(\"sex\" AS VARCHAR) IN ('男', '女', '未知') AND \"age\" >= CAST(18 AS BIGINT) "
        'AND CAST("active" AS VARCHAR) = \'true\' GROUP BY CAST("sex" AS VARCHAR)'
    )


@pytest.mark.parametrize("constant", ["x' OR '1'='1", "'; DROP TABLE extract; --", "\\'", "it''s", '"', "\n"])
def test_a_hostile_constant_stays_a_constant(constant: str) -> None:
    plan = BoundFeatures(
        dataset_id="people",
        features=(("a", ColumnType.TEXT, 0),),
        filters=(BoundFilter(column="a", operator="=", constants=(constant,), type=ColumnType.TEXT),),
        columns=("a",),
        entity_set="resident",
        rows_per_entity=1,
        weight_scale=1,
        sensitivity=1,
    )
    with duckdb.connect() as connection:
        connection.execute('CREATE TABLE extract (a VARCHAR, "_weight" BIGINT)')
        connection.executemany("INSERT INTO extract VALUES (?, 1)", [[constant], ["other"]])
        assert connection.execute(render_features(plan)).fetchall() == [(constant, 1)]


def test_every_constant_is_typed_and_sums_are_wide() -> None:
    plan = bound("SELECT SUM(income), COUNT(*) FROM people", PEOPLE)
    with duckdb.connect() as connection:
        connection.execute('CREATE TABLE extract (income BIGINT, "_weight" BIGINT)')
        types = connection.execute(f"DESCRIBE {render_table(plan)}").fetchall()
    assert {row[1] for row in types} == {"HUGEINT"}
