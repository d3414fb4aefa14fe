"""The plain table: found however it is spelled, judged as the check says, and nobody's name in the file."""

from __future__ import annotations

import os
from contextlib import ExitStack
from datetime import date

import numpy as np
import pytest

from enclave_runner.contract.check import CheckKind
from enclave_runner.contract.dataset import ColumnType, KeyKind
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.protocols.canonical import claim_digest
from enclave_runner.contract.protocols.cell import CANNOT_SAY, LEVEL, NO, YES
from enclave_runner.private import plain
from enclave_runner.private.plain import Cell, ManyRowsError, PlainTable
from tests.support.private_tables import SECRET, check_of, column_of, content, memory, subject_of, tables_of

INTEGER, TEXT, DATE, BOOLEAN = (
    column_of(kind) for kind in (ColumnType.INTEGER, ColumnType.TEXT, ColumnType.DATE, ColumnType.BOOLEAN)
)
DECIMAL = column_of(ColumnType.DECIMAL, scale=2)
EQUALS, AT_LEAST, EXISTS = (check_of(kind) for kind in (CheckKind.EQUALS, CheckKind.AT_LEAST, CheckKind.EXISTS))


def test_every_subject_is_found_and_nobody_else() -> None:
    rows = [(f"id{number}", number - 500) for number in range(1000)] + [("empty", None)]
    with tables_of(subject_of(AT_LEAST, INTEGER), rows) as tables:
        table = PlainTable(tables.plain, tables.task.subject)
        assert [table.find(f" id{number} ") for number in range(1000)] == [Cell(number - 500) for number in range(1000)]
        assert table.find("empty") == Cell(None)
        assert [table.find(name) for name in ("", "id1000", "ID1", "id1\0")] == [None] * 4
        assert list(table.find_all(["id7", "nobody", "id7"])) == [Cell(-493), None, Cell(-493)]
        assert tables.tabulated.rows == 1001


def test_the_check_character_of_a_number_is_found_in_either_case() -> None:
    subject = subject_of(AT_LEAST, INTEGER, key_kind=KeyKind.RESIDENT_ID)
    with tables_of(subject, [("11010519491231002X", 7)]) as tables:
        assert PlainTable(tables.plain, subject).find(" 11010519491231002x") == Cell(7)


def test_the_file_names_nobody_and_is_another_under_another_secret() -> None:
    rows = [("11010519491231002X", "single")]
    files = []
    for secret in (SECRET, bytes(32)):
        subject = subject_of(EQUALS, TEXT, secret=secret)
        with tables_of(subject, rows) as tables:
            files.append(content(tables.plain))
    assert not any(word in file for file in files for word in (b"11010519491231002", b"single"))
    assert files[0][plain.HEAD.size :][:16] != files[1][plain.HEAD.size :][:16]


def test_an_empty_table_knows_nobody() -> None:
    with tables_of(subject_of(EQUALS, INTEGER), []) as tables:
        assert PlainTable(tables.plain, tables.task.subject).find("x") is None


@pytest.mark.parametrize("change", [b"", b"x" * 8, b"yunei-1\n" + bytes(16) + b"more"])
def test_another_file_is_no_table(change: bytes) -> None:
    with ExitStack() as owner, pytest.raises(ValueError):
        PlainTable(memory(owner, change), subject_of(EQUALS, INTEGER))


def test_a_table_of_another_width_is_not_read() -> None:
    with tables_of(subject_of(EQUALS, INTEGER), [("a", 1)]) as tables, pytest.raises(ValueError, match="not a plain"):
        PlainTable(tables.plain, subject_of(EXISTS, INTEGER))


def test_digests_that_agree_in_one_word_are_told_apart() -> None:
    """Made by hand: two subjects whose first 64 bits are equal."""
    subject = subject_of(AT_LEAST, INTEGER)
    own = np.frombuffer(plain.digest_of("a", SECRET), "<u8")
    digests = np.array([[own[0], own[1] ^ np.uint64(1)], own, [own[0], own[1] ^ np.uint64(2)]], "<u8")
    with ExitStack() as owner:
        descriptor = memory(owner)
        plain.write(descriptor, digests, np.array([1, 2, 3]), np.ones(3, np.uint8))
        assert PlainTable(descriptor, subject).find("a") == Cell(2)


def test_a_subject_with_two_rows_has_no_table() -> None:
    digests = np.zeros((plain.PIECE_ROWS + 2, 2), "<u8")
    digests[:, 1] = np.arange(len(digests))
    digests[-1] = digests[plain.PIECE_ROWS - 1]  # beside each other only across a piece's edge
    with ExitStack() as owner, pytest.raises(ManyRowsError):
        plain.write(memory(owner), digests, np.zeros(len(digests), np.int64), np.ones(len(digests), np.uint8))


@pytest.mark.parametrize(
    ("column", "value", "claim", "code"),
    [
        (INTEGER, 5, "5", YES), (INTEGER, 5, "+05", YES), (INTEGER, 5, "-5", NO), (INTEGER, -5, "-5", YES),
        (DECIMAL, 150, "1.5", YES), (DECIMAL, 150, "1.50", YES), (DECIMAL, 150, "150", NO),
        (DATE, (date(2026, 11, 25) - date(1970, 1, 1)).days, "2026-11-25", YES), (DATE, 0, "1970-01-02", NO),
        (DATE, -1, "1969-12-31", YES), (BOOLEAN, 1, "true", YES), (BOOLEAN, 1, "false", NO), (BOOLEAN, 0, "false", YES),
        (TEXT, claim_digest("已婚"), "已婚", YES), (TEXT, claim_digest("已婚"), "已婚 ", NO),
    ],
)  # fmt: skip
def test_equality_is_of_values_not_of_spellings(column: object, value: object, claim: str, code: int) -> None:
    read = plain.read_claim(EQUALS, claim, column)  # type: ignore[arg-type]
    assert plain.judge(EQUALS, column, Cell(value), read, is_stale=False) == code  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("column", "claim"),
    [
        (INTEGER, ""), (INTEGER, "1.0"), (INTEGER, "1e3"), (INTEGER, "0x1"), (INTEGER, " 1"), (INTEGER, "٣"),
        (DECIMAL, "1.005"), (DATE, "2026-13-01"), (DATE, "25.11.2026"), (BOOLEAN, "True"), (BOOLEAN, "1"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("check", [EQUALS, AT_LEAST], ids=["equals", "at-least"])
def test_a_malformed_claim_is_refused_whoever_is_asked_about(check: object, column: object, claim: str) -> None:
    with pytest.raises(Refused) as caught:
        plain.read_claim(check, claim, column)  # type: ignore[arg-type]
    assert caught.value.rule == "verification.claim-form"


@pytest.mark.parametrize("says_unknown", [False, True])
@pytest.mark.parametrize("kind", list(CheckKind))
def test_the_unknown_the_empty_and_the_stale_read_alike(kind: CheckKind, says_unknown: bool) -> None:
    fields: dict[str, object] = {"says_unknown": says_unknown}
    if kind is CheckKind.LEVEL:
        fields["edges"] = (1, 2)
    if kind is CheckKind.MEMBER:
        fields["members"] = ("1",)
    check = check_of(kind, **fields)  # type: ignore[arg-type]
    claim = plain.read_claim(check, "1", INTEGER)
    known = Cell(1 if kind is not CheckKind.LEVEL else LEVEL + 1)
    expected = CANNOT_SAY if says_unknown else LEVEL if kind is CheckKind.LEVEL else NO
    for cell, is_stale in ((None, False), (Cell(None), False), (known, True), (None, True)):
        assert plain.judge(check, INTEGER, cell, claim, is_stale) == expected
    assert plain.judge(check, INTEGER, known, claim, is_stale=False) == (LEVEL + 1 if kind is CheckKind.LEVEL else YES)


@pytest.mark.parametrize(("value", "band"), [(-(1 << 62), 0), (1, 0), (2, 1), (3, 1), (4, 2), (1 << 62, 2)])
def test_a_band_begins_at_its_edge(value: int, band: int) -> None:
    assert plain.band_of(value, (2, 4)) == LEVEL + band


def test_the_size_of_a_table_is_known_before_it_is_made() -> None:
    for check, column in ((EQUALS, TEXT), (EQUALS, INTEGER), (EXISTS, TEXT)):
        subject = subject_of(check, column)
        rows = [(f"id{number}", str(number) if column is TEXT else number) for number in range(100)]
        with tables_of(subject, rows) as tables:
            assert os.fstat(tables.plain).st_size == plain.file_bytes(100, plain.value_type(subject))
