"""Data products: what an operator publishes under a grant and a business calls."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from enclave_runner.contract.check import Check, VerificationMode
from enclave_runner.contract.dataset import SLUG
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.job import VerificationJob
from enclave_runner.contract.scoring import ScoreCheck
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
    """A verification product: one question over one attribute, or a score. `needs_consent` follows article 43.

    A `VerificationJob` is asked one ticket at a time; a `Check` or a `ScoreCheck` is opened under a standing ticket
    and then called.
    """

    product_id: str
    operator_id: str
    grant_id: str
    title: str
    job: VerificationJob | Check | ScoreCheck
    needs_consent: bool
    status: ProductStatus = ProductStatus.DRAFT

    def __post_init__(self) -> None:
        if not SLUG.fullmatch(self.product_id) or not self.title.strip():
            raise Refused("product.incomplete")

    @property
    def check(self) -> Check | ScoreCheck | None:
        """What a standing ticket keeps answering; None of a product that is asked one ticket at a time."""
        return None if isinstance(self.job, VerificationJob) else self.job

    @property
    def attributes(self) -> tuple[str, ...]:
        """The columns that it reads, beside the key."""
        return (self.job.attribute,) if isinstance(self.job, VerificationJob) else self.job.attributes

    @property
    def modes(self) -> tuple[VerificationMode, ...]:
        """How it may be called; none of a product that is asked one ticket at a time."""
        return () if self.check is None else self.check.modes
