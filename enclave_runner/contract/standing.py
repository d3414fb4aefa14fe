"""The standing ticket: the control plane's signed order to keep one version of a product answering.

The one exception to a job per jail: its worker lives as long as the ticket, holds the verification table of this
product and nothing else, and every call is counted and has its receipt.
"""

from __future__ import annotations

from datetime import datetime

from enclave_runner.contract.check import Check
from enclave_runner.contract.codec import Value
from enclave_runner.contract.scoring import ScoreCheck
from enclave_runner.contract.signing import Signed
from enclave_runner.contract.ticket import Charge

PURPOSE = "standing-ticket"


class StandingTicket(Value, frozen=True):
    """`ticket_id` is the nonce; `calls` caps how many calls may be made under it, refused ones included.

    `charge` is the price of one answered question. `data_versions` pins the data: a newer version needs a new ticket,
    under which a new table is built while the old one still answers.
    """

    ticket_id: str
    product_id: str
    grant: Signed
    check: Check | ScoreCheck
    data_versions: dict[str, str]
    policy_sha256: str
    charge: Charge
    calls: int
    issued_at: datetime
    expires_at: datetime
    needs_consent: bool = False
    receipts_seen: str | None = None

    def __post_init__(self) -> None:
        if self.issued_at.tzinfo is None or self.expires_at.tzinfo is None or self.expires_at <= self.issued_at:
            raise ValueError("a ticket expires after it was issued")
        if not 0 < self.calls <= 10**9:
            raise ValueError("a standing ticket caps its calls")
        if self.needs_consent and any(mode.hides_subject for mode in self.check.modes):
            raise ValueError("a product that must honour a withdrawal at the call cannot hide its subject")
