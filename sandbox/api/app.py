"""The application: routers, handlers, guards. What it serves is one office."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException

from enclave_runner.contract.errors import Failed, Refused
from sandbox.api import (
    about,
    audit,
    budgets,
    calls,
    consents,
    datasets,
    grants,
    invoices,
    keys,
    meter,
    models,
    parties,
    problem,
    products,
    quotes,
    releases,
    scenarios,
    scripts,
    submissions,
    verifications,
)
from sandbox.api.background import Openings, keep_fetching_calls
from sandbox.api.guard import BodyCap, LastCatch, SecurityHeaders
from sandbox.api.openapi import describe
from sandbox.api.problem import Misfit
from sandbox.workflow.office import Office

# FastAPI records paths and queries for any tracer that the process sets up; nothing of a request is recorded here.
TELEMETRY_OFF: TelemetryConfig = {"tracing": False, "logs": False, "metrics": False, "operation_spans": False}

NOUNS = (
    about,
    parties,
    keys,
    datasets,
    scenarios,
    grants,
    quotes,
    models,
    scripts,
    submissions,
    releases,
    products,
    calls,
    consents,
    verifications,
    budgets,
    meter,
    invoices,
    audit,
)

DESCRIPTION = """公共数据授权运营：原始数据不出域。 / Authorized operation of public data: raw data stay in the domain.

Every request but `/v1/health` and `/v1/about` carries `Authorization: Bearer yunei_…`. Every write carries an
`Idempotency-Key`; a call of a product carries its own id instead. Every refusal and fault is
`application/problem+json`: a refusal names its rule and article and what would make it pass, in Chinese and English; a
fault gives an opaque id. Money is integer fen, time is UTC, privacy loss is ρ in units of 10^-12. Identifiers of people
travel in POST bodies only. Data are imported beside the enclave
(`yunei dataset import`), never over HTTP.
"""


def create_app(office: Office) -> FastAPI:
    """The HTTP API over that office."""
    app = FastAPI(
        title="Yunei 域内",
        version=about.VERSION,
        description=DESCRIPTION,
        openapi_url="/v1/openapi.json",
        # Their pages load scripts from a public network; the description itself is there for any local viewer.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=TELEMETRY_OFF,
    )
    app.state.office = office
    app.state.openings = Openings(office)
    for noun in NOUNS:
        app.include_router(noun.router)
    for kind in (Refused, Failed, Misfit, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, partial(problem.answer, office.pack))
    # The last added stands outermost.
    larger = {"/v1/models": models.max_bytes(office), "/v1/products/*/calls": calls.CALL_BYTES}
    app.add_middleware(BodyCap, larger=larger)
    app.add_middleware(LastCatch)
    app.add_middleware(SecurityHeaders)
    _describe_once(app)
    return app


def _describe_once(app: FastAPI) -> None:
    document: dict[str, Any] = describe(app)
    app.openapi = lambda: document  # type: ignore[method-assign]


def serve(office: Office, host: str, port: int) -> None:
    """Serve until interrupted. No access log: it would keep addresses of what was asked.

    Products that an earlier process left half-open are opened, and receipts of calls are fetched every few seconds.
    """
    app = create_app(office)
    app.state.openings.start_all()
    stop = threading.Event()
    fetching = keep_fetching_calls(office, stop)
    try:
        uvicorn.run(app, host=host, port=port, access_log=False, server_header=False, log_level="warning", workers=1)
    finally:
        stop.set()
        fetching.join()
