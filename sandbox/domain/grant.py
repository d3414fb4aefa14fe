"""The life of a grant in the control plane. What it allows stands in the contract's `Grant`, signed by an officer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from enclave_runner.contract.grant import Grant
from enclave_runner.contract.signing import Signed
from sandbox.domain.lifecycle import Lifecycle


class GrantStatus(Enum):
    """Drafted by the bureau, signed by an officer, revoked for good."""

    DRAFT = "draft"
    SIGNED = "signed"
    REVOKED = "revoked"


GRANT_LIFECYCLE = Lifecycle(
    "grant",
    GrantStatus.DRAFT,
    {
        GrantStatus.DRAFT: frozenset({GrantStatus.SIGNED, GrantStatus.REVOKED}),
        GrantStatus.SIGNED: frozenset({GrantStatus.REVOKED}),
        GrantStatus.REVOKED: frozenset(),
    },
)


@dataclass(frozen=True)
class GrantRecord:
    """A grant with its status and, once signed, the officer's signature."""

    grant: Grant
    status: GrantStatus
    signed: Signed | None = None

    def __post_init__(self) -> None:
        if (self.status is GrantStatus.SIGNED) and self.signed is None:
            raise ValueError("a signed grant carries its signature")
