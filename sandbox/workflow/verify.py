"""Calling a verification product: consent where the product needs it, a salted question beside the ticket, one word."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlalchemy import Connection

from enclave_runner.contract.codec import digest, encode
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import Purpose
from enclave_runner.contract.job import Question
from sandbox.domain.grant import GrantRecord
from sandbox.domain.product import Product, ProductStatus
from sandbox.rules.access import Action, Record
from sandbox.rules.admission import decide_active, decide_grant, decide_mode, decide_question, decide_scope
from sandbox.rules.scenario import decide_use
from sandbox.store import consents, datasets
from sandbox.store.database import reading, writing
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
        reads = Reads({product.job.dataset_id: (product.job.attribute,)})
        input_sha256 = digest(encode(question))
        submission = file_submission(
            office, connection, actor, record, product.job, reads, input_sha256, product.product_id, consent_id
        )
    return submission.submission_id


def _callable_grant(office: Office, connection: Connection, actor: Actor, product: Product) -> GrantRecord:
    """The grant under which the product answers this caller now."""
    if product.status is not ProductStatus.PUBLISHED:
        raise Refused("product.not-published", product=product.product_id, status=product.status.value)
    record = GRANTS.get(connection, product.grant_id)
    scenario = SCENARIOS.get(connection, record.grant.scenario_id)
    job, now, catalogue = product.job, office.clock(), datasets.catalogue(connection)
    for decision in (
        decide_active(PARTIES.get(connection, product.operator_id)),
        decide_grant(record, product.operator_id, now),
        decide_use(scenario, record.grant, actor.party.party_id, now),
        decide_mode(record.grant, job.mode),
        decide_scope(record.grant, job.dataset_id, (job.attribute,), catalogue),
    ):
        decision.enforce()
    # The catalogue may have changed since the product was published.
    decide_question(product, catalogue[job.dataset_id]).enforce()
    return record


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
