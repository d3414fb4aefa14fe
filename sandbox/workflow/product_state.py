"""How an open product stands: its orders, what was called, how far an opening is, and where too much is asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from enclave_runner.contract.call import Offer
from enclave_runner.contract.codec import decode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.wire import Alarm, Alarms, AskAlarms
from sandbox.domain.product import Product
from sandbox.domain.standing import StandingOrder, StandingStatus
from sandbox.rules.access import Action, Record
from sandbox.store import calls, standing
from sandbox.store.database import reading
from sandbox.workflow.call_sync import sync_calls
from sandbox.workflow.office import Actor, Office, authorize, is_allowed
from sandbox.workflow.products import get_product
from sandbox.workflow.standing import ask_progress, record_of

WAITING = "waiting"  # the first stage of a `Progress`


@dataclass(frozen=True)
class OrderState:
    """One standing order. `stage`, `done` and `total` are those of an opening; `calls` of `max_calls` were made,
    refused ones included, and `units` questions answered."""

    ticket_id: str
    status: StandingStatus
    data_versions: dict[str, str]
    issued_at: datetime
    expires_at: datetime
    max_calls: int
    calls: int
    units: int
    version: str | None
    rule: str | None
    stage: str | None = None
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class ProductState:
    """A product, its orders (the newest first), its offer while it is open, and alarms where the actor sees them."""

    product: Product
    orders: tuple[OrderState, ...]
    offer: Offer | None
    alarms: tuple[Alarm, ...]

    @property
    def is_opening(self) -> bool:
        """Whether an order is being carried out."""
        return any(order.status is StandingStatus.OPENING for order in self.orders)


def product_state(office: Office, actor: Actor, product_id: str) -> ProductState:
    """How a product stands, for its operator and the bureau; alarms for the bureau alone.

    Raises:
        Refused: by access, `record.unknown`.
        Failed: when the enclave cannot be asked.
    """
    product = get_product(office, actor, product_id)
    authorize(office, actor, Action.OPEN_PRODUCT, record_of(product))
    sync_calls(office)
    with reading(office.engine) as connection:
        orders = standing.of_product(connection, product_id)
        states = tuple(_state(connection, order) for order in orders)
    now = office.clock()
    offers = [order.offer for order in orders if order.status is StandingStatus.OPEN and order.is_current(now)]
    return ProductState(
        product=product,
        orders=tuple(_with_progress(office, state) for state in states),
        offer=decode(offers[0].payload, Offer) if offers and offers[0] is not None else None,
        alarms=_alarms(office, actor, product) if orders else (),
    )


def list_alarms(office: Office, actor: Actor) -> tuple[Alarm, ...]:
    """About whom all businesses together have asked more than the pack allows; by pseudonym, the newest first.

    Raises:
        Refused: by access.
    """
    authorize(office, actor, Action.READ_ALARMS, Record("alarm", "all"))
    reply = office.enclave.call(AskAlarms())
    if not isinstance(reply, Alarms):
        raise Failed("enclave.answer")
    return reply.items


def _alarms(office: Office, actor: Actor, product: Product) -> tuple[Alarm, ...]:
    if not is_allowed(office, actor, Action.READ_ALARMS, Record("alarm", "all")):
        return ()
    job = product.job
    found = list_alarms(office, actor)
    return tuple(item for item in found if item.dataset_id == job.dataset_id and item.attribute in product.attributes)


def _state(connection: Connection, order: StandingOrder) -> OrderState:
    made, units = calls.used(connection, order.ticket_id)
    return OrderState(
        ticket_id=order.ticket_id,
        status=order.status,
        data_versions=order.data_versions,
        issued_at=order.issued_at,
        expires_at=order.expires_at,
        max_calls=order.calls,
        calls=made,
        units=units,
        version=None if order.offer is None else decode(order.offer.payload, Offer).version,
        rule=order.rule,
    )


def _with_progress(office: Office, state: OrderState) -> OrderState:
    if state.status is not StandingStatus.OPENING:
        return state
    try:
        progress = ask_progress(office, state.ticket_id)
    except Refused:
        return replace(state, stage=WAITING)  # it has not reached the enclave yet
    return replace(state, stage=progress.stage, done=progress.done, total=progress.total)
