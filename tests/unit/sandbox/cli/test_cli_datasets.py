from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
import typer
from rich.console import Console

from enclave_runner.contract.wire import FileFormat
from sandbox.cli.census import CATALOGUE as CENSUS_CATALOGUE
from sandbox.cli.datasets import _bounds_text, _progress, format_of, read_catalogue
from sandbox.cli.session import Session
from tests.support.refusals import failed_at, refused_by
from tests.support.staff import CATALOGUE


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", FileFormat.CSV),
        (b"PA", FileFormat.CSV),
        (b"PAR2,x\n", FileFormat.CSV),
        (b"a,PAR1\n", FileFormat.CSV),
        (b"\x1f\x8b\x08", FileFormat.CSV),
        (b"PAR1", FileFormat.PARQUET),
        (b"PAR1 and so on", FileFormat.PARQUET),
    ],
)
def test_a_format_is_known_by_its_first_bytes_and_not_moved(
    tmp_path: Path, content: bytes, expected: FileFormat
) -> None:
    (tmp_path / "file").write_bytes(content)
    with (tmp_path / "file").open("rb") as file:
        assert format_of(file.fileno()) is expected
        assert file.tell() == 0


def test_the_shipped_entry_is_one() -> None:
    entry = read_catalogue(CENSUS_CATALOGUE)
    assert entry.dataset_id == "adult"
    assert entry.spec.column("age") is not None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("title =", "titel =", "titel"),
        ("[spec]", "[[spec]]", "spec"),
        ('entity_set = "resident"', 'entity_set = "Resident!"', "entity set"),
        ('entity_set = "resident"', 'entity_set = "resident"\nsalt = 1', "salt"),
        ('type = "integer"', 'type = "float"', "float"),
        ("unique = true", 'unique = "yes"', "unique"),
        ("rows_per_entity = 1", "rows_per_entity = 2", "rows_per_entity 1"),
        ('withheld = "《中华人民共和国个人信息保护法》第二十八条"', 'withheld = " "', "legal basis"),
    ],
)
def test_what_is_wrong_with_an_entry_is_said(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in CATALOGUE
    (tmp_path / "entry.toml").write_text(CATALOGUE.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(typer.BadParameter) as wrong:
        read_catalogue(tmp_path / "entry.toml")
    assert said in str(wrong.value)
    assert str(tmp_path) not in str(wrong.value)


def test_bounds_of_dates_are_written_as_dates(tmp_path: Path) -> None:
    days = """
[[spec.columns]]
name = "since"
title = "入职日期"
type = "date"
bounds = [2020-01-01, 2020-12-31]
"""
    (tmp_path / "entry.toml").write_text(CATALOGUE + days, encoding="utf-8")
    column = read_catalogue(tmp_path / "entry.toml").spec.column("since")
    assert column is not None
    assert column.bounds == (18_262, 18_627)
    assert _bounds_text(column) == "2020-01-01–2020-12-31"
    (tmp_path / "entry.toml").write_text(CATALOGUE + days.replace("2020-01-01", "3"), encoding="utf-8")
    with pytest.raises(typer.BadParameter):
        read_catalogue(tmp_path / "entry.toml")


def test_rules_of_the_catalogue_refuse_by_their_article(tmp_path: Path) -> None:
    text = CATALOGUE.replace('sharing = "conditional"', 'sharing = "none"')
    (tmp_path / "entry.toml").write_text(text, encoding="utf-8")
    with refused_by("dataset.no-basis", dataset="staff"):
        read_catalogue(tmp_path / "entry.toml")


def test_an_entry_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing.toml"):
        with failed_at("file.unreadable"):
            read_catalogue(path)


@pytest.mark.parametrize("as_json", [True, False])
def test_progress_is_for_terminals_and_never_moves_the_file(tmp_path: Path, as_json: bool) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1000)
    out = io.StringIO()
    session = Session(as_json=as_json, console=Console(file=out, force_terminal=True, width=80))
    with (tmp_path / "file").open("rb", buffering=0) as file, _progress(session, file.fileno(), "staff"):
        file.read(500)
        time.sleep(0.3)
        assert file.tell() == 500
    assert ("staff" in out.getvalue()) == (not as_json)
