"""Encrypted scoring (P5) over HTTP: one call for as many subjects as fit, each under a key of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from enclave_runner.contract.call import ScoreAnswer
from enclave_runner.contract.check import VerificationMode
from enclave_runner.contract.errors import Failed, Refused, YuneiError
from enclave_runner.contract.scoring import ScoreCheck
from sandbox.client.answers import Unanswered, receipt_of
from sandbox.client.calls import Answered, Asking, Pins, make_call
from sandbox.client.evidence import Receipt, receipt_in
from sandbox.client.exchange import Flow
from sandbox.client.modes import is_installed
from sandbox.client.offers import Terms
from sandbox.client.problems import Declined
from sandbox.client.questions import canonical_subject

try:
    from sandbox.client import scoring
except ImportError as missing:
    # The extra `he`. Anything else that cannot be imported is a defect, not an absence.
    if missing.name not in ("tenseal", "numpy"):
        raise

Features = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Scored:
    """The score of one subject.

    `points` are the platform's share of it (0 and not `known` where it has nothing about the subject), `probability`
    what a logistic model makes of the score. The rest as in `Verified`.
    """

    score: float
    points: float
    known: bool
    probability: float | None
    mode: VerificationMode
    price_fen: int
    source_at: datetime
    receipt: Receipt


def ask_scores(
    terms: Terms, pins: Pins, subjects: Sequence[str], features: Features
) -> Flow[tuple[Scored | Unanswered, ...]]:
    """Score them all, in order; answers are decrypted after the last of them is here.

    Raises:
        Refused: `client.mode` when the product does not score, `client.subject`, `scoring.…` for features that do not
            fit the model: nothing was sent then.
        Failed: `client.extra`.
    """
    check = terms.offer.check
    if not isinstance(check, ScoreCheck):
        raise Refused("client.mode", mode="P5", offered=", ".join(mode.value for mode in check.modes))
    if not is_installed(VerificationMode.SCORE):
        raise Failed("client.extra")
    named = [canonical_subject(subject, terms.key_kind) for subject in subjects]
    if any(len(column) != len(named) for column in features.values()):
        raise Refused("client.features", count=len(named))
    scoring.check_features(check, len(named), features)
    size = scoring.most_subjects(check)
    parts: list[tuple[int, Answered | YuneiError, scoring.ScoreQuestion]] = []
    end: YuneiError | None = None
    for first in range(0, len(named), size):
        part = {name: column[first : first + size] for name, column in features.items()}
        question = scoring.ScoreQuestion(check, named[first : first + size], part)
        told: Answered | YuneiError
        try:
            if end is not None:
                raise end
            told = yield from _ask(Asking(terms, pins, VerificationMode.SCORE), question)
        except YuneiError as error:
            told, end = error, None if isinstance(error, Declined) else error
        parts.append((len(question.ask.subjects), told, question))
    return tuple(outcome for part in parts for outcome in _read(terms, *part))


def _ask(asking: Asking, question: scoring.ScoreQuestion) -> Flow[Answered]:
    return (yield from make_call(asking, lambda _: question.ask, len(question.ask.subjects)))


def _read(
    terms: Terms, count: int, told: Answered | YuneiError, question: scoring.ScoreQuestion
) -> list[Scored | Unanswered]:
    if isinstance(told, YuneiError):
        return [Unanswered(told, receipt_in(told))] * count
    receipt = receipt_of((told,))
    try:
        if not isinstance(told.answer, ScoreAnswer):
            raise Refused("client.answer", what="another shape than the question has")
        scores = question.read(told.answer)
    except Refused as refused:
        return [Unanswered(refused, receipt)] * count
    price = terms.offer.charge.unit_price_fen if told.verified.receipt.units else 0
    return [
        Scored(
            score=one.score,
            points=one.points,
            known=one.known,
            probability=one.probability,
            mode=VerificationMode.SCORE,
            price_fen=price,
            source_at=terms.offer.source_at,
            receipt=receipt,
        )
        for one in scores
    ]
