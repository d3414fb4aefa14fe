"""Audit entries: who did what to which object, when. Public names and digests only, never an identifier of a
subject."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from enclave_runner.contract.codec import encode


@dataclass(frozen=True)
class AuditEntry:
    """One act. `facts` hold names, numbers and digests."""

    actor: str
    act: str
    target: str
    facts: dict[str, str]
    at: datetime

    @property
    def leaf(self) -> bytes:
        """The canonical bytes that the Merkle log hashes."""
        return encode(self)
