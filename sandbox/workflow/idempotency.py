"""Idempotency: the same key and the same request never run twice; once answered, they give the same bytes again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from enclave_runner.contract.errors import Refused
from sandbox.store import idempotency
from sandbox.store.database import writing
from sandbox.store.idempotency import Slot
from sandbox.workflow.office import Actor, Office


@dataclass(frozen=True)
class Remembered:
    """The answer, and whether it is the one of an earlier request."""

    response: bytes
    replayed: bool


def remember(office: Office, actor: Actor, key: str, fingerprint: str, run: Callable[[], bytes]) -> Remembered:
    """Run once per person and key. `fingerprint` is the digest of the whole request.

    The key is taken before `run` starts, in a transaction of its own, and given back when `run` raises. The answer is
    kept in another transaction, after those of `run`. When the process dies in between, the key stays in progress for
    good: the work may have been done or not, so it is not done again under that key, and its answer is not known.

    Raises:
        Refused: `idempotency.reused` for another request under the same key, `idempotency.in-progress`.
    """
    slot = Slot(actor.party.party_id, actor.person, key)
    with writing(office.engine) as connection:
        known = idempotency.find(connection, slot)
        if known is None:
            idempotency.reserve(connection, slot, fingerprint)
    if known is not None:
        if known.fingerprint != fingerprint:
            raise Refused("idempotency.reused")
        if known.response is None:
            raise Refused("idempotency.in-progress")
        return Remembered(known.response, True)
    try:
        response = run()
    except BaseException:
        with writing(office.engine) as connection:
            idempotency.free(connection, slot)
        raise
    with writing(office.engine) as connection:
        idempotency.answer(connection, slot, response)
    return Remembered(response, False)
