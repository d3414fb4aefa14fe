"""One ticket, from its signature to its receipt, on one page.

    verify ── admit ── prepare ── reserve ── execute ── receipt
      │         └─────────┴──────────┘           │
    refused     refused: receipt without loss    failed: receipt, the loss stays

A ticket whose signature does not verify gets no receipt: nobody ordered it.
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
        enclave.ledger.open_ticket(order.ticket, signed, order.grant, prepared.losses, now)
    except Refused as refused:
        if refused.rule == "ticket.replayed":
            raise
        return _settle_unopened(enclave, order, refused, now)
    except Failed as failed:
        enclave.note_fault(failed, order.ticket.ticket_id)
        return _settle_unopened(enclave, order, failed, now)
    return _execute(enclave, order, prepared)


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


def _check_version(ticket: Ticket, held: HeldVersion) -> None:
    """The version that the plan was bound to, which is the newest, must be the one that the ticket names."""
    if ticket.data_versions != {held.dataset_id: held.version}:
        raise Refused("ticket.data-version", dataset=held.dataset_id)


def _execute(enclave: Enclave, order: Order, prepared: Prepared) -> Settlement:
    ticket_id = order.ticket.ticket_id
    result: bytes | Failed
    try:
        result = encode(execute(enclave, prepared, order.ticket.input_sha256))
    except Exception as error:
        result = error if isinstance(error, Failed) else Failed("job.supervisor")
        enclave.note_fault(result, ticket_id)
    return enclave.ledger.close_ticket(
        ticket_id,
        lambda sequence: receipt_of(enclave, order, sequence, prepared.losses, result),
        result if isinstance(result, bytes) else None,
    )


def _settle_unopened(enclave: Enclave, order: Order, reason: Refused | Failed, now: datetime) -> Settlement:
    """A refusal, or a fault before anything was reserved: certain not to have touched data, so nothing is charged."""
    return enclave.ledger.refuse_ticket(
        order.ticket,
        order.signed,
        order.grant.grant_id,
        lambda sequence: receipt_of(enclave, order, sequence, (), reason),
        now,
    )


def recover_open_tickets(enclave: Enclave) -> int:
    """Sign a Failed receipt for every ticket that a crash left open; its loss stays spent. Returns how many."""
    opened = enclave.ledger.open_tickets()
    for signed, losses in opened:
        _close_restarted(enclave, _accepted(signed), losses)
    return len(opened)


def _accepted(signed: Signed) -> Order:
    """An order that was verified when it was opened; its keys may have been replaced since."""
    ticket = decode(signed.payload, Ticket)
    return Order(signed, ticket, decode(ticket.grant.payload, Grant), time.monotonic())


def _close_restarted(enclave: Enclave, order: Order, losses: tuple[PrivacyLoss, ...]) -> None:
    failed = Failed("enclave.restarted")
    enclave.note_fault(failed, order.ticket.ticket_id)
    enclave.ledger.close_ticket(
        order.ticket.ticket_id, lambda sequence: receipt_of(enclave, order, sequence, losses, failed), None
    )


def receipt_of(
    enclave: Enclave, order: Order, sequence: int, losses: tuple[PrivacyLoss, ...], result: bytes | Refused | Failed
) -> Receipt:
    """The receipt of an order that ended with released bytes, a refusal or a fault."""
    ticket, grant = order.ticket, order.grant
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
    )
