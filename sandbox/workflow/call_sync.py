"""Fetching the receipts of calls: each batch verified against the one before it, then recorded, each call once.

A call writes nothing durable here: its receipt is durable in the enclave before the answer leaves, and is fetched
before anything reads the meter, at the start, and now and then by the API. So a crash on either side loses none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from enclave_runner.contract.call import (
    BATCH_PURPOSE,
    NO_BATCH,
    CallBatch,
    CallReceipt,
    batch_digest,
    open_batch,
)
from enclave_runner.contract.codec import decode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.evidence import RESTORATION, Restoration
from enclave_runner.contract.grant import Grant
from enclave_runner.contract.receipt import Outcome
from enclave_runner.contract.signing import PublicKey, Signed, unseal
from enclave_runner.contract.standing import StandingTicket
from enclave_runner.contract.wire import AskCalls, AskLog, BatchRecord, CallLog, ReceiptLog
from sandbox.domain.metering import MAX_UNITS
from sandbox.store import calls, standing
from sandbox.store.database import reading, writing
from sandbox.store.parties import PARTIES
from sandbox.store.standing import ORDERS
from sandbox.workflow.office import Office, note_act

# After its k-th restore the enclave numbers batches and calls from k times this on: what it has forgotten, and what was
# recorded here, is not used again.
RESTORED_STEP = 1 << 40
FAR = 1 << 62


@dataclass(frozen=True)
class Place:
    """Where the chain of batches stands: the numbers that come next, and the digest that the next batch names."""

    number: int = 0
    sequence: int = 0
    previous: str = NO_BATCH

    @property
    def restores(self) -> int:
        """How many restores of the enclave lie before its newest batch."""
        return max(self.number - 1, 0) // RESTORED_STEP


@dataclass(frozen=True)
class OpenedBatch:
    """A verified batch: what the enclave signed, and its receipts as decoded and as written."""

    record: BatchRecord
    batch: CallBatch
    receipts: tuple[CallReceipt, ...]

    @property
    def after(self) -> Place:
        """Where the chain stands after it."""
        return place_after(self.record.batch, self.batch)


def place_after(signed: Signed, batch: CallBatch) -> Place:
    """Where the chain stands after that batch."""
    return Place(batch.number + 1, batch.first + batch.count, batch_digest(signed))


def sync_calls(office: Office) -> int:
    """Record every call of the enclave that is not recorded here; how many there were. Safe beside others.

    Nothing is asked before the first standing order: there can be no calls.

    Raises:
        Refused: `signature.invalid`, `call.not-in-batch`, `call.chain`, `receipt.mismatch`, `receipt.unknown-ticket`,
            `call.forgotten`: nothing of what was fetched with it is recorded.
        Failed: `enclave.absent`, `enclave.lost`.
    """
    with reading(office.engine) as connection:
        if not standing.has_any(connection):
            return 0
        place = _place(office, connection)
    recorded = 0
    while True:
        fresh = _continued(office, place)
        if not fresh:
            return recorded
        with writing(office.engine) as connection:
            recorded += _record(office, connection, fresh)
        place = fresh[-1].after


def fetch_batches(office: Office, since: int) -> tuple[BatchRecord, ...]:
    """Some batches of the enclave from that number on, as it sends them; none beyond its newest."""
    reply = office.enclave.call(AskCalls(since=since))
    if not isinstance(reply, CallLog):
        raise Failed("enclave.answer")
    return reply.batches


def fetch_restores(office: Office) -> int:
    """How many restores the enclave states, each signed."""
    reply = office.enclave.call(AskLog(since=FAR))
    if not isinstance(reply, ReceiptLog):
        raise Failed("enclave.answer")
    for signed in reply.restorations:
        unseal(signed, RESTORATION, (office.enclave_key,), Restoration)
    return len(reply.restorations)


def open_after(
    record: BatchRecord, place: Place, key: PublicKey, restores: int, is_known: Callable[[str], bool]
) -> OpenedBatch:
    """Verify one batch against the place where it must stand: right behind the one before it; or, when the enclave has
    been restored since, at the first number of after the restore, behind any batch that is known.

    Raises:
        Refused: `signature.invalid`, `wire.malformed`, `call.not-in-batch`, `call.chain`.
    """
    peeked = unseal(record.batch, BATCH_PURPOSE, (key,), CallBatch)
    previous, expected = place.previous, (place.number, place.sequence)
    has_followed = peeked.previous in (NO_BATCH, place.previous) or is_known(peeked.previous)
    if place.restores < peeked.number // RESTORED_STEP <= restores and has_followed:
        first = peeked.number // RESTORED_STEP * RESTORED_STEP
        previous, expected = peeked.previous, (first, first)
    batch, receipts = open_batch(record.batch, record.receipts, previous, (key,))
    if (batch.number, batch.first) != expected:
        raise Refused("call.chain", number=batch.number)
    return OpenedBatch(record, batch, receipts)


def stands(office: Office, place: Place) -> bool:
    """Whether the enclave has the newest batch that is known here, or has stated a restore since."""
    if not place.number or _has_newest(fetch_batches(office, place.number - 1), place):
        return True
    return fetch_restores(office) > place.restores


def _has_newest(records: tuple[BatchRecord, ...], place: Place) -> bool:
    return not place.number or (bool(records) and batch_digest(records[0].batch) == place.previous)


def _place(office: Office, connection: Connection) -> Place:
    newest = calls.newest_batch(connection)
    return Place() if newest is None else place_after(newest, decode(newest.payload, CallBatch))


def _continued(office: Office, place: Place) -> tuple[OpenedBatch, ...]:
    """Some of what follows the known batches, verified."""
    # From the newest that is known here on: an enclave that has forgotten calls is found at once.
    records = fetch_batches(office, max(place.number - 1, 0))
    restores = place.restores
    if not _has_newest(records, place):
        restores = fetch_restores(office)
        if restores <= place.restores:
            raise Refused("call.forgotten", number=place.number - 1)
    elif place.number:
        records = records[1:]
    opened: list[OpenedBatch] = []
    for record in records:
        if decode(record.batch.payload, CallBatch).number // RESTORED_STEP > restores:
            restores = fetch_restores(office)
        opened.append(open_after(record, place, office.enclave_key, restores, partial(_is_known, office)))
        place = opened[-1].after
    return tuple(opened)


def _is_known(office: Office, name: str) -> bool:
    with reading(office.engine) as connection:
        return calls.has_batch(connection, name)


def _record(office: Office, connection: Connection, opened: tuple[OpenedBatch, ...]) -> int:
    """Write what nobody else has written meanwhile, with one audit entry that names the newest batch."""
    here = _place(office, connection)
    fresh = [found for found in opened if found.batch.number >= here.number]
    if not fresh:
        return 0
    if len(fresh) < len(opened) and fresh[0].batch.previous != here.previous:
        raise Refused("call.chain", number=fresh[0].batch.number)
    tickets: dict[str, StandingTicket] = {}
    for found in fresh:
        for receipt in found.receipts:
            _check_fit(connection, receipt, tickets)
        settled = zip(found.receipts, found.record.receipts, strict=True)
        calls.add_batch(connection, found.batch.number, found.record.batch, settled)
    receipts = [receipt for found in fresh for receipt in found.receipts]
    last = fresh[-1]
    note_act(
        office,
        connection,
        None,
        "calls.settle",
        f"batch-{last.batch.number}",
        first_batch=str(fresh[0].batch.number),
        first=str(fresh[0].batch.first),
        count=str(len(receipts)),
        units=str(sum(receipt.units for receipt in receipts)),
        batch_sha256=last.after.previous,
    )
    return len(receipts)


def _check_fit(connection: Connection, receipt: CallReceipt, tickets: dict[str, StandingTicket]) -> None:
    """The receipt must be of a call under a standing ticket that was signed here, at its price, by a known party."""
    if receipt.ticket_id not in tickets:
        order = ORDERS.find(connection, receipt.ticket_id)
        if order is None:
            raise Refused("receipt.unknown-ticket")
        tickets[receipt.ticket_id] = decode(order.ticket.payload, StandingTicket)
    wrong = mismatch(receipt, tickets[receipt.ticket_id])
    if wrong is None and PARTIES.find(connection, receipt.caller_id) is None:
        wrong = "caller"
    if wrong is not None:
        raise Refused("receipt.mismatch", what=wrong)


def mismatch(receipt: CallReceipt, ticket: StandingTicket) -> str | None:
    """What of a call's receipt is not as its standing ticket says; None when it fits."""
    grant = decode(ticket.grant.payload, Grant)
    released = receipt.outcome is Outcome.RELEASED
    pairs: Mapping[str, tuple[object, object]] = {
        "product": (receipt.product_id, ticket.product_id),
        "grant": (receipt.grant_id, grant.grant_id),
        "operator": (receipt.operator_id, grant.operator_id),
        "purpose": (receipt.purpose, grant.purpose),
        "charge": (receipt.charge, ticket.charge),
        "data version": (receipt.data_versions, ticket.data_versions),
    }
    if released:  # an enclave under another pack refuses, and names its own
        pairs = {**pairs, "policy": (receipt.policy_sha256, ticket.policy_sha256)}
    for what, (said, ordered) in pairs.items():
        if said != ordered:
            return what
    if not 0 <= receipt.units <= (MAX_UNITS if released else 0):
        return "units"
    if released and receipt.mode not in ticket.check.modes:
        return "mode"
    if released and receipt.units and ticket.needs_consent and receipt.consents is None:
        return "consent"
    return None
