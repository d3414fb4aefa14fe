"""The HTTP API over a real deployment and a real socket, with an API key for somebody of every role."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from enclave_runner.contract.codec import encode
from sandbox.api.app import create_app
from sandbox.workflow.keys import create_api_key
from tests.support.deployment import BANK, OPERATOR, OTHER, World, furnish, make_deployment, open_world
from tests.support.http_server import serving

DEPARTMENT = "dept-statistics"
INSURER = "biz-insurer"
HOLDERS = {
    "bureau": ("bureau", "clerk"),
    "reviewer": ("bureau", "reviewer"),
    "second-reviewer": ("bureau", "second-reviewer"),
    "department": (DEPARTMENT, "clerk"),
    "operator": (OPERATOR, "analyst"),
    "other-operator": (OTHER, "analyst"),
    "bank": (BANK, "clerk"),
    "insurer": (INSURER, "clerk"),
}
COUNT_SQL = "SELECT district, COUNT(*) AS n FROM people GROUP BY district"


@dataclass(frozen=True)
class ApiWorld:
    """A served deployment and how to speak with it."""

    world: World
    base: str
    client: httpx.Client
    tokens: dict[str, str]

    def get(self, role: str | None, path: str, **headers: str) -> httpx.Response:
        """A read, as somebody of that role, or as nobody."""
        return self.client.get(path, headers=self.headers(role) | headers)

    def post(self, role: str | None, path: str, body: object = None, **headers: str) -> httpx.Response:
        """A write with a fresh idempotency key, unless `headers` brings one."""
        return self.send("POST", role, path, body, **headers)

    def put(self, role: str | None, path: str, body: object, **headers: str) -> httpx.Response:
        """As `post`."""
        return self.send("PUT", role, path, body, **headers)

    def send(self, method: str, role: str | None, path: str, body: object = None, **headers: str) -> httpx.Response:
        """Contract values travel in their canonical bytes, bytes as a file, all else as JSON."""
        given = {"Idempotency-Key": fresh_key(), **headers}
        if isinstance(body, bytes):
            given.setdefault("Content-Type", "application/octet-stream")
            content = body
        else:
            given.setdefault("Content-Type", "application/json")
            content = encode({} if body is None else body)
        return self.client.request(method, path, content=content, headers=self.headers(role) | given)

    def headers(self, role: str | None) -> dict[str, str]:
        """The Authorization header of that role."""
        return {} if role is None else {"Authorization": f"Bearer {self.tokens[role]}"}


def fresh_key() -> str:
    """An idempotency key that nobody used."""
    return f"key-{secrets.token_hex(8)}"


def query(epsilon: str = "0.1", sql: str = COUNT_SQL) -> dict[str, Any]:
    """A query job as JSON."""
    return {"type": "query", "sql": sql, "budget": {"epsilon": epsilon, "delta": "1e-6"}}


def opening_of(api: ApiWorld, product_id: str, status: str) -> dict[str, Any]:
    """How a product stands, once its newest order is in that state."""
    deadline = time.monotonic() + 60
    while True:
        state: dict[str, Any] = api.get("operator", f"/v1/products/{product_id}/opening").json()
        if state["orders"] and state["orders"][0]["status"] == status:
            return state
        if time.monotonic() > deadline:
            raise TimeoutError(state)
        time.sleep(0.05)


def is_problem(answer: httpx.Response, status: int, rule: str | None = None) -> bool:
    """Whether it is a problem document of that status and, if named, that rule."""
    body = answer.json()
    typed = answer.headers["content-type"] == "application/problem+json"
    return typed and answer.status_code == body["status"] == status and (rule is None or body["rule"] == rule)


@contextmanager
def api_world(folder: Path) -> Iterator[ApiWorld]:
    """A furnished deployment, served until the block ends."""
    with open_world(make_deployment(folder)) as world:
        furnish(world)
        tokens = {
            role: create_api_key(world.office, world.actor(), party, person)
            for role, (party, person) in HOLDERS.items()
        }
        with serving(create_app(world.office)) as base, httpx.Client(base_url=base, timeout=60) as client:
            yield ApiWorld(world, base, client, tokens)
        world.office.engine.dispose()
