"""Standing orders: a product is opened under a standing ticket, answers calls, and is closed; a newer one replaces it.

The ticket itself and the offer are the contract's, signed by the control plane and by the enclave.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from enclave_runner.contract.signing import Signed
from sandbox.domain.lifecycle import Lifecycle


class StandingStatus(Enum):
    """Only an open one answers. Opening: the enclave builds its tables. Closing: the enclave has not confirmed yet."""

    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"
    REFUSED = "refused"


STANDING_LIFECYCLE = Lifecycle(
    "standing order",
    StandingStatus.OPENING,
    {
        StandingStatus.OPENING: frozenset({StandingStatus.OPEN, StandingStatus.CLOSING, StandingStatus.REFUSED}),
        StandingStatus.OPEN: frozenset({StandingStatus.CLOSING}),
        StandingStatus.CLOSING: frozenset({StandingStatus.CLOSED}),
        StandingStatus.CLOSED: frozenset(),
        StandingStatus.REFUSED: frozenset(),
    },
)


@dataclass(frozen=True)
class StandingOrder:
    """One standing ticket and what became of it. `rule` is the one by which the enclave refused to open it."""

    ticket_id: str
    product_id: str
    grant_id: str
    data_versions: dict[str, str]
    calls: int
    issued_at: datetime
    expires_at: datetime
    ticket: Signed
    status: StandingStatus = StandingStatus.OPENING
    offer: Signed | None = None
    rule: str | None = None

    def __post_init__(self) -> None:
        if (self.status is StandingStatus.OPEN) and self.offer is None:
            raise ValueError("an open order has its offer")

    def is_current(self, now: datetime) -> bool:
        """Whether it is opening or open, and not over."""
        return self.status in (StandingStatus.OPENING, StandingStatus.OPEN) and now < self.expires_at
