"""Defects come at their declared rates, one per row at most."""

from __future__ import annotations

import numpy as np
import pytest

from sandbox.pilot.catalogue import city_datasets
from sandbox.pilot.codes import Texts, credit_codes
from sandbox.pilot.defects import BOUNDS, DEFECTS, DUPLICATE, KEY, MISSING, spoil

SPECS = {dataset.dataset_id: dataset.spec for dataset in city_datasets()}


def enterprises(count: int) -> dict[str, Texts]:
    return {
        "enterprise_id": credit_codes(91, np.full(count, 590101), np.arange(count)),
        "registered_capital_fen": np.full(count, "100"),
        "employees": np.full(count, "7"),
    }


def test_counts_are_exact_and_rows_are_disjoint() -> None:
    clean = enterprises(10_000)
    spoiled, counts = spoil(np.random.default_rng(3), "enterprises", clean)
    assert counts == {KEY: 50, DUPLICATE: 20, BOUNDS: 30}
    ids = spoiled["enterprise_id"].tolist()
    negative = [
        key for key, capital in zip(ids, spoiled["registered_capital_fen"].tolist(), strict=True) if capital == "-1"
    ]
    wrong = set(ids) - set(clean["enterprise_id"].tolist())
    assert len(ids) == 10_020
    assert len(negative) == len(set(negative)) == 30
    assert len(wrong) == 50
    assert not wrong & set(negative)


def test_a_repeated_row_follows_its_original() -> None:
    ids = spoil(np.random.default_rng(3), "enterprises", enterprises(1000))[0]["enterprise_id"].tolist()
    repeated = [place for place in range(1, len(ids)) if ids[place] == ids[place - 1]]
    assert len(repeated) == 2
    assert len(set(ids)) == len(ids) - 2


@pytest.mark.parametrize("count", [0, 1, 99, 150, 333])
def test_small_tables_stay_at_or_below_the_declared_rate(count: int) -> None:
    _, counts = spoil(np.random.default_rng(3), "enterprises", enterprises(count))
    assert sum(counts.values()) == count * 10 // 1000


def test_spared_rows_stay_as_they_are() -> None:
    clean = enterprises(400)
    spoiled, counts = spoil(np.random.default_rng(3), "enterprises", clean, spare=400)
    assert sum(counts.values()) == 0
    assert {name: values.tolist() for name, values in spoiled.items()} == {n: v.tolist() for n, v in clean.items()}


def test_missing_values_come_at_their_rate() -> None:
    employees = spoil(np.random.default_rng(3), "enterprises", enterprises(20_000))[0]["employees"].tolist()
    assert employees.count("") / 20_000 == pytest.approx(0.030, abs=0.005)


@pytest.mark.parametrize("table", sorted(DEFECTS))
def test_the_catalogue_allows_the_declared_rates_and_little_more(table: str) -> None:
    declared = sum(defect.permille for defect in DEFECTS[table])
    assert declared < SPECS[table].max_rejected_permille <= 2 * declared


@pytest.mark.parametrize("table", sorted(DEFECTS))
def test_defects_break_what_the_catalogue_declares(table: str) -> None:
    spec = SPECS[table]
    for defect in DEFECTS[table]:
        column = spec.column(defect.column)
        assert column is not None
        if defect.rule == BOUNDS:
            assert column.bounds is not None
            assert defect.value is not None
            assert not column.bounds[0] <= float(defect.value) * 10**column.scale <= column.bounds[1]
        elif defect.rule == DUPLICATE:
            assert spec.unique
            assert defect.column == spec.entity_column
        elif defect.rule == "row.domain":
            assert column.domain is not None
            assert defect.value not in column.domain
        elif defect.rule == "row.missing":
            assert not column.nullable


@pytest.mark.parametrize("table", sorted(MISSING))
def test_missing_values_stand_in_nullable_columns_only(table: str) -> None:
    nullable = {column.name for column in SPECS[table].columns if column.nullable}
    assert set(MISSING[table]) == nullable
