"""Parties: the bureau, departments, operators and businesses. Every organisation carries a valid credit code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from stdnum.cn import uscc

from enclave_runner.contract.codec import digest, encode
from enclave_runner.contract.dataset import SLUG
from enclave_runner.contract.errors import Refused
from sandbox.domain.lifecycle import Lifecycle


class Role(Enum):
    """What a party is, and with it what it may do."""

    BUREAU = "bureau"
    DEPARTMENT = "department"
    OPERATOR = "operator"
    BUSINESS = "business"


class PartyStatus(Enum):
    """Article 49: rectification, suspension, termination."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    TERMINATED = "terminated"


PARTY_LIFECYCLE = Lifecycle(
    "party",
    PartyStatus.ACTIVE,
    {
        PartyStatus.ACTIVE: frozenset({PartyStatus.SUSPENDED}),
        PartyStatus.SUSPENDED: frozenset({PartyStatus.ACTIVE, PartyStatus.TERMINATED}),
        PartyStatus.TERMINATED: frozenset(),
    },
)


@dataclass(frozen=True)
class Party:
    """An organisation known to the platform. Its credit code has one spelling: 18 characters, letters in upper case."""

    party_id: str
    name: str
    role: Role
    credit_code: str
    status: PartyStatus = PartyStatus.ACTIVE

    def __post_init__(self) -> None:
        if not SLUG.fullmatch(self.party_id):
            raise Refused("party.id")
        if not self.name.strip() or len(self.name) > 200:
            raise Refused("party.name")
        if not uscc.is_valid(self.credit_code) or uscc.compact(self.credit_code) != self.credit_code:
            raise Refused("party.credit-code")

    @property
    def fixed_sha256(self) -> str:
        """The digest of everything but the status: what was registered, and never changes."""
        return digest(encode(replace(self, status=PARTY_LIFECYCLE.initial)))
