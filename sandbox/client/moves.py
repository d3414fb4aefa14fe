"""The moves of each mode, from a question to an answer that is not yet read (docs/verification.md).

Nothing that is sent depends on what an earlier answer said: only on whether it kept to the protocol, which the platform
knows anyway. P4 makes one lookup for each question, also for the same one twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from enclave_runner.contract.call import (
    Asked,
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
    ThresholdAnswer,
    ThresholdAsk,
)
from enclave_runner.contract.check import Verdict, VerificationMode
from enclave_runner.contract.errors import Refused, YuneiError
from enclave_runner.contract.protocols import cell, equality, lattice, oprf, threshold
from sandbox.client.answers import Lapsed, Pending, label_text, receipt_of
from sandbox.client.calls import Answered, Asking, make_call
from sandbox.client.evidence import keeping, with_receipt
from sandbox.client.exchange import Flow
from sandbox.client.problems import STALE, Declined
from sandbox.client.questions import Prepared

try:
    from sandbox.client import lookup
except ImportError as missing:
    # The extra `pir`. Anything else that cannot be imported is a defect, not an absence.
    if missing.name != "numpy":
        raise

Outcome = Pending | Lapsed


def after(earlier: Outcome, outcome: Outcome) -> Outcome:
    """An outcome with the calls and the price of an attempt before it."""
    calls = (*earlier.calls, *outcome.calls)
    if isinstance(outcome, Lapsed):
        return replace(outcome, calls=calls)
    return replace(outcome, calls=calls, price_fen=outcome.price_fen + unit_price(earlier.calls))


def ask_plain(asking: Asking, prepared: Sequence[Prepared]) -> Flow[tuple[Outcome, ...]]:
    """P0: all of them in one call."""
    asked = tuple(Asked(subject=one.subject, claim=one.claim) for one in prepared)
    told = yield from make_call(asking, lambda _: PlainAsk(asked=asked), len(asked))
    answer = told.answer
    if not isinstance(answer, PlainAnswer) or len(answer.verdicts) != len(asked):
        raise _misfit(told)
    return tuple(_pending(asking, (told,), partial(str, verdict)) for verdict in answer.verdicts)


def ask_equality(asking: Asking, prepared: Sequence[Prepared]) -> Flow[tuple[Outcome, ...]]:
    """P1: one question. The blinding scalar and the platform's key are of this call alone."""
    (one,) = prepared
    kept: list[tuple[bytes, bytes]] = []

    def ask_of(call_id: bytes) -> EqualityAsk:
        context = _context(asking, call_id)
        scalar, element = equality.blind(context, one.digest or b"")
        kept.append((context, scalar))
        return EqualityAsk(subject=one.subject, blinded=element)

    told = yield from make_call(asking, ask_of, 1)
    answer, ((context, scalar),) = told.answer, kept
    if not isinstance(answer, EqualityAnswer):
        raise _misfit(told)

    def read() -> str:
        is_same = equality.is_equal(context, scalar, answer.evaluated, answer.tag)
        return _word(is_same) if answer.known else Verdict.CANNOT_SAY.value

    return (_pending(asking, (told,), read),)


def ask_threshold(asking: Asking, prepared: Sequence[Prepared]) -> Flow[tuple[Outcome, ...]]:
    """P2: an opening, then one hidden choice among the edges of the offer."""
    (one,) = prepared
    opened = yield from make_call(asking, lambda _: OpeningAsk(), 0)
    opening = opened.answer
    if not isinstance(opening, OpeningAnswer):
        raise _misfit(opened)
    pads: list[bytes] = []

    def ask_of(call_id: bytes) -> ThresholdAsk:
        choice, pad = threshold.choose(opening.point, one.edge, _context(asking, call_id))
        pads.append(pad)
        return ThresholdAsk(subject=one.subject, opening=opening.opening, choice=choice)

    told = yield from make_call(asking, ask_of, 1)
    answer = told.answer
    if not isinstance(answer, ThresholdAnswer):
        raise _misfit(told)
    if len(answer.cells) != threshold.CELL_BYTES * len(asking.terms.check.edges):
        raise _misfit(told)
    read = partial(_read_cell, pads[0], one.edge, answer.cells)
    return (_pending(asking, (opened, told), read),)


def ask_bucket(asking: Asking, prepared: Sequence[Prepared]) -> Flow[tuple[Outcome, ...]]:
    """P3: one evaluation of all keywords, then the bucket of each."""
    evaluation, outputs = yield from _evaluate(asking, prepared)
    table = asking.terms.table

    def ask_second(output: bytes) -> Flow[Pending]:
        bucket, place = divmod(_column(asking, output), table.bucket_columns)
        told = yield from make_call(asking, lambda _: BucketAsk(bucket=bucket), 0)
        answer = told.answer
        if not isinstance(answer, BucketAnswer) or len(answer.cells) != table.height * table.bucket_columns:
            raise _misfit(told)
        column = answer.cells[place * table.height : (place + 1) * table.height]
        return _pending(asking, (evaluation, told), partial(_read_column, asking, column, output, told))

    return (yield from _second_moves(evaluation, outputs, ask_second))


def ask_lookup(asking: Asking, prepared: Sequence[Prepared], hint: bytes) -> Flow[tuple[Outcome, ...]]:
    """P4: one evaluation of all keywords, then for each an encrypted choice of a column, with a secret of its own."""
    evaluation, outputs = yield from _evaluate(asking, prepared)
    table = asking.terms.table

    def ask_second(output: bytes) -> Flow[Pending]:
        secret, question = lookup.ask(table.seed, table.columns, _column(asking, output))
        told = yield from make_call(asking, lambda _: LookupAsk(question=question), 0)
        answer = told.answer
        if not isinstance(answer, LookupAnswer) or len(answer.reply) != lattice.reply_bytes(table.height):
            raise _misfit(told)

        def read() -> str:
            return _read_column(asking, lookup.decode(answer.reply, hint, secret), output, told)

        return _pending(asking, (evaluation, told), read)

    return (yield from _second_moves(evaluation, outputs, ask_second))


def _second_moves(
    evaluation: Answered, outputs: Sequence[bytes], ask_second: Callable[[bytes], Flow[Pending]]
) -> Flow[tuple[Outcome, ...]]:
    """One for each output. A refusal ends that question alone; a fault, a lie or a new version the rest as well."""
    outcomes: list[Outcome] = []
    end: YuneiError | None = None
    for output in outputs:
        if end is not None:
            outcomes.append(Lapsed(end, (evaluation,)))
            continue
        try:
            outcomes.append((yield from ask_second(output)))
        except YuneiError as error:
            outcomes.append(Lapsed(error, (evaluation,), is_told=True))
            end = None if isinstance(error, Declined) and error.rule != STALE else error
    return tuple(outcomes)


def _evaluate(asking: Asking, prepared: Sequence[Prepared]) -> Flow[tuple[Answered, tuple[bytes, ...]]]:
    """The first move of P3 and P4: 64 bytes for each keyword, proved to be made with the key of the offer."""
    blinded = [oprf.blind(one.keyword) for one in prepared]
    elements = tuple(one.element for one in blinded)
    told = yield from make_call(asking, lambda _: EvaluationAsk(mode=asking.mode, blinded=elements), len(elements))
    answer = told.answer
    if not isinstance(answer, EvaluationAnswer):
        raise _misfit(told)
    with keeping(receipt_of((told,))):
        return told, oprf.finalize(blinded, answer.evaluated, answer.proof, asking.terms.table.public_key)


def _pending(asking: Asking, calls: tuple[Answered, ...], read: Callable[[], str]) -> Pending:
    return Pending(asking.terms, asking.mode, calls, unit_price(calls), read)


def unit_price(calls: Sequence[Answered]) -> int:
    """What one question among these calls costs: the unit price, unless none of them was charged."""
    return max(
        (call.verified.receipt.charge.unit_price_fen for call in calls if call.verified.receipt.units), default=0
    )


def _read_cell(pad: bytes, edge: int, cells: bytes) -> str:
    code = threshold.read(pad, edge, cells)
    if code not in (cell.NO, cell.YES, cell.CANNOT_SAY):
        raise Refused("client.answer", what="another shape than the question has")
    return cell.verdict_text(code)


def _read_column(asking: Asking, column: bytes, output: bytes, told: Answered) -> str:
    found = cell.find(column, output, asking.terms.offer.version)
    return label_text(asking.terms, found, told.verified.receipt.finished_at)


def _column(asking: Asking, output: bytes) -> int:
    return cell.entry(output, asking.terms.offer.version).column(asking.terms.table.columns)


def _context(asking: Asking, call_id: bytes) -> bytes:
    return equality.context(asking.terms.offer.product_id, asking.terms.offer.version, call_id)


def _word(is_same: bool) -> str:
    return Verdict.YES.value if is_same else Verdict.NO.value


def _misfit(told: Answered) -> YuneiError:
    """A signed answer of another shape: it may have cost, so that the error carries its receipt."""
    return with_receipt(Refused("client.answer", what="another shape than the question has"), receipt_of((told,)))


MOVES = {
    VerificationMode.PLAIN: ask_plain,
    VerificationMode.EQUALITY: ask_equality,
    VerificationMode.THRESHOLD: ask_threshold,
    VerificationMode.BUCKET: ask_bucket,
}
