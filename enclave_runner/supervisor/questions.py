"""What each kind of ask is: what it needs of the product, what it may tell, and what is put to the worker for it.

Nothing cryptographic is parsed here; raw bytes go to the worker as they came.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from enclave_runner.contract.call import (
    Answer,
    Ask,
    BucketAnswer,
    BucketAsk,
    EqualityAnswer,
    EqualityAsk,
    EvaluationAnswer,
    EvaluationAsk,
    LookupAnswer,
    LookupAsk,
    OpeningAnswer,
    OpeningAsk,
    PlainAnswer,
    PlainAsk,
    ScoreAnswer,
    ScoreAsk,
    Table,
    ThresholdAnswer,
    ThresholdAsk,
)
from enclave_runner.contract.check import Check, CheckKind, VerificationMode
from enclave_runner.contract.codec import digest, encode
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.protocols.cell import verdict_text
from enclave_runner.contract.protocols.equality import context
from enclave_runner.contract.protocols.lattice import question_bytes
from enclave_runner.contract.scoring import ScoreCheck
from enclave_runner.he.call import check_lengths
from enclave_runner.supervisor.guesses import EVALUATIONS, GUESSES, MOVES, Scope, Tally, milli_bits
from enclave_runner.supervisor.pseudonyms import pseudonym_of
from enclave_runner.supervisor.serving import OpenProduct, Turn

MOVES_PER_EVALUATION = 4
SECOND_MOVES = (BucketAsk, LookupAsk)
CLAIMED = (CheckKind.EQUALS, CheckKind.AT_LEAST)


@dataclass(frozen=True)
class Asker:
    """Who asks, under which call id, with which secret subjects are named, and whether the data are too old to say.

    `score` is the encrypted half of P5: from the ask and the platform's points to the ciphertexts of the answer.
    """

    caller_id: str
    call_id: bytes
    pseudonym_key: bytes
    is_stale: bool
    score: Callable[[ScoreCheck, ScoreAsk, bytes], bytes]


@dataclass(frozen=True)
class Question:
    """An ask that fits its product. `units` are priced, `guesses` counted about subjects, `evaluations` and `moves`
    where the subject is hidden. About a score `told` is counted once for each of `scored`. `put` asks the worker."""

    mode: VerificationMode
    put: Callable[[Turn], Answer]
    units: int = 0
    guesses: dict[Tally, int] = field(default_factory=dict)
    named: tuple[Tally, ...] = ()  # the same question by question
    evaluations: int = 0
    moves: int = 0
    scored: frozenset[Tally] = frozenset()
    told: int = 0


def mode_of(ask: Ask) -> VerificationMode:
    """How an ask is asked."""
    match ask:
        case PlainAsk():
            return VerificationMode.PLAIN
        case EqualityAsk():
            return VerificationMode.EQUALITY
        case OpeningAsk() | ThresholdAsk():
            return VerificationMode.THRESHOLD
        case EvaluationAsk():
            return ask.mode
        case BucketAsk():
            return VerificationMode.BUCKET
        case LookupAsk():
            return VerificationMode.LOOKUP
        case ScoreAsk():
            return VerificationMode.SCORE


def question_of(product: OpenProduct, ask: Ask, asker: Asker, max_batch: int) -> Question:
    """The question that an ask puts to a product.

    Raises:
        Refused: `call.mode`, `call.batch`, `call.claim`, `verification.stale`, `verification.question`,
            `verification.bucket`.
    """
    mode = mode_of(ask)
    is_hidden_move = isinstance(ask, EvaluationAsk) and not mode.hides_subject
    if mode not in product.ticket.check.modes or is_hidden_move:
        raise Refused("call.mode", mode=mode.value)
    if mode.hides_subject and asker.is_stale:  # the labels are in the table, and say nothing of its age
        raise Refused("verification.stale")
    match ask:
        case PlainAsk():
            return _plain(product, ask, asker, max_batch)
        case EqualityAsk():
            return _equality(product, ask, asker)
        case OpeningAsk():
            return Question(mode, lambda turn: _opening(turn, asker.caller_id))
        case ThresholdAsk():
            return _threshold(product, ask, asker)
        case EvaluationAsk():
            return Question(
                mode, lambda turn: _evaluation(turn, ask), units=len(ask.blinded), evaluations=len(ask.blinded)
            )
        case BucketAsk():
            return _bucket(_table(product), ask)
        case LookupAsk():
            return _lookup(_table(product), ask)
        case ScoreAsk():
            return _score(product, ask, asker, max_batch)


def _plain(product: OpenProduct, ask: PlainAsk, asker: Asker, max_batch: int) -> Question:
    check = _check(product)
    if len(ask.asked) > max_batch:
        raise Refused("call.batch", max=max_batch)
    for item in ask.asked:
        if bool(item.claim) != (check.kind in CLAIMED):
            raise Refused("call.claim", kind=check.kind.value)
    asked = tuple((item.subject, item.claim) for item in ask.asked)

    def put(turn: Turn) -> Answer:
        codes = turn.ask(lambda worker: worker.judge(asked, asker.is_stale))
        return PlainAnswer(verdicts=tuple(map(verdict_text, codes)))

    return _counted(VerificationMode.PLAIN, put, product, asker, [subject for subject, _ in asked])


def _equality(product: OpenProduct, ask: EqualityAsk, asker: Asker) -> Question:
    bound = _context(product, asker)

    def put(turn: Turn) -> Answer:
        evaluated, tag, is_known = turn.ask(
            lambda worker: worker.equality(bound, ask.subject, ask.blinded, asker.is_stale)
        )
        return EqualityAnswer(evaluated=evaluated, tag=tag, known=is_known)

    return _counted(VerificationMode.EQUALITY, put, product, asker, [ask.subject])


def _opening(turn: Turn, caller_id: str) -> Answer:
    opening, point = turn.ask(lambda worker: worker.opening(caller_id))
    return OpeningAnswer(opening=opening, point=point)


def _threshold(product: OpenProduct, ask: ThresholdAsk, asker: Asker) -> Question:
    bound = _context(product, asker)

    def put(turn: Turn) -> Answer:
        cells = turn.ask(
            lambda worker: worker.threshold(
                asker.caller_id, ask.subject, ask.opening, ask.choice, bound, asker.is_stale
            )
        )
        return ThresholdAnswer(cells=cells)

    return _counted(VerificationMode.THRESHOLD, put, product, asker, [ask.subject])


def _evaluation(turn: Turn, ask: EvaluationAsk) -> Answer:
    evaluated, proof = turn.ask(lambda worker: worker.evaluate(ask.blinded))
    return EvaluationAnswer(evaluated=evaluated, proof=proof)


def _bucket(table: Table, ask: BucketAsk) -> Question:
    if ask.bucket >= table.columns // table.bucket_columns:
        raise Refused("verification.bucket")
    return Question(
        VerificationMode.BUCKET,
        lambda turn: BucketAnswer(cells=turn.ask(lambda worker: worker.bucket(ask.bucket))),
        moves=1,
    )


def _lookup(table: Table, ask: LookupAsk) -> Question:
    if len(ask.question) != question_bytes(table.columns):
        raise Refused("verification.question")
    return Question(
        VerificationMode.LOOKUP,
        lambda turn: LookupAnswer(reply=turn.ask(lambda worker: worker.lookup(ask.question))),
        moves=1,
    )


def _score(product: OpenProduct, ask: ScoreAsk, asker: Asker, max_batch: int) -> Question:
    """The points of a subject are always the same: asked again, they tell nothing new."""
    check = product.ticket.check
    if not isinstance(check, ScoreCheck):
        raise Refused("call.mode", mode=VerificationMode.SCORE.value)
    if len(ask.subjects) > max_batch:
        raise Refused("call.batch", max=max_batch)
    check_lengths(check.model, len(ask.subjects), ask.key, ask.features)
    terms = digest(encode(check.terms))[:16]
    scope = Scope(GUESSES, check.dataset_id, f"score:{terms}", product.data_version)

    def put(turn: Turn) -> Answer:
        points, known = turn.ask(lambda worker: worker.points(ask.subjects))
        return ScoreAnswer(scores=asker.score(check, ask, points), known=known)

    return Question(
        VerificationMode.SCORE,
        put,
        len(ask.subjects),
        scored=frozenset(_named(scope, product, asker, ask.subjects)),
        told=milli_bits(check.outcomes),
    )


def _counted(
    mode: VerificationMode,
    put: Callable[[Turn], Answer],
    product: OpenProduct,
    asker: Asker,
    subjects: Sequence[str],
) -> Question:
    """What the answers may tell, subject by subject; one that is asked about twice counts twice."""
    check = _check(product)
    scope = Scope(GUESSES, check.dataset_id, check.attribute, product.data_version)
    named = tuple(_named(scope, product, asker, subjects))
    each = milli_bits(check.outcomes)
    guesses = {tally: each * count for tally, count in Counter(named).items()}
    return Question(mode, put, units=len(named), guesses=guesses, named=named)


def _named(scope: Scope, product: OpenProduct, asker: Asker, subjects: Iterable[str]) -> Iterator[Tally]:
    for subject in subjects:
        yield Tally(scope, pseudonym_of(asker.pseudonym_key, subject, product.spec), asker.caller_id)


def quota_tally(product: OpenProduct, caller_id: str) -> Tally:
    """Counts the evaluations by one business of one attribute, per data version: opening a product anew, or another one
    over the same attribute, gives no fresh quota."""
    check = _check(product)
    return Tally(Scope(EVALUATIONS, check.dataset_id, check.attribute, product.data_version), b"", caller_id)


def evaluations_tally(product: OpenProduct, caller_id: str) -> Tally:
    """Counts its evaluations in one table version, which allow second moves there."""
    return Tally(Scope(MOVES, product.ticket.product_id, "evaluated", product.offer.version), b"", caller_id)


def moves_tally(product: OpenProduct, caller_id: str) -> Tally:
    """Counts its second moves in one table version."""
    return Tally(Scope(MOVES, product.ticket.product_id, "", product.offer.version), b"", caller_id)


def _context(product: OpenProduct, asker: Asker) -> bytes:
    return context(product.ticket.product_id, product.offer.version, asker.call_id)


def _check(product: OpenProduct) -> Check:
    check = product.ticket.check
    if not isinstance(check, Check):
        raise Refused("call.mode", mode=VerificationMode.PLAIN.value)
    return check


def _table(product: OpenProduct) -> Table:
    if product.offer.table is None:
        raise Refused("call.mode", mode=VerificationMode.LOOKUP.value)
    return product.offer.table
