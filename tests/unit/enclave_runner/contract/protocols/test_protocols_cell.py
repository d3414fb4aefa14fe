"""Entries: found by their own output alone, in any place of a column, with labels that mean one thing."""

from __future__ import annotations

import os

import pytest

from enclave_runner.contract.check import MAX_EDGES, Check, CheckKind, VerificationMode
from enclave_runner.contract.protocols import cell
from tests.support.refusals import refused_by

OUTPUT, OTHER, VERSION = bytes(range(64)), bytes(64), "0a" * 16
LABEL = cell.label(cell.YES)


def column_with(sealed: bytes, place: int, entries: int = 128) -> bytes:
    noise = os.urandom(cell.ENTRY_BYTES * entries)
    return noise[: place * cell.ENTRY_BYTES] + sealed + noise[(place + 1) * cell.ENTRY_BYTES :]


@pytest.mark.parametrize("place", [0, 1, 64, 127])
@pytest.mark.parametrize("code", [cell.NO, cell.YES, cell.CANNOT_SAY, cell.LEVEL, cell.LEVEL + MAX_EDGES])
def test_a_label_is_found_wherever_it_lies(place: int, code: int) -> None:
    cells = column_with(cell.entry(OUTPUT, VERSION).seal(cell.label(code)), place)
    found = cell.find(cells, OUTPUT, VERSION)
    assert found is not None
    assert cell.code_of(found) == code


def test_it_is_found_by_its_own_output_and_version_alone() -> None:
    cells = column_with(cell.entry(OUTPUT, VERSION).seal(LABEL), 5)
    assert cell.find(cells, OTHER, VERSION) is None
    assert cell.find(cells, OUTPUT, "0b" * 16) is None
    assert cell.find(b"", OUTPUT, VERSION) is None


def test_a_tag_across_two_entries_is_no_match() -> None:
    sealed = cell.entry(OUTPUT, VERSION).seal(LABEL)
    shifted = bytes(8) + sealed + bytes(8)
    assert cell.find(shifted, OUTPUT, VERSION) is None
    assert cell.find(shifted + sealed, OUTPUT, VERSION) == LABEL


@pytest.mark.parametrize("length", [1, 15, 17, 2047])
def test_bytes_that_are_no_whole_entries_are_refused(length: int) -> None:
    with refused_by("verification.answer"):
        cell.find(bytes(length), OUTPUT, VERSION)


def test_a_matching_entry_with_a_spoilt_label_is_an_error_and_never_an_answer() -> None:
    """Six of the label's bytes are zero. The two of the code, and the tag, only the receipt's commitment covers."""
    sealed = cell.entry(OUTPUT, VERSION).seal(LABEL)
    for bit in range(8 * 6):
        spoilt = (int.from_bytes(sealed, "big") ^ (1 << bit)).to_bytes(16, "big")
        with refused_by("verification.answer"):
            cell.find(column_with(spoilt, 3), OUTPUT, VERSION)


def test_an_entry_tells_nothing_of_its_label() -> None:
    """Tag and column are the same whatever the label is, and the label lies under a pad of the output and version."""
    made = cell.entry(OUTPUT, VERSION)
    assert made.seal(LABEL)[:8] == made.seal(cell.label(cell.NO))[:8] == made.tag
    assert made.seal(bytes(8)) == made.tag + made.pad
    assert cell.entry(OUTPUT, "0b" * 16).pad != made.pad != cell.entry(OTHER, VERSION).pad


def test_entries_are_pinned() -> None:
    """Client and enclave may be of different releases: what they derive must not move."""
    made = cell.entry(OUTPUT, VERSION)
    assert (made.tag.hex(), made.pad.hex(), f"{made.word:016x}") == (
        "6b530bf33b067094",
        "f94682d7980a5e29",
        "49bca74bea1aa7f7",
    )


@pytest.mark.parametrize("columns", [1, 2, 3, 11_584, 1 << 20])
def test_columns_are_evenly_chosen(columns: int) -> None:
    last = (1 << 64) - 1
    assert cell.column_of(0, columns) == 0
    assert cell.column_of(last, columns) == columns - 1
    edge = -(-(1 << 64) // columns)  # the first word of column 1
    assert cell.column_of(edge - 1, columns) == 0
    assert columns == 1 or cell.column_of(edge, columns) == 1
    made = cell.entry(OUTPUT, VERSION)
    assert made.column(columns) == cell.column_of(made.word, columns)


@pytest.mark.parametrize("code", [-1, 3, 15, cell.LEVEL + MAX_EDGES + 1, 1 << 64])
def test_there_is_no_label_of_other_codes(code: int) -> None:
    with pytest.raises(ValueError, match="code"):
        cell.label(code)


@pytest.mark.parametrize("label", [b"", bytes(7), bytes(9), bytes([3]) + bytes(7), bytes(7) + b"\1", b"\xff" * 8])
def test_other_bytes_are_no_label(label: bytes) -> None:
    with refused_by("verification.answer"):
        cell.code_of(label)
    if len(label) != cell.LABEL_BYTES:
        with pytest.raises(ValueError, match="label"):
            cell.entry(OUTPUT, VERSION).seal(label)


def test_codes_as_answers_tell_them() -> None:
    codes = (cell.NO, cell.YES, cell.CANNOT_SAY, cell.LEVEL, cell.LEVEL + 250)
    assert [cell.verdict_text(code) for code in codes] == ["no", "yes", "cannot-say", "0", "250"]


def check(kind: CheckKind, says_unknown: bool) -> Check:
    return Check(
        dataset_id="people",
        attribute="x",
        kind=kind,
        modes=(VerificationMode.PLAIN,),
        members=("a",) if kind is CheckKind.MEMBER else (),
        edges=(1, 2) if kind is CheckKind.LEVEL else (),
        says_unknown=says_unknown,
    )


def test_what_is_said_about_nobody_on_record() -> None:
    for kind in CheckKind:
        assert cell.absent_code(check(kind, says_unknown=True)) == cell.CANNOT_SAY
    said = {kind: cell.absent_code(check(kind, says_unknown=False)) for kind in CheckKind}
    assert said.pop(CheckKind.LEVEL) == cell.LEVEL
    assert set(said.values()) == {cell.NO}
