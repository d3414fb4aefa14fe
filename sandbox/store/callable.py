"""Everything that one call is judged by, in two statements of one snapshot; documents that did not change are decoded
once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from enclave_runner.contract.codec import decode
from enclave_runner.contract.errors import Refused
from sandbox.domain.dataset import Dataset
from sandbox.domain.grant import GrantRecord
from sandbox.domain.party import Party
from sandbox.domain.product import Product
from sandbox.domain.scenario import Scenario
from sandbox.domain.standing import StandingStatus
from sandbox.store import schema

# Documents of some hundred open products; each is a few kilobytes.
CACHED = 4096


@dataclass(frozen=True)
class Callable:
    """A product with what stands around it. `is_open`: a standing order of it is open, or was until it expired.

    `calls_seen` is the number of the batch after the newest that is recorded.
    """

    product: Product
    record: GrantRecord
    scenario: Scenario
    operator: Party
    dataset: Dataset | None
    is_open: bool
    calls_seen: int


def _statement() -> Any:
    products, grants, orders = schema.products, schema.grants, schema.standing_orders
    is_open = (
        select(orders.c.ticket_id)
        .where(orders.c.product_id == products.c.product_id, orders.c.status == StandingStatus.OPEN.value)
        .exists()
    )
    joined = (
        products.join(grants, grants.c.grant_id == products.c.grant_id)
        .join(schema.scenarios, schema.scenarios.c.scenario_id == grants.c.scenario_id)
        .join(schema.parties, schema.parties.c.party_id == products.c.operator_id)
    )
    seen = select(func.coalesce(func.max(schema.call_batches.c.number) + 1, 0)).scalar_subquery()
    columns = (products.c.doc, grants.c.doc, schema.scenarios.c.doc, schema.parties.c.doc, is_open, seen)
    return select(*columns).select_from(joined).where(products.c.product_id == bindparam("product_id"))


_CALLABLE = _statement()
_DATASET = select(schema.datasets.c.doc).where(schema.datasets.c.dataset_id == bindparam("dataset_id"))


def find(connection: Connection, product_id: str) -> Callable:
    """The product and what it is judged by, as they stand in this snapshot.

    Raises:
        Refused: `record.unknown`.
    """
    row = connection.execute(_CALLABLE, {"product_id": product_id}).one_or_none()
    if row is None:
        raise Refused("record.unknown", what="product")
    product = _decoded(row[0], Product)
    doc = connection.execute(_DATASET, {"dataset_id": product.job.dataset_id}).scalar_one_or_none()
    return Callable(
        product,
        _decoded(row[1], GrantRecord),
        _decoded(row[2], Scenario),
        _decoded(row[3], Party),
        None if doc is None else _decoded(doc, Dataset),
        bool(row[4]),
        int(row[5]),
    )


@lru_cache(CACHED)
def _decoded(doc: bytes, kind: Any) -> Any:
    """A frozen value: the same bytes are the same value, whoever asks."""
    return decode(doc, kind)
