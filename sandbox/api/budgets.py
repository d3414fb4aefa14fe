"""Budgets: the odometers, and what each grant has used. ρ is in units of 10^-12."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from sandbox.api.call import Reading, reply
from sandbox.api.openapi import operation
from sandbox.workflow.budget import Budgets, read_budget

router = APIRouter(prefix="/v1/budgets", tags=["budgets"])


@router.get("", summary="隐私里程计 / Privacy budgets", **operation(Budgets))
def get(call: Reading) -> Response:
    """Read from the enclave, which alone keeps them; an operator sees its own grants."""
    return reply(read_budget(call.office, call.actor))
