"""Bad files at the command line: a refusal with rule and article, and a deployment that is exactly what it was."""

from __future__ import annotations

import gzip

import pytest

from tests.support.command_line import CANARY
from tests.support.deployment import OPERATOR
from tests.support.desk import DEPARTMENT, ENTRY, Desk, Refusal
from tests.support.staff import HEADER, staff_csv, staff_row

BAD_FILES: dict[str, tuple[str | bytes, Refusal]] = {
    "rows of other lengths": (staff_csv(20) + f"{CANARY},north\n" * 5, (3, "import.rejected", "15")),
    "an open quote": (staff_csv(20) + f'"{CANARY},north,1,1,x,true\n' + staff_row(21), (3, "import.format", "-")),
    "text for a number": (staff_csv(20) + staff_row(20, pay=CANARY), (3, "import.rejected", "15")),
    "text for a truth value": (staff_csv(20) + staff_row(20, active=CANARY), (3, "import.rejected", "15")),
    "a number out of bounds": (staff_csv(20) + staff_row(20, pay="100000.01"), (3, "import.rejected", "15")),
    "NaN": (staff_csv(20) + staff_row(20, pay="NaN"), (3, "import.rejected", "15")),
    "a value of no domain": (staff_csv(20) + staff_row(20, district=CANARY), (3, "import.rejected", "15")),
    "duplicate keys": (staff_csv(20) + staff_row(7), (3, "import.rejected", "15")),
    "a missing key": (staff_csv(20) + staff_row(20, staff_id=""), (3, "import.rejected", "15")),
    "an unknown column": (staff_csv(5).replace("hours", CANARY, 1), (3, "import.header", "-")),
    "a column twice": (staff_csv(5).replace("hours", "pay", 1), (3, "import.header", "-")),
    "a column too few": (staff_csv(5).replace(",active", "", 1), (3, "import.header", "-")),
    "no header": (staff_csv(5).removeprefix(HEADER + "\n"), (3, "import.header", "-")),
    "nothing": ("", (3, "import.header", "-")),
    "a header alone": (HEADER + "\n", (3, "import.empty", "15")),
    "half a gzip file": (gzip.compress(staff_csv().encode())[:300], (3, "import.format", "-")),
    "no gzip file": (b"\x1f\x8b" + CANARY.encode(), (3, "import.format", "-")),
    "no Parquet file": (b"PAR1" + CANARY.encode() + b"PAR1", (3, "import.format", "-")),
    "bytes that are no text": (HEADER.encode() + b"\n\xff\xfe\x00\xff,north\n", (3, "import.rejected", "15")),
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_a_bad_file_is_refused_whole(desk: Desk, what: str) -> None:
    content, refusal = BAD_FILES[what]
    line = ("dataset", "import", desk.file("bad", content), "--catalogue", str(desk.folder / "staff.toml"))
    assert desk.ask_in_vain(*line).rule == refusal


def test_a_refused_import_names_row_and_rule(desk: Desk) -> None:
    bad = desk.file("bad.csv", staff_csv(20) + staff_row(20, pay=CANARY))
    answer = desk.ask_in_vain("dataset", "import", bad, "--catalogue", str(desk.folder / "staff.toml"))
    reason = answer.document["refused"]["reason"]
    assert "21" in reason
    assert "pay" in reason
    assert "row.type" in reason


@pytest.mark.parametrize("file", ["nothing.csv", "."])
def test_a_file_that_cannot_be_read(desk: Desk, file: str) -> None:
    entry = str(desk.folder / "staff.toml")
    assert desk.ask_in_vain("dataset", "import", str(desk.folder / file), "--catalogue", entry).fault == (
        4,
        "file.unreadable",
    )
    assert desk.ask_in_vain(
        "dataset", "import", str(desk.folder / "staff.csv"), "--catalogue", str(desk.folder / file)
    ).fault == (4, "file.unreadable")


@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        ("[spec", "[spec]", "bad-staff.toml"),
        ('mood = "good"\ntitle =', "title =", "mood"),
        ('mood = "good"\ndataset_id =', "dataset_id =", "mood"),
        ('form = "cube"', 'form = "table"', "cube"),
        ("bounds = [9, 0]", "bounds = [0, 10000000]", "bounds"),
        ("population_cap = -1", "population_cap = 10000", "population cap"),
        ('grade = "high"', "grade = 3", "grade"),
        ("", 'category = "人力资源"\n', "category"),
    ],
)
def test_a_malformed_catalogue_entry_is_told_what_is_wrong(desk: Desk, wrong: str, right: str, said: str) -> None:
    entry = desk.file("bad-staff.toml", ENTRY.replace(right, wrong, 1))
    answer = desk.ask_in_vain("dataset", "import", str(desk.folder / "staff.csv"), "--catalogue", entry)
    assert said in answer.usage


def test_a_catalogue_entry_in_another_encoding(desk: Desk) -> None:
    entry = desk.file("gbk.toml", ENTRY.encode("gb18030"))
    answer = desk.ask_in_vain("dataset", "import", str(desk.folder / "staff.csv"), "--catalogue", entry)
    assert "gbk.toml" in answer.usage


@pytest.mark.parametrize(
    ("wrong", "right", "actor", "refusal"),
    [
        ("op-credit", DEPARTMENT, "bureau", (3, "dataset.department", "17")),
        ("nobody", DEPARTMENT, "bureau", (3, "dataset.department", "17")),
        ("dept-housing", DEPARTMENT, "bureau", (3, "dataset.department", "17")),
        ("dept-housing", DEPARTMENT, "dept-housing", (3, "dataset.department", "17")),
        (DEPARTMENT, DEPARTMENT, "dept-housing", (3, "access.foreign", "28")),
        (DEPARTMENT, DEPARTMENT, OPERATOR, (3, "access.provider-only", "17")),
        ('entity_set = "enterprise"', 'entity_set = "resident"', "bureau", (3, "import.spec-changed", "17")),
        ('key_kind = "resident-id"', 'key_kind = "opaque"', "bureau", (3, "import.spec-changed", "17")),
        ('sharing = "none"', 'sharing = "conditional"', "bureau", (3, "dataset.no-basis", "23")),
        ('category = " "', 'category = "人力资源"', "bureau", (3, "dataset.incomplete", "17")),
    ],
)
def test_an_entry_that_the_rules_refuse(desk: Desk, wrong: str, right: str, actor: str, refusal: Refusal) -> None:
    entry = desk.file("other.toml", ENTRY.replace(right, wrong, 1))
    line = ("dataset", "import", str(desk.folder / "staff.csv"), "--catalogue", entry, "--as", actor)
    assert desk.ask_in_vain(*line).rule == refusal
