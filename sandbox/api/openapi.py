"""The description of the API, drawn from the same types that decode and encode: nothing is written twice."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from sandbox.api.guard import JSON_BYTES
from sandbox.api.problem import MEDIA_TYPE, TITLES, Problem

REF = "#/components/schemas/{name}"
SCHEMAS = "x-schemas"  # carried by each operation until `describe` gathers them
# Whatever an endpoint does, these may come back. The rulebook's statuses are a subset (a test holds this).
PROBLEMS = (400, 401, 403, 404, 409, 410, 413, 415, 422, 429, 500, 503)
PUBLIC_PROBLEMS = (413, 422, 500, 503)
FILE = {"type": "string", "format": "binary"}
BYTES = "application/octet-stream"
REPLAYED = {
    "description": "`true` when the request had been carried out before: nothing ran twice",
    "schema": {"type": "string", "enum": ["true"]},
}


def operation(
    gives: Any, *, takes: Any = None, status: int = 200, public: bool = False, writes: bool = True
) -> dict[str, Any]:
    """What a route declares: its body, its answer and every problem, by status and media type."""
    given, body = (Problem if kind is None or kind is FILE else kind for kind in (gives, takes))
    (answer, problem, request), components = msgspec.json.schema_components([given, Problem, body], ref_template=REF)
    content = {BYTES: {"schema": FILE}} if gives is FILE else {"application/json": {"schema": answer}}
    done: dict[str, Any] = {"description": TITLES[status][1], "content": content}
    extra: dict[str, Any] = {SCHEMAS: components}
    if takes is FILE:
        extra["requestBody"] = {"required": True, "content": {BYTES: {"schema": FILE}}}
    elif takes is not None:
        extra["requestBody"] = {"required": True, "content": {"application/json": {"schema": request}}}
    if takes is not None and writes:
        done["headers"] = {"Idempotency-Replayed": REPLAYED}
    problems = {
        code: {"description": TITLES[code][1], "content": {MEDIA_TYPE: {"schema": problem}}}
        for code in (PUBLIC_PROBLEMS if public else PROBLEMS)
    }
    return {"status_code": status, "responses": {status: done, **problems}, "openapi_extra": extra}


def describe(app: FastAPI) -> dict[str, Any]:
    """The whole description; two types that share a name but not a shape are a fault of ours, and raise."""
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
    )
    schemas: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
    for methods in document["paths"].values():
        for declared in methods.values():
            for name, schema in declared.pop(SCHEMAS, {}).items():
                if schemas.setdefault(name, schema) != schema:
                    raise ValueError(f"two schemas are named {name}")
    document["x-body-limit-bytes"] = JSON_BYTES
    return document
