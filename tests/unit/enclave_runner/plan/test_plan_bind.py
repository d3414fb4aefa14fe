"""Binding: what is not granted, declared or bounded is refused; what is bound carries its proof in integers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_runner.contract.dataset import MAX_MAGNITUDE, ColumnType
from enclave_runner.contract.errors import Refused
from enclave_runner.egress.measure import CELL_BITS, SENSITIVITY_BITS, coarsened, coarsening_of
from enclave_runner.plan.bind import DEFAULT_GROUPS, MAX_BINS, bind_features
from enclave_runner.plan.bound import WEIGHT_SCALE, BoundFeatures, NormKind
from enclave_runner.plan.parse import parse_features
from tests.support.bound_plans import HOMES, VISITS, bound, granted
from tests.support.enclave_home import changed, column


def features(sql: str, spec: object = VISITS) -> BoundFeatures:
    return bind_features(parse_features(sql), {"visits": granted(spec)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sql", "rule", "facts"),
    [
        ("SELECT SUM(nothing) AS s FROM visits", "sql.column", {"column": "nothing", "position": "12"}),
        ("SELECT SUM(ungranted) AS s FROM visits", "grant.column", {"column": "ungranted"}),
        ("SELECT COUNT(ungranted) AS s FROM visits", "grant.column", {"column": "ungranted"}),
        ("SELECT COUNT(*) AS n FROM visits WHERE ungranted = 1", "grant.column", {"column": "ungranted"}),
        ("SELECT COUNT(*) FILTER (WHERE ungranted = 1) AS n FROM visits", "grant.column", {"column": "ungranted"}),
        ("SELECT ungranted, COUNT(*) AS n FROM visits GROUP BY ungranted", "grant.column", {"column": "ungranted"}),
        ("SELECT MEDIAN(ungranted) AS m FROM visits", "grant.column", {"column": "ungranted"}),
        ("SELECT who, COUNT(*) AS n FROM visits GROUP BY who", "grant.column", {"column": "who"}),
        ("SELECT COUNT(*) AS n FROM visits WHERE who = 'p1'", "grant.column", {"column": "who"}),
        ("SELECT COUNT(who) AS n FROM visits", "grant.column", {"column": "who"}),
        ("SELECT SUM(listed) AS s FROM visits", "dataset.withheld", {"column": "listed", "basis": "第二十四条"}),
        ("SELECT SUM(core) AS s FROM visits", "dataset.core-grade", {"column": "core"}),
        ("SELECT SUM(free) AS s FROM visits", "dataset.bound-missing", {"column": "free"}),
        ("SELECT AVG(free + 1) AS s FROM visits", "dataset.bound-missing", {"column": "free"}),
        ("SELECT MEDIAN(free) AS m FROM visits", "dataset.bound-missing", {"column": "free"}),
        ("SELECT COUNT(DISTINCT shop) AS k FROM visits", "dataset.domain-missing", {"column": "shop"}),
        ("SELECT kind, COUNT(DISTINCT kind) AS k FROM visits GROUP BY kind", "sql.distinct", {"position": "14"}),
        ("SELECT amount, COUNT(*) AS n FROM visits GROUP BY amount", "sql.key", {"what": "amount", "position": "51"}),
        ("SELECT shop, MEDIAN(amount) AS m FROM visits GROUP BY shop", "dataset.domain-missing", {"column": "shop"}),
        (
            "SELECT shop, COUNT(DISTINCT who) FILTER (WHERE amount > 5) AS u FROM visits GROUP BY shop",
            "dataset.domain-missing",
            {"column": "shop"},
        ),
        (
            "SELECT shop, kind, COUNT(*) AS n FROM visits GROUP BY ROLLUP (shop, kind)",
            "dataset.domain-missing",
            {"column": "shop"},
        ),
        (
            "SELECT kind, COUNT(DISTINCT who) AS u FROM visits GROUP BY ROLLUP (kind)",
            "sql.grouping-sets",
            {"position": "68"},
        ),
        ("SELECT SUM(shop) AS s FROM visits", "sql.type", None),
        ("SELECT COUNT(*) AS n FROM visits WHERE amount", "sql.type", None),
        ("SELECT COUNT(*) FILTER (WHERE amount) AS n FROM visits", "sql.type", None),
        (
            "SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(privacy_unit_column = kind) COUNT(*) AS n FROM visits",
            "sql.unit-column",
            {"column": "kind", "unit": "who"},
        ),
    ],
)
def test_what_is_refused(sql: str, rule: str, facts: dict[str, str] | None) -> None:
    with pytest.raises(Refused) as caught:
        bound(sql)
    assert caught.value.rule == rule
    assert facts is None or caught.value.facts == facts


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("SELECT nothing FROM visits", "sql.column"),
        ("SELECT ungranted FROM visits", "grant.column"),
        ("SELECT listed FROM visits", "dataset.withheld"),
        ("SELECT core FROM visits", "dataset.core-grade"),
        ("SELECT amount FROM visits WHERE core = 1", "dataset.core-grade"),
        ("SELECT amount FROM visits WHERE amount = 'x'", "sql.type"),
    ],
)
def test_features_are_held_to_the_same_rules(sql: str, rule: str) -> None:
    with pytest.raises(Refused) as caught:
        features(sql)
    assert caught.value.rule == rule


def test_features_carry_types_scales_and_the_clip_of_rows() -> None:
    plan = features("SELECT amount, day FROM visits WHERE flag = true")
    assert plan.features == (("amount", ColumnType.DECIMAL, 2), ("day", ColumnType.DATE, 0))
    assert set(plan.source.columns) == {"amount", "day", "flag"}
    assert (plan.source.rows, plan.sensitivity) == (True, 4 * WEIGHT_SCALE)
    single = features("SELECT amount FROM visits", changed(VISITS, unique=True, rows_per_entity=1))
    assert (single.source.rows, single.sensitivity, single.clipping.kind) == (False, 1, NormKind.NONE)


def test_without_a_bound_on_rows_per_entity_nothing_is_counted() -> None:
    spec = changed(VISITS, rows_per_entity=None)
    for sql in ("COUNT(*) AS n", "SUM(amount) AS s", "MEDIAN(amount) AS m", "COUNT(DISTINCT kind) AS k"):
        with pytest.raises(Refused) as caught:
            bound(f"SELECT {sql} FROM visits", visits=spec)
        assert (caught.value.rule, caught.value.facts) == ("dataset.unit-bound-missing", {"dataset": "visits"})
    assert bound("SELECT COUNT(DISTINCT who) AS u FROM visits", visits=spec).units


def test_cells_are_the_product_of_the_labels_and_capped() -> None:
    sql = "SELECT kind, flag, COUNT(*) AS n FROM visits GROUP BY kind, flag"
    plan = bound(sql, max_cells=6)
    assert (plan.cells, [axis.labels for axis in plan.axes]) == (6, [("a", "b", "c"), ("false", "true")])
    with pytest.raises(Refused) as caught:
        bound(sql, max_cells=5)
    assert (caught.value.rule, caught.value.facts) == ("sql.cells", {"max": "5"})
    assert bound("SELECT COUNT(*) AS n FROM visits", max_cells=1).cells == 1


def test_a_count_is_clipped_by_rows_and_other_statistics_by_their_measured_norm() -> None:
    counted = bound("SELECT COUNT(*) AS n FROM visits").sums
    assert counted is not None
    assert (counted.clipping.kind, counted.clipping.limit, counted.clipping.factor) == (NormKind.ROWS, 4, 1)
    assert counted.clipping.sensitivity(3) == 3 * WEIGHT_SCALE
    plan = bound("SELECT SUM(amount) AS s FROM visits WHERE amount > 5")
    assert plan.sums is not None
    assert (plan.sums.clipping.kind, plan.sums.clipping.limit) == (NormKind.MEASURED, 4 * 10_000)
    assert plan.sources[0].norm is not None
    assert plan.sources[0].condition == plan.condition  # measured over the rows that count
    single = bound("SELECT SUM(income) AS s FROM homes").sums
    assert single is not None
    assert (single.clipping.kind, single.clipping.sensitivity(1)) == (NormKind.NONE, 1000)


def test_laplace_adds_what_gauss_takes_the_root_of() -> None:
    sql = "SELECT COUNT(*) AS n, SUM(income) AS s, SUM(age) AS t FROM homes"
    gauss, laplace = bound(sql, 2).sums, bound(sql, 1).sums
    assert gauss is not None
    assert laplace is not None
    magnitudes = [item.magnitude for item in laplace.statistics]
    assert laplace.clipping.factor == sum(magnitudes)
    assert (gauss.clipping.factor - 1) ** 2 < sum(item**2 for item in magnitudes) <= gauss.clipping.factor**2


def test_a_join_that_multiplies_rows_is_clipped_by_the_product_of_the_counts() -> None:
    plan = bound("SELECT COUNT(*) AS n, SUM(minutes) AS s FROM visits JOIN calls USING (who)")
    assert plan.sums is not None
    assert (plan.sums.clipping.kind, plan.sums.clipping.limit) == (NormKind.ROWS, 12)
    assert "t0._rows" in plan.sums.clipping.norm
    assert "t1._rows" in plan.sums.clipping.norm
    assert [source.rows for source in plan.sources] == [True, True]
    assert plan.sources[0].condition is None  # the condition may name the other table


def test_rows_that_the_query_asks_for_lower_the_clip_and_never_raise_it() -> None:
    for asked, limit in ((2, 2), (4, 4), (9, 4)):
        plan = bound(
            f"SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(max_rows_contributed = {asked}) COUNT(*) AS n FROM visits"
        )
        assert plan.sums is not None
        assert plan.sums.clipping.limit == limit


def test_units_count_in_as_many_groups_as_there_are_or_in_one() -> None:
    assert bound("SELECT kind, COUNT(DISTINCT who) AS u FROM visits GROUP BY kind").units[0].groups == 3
    assert bound("SELECT region, COUNT(DISTINCT who) AS u FROM homes GROUP BY region").units[0].groups == 1
    assert bound("SELECT COUNT(DISTINCT who) AS u FROM visits").units[0].groups == 1


def test_values_count_as_many_as_a_unit_has_rows() -> None:
    assert bound("SELECT COUNT(DISTINCT kind) AS k FROM visits").values[0].limit == 3
    assert bound("SELECT COUNT(DISTINCT MONTH(day)) AS k FROM visits").values[0].limit == 4
    assert bound("SELECT COUNT(DISTINCT age) AS k FROM homes").values[0].limit == 1


def test_a_histogram_covers_the_range_in_no_more_bins_than_fit() -> None:
    fine = bound("SELECT MEDIAN(income) AS m FROM homes").histograms[0]
    assert (fine.low, fine.step, fine.bins, fine.scale) == (0, 1, 1001, 0)
    for high, cells in ((10**15, 1), (1000, 2), (MAX_BINS, 1), (MAX_BINS - 1, 1)):
        homes = changed(HOMES, columns=(*HOMES.columns, column("x", ColumnType.INTEGER, bounds=(-7, high))))
        group = "" if cells == 1 else "GROUP BY region"
        item = bound(f"SELECT MEDIAN(x) AS m FROM homes {group}", max_cells=300, homes=homes).histograms[0]
        assert item.bins <= max(2, min(MAX_BINS, 64 * 300 // cells))
        assert item.low + item.step * (item.bins - 1) <= high < item.low + item.step * item.bins
    twice = bound("SELECT MEDIAN(income) AS m, QUANTILE(income, 0.1) AS q FROM homes")
    assert len(twice.histograms) == 1


def test_a_list_in_the_query_makes_a_text_key_public() -> None:
    base = "SELECT shop, COUNT(*) AS n FROM visits WHERE {} GROUP BY shop"
    assert bound(base.format("shop IN ('b', 'a', 'b')")).axes[0].labels == ("b", "a")
    assert bound(base.format("shop = 'b'")).axes[0].labels == ("b",)
    assert bound(base.format("amount > 3 AND shop IN ('b')")).axes[0].labels == ("b",)
    for condition in ("shop IN ('b') OR amount > 3", "NOT shop IN ('b')", "shop <> 'b'", "division IN ('b')"):
        assert bound(base.format(condition)).is_open
    assert bound(base.format("amount > 1")).open_groups == DEFAULT_GROUPS


def test_partitions_of_a_key_that_is_computed_have_its_labels() -> None:
    plan = bound("SELECT DATE_TRUNC('quarter', day) AS q, age > 18 AS old, COUNT(*) AS n FROM visits JOIN homes "
                 "USING (who) GROUP BY 1, 2")  # fmt: skip
    assert plan.axes[0].labels == ("2022-01-01", "2022-04-01", "2022-07-01", "2022-10-01")
    assert plan.axes[1].labels == ("false", "true")
    assert [axis.is_number for axis in bound("SELECT age, COUNT(*) AS n FROM homes GROUP BY age").axes] == [True]


def test_every_entity_set_is_named_once_and_public_ones_never() -> None:
    joined = (
        "SELECT COUNT(*) AS n FROM visits JOIN homes USING (who) JOIN divisions ON visits.division = divisions.code"
    )
    assert bound(joined).entity_sets == ("resident",)


@given(
    st.integers(1, 2 * 10**9),
    st.integers(1, 10**6),
    st.integers(-MAX_MAGNITUDE, MAX_MAGNITUDE),
    st.integers(0, MAX_MAGNITUDE),
    st.sampled_from([1, 2]),
)
@settings(deadline=None)
def test_cells_and_noise_stay_inside_64_bits_whatever_is_declared(
    cap: int, rows: int, low: int, width: int, power: int
) -> None:
    high = min(low + width, MAX_MAGNITUDE)
    columns = (column("who", ColumnType.TEXT, grade=3), column("x", ColumnType.INTEGER, bounds=(low, high)))
    spec = changed(VISITS, columns=columns, population_cap=cap, rows_per_entity=rows)
    sums = bound("SELECT SUM(x) AS s, COUNT(*) AS n FROM visits", power, visits=spec).sums
    assert sums is not None
    exact = sums.clipping.sensitivity(sums.clipping.limit)
    coarsening = coarsening_of(cap, exact)
    assert cap * exact // coarsening < 1 << CELL_BITS
    moved = coarsened(exact, coarsening, power, 1, False)
    assert moved <= (1 << SENSITIVITY_BITS) + 2
    assert moved * coarsening >= exact
    assert coarsening & (coarsening - 1) == 0
