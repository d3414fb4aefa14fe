"""One standing ticket, from its signature to its signed offer, on one page.

    verify ── admit ── accept ── build (table_build) ── load ── publish ── switch

A refusal closes the ticket for good; a fault leaves what was built, and the same order goes on with it. The earlier
version of the product answers until the new one is there, and finishes the calls that it is at.
"""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from enclave_runner.contract.call import OFFER_PURPOSE, Offer, Table
from enclave_runner.contract.check import Check, CheckKind, VerificationMode
from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.dataset import Column, ColumnType, KeyKind
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.grant import PURPOSE as GRANT_PURPOSE
from enclave_runner.contract.grant import Grant, Mode
from enclave_runner.contract.protocols.canonical import claim_text
from enclave_runner.contract.signing import Signed, seal, unseal
from enclave_runner.contract.standing import PURPOSE as STANDING_PURPOSE
from enclave_runner.contract.standing import StandingTicket
from enclave_runner.contract.wire import Closed, Opened, Progress
from enclave_runner.plan.claim import ORDERED
from enclave_runner.plan.nodes import Name
from enclave_runner.plan.tables import Granted, granted_column
from enclave_runner.private.tasks import Hidden, Serving, Subject
from enclave_runner.supervisor.continuity import check_seen
from enclave_runner.supervisor.enclave import Enclave
from enclave_runner.supervisor.guesses import milli_bits
from enclave_runner.supervisor.holdings import HeldVersion
from enclave_runner.supervisor.prepare import check_charge, granted_dataset
from enclave_runner.supervisor.serving import OpenProduct
from enclave_runner.supervisor.standing import Standing, State
from enclave_runner.supervisor.table_build import Order, build
from enclave_runner.supervisor.verification_tables import HINT, MATRIX, PLAIN, SECRETS, SERVED, Secrets


@dataclass(frozen=True)
class Admitted:
    """A ticket that may be opened: the data version that it names, and the columns of its attributes."""

    ticket: StandingTicket
    grant: Grant
    held: HeldVersion
    columns: tuple[Column, ...]


def open_product(enclave: Enclave, signed: Signed) -> Opened:
    """Build what the ticket orders and answer calls under it; asked again, the same offer.

    Raises:
        Refused: `signature.invalid`, `checkpoint.invalid`, `enclave.rolled-back`, `standing.…`, `ticket.…`, `grant.…`,
            `dataset.…`, `verification.…`.
        Failed: `job.…`, `jail.…`, `rawdata.…`, `ledger.write`, `standing.busy`: the same order may be given again.
    """
    ticket = unseal(signed, STANDING_PURPOSE, enclave.trust.control, StandingTicket)
    grant = unseal(ticket.grant, GRANT_PURPOSE, enclave.trust.officers, Grant)
    check_seen(enclave.ledger, enclave.key.public_key, ticket.receipts_seen)
    verification = enclave.verification
    if not verification.openings.places.acquire(blocking=False):
        raise Failed("standing.busy")
    if verification.openings.progress(ticket.ticket_id) is None:
        verification.openings.note(ticket.ticket_id, "waiting")
    try:
        with verification.openings.building:
            return Opened(offer=_opened(enclave, signed, ticket, grant))
    finally:
        verification.openings.forget(ticket.ticket_id)
        verification.openings.places.release()


def _opened(enclave: Enclave, signed: Signed, ticket: StandingTicket, grant: Grant) -> Signed:
    standing = enclave.verification.standing
    end_over(enclave)
    known = standing.find(ticket.ticket_id)
    if known is not None and known.state is State.OPEN and known.signed == signed:
        return _offer_of(known)
    current = standing.open_for(ticket.product_id)
    if current is not None and current.ticket.issued_at > ticket.issued_at:
        raise Refused("standing.closed")  # an older order never takes the place of a newer one
    admitted = _admit(enclave, ticket, grant)
    enclave.ledger.accept_standing(grant, ticket.issued_at)
    accepted = standing.begin(signed, ticket, secrets.token_hex(16), enclave.now())
    try:
        return _switch(enclave, accepted, _build(enclave, accepted, admitted))
    except Refused:
        close_standing(enclave, ticket.ticket_id)
        raise
    except BaseException:
        drop_closed(enclave)  # what was built since it was closed, if it was
        raise


def _switch(enclave: Enclave, accepted: Standing, offer: Signed) -> Signed:
    """Let the new version answer in place of the old one, once its worker has proved to start."""
    verification = enclave.verification
    fresh = _loaded(enclave, accepted, offer)
    if fresh is None:
        raise Refused("dataset.unknown", dataset=accepted.ticket.check.dataset_id)
    try:
        fresh.ask(verification.zygote, lambda worker: None)
        verification.standing.publish(accepted.ticket_id, accepted.product_id, encode(offer))
    except BaseException:
        fresh.retire()
        raise
    verification.products.put(fresh)
    verification.tables.drop(accepted.version, keeping=SERVED)
    drop_closed(enclave)
    return offer


def _admit(enclave: Enclave, ticket: StandingTicket, grant: Grant) -> Admitted:
    """What holds for every standing ticket, whatever it asks."""
    limits, now = enclave.limits.verification, enclave.now()
    if ticket.policy_sha256 != enclave.pack.sha256:
        raise Refused("ticket.policy")
    if ticket.expires_at - ticket.issued_at > timedelta(days=limits.max_days):
        raise Refused("standing.life", max=limits.max_days)
    if ticket.calls > limits.max_calls:
        raise Refused("standing.calls", max=limits.max_calls)
    if not ticket.issued_at <= now < ticket.expires_at:
        raise Refused("ticket.expired")
    if now < grant.not_before:
        raise Refused("grant.not-yet", since=grant.not_before.date().isoformat())
    if now >= grant.deadline:
        raise Refused("grant.expired", deadline=grant.deadline.date().isoformat())
    if Mode.VERIFICATION not in grant.modes:
        raise Refused("grant.mode", mode=Mode.VERIFICATION.value)
    check_charge(enclave, grant, Mode.VERIFICATION, ticket.charge)
    others = {item.product_id for item in enclave.verification.standing.unclosed()} - {ticket.product_id}
    if len(others) >= limits.max_products:
        raise Refused("standing.products", max=limits.max_products)
    return _fit(enclave, ticket, grant)


def _fit(enclave: Enclave, ticket: StandingTicket, grant: Grant) -> Admitted:
    """Data, columns and check must fit each other, and the grant."""
    check = ticket.check
    held, scope = granted_dataset(enclave, grant, check.dataset_id)
    spec = held.spec
    if ticket.data_versions != {held.dataset_id: held.version}:
        raise Refused("ticket.data-version", dataset=held.dataset_id)
    _check_restored(enclave, ticket, held)
    if not spec.unique or spec.key_kind is KeyKind.ROW:
        raise Refused("verification.many-rows")
    if held.rows > enclave.limits.verification.max_rows:
        raise Refused("verification.too-many", most=enclave.limits.verification.max_rows)
    columns = []
    for name in check.attributes:
        if spec.column(name) is None:
            raise Refused("verification.attribute", column=name[:64])
        columns.append(granted_column(Name(column=name, table=None, position=1), Granted(spec, scope)))
    held.require(check.attributes, with_key=True)
    for column in columns:
        _check_type(enclave, ticket, column)
    return Admitted(ticket, grant, held, tuple(columns))


def _check_restored(enclave: Enclave, ticket: StandingTicket, held: HeldVersion) -> None:
    """After a restore nobody knows what was asked about the data of before: they need a new version."""
    not_before = enclave.ledger.not_before()
    if not_before is None:
        return
    if ticket.issued_at < not_before:
        raise Refused("ticket.voided", since=not_before.isoformat())
    if datetime.fromisoformat(held.imported_at) < not_before:
        raise Refused("standing.forgotten", dataset=held.dataset_id, since=not_before.isoformat())


def _check_type(enclave: Enclave, ticket: StandingTicket, column: Column) -> None:
    check = ticket.check
    if not isinstance(check, Check):
        most = enclave.limits.verification.milli_bits_of_a_score
        if column.type is ColumnType.TEXT:
            raise Refused("verification.claim", column=column.name)
        if milli_bits(check.outcomes) > most:
            raise Refused("verification.score-bits", max=f"{most / 1000:g}")
        return
    wants_order = check.kind in (CheckKind.AT_LEAST, CheckKind.LEVEL) or VerificationMode.THRESHOLD in check.modes
    if wants_order and column.type not in ORDERED:
        # Names have an order too, but asking along it would spell them out letter by letter.
        raise Refused("verification.claim", column=column.name)
    for member in check.members:
        claim_text(member, column.type, column.scale)


def _build(enclave: Enclave, accepted: Standing, admitted: Admitted) -> Signed:
    """Build the tables and sign what they answer."""
    ticket, held = admitted.ticket, admitted.held
    built = build(enclave, _order(accepted, admitted))
    if VerificationMode.BUCKET in ticket.check.modes and (built is None or built.k < enclave.limits.verification.k_min):
        raise Refused("verification.too-few", min=enclave.limits.verification.k_min)
    is_check = isinstance(ticket.check, Check)
    offer = Offer(
        product_id=ticket.product_id,
        ticket_id=ticket.ticket_id,
        version=accepted.version,
        check=ticket.check,
        key_kind=held.spec.key_kind.value,
        scale=admitted.columns[0].scale if is_check else 0,
        column_type=admitted.columns[0].type.value if is_check else ColumnType.INTEGER.value,
        data_versions=ticket.data_versions,
        source_at=datetime.fromisoformat(held.imported_at).replace(microsecond=0),
        charge=ticket.charge,
        needs_consent=ticket.needs_consent,
        expires_at=min(ticket.expires_at, admitted.grant.deadline),
        table=built,
    )
    return seal(offer, OFFER_PURPOSE, enclave.key)


def _order(accepted: Standing, admitted: Admitted) -> Order:
    return Order(
        ticket_id=accepted.ticket_id,
        version=accepted.version,
        check=admitted.ticket.check,
        held=admitted.held,
        columns=admitted.columns,
    )


def _offer_of(standing: Standing) -> Signed:
    if standing.built is None:
        raise Failed("ledger.damaged")
    return decode(standing.built, Signed)


def load_product(enclave: Enclave, product_id: str) -> OpenProduct | None:
    """The open version of a product, from its tables at rest; None when there is none.

    Raises:
        Failed: `rawdata.…`, `kms.…`.
    """
    standing = enclave.verification.standing.open_for(product_id)
    return None if standing is None else _loaded(enclave, standing, _offer_of(standing))


def _loaded(enclave: Enclave, standing: Standing, signed_offer: Signed) -> OpenProduct | None:
    """A version from its tables at rest; None when its data are not held any more."""
    ticket = standing.ticket
    offer = decode(signed_offer.payload, Offer)
    held = enclave.holdings.find(ticket.check.dataset_id, ticket.data_versions[ticket.check.dataset_id])
    if held is None:
        return None
    columns = tuple(column for name in ticket.check.attributes if (column := held.spec.column(name)) is not None)
    tables = enclave.verification.tables
    known = tables.value(standing.version, SECRETS, Secrets)
    subject = Subject(check=ticket.check, key_kind=held.spec.key_kind, columns=columns, secret=known.subjects)
    task = Serving(subject=subject, opening_secret=known.openings, hidden=_hidden(offer.table, known.oprf_key))
    with ExitStack() as on_failure:
        opened = []
        for piece in (PLAIN,) if offer.table is None else (PLAIN, MATRIX, HINT):
            opened.append(tables.open(standing.version, piece))
            on_failure.callback(os.close, opened[-1])
        on_failure.pop_all()
    hint = None if offer.table is None else opened.pop()
    return OpenProduct(ticket, standing.grant, signed_offer, offer, held.spec, task, opened, hint, standing.calls)


def warm(enclave: Enclave) -> None:
    """Load the open products after a start, so that their first callers need not wait. Never raises."""
    for item in enclave.verification.standing.unclosed():
        if item.state is State.OPEN:
            try:
                with enclave.verification.products.use(
                    item.product_id, partial(load_product, enclave, item.product_id), enclave.now()
                ) as product:
                    product.ask(enclave.verification.zygote, lambda worker: None)
            except Exception as error:  # the next call meets the same, and tells its caller
                failed = error if isinstance(error, Failed) else Failed(f"call.{type(error).__name__.lower()}")
                enclave.note_fault(failed, item.ticket_id)


def _hidden(table: Table | None, oprf_key: bytes) -> Hidden | None:
    if table is None:
        return None
    return Hidden(key=oprf_key, height=table.height, columns=table.columns, bucket_columns=table.bucket_columns)


def progress_of(enclave: Enclave, ticket_id: str) -> Progress:
    """How far an opening is.

    Raises:
        Refused: `standing.unknown`, `standing.closed`.
    """
    under_way = enclave.verification.openings.progress(ticket_id)
    if under_way is not None:
        return under_way
    found = enclave.verification.standing.find(ticket_id)
    if found is None:
        raise Refused("standing.unknown")
    if found.state is State.CLOSED:
        raise Refused("standing.closed")
    is_open = found.state is State.OPEN
    return Progress(stage="open" if is_open else "waiting", done=int(is_open), total=1)


def close_product(enclave: Enclave, ticket_id: str) -> Closed:
    """Answer no call under that ticket any more; calls that have begun end."""
    close_standing(enclave, ticket_id)
    return Closed()


def close_standing(enclave: Enclave, ticket_id: str) -> None:
    """Put it on record, end its worker, remove its tables."""
    enclave.verification.standing.close(ticket_id, enclave.now())
    enclave.verification.products.end(ticket_id)
    drop_closed(enclave)


def end_over(enclave: Enclave) -> None:
    """Close what has run out, in memory and on record."""
    now = enclave.now()
    for item in enclave.verification.standing.unclosed():
        if now >= min(item.ticket.expires_at, item.grant.deadline):
            close_standing(enclave, item.ticket_id)


def drop_closed(enclave: Enclave) -> None:
    """Remove the tables of every version that is closed."""
    kept = {item.version for item in enclave.verification.standing.unclosed()}
    for version in enclave.verification.tables.versions() - kept:
        enclave.verification.tables.drop(version)
