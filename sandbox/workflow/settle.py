"""Settling: a verified receipt becomes release, meter event, state and audit entry in one transaction, exactly once.

What must be reviewed before it leaves waits with its receipt, and its meter event comes with the decision (`egress`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import Connection

from enclave_runner.contract.codec import decode, digest, encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.grant import Grant
from enclave_runner.contract.merkle import Checkpoint, open_checkpoint
from enclave_runner.contract.receipt import PURPOSE, Receipt, Release
from enclave_runner.contract.receipt import Outcome as ReceiptOutcome
from enclave_runner.contract.signing import unseal
from enclave_runner.contract.ticket import Charge, Ticket
from enclave_runner.contract.wire import Settlement
from sandbox.domain.submission import SUBMISSION_LIFECYCLE, Submission, SubmissionStatus
from sandbox.rules.rating import meter
from sandbox.store import receipts, submissions, tickets
from sandbox.store.database import writing
from sandbox.store.meter_events import EVENTS
from sandbox.store.receipts import StoredReceipt
from sandbox.store.submissions import SUBMISSIONS
from sandbox.workflow.office import Office, note_act

STATUS_OF = {
    ReceiptOutcome.RELEASED: SubmissionStatus.RELEASED,
    ReceiptOutcome.REFUSED: SubmissionStatus.REFUSED,
    ReceiptOutcome.FAILED: SubmissionStatus.FAILED,
}


@dataclass(frozen=True)
class Outcome:
    """How a submission ended: its receipt, what was released, and the price tag."""

    submission: Submission
    receipt: Receipt
    release: Release | None
    charge: Charge

    @property
    def release_bytes(self) -> bytes | None:
        """The released bytes, whose digest stands in the receipt."""
        return None if self.release is None else encode(self.release)


def settle(office: Office, settlement: Settlement) -> Outcome:
    """Record a settlement. Settling the same one again changes nothing and gives the same outcome.

    Raises:
        Refused: `signature.invalid`, `checkpoint.invalid`, `receipt.unknown-ticket`, `receipt.mismatch`,
            `receipt.second`: nothing is recorded.
        Failed: `settle.no-receipt`.
    """
    stored, checkpoint = _verify(office, settlement)
    receipt = stored.receipt
    with writing(office.engine) as connection:
        ticket = tickets.find(connection, receipt.ticket_id)
        if ticket is None:
            raise Refused("receipt.unknown-ticket")
        _check_fit(receipt, ticket)
        _check_repeat(connection, receipt)
        earlier = receipts.of_submission(connection, receipt.submission_id)
        if earlier is None:
            _record(office, connection, stored, checkpoint, settlement)
        elif earlier.signed != stored.signed:
            raise Refused("receipt.second")
        return outcome_of(connection, receipt.submission_id)


def outcome_of(connection: Connection, submission_id: str) -> Outcome:
    """The recorded outcome of a settled submission.

    Raises:
        Refused: `record.unknown`; `submission.unsettled` when there is no receipt yet.
    """
    submission = SUBMISSIONS.get(connection, submission_id)
    stored = receipts.of_submission(connection, submission_id)
    if stored is None:
        raise Refused("submission.unsettled", status=submission.status.value)
    content = receipts.release_of(connection, stored.receipt.receipt_id)
    return Outcome(submission, stored.receipt, read_release(content), stored.receipt.charge)


def read_release(content: bytes | None) -> Release | None:
    """Released bytes as a value.

    Raises:
        Refused: `wire.malformed`.
    """
    if content is None:
        return None
    release: Release = decode(content, Release)  # type: ignore[arg-type]
    return release


def _verify(office: Office, settlement: Settlement) -> tuple[StoredReceipt, Checkpoint]:
    """Signature, log checkpoint and release, as far as they can be judged without the ticket."""
    if settlement.receipt is None:
        raise Failed("settle.no-receipt")
    receipt = unseal(settlement.receipt, PURPOSE, (office.enclave_key,), Receipt)
    checkpoint = open_checkpoint(settlement.checkpoint, office.enclave_origin, office.enclave_key)
    if checkpoint.size <= receipt.sequence:
        raise Refused("receipt.mismatch", what="checkpoint")
    content = settlement.release
    released = receipt.outcome is ReceiptOutcome.RELEASED
    if released != (content is not None) or receipt.release_sha256 != (None if content is None else digest(content)):
        raise Refused("receipt.mismatch", what="release")
    # The value is what is shown and stored later; it must be the very bytes that the enclave's gate let out.
    if content is not None and encode(read_release(content)) != content:
        raise Refused("receipt.mismatch", what="release")
    return StoredReceipt(settlement.receipt, receipt), checkpoint


def _check_fit(receipt: Receipt, ticket: Ticket) -> None:
    """The receipt must answer exactly the ticket that was sent."""
    grant = decode(ticket.grant.payload, Grant)
    pairs = {
        "submission": (receipt.submission_id, ticket.submission_id),
        "grant": (receipt.grant_id, grant.grant_id),
        "operator": (receipt.operator_id, grant.operator_id),
        "purpose": (receipt.purpose, grant.purpose),
        "mode": (receipt.mode, ticket.job.mode),
        "charge": (receipt.charge, ticket.charge),
        "input": (receipt.input_sha256, ticket.input_sha256),
        "data version": (receipt.data_versions, ticket.data_versions),
        "audit": ((receipt.audit_size, receipt.audit_root), (ticket.audit_size, ticket.audit_root)),
    }
    # An enclave with another pack refuses the ticket and names its own pack; nothing else may differ in it.
    if receipt.rule != "ticket.policy":
        pairs["policy"] = (receipt.policy_sha256, ticket.policy_sha256)
    for what, (said, ordered) in pairs.items():
        if said != ordered:
            raise Refused("receipt.mismatch", what=what)


def _check_repeat(connection: Connection, receipt: Receipt) -> None:
    """An answer that is given again loses nothing and is the same grant's. The first may not have been settled yet."""
    if receipt.repeats is None:
        return
    first = receipts.find(connection, receipt.repeats)
    if not is_repeat(receipt, receipt if first is None else first):
        raise Refused("receipt.mismatch", what="repeat")


def is_repeat(receipt: Receipt, first: Receipt) -> bool:
    """Whether a receipt says no more than that the answer of `first` was given again."""
    fields = ("grant_id", "mode", "data_versions", "policy_sha256", "release_sha256")
    same = all(getattr(receipt, name) == getattr(first, name) for name in fields)
    return same and receipt.outcome is ReceiptOutcome.RELEASED and receipt.losses == ()


def _record(
    office: Office, connection: Connection, stored: StoredReceipt, checkpoint: Checkpoint, settlement: Settlement
) -> None:
    receipt = stored.receipt
    filing = submissions.filing(connection, receipt.submission_id)
    submission = filing.submission
    target = STATUS_OF[receipt.outcome]
    if target is SubmissionStatus.RELEASED and filing.egress_approvals:
        target = SubmissionStatus.EGRESS_REVIEW
    submission = replace(submission, status=SUBMISSION_LIFECYCLE.check(submission.status, target))
    receipts.add(connection, stored, settlement.checkpoint, settlement.release)
    # Whether a use is paid is known when it is released or withheld: its event is recorded then.
    if target is not SubmissionStatus.EGRESS_REVIEW:
        EVENTS.add(connection, meter(receipt, submission))
    SUBMISSIONS.save(connection, submission)
    note_act(
        office,
        connection,
        None,
        "receipt.settle",
        receipt.receipt_id,
        submission=receipt.submission_id,
        outcome=receipt.outcome.value,
        receipt_sha256=digest(encode(stored.signed)),
        log_size=str(checkpoint.size),
        log_root=checkpoint.root.hex(),
    )
