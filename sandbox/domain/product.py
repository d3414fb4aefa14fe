"""Data products: what an operator publishes under a grant and a business calls."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from enclave_runner.contract.dataset import SLUG
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.job import VerificationJob
from sandbox.domain.lifecycle import Lifecycle


class ProductStatus(Enum):
    """Only a published product answers."""

    DRAFT = "draft"
    PUBLISHED = "published"
    SUSPENDED = "suspended"


PRODUCT_LIFECYCLE = Lifecycle(
    "product",
    ProductStatus.DRAFT,
    {
        ProductStatus.DRAFT: frozenset({ProductStatus.PUBLISHED}),
        ProductStatus.PUBLISHED: frozenset({ProductStatus.SUSPENDED}),
        ProductStatus.SUSPENDED: frozenset({ProductStatus.PUBLISHED}),
    },
)


@dataclass(frozen=True)
class Product:
    """A verification product: one question over one attribute. `needs_consent` follows article 43."""

    product_id: str
    operator_id: str
    grant_id: str
    title: str
    job: VerificationJob
    needs_consent: bool
    status: ProductStatus = ProductStatus.DRAFT

    def __post_init__(self) -> None:
        if not SLUG.fullmatch(self.product_id) or not self.title.strip():
            raise Refused("product.incomplete")
