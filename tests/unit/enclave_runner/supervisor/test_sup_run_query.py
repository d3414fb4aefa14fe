"""A query through a real enclave: every aggregate near the truth, clips that are learned, targets, what is arranged.

Intervals are stretched to six standard deviations of the noise: for Gaussian noise one cell is outside with
probability 2e-9, and about a thousand cells are looked at in this module, so that its false-alarm rate is below 1e-5.
Laplace noise is held to its own 1e-9 tail.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

import pytest

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.privacy import Budget
from enclave_runner.contract.receipt import DPTable
from enclave_runner.dp.conversion import pico_rho_of
from enclave_runner.kinds.tasks import Finished, Vectors
from enclave_runner.supervisor import run_query
from enclave_runner.supervisor.enclave import Enclave
from tests.support.query_site import (
    DIVISION_CITY,
    HOME_ROWS,
    KINDS,
    PEOPLE,
    REGION,
    ROWS_OF,
    TRIP_ROWS,
    QuerySite,
    query_site,
)

STRETCH = 6 / 1.96
LAPLACE_STRETCH = math.log(1e9) / math.log(20)
WIDE = "SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(bounds = 'catalogue') "
# No unit has more rows: nothing is clipped, and the exact answer is the plain one.
ALL_ROWS = "SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(bounds = 'catalogue', max_rows_contributed = 40) "
AMOUNTS = {kind: [row[2] for row in TRIP_ROWS if row[1] == kind and row[2] is not None] for kind in KINDS}
COUNTS = Counter(row[1] for row in TRIP_ROWS)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuerySite]:
    with query_site(tmp_path_factory.mktemp("query")) as found:
        yield found


def cells(table: DPTable, keys: int = 1) -> dict[tuple[str | None, ...], list[tuple[float, float]]]:
    """For each key the values with their half widths."""
    return {
        row[:keys]: [
            (float(value or "nan"), float(width or "nan")) for value, width in zip(row[keys:], reach, strict=True)
        ]
        for row, reach in zip(table.rows, table.half_widths, strict=True)
    }


def near(found: tuple[float, float], truth: float, stretch: float = STRETCH) -> bool:
    value, width = found
    return abs(value - truth) <= stretch * width


def test_counts_sums_and_means_are_near_the_truth(site: QuerySite) -> None:
    outputs = "COUNT(*) AS n, COUNT(amount) AS m, SUM(amount) AS s, AVG(amount) AS a"
    table = site.table(f"{ALL_ROWS} kind, {outputs} FROM visits GROUP BY kind", epsilon="20")
    assert table.keys == ("kind",)
    assert [row[0] for row in table.rows] == list(KINDS)
    for (kind,), (n, m, s, a) in cells(table).items():
        amounts = AMOUNTS[str(kind)]
        assert near(n, COUNTS[str(kind)])
        assert near(m, len(amounts))
        assert near(s, sum(amounts))
        assert near(a, statistics.fmean(amounts))
    assert table.noise == "gaussian"
    assert table.clip is not None
    assert not table.clip.learned
    assert table.loss.pico_rho <= pico_rho_of(Budget(epsilon="20", delta="1e-6"))


def test_variances_are_near_the_truth(site: QuerySite) -> None:
    sql = f"{ALL_ROWS} VARIANCE(amount) AS v, STDDEV(amount) AS d FROM visits"
    ((v, d),) = cells(site.table(sql, epsilon="20"), 0).values()
    amounts = [amount for found in AMOUNTS.values() for amount in found]
    assert near(v, statistics.variance(amounts))
    assert near(d, statistics.stdev(amounts))
    assert d[1] < statistics.stdev(amounts)  # the interval says something


@pytest.mark.parametrize("noise", ["gaussian", "laplace", "auto"])
def test_every_noise_keeps_its_budget(site: QuerySite, noise: str) -> None:
    options = f"OPTIONS(noise = '{noise}', bounds = 'catalogue', epsilon = 1.5)"
    table = site.table(f"SELECT WITH DIFFERENTIAL_PRIVACY {options} kind, COUNT(*) AS n FROM visits GROUP BY kind")
    stretch = LAPLACE_STRETCH if table.noise == "laplace" else STRETCH
    assert all(near(n, COUNTS[str(kind)], stretch) for (kind,), (n,) in cells(table).items())
    assert Decimal(table.epsilon) <= Decimal("1.5001")
    assert table.noise == (noise if noise != "auto" else table.noise)


def test_a_filter_and_an_expression_are_of_the_row(site: QuerySite) -> None:
    sql = (
        "SUM(amount * 2 + 1) FILTER (WHERE kind <> 'c') AS s, COUNT_IF(amount > 20) AS n FROM visits WHERE amount < 50"
    )
    ((s, n),) = cells(site.table(f"{WIDE} {sql}"), 0).values()
    kept = [row for row in TRIP_ROWS if row[2] is not None and row[2] < 50]
    assert near(s, sum(row[2] * 2 + 1 for row in kept if row[1] != "c" and row[2] is not None))
    assert near(n, sum(row[2] > 20 for row in kept if row[2] is not None))


def test_units_are_counted_once_each(site: QuerySite) -> None:
    table = site.table("SELECT kind, COUNT(DISTINCT who) AS u FROM visits GROUP BY kind")
    truth = {kind: len({row[0] for row in TRIP_ROWS if row[1] == kind}) for kind in KINDS}
    assert all(near(u, truth[str(kind)]) for (kind,), (u,) in cells(table).items())
    ((u,),) = cells(site.table("SELECT COUNT(DISTINCT who) AS u FROM visits"), 0).values()
    assert near(u, PEOPLE)
    assert u[1] == int(u[1])


def test_values_of_a_public_domain_are_counted(site: QuerySite) -> None:
    ((k, b),) = cells(
        site.table("SELECT COUNT(DISTINCT kind) AS k, COUNT(DISTINCT MONTH(day)) AS b FROM visits", epsilon="8"), 0
    ).values()
    assert near(k, 3)
    assert near(b, 12)


def test_quantiles_are_near_the_truth(site: QuerySite) -> None:
    """The chosen rank is off by more than 5 % of all rows with probability below 1e-9 at this ε."""
    table = site.table("SELECT MEDIAN(amount) AS m, QUANTILE(amount, 0.9) AS q FROM visits", epsilon="20")
    amounts = sorted(amount for found in AMOUNTS.values() for amount in found)
    ((m, q),) = table.rows
    assert amounts[int(0.45 * len(amounts))] <= float(m or 0) <= amounts[int(0.55 * len(amounts))]
    assert amounts[int(0.85 * len(amounts))] <= float(q or 0) <= amounts[int(0.95 * len(amounts))]
    assert table.half_widths == ((None, None),)


def test_a_join_on_the_unit_and_one_to_a_public_table(site: QuerySite) -> None:
    sql = f"{WIDE} region, city, COUNT(*) AS n FROM visits JOIN homes USING (who) "
    table = site.table(sql + "JOIN divisions ON visits.division = divisions.code GROUP BY region, city", epsilon="8")
    truth = Counter((REGION[row[0]], DIVISION_CITY[row[5]]) for row in TRIP_ROWS)
    found = cells(table, 2)
    assert list(found) == [(region, city) for region in "NS" for city in "XY"]
    assert all(near(n, truth[key]) for key, (n,) in found.items())  # type: ignore[index]


def test_rolled_up_groups_add_up(site: QuerySite) -> None:
    sql = f"{WIDE} region, kind, COUNT(*) AS n FROM visits JOIN homes USING (who) GROUP BY ROLLUP (region, kind)"
    found = cells(site.table(sql, epsilon="8"), 2)
    truth = Counter((REGION[row[0]], row[1]) for row in TRIP_ROWS)
    assert len(found) == 6 + 2 + 1
    for (region, kind), (n,) in found.items():
        wanted = sum(count for key, count in truth.items() if region in (None, key[0]) and kind in (None, key[1]))
        assert near(n, wanted)
    whole = found[None, None][0][0]
    assert whole == pytest.approx(sum(n[0][0] for (a, b), n in found.items() if b is not None), abs=0.1)
    assert whole == pytest.approx(sum(n[0][0] for (a, b), n in found.items() if a and b is None), abs=0.1)


def test_open_keys_are_those_of_many_units(site: QuerySite) -> None:
    sql = "SELECT shop, COUNT(DISTINCT who) AS u, COUNT(*) AS n FROM visits GROUP BY shop"
    table = site.table(sql, epsilon="8")
    found = cells(table)
    units = {row[4]: set[str]() for row in TRIP_ROWS}
    for row in TRIP_ROWS:
        units[row[4]].add(row[0])
    assert {shop for (shop,) in found} == set(units) - {"only-mine"}  # one person's shop is never told
    assert table.loss.atto_delta > 0
    assert all(u[0] <= len(units[str(shop)]) + STRETCH * u[1] for (shop,), (u, _) in found.items())
    assert [row[0] for row in table.rows] == sorted(str(row[0]) for row in table.rows)


def test_listed_keys_are_public_and_answered_in_the_order_of_the_list(site: QuerySite) -> None:
    sql = f"{WIDE} shop, COUNT(*) AS n FROM visits WHERE shop IN ('nowhere', 'shop0') GROUP BY shop"
    table = site.table(sql)
    assert [row[0] for row in table.rows] == ["nowhere", "shop0"]
    assert table.loss.atto_delta == 0
    found = cells(table)
    assert near(found["nowhere",][0], 0)
    assert near(found["shop0",][0], sum(row[4] == "shop0" for row in TRIP_ROWS))


def test_a_learned_clip_is_far_below_the_catalogue_s_and_says_what_it_lost(site: QuerySite) -> None:
    table = site.table("SELECT kind, COUNT(*) AS n FROM visits GROUP BY kind", epsilon="4")
    assert table.clip is not None
    assert table.clip.learned
    assert 3 <= int(table.clip.bound) <= 36
    clip = int(table.clip.bound)
    weights = {who: min(1.0, clip / count) for who, count in ROWS_OF.items()}
    truth = {kind: sum(weights[row[0]] for row in TRIP_ROWS if row[1] == kind) for kind in KINDS}
    assert all(near(n, truth[str(kind)]) for (kind,), (n,) in cells(table).items())
    lost = 1 - sum(weights[row[0]] for row in TRIP_ROWS) / len(TRIP_ROWS)
    assert table.clip.lost is not None
    assert abs(float(table.clip.lost) - lost) <= 2 * float(table.clip.lost_half_width or 0)


def test_a_corrected_total_is_nearer_to_all_rows(site: QuerySite) -> None:
    options = "OPTIONS(max_rows_contributed = 2, clip_correction = true)"
    table = site.table(f"SELECT WITH DIFFERENTIAL_PRIVACY {options} COUNT(*) AS n FROM visits", epsilon="8")
    ((n,),) = cells(table, 0).values()
    clipped = sum(min(2, count) for count in ROWS_OF.values())
    assert table.clip is not None
    assert table.clip.corrected
    assert n[0] >= clipped - STRETCH * n[1]


def test_an_absolute_target_is_reached_and_takes_no_more_than_it_needs(site: QuerySite) -> None:
    by_region = "region, COUNT(*) AS n FROM homes GROUP BY region"
    ask = f"SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(target_absolute_error = {{}}) {by_region}"
    losses = []
    for target in (20, 40):
        table = site.table(ask.format(target))
        assert 0.9 * target <= max(float(width or "inf") for (width,) in table.half_widths) <= target
        truth = Counter(region for _, region, _ in HOME_ROWS)
        assert all(near(n, truth[str(region)]) for (region,), (n,) in cells(table).items())
        losses.append(table.loss.pico_rho)
    assert losses[0] / losses[1] == pytest.approx(4, rel=0.2)  # half the error, four times the loss
    assert losses[0] < pico_rho_of(Budget(epsilon="4", delta="1e-6")) / 10


def test_a_relative_target_gives_back_what_it_does_not_need(site: QuerySite) -> None:
    by_region = "region, COUNT(*) AS n FROM homes GROUP BY region"
    ask = f"SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(target_relative_error = 0.2) {by_region}"
    prepared = site.prepare(ask)
    executed = site.run(ask)
    assert executed.spent is not None
    assert isinstance(executed.release, DPTable)
    (spent,), (reserved,) = executed.spent, prepared.losses
    assert executed.release.loss == spent
    assert reserved.pico_rho <= pico_rho_of(Budget(epsilon="4", delta="1e-6"))
    assert spent.pico_rho < reserved.pico_rho / 2
    for (_,), (n,) in cells(executed.release).items():
        assert n[1] <= 0.3 * n[0]


def test_having_order_limit_and_arithmetic_see_noisy_numbers_only(site: QuerySite) -> None:
    sql = "kind, COUNT(*) AS n, SUM(amount) / COUNT(amount) AS r FROM visits GROUP BY kind HAVING COUNT(*) > 10 "
    # The ratio's noise is then a twentieth of its value: 0.3 is six deviations.
    table = site.table(f"{ALL_ROWS} {sql} ORDER BY n DESC, kind LIMIT 2", epsilon="20")
    assert table.keys == ("kind",)
    assert [item.name for item in table.measures] == ["n", "r"]
    assert len(table.rows) == 2
    values = [float(row[1] or 0) for row in table.rows]
    assert values == sorted(values, reverse=True)
    for row in table.rows:
        assert float(row[2] or 0) == pytest.approx(statistics.fmean(AMOUNTS[str(row[0])]), rel=0.3)
    assert site.table(f"{WIDE} kind, COUNT(*) AS n FROM visits GROUP BY kind HAVING COUNT(*) > 1000000").rows == ()


def test_keys_need_not_be_shown(site: QuerySite) -> None:
    table = site.table(f"{WIDE} COUNT(*) AS n FROM visits GROUP BY kind")
    assert (table.keys, len(table.rows)) == ((), 3)


def test_expressions_as_keys_have_the_proven_labels(site: QuerySite) -> None:
    sql = f"{WIDE} DATE_TRUNC('quarter', day) AS q, COUNT(*) AS n FROM visits GROUP BY 1"
    found = cells(site.table(sql, epsilon="8"))
    truth = Counter(row[3].replace(month=(row[3].month + 2) // 3 * 3 - 2, day=1).isoformat() for row in TRIP_ROWS)
    assert list(found) == [(label,) for label in sorted(truth)]
    assert all(near(n, truth[str(label)]) for (label,), (n,) in found.items())


def test_two_runs_draw_different_noise(site: QuerySite) -> None:
    """Forty cells of noise of a deviation above 10 agree by chance with probability below 1e-40."""
    sql = f"{WIDE} age, COUNT(*) AS n FROM homes GROUP BY age"
    assert site.table(sql, epsilon="0.1").rows != site.table(sql, epsilon="0.1").rows


def test_partitions_answer_the_same_question(site: QuerySite) -> None:
    sql = "SELECT shop, COUNT(*) AS n, COUNT(DISTINCT who) AS u FROM visits GROUP BY shop"
    planned = replace(site.prepare(sql, epsilon="20").query, partitions=3)
    table = run_query.answer_query(site.site.enclave, planned).table
    units = {f"shop{n}": len({row[0] for row in TRIP_ROWS if row[4] == f"shop{n}"}) for n in range(6)}
    found = cells(table)
    assert set(found) == {(shop,) for shop in units}
    assert all(u[0] <= units[str(shop)] + STRETCH * u[1] for (shop,), (_, u) in found.items())
    assert all(u[0] >= 0.5 * units[str(shop)] - STRETCH * u[1] for (shop,), (_, u) in found.items())


@pytest.mark.parametrize("answer", [Finished(rows=(0, 3), computed=((), ())), Vectors(vectors=())])
def test_a_worker_that_answers_out_of_turn_fails_the_job(
    site: QuerySite, monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    prepared = site.prepare(f"{WIDE} kind, COUNT(*) AS n FROM visits GROUP BY kind ORDER BY n")
    real = Enclave.work

    def hostile(self: Enclave, task: object, descriptors: list[int], *rest: object) -> object:
        return answer if type(task).__name__ == "Finishing" else real(self, task, descriptors, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Enclave, "work", hostile)
    with pytest.raises(Failed) as caught:
        run_query.answer_query(site.site.enclave, prepared.query)
    assert caught.value.code == "job.answer"
