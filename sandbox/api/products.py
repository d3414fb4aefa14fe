"""Data products: what an operator publishes under a grant and a business calls."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from enclave_runner.contract.codec import Value
from enclave_runner.contract.job import VerificationJob
from sandbox.api.call import Reading, Writing, reply
from sandbox.api.identifiers import Slug, SlugInPath, Text, Token
from sandbox.api.keys import Nothing
from sandbox.api.openapi import operation
from sandbox.domain.product import Product
from sandbox.workflow.products import get_product, list_products, publish_product, suspend_product

router = APIRouter(prefix="/v1/products", tags=["products"])


class NewProduct(Value, frozen=True):
    """A verification product of the caller's own party. `needs_consent` follows article 43."""

    product_id: Slug
    grant_id: Token
    title: Text
    job: VerificationJob
    needs_consent: bool = True


@router.get("", summary="列出数据产品 / List products", **operation(tuple[Product, ...]))
def list_all(call: Reading) -> Response:
    """All products that the caller may see."""
    return reply(list_products(call.office, call.actor))


@router.post("", summary="发布核验产品 / Publish a product", **operation(Product, takes=NewProduct, status=201))
def publish(write: Writing) -> Response:
    """One question over one attribute, answered yes, no or no-record."""
    body = write.read(NewProduct)
    product = Product(
        body.product_id, write.actor.party.party_id, body.grant_id, body.title, body.job, body.needs_consent
    )
    return write.answer(lambda: publish_product(write.office, write.actor, product), 201)


@router.get("/{product_id}", summary="查看数据产品 / One product", **operation(Product))
def get(call: Reading, product_id: SlugInPath) -> Response:
    """One product."""
    return reply(get_product(call.office, call.actor, product_id))


@router.post("/{product_id}/suspension", summary="暂停产品 / Suspend a product", **operation(Product, takes=Nothing))
def suspend(write: Writing, product_id: SlugInPath) -> Response:
    """It stops answering at once."""
    write.read(Nothing)
    return write.answer(lambda: suspend_product(write.office, write.actor, product_id))
