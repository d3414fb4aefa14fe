"""Open keys: every key that occurs with its exact units and sums, in the order of the key, and no more than allowed."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_runner.contract.dataset import ColumnType
from enclave_runner.kinds.discover import MAX_KEY, TooManyKeysError, run
from enclave_runner.kinds.sql_gate import UnlistedSqlError
from enclave_runner.kinds.tasks import CellQuery, Discovery, KeyedVectors
from enclave_runner.plan.bound import WEIGHT_SCALE
from enclave_runner.plan.render import render_candidates, render_sums
from enclave_runner.supervisor.extracts import query_extraction
from tests.support.bound_plans import Row, bound, held, visit
from tests.support.enclave_home import column
from tests.support.worker_files import extracted, stored

SQL = "SELECT shop, COUNT(*) AS n FROM visits GROUP BY shop"
KEYED = [column("k", ColumnType.TEXT), column("x", ColumnType.INTEGER)]


def found(rows: list[Row], sql: str = SQL, most: int = 1000, keys: tuple[tuple[str, ...], ...] = ()) -> KeyedVectors:
    """The candidates; or, of the keys that are told, the sums."""
    plan = bound(sql)
    queries = []
    if plan.sums is not None:
        text = render_sums(plan, plan.sums.clipping.limit)
        queries.append(CellQuery(sql=text, axes=(), width=len(plan.sums.statistics)))
    task = Discovery(
        tables=len(plan.sources),
        depth=len(plan.axes),
        most=most,
        candidates=render_candidates(plan),
        queries=tuple(queries),
        keys=keys,
    )
    with extracted(query_extraction(plan, held(plan, {"visits": rows}), spread=False), rows) as file:
        return run(task, [file])


def test_keys_come_in_their_order_with_units_and_sums() -> None:
    rows = [visit("p1", shop="b"), visit("p1", shop="b"), visit("p2", shop="a"), visit("p3", shop="b")]
    assert found(rows) == KeyedVectors(keys=(("a",), ("b",)), units=(1, 2), vectors=())
    assert found([]) == KeyedVectors(keys=(), units=(), vectors=())


def test_sums_are_those_of_the_keys_that_are_told_and_of_no_other() -> None:
    rows = [visit("p1", shop="b"), visit("p1", shop="b"), visit("p2", shop="a"), visit("p3", shop="b")]
    told = (("b",), ("nowhere",))
    assert found(rows, keys=told) == KeyedVectors(keys=told, units=(0, 0), vectors=((3 * WEIGHT_SCALE, 0),))


def test_a_unit_counts_in_as_many_keys_as_it_may_and_always_in_the_same() -> None:
    rows = [visit("p1", shop=f"s{n:02d}") for n in range(30)] + [visit("p2", shop="s00")]
    first, again = found(rows), found(rows[::-1])
    assert first == again
    assert sum(first.units) == 4 + 1
    asked = SQL.replace("SELECT", "SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(max_groups_contributed = 7)")
    assert sum(found(rows, asked).units) == 7 + 1


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abcdefg")), max_size=25))
@settings(max_examples=15, deadline=None)
def test_units_are_those_of_the_definition(cells: list[tuple[int, str]]) -> None:
    answer = found([visit(f"p{unit}", shop=shop) for unit, shop in cells])
    shops: dict[str, set[int]] = defaultdict(set)
    for unit, shop in cells:
        shops[shop].add(unit)
    counted = dict(zip(answer.keys, answer.units, strict=True))
    assert all(units <= len(shops[key]) for (key,), units in counted.items())
    keys_of = {unit: {shop for shop, units in shops.items() if unit in units} for unit, _ in cells}
    assert sum(counted.values()) == sum(min(4, len(keys)) for keys in keys_of.values())


def test_keys_that_no_table_may_show_are_left_out_and_missing_ones_too() -> None:
    shops = ["ok", "男", "", "x" * MAX_KEY, "x" * (MAX_KEY + 1), "a\nb", "a\x1b[2J", "a\u200bb", "NULL"]
    rows = [visit(f"p{n}", shop=shop) for n, shop in enumerate(shops)] + [visit("p99", shop=None)]  # type: ignore[arg-type]
    assert [key for (key,) in found(rows).keys] == sorted(["ok", "男", "", "x" * MAX_KEY, "NULL"])


def test_keys_that_differ_in_case_or_blanks_are_different_keys() -> None:
    shops = ["a", "A", "a ", " a", "é", "e\u0301", "1", "01"]
    answer = found([visit(f"p{n}", shop=shop) for n, shop in enumerate(shops)])
    assert {key for (key,) in answer.keys} == set(shops)


def test_two_keys_and_a_query_without_sums() -> None:
    rows = [visit("p1", "a", shop="s"), visit("p1", "b", shop="s"), visit("p2", "a", shop="t")]
    answer = found(rows, "SELECT kind, shop, COUNT(DISTINCT who) AS u FROM visits GROUP BY kind, shop")
    assert answer == KeyedVectors(keys=(("a", "s"), ("a", "t"), ("b", "s")), units=(1, 1, 1), vectors=())


def test_a_query_that_has_no_row_for_a_key_gives_zero() -> None:
    candidates = "SELECT k, count(*) FROM t0 GROUP BY k"
    query = CellQuery(sql="SELECT k, sum(x) FROM t0 WHERE x > 5 GROUP BY k", axes=(), width=1)
    keys = (("a",), ("b",))
    task = Discovery(tables=1, depth=1, most=9, candidates=candidates, queries=(query,), keys=keys)
    with stored(KEYED, [("a", 1), ("b", 9)]) as file:
        assert run(task, [file]).vectors == ((0, 9),)


def test_more_keys_than_expected_are_a_fault() -> None:
    rows = [visit(f"p{n}", shop=f"s{n}") for n in range(4)]
    assert len(found(rows, most=4).keys) == 4
    with pytest.raises(TooManyKeysError):
        found(rows, most=3)


def test_the_gate_stands_here_too() -> None:
    task = Discovery(tables=1, depth=1, most=9, candidates="SELECT k, max(x) FROM t0 GROUP BY k")
    with stored(KEYED, []) as file, pytest.raises(UnlistedSqlError):
        run(task, [file])
