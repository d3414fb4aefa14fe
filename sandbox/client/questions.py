"""A question in the one spelling that both sides hash: who, and what is claimed of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal

from enclave_runner.contract.check import CheckKind, VerificationMode
from enclave_runner.contract.dataset import ColumnType, KeyKind
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.protocols.canonical import claim_digest, claim_number, claim_text, keyword, subject_text
from sandbox.client.offers import Terms

MAX_SUBJECT, MAX_CLAIM = 64, 200
EPOCH = date(1970, 1, 1)
MAX_DAYS = 700_000  # either way within the years that a date has


@dataclass(frozen=True)
class Question:
    """Whom it is about, and what is claimed: a value (equals), a number or date (at least), or nothing."""

    subject: str = field(repr=False)
    claim: str | None = field(default=None, repr=False)
    at_least: str | int | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Prepared:
    """A question that fits the product: canonical subject, the claim as typed, its digest, and the edge that it is."""

    subject: str = field(repr=False)
    claim: str = field(repr=False)
    digest: bytes | None = field(default=None, repr=False)
    edge: int = field(default=0, repr=False)

    @property
    def keyword(self) -> bytes:
        """What a table of P3 and P4 knows it by."""
        return keyword(self.subject, self.digest)


def prepare(question: Question, terms: Terms, mode: VerificationMode) -> Prepared:
    """Check the question here, before anything of it leaves.

    Raises:
        Refused: `client.subject`, `client.question` when claim and product do not fit, `client.edge` for a threshold
            that P2 does not offer, `verification.claim-form`.
    """
    check, offer = terms.check, terms.offer
    subject = canonical_subject(question.subject, terms.key_kind)
    _check_form(question, check.kind)
    if check.kind is CheckKind.EQUALS and question.claim is not None:
        canonical = claim_text(question.claim, terms.column_type, offer.scale)
        return Prepared(subject, question.claim, claim_digest(canonical))
    if check.kind is CheckKind.AT_LEAST:
        text = str(question.at_least)
        number = claim_number(text, terms.column_type, offer.scale)
        if mode is VerificationMode.THRESHOLD and number not in check.edges:
            told = (edge_text(edge, terms.column_type.value, offer.scale) for edge in check.edges)
            raise Refused("client.edge", edges=", ".join(told))
        return Prepared(subject, text, edge=check.edges.index(number) if number in check.edges else 0)
    return Prepared(subject, "")


def canonical_subject(text: str, key_kind: KeyKind) -> str:
    """An identifier in its one spelling; Refused(`client.subject`) where it is none."""
    subject = subject_text(text, key_kind)
    if not 0 < len(subject) <= MAX_SUBJECT or not subject.isprintable():
        raise Refused("client.subject", max=MAX_SUBJECT)
    return subject


def edge_text(edge: int, column_type: str, scale: int) -> str:
    """A threshold as one would claim it: a date, or a number with its decimals."""
    if column_type == ColumnType.DATE.value and abs(edge) <= MAX_DAYS:
        return (EPOCH + timedelta(days=edge)).isoformat()
    return f"{Decimal(edge).scaleb(-scale):f}" if column_type == ColumnType.DECIMAL.value else str(edge)


def _check_form(question: Question, kind: CheckKind) -> None:
    given = (question.claim is not None, question.at_least is not None)
    if given != (kind is CheckKind.EQUALS, kind is CheckKind.AT_LEAST) or len(question.claim or "") > MAX_CLAIM:
        raise Refused("client.question", kind=kind.value)
