"""Data products: what an operator publishes under a grant and a business calls."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from enclave_runner.contract.check import Check
from enclave_runner.contract.codec import Value
from enclave_runner.contract.job import VerificationJob
from enclave_runner.contract.scoring import ScoreCheck
from sandbox.api.background import Openings
from sandbox.api.call import Reading, Writing, reply
from sandbox.api.identifiers import Slug, SlugInPath, Text, Token
from sandbox.api.keys import Nothing
from sandbox.api.openapi import operation
from sandbox.domain.product import Product
from sandbox.workflow.product_state import ProductState, product_state
from sandbox.workflow.products import get_product, list_products, publish_product, suspend_product
from sandbox.workflow.standing import CALLS, DAYS, close_product, open_product

router = APIRouter(prefix="/v1/products", tags=["products"])


class NewProduct(Value, frozen=True):
    """A verification product of the caller's own party. `needs_consent` follows article 43."""

    product_id: Slug
    grant_id: Token
    title: Text
    job: VerificationJob | Check | ScoreCheck
    needs_consent: bool = True


class NewOpening(Value, frozen=True):
    """For how long, and for how many calls at most. With `refresh`, an open product is opened anew over newer data, or
    for longer: the earlier version answers until then."""

    days: Annotated[int, msgspec.Meta(ge=1, le=36_500)] = DAYS
    calls: Annotated[int, msgspec.Meta(ge=1, le=10**9)] = CALLS
    refresh: bool = False


@router.get("", summary="列出数据产品 / List products", **operation(tuple[Product, ...]))
def list_all(call: Reading) -> Response:
    """All products that the caller may see."""
    return reply(list_products(call.office, call.actor))


@router.post("", summary="发布核验产品 / Publish a product", **operation(Product, takes=NewProduct, status=201))
def publish(write: Writing) -> Response:
    """One question over one attribute. A `verification` is asked at /v1/verifications, one ticket at a time; a `check`
    or a `score` is opened first, and then called."""
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


@router.get("/{product_id}/opening", summary="查看开通状态 / How a product stands", **operation(ProductState))
def opening(call: Reading, product_id: SlugInPath) -> Response:
    """Its standing orders with their calls, how far an opening is, the offer; alarms for the bureau."""
    return reply(product_state(call.office, call.actor, product_id))


@router.post(
    "/{product_id}/opening",
    summary="开通产品 / Open a product",
    **operation(ProductState, takes=NewOpening, status=202),
)
def open_(write: Writing, request: Request, product_id: SlugInPath) -> Response:
    """The enclave builds its tables, which may take minutes, while this is answered at once: ask again with GET."""
    body = write.read(NewOpening)
    openings: Openings = request.app.state.openings

    def run() -> ProductState:
        order = open_product(write.office, write.actor, product_id, body.days, body.calls, refresh=body.refresh)
        openings.start(order.ticket_id)
        return product_state(write.office, write.actor, product_id)

    return write.answer(run, 202)


@router.post("/{product_id}/closing", summary="关闭产品 / Close a product", **operation(ProductState, takes=Nothing))
def close(write: Writing, product_id: SlugInPath) -> Response:
    """No call is answered from now on; it may be opened again."""
    write.read(Nothing)

    def run() -> ProductState:
        close_product(write.office, write.actor, product_id)
        return product_state(write.office, write.actor, product_id)

    return write.answer(run)
