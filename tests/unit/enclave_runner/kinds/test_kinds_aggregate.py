"""Exact vectors: every public cell in its place, rows of other keys left out, integers of any length, floored."""

from __future__ import annotations

from enclave_runner.contract.dataset import ColumnType
from enclave_runner.kinds.aggregate import run
from enclave_runner.kinds.tasks import Aggregation, CellQuery
from tests.support.enclave_home import column
from tests.support.worker_files import stored

KEYED = [column("k", ColumnType.TEXT), column("x", ColumnType.INTEGER)]
COUNT = "count(*)"


def one(sql: str, axes: tuple[tuple[str, ...] | int, ...] = (), width: int = 1, coarsening: int = 1) -> Aggregation:
    return Aggregation(tables=1, queries=(CellQuery(sql=sql, axes=axes, width=width),), coarsenings=(coarsening,))


def test_empty_groups_are_filled_in_catalogue_order_and_foreign_keys_left_out() -> None:
    with stored(KEYED, [("b", -3), ("b", 0), ("z", 9), (None, 5)]) as file:
        task = one(f"SELECT k, sum(x), {COUNT} FROM t0 GROUP BY k", (("c", "b", "a"),), 2)
        assert run(task, [file]).vectors == ((0, -3, 0), (0, 2, 0))


def test_each_query_has_its_own_coarsening_and_it_is_a_floor_also_below_zero() -> None:
    with stored(KEYED, [("b", -3), ("c", 3)]) as file:
        query = CellQuery(sql="SELECT k, sum(x) FROM t0 GROUP BY k", axes=(("b", "c"),), width=1)
        task = Aggregation(tables=1, queries=(query, query), coarsenings=(2, 1))
        assert run(task, [file]).vectors == ((-2, 1), (-3, 3))


def test_two_axes_run_in_the_order_of_the_plan_and_numbers_count_from_zero() -> None:
    rows = [("a", 0), ("a", 2), ("b", 1), ("b", 1), ("a", -1), ("b", 3)]
    with stored(KEYED, rows) as file:
        task = one(f"SELECT k, x, {COUNT} FROM t0 GROUP BY k, x", (("b", "a"), 3))
        assert run(task, [file]).vectors == ((0, 2, 0, 1, 0, 1),)


def test_a_table_without_keys_has_one_cell_even_of_no_rows() -> None:
    with stored([column("x", ColumnType.INTEGER)], []) as file:
        assert run(one("SELECT coalesce(sum(x), CAST(0 AS HUGEINT)) FROM t0"), [file]).vectors == ((0,),)
        assert run(one(f"SELECT {COUNT} FROM t0"), [file]).vectors == ((0,),)


def test_sums_beyond_64_bits_are_exact() -> None:
    huge = 9_223_372_036_854_775_807
    with stored([column("x", ColumnType.INTEGER)], [(huge,), (huge,), (1,)]) as file:
        assert run(one("SELECT sum(CAST(x AS HUGEINT)) FROM t0"), [file]).vectors == ((2 * huge + 1,),)
