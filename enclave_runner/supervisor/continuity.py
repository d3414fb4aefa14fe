"""Whether this enclave is the one that others have seen: a home that was copied back has a shorter or another log."""

from __future__ import annotations

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.merkle import open_checkpoint
from enclave_runner.contract.signing import PublicKey
from enclave_runner.supervisor.ledger import RECEIPT_ORIGIN, Ledger


def check_seen(ledger: Ledger, key: PublicKey, note: str | None) -> None:
    """Pass if the log contains the checkpoint that somebody verified before; None says that nobody has seen any.

    Raises:
        Refused: `checkpoint.invalid` when this enclave did not sign it; `enclave.rolled-back`.
    """
    if note is None:
        return
    seen = open_checkpoint(note, RECEIPT_ORIGIN, key)
    if not ledger.contains(seen):
        raise Refused("enclave.rolled-back", have=ledger.head().size, seen=seen.size)
