"""Meter events: one for each receipt."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from enclave_runner.contract.codec import Value
from sandbox.api.call import Reading, reply
from sandbox.api.identifiers import MonthInQuery
from sandbox.api.openapi import operation
from sandbox.domain.metering import MeterEvent
from sandbox.workflow.meter import list_events

router = APIRouter(prefix="/v1/meter-events", tags=["meter events"])


class MeterPage(Value, frozen=True):
    """The events that the caller may see, and what they cost together, in fen."""

    events: tuple[MeterEvent, ...]
    total_fen: int


@router.get("", summary="计量事件 / Meter events", **operation(MeterPage))
def list_all(call: Reading, month: MonthInQuery = None) -> Response:
    """Of one month in Asia/Shanghai, or all."""
    events = list_events(call.office, call.actor, month)
    return reply(MeterPage(events=events, total_fen=sum(event.amount_fen for event in events)))
