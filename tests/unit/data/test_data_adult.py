"""The Adult file that ships, its catalogue entry, and the tool that makes the file."""

from __future__ import annotations

import csv
import gzip
import io
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest

from enclave_runner.contract.dataset import ColumnType, KeyKind
from sandbox.domain.dataset import Dataset

ROOT = Path(__file__).parents[3]
PACKED = ROOT / "data" / "adult.csv.gz"
TOOL = ROOT / "tools" / "make_adult.py"


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return msgspec.convert(tomllib.loads((ROOT / "data" / "adult.toml").read_text(encoding="utf-8")), Dataset)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(gzip.decompress(PACKED.read_bytes()).decode(), newline="")))


def test_all_rows_are_there(rows: list[dict[str, str]]) -> None:
    assert len(rows) == 32_561


def test_nothing_is_padded_or_marked_unknown(rows: list[dict[str, str]]) -> None:
    values = {value for row in rows for value in row.values()}
    assert not any("?" in value or value != value.strip() for value in values)


def test_known_figures(rows: list[dict[str, str]]) -> None:
    assert sum(row["income"] == ">50K" for row in rows) == 7841
    assert sum(row["sex"] == "Female" for row in rows) == 10_771
    assert [sum(row[name] == "" for row in rows) for name in ("workclass", "occupation", "native_country")] == [
        1836,
        1843,
        583,
    ]


def test_the_file_carries_no_time() -> None:
    assert PACKED.read_bytes()[4:8] == bytes(4)


def test_one_resident_per_row(dataset: Dataset) -> None:
    spec = dataset.spec
    assert (spec.dataset_id, spec.entity_set, spec.entity_column, spec.key_kind) == (
        "adult",
        "census-respondent",
        "resident",
        KeyKind.ROW,
    )
    assert (spec.unique, spec.rows_per_entity, spec.max_rejected_permille) == (True, 1, 0)
    assert dataset.department_id == "dept-statistics"


def test_the_header_is_the_catalogues(dataset: Dataset, rows: list[dict[str, str]]) -> None:
    assert list(rows[0]) == [column.name for column in dataset.spec.columns]


def test_every_value_lies_in_its_declared_domain_or_bounds(dataset: Dataset, rows: list[dict[str, str]]) -> None:
    for column in dataset.spec.columns:
        found = {row[column.name] for row in rows}
        assert ("" in found) == column.nullable, column.name
        if column.type is ColumnType.INTEGER:
            assert column.bounds is not None
            assert all(column.bounds[0] <= int(value) <= column.bounds[1] for value in found - {""}), column.name
        else:
            assert column.domain is not None
            assert found - {""} <= set(column.domain), column.name


def run_tool(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TOOL), str(source), str(target)], capture_output=True, text=True, check=False
    )


def original(rows: list[dict[str, str]]) -> str:
    lines = (", ".join(value or "?" for value in row.values()) for row in rows)
    return "\n".join(lines) + "\n\n"


def test_the_tool_makes_the_same_bytes_from_the_published_form(tmp_path: Path, rows: list[dict[str, str]]) -> None:
    source = tmp_path / "adult.data"
    source.write_text(original(rows), encoding="ascii")
    done = run_tool(source, tmp_path / "adult.csv.gz")
    assert done.returncode == 0, done.stderr
    assert "32561 rows" in done.stdout
    # zlib's output may differ between builds; its content and the header of the file may not.
    made = (tmp_path / "adult.csv.gz").read_bytes()
    assert (gzip.decompress(made), made[:8]) == (gzip.decompress(PACKED.read_bytes()), PACKED.read_bytes()[:8])


def test_the_tool_refuses_a_short_line_and_writes_nothing(tmp_path: Path) -> None:
    source = tmp_path / "adult.data"
    source.write_text("39, State-gov\n", encoding="ascii")
    done = run_tool(source, tmp_path / "adult.csv.gz")
    assert done.returncode != 0
    assert "line 1 has 2 fields" in done.stderr
    assert not (tmp_path / "adult.csv.gz").exists()
