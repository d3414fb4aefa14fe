"""From rows to tables: what the check says of each row, in every kind and type, and which rows have a record."""

from __future__ import annotations

import os
from contextlib import ExitStack
from datetime import date

import pytest

from enclave_runner.contract.check import Check, CheckKind
from enclave_runner.contract.dataset import Column, ColumnType, KeyKind
from enclave_runner.contract.protocols.canonical import claim_digest, keyword
from enclave_runner.contract.protocols.cell import CANNOT_SAY, LEVEL, NO, YES
from enclave_runner.contract.scoring import Feature, Scorecard, ScoreCheck, Term
from enclave_runner.kinds.tasks import Declined
from enclave_runner.private import plain, tabulate
from enclave_runner.private.plain import PlainTable
from enclave_runner.private.tasks import KEYWORD_BYTES, Tabulating
from tests.support.private_tables import (
    HIDDEN,
    KEY,
    Tables,
    check_of,
    column_of,
    content,
    memory,
    subject_of,
    tables_of,
)
from tests.support.worker_files import stored

INTEGER, TEXT, DATE, BOOLEAN = (
    column_of(kind) for kind in (ColumnType.INTEGER, ColumnType.TEXT, ColumnType.DATE, ColumnType.BOOLEAN)
)
DECIMAL = column_of(ColumnType.DECIMAL, scale=2)


def records(tables: Tables) -> dict[bytes, int]:
    """The keyword records: label codes by keyword."""
    raw = content(tables.records)
    assert len(raw) == tables.tabulated.records * KEYWORD_BYTES
    parts = [raw[start : start + KEYWORD_BYTES] for start in range(0, len(raw), KEYWORD_BYTES)]
    return {part[:32]: int.from_bytes(part[32:], "little") for part in parts}


@pytest.mark.parametrize(
    ("check", "column", "row", "claim", "code"),
    [
        (check_of(CheckKind.EQUALS), TEXT, "已婚", "已婚", YES),
        (check_of(CheckKind.EQUALS), DATE, date(2024, 2, 29), "2024-02-29", YES),
        (check_of(CheckKind.EQUALS), DATE, date(1960, 2, 29), "1960-02-29", YES),
        (check_of(CheckKind.EQUALS), BOOLEAN, True, "true", YES),
        (check_of(CheckKind.EQUALS), BOOLEAN, False, "true", NO),
        (check_of(CheckKind.EQUALS), DECIMAL, 150, "1.5", YES),
        (check_of(CheckKind.AT_LEAST), DECIMAL, 150, "1.51", NO),
        (check_of(CheckKind.AT_LEAST), DATE, date(2024, 2, 29), "2024-03-01", NO),
        (check_of(CheckKind.AT_LEAST), INTEGER, 0, "0", YES),
        (check_of(CheckKind.MEMBER, members=("A1", "B2")), TEXT, "B2", "", YES),
        (check_of(CheckKind.MEMBER, members=("A1", "B2")), TEXT, "b2", "", NO),
        (check_of(CheckKind.MEMBER, members=("1.5", "-2")), DECIMAL, -200, "", YES),
        (check_of(CheckKind.MEMBER, members=("2024-02-29",)), DATE, date(2024, 2, 29), "", YES),
        (check_of(CheckKind.MEMBER, members=("true",)), BOOLEAN, False, "", NO),
        (check_of(CheckKind.LEVEL, edges=(100, 200)), DECIMAL, 199, "", LEVEL + 1),
        (check_of(CheckKind.LEVEL, edges=tuple(range(250))), INTEGER, 1000, "", LEVEL + 250),
        (check_of(CheckKind.EXISTS), TEXT, "", "", YES),
        (check_of(CheckKind.EXISTS), TEXT, None, "", NO),
        (check_of(CheckKind.EXISTS, says_unknown=True), TEXT, None, "", CANNOT_SAY),
    ],
)  # fmt: skip
def test_every_kind_and_type(check: Check, column: Column, row: object, claim: str, code: int) -> None:
    subject = subject_of(check, column)
    with tables_of(subject, [("a", row), ("b", None)]) as tables:
        cell = PlainTable(tables.plain, subject).find("a")
        assert plain.judge(check, column, cell, plain.read_claim(check, claim, column), is_stale=False) == code


def test_an_equality_has_a_record_for_each_known_value() -> None:
    rows = [("a", 150), ("b", None), ("c", 7)]
    with tables_of(subject_of(check_of(CheckKind.EQUALS, HIDDEN), DECIMAL), rows) as tables:
        expected = {keyword("a", claim_digest("150")): YES, keyword("c", claim_digest("7")): YES}
        assert records(tables) == expected
        assert tables.tabulated.rows == 3


@pytest.mark.parametrize(
    ("fields", "rows", "expected"),
    [
        ({"kind": CheckKind.EXISTS}, [("a", 1), ("b", None)], {"a": YES}),
        ({"kind": CheckKind.EXISTS, "says_unknown": True}, [("a", 1), ("b", None)], {"a": YES}),
        ({"kind": CheckKind.MEMBER, "members": ("1",)}, [("a", 1), ("b", 2), ("c", None)], {"a": YES}),
        (
            {"kind": CheckKind.MEMBER, "members": ("1",), "says_unknown": True},
            [("a", 1), ("b", 2), ("c", None)],
            {"a": YES, "b": NO},
        ),
        ({"kind": CheckKind.LEVEL, "edges": (2,)}, [("a", 1), ("b", 2), ("c", None)], {"b": LEVEL + 1}),
        (
            {"kind": CheckKind.LEVEL, "edges": (2,), "says_unknown": True},
            [("a", 1), ("b", 2), ("c", None)],
            {"a": LEVEL, "b": LEVEL + 1},
        ),
    ],
)
def test_who_is_answered_like_nobody_has_no_record(
    fields: dict[str, object], rows: list[tuple[object, ...]], expected: dict[str, int]
) -> None:
    """Otherwise presence in the table would tell on record from not on record, where the check does not."""
    check = check_of(modes=HIDDEN, **fields)  # type: ignore[arg-type]
    with tables_of(subject_of(check, INTEGER), rows) as tables:
        assert records(tables) == {keyword(subject): code for subject, code in expected.items()}


def test_a_second_run_gives_the_same_bytes_in_an_order_of_its_secrets() -> None:
    """A build that was killed goes on where it was; and the order of the rows of the source is in neither file."""
    rows = [(f"id{number}", number) for number in range(200)]
    check = check_of(CheckKind.EXISTS, HIDDEN)
    made = []
    for order, secret in ((rows, bytes(32)), (rows[::-1], bytes(32)), (rows, b"x" * 32)):
        with tables_of(subject_of(check, INTEGER, secret=secret), order) as tables:
            made.append((content(tables.plain), content(tables.records)))
    assert made[0] == made[1]
    assert made[0][1] != made[2][1]
    assert sorted(made[0][1][at : at + 34] for at in range(0, 6800, 34)) == sorted(
        made[2][1][at : at + 34] for at in range(0, 6800, 34)
    )


def test_a_subject_with_two_rows_is_declined_however_it_is_spelled() -> None:
    check = check_of(CheckKind.EXISTS)
    for keys in (("a", "a"), ("11010519491231002X", "11010519491231002x")):
        subject = subject_of(check, INTEGER, key_kind=KeyKind.RESIDENT_ID)
        with ExitStack() as owner:
            extract = owner.enter_context(stored((KEY, INTEGER), [(key, 1) for key in keys]))
            table = memory(owner)
            answer = tabulate.run(Tabulating(subject=subject, entity_column="uid"), [extract, table])
            assert answer == Declined(rule="verification.many-rows", facts={})
            assert os.fstat(table).st_size == 0


def test_points_are_of_several_columns_and_without_records() -> None:
    columns = (INTEGER, column_of(ColumnType.BOOLEAN, name="owner"), column_of(ColumnType.DATE, name="since"))
    check = ScoreCheck(
        dataset_id="people",
        model=Scorecard(features=(Feature(name="f", weight=1, low=0, high=1),)),
        terms=(
            Term(column="level", weight=10, low=-5, high=5),
            Term(column="owner", weight=100, low=0, high=1),
            Term(column="since", weight=-2, low=0, high=1000, step=2),
        ),
    )
    rows = [("a", 7, True, date(1970, 1, 11)), ("b", -7, False, None), ("c", None, None, None)]
    subject = subject_of(check, *columns)
    with tables_of(subject, rows) as tables:
        table = PlainTable(tables.plain, subject)
        found = [table.find(name) for name in "abc"]
        assert [cell.value for cell in found if cell is not None] == [50 + 100 - 10, -50, 0]
        assert table.find("d") is None
        assert content(tables.records) == b""


def test_the_attribute_may_be_the_key_itself() -> None:
    subject = subject_of(check_of(CheckKind.EXISTS), KEY)
    with ExitStack() as owner:
        extract = owner.enter_context(stored((KEY,), [("a",)]))
        table = memory(owner)
        tabulate.run(Tabulating(subject=subject, entity_column="uid"), [extract, table])
        cell = PlainTable(table, subject).find("a")
        assert cell is not None
        assert cell.value == YES


def test_a_number_is_not_made_of_a_text() -> None:
    with pytest.raises(TypeError), tables_of(subject_of(check_of(CheckKind.AT_LEAST), TEXT), [("a", "5")]):
        pass
