"""One spelling of each identifier and of each value, on both sides: what is hashed must be equal byte by byte."""

from __future__ import annotations

import hashlib
import re
from datetime import date

from enclave_runner.contract.dataset import EPOCH, ColumnType, KeyKind
from enclave_runner.contract.errors import Refused

DIGEST_BYTES = 32
_NUMBER = re.compile(r"([+-]?)([0-9]{1,15})(?:\.([0-9]{1,6}))?")
_MAX_TEXT = 1000
_CASELESS = (KeyKind.RESIDENT_ID, KeyKind.CREDIT_CODE)


def frame(*parts: bytes) -> bytes:
    """The parts with their lengths (8 bytes, big-endian): different parts never give the same bytes."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def subject_text(text: str, key_kind: KeyKind) -> str:
    """An identifier as the raw table spells it: people type the check character of a number in either case."""
    return text.strip().upper() if key_kind in _CASELESS else text.strip()


def claim_number(text: str, column_type: ColumnType, scale: int) -> int:
    """A claimed number in units of 10^-scale, a claimed date in days since 1970.

    Raises:
        Refused: `verification.claim-form` where it is malformed, has more decimals than the column, lies outside
            64 bits, or the type has no order.
    """
    if column_type is ColumnType.DATE:
        return (_claimed_date(text) - EPOCH).days
    match = _NUMBER.fullmatch(text)
    if column_type not in (ColumnType.INTEGER, ColumnType.DECIMAL) or match is None or len(match[3] or "") > scale:
        raise _malformed(column_type, scale)
    number = int(match[2] + (match[3] or "").ljust(scale, "0"))
    if number >= 1 << 63:
        raise _malformed(column_type, scale)
    return -number if match[1] == "-" else number


def claim_text(text: str, column_type: ColumnType, scale: int) -> str:
    """A claimed value in its one spelling: numbers in units of 10^-scale without plus sign or leading zeros, dates as
    2026-11-25, truth values `true` and `false`, texts as they are.

    This is also how a stored value is spelled: `str` of a whole number, `isoformat` of a date.

    Raises:
        Refused: `verification.claim-form` where it is not a value of the type.
    """
    if column_type in (ColumnType.INTEGER, ColumnType.DECIMAL):
        return str(claim_number(text, column_type, scale))
    if column_type is ColumnType.DATE:
        return _claimed_date(text).isoformat()
    if column_type is ColumnType.BOOLEAN:
        is_value = text in ("true", "false")
    else:
        is_value = len(text) <= _MAX_TEXT and "\0" not in text and _is_unicode(text)
    if not is_value:
        raise _malformed(column_type, scale)
    return text


def claim_digest(canonical: str) -> bytes:
    """32 bytes for a value in its one spelling. It hides nothing: values can be tried."""
    return hashlib.sha256(b"yunei/v1/claim\n" + canonical.encode()).digest()


def keyword(subject: str, claim_digest: bytes | None = None) -> bytes:
    """32 bytes under which a table of P3 and P4 knows a subject in its one spelling, or a subject with a value."""
    framed = frame(subject.encode(), b"" if claim_digest is None else claim_digest)
    return hashlib.sha256(b"yunei/v1/keyword\n" + framed).digest()


def _claimed_date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise _malformed(ColumnType.DATE, 0) from None


def _is_unicode(text: str) -> bool:
    """Whether there are no lone surrogates, which have no bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _malformed(column_type: ColumnType, scale: int) -> Refused:
    return Refused("verification.claim-form", type=column_type.value, scale=scale)
