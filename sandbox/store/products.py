"""Products as stored."""

from __future__ import annotations

from sandbox.domain.product import Product
from sandbox.store import schema
from sandbox.store.documents import Documents

PRODUCTS = Documents(
    schema.products,
    Product,
    lambda product: {
        "product_id": product.product_id,
        "operator_id": product.operator_id,
        "grant_id": product.grant_id,
        "status": product.status.value,
    },
)
