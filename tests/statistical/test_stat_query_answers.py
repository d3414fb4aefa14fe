"""What is told must not be wrong: statements whose answer was once useless, biased, mislabelled or a fault, without any
loss of privacy.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from unittest.mock import patch

import pytest

from enclave_runner.contract.dataset import ColumnType, DatasetSpec, KeyKind
from enclave_runner.contract.privacy import number
from enclave_runner.contract.receipt import DPTable
from enclave_runner.egress import measure
from tests.support.enclave_home import changed, column
from tests.support.exact_crowd import EVENTS, HIDDEN, crowd, holding
from tests.support.exact_enclave import Row, Table, cell, exact_enclave
from tests.support.refusals import refused_by

OPEN_KEYS = "shop, COUNT(*) AS n, SUM(x) AS s FROM events GROUP BY shop"


@pytest.mark.parametrize("high", [10**7, 10**8, 10**10, 10**12])
def test_a_sum_of_large_amounts_can_be_asked(high: int) -> None:
    money = changed(EVENTS, columns=(*EVENTS.columns[:2], column("m", ColumnType.INTEGER, bounds=(0, high))))
    with exact_enclave(Table(money, (("u1", "a", high),), HIDDEN)) as enclave:
        assert len(enclave.run("SELECT SUM(m) AS s, SUM(m / 7) AS t FROM events").rows) == 1


def test_a_filter_of_distinct_units_holds_for_open_keys_too() -> None:
    """The number of units that decides on a key counts them all: a filtered one has no number of its own."""
    with holding(crowd()) as enclave, refused_by("dataset.domain-missing", column="shop"):
        enclave.plan("SELECT shop, COUNT(DISTINCT who) FILTER (WHERE x > 10) AS u FROM events GROUP BY shop")


def test_a_clip_is_learned_from_the_table_that_has_the_rows() -> None:
    people = DatasetSpec(
        dataset_id="people", columns=(EVENTS.columns[0], column("region", ColumnType.TEXT, domain=("x", "y"))),
        entity_set="resident", entity_column="who", key_kind=KeyKind.OPAQUE, population_cap=10_000, unique=True,
        rows_per_entity=1)  # fmt: skip
    rows = crowd()
    tables = Table(EVENTS, tuple(rows), HIDDEN), Table(people, tuple((f"p{at}", "x") for at in range(300)), HIDDEN)
    with exact_enclave(*tables) as enclave:
        for joined in ("events JOIN people", "people JOIN events"):
            table = enclave.run(f"SELECT region, COUNT(*) AS n FROM {joined} USING (who) GROUP BY region", "8")
            assert float(cell(table, 0, 0) or 0) > 0.8 * len(rows)


def corrected(options: str) -> DPTable:
    """Five groups whose values are all 10, five where they are 0; a few people with very many rows in one of them."""
    rows: list[Row] = [(f"u{at}", "abcde"[at % 5], 10, 0, "s") for at in range(2500) for _ in range(4)]
    rows += [(f"v{at}", "fghij"[at % 5], 0, 0, "s") for at in range(2400) for _ in range(4)]
    rows += [(f"w{at}", "a", 10, 0, "s") for at in range(160) for _ in range(200)]
    with holding(rows, rows_per_entity=512) as enclave:
        sql = "grp, SUM(x) AS s, COUNT(*) AS n FROM events GROUP BY grp"
        with patch.object(measure, "choose_clip", lambda *_: 46):
            return enclave.run(f"SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS({options}) {sql}")


@pytest.mark.slow
def test_a_correction_keeps_a_sum_inside_what_its_rows_can_hold() -> None:
    """A centred total may be near 0 at one clip and not at the other: its ratio says nothing of any group's sum."""
    table = corrected("clip_correction=true")
    for at in range(1, 10):
        rows, width = float(cell(table, at, 1) or 0), float(table.half_widths[at][1] or 0)
        assert float(cell(table, at, 0) or 0) <= 10 * (rows + 3 * width)


def test_a_table_says_that_it_was_corrected_only_where_it_was() -> None:
    with holding(crowd()) as enclave:
        table = enclave.run(f"SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(clip_correction=true) {OPEN_KEYS}", "4")
        query = enclave.plan(f"SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(clip_correction=true) {OPEN_KEYS}", "4")
    assert table.clip is not None
    assert not table.clip.corrected and query.shares.correction is None


def test_a_count_beside_a_variance_is_no_worse_than_a_tenth_of_its_accuracy() -> None:
    with holding(crowd()) as enclave:
        alone = enclave.plan("SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(bounds='catalogue') COUNT(*) AS n FROM events")
        beside = enclave.plan(
            "SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(bounds='catalogue') COUNT(*) AS n, VARIANCE(x) AS v FROM events"
        )
        widths = [float(enclave.answer(query).table.half_widths[0][0] or 0) for query in (alone, beside)]
    assert widths[1] < 10 * widths[0]


def test_the_smallest_delta_of_all_can_be_asked_for_open_keys() -> None:
    with holding(crowd()) as enclave:
        table = enclave.run(f"SELECT {OPEN_KEYS}", "4", "1e-15")
    assert number(table.delta) == Decimal("1e-15")


@pytest.mark.parametrize("bounds", [(0, 10**15), (-(10**9), 10**9), (-(10**15), 0)])
def test_bounds_beyond_the_calendar_are_no_bounds_of_dates(bounds: tuple[int, int]) -> None:
    """They once passed, and whoever grouped by the year met a fault."""
    with pytest.raises(ValueError):
        column("d", ColumnType.DATE, bounds=bounds)


@pytest.mark.parametrize("bounds", [(-719_162, -718_000), (2_900_000, 2_932_896)])
def test_the_ends_of_the_calendar_are_bounds_like_any(bounds: tuple[int, int]) -> None:
    dated = changed(EVENTS, columns=(*EVENTS.columns[:1], column("d", ColumnType.DATE, bounds=bounds)))
    with exact_enclave(Table(dated, (("u1", date(1, 1, 1)), ("u2", date(9999, 12, 31))), HIDDEN)) as enclave:
        for key in ("date_trunc('month', d)", "date_trunc('week', d)", "date_trunc('year', d)", "year(d)"):
            table = enclave.exact(enclave.plan(f"SELECT {key} AS k, COUNT(*) AS n FROM events GROUP BY k"))
            assert sum((cell(table, at, 0) or Decimal(0) for at in range(len(table.rows))), Decimal(0)) == 1
