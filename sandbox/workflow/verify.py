"""Calling a verification product: consent where the product needs it, a salted question beside the ticket, one word."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlalchemy import Connection

from enclave_runner.contract.codec import digest, encode
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import Purpose
from enclave_runner.contract.job import Question, VerificationJob
from sandbox.domain.grant import GrantRecord
from sandbox.domain.product import Product
from sandbox.rules.access import Action, Record
from sandbox.rules.calling import decide_callable
from sandbox.rules.scenario import decide_use
from sandbox.store import consents
from sandbox.store.database import reading, writing
from sandbox.store.datasets import DATASETS
from sandbox.store.grants import GRANTS
from sandbox.store.parties import PARTIES
from sandbox.store.products import PRODUCTS
from sandbox.store.scenarios import SCENARIOS
from sandbox.workflow.consents import clean_subject, pseudonym_of
from sandbox.workflow.dispatch import dispatch
from sandbox.workflow.office import Actor, Office, authorize
from sandbox.workflow.settle import Outcome
from sandbox.workflow.submit import Reads, file_submission, note_refusal

MAX_CLAIM = 200


@dataclass(frozen=True)
class Filed:
    """A filed call: its submission, and the question that travels to the enclave and is stored nowhere."""

    submission_id: str
    question: bytes


def verify(office: Office, actor: Actor, product_id: str, subject: str, claim: str) -> Outcome:
    """Ask a published product about one subject. Identifier and claim reach the enclave and are stored nowhere here.

    Raises:
        Refused: as `file_question` does, and by what changed since.
        Failed: when the enclave was lost on the way.
    """
    filed = file_question(office, actor, product_id, subject, claim)
    return dispatch(office, filed.submission_id, filed.question)


def file_question(office: Office, actor: Actor, product_id: str, subject: str, claim: str) -> Filed:
    """File a call without running it: whoever retries can tell a call that was filed from one that was not.

    Raises:
        Refused: by access, `product.not-published`, `consent.missing`, article 35's conditions, `subject.malformed`,
            `verification.claim-length`; a refusal stands in the audit log, without the subject.
    """
    try:
        question = _question(subject, claim)
        submission_id = _file(office, actor, product_id, question)
    except Refused as refused:
        note_refusal(office, actor, product_id, refused)
        raise
    return Filed(submission_id, encode(question))


def _question(subject: str, claim: str) -> Question:
    """The salt makes the digest in ticket and receipt say nothing about whom it was."""
    if len(claim) > MAX_CLAIM:
        raise Refused("verification.claim-length", max=MAX_CLAIM)
    return Question(subject=clean_subject(subject), claim=claim, salt=secrets.token_hex(32))


def _file(office: Office, actor: Actor, product_id: str, question: Question) -> str:
    authorize(office, actor, Action.CALL_PRODUCT, Record("product", product_id))
    with reading(office.engine) as connection:
        product = PRODUCTS.get(connection, product_id)
        _callable_grant(office, connection, actor, product)
    pseudonym = pseudonym_of(office, product, question.subject) if product.needs_consent else None
    with writing(office.engine) as connection:
        product = PRODUCTS.get(connection, product_id)
        record = _callable_grant(office, connection, actor, product)
        purpose = record.grant.purpose
        consent_id = pseudonym and _covering_consent(office, connection, actor, product, pseudonym, purpose)
        job = _job_of(product)
        input_sha256 = digest(encode(question))
        submission = file_submission(
            office,
            connection,
            actor,
            record,
            job,
            Reads({job.dataset_id: (job.attribute,)}),
            input_sha256,
            product.product_id,
            consent_id,
        )
    return submission.submission_id


def _callable_grant(office: Office, connection: Connection, actor: Actor, product: Product) -> GrantRecord:
    """The grant under which the product answers this caller now."""
    job, now = _job_of(product), office.clock()
    record = GRANTS.get(connection, product.grant_id)
    scenario = SCENARIOS.get(connection, record.grant.scenario_id)
    operator, dataset = PARTIES.get(connection, product.operator_id), DATASETS.find(connection, job.dataset_id)
    decide_callable(product, record, scenario, operator, dataset, now).enforce()
    decide_use(scenario, record.grant, actor.party.party_id, now).enforce()
    return record


def _job_of(product: Product) -> VerificationJob:
    if not isinstance(product.job, VerificationJob):
        raise Refused("product.is-called", product=product.product_id)
    return product.job


def _covering_consent(
    office: Office, connection: Connection, actor: Actor, product: Product, pseudonym: str, purpose: Purpose
) -> str:
    """The consent that covers this call; of several, the one that lasts longest."""
    caller, now = actor.party.party_id, office.clock()
    filed = consents.about(connection, pseudonym, caller, product.product_id)
    covering = [consent for consent in filed if consent.covers(pseudonym, caller, product.product_id, purpose, now)]
    if not covering:
        raise Refused("consent.missing", product=product.product_id)
    return max(covering, key=lambda consent: consent.expires_at).consent_id
