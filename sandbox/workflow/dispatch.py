"""Dispatch: the last look at the rules, then the ticket is written down, and only then does it go to the enclave."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import Connection

from enclave_runner.contract.codec import decode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.signing import Signed, seal
from enclave_runner.contract.ticket import PURPOSE, Ticket
from enclave_runner.contract.wire import FetchSettlement, RunJob, Settlement
from sandbox.domain.decision import ALLOWED, Decision, refuse
from sandbox.domain.grant import GrantRecord
from sandbox.domain.submission import SUBMISSION_LIFECYCLE, Submission, SubmissionStatus
from sandbox.rules.admission import decide_active, decide_consent, decide_grant
from sandbox.rules.rating import charge_for
from sandbox.rules.scenario import decide_use
from sandbox.store import audit_log, datasets, receipts, submissions, tickets
from sandbox.store.consents import CONSENTS
from sandbox.store.database import reading, writing
from sandbox.store.grants import GRANTS
from sandbox.store.parties import PARTIES
from sandbox.store.products import PRODUCTS
from sandbox.store.scenarios import SCENARIOS
from sandbox.store.submissions import SUBMISSIONS, Filing
from sandbox.workflow.office import Office, note_act
from sandbox.workflow.settle import Outcome, outcome_of, settle
from sandbox.workflow.submit import artefact_path

TICKET_LIFE = timedelta(minutes=10)


def dispatch(office: Office, submission_id: str, question: bytes | None = None) -> Outcome:
    """Run an admitted submission and settle it. `question` travels beside a verification and is stored nowhere.

    Raises:
        Refused: by article 35's conditions, the grant, a suspended party, `consent.missing`, `lifecycle.illegal`; then
            nothing was sent.
        Failed: when the enclave was lost on the way; `recover` then finds how the job ended.
    """
    with writing(office.engine) as connection:
        filing = submissions.filing(connection, submission_id)
        SUBMISSION_LIFECYCLE.check(filing.submission.status, SubmissionStatus.DISPATCHED)
        record = GRANTS.get(connection, filing.submission.grant_id)
        decision = _decide(office, connection, filing, record)
        signed = _write_ticket(office, connection, filing, record) if decision.allowed else None
        if signed is None:
            _write_refusal(office, connection, filing.submission, str(decision.rule))
    decision.enforce()
    if signed is None:
        raise Failed("dispatch.ticket")
    return send_ticket(office, signed, question)


def collect(office: Office, submission_id: str) -> Outcome:
    """The outcome of a submission that was dispatched before, fetched from the enclave where it is not settled yet.

    Raises:
        Refused: `submission.unsettled` when it was never dispatched.
        Failed: `dispatch.running` while the enclave has no receipt for it.
    """
    with reading(office.engine) as connection:
        waiting = SUBMISSIONS.get(connection, submission_id).status is SubmissionStatus.DISPATCHED
        if not waiting:
            return outcome_of(connection, submission_id)
        ticket = decode(tickets.of_submission(connection, submission_id).payload, Ticket)
    reply = office.enclave.call(FetchSettlement(ticket_id=ticket.ticket_id))
    if not isinstance(reply, Settlement):
        raise Failed("enclave.answer")
    if reply.receipt is None:
        raise Failed("dispatch.running")
    return settle(office, reply)


def _decide(office: Office, connection: Connection, filing: Filing, record: GrantRecord) -> Decision:
    """What may have changed since the submission was admitted."""
    submission, now = filing.submission, office.clock()
    scenario = SCENARIOS.get(connection, record.grant.scenario_id)
    decisions = [
        decide_active(PARTIES.get(connection, submission.operator_id)),
        decide_active(PARTIES.get(connection, submission.requester_id)),
        decide_grant(record, submission.operator_id, now),
        decide_use(scenario, record.grant, submission.requester_id, now),
        _decide_consent(office, connection, filing),
    ]
    for dataset_id in filing.dataset_ids:
        if datasets.current_version(connection, dataset_id) is None:
            decisions.append(refuse("dataset.unknown", dataset=dataset_id))
    return next((decision for decision in decisions if not decision.allowed), decisions[0])


def _decide_consent(office: Office, connection: Connection, filing: Filing) -> Decision:
    submission = filing.submission
    if submission.product_id is None:
        return ALLOWED
    product = PRODUCTS.get(connection, submission.product_id)
    consent = None if filing.consent_id is None else CONSENTS.find(connection, filing.consent_id)
    return decide_consent(product, consent, submission.requester_id, submission.purpose, office.clock())


def _write_ticket(office: Office, connection: Connection, filing: Filing, record: GrantRecord) -> Signed:
    """Sign the ticket and record it: from here on the submission counts as dispatched, whatever happens."""
    submission, now = filing.submission, office.clock()
    versions = {name: datasets.current_version(connection, name) for name in filing.dataset_ids}
    known = {name: version for name, version in versions.items() if version is not None}
    if record.signed is None or len(known) != len(versions):
        raise Failed("dispatch.ticket")
    newest = audit_log.frontier(connection)
    ticket = Ticket(
        ticket_id=f"tick-{secrets.token_hex(16)}",
        submission_id=submission.submission_id,
        grant=record.signed,
        job=submission.job,
        data_versions=known,
        input_sha256=submission.input_sha256,
        policy_sha256=office.pack.sha256,
        charge=charge_for(office.tariffs, record.grant.purpose, submission.job.mode),
        issued_at=now,
        expires_at=now + TICKET_LIFE,
        audit_size=newest.size,
        audit_root=newest.root.hex(),
        receipts_seen=receipts.newest_checkpoint(connection),
    )
    signed = seal(ticket, PURPOSE, office.signer)
    tickets.add(connection, ticket, signed)
    SUBMISSIONS.save(connection, replace(submission, status=SubmissionStatus.DISPATCHED))
    note_act(
        office,
        connection,
        None,
        "submission.dispatch",
        submission.submission_id,
        ticket=ticket.ticket_id,
        tariff=ticket.charge.tariff_id,
    )
    return signed


def _write_refusal(office: Office, connection: Connection, submission: Submission, rule: str) -> None:
    SUBMISSIONS.save(connection, replace(submission, status=SubmissionStatus.REFUSED))
    note_act(office, connection, None, "submission.refuse", submission.submission_id, rule=rule)


def send_ticket(office: Office, signed: Signed, question: bytes | None) -> Outcome:
    """Hand a recorded ticket over with its input, and settle what comes back. A ticket may be sent twice: the enclave
    runs it once.

    Raises:
        Refused: when the enclave does not accept the order at all; the submission is then refused without a receipt.
        Failed: as the enclave says; `dispatch.running` when the job still runs from an earlier sending.
    """
    ticket = decode(signed.payload, Ticket)
    try:
        with _input_file(office, ticket, question) as descriptor:
            reply = office.enclave.call(RunJob(ticket=signed), descriptor)
    except Refused as refused:
        if refused.rule != "ticket.replayed":
            with writing(office.engine) as connection:
                submission = SUBMISSIONS.get(connection, ticket.submission_id)
                if submission.status is SubmissionStatus.DISPATCHED:
                    _write_refusal(office, connection, submission, refused.rule)
            raise
        reply = office.enclave.call(FetchSettlement(ticket_id=ticket.ticket_id))
    if not isinstance(reply, Settlement):
        raise Failed("enclave.answer")
    if reply.receipt is None:
        raise Failed("dispatch.running")
    return settle(office, reply)


@contextmanager
def _input_file(office: Office, ticket: Ticket, question: bytes | None) -> Iterator[int | None]:
    """What travels beside the ticket, in memory only. None when there is none, or when it is no longer at hand."""
    content = question
    if content is None and ticket.input_sha256 is not None:
        path = artefact_path(office, ticket.input_sha256)
        content = path.read_bytes() if path.is_file() else None
    if content is None:
        yield None
        return
    descriptor = os.memfd_create("input", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        file.write(content)
        yield descriptor
