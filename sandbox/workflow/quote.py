"""A quote: what a job would spend, how exact it would be, what it would cost. Nothing is spent by asking."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.job import Job
from enclave_runner.contract.ticket import Charge
from enclave_runner.contract.wire import AskQuote, Quote
from sandbox.domain.grant import GrantRecord
from sandbox.rules.access import Action, Record
from sandbox.rules.admission import decide_grant, decide_mode, decide_scope
from sandbox.rules.rating import charge_for
from sandbox.store import datasets, receipts
from sandbox.store.database import reading
from sandbox.store.grants import GRANTS
from sandbox.workflow.office import Actor, Office, authorize


@dataclass(frozen=True)
class JobQuote:
    """The enclave's quote and the price tag of the authorized scenario."""

    quote: Quote
    charge: Charge


def quote(office: Office, actor: Actor, grant_id: str, job: Job) -> JobQuote:
    """Quote a job under a grant.

    Raises:
        Refused: where submitting the same job would be refused.
    """
    with reading(office.engine) as connection:
        record = usable_grant(office, connection, actor, grant_id, job)
    offered = ask_quote(office, record, job)
    with reading(office.engine) as connection:
        check_scope(connection, record, offered)
    return JobQuote(offered, charge_for(office.tariffs, record.grant.purpose, job.mode))


def usable_grant(office: Office, connection: Connection, actor: Actor, grant_id: str, job: Job) -> GrantRecord:
    """The grant, if the actor's party may use it now for that kind of job.

    Raises:
        Refused: by access, `record.unknown`, `grant.…`.
    """
    record = GRANTS.get(connection, grant_id)
    authorize(office, actor, Action.SUBMIT_JOB, Record("grant", grant_id, (record.grant.operator_id,)))
    decide_grant(record, actor.party.party_id, office.clock()).enforce()
    decide_mode(record.grant, job.mode).enforce()
    return record


def ask_quote(office: Office, record: GrantRecord, job: Job) -> Quote:
    """What the enclave says about a job: the datasets and columns that it reads, its loss and accuracy.

    Raises:
        Refused: as the enclave says.
    """
    if record.signed is None:
        raise Failed("grant.unsigned")
    with reading(office.engine) as connection:
        seen = receipts.newest_checkpoint(connection)
    offered = office.enclave.call(AskQuote(grant=record.signed, job=job, receipts_seen=seen))
    if not isinstance(offered, Quote):
        raise Failed("enclave.answer")
    return offered


def check_scope(connection: Connection, record: GrantRecord, offered: Quote) -> None:
    """Raise Refused unless what the job reads stays within the grant and today's catalogue."""
    catalogue = datasets.catalogue(connection)
    for dataset_id, columns in offered.datasets.items():
        decide_scope(record.grant, dataset_id, columns, catalogue).enforce()
