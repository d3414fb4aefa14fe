"""The whole city: reproducible, scalable, skewed, and broken exactly as declared."""

from __future__ import annotations

import csv
import hashlib
import re
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from stdnum.cn import uscc

from enclave_runner.contract.dataset import Column, ColumnType, DatasetSpec, KeyKind
from enclave_runner.contract.errors import Refused
from sandbox.pilot.catalogue import city_datasets
from sandbox.pilot.city import CitySummary, write_city
from sandbox.pilot.codes import CITY
from sandbox.pilot.defects import DEFECTS, KEY, MISSING, Defect
from tests.support.pilot import count_by, has_valid_check, read_table

RESIDENTS = 30_000
SPECS = {dataset.dataset_id: dataset.spec for dataset in city_datasets()}
TABLES = sorted(SPECS)
Columns = dict[str, list[str]]


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> CitySummary:
    return write_city(tmp_path_factory.mktemp("city"), RESIDENTS, seed=11)


@pytest.fixture(scope="module")
def tables(city: CitySummary) -> dict[str, Columns]:
    return {file.table: read_table(file.path) for file in city.files}


def digests(city: CitySummary) -> dict[str, str]:
    return {file.table: hashlib.sha256(file.path.read_bytes()).hexdigest() for file in city.files}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write_city(tmp_path / "a", 14_000, seed=3)
    again = write_city(tmp_path / "b", 14_000, seed=3)
    other = write_city(tmp_path / "c", 14_000, seed=4)
    assert digests(first) == digests(again)
    assert not set(digests(first).values()) & set(digests(other).values())
    assert first.active_enterprise != other.active_enterprise


@pytest.mark.parametrize("residents", [100, 2_000, 8_000])
def test_the_city_scales(tmp_path: Path, residents: int) -> None:
    city = write_city(tmp_path, residents, seed=1)
    assert city.file("residents").rows - city.file("residents").defects["row.duplicate"] == residents
    enterprises = city.file("enterprises")
    assert enterprises.rows - enterprises.defects["row.duplicate"] == max(20, residents // 20)
    households = city.file("households")
    assert residents / 3 < households.rows < residents / 2
    for file in city.files:
        assert sum(file.defects.values()) * 1000 <= SPECS[file.table].max_rejected_permille * file.rows


@pytest.mark.parametrize("residents", [-1, 0, 99, 5_000_001])
def test_impossible_sizes_are_refused_and_write_nothing(tmp_path: Path, residents: int) -> None:
    with pytest.raises(Refused) as refused:
        write_city(tmp_path / "city", residents, seed=1)
    assert refused.value.rule == "pilot.size"
    assert not (tmp_path / "city").exists()


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_impossible_seeds_are_refused(tmp_path: Path, seed: int) -> None:
    with pytest.raises(Refused, match=r"pilot\.seed"):
        write_city(tmp_path / "city", 100, seed)


def test_progress_grows_to_the_end_of_each_stage(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    write_city(tmp_path, 30_000, 1, lambda stage, done, total: told.append((stage, done, total)))
    assert told[0] == ("enterprises", 1500, 1500)
    residents = [step for step in told if step[0] == "residents"]
    assert len(residents) > 1
    assert all(before[1] < after[1] for before, after in pairwise(residents))
    assert residents[-1] == ("residents", 30_000, 30_000)


def test_an_interrupted_city_leaves_no_file(tmp_path: Path) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "residents":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_city(tmp_path, 200, 1, interrupt)
    assert list(tmp_path.iterdir()) == []


def test_only_the_tables_are_in_the_folder(city: CitySummary) -> None:
    folder = city.files[0].path.parent
    assert sorted(path.name for path in folder.iterdir()) == [f"{table}.csv" for table in TABLES]


@pytest.mark.parametrize("table", TABLES)
def test_headers_are_the_catalogues_columns(tables: dict[str, Columns], table: str) -> None:
    assert list(tables[table]) == [column.name for column in SPECS[table].columns]


@pytest.mark.parametrize("table", TABLES)
def test_row_counts_are_those_of_the_files(city: CitySummary, table: str) -> None:
    with city.file(table).path.open(encoding="utf-8", newline="") as file:
        assert sum(1 for _ in csv.reader(file)) - 1 == city.file(table).rows


def key_is_valid(kind: KeyKind, key: str) -> bool:
    if kind is KeyKind.RESIDENT_ID:
        return has_valid_check(key)
    return bool(uscc.is_valid(key)) if kind is KeyKind.CREDIT_CODE else bool(key)


def broken_rule(column: Column, value: str) -> str | None:
    """A second reading of the declared rules, apart from the enclave's."""
    if value == "":
        return None if column.nullable else "row.missing"
    patterns = {
        ColumnType.INTEGER: r"-?\d+",
        ColumnType.DECIMAL: rf"\d+\.\d{{{column.scale}}}",
        ColumnType.BOOLEAN: "true|false",
        ColumnType.DATE: r"\d{4}-\d\d-\d\d",
        ColumnType.TEXT: r"[^,\"\n]+",
    }
    if re.fullmatch(patterns[column.type], value) is None or value == "2025-02-30":
        return "row.type"
    if column.bounds and not column.bounds[0] <= round(float(value) * 10**column.scale) <= column.bounds[1]:
        return "row.bounds"
    return "row.domain" if column.domain and value not in column.domain else None


def rejected(spec: DatasetSpec, columns: Columns) -> dict[str, int]:
    """Rows per broken rule; a row with two defects would count twice."""
    broken = [rule for column in spec.columns for value in columns[column.name] if (rule := broken_rule(column, value))]
    keys = columns[spec.entity_column]
    counts = count_by([*broken, *("row.key" for key in keys if key and not key_is_valid(spec.key_kind, key))])
    if spec.unique:
        counts["row.duplicate"] = len(keys) - len(set(keys))
    return counts


@pytest.mark.parametrize("table", TABLES)
def test_the_defects_are_those_that_were_counted(city: CitySummary, tables: dict[str, Columns], table: str) -> None:
    counted = {rule: count for rule, count in city.file(table).defects.items() if count}
    assert rejected(SPECS[table], tables[table]) == counted


@pytest.mark.parametrize("table", TABLES)
def test_the_defects_come_at_the_declared_rates(city: CitySummary, table: str) -> None:
    rows = city.file(table).rows
    for defect in DEFECTS[table]:
        # At most one row per chunk is lost to rounding; a 30 000 residents' city has three chunks.
        assert city.file(table).defects[defect.rule] == pytest.approx(rows * defect.permille / 1000, rel=0.02, abs=3)
        assert city.file(table).defects[defect.rule] > 0


@pytest.mark.parametrize("table", TABLES)
def test_missing_values_come_at_the_declared_rates(tables: dict[str, Columns], table: str) -> None:
    for column, permille in MISSING[table].items():
        values = tables[table][column]
        expected = len(values) * permille / 1000
        assert values.count("") == pytest.approx(expected, abs=5 * expected**0.5 + 1)


@pytest.mark.parametrize("table", TABLES)
def test_no_entity_exceeds_the_declared_rows(tables: dict[str, Columns], table: str) -> None:
    spec = SPECS[table]
    keys = [key for key in tables[table][spec.entity_column] if key_is_valid(spec.key_kind, key)]
    allowed = (spec.rows_per_entity or 0) + spec.unique  # a duplicate is the one row too many
    assert max(count_by(keys).values()) <= allowed


@pytest.mark.parametrize("table", TABLES)
def test_every_entity_of_an_event_table_is_known(tables: dict[str, Columns], table: str) -> None:
    spec = SPECS[table]
    column = spec.entity_column
    home = {"resident": "residents", "household": "households", "enterprise": "enterprises"}[spec.entity_set]
    keys = {key for key in tables[table][column] if key_is_valid(spec.key_kind, key)}
    strangers = keys - set(tables[home][column])
    # Those whose own row carries the wrong check character are strangers too.
    assert len(strangers) <= len([key for key in tables[home][column] if not key_is_valid(spec.key_kind, key)])


def test_every_code_lies_in_the_city_that_does_not_exist(tables: dict[str, Columns]) -> None:
    assert all(key.startswith(CITY) for key in tables["residents"]["resident_id"])
    assert all(key[2:].startswith(CITY) for key in tables["enterprises"]["enterprise_id"])
    assert all(key[2:].startswith(CITY) for key in tables["social_insurance"]["employer_id"])


def test_a_few_enterprises_are_very_large(tables: dict[str, Columns]) -> None:
    staff = np.sort([int(value) for value in tables["enterprises"]["employees"] if value])[::-1]
    assert staff[0] > 40 * np.median(staff)
    assert staff[: len(staff) // 100].sum() > 0.1 * staff.sum()
    capital = np.sort([int(value) for value in tables["enterprises"]["registered_capital_fen"]])[::-1]
    assert capital[: len(capital) // 100].sum() > 0.25 * capital.sum()


def test_events_are_unequally_spread(tables: dict[str, Columns]) -> None:
    events = sorted(count_by(tables["credit_events"]["enterprise_id"]).values(), reverse=True)
    enterprises = len(tables["enterprises"]["enterprise_id"])
    assert len(events) < 0.7 * enterprises
    assert sum(events[: enterprises // 10]) > 0.4 * sum(events)


def test_districts_are_unequal(tables: dict[str, Columns]) -> None:
    for table in ("residents", "enterprises"):
        counts = count_by(tables[table]["district"])
        assert len(counts) == 8
        assert max(counts.values()) > 4 * min(counts.values())


def test_the_named_entities_stand_in_the_files(city: CitySummary, tables: dict[str, Columns]) -> None:
    enterprises = dict(zip(tables["enterprises"]["enterprise_id"], tables["enterprises"]["status"], strict=True))
    assert enterprises[city.active_enterprise] == "active"
    assert enterprises[city.revoked_enterprise] == "revoked"
    residents = dict(zip(tables["residents"]["resident_id"], tables["residents"]["has_social_insurance"], strict=True))
    assert residents[city.insured_resident] == "true"
    assert residents[city.uninsured_resident] == "false"
    paying = set(tables["social_insurance"]["resident_id"])
    assert city.insured_resident in paying
    assert city.uninsured_resident not in paying


@pytest.mark.parametrize("seed", range(8))
def test_even_the_smallest_city_has_the_named_entities(tmp_path: Path, seed: int) -> None:
    city = write_city(tmp_path, 100, seed)
    residents = read_table(city.file("residents").path)["resident_id"]
    enterprises = read_table(city.file("enterprises").path)["enterprise_id"]
    assert {city.insured_resident, city.uninsured_resident} <= set(residents)
    assert {city.active_enterprise, city.revoked_enterprise} <= set(enterprises)
    assert city.insured_resident in read_table(city.file("social_insurance").path)["resident_id"]


def test_the_named_entities_are_spared_even_where_every_other_row_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for table in ("residents", "enterprises", "social_insurance"):
        monkeypatch.setitem(cast(dict[str, object], DEFECTS), table, (Defect(KEY, SPECS[table].entity_column, 1000),))
    city = write_city(tmp_path, 500, seed=1)
    for table, named in {
        "residents": {city.insured_resident, city.uninsured_resident},
        "enterprises": {city.active_enterprise, city.revoked_enterprise},
        "social_insurance": {city.insured_resident},
    }.items():
        assert city.file(table).defects[KEY] > 0.6 * city.file(table).rows
        assert named <= set(read_table(city.file(table).path)[SPECS[table].entity_column])


def peak_bytes(folder: Path, residents: int) -> int:
    tracemalloc.start()
    try:
        write_city(folder, residents, seed=1)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_city(tmp_path: Path) -> None:
    assert peak_bytes(tmp_path / "large", 60_000) < 1.2 * peak_bytes(tmp_path / "small", 20_000)
