"""The traps that only show when a statement runs: what leaves, in which shape and order, and what nobody's row changes.

Statements run through the enclave's own code without jails (`tests/support/exact_enclave.py`); "exactly" means without
noise. What the planner refuses stands in tests/unit/enclave_runner/plan/test_plan_traps.py.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from enclave_runner.contract.dataset import ColumnType, DatasetSpec, KeyKind
from enclave_runner.contract.job import QueryJob
from enclave_runner.contract.privacy import Budget
from enclave_runner.contract.receipt import DPTable
from enclave_runner.dp.mechanism import Mechanism
from enclave_runner.egress import estimate
from enclave_runner.egress.measure import Noisy
from enclave_runner.kinds.tasks import Finishing
from enclave_runner.supervisor.execute import execute
from enclave_runner.supervisor.prepare import prepare
from tests.support.enclave_home import changed, column, make_bureau, make_grant, running_site
from tests.support.exact_enclave import ExactEnclave, Row, Table, cell, exact_enclave, neighbours

GROUPS = ("c", "a", "NULL", "1", "01")
EVENTS = DatasetSpec(
    dataset_id="events",
    columns=(
        column("who", ColumnType.TEXT, grade=3),
        column("grp", ColumnType.TEXT, domain=GROUPS, nullable=True),
        column("x", ColumnType.INTEGER, bounds=(-10, 4), nullable=True),
        column("money", ColumnType.DECIMAL, scale=2, bounds=(0, 10_000)),
        column("day", ColumnType.DATE, bounds=(-800, 400)),
        column("shop", ColumnType.TEXT, nullable=True),
    ),
    entity_set="resident",
    entity_column="who",
    key_kind=KeyKind.OPAQUE,
    population_cap=1000,
    rows_per_entity=4,
)
HIDDEN = frozenset({"who"})
EPOCH = date(1970, 1, 1)


def row(who: str, grp: str | None = "a", x: int | None = 1, shop: str | None = "s", day: int = 0) -> Row:
    return who, grp, x, 100, EPOCH + timedelta(days=day), shop


@contextmanager
def holding(*rows: Row, **fields: object) -> Iterator[ExactEnclave]:
    with exact_enclave(Table(changed(EVENTS, **fields), rows, HIDDEN)) as enclave:
        yield enclave


def exactly(enclave: ExactEnclave, sql: str, options: str = "bounds='catalogue'") -> DPTable:
    told = f"SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS({options})"
    return enclave.exact(enclave.plan(sql.replace("SELECT", told, 1)))


def total(enclave: ExactEnclave, sql: str = "SELECT COUNT(*) AS n FROM events", column: int = 0) -> Decimal:
    value = cell(exactly(enclave, sql), 0, column)
    assert value is not None
    return value


# 2, 13: one unit's rows up to the clip, at it and beyond it


@pytest.mark.parametrize(("rows", "counted"), [(1, 1), (3, 3), (4, 4), (5, 4), (9, 4), (4096, 4)])
def test_a_unit_counts_with_all_of_its_rows_up_to_the_clip(rows: int, counted: int) -> None:
    with holding(*(row("u1") for _ in range(rows))) as enclave:
        assert counted - Decimal("0.01") <= total(enclave) <= counted


@pytest.mark.parametrize("sql", ["SELECT COUNT(*) AS n FROM events", "SELECT SUM(x) AS s FROM events"])
@pytest.mark.parametrize("rows", [2**20, 2**31, 2**40])
def test_a_unit_with_any_number_of_rows_moves_a_total_by_its_bound_at_most(sql: str, rows: int) -> None:
    """No such table is at hand; the number beside each row is what the weight is made from."""
    with holding(*(row("u1", x=-10) for _ in range(8))) as enclave:
        query = enclave.plan(sql.replace("SELECT", "SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(bounds='catalogue')", 1))
        assert query.plan.sums is not None
        clipping = query.plan.sums.clipping
        bound = Fraction(clipping.sensitivity(clipping.limit), clipping.weight_scale)
        weight = clipping.weight_scale * clipping.limit // rows
        assert weight * rows * clipping.factor <= clipping.sensitivity(clipping.limit)
        assert abs(total(enclave, sql)) <= bound


def test_a_reweighted_unit_never_counts_for_more_than_the_clip_however_its_rows_lie() -> None:
    for spread in ((9, 0, 0), (3, 3, 3), (1, 7, 1), (5, 0, 4)):
        rows = [row("u1", grp) for grp, count in zip("ca1", spread, strict=True) for _ in range(count)]
        with holding(*rows) as enclave:
            table = exactly(enclave, "SELECT grp, COUNT(*) AS n FROM events GROUP BY grp")
        assert sum((cell(table, at, 0) or Decimal(0) for at in range(5)), Decimal(0)) <= 4


# 4: values that are no values


def test_nulls_count_for_nothing_and_extreme_values_for_their_bound() -> None:
    rows = (row("u1", x=None), row("u2", x=2**62), row("u3", x=-(2**62)), row("u4", grp=None), row("u5", grp="other"))
    with holding(*rows) as enclave:
        table = exactly(enclave, "SELECT COUNT(x) AS c, SUM(x) AS s, COUNT(*) AS n FROM events")
        assert [cell(table, 0, at) for at in range(3)] == [4, 4 - 10 + 1 + 1, 5]
        assert total(enclave, "SELECT COUNT(*) AS n FROM events WHERE grp IS NULL") == 1
        assert by_key(exactly(enclave, "SELECT grp, COUNT(*) AS n FROM events GROUP BY grp")) == {
            "c": 0, "a": 3, "NULL": 0, "1": 0, "01": 0}  # fmt: skip


def by_key(table: DPTable) -> dict[str | None, Decimal | None]:
    return {row[0]: cell(table, at, 0) for at, row in enumerate(table.rows)}


def added(table: DPTable) -> Decimal:
    return sum((value or Decimal(0) for value in by_key(table).values()), Decimal(0))


# 5: no value makes an error that another does not


NEVER_RAISING = (
    "SELECT SUM(x * money) AS s, VARIANCE(x) AS v FROM events",
    "SELECT SUM(FLOOR(money / 0.07)) AS s FROM events WHERE x / 3 < money / 7",
    "SELECT SUM(ABS(x) + FLOOR(money) - ROUND(money, 1) + CEIL(x)) AS s FROM events",
    "SELECT SUM(YEAR(day)) AS y, SUM(MONTH(day)) AS m FROM events",
    "SELECT date_trunc('week', day) AS w, COUNT(*) AS n FROM events GROUP BY w",
    "SELECT width_bucket(x, -5, 5, 4) AS b, COUNT(*) AS n FROM events GROUP BY b",
    "SELECT MEDIAN(x) AS m, MAX(money) AS b FROM events",
    "SELECT shop, COUNT(*) AS n, AVG(x) AS a FROM events GROUP BY shop",
    "SELECT SUM(CASE WHEN shop = 'NULL' THEN LEAST(x, money) ELSE GREATEST(x, 3) END) AS s FROM events",
    "SELECT SUM(NULLIF(x, 0)) AS s, AVG(COALESCE(x, 0)) AS a FROM events",
)
WORST: tuple[Row, ...] = (
    ("u1", "a", 2**63 - 1, 2**63 - 1, date(9999, 12, 31), "x" * 5000),
    ("u1", None, -(2**63), -(2**63), date(1, 1, 1), "\x00\x1b[2J\n"),
    ("u1", "'; DROP TABLE t0; --", None, 0, EPOCH, None),
)


@pytest.mark.parametrize("sql", NEVER_RAISING)
def test_neighbours_fail_alike_which_is_never(sql: str) -> None:
    with neighbours("u1", Table(EVENTS, (*WORST, row("u2")), HIDDEN)) as both:
        shapes = []
        for enclave in both:
            table = exactly(enclave, sql) if "shop, " not in sql else enclave.run(sql)
            shapes.append((table.keys, [item[: len(table.keys)] for item in table.rows]))
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("units", [1, 7, 300])
@pytest.mark.parametrize("share", ["0.5", "0.000000000000001", "0.9999999999999999", "1e-12"])
def test_no_number_of_rows_makes_a_quantile_fail(units: int, share: str) -> None:
    """A fine fraction once made the scores overflow from a total on that the asker could choose."""
    people = changed(EVENTS, unique=True, rows_per_entity=1)
    with exact_enclave(Table(people, tuple(row(f"u{at}") for at in range(units)), HIDDEN)) as enclave:
        sql = f"SELECT QUANTILE_CONT(x, {share}) AS q FROM events"
        assert len(enclave.run(sql, "100").rows) == 1


# 6: what happens above the noise sees nothing below it


def test_having_order_limit_and_ratios_see_released_numbers_only() -> None:
    """Every number that reaches the second engine is one that the table could show: it has the noise in it."""
    sql = "SELECT grp, COUNT(*) AS n, SUM(x) / COUNT(*) AS r FROM events GROUP BY grp HAVING COUNT(*) > 0"
    seen: list[Finishing] = []
    with holding(*(row("u1") for _ in range(4)), row("CANARY", "c", 3)) as enclave:
        query = enclave.plan(sql + " ORDER BY r DESC, n LIMIT 3")
        work = enclave.work

        def watched(task: Any, descriptors: list[int], profile: object = None) -> Any:
            if isinstance(task, Finishing):
                seen.append(task)
                assert not descriptors
            return work(task, descriptors, profile)

        with patch.object(enclave, "work", watched):
            tables = [enclave.answer(query).table for _ in range(6)]
    values = [task.values for task in seen]
    assert len(set(values)) == len(values)
    assert "CANARY" not in str(seen)
    for table, task in zip(tables, seen, strict=True):
        told = {key[0]: value for key, value in zip(task.keys, task.values, strict=True)}
        assert all(found[1] == told[found[0]][0] for found in table.rows)
        assert all(float(found[1] or 0) > 0 for found in table.rows)
        assert len(table.rows) <= 3


def test_having_that_compares_with_nothing_keeps_no_row_and_tells_nothing() -> None:
    with holding(row("u1")) as enclave:
        table = enclave.run("SELECT grp, COUNT(*) AS n FROM events GROUP BY grp HAVING COUNT(*) > NULL")
        assert table.rows == ()
        assert table.loss.pico_rho > 0


# 7, 16: keys, their order, and the number of rows are public


@pytest.mark.parametrize("rows", [(), (row("u1", "01"),), (row("u1", None), row("u2", "outside"))])
def test_all_public_keys_are_told_in_catalogue_order_zeros_with_noise(rows: tuple[Row, ...]) -> None:
    with holding(*rows) as enclave:
        table = enclave.run("SELECT grp, COUNT(*) AS n FROM events GROUP BY grp", "0.1")
    assert tuple(item[0] for item in table.rows) == GROUPS
    values = [cell(table, at, 0) for at in range(len(GROUPS))]
    assert len(set(values)) == len(values)  # five equal zeros had no noise
    assert len(set(table.half_widths)) == 1


def test_keys_that_look_alike_stay_apart() -> None:
    with holding(row("u1", "1"), row("u2", "1"), row("u3", "01"), row("u4", "NULL"), row("u5", None)) as enclave:
        found = by_key(exactly(enclave, "SELECT grp, COUNT(*) AS n FROM events GROUP BY grp"))
        cube = exactly(enclave, "SELECT grp, COUNT(*) AS n FROM events GROUP BY ROLLUP (grp)")
    assert found == {"c": 0, "a": 0, "NULL": 1, "1": 2, "01": 1}
    assert [item[0] for item in cube.rows] == [*GROUPS, None]


@pytest.mark.parametrize("unit", ["week", "month", "quarter", "year"])
def test_every_day_falls_into_a_public_bin_also_before_1970(unit: str) -> None:
    days = range(-800, 401)
    people = changed(EVENTS, unique=True, rows_per_entity=1, population_cap=2000)
    rows = tuple(row(f"u{day}", day=day) for day in days)
    with exact_enclave(Table(people, rows, HIDDEN)) as enclave:
        table = exactly(enclave, f"SELECT date_trunc('{unit}', day) AS d, COUNT(*) AS n FROM events GROUP BY d")
        years = exactly(enclave, "SELECT year(day) AS y, COUNT(*) AS n FROM events GROUP BY y")
    assert added(table) == added(years) == len(days)


ODD = ("x" * 201, "bell\x07", "line\nbreak", "\x1b[31mred", "right\u202eleft", "zero\u200bwidth")


def test_keys_that_cannot_be_printed_are_never_told() -> None:
    """Whoever writes the raw data would write to the terminal of whoever reads the table."""
    rows = [row(f"u{at}", shop=ODD[at % 6]) for at in range(600)]
    with holding(*rows, *(row(f"v{at}", shop="fine") for at in range(200))) as enclave:
        table = enclave.run("SELECT shop, COUNT(*) AS n FROM events GROUP BY shop", "4")
    assert [item[0] for item in table.rows] == ["fine"]


def test_which_keys_of_a_unit_count_is_fixed_by_its_own_rows() -> None:
    """The salt is public, so that anybody can tell which four of his keys count. It is a function of one unit's rows,
    the same with and without anybody else: the bound needs nothing more, and nobody counts in a fifth one."""
    mine = [row("u1", shop=f"s{at}") for at in range(9)]
    others = [row(f"v{at}", shop=f"s{at % 9}") for at in range(90)]
    tables = []
    for rows in (mine, [*mine, *others]):
        with holding(*rows) as enclave:
            tables.append(exactly(enclave, "SELECT shop, COUNT(DISTINCT who) AS u FROM events GROUP BY shop"))
    alone, beside = (by_key(table) for table in tables)
    assert len(alone) == 4
    assert added(tables[1]) == 94
    assert {shop for shop, value in beside.items() if value == 11} == set(alone)


# 10, 12: joins and distinct counts


def test_distinct_units_are_counted_and_not_rows() -> None:
    with holding(*(row("u1") for _ in range(4)), row("u2"), row("u2", "c")) as enclave:
        assert total(enclave, "SELECT COUNT(DISTINCT who) AS u FROM events") == 2
        found = by_key(exactly(enclave, "SELECT grp, COUNT(DISTINCT who) AS u FROM events GROUP BY grp"))
    assert [found[key] for key in ("a", "c")] == [2, 1]


def test_a_join_that_multiplies_rows_is_bounded_by_the_product() -> None:
    visits = changed(EVENTS, dataset_id="visits", rows_per_entity=2)
    rows = [row("u1") for _ in range(7)]
    with exact_enclave(Table(EVENTS, tuple(rows), HIDDEN), Table(visits, tuple(rows), HIDDEN)) as enclave:
        assert Decimal("7.9") < total(enclave, "SELECT COUNT(*) AS n FROM events JOIN visits USING (who)") <= 8


# 14: the digits that leave


@pytest.mark.parametrize(
    "shown", ["COUNT(*) AS n", "SUM(money) AS s", "SUM(x) AS s, COUNT(*) AS n", "AVG(x) AS a, SUM(money) AS s"]
)
def test_released_numbers_are_whole_numbers_over_a_public_denominator(shown: str) -> None:
    """In 200 runs on each of two neighbours, every noisy cell is a multiple of the one unit that the plan fixes."""
    sql = f"SELECT grp, {shown} FROM events GROUP BY grp"
    kept: list[tuple[int, Noisy]] = []
    linear = estimate.linear

    def watched(item: Any, vectors: Any, statistics: Any) -> Any:
        kept.extend(zip(denominators, vectors, strict=True))
        return linear(item, vectors, statistics)

    with neighbours("u1", Table(EVENTS, (*(row("u1") for _ in range(9)), row("u2", "c", 3)), HIDDEN)) as both:
        for enclave in both:
            query = enclave.plan(sql)
            assert query.plan.sums is not None
            scale = query.plan.sums.clipping.weight_scale
            denominators = [scale * item.multiplier * 10**item.scale for item in query.plan.sums.statistics]
            with patch.object(estimate, "linear", watched):
                list(enclave.answers(query, 200))
    numbers = [value * denominator for denominator, noisy in kept for value in noisy.cells]
    assert len(numbers) >= 2000
    assert all(value.denominator == 1 for value in numbers)
    odd = sum(int(value) % 2 for value in numbers)  # the noise reaches the last digit: none of them is the data's
    assert abs(odd - len(numbers) / 2) < 2.5 * len(numbers) ** 0.5  # five standard deviations: 6e-7


# 20, 22: noise


def test_negative_counts_are_kept_and_no_two_runs_are_alike() -> None:
    with holding() as enclave:
        query = enclave.plan("SELECT grp, COUNT(*) AS n FROM events GROUP BY grp", "0.1")
        rows = [item.table.rows for item in enclave.answers(query, 30)]
    values = [float(item[1] or 0) for found in rows for item in found]
    assert len(set(rows)) == 30
    assert 20 < sum(value < 0 for value in values) < 130  # 150 fair coins: outside with probability below 1e-15


def test_noise_knows_no_seed() -> None:
    """The same draw twice, with Python's and numpy's generators set to the same state: nothing repeats."""
    made = Mechanism.__init__.__annotations__
    assert "seed" not in made
    with holding() as enclave:
        query = enclave.plan("SELECT COUNT(*) AS n FROM events", "0.01")
        found = set()
        for _ in range(5):
            random.seed(7)
            np.random.seed(7)
            found.add(enclave.answer(query).table.rows)
    assert len(found) == 5


# Tables without rows, filters without rows, the same aggregate twice


NEVER_TRUE = (
    "SELECT COUNT(DISTINCT who) AS u FROM events WHERE FALSE",
    "SELECT SUM(x) FILTER (WHERE FALSE) AS s, COUNT(*) FILTER (WHERE NULL) AS n FROM events",
)


@pytest.mark.parametrize("sql", [*NEVER_RAISING, *NEVER_TRUE])
def test_nothing_at_all_is_answered_like_anything_else(sql: str) -> None:
    with holding() as empty, holding(row("u1")) as other:
        first, second = empty.run(sql), other.run(sql)
    assert (first.keys, len(first.rows), first.loss) == (second.keys, len(second.rows), second.loss)


def test_the_same_aggregate_twice_is_measured_once_and_told_alike() -> None:
    with holding(row("u1")) as enclave:
        table = enclave.run("SELECT COUNT(*) AS a, COUNT(*) AS b, COUNT(1) AS c, COUNT(*) * 1 AS d FROM events")
        once = enclave.plan("SELECT COUNT(*) AS a FROM events")
    (found,) = table.rows
    assert found[0] == found[1] == found[2]
    assert float(found[3] or 0) == pytest.approx(float(found[0] or 0))
    assert table.loss.pico_rho == once.shares.pico_rho


@pytest.mark.parametrize("share", ["0", "1"])
def test_an_extreme_quantile_stays_inside_the_public_bounds(share: str) -> None:
    with holding(row("u1", x=2**62), row("u2", x=-(2**62))) as enclave:
        query = enclave.plan(f"SELECT QUANTILE_CONT(x, {share}) AS q FROM events", "0.5")
        found = {cell(item.table, 0, 0) for item in enclave.answers(query, 100)}
    assert all(value is not None and -10 <= value <= 5 for value in found)
    assert len(found) > 3  # neither value itself


# 17: the numbers beside the rows are those of the version that is read


@pytest.mark.slow
def test_weights_follow_the_data_version(tmp_path: Path) -> None:
    """A unit with one row gets five hundred. At ε = 4 and a clip of 1 the noise is below 8 but for 1e-6."""
    spec = changed(EVENTS, rows_per_entity=1, columns=EVENTS.columns[:3])
    job = QueryJob(sql="SELECT COUNT(*) AS n FROM events", budget=Budget(epsilon="4"))
    scopes = make_grant().scopes
    grant = make_grant(scopes=(type(scopes[0])(dataset_id="events", columns=("grp", "x")),))
    found = []
    with running_site(make_bureau(tmp_path)) as site:
        for rows in (1, 500):
            site.import_csv(spec, "who,grp,x\n" + "u1,a,1\n" * rows)
            release = execute(site.enclave, prepare(site.enclave, grant, job, None), None).release
            assert isinstance(release, DPTable)
            found.append(float(cell(release, 0, 0) or 0))
    assert all(abs(value - 1) < 8 for value in found)
