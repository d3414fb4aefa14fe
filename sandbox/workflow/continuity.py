"""Whether the enclave that answers is the one that this control plane knows: same key, and no shorter memory."""

from __future__ import annotations

from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.merkle import open_checkpoint
from enclave_runner.contract.wire import Hello, Identity
from sandbox.store import receipts
from sandbox.store.database import reading
from sandbox.workflow.office import Office


def check_continuity(office: Office) -> None:
    """Compare the enclave's checkpoint with the newest one that was settled here.

    The enclave itself compares roots at earlier sizes, with every ticket and quote; this finds a shorter log at once.

    Raises:
        Refused: `enclave.rolled-back`, `checkpoint.invalid`.
        Failed: `enclave.other` when another enclave answers.
    """
    with reading(office.engine) as connection:
        note = receipts.newest_checkpoint(connection)
    identity = office.enclave.call(Hello())
    if not isinstance(identity, Identity):
        raise Failed("enclave.answer")
    if identity.key != office.enclave_key:
        raise Failed("enclave.other")
    if note is None:
        return
    seen = open_checkpoint(note, office.enclave_origin, office.enclave_key)
    have = open_checkpoint(identity.checkpoint, office.enclave_origin, office.enclave_key)
    if have.size < seen.size or (have.size == seen.size and have.root != seen.root):
        raise Refused("enclave.rolled-back", have=have.size, seen=seen.size)
