"""Consents of data subjects (article 43). The identifier goes to the enclave; only its pseudonym stays here."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import datetime

from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.wire import AskPseudonym, Pseudonym
from sandbox.domain.consent import Consent
from sandbox.domain.party import Role
from sandbox.domain.product import Product
from sandbox.rules.access import Action, Record
from sandbox.store import consents
from sandbox.store.consents import CONSENTS
from sandbox.store.database import reading, writing
from sandbox.store.grants import GRANTS
from sandbox.store.parties import PARTIES
from sandbox.store.products import PRODUCTS
from sandbox.workflow.office import Actor, Office, authorize, is_allowed, note_act

MAX_IDENTIFIER = 64


def file_consent(
    office: Office, actor: Actor, product_id: str, business_id: str, identifier: str, expires_at: datetime
) -> Consent:
    """File a subject's consent that a business may call a product about them, until a moment.

    Raises:
        Refused: by access, `record.unknown`, `consent.incomplete`, `consent.expired`, `consent.business`,
            `subject.malformed`.
    """
    authorize(office, actor, Action.FILE_CONSENT, Record("consent", product_id))
    if expires_at.tzinfo is None:
        raise Refused("consent.incomplete")
    if expires_at <= office.clock():
        raise Refused("consent.expired")
    with reading(office.engine) as connection:
        product = PRODUCTS.get(connection, product_id)
        if PARTIES.get(connection, business_id).role is Role.BUREAU:
            raise Refused("consent.business", party=business_id)
        purpose = GRANTS.get(connection, product.grant_id).grant.purpose
    consent = Consent(
        consent_id=f"cons-{secrets.token_hex(12)}",
        subject=pseudonym_of(office, product, identifier),
        business_id=business_id,
        product_id=product_id,
        purpose=purpose,
        expires_at=expires_at,
    )
    with writing(office.engine) as connection:
        CONSENTS.add(connection, consent)
        note_act(
            office, connection, actor, "consent.file", consent.consent_id, product=product_id, business=business_id
        )
    return consent


def withdraw_consent(office: Office, actor: Actor, consent_id: str) -> Consent:
    """End a consent: from the next call on it does not count. The first withdrawal stands.

    Raises:
        Refused: by access, or `record.unknown`.
    """
    authorize(office, actor, Action.FILE_CONSENT, Record("consent", consent_id))
    with writing(office.engine) as connection:
        consent = CONSENTS.get(connection, consent_id)
        if consent.withdrawn_at is None:
            consent = replace(consent, withdrawn_at=office.clock())
            CONSENTS.save(connection, consent)
            note_act(office, connection, actor, "consent.withdraw", consent_id)
    return consent


def list_consents(office: Office, actor: Actor) -> tuple[Consent, ...]:
    """The consents that name the actor's party; all of them for the bureau. Ended ones stay listed.

    Raises:
        Refused: by access.
    """
    own = actor.party.party_id
    authorize(office, actor, Action.READ_CONSENT, Record("consent", own, (own,)))
    everything = is_allowed(office, actor, Action.READ_CONSENT, Record("consent", "all"))
    with reading(office.engine) as connection:
        return CONSENTS.listed(connection) if everything else consents.of_business(connection, own)


def pseudonym_of(office: Office, product: Product, identifier: str) -> str:
    """The enclave's pseudonym of a subject of a product.

    Raises:
        Refused: `subject.malformed`, which does not quote the identifier.
    """
    subject = clean_subject(identifier)
    reply = office.enclave.call(AskPseudonym(dataset_id=product.job.dataset_id, identifier=subject))
    if not isinstance(reply, Pseudonym):
        raise Failed("enclave.answer")
    return reply.value


def clean_subject(identifier: str) -> str:
    """An identifier without the blanks around it.

    Raises:
        Refused: `subject.malformed` when it is empty, too long, or holds characters that no identifier has.
    """
    subject = identifier.strip()
    if not 0 < len(subject) <= MAX_IDENTIFIER or not subject.isprintable():
        raise Refused("subject.malformed", max=MAX_IDENTIFIER)
    return subject
