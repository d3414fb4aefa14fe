"""Calls of open products as the enclave settled them: signed batches, receipts, and the meter events that they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, func, insert, or_, select

from enclave_runner.contract.call import CallReceipt, batch_digest
from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.signing import Signed
from sandbox.domain.metering import MeterEvent
from sandbox.rules.rating import meter_call
from sandbox.store import schema
from sandbox.store.meter_events import stamp

BATCHES, RECEIPTS, LINES = schema.call_batches, schema.call_receipts, schema.call_invoice_lines


def newest_batch(connection: Connection) -> Signed | None:
    """The newest batch that is recorded; None before any."""
    query = select(BATCHES.c.doc).order_by(BATCHES.c.number.desc()).limit(1)
    doc = connection.execute(query).scalar_one_or_none()
    return None if doc is None else decode(doc, Signed)


def has_batch(connection: Connection, name: str) -> bool:
    """Whether a batch of that digest is recorded."""
    return connection.execute(select(BATCHES.c.number).where(BATCHES.c.digest == name)).first() is not None


def add_batch(
    connection: Connection, number: int, signed: Signed, settled: Iterable[tuple[CallReceipt, bytes]]
) -> None:
    """Record a batch with its receipts, each as decoded and as the enclave wrote it."""
    connection.execute(insert(BATCHES).values(number=number, digest=batch_digest(signed), doc=encode(signed)))
    rows = [{**_columns(receipt), "batch": number, "doc": written} for receipt, written in settled]
    if rows:
        connection.execute(insert(RECEIPTS), rows)


def _columns(receipt: CallReceipt) -> dict[str, object]:
    return {
        "sequence": receipt.sequence,
        "ticket_id": receipt.ticket_id,
        "payer_id": receipt.caller_id,
        "operator_id": receipt.operator_id,
        "occurred_at": stamp(receipt.finished_at),
        "units": receipt.units,
    }


def batches(connection: Connection) -> Iterator[tuple[int, Signed, tuple[bytes, ...]]]:
    """Every recorded batch in order, with its receipts as written; what stands beside a receipt says what it says.

    Raises:
        Refused: `wire.malformed` for a row that another hand wrote.
    """
    for row in connection.execute(select(BATCHES).order_by(BATCHES.c.number)):
        query = select(RECEIPTS).where(RECEIPTS.c.batch == row.number).order_by(RECEIPTS.c.sequence)
        found = []
        for stored in connection.execute(query).mappings():
            receipt = decode(stored["doc"], CallReceipt)
            if any(stored[name] != part for name, part in _columns(receipt).items()):
                raise Refused("wire.malformed", what="call receipt")
            found.append(bytes(stored["doc"]))
        yield int(row.number), decode(row.doc, Signed), tuple(found)


def events_between(
    connection: Connection, since: datetime | None, until: datetime | None, party_id: str | None
) -> tuple[MeterEvent, ...]:
    """Events of calls from `since` on and before `until`, of one party as payer or operator, in order of the calls."""
    conditions: list[ColumnElement[bool]] = []
    if since is not None:
        conditions.append(RECEIPTS.c.occurred_at >= stamp(since))
    if until is not None:
        conditions.append(RECEIPTS.c.occurred_at < stamp(until))
    if party_id is not None:
        conditions.append(_concerns(party_id))
    return tuple(meter_call(receipt) for receipt in _receipts(connection, *conditions))


def open_uses(connection: Connection, payer_id: str, until: datetime) -> tuple[MeterEvent, ...]:
    """A payer's answered calls before that moment that stand on no invoice."""
    found = _receipts(
        connection,
        RECEIPTS.c.payer_id == payer_id,
        RECEIPTS.c.units > 0,
        RECEIPTS.c.occurred_at < stamp(until),
        RECEIPTS.c.sequence.not_in(select(LINES.c.sequence)),
    )
    return tuple(meter_call(receipt) for receipt in found)


def on_invoice(connection: Connection, invoice_id: str) -> tuple[CallReceipt, ...]:
    """The receipts of the calls that an invoice covers, in order."""
    covered = select(LINES.c.sequence).where(LINES.c.invoice_id == invoice_id)
    return tuple(_receipts(connection, RECEIPTS.c.sequence.in_(covered)))


def page(connection: Connection, since: int, limit: int, party_id: str | None) -> tuple[CallReceipt, ...]:
    """Receipts from that sequence on, of one party as payer or operator; in order."""
    query = select(RECEIPTS.c.doc).where(RECEIPTS.c.sequence >= since)
    if party_id is not None:
        query = query.where(_concerns(party_id))
    found = connection.execute(query.order_by(RECEIPTS.c.sequence).limit(limit)).scalars()
    return tuple(decode(doc, CallReceipt) for doc in found)


def used(connection: Connection, ticket_id: str) -> tuple[int, int]:
    """How many calls were made under a standing ticket, refused ones included, and how many questions answered."""
    query = select(func.count(), func.coalesce(func.sum(RECEIPTS.c.units), 0)).where(RECEIPTS.c.ticket_id == ticket_id)
    calls, units = connection.execute(query).one()
    return int(calls), int(units)


def _concerns(party_id: str) -> ColumnElement[bool]:
    return or_(RECEIPTS.c.payer_id == party_id, RECEIPTS.c.operator_id == party_id)


def _receipts(connection: Connection, *conditions: ColumnElement[bool]) -> Iterator[CallReceipt]:
    query = select(RECEIPTS.c.doc).where(*conditions).order_by(RECEIPTS.c.sequence)
    for doc in connection.execute(query).scalars():
        yield decode(doc, CallReceipt)
