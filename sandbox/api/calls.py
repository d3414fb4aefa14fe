"""Calls of open products: what a business asks and gets, the offer that it asks under, and receipts.

A call's id is its idempotency key: the very same call is answered again by the enclave, unpaid; so it needs no other.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.security import HTTPAuthorizationCredentials
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from enclave_runner.contract.call import Call, CallReceipt
from enclave_runner.contract.codec import Value, encode
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.wire import Alarm, CallReply, OfferReply
from sandbox.api.call import Reading, bearer, decode, reply, require_json
from sandbox.api.identifiers import SlugInPath
from sandbox.api.openapi import FILE, operation
from sandbox.workflow.calls import get_offer, list_calls, read_hint, run_call_with_key
from sandbox.workflow.keys import authenticate
from sandbox.workflow.office import Office
from sandbox.workflow.product_state import list_alarms

router = APIRouter(tags=["calls"])

# 8 MiB of encrypted features in base64, and what stands around them.
CALL_BYTES = 12 << 20
# So much is read before its sender is known: the HTTP server holds it in any case. More waits for the key.
SMALL_BYTES = 64 << 10

Sequence = Annotated[int, Query(ge=0, le=2**62, description="Number of a call; a page begins there")]
Version = Annotated[str, Query(max_length=64, description="Table version, as the offer names it")]
Offset = Annotated[int, Query(ge=0, le=2**40, description="Byte at which the part begins")]
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]


class Calls(Value, frozen=True):
    """Receipts of calls in order; `following` is the `since` of the next page, null at the end."""

    receipts: tuple[CallReceipt, ...]
    following: int | None


@router.post(
    "/v1/products/{product_id}/calls",
    summary="调用产品 / Call a product",
    **operation(CallReply, takes=Call, writes=False),
)
async def call(request: Request, credentials: Credentials, product_id: SlugInPath) -> Response:
    """One question or a batch, in the mode of the ask. The answer comes with the receipt that it is paid by.

    A call that a rule of the enclave refused is answered as well: `answer` is null, `rule` and `facts` say why, and
    the receipt has no units. After a lost answer, send the very same call again: it is paid for once.
    """
    if credentials is None:
        raise Refused("key.unknown")
    require_json(request)
    office: Office = request.app.state.office
    token = credentials.credentials
    if not _is_small(request):
        await run_in_threadpool(authenticate, office, token)
    return await run_in_threadpool(_answer, office, token, product_id, await request.body())


def _is_small(request: Request) -> bool:
    length = request.headers.get("content-length", "")
    return length.isascii() and length.isdigit() and int(length) <= SMALL_BYTES


def _answer(office: Office, token: str, product_id: str, body: bytes) -> Response:
    answered = run_call_with_key(office, token, product_id, decode(body, Call))
    return Response(encode(answered), 200, media_type="application/json")


@router.get("/v1/products/{product_id}/offer", summary="查看报价 / The offer of a product", **operation(OfferReply))
def offer(call: Reading, product_id: SlugInPath) -> Response:
    """What the product answers now, signed by the enclave: modes, price, table version, freshness of the data."""
    return reply(get_offer(call.office, call.actor, product_id))


@router.get(
    "/v1/products/{product_id}/hint",
    summary="下载提示数据 / Download a hint",
    response_class=Response,
    **operation(FILE),
)
def hint(call: Reading, product_id: SlugInPath, version: Version, offset: Offset = 0) -> Response:
    """A part of the hint of that table version, at most 4 MiB; empty past its end. Its digest stands in the offer."""
    part = read_hint(call.office, call.actor, product_id, version, offset)
    return Response(part, 200, media_type="application/octet-stream")


@router.get("/v1/calls", summary="调用回执 / Receipts of calls", **operation(Calls))
def list_all(call: Reading, since: Sequence = 0) -> Response:
    """Those that the caller pays for or that run under its grants; all of them for the bureau."""
    page = list_calls(call.office, call.actor, since)
    return reply(Calls(receipts=page.receipts, following=page.following))


@router.get("/v1/alarms", summary="核验告警 / Alarms", **operation(tuple[Alarm, ...]))
def alarms(call: Reading) -> Response:
    """Subjects, by pseudonym, about whom all businesses together have asked more than the policy allows."""
    return reply(list_alarms(call.office, call.actor))
