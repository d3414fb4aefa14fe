"""The audit report: both logs against each other, recomputed."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from sandbox.api.call import Reading, reply
from sandbox.api.openapi import operation
from sandbox.workflow.audit import AuditReport, verify_audit

router = APIRouter(prefix="/v1/audit", tags=["audit"])


@router.get("", summary="审计报告 / Audit report", **operation(AuditReport))
def get(call: Reading) -> Response:
    """Every entry, checkpoint, receipt and meter event is checked again on each call."""
    return reply(verify_audit(call.office, call.actor))
