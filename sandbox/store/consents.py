"""Consents as stored: the subject is the enclave's pseudonym."""

from __future__ import annotations

from sqlalchemy import Connection

from sandbox.domain.consent import Consent
from sandbox.store import schema
from sandbox.store.documents import Documents

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


def of_business(connection: Connection, business_id: str) -> tuple[Consent, ...]:
    """Every consent that names a business."""
    return CONSENTS.listed(connection, schema.consents.c.business_id == business_id)
