"""Quotes: loss, accuracy and price before anything runs. They touch no data and write nothing."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from enclave_runner.contract.codec import Value
from enclave_runner.contract.job import ModelJob, QueryJob
from enclave_runner.contract.script import ScriptJob
from sandbox.api.call import Reading, decode, receive_json, reply
from sandbox.api.identifiers import Token
from sandbox.api.openapi import operation
from sandbox.workflow.quote import JobQuote, quote

router = APIRouter(prefix="/v1/quotes", tags=["quotes"])


class QuoteRequest(Value, frozen=True):
    """A job as it would be submitted."""

    grant_id: Token
    job: QueryJob | ModelJob | ScriptJob


@router.post("", summary="报价 / Ask for a quote", **operation(JobQuote, takes=QuoteRequest, writes=False))
def ask(call: Reading, body: Annotated[bytes, Depends(receive_json)]) -> Response:
    """What the job would spend, how exact its columns would be, and what it would cost."""
    asked = decode(body, QuoteRequest)
    return reply(quote(call.office, call.actor, asked.grant_id, asked.job))
