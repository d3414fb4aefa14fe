"""Consents: a data subject lets one business ask one product about them, for one purpose, until a day, revocably.

Article 43. The purpose is that of the product's grant when the subject consented: a product that is moved to a grant
for another purpose needs another consent.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import Purpose


@dataclass(frozen=True)
class Consent:
    """`subject` is the enclave's keyed pseudonym, never an identifier."""

    consent_id: str
    subject: str
    business_id: str
    product_id: str
    purpose: Purpose
    expires_at: datetime
    withdrawn_at: datetime | None = None

    def __post_init__(self) -> None:
        if len(self.subject) != 64 or self.expires_at.tzinfo is None:
            raise Refused("consent.incomplete")

    def covers(self, subject: str, business_id: str, product_id: str, purpose: Purpose, now: datetime) -> bool:
        """Whether it allows that call at that moment."""
        named = (self.subject, self.business_id, self.product_id, self.purpose)
        return (
            named == (subject, business_id, product_id, purpose) and self.withdrawn_at is None and now < self.expires_at
        )
