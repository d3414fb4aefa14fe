"""One ticket, from its signature to its receipt, on one page.

    verify ── admit ── prepare ── reserve ── execute ── receipt
      │         └─────────┴──────────┘           │
    refused     refused: receipt without loss    failed: receipt, the loss stays

What the same grant was answered before is answered from the ledger, at no loss. A ticket whose signature does not
verify gets no receipt: nobody ordered it.
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from enclave_runner.contract.codec import MAX_MESSAGE_BYTES, decode, digest, encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.grant import PURPOSE as GRANT_PURPOSE
from enclave_runner.contract.grant import Grant
from enclave_runner.contract.privacy import PrivacyLoss
from enclave_runner.contract.receipt import Outcome, Receipt
from enclave_runner.contract.signing import Signed, unseal
from enclave_runner.contract.ticket import PURPOSE as TICKET_PURPOSE
from enclave_runner.contract.ticket import Ticket
from enclave_runner.contract.wire import Settlement
from enclave_runner.supervisor.answers import Answered
from enclave_runner.supervisor.continuity import check_seen
from enclave_runner.supervisor.enclave import Enclave
from enclave_runner.supervisor.execute import execute
from enclave_runner.supervisor.holdings import HeldVersion
from enclave_runner.supervisor.prepare import Prepared, check_charge, check_model_size, prepare


@dataclass(frozen=True)
class Order:
    """A verified ticket with its verified grant."""

    signed: Signed
    ticket: Ticket
    grant: Grant
    began: float


def run_ticket(enclave: Enclave, signed: Signed, descriptor: int | None, began: float | None = None) -> Settlement:
    """Run a ticket once. Its receipt is durable now and held until its step of the schedule.

    Args:
        began: the monotonic time at which the order came in, where that was before this call.

    Raises:
        Refused: `signature.invalid`, `wire.malformed`, `checkpoint.invalid`, `ticket.replayed`; `enclave.rolled-back`,
            for a log that has forgotten something signs no receipt. Any later refusal is a receipt.
    """
    order = _verify(enclave, signed, time.monotonic() if began is None else began)
    check_seen(enclave.ledger, enclave.key.public_key, order.ticket.receipts_seen)
    now = enclave.now()
    try:
        enclave.require_zygote()
        attached = _admit(enclave, order, descriptor, now)
        prepared = prepare(enclave, order.grant, order.ticket.job, attached)
        _check_version(order.ticket, prepared.held)
    except (Refused, Failed) as reason:
        return _settle_unopened(enclave, order, reason, now)
    with enclave.turns.of(order.grant.grant_id, prepared.answer_key):
        return _reserve(enclave, order, prepared, now)


def _verify(enclave: Enclave, signed: Signed, began: float) -> Order:
    ticket = unseal(signed, TICKET_PURPOSE, enclave.trust.control, Ticket)
    grant = unseal(ticket.grant, GRANT_PURPOSE, enclave.trust.officers, Grant)
    return Order(signed, ticket, grant, began)


def _admit(enclave: Enclave, order: Order, descriptor: int | None, now: datetime) -> bytes | None:
    """What holds for every kind of job. Returns what travels beside the ticket."""
    ticket, grant = order.ticket, order.grant
    if ticket.policy_sha256 != enclave.pack.sha256:
        raise Refused("ticket.policy")
    not_before = enclave.ledger.not_before()
    if not_before is not None and ticket.issued_at < not_before:
        raise Refused("ticket.voided", since=not_before.isoformat())
    if (ticket.expires_at - ticket.issued_at).total_seconds() > enclave.limits.ticket_seconds:
        raise Refused("ticket.life", max=enclave.limits.ticket_seconds)
    if not ticket.issued_at <= now < ticket.expires_at:
        raise Refused("ticket.expired")
    if now < grant.not_before:
        raise Refused("grant.not-yet", since=grant.not_before.date().isoformat())
    if now >= grant.deadline:
        raise Refused("grant.expired", deadline=grant.deadline.date().isoformat())
    if ticket.job.mode not in grant.modes:
        raise Refused("grant.mode", mode=ticket.job.mode.value)
    check_charge(enclave, grant, ticket.job.mode, ticket.charge)
    return _attached(enclave, ticket, descriptor)


def _attached(enclave: Enclave, ticket: Ticket, descriptor: int | None) -> bytes | None:
    if (descriptor is None) != (ticket.input_sha256 is None):
        raise Refused("ticket.input")
    if descriptor is None:
        return None
    size = os.fstat(descriptor).st_size
    check_model_size(enclave, size)
    try:
        content = os.pread(descriptor, min(size, MAX_MESSAGE_BYTES), 0)
    except OSError:  # a pipe, a folder, a descriptor that only writes: whatever the caller has handed over
        raise Refused("ticket.input") from None
    if digest(content) != ticket.input_sha256:
        raise Refused("ticket.input")
    return content


def _check_version(ticket: Ticket, held: tuple[HeldVersion, ...]) -> None:
    """The versions that the plan was bound to, which are the newest, must be those that the ticket names."""
    if ticket.data_versions != {version.dataset_id: version.version for version in held}:
        raise Refused("ticket.data-version", dataset=", ".join(version.dataset_id for version in held))


def _reserve(enclave: Enclave, order: Order, prepared: Prepared, now: datetime) -> Settlement:
    """Use the ticket up and reserve its losses: none for what was answered before."""
    try:
        answered = _answered(enclave, order.grant.grant_id, prepared.answer_key)
        losses = prepared.losses if answered is None else ()
        enclave.ledger.open_ticket(order.ticket, order.signed, order.grant, losses, now)
    except (Refused, Failed) as reason:
        return _settle_unopened(enclave, order, reason, now)
    return _execute(enclave, order, prepared) if answered is None else _repeat(enclave, order, answered)


def _answered(enclave: Enclave, grant_id: str, key: str | None) -> Answered | None:
    answered = None if key is None else enclave.ledger.answered(grant_id, key)
    if answered is not None:
        enclave.schedule.wait(answered.ticket_id)  # a repeated answer leaves no earlier than the first one
    return answered


def _repeat(enclave: Enclave, order: Order, answered: Answered) -> Settlement:
    return enclave.ledger.close_ticket(
        order.ticket.ticket_id,
        lambda sequence, losses: receipt_of(
            enclave, order, sequence, losses, answered.release, repeats=answered.receipt_id
        ),
        answered.release,
    )


def _execute(enclave: Enclave, order: Order, prepared: Prepared) -> Settlement:
    ticket_id = order.ticket.ticket_id
    result: bytes | Failed
    spent: tuple[PrivacyLoss, ...] | None = None
    try:
        executed = execute(enclave, prepared, order.ticket.input_sha256)
        result, spent = encode(executed.release), executed.spent
    except Exception as error:
        result = error if isinstance(error, Failed) else Failed("job.supervisor")
        enclave.note_fault(result, ticket_id)
    return enclave.ledger.close_ticket(
        ticket_id,
        lambda sequence, losses: receipt_of(enclave, order, sequence, losses, result),
        result if isinstance(result, bytes) else None,
        spent,
        prepared.answer_key,
    )


def _settle_unopened(enclave: Enclave, order: Order, reason: Refused | Failed, now: datetime) -> Settlement:
    """A refusal, or a fault before anything was reserved: certain not to have touched data, so nothing is charged.

    Raises:
        Refused: `ticket.replayed`: the ticket has its receipt.
    """
    if isinstance(reason, Failed):
        enclave.note_fault(reason, order.ticket.ticket_id)
    elif reason.rule == "ticket.replayed":
        raise reason
    return enclave.ledger.refuse_ticket(
        order.ticket,
        order.signed,
        order.grant.grant_id,
        lambda sequence, losses: receipt_of(enclave, order, sequence, losses, reason),
        now,
    )


def recover_open_tickets(enclave: Enclave) -> int:
    """Sign a Failed receipt for every ticket that a crash left open; its loss stays spent. Returns how many."""
    opened = enclave.ledger.open_tickets()
    for signed, _ in opened:
        _close_restarted(enclave, _accepted(signed))
    return len(opened)


def _accepted(signed: Signed) -> Order:
    """An order that was verified when it was opened; its keys may have been replaced since."""
    ticket = decode(signed.payload, Ticket)
    return Order(signed, ticket, decode(ticket.grant.payload, Grant), time.monotonic())


def _close_restarted(enclave: Enclave, order: Order) -> None:
    failed = Failed("enclave.restarted")
    enclave.note_fault(failed, order.ticket.ticket_id)
    # Not held: this receipt follows the crash, and tells nothing of how long the job took.
    now = time.monotonic()
    enclave.ledger.close_ticket(
        order.ticket.ticket_id, lambda sequence, losses: receipt_of(enclave, order, sequence, losses, failed, now), None
    )


def receipt_of(
    enclave: Enclave,
    order: Order,
    sequence: int,
    losses: tuple[PrivacyLoss, ...],
    result: bytes | Refused | Failed,
    leaves: float | None = None,
    repeats: str | None = None,
) -> Receipt:
    """The receipt of an order that ended with released bytes, a refusal or a fault.

    It is held until the next step of the schedule, unless `leaves` says (in monotonic time) when it may go. `repeats`
    is the receipt of the first answer, where this one is given again.
    """
    ticket, grant = order.ticket, order.grant
    if leaves is None:
        leaves = enclave.schedule.hold(ticket.ticket_id, order.began)
    refused = result if isinstance(result, Refused) else None
    failed = result if isinstance(result, Failed) else None
    outcome = Outcome.REFUSED if refused else Outcome.FAILED if failed else Outcome.RELEASED
    return Receipt(
        receipt_id=f"rcpt-{secrets.token_hex(12)}",
        sequence=sequence,
        ticket_id=ticket.ticket_id,
        submission_id=ticket.submission_id,
        grant_id=grant.grant_id,
        operator_id=grant.operator_id,
        purpose=grant.purpose,
        mode=ticket.job.mode,
        outcome=outcome,
        rule=refused.rule if refused else None,
        facts=refused.facts if refused else {},
        fault=failed.fault if failed else None,
        losses=losses,
        data_versions=ticket.data_versions,
        input_sha256=ticket.input_sha256,
        release_sha256=digest(result) if isinstance(result, bytes) else None,
        policy_sha256=ticket.policy_sha256,
        charge=ticket.charge,
        measurement=enclave.measurement,
        audit_size=ticket.audit_size,
        audit_root=ticket.audit_root,
        # The second in which the schedule lets the answer go: the one in which the job ended would tell more.
        finished_at=(enclave.clock() + timedelta(seconds=leaves - time.monotonic())).replace(microsecond=0),
        repeats=repeats,
    )
