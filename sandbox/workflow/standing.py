"""Opening, refreshing and closing products: the standing ticket is written down first, then the enclave gets it.

While a newer ticket of a product is being built, the older one answers; when the newer one is open, the older one is
closed. A crash at any point leaves an order that `carry_on` brings to its end.
"""

from __future__ import annotations

import secrets
from dataclasses import replace

from sqlalchemy import Connection

from enclave_runner.contract.call import OFFER_PURPOSE, Offer
from enclave_runner.contract.codec import decode, digest
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.signing import Signed, seal, unseal
from enclave_runner.contract.standing import PURPOSE, StandingTicket
from enclave_runner.contract.wire import AskProgress, Closed, CloseProduct, Opened, OpenProduct, Progress
from sandbox.domain.grant import GrantRecord
from sandbox.domain.product import Product
from sandbox.domain.scenario import Scenario
from sandbox.domain.standing import STANDING_LIFECYCLE, StandingOrder, StandingStatus
from sandbox.rules.access import Action, Record
from sandbox.rules.calling import decide_callable, decide_check, decide_life, life_end, read_call_limits
from sandbox.rules.rating import charge_for
from sandbox.store import datasets, receipts, standing
from sandbox.store.database import reading, writing
from sandbox.store.datasets import DATASETS
from sandbox.store.grants import GRANTS
from sandbox.store.parties import PARTIES
from sandbox.store.products import PRODUCTS
from sandbox.store.scenarios import SCENARIOS
from sandbox.store.standing import ORDERS
from sandbox.workflow.office import Actor, Office, authorize, note_act

DAYS, CALLS = 30, 1_000_000
OPEN_STAGE = "open"  # of a `Progress`: calls are answered


def open_product(
    office: Office, actor: Actor, product_id: str, days: int = DAYS, calls: int = CALLS, *, refresh: bool = False
) -> StandingOrder:
    """Order a product to be opened, over the current data; `finish_opening` then has it done. An order that is being
    carried out already is given back as it is.

    With `refresh` an open product is opened anew, for newer data or a longer life; its earlier order answers until
    then.

    Raises:
        Refused: by access, `product.not-published`, `product.one-by-one`, the grant, the scenario, `product.is-open`
            without `refresh`, `standing.life`, `standing.calls`, `dataset.unknown` before the first import.
    """
    limits = read_call_limits(office.pack)
    decide_life(days, calls, limits.max_days, limits.max_calls).enforce()
    with writing(office.engine) as connection:
        product = PRODUCTS.get(connection, product_id)
        authorize(office, actor, Action.OPEN_PRODUCT, record_of(product))
        record, scenario = _check_open(office, connection, product)
        versions = _versions(connection, product)
        under_way, answering = _standing_now(office, connection, product_id)
        if under_way is not None and under_way.data_versions == versions:
            return under_way
        if answering is not None and not refresh:
            raise Refused("product.is-open", product=product_id)
        if under_way is not None:
            _move(connection, under_way, StandingStatus.CLOSING)
        return _order(office, connection, actor, product, record, scenario, versions, days, calls)


def finish_opening(office: Office, ticket_id: str) -> StandingOrder:
    """Have the enclave build and open what was ordered, and wait until calls are answered; then close what it replaces.

    Doing it again, after a crash or beside another who does it, gives the same.

    Raises:
        Refused: as the enclave says; the order is then refused for good. `receipt.mismatch` when its offer is not of
            this order.
        Failed: `enclave.absent`, `enclave.lost`, or as the enclave says: the order stays and can be carried on.
    """
    with reading(office.engine) as connection:
        order = ORDERS.get(connection, ticket_id)
    if order.status is not StandingStatus.OPENING:
        return order
    try:
        reply = office.enclave.call(OpenProduct(ticket=order.ticket))
    except Refused as refused:
        _end_refused(office, order, refused)
        raise
    if not isinstance(reply, Opened):
        raise Failed("enclave.answer")
    _check_offer(office, order, reply.offer)
    with writing(office.engine) as connection:
        order = ORDERS.get(connection, ticket_id)
        if order.status is StandingStatus.OPENING:
            order = replace(order, offer=reply.offer)
            earlier = [item for item in standing.of_product(connection, order.product_id) if _is_earlier(item, order)]
            for item in earlier:
                _move(connection, item, StandingStatus.CLOSING)
            order = _move(connection, order, StandingStatus.OPEN)
            offer = decode(reply.offer.payload, Offer)
            facts = {"ticket": ticket_id, "version": offer.version, "offer_sha256": digest(reply.offer.payload)}
            note_act(office, connection, None, "product.opened", order.product_id, **facts)
    finish_closing(office)
    return order


def close_product(office: Office, actor: Actor, product_id: str) -> tuple[StandingOrder, ...]:
    """Close a product: from now on no call is answered under any of its orders. What was closed; nothing if nothing
    was.

    Raises:
        Refused: by access, `record.unknown`.
        Failed: when the enclave cannot be told: calls are refused here all the same, and it is told at the next chance.
    """
    with writing(office.engine) as connection:
        product = PRODUCTS.get(connection, product_id)
        authorize(office, actor, Action.OPEN_PRODUCT, record_of(product))
        live = [
            item
            for item in standing.of_product(connection, product_id)
            if item.status in (StandingStatus.OPENING, StandingStatus.OPEN)
        ]
        for item in live:
            _move(connection, item, StandingStatus.CLOSING)
        if live:
            note_act(office, connection, actor, "product.close", product_id, tickets=str(len(live)))
    finish_closing(office)
    with reading(office.engine) as connection:
        return tuple(ORDERS.get(connection, item.ticket_id) for item in live)


def finish_closing(office: Office) -> None:
    """Tell the enclave of every order that was closed here and not yet there."""
    with reading(office.engine) as connection:
        waiting = standing.in_status(connection, StandingStatus.CLOSING)
    for order in waiting:
        if not isinstance(office.enclave.call(CloseProduct(ticket_id=order.ticket_id)), Closed):
            raise Failed("enclave.answer")
        with writing(office.engine) as connection:
            order = ORDERS.get(connection, order.ticket_id)
            if order.status is StandingStatus.CLOSING:
                _move(connection, order, StandingStatus.CLOSED)


def under_way(office: Office) -> tuple[StandingOrder, ...]:
    """Every order that is to be opened and is not open yet."""
    with reading(office.engine) as connection:
        return standing.in_status(connection, StandingStatus.OPENING)


def ask_progress(office: Office, ticket_id: str) -> Progress:
    """How far the opening under a standing ticket is, as the enclave says.

    Raises:
        Refused, Failed: as the enclave says.
    """
    reply = office.enclave.call(AskProgress(ticket_id=ticket_id))
    if not isinstance(reply, Progress):
        raise Failed("enclave.answer")
    return reply


def record_of(product: Product) -> Record:
    """A product as the access policy sees it."""
    return Record("product", product.product_id, (product.operator_id,))


def _check_open(office: Office, connection: Connection, product: Product) -> tuple[GrantRecord, Scenario]:
    if product.check is None:
        raise Refused("product.one-by-one", product=product.product_id)
    record = GRANTS.get(connection, product.grant_id)
    scenario = SCENARIOS.get(connection, record.grant.scenario_id)
    operator = PARTIES.get(connection, product.operator_id)
    dataset = DATASETS.find(connection, product.job.dataset_id)
    decide_callable(product, record, scenario, operator, dataset, office.clock()).enforce()
    if dataset is not None:
        decide_check(product, dataset).enforce()
    return record, scenario


def _versions(connection: Connection, product: Product) -> dict[str, str]:
    dataset_id = product.job.dataset_id
    version = datasets.current_version(connection, dataset_id)
    if version is None:
        raise Refused("dataset.unknown", dataset=dataset_id)
    return {dataset_id: version}


def _standing_now(
    office: Office, connection: Connection, product_id: str
) -> tuple[StandingOrder | None, StandingOrder | None]:
    """The order that is being built, and the one that answers."""
    current = [item for item in standing.of_product(connection, product_id) if item.is_current(office.clock())]
    by_status = {item.status: item for item in reversed(current)}
    return by_status.get(StandingStatus.OPENING), by_status.get(StandingStatus.OPEN)


def _order(
    office: Office,
    connection: Connection,
    actor: Actor,
    product: Product,
    record: GrantRecord,
    scenario: Scenario,
    versions: dict[str, str],
    days: int,
    calls: int,
) -> StandingOrder:
    """Sign the standing ticket and record it."""
    if record.signed is None or product.check is None:
        raise Failed("grant.unsigned")
    now = office.clock()
    ticket = StandingTicket(
        ticket_id=f"stand-{secrets.token_hex(16)}",
        product_id=product.product_id,
        grant=record.signed,
        check=product.check,
        data_versions=versions,
        policy_sha256=office.pack.sha256,
        charge=charge_for(office.tariffs, record.grant.purpose, product.job.mode),
        calls=calls,
        issued_at=now,
        expires_at=life_end(record, scenario, now, days),
        needs_consent=product.needs_consent,
        receipts_seen=receipts.newest_checkpoint(connection),
    )
    order = StandingOrder(
        ticket_id=ticket.ticket_id,
        product_id=product.product_id,
        grant_id=product.grant_id,
        data_versions=versions,
        calls=calls,
        issued_at=now,
        expires_at=ticket.expires_at,
        ticket=seal(ticket, PURPOSE, office.signer),
    )
    standing.add(connection, order)
    facts = {"ticket": ticket.ticket_id, "tariff": ticket.charge.tariff_id, "calls": str(calls)}
    note_act(office, connection, actor, "product.open", product.product_id, **facts)
    return order


def _move(connection: Connection, order: StandingOrder, status: StandingStatus) -> StandingOrder:
    moved = replace(order, status=STANDING_LIFECYCLE.check(order.status, status))
    ORDERS.save(connection, moved)
    return moved


def _is_earlier(item: StandingOrder, opened: StandingOrder) -> bool:
    live = item.status in (StandingStatus.OPENING, StandingStatus.OPEN)
    return live and item.ticket_id != opened.ticket_id and item.issued_at <= opened.issued_at


def _end_refused(office: Office, order: StandingOrder, refused: Refused) -> None:
    with writing(office.engine) as connection:
        order = ORDERS.get(connection, order.ticket_id)
        if order.status is StandingStatus.OPENING:
            _move(connection, replace(order, rule=refused.rule), StandingStatus.REFUSED)
            note_act(
                office,
                connection,
                None,
                "product.open-refused",
                order.product_id,
                ticket=order.ticket_id,
                rule=refused.rule,
            )


def _check_offer(office: Office, order: StandingOrder, signed: Signed) -> None:
    """The offer must be the enclave's own, of exactly this order."""
    offer = unseal(signed, OFFER_PURPOSE, (office.enclave_key,), Offer)
    ticket = decode(order.ticket.payload, StandingTicket)
    pairs = {
        "ticket": (offer.ticket_id, ticket.ticket_id),
        "product": (offer.product_id, ticket.product_id),
        "check": (offer.check, ticket.check),
        "charge": (offer.charge, ticket.charge),
        "data version": (offer.data_versions, ticket.data_versions),
        "consent": (offer.needs_consent, ticket.needs_consent),
    }
    for what, (said, ordered) in pairs.items():
        if said != ordered:
            raise Refused("receipt.mismatch", what=f"offer: {what}")
    if offer.expires_at > ticket.expires_at:
        raise Refused("receipt.mismatch", what="offer: expiry")
