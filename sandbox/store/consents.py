"""Consents as stored: the subject is the enclave's pseudonym."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from sandbox.domain.consent import Consent
from sandbox.store import schema
from sandbox.store.documents import Documents

SUBJECTS_AT_ONCE = 500  # below every database's limit of parameters in one statement

CONSENTS = Documents(
    schema.consents,
    Consent,
    lambda consent: {
        "consent_id": consent.consent_id,
        "subject": consent.subject,
        "business_id": consent.business_id,
        "product_id": consent.product_id,
    },
)


def about(connection: Connection, subject: str, business_id: str, product_id: str) -> tuple[Consent, ...]:
    """Every consent of that subject for that business and product, expired and withdrawn ones included."""
    columns = schema.consents.c
    return CONSENTS.listed(
        connection,
        columns.subject == subject,
        columns.business_id == business_id,
        columns.product_id == product_id,
    )


def about_many(
    connection: Connection, subjects: Sequence[str], business_id: str, product_id: str
) -> tuple[Consent, ...]:
    """Every consent of any of those subjects for that business and product, ended ones included."""
    columns = schema.consents.c
    found: list[Consent] = []
    for first in range(0, len(subjects), SUBJECTS_AT_ONCE):
        found += CONSENTS.listed(
            connection,
            columns.business_id == business_id,
            columns.product_id == product_id,
            columns.subject.in_(subjects[first : first + SUBJECTS_AT_ONCE]),
        )
    return tuple(found)


def of_business(connection: Connection, business_id: str) -> tuple[Consent, ...]:
    """Every consent that names a business."""
    return CONSENTS.listed(connection, schema.consents.c.business_id == business_id)
