"""Attempts to lose more than is booked, or to have an answer follow one person beyond the bound.

Each is an attack, or a question that an attack would have answered wrongly; it passes because it is blocked.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any
from unittest.mock import patch

import pytest

from enclave_runner.contract.dataset import ColumnType
from enclave_runner.contract.errors import Refused
from enclave_runner.dp.conversion import epsilon_of
from enclave_runner.dp.mechanism import Mechanism
from enclave_runner.dp.quantile import choose_quantile
from enclave_runner.dp.tail import threshold_for, upper_tail
from enclave_runner.egress import measure
from enclave_runner.egress.measure import noisy_quantile
from enclave_runner.egress.shares import share_out
from enclave_runner.supervisor import run_query
from enclave_runner.supervisor.plan_query import answer_key
from enclave_runner.supervisor.run_query import KEYS_MARGIN
from tests.support.enclave_home import changed, column
from tests.support.exact_crowd import EVENTS, HIDDEN, crowd, holding
from tests.support.exact_enclave import Table, neighbours

# What is booked is what was drawn


class Meter:
    """What was really lost: the rival of what is booked."""

    def __init__(self) -> None:
        self.pico_rho = Fraction(0)
        self.delta = Decimal(0)


@contextmanager
def metered() -> Iterator[Meter]:
    """Books what really happens: each draw by the ρ that its mechanism has, each threshold by its δ."""
    meter = Meter()
    add, drawn = Mechanism.add, [0]

    def adds(self: Mechanism, exact: Sequence[int]) -> list[int]:
        meter.pico_rho += Fraction(self.sensitivity**2) / (2 * Fraction(self.scale) ** 2) * 10**12
        drawn[0] += 1
        return add(self, exact)

    def thresholds(mechanism: Mechanism, keys: int, delta: Decimal, step: int = 1) -> int:
        found = threshold_for(mechanism, keys, delta, step)
        meter.delta += keys * upper_tail(mechanism, found - step)
        return found

    def chooses(*arguments: Any) -> Any:
        meter.pico_rho += arguments[-1].choice_pico_rho  # one choice for all groups together: dp/quantile.py
        drawn[0] += 1
        return noisy_quantile(*arguments)

    with (
        patch.object(Mechanism, "add", adds),
        patch.object(run_query, "threshold_for", thresholds),
        patch.object(measure, "noisy_quantile", chooses),
    ):
        yield meter
    assert drawn[0]


METERED = (
    "COUNT(*) AS n FROM events",
    "grp, COUNT(*) AS n, SUM(x) AS s, AVG(y) AS a, MEDIAN(x) AS m, MAX(y) AS h, COUNT(DISTINCT who) AS u "
    "FROM events GROUP BY grp",
    "COUNT(DISTINCT grp) AS v, MIN(x) AS m FROM events",
    "shop, COUNT(*) AS n, SUM(x) AS s FROM events GROUP BY shop",
    "shop, COUNT(DISTINCT who) AS u FROM events GROUP BY shop HAVING COUNT(*) > 3 ORDER BY u LIMIT 2",
)
OPTIONS = ("noise='gaussian'", "noise='laplace'", "noise='auto'", "clip_correction=true", "bounds='catalogue'",
           "max_rows_contributed=2", "max_groups_contributed=2", "epsilon=0.3")  # fmt: skip


@pytest.mark.parametrize("rest", METERED)
@pytest.mark.parametrize("option", OPTIONS)
def test_nothing_is_drawn_that_is_not_booked(rest: str, option: str) -> None:
    with holding(crowd()) as enclave:
        query = enclave.plan(f"SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS({option}) {rest}", "2")
        with metered() as meter:
            answered = enclave.answer(query)
    assert meter.pico_rho <= query.reserved + 1
    assert meter.delta <= Decimal(query.losses[0].atto_delta).scaleb(-18)
    assert answered.spent is None
    assert answered.table.loss == query.losses[0]


WORKLOADS = (
    "SELECT COUNT(*) AS n FROM events; SELECT grp, COUNT(*) AS n FROM events GROUP BY grp",
    "SELECT COUNT(*) AS n FROM events; SELECT COUNT(*) AS n FROM events",
    "SELECT COUNT(*) AS n FROM events; SELECT COUNT(DISTINCT who) AS u FROM events; SELECT MEDIAN(x) AS m FROM events",
    "SELECT COUNT(*) AS n FROM events WHERE x > 1; SELECT COUNT(*) AS n FROM events WHERE x > 2",
    "SELECT grp, COUNT(*) AS n FROM events GROUP BY CUBE (grp)",
)


@pytest.mark.parametrize("sql", WORKLOADS)
@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
def test_a_workload_draws_no_more_than_one_budget(sql: str, noise: str) -> None:
    """One statistic a statement: each is one vector, so that each draw is one loss."""
    told = sql.replace("SELECT", f"SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(noise='{noise}')")
    with holding(crowd()) as enclave, metered() as meter:
        workload, found = enclave.tables(told, "2")
    (loss,) = workload.losses
    assert meter.pico_rho <= loss.pico_rho + 1
    assert epsilon_of(loss.pico_rho, 1e-6) <= 2.0001 or noise == "laplace"
    assert {table.loss for table in found.tables} == {loss}
    assert all(Decimal(table.epsilon) <= 2 for table in found.tables)


@pytest.mark.parametrize(
    "rest", ["shop, COUNT(*) AS n, COUNT(DISTINCT who) AS u FROM events GROUP BY shop",
             "grp, COUNT(*) AS n, SUM(y) AS s, COUNT(DISTINCT who) AS u FROM events GROUP BY grp",
             "COUNT(DISTINCT grp) AS v, SUM(x) AS s FROM events"])  # fmt: skip
@pytest.mark.parametrize("bounds", ["catalogue", "auto"])
def test_a_unit_lies_in_one_partition_whole(rest: str, bounds: str) -> None:
    """Else its rows would be weighed in each part by itself, and it would count as often as there are parts."""
    with holding([*crowd(), *(("heavy", "a", 9, -9, f"s{at}") for at in range(90))]) as enclave:
        query = enclave.plan(f"SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(bounds='{bounds}') {rest}")
        whole, parts = enclave.exact(query), enclave.exact(replace(query, partitions=5))
    assert (whole.rows, whole.clip) == (parts.rows, parts.clip)


@pytest.mark.parametrize("rest", [METERED[0], METERED[1].replace(", MEDIAN(x) AS m, MAX(y) AS h", "")])
@pytest.mark.parametrize("target", ["0.01", "0.5", "50"])
def test_a_relative_target_books_both_of_its_runs(rest: str, target: str) -> None:
    with holding(crowd()) as enclave:
        query = enclave.plan(f"SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(target_relative_error={target}) {rest}", "2")
        with metered() as meter:
            answered = enclave.answer(query)
    assert answered.spent is not None
    assert meter.pico_rho <= answered.spent[0].pico_rho + 1
    assert answered.spent[0].pico_rho <= query.reserved


def test_a_relative_target_over_open_keys_books_the_delta_of_both_of_its_runs() -> None:
    """The rough run chooses keys as well: what it saw of lone ones decides how much the second may spend."""
    with holding(crowd()) as enclave:
        query = enclave.plan(f"SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(target_relative_error=0.5) {METERED[3]}", "2")
        with metered() as meter:
            answered = enclave.answer(query)
    booked = (answered.spent or query.losses)[0].atto_delta
    assert meter.delta <= Decimal(booked).scaleb(-18)


def test_a_relative_target_that_nothing_shows_to_be_reached_takes_all_that_it_may() -> None:
    """Where no cell stands out of the rough noise the least was taken: an answer thirty times as noisy, unasked."""
    with holding(()) as enclave:
        query = enclave.plan(f"SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(target_relative_error=0.1) {METERED[0]}", "0.5")
        spent = [item.spent[0].pico_rho for item in enclave.answers(query, 12) if item.spent is not None]
    assert sorted(spent)[3] > query.reserved // 2  # a cell of noise alone stands out in one run of twenty


def test_an_absolute_target_never_takes_more_than_the_job_has() -> None:
    with holding(crowd()) as enclave:
        whole = enclave.plan(f"SELECT {METERED[0]}", "2")
        for target in ("50", "200", "1000", "100000"):
            sql = f"SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(target_absolute_error={target}) {METERED[0]}"
            query = enclave.plan(sql, "2")
            assert 0 < query.shares.pico_rho <= whole.shares.pico_rho
            with metered() as meter:
                enclave.answer(query)
            assert meter.pico_rho <= query.shares.pico_rho + 1


def test_the_shares_of_two_portions_are_no_more_than_the_whole() -> None:
    with holding(crowd()) as enclave:
        for noise in ("gaussian", "laplace"):
            query = enclave.plan(f"SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(noise='{noise}') {METERED[1]}", "1.7")
            parts = [share_out(query.plan, query.budget, Fraction(part, 97)) for part in (10, 87)]
            assert sum(part.pico_rho for part in parts) <= query.shares.pico_rho + 2 * len(query.shares.noisy)


# The memory of answers


def test_an_answer_is_given_again_only_to_the_very_same_question() -> None:
    """Whatever can change a released byte is in the key; or two questions would get one answer."""
    asked = (
        "COUNT(*) / SUM(x) AS r, COUNT(*) AS a, SUM(x) AS b FROM events",
        "COUNT(*) / SUM(x) AS r, SUM(x) AS a, COUNT(*) AS b FROM events",
        "grp, COUNT(*) AS a FROM events GROUP BY grp ORDER BY a",
        "grp, COUNT(*) AS a FROM events GROUP BY grp ORDER BY a DESC",
        "grp, COUNT(*) AS a FROM events GROUP BY grp ORDER BY a LIMIT 2",
        "grp, COUNT(*) AS a FROM events GROUP BY grp HAVING COUNT(*) > 1",
        "grp, COUNT(*) AS a FROM events GROUP BY ROLLUP (grp)",
        "COUNT(*) AS a FROM events GROUP BY grp",
        "grp, COUNT(*) AS b FROM events GROUP BY grp",
        "MEDIAN(x) AS a FROM events",
        "MAX(x) AS a FROM events",
        "COUNT(*) FILTER (WHERE x > 1) AS a FROM events",
        "COUNT(*) AS a FROM events WHERE x > 1",
        "shop, COUNT(*) AS a FROM events GROUP BY shop",
        "shop, COUNT(*) AS a FROM events WHERE shop IN ('s1') GROUP BY shop",
    )
    with holding(crowd(20)) as enclave:
        queries = [enclave.plan(f"SELECT {rest}") for rest in asked]
        queries += [
            enclave.plan(f"SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS({option}) {METERED[1]}") for option in OPTIONS
        ]
        queries += [enclave.plan(f"SELECT {asked[2]}", "2"), enclave.plan(f"SELECT {asked[2]}", "1", "1e-7")]
        newer = replace(queries[2], held=tuple(replace(version, version="v2") for version in queries[2].held))
        keys = [answer_key(query, "pack") for query in [*queries, newer]] + [answer_key(queries[2], "other pack")]
    doubles = [key for key, count in Counter(keys).items() if count > 1]
    assert not doubles


def test_the_same_question_in_other_words_is_the_same_question() -> None:
    pairs = (
        ("SELECT COUNT(*) AS n FROM events WHERE x > 1", "select count ( * ) as n from events as e where (e.x > 1)"),
        ("SELECT COUNT(*) AS n FROM events", "WITH e AS (SELECT * FROM events) SELECT COUNT(*) AS n FROM e"),
    )
    with holding(crowd(20)) as enclave:
        for pair in pairs:
            first, second = (answer_key(enclave.plan(sql), "pack") for sql in pair)
            assert first == second


# No unnoised bit of one person


def test_the_failure_of_too_many_keys_is_as_rare_as_a_threshold() -> None:
    """A worker stops at a fixed number of keys. That it was let in with more than that is a δ that nobody books."""
    with holding(crowd(5)) as enclave:
        for noise in ("gaussian", "laplace"):
            query = enclave.plan(f"SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(noise='{noise}') {METERED[3]}", "1")
            assert query.shares.counting is not None
            made = query.shares.counting.mechanism(query.plan.open_groups)
            margin = math.floor(KEYS_MARGIN * math.sqrt(made.variance))
            assert upper_tail(made, margin) <= Decimal("1e-12")


@pytest.mark.parametrize("total", [1, 461, 462, 463, 10**6])
def test_a_fine_fraction_is_no_test_of_an_exact_total(total: int) -> None:
    """d·T once had to fit 62 bits, and whoever wrote the fraction chose d."""
    assert 0 <= choose_quantile([0, total], 1, 10**16, 1, 2 * 10**12) <= 1


@pytest.mark.parametrize("share", ["1e-17", "0.0000000000000000000001"])
def test_what_public_facts_make_impossible_is_refused_before_it_is_paid(share: str) -> None:
    """A quantile so fine that no choice is wide enough failed (dp.scale) after its loss was reserved."""
    with holding(crowd(3), unique=True, rows_per_entity=1) as enclave, pytest.raises(Refused):
        enclave.plan(f"SELECT QUANTILE_CONT(x, {share}) AS q FROM events")


BIG = 10**15
WIDE = (column("who", ColumnType.TEXT), *(column(f"x{at}", ColumnType.INTEGER, bounds=(-BIG, BIG)) for at in range(8)))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
def test_the_norm_of_a_row_never_overflows(noise: str, sign: int) -> None:
    """Eight sums of nearly 2^62 each: refused by what is public, or answered; never a fault that one row decides."""
    sums = ", ".join(f"SUM(x{at} * 4600) AS s{at}" for at in range(8))
    sql = f"SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(noise='{noise}') {sums} FROM wide"
    wide = changed(EVENTS, dataset_id="wide", columns=WIDE)
    outcomes = []
    with neighbours("u1", Table(wide, (("u1", *(sign * BIG,) * 8), ("u2", *(0,) * 8)), HIDDEN)) as both:
        for enclave in both:
            try:
                outcomes.append(f"{len(enclave.run(sql).rows)} row")
            except Exception as error:
                outcomes.append(f"{type(error).__name__} {getattr(error, 'rule', '')}")
    assert outcomes[0] == outcomes[1]
    assert outcomes[0] in ("1 row", "Refused sql.overflow")
