"""The pilot city's catalogue is complete and lawful."""

from __future__ import annotations

import re

import pytest

from enclave_runner.contract.dataset import ColumnType, KeyKind
from sandbox.domain.dataset import Dataset
from sandbox.domain.party import Role
from sandbox.pilot.catalogue import city_datasets
from sandbox.pilot.defects import DEFECTS
from sandbox.pilot.parties import city_parties

DATASETS = city_datasets()
KEYS = {"resident": KeyKind.RESIDENT_ID, "household": KeyKind.OPAQUE, "enterprise": KeyKind.CREDIT_CODE}


def test_one_dataset_per_table() -> None:
    assert [dataset.dataset_id for dataset in DATASETS] == sorted(DEFECTS)


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda dataset: dataset.dataset_id)
def test_titles_are_chinese(dataset: Dataset) -> None:
    for title in (dataset.title, dataset.category, *(column.title for column in dataset.spec.columns)):
        assert re.search(r"[\u4e00-\u9fff]", title)


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda dataset: dataset.dataset_id)
def test_the_department_is_a_party(dataset: Dataset) -> None:
    departments = {party.party_id for party in city_parties() if party.role is Role.DEPARTMENT}
    assert dataset.department_id in departments


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda dataset: dataset.dataset_id)
def test_every_table_protects_an_entity_and_bounds_its_rows(dataset: Dataset) -> None:
    spec = dataset.spec
    assert spec.key_kind is KEYS[spec.entity_set]
    assert spec.entity_column == f"{spec.entity_set}_id"
    assert spec.rows_per_entity is not None
    assert spec.unique == (dataset.form.value == "table")


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda dataset: dataset.dataset_id)
def test_every_number_has_bounds(dataset: Dataset) -> None:
    numbers = [c for c in dataset.spec.columns if c.type in (ColumnType.INTEGER, ColumnType.DECIMAL)]
    assert all(column.bounds is not None for column in numbers)


def test_a_sum_over_a_whole_column_fits_64_bits() -> None:
    for dataset in DATASETS:
        spec = dataset.spec
        rows = spec.population_cap * (spec.rows_per_entity or 0)
        largest = max((max(map(abs, column.bounds)) for column in spec.columns if column.bounds), default=0)
        assert rows * largest < 2**63


def test_withheld_columns_are_core_data_with_their_article() -> None:
    withheld = {
        (dataset.dataset_id, column.name): column.withheld or ""
        for dataset in DATASETS
        for column in dataset.spec.columns
        if column.withheld or column.grade == 4
    }
    assert set(withheld) == {("residents", "disability"), ("social_insurance", "work_injury")}
    assert all("《中华人民共和国个人信息保护法》第二十八条" in basis for basis in withheld.values())


def test_grades_from_public_to_core() -> None:
    assert {column.grade for dataset in DATASETS for column in dataset.spec.columns} == {1, 2, 3, 4}
    assert {dataset.grade for dataset in DATASETS} == {2, 3, 4}
