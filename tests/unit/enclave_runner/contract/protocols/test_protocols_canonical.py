"""One spelling of identifiers and values, the same as the raw tables' and as the older verification path's."""

from __future__ import annotations

from datetime import date

import pytest

from enclave_runner.contract.dataset import ColumnType, KeyKind
from enclave_runner.contract.protocols.canonical import (
    claim_digest,
    claim_number,
    claim_text,
    frame,
    keyword,
    subject_text,
)
from enclave_runner.plan.claim import typed_claim
from tests.support.enclave_home import column
from tests.support.refusals import refused_by

INTEGER, DECIMAL, DATE = ColumnType.INTEGER, ColumnType.DECIMAL, ColumnType.DATE


@pytest.mark.parametrize(
    ("typed", "kind", "spelled"),
    [
        (" 11010519491231002x\n", KeyKind.RESIDENT_ID, "11010519491231002X"),
        ("91350100m000100y43", KeyKind.CREDIT_CODE, "91350100M000100Y43"),
        (" case-Matters ", KeyKind.OPAQUE, "case-Matters"),
        ("12 ", KeyKind.ROW, "12"),
    ],
)
def test_identifiers_are_spelled_as_in_the_raw_table(typed: str, kind: KeyKind, spelled: str) -> None:
    assert subject_text(typed, kind) == spelled
    assert subject_text(spelled, kind) == spelled


@pytest.mark.parametrize(
    ("text", "kind", "scale", "spelled", "number"),
    [
        ("6500", INTEGER, 0, "6500", 6500),
        ("+6500", INTEGER, 0, "6500", 6500),
        ("006500", INTEGER, 0, "6500", 6500),
        ("-0", INTEGER, 0, "0", 0),
        ("-5", INTEGER, 0, "-5", -5),
        ("12.5", DECIMAL, 2, "1250", 1250),
        ("12.50", DECIMAL, 2, "1250", 1250),
        ("-0.01", DECIMAL, 2, "-1", -1),
        ("12", DECIMAL, 2, "1200", 1200),
        ("9223372036854.775807", DECIMAL, 6, "9223372036854775807", 2**63 - 1),
        ("1970-01-02", DATE, 0, "1970-01-02", 1),
        ("1969-12-31", DATE, 0, "1969-12-31", -1),
        ("20200229", DATE, 0, "2020-02-29", (date(2020, 2, 29) - date(1970, 1, 1)).days),
        ("0001-01-01", DATE, 0, "0001-01-01", -719162),
        ("9999-12-31", DATE, 0, "9999-12-31", 2932896),
    ],
)
def test_ordered_values(text: str, kind: ColumnType, scale: int, spelled: str, number: int) -> None:
    assert claim_text(text, kind, scale) == spelled
    assert claim_number(text, kind, scale) == number
    assert str(typed_claim(text, column("x", kind, scale=scale))) == spelled


@pytest.mark.parametrize(
    ("text", "kind"),
    [("true", ColumnType.BOOLEAN), ("false", ColumnType.BOOLEAN), ("张三 ", ColumnType.TEXT), ("", ColumnType.TEXT)],
)
def test_other_values_are_as_they_are_and_have_no_order(text: str, kind: ColumnType) -> None:
    assert claim_text(text, kind, 0) == text == typed_claim(text, column("x", kind))
    with refused_by("verification.claim-form", type=kind.value):
        claim_number(text, kind, 0)


@pytest.mark.parametrize(
    ("text", "kind", "scale"),
    [
        ("", INTEGER, 0),
        ("1.5", INTEGER, 0),
        ("1e3", INTEGER, 0),
        ("１２", INTEGER, 0),
        (" 1", INTEGER, 0),
        ("1\n", INTEGER, 0),
        ("9" * 16, INTEGER, 0),
        ("9" * 15, DECIMAL, 6),
        ("9223372036854.775808", DECIMAL, 6),
        ("-9223372036854.775808", DECIMAL, 6),
        ("1.234", DECIMAL, 2),
        ("1.", DECIMAL, 2),
        ("2021-02-29", DATE, 0),
        ("2021-2-9", DATE, 0),
        ("yesterday", DATE, 0),
        ("True", ColumnType.BOOLEAN, 0),
        ("1", ColumnType.BOOLEAN, 0),
        ("a\0b", ColumnType.TEXT, 0),
        ("x" * 1001, ColumnType.TEXT, 0),
        ("\ud800", ColumnType.TEXT, 0),
    ],
)
def test_malformed_claims_are_refused_without_being_quoted(text: str, kind: ColumnType, scale: int) -> None:
    with refused_by("verification.claim-form", type=kind.value, scale=str(scale)):
        claim_text(text, kind, scale)


def test_frames_tell_parts_apart() -> None:
    assert frame(b"ab", b"c") != frame(b"a", b"bc")
    assert frame() != frame(b"") != frame(b"", b"")
    assert frame(b"x") == bytes(7) + b"\1x"


def test_keywords_tell_a_subject_from_a_subject_with_a_value() -> None:
    digest = claim_digest("6500")
    made = {keyword("a"), keyword("b"), keyword("a", digest), keyword("b", digest), keyword("a", claim_digest("65000"))}
    assert len(made) == 5
    assert {len(item) for item in made} == {32} == {len(digest)}


def test_digests_are_pinned() -> None:
    """Client and enclave may be of different releases: what they hash must not move."""
    assert claim_digest("6500").hex() == "cde2a6df8c673399ffbc2dea3ce29b1c5b5d7254b4b70ecd8e978bd72536b358"
    assert keyword("11010519491231002X").hex() == "31704bbb96eb4a4b1e5c31b1440228c63b4ecf6cb057082f320a3ec4be399df5"
    assert (
        keyword("11010519491231002X", claim_digest("6500")).hex()
        == "2a8c531b3d8b103060c921094631bd6a6c9f36b21b1d688b5a45e93b1b91d7e8"
    )
