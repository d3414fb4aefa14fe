"""What a caller gets: an answer with what it cost and how it was asked, or why there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NoReturn

from enclave_runner.contract.check import Check, CheckKind, Verdict, VerificationMode
from enclave_runner.contract.errors import Refused, YuneiError
from enclave_runner.contract.protocols import cell
from sandbox.client.calls import Answered
from sandbox.client.evidence import Receipt, joined, receipt_in
from sandbox.client.offers import Terms
from sandbox.client.problems import STALE, Declined


@dataclass(frozen=True)
class Verified:
    """One answer.

    `verdict` is yes, no, or (where the product says so) cannot-say; of a level that is known it is None and `level` the
    band. `k` is among how many subjects P3 hid the one asked about. `price_fen` is the price of this answer alone,
    `source_at` when the data came in. `receipt` verifies offline; of a batch all answers share it.
    """

    verdict: Verdict | None
    level: int | None
    mode: VerificationMode
    k: int | None
    price_fen: int
    source_at: datetime
    receipt: Receipt

    @property
    def is_yes(self) -> bool:
        """Whether the answer is yes; neither "no" nor "cannot say" is."""
        return self.verdict is Verdict.YES

    def __bool__(self) -> NoReturn:
        """An answer of "no" would be true, as every object is: nobody may fall into that."""
        raise TypeError("an answer is not a truth value: ask .is_yes, .verdict or .level")


@dataclass(frozen=True)
class Unanswered:
    """A question of several that has no answer, and why. What it cost, if anything, stands in the receipts."""

    error: YuneiError
    receipt: Receipt | None = None


@dataclass(frozen=True)
class Lapsed:
    """A question that got no answer after calls that count and may have cost. `is_told`: its second move was sent."""

    error: YuneiError
    calls: tuple[Answered, ...] = ()
    is_told: bool = False

    def open(self) -> Unanswered:
        """Why, with the receipts of what was tried."""
        found = [receipt_of(self.calls)] if self.calls else []
        own = receipt_in(self.error)
        found += [own] if own is not None else []
        return Unanswered(self.error, joined(*found) if found else None)


@dataclass(frozen=True)
class Pending:
    """An answer that is here and not yet read: it is read when no more will be asked.

    What is sent after an answer must not depend on what it says, and a table that a platform spoilt in some cells must
    not show by a silence which cell was chosen.
    """

    terms: Terms
    mode: VerificationMode
    calls: tuple[Answered, ...]
    price_fen: int
    read: Callable[[], str] = field(repr=False)

    def open(self) -> Verified | Unanswered:
        """Read it."""
        receipt = receipt_of(self.calls)
        try:
            return _verified(self, self.read(), receipt)
        except Refused as refused:
            return Unanswered(refused, receipt)


def is_stale(outcome: object) -> bool:
    """Whether it came to nothing because the platform has a new version by now."""
    error = outcome.error if isinstance(outcome, Lapsed | Unanswered) else None
    return isinstance(error, Declined) and error.rule == STALE


def receipt_of(calls: tuple[Answered, ...]) -> Receipt:
    """The receipt of these calls together."""
    return Receipt(tuple(call.evidence for call in calls), tuple(call.verified for call in calls))


def _verified(pending: Pending, text: str, receipt: Receipt) -> Verified:
    terms = pending.terms
    check_text(terms.check, text)
    is_level = terms.check.kind is CheckKind.LEVEL and text != Verdict.CANNOT_SAY.value
    return Verified(
        verdict=None if is_level else Verdict(text),
        level=int(text) if is_level else None,
        mode=pending.mode,
        k=terms.table.k if pending.mode is VerificationMode.BUCKET else None,
        price_fen=pending.price_fen,
        source_at=terms.offer.source_at,
        receipt=receipt,
    )


def check_text(check: Check, text: str) -> None:
    """Pass for an answer that this product can give.

    Raises:
        Refused: `client.answer` for any other.
    """
    told = {str(band) for band in range(len(check.edges) + 1)} if check.kind is CheckKind.LEVEL else {"yes", "no"}
    if text not in told and not (check.says_unknown and text == Verdict.CANNOT_SAY.value):
        raise Refused("client.answer", what="an answer that this product does not give")


def label_text(terms: Terms, found: bytes | None, at: datetime) -> str:
    """What a label of a hidden-subject table says at that moment; no label, or data too old, as the check has it."""
    check = terms.check
    age = check.max_age_days
    if age is not None and at - terms.offer.source_at > timedelta(days=age):
        return cell.verdict_text(cell.absent_code(check))
    return cell.verdict_text(cell.absent_code(check) if found is None else cell.code_of(found))
