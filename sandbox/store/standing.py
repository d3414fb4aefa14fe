"""Standing orders as stored."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from enclave_runner.contract.codec import decode
from sandbox.domain.standing import StandingOrder, StandingStatus
from sandbox.store import schema
from sandbox.store.documents import Documents

TABLE = schema.standing_orders
ORDERS = Documents(
    TABLE,
    StandingOrder,
    lambda order: {"ticket_id": order.ticket_id, "product_id": order.product_id, "status": order.status.value},
)


def add(connection: Connection, order: StandingOrder) -> None:
    """File a new order behind all others."""
    newest = connection.execute(select(func.max(TABLE.c.number))).scalar_one()
    ORDERS.add(connection, order, number=0 if newest is None else newest + 1)


def of_product(connection: Connection, product_id: str) -> tuple[StandingOrder, ...]:
    """Every order of a product, the newest first."""
    query = select(TABLE.c.doc).where(TABLE.c.product_id == product_id).order_by(TABLE.c.number.desc())
    return tuple(decode(doc, StandingOrder) for doc in connection.execute(query).scalars())


def in_status(connection: Connection, status: StandingStatus) -> tuple[StandingOrder, ...]:
    """Every order in that state."""
    return ORDERS.listed(connection, TABLE.c.status == status.value)


def has_any(connection: Connection) -> bool:
    """Whether a product was ever ordered to be opened."""
    return connection.execute(select(TABLE.c.ticket_id).limit(1)).first() is not None
