"""The ticket: the control plane's signed order to the enclave, one job, one use, a short life."""

from __future__ import annotations

from datetime import datetime

from enclave_runner.contract.codec import Value
from enclave_runner.contract.job import Job
from enclave_runner.contract.signing import Signed

PURPOSE = "ticket"


class Charge(Value, frozen=True):
    """The price tag, frozen at dispatch: tariff, unit price in fen, and the legal basis of free or paid."""

    tariff_id: str
    unit_price_fen: int
    legal_basis: str

    def __post_init__(self) -> None:
        if not 0 <= self.unit_price_fen <= 10**12:
            raise ValueError("a unit price is not negative")


class Ticket(Value, frozen=True):
    """One ordered job. `ticket_id` is the nonce; `data_versions` pins dataset id → version.

    `input_sha256` is the digest of what travels beside the ticket (a model, a question), None when nothing does.
    `audit_root` and `audit_size` are the control plane's newest checkpoint, which the receipt log then carries.
    `receipts_seen` is the newest checkpoint of the receipt log that the control plane has verified: an enclave that
    does not have it in its log runs nothing.
    """

    ticket_id: str
    submission_id: str
    grant: Signed
    job: Job
    data_versions: dict[str, str]
    input_sha256: str | None
    policy_sha256: str
    charge: Charge
    issued_at: datetime
    expires_at: datetime
    audit_size: int
    audit_root: str
    receipts_seen: str | None = None

    def __post_init__(self) -> None:
        if self.issued_at.tzinfo is None or self.expires_at.tzinfo is None or self.expires_at <= self.issued_at:
            raise ValueError("a ticket expires after it was issued")
