"""One call of an open product, from its request to its receipt, on one page.

    find ── count ── check ── reserve guesses ── ask the worker ── commit (call_log) ── answer
              │        └───────────┴────────────────────┘             │
           no receipt            refused or failed: a receipt, no price, no answer

What the ledger cannot make durable never leaves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from enclave_runner.contract.call import Answer, Call, CallReceipt, OpeningAsk, commitment
from enclave_runner.contract.check import Check
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.receipt import Outcome
from enclave_runner.contract.wire import CallReply, RunCall
from enclave_runner.supervisor.call_log import Entry
from enclave_runner.supervisor.enclave import Enclave
from enclave_runner.supervisor.guesses import OverLimitError, Tally
from enclave_runner.supervisor.opening import close_standing, load_product
from enclave_runner.supervisor.questions import (
    MOVES_PER_EVALUATION,
    SECOND_MOVES,
    Asker,
    Question,
    evaluations_tally,
    mode_of,
    moves_tally,
    question_of,
    quota_tally,
)
from enclave_runner.supervisor.serving import OpenProduct, Turn

Result = Answer | Refused | Failed


@dataclass
class _Told:
    """What a call has come to: its question once it is known, its reserved amounts, and how it ended."""

    question: Question | None
    amounts: dict[Tally, int]
    result: Result


def run_call(enclave: Enclave, request: RunCall) -> CallReply:
    """Answer a call once; the very same call again gets the same reply.

    Raises:
        Refused: `enclave.rolled-back`, `product.not-open`, `call.cap`, `call.unpaid`, `call.used`: no receipt. Any
            other refusal is a receipt.
        Failed: `ledger.write`, when the receipt cannot be made durable.
    """
    return enclave.verification.retries.once(request, lambda: _run(enclave, request))


def _run(enclave: Enclave, request: RunCall) -> CallReply:
    call, have = request.call, enclave.verification.commits.next_number()
    if request.calls_seen > have:  # an older home was copied back: it has forgotten guesses and uses
        raise Refused("enclave.rolled-back", have=have, seen=request.calls_seen)
    begun_in = call.version if isinstance(call.ask, SECOND_MOVES) else None
    with used_product(enclave, request.product_id, begun_in) as product:
        product.count_call(request.caller_id)
        paid = 0
        try:
            told = _answer(enclave, product, request)
            if isinstance(told.result, Failed):
                enclave.note_fault(told.result, product.ticket.ticket_id)
            reply = _settle(enclave, product, request, told)
            if reply.answer is not None and told.question is not None:
                paid = told.question.units
        finally:  # also what the ledger would not take, such as a call id that was used, has cost us its work
            product.count_paid(request.caller_id, paid)
        return reply


@contextmanager
def used_product(enclave: Enclave, product_id: str, begun_in: str | None = None) -> Iterator[OpenProduct]:
    """The open product of that id, which stays for the block; `begun_in` is the version of a first move.

    Raises:
        Refused: `product.not-open`.
    """
    now = _now(enclave)
    for ticket_id in enclave.verification.products.end_over(now):
        close_standing(enclave, ticket_id)
    products = enclave.verification.products
    with products.use(product_id, lambda: load_product(enclave, product_id), now, begun_in) as product:
        yield product


def _answer(enclave: Enclave, product: OpenProduct, request: RunCall) -> _Told:
    told = _Told(None, {}, Failed("call.supervisor"))
    try:
        told.question = question = _checked(enclave, product, request)
        told.amounts = _reserve(enclave, product, request, question)
        told.result = question.put(Turn(product, enclave.verification.zygote))
    except Refused as refused:
        told.result = refused
    except Failed as failed:
        told.result = failed
    except Exception as error:
        told.result = Failed(f"call.{type(error).__name__.lower()}")
    if isinstance(told.result, Refused | Failed):  # no answer, so nothing was told: a crash costs nobody a guess
        enclave.verification.tallies.release(told.amounts, is_durable=False)
        told.amounts = {}
    return told


def _checked(enclave: Enclave, product: OpenProduct, request: RunCall) -> Question:
    """The question, if this product may be asked it, now and so."""
    ticket, call = product.ticket, request.call
    if ticket.needs_consent and request.consents is None and not isinstance(call.ask, OpeningAsk):
        raise Refused("call.consent")
    if call.version != product.offer.version:
        raise Refused("call.stale-version", version=product.offer.version)
    asker = Asker(
        caller_id=request.caller_id,
        call_id=call.call_id,
        pseudonym_key=enclave.pseudonym_key,
        is_stale=is_stale(product, _now(enclave)),
        score=enclave.verification.zygote.score,
    )
    question = question_of(product, call.ask, asker, enclave.limits.verification.max_batch)
    if question.units and enclave.verification.commits.uses(product.grant.grant_id) + question.units > (
        product.grant.max_uses
    ):
        raise Refused("grant.uses", max=product.grant.max_uses)
    return question


def _now(enclave: Enclave) -> datetime:
    """The time by which calls are judged; it never goes back behind the newest ticket."""
    return max(enclave.clock(), enclave.verification.commits.latest)


def is_stale(product: OpenProduct, now: datetime) -> bool:
    """Whether its data are older than its check allows."""
    check = product.ticket.check
    if not isinstance(check, Check) or check.max_age_days is None:
        return False
    return now - product.offer.source_at > timedelta(days=check.max_age_days)


def _reserve(enclave: Enclave, product: OpenProduct, request: RunCall, question: Question) -> dict[Tally, int]:
    """What the answer may tell, counted from now on.

    Raises:
        Refused: `verification.exhausted`, `verification.evaluations`, `verification.moves`.
    """
    limits, tallies = enclave.limits.verification, enclave.verification.tallies
    if question.scored:
        return tallies.reserve_up_to(question.scored, question.told)
    evaluated = evaluations_tally(product, request.caller_id)
    try:
        if question.evaluations:
            amounts = {quota_tally(product, request.caller_id): question.evaluations, evaluated: question.evaluations}
            tallies.reserve(amounts, limits.evaluations_per_caller)
        elif question.moves:
            amounts = {moves_tally(product, request.caller_id): question.moves}
            tallies.reserve(amounts, MOVES_PER_EVALUATION * tallies.total(evaluated))
        else:
            amounts = question.guesses
            tallies.reserve(amounts, limits.milli_bits_per_subject)
    except OverLimitError as over:
        if question.evaluations:
            raise Refused("verification.evaluations", max=limits.evaluations_per_caller, left=over.left) from None
        if question.moves:
            raise Refused("verification.moves", max=MOVES_PER_EVALUATION) from None
        place = question.named.index(over.tally) + 1
        raise Refused(
            "verification.exhausted", bits=f"{limits.milli_bits_per_subject / 1000:g}", number=place
        ) from None
    return dict(amounts)


def _settle(enclave: Enclave, product: OpenProduct, request: RunCall, told: _Told) -> CallReply:
    """Make the receipt durable, and only then give the answer."""
    call = request.call
    answer = None if isinstance(told.result, Refused | Failed) else told.result
    # Now: a long question takes its time, and what follows holds up all other commits.
    opened = commitment(call.salt, call.ask, answer)

    def make(sequence: int, now: datetime, refused: Refused | None) -> CallReceipt:
        withheld = refused is not None and answer is not None
        return _receipt(
            product,
            request,
            told,
            refused or told.result,
            commitment(call.salt, call.ask, None) if withheld else opened,
            sequence,
            now,
        )

    entry = Entry(
        caller_id=request.caller_id,
        call_id=call.call_id,
        ticket_id=product.ticket.ticket_id,
        grant=product.grant,
        units=told.question.units if told.question is not None and answer is not None else 0,
        amounts=told.amounts,
        make=make,
    )
    is_durable = False
    try:
        settled = enclave.verification.commits.settle(entry)
        is_durable = entry.refused is None
    finally:
        enclave.verification.tallies.release(told.amounts, is_durable)
    refused = entry.refused or (told.result if isinstance(told.result, Refused) else None)
    if refused is not None:
        return CallReply(answer=None, settled=settled, rule=refused.rule, facts=refused.facts)
    return CallReply(answer=answer, settled=settled)


def _receipt(
    product: OpenProduct,
    request: RunCall,
    told: _Told,
    result: Result,
    opened: str,
    sequence: int,
    now: datetime,
) -> CallReceipt:
    call: Call = request.call
    ticket, grant = product.ticket, product.grant
    refused = result if isinstance(result, Refused) else None
    failed = result if isinstance(result, Failed) else None
    answer = None if isinstance(result, Refused | Failed) else result
    outcome = Outcome.REFUSED if refused else Outcome.FAILED if failed else Outcome.RELEASED
    return CallReceipt(
        call_id=call.call_id.hex(),
        sequence=sequence,
        ticket_id=ticket.ticket_id,
        product_id=ticket.product_id,
        grant_id=grant.grant_id,
        operator_id=grant.operator_id,
        caller_id=request.caller_id,
        purpose=grant.purpose,
        mode=mode_of(call.ask),
        outcome=outcome,
        units=told.question.units if told.question is not None and answer is not None else 0,
        commitment=opened,
        version=product.offer.version,
        data_versions=ticket.data_versions,
        policy_sha256=ticket.policy_sha256,
        charge=ticket.charge,
        finished_at=now,
        rule=refused.rule if refused else None,
        fault=failed.fault if failed else None,
        consents=request.consents,
    )
