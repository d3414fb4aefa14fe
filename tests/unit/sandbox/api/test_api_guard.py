from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from sandbox.api import problem
from sandbox.api.guard import JSON_BYTES, LINGER_BYTES, SECURITY_HEADERS, BodyCap, LastCatch, SecurityHeaders
from sandbox.api.language import Language
from tests.support.http_server import raw_exchange, serving

CANARY = "CANARY-in-an-exception"
LARGER = 3 << 20


async def count(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


def break_down(request: Request) -> Response:
    raise LookupError(CANARY)


def break_off(request: Request) -> Response:
    def pieces() -> Iterator[bytes]:
        yield b"begun"
        raise LookupError(CANARY)

    return StreamingResponse(pieces())


def turned_away(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem.of_status(error.status_code, Language.EN, dict(error.headers or {}))


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    app = Starlette(
        routes=[
            Route("/count", count, methods=["POST"]),
            Route("/large", count, methods=["POST"]),
            Route("/items/{name}/large", count, methods=["POST"]),
            Route("/break-down", break_down),
            Route("/break-off", break_off),
        ],
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(LastCatch),
            Middleware(BodyCap, larger={"/large": LARGER, "/items/*/large": LARGER}),
        ],
        exception_handlers={HTTPException: turned_away},
    )
    with serving(app) as address:
        yield address


def test_every_answer_carries_the_security_headers(base: str) -> None:
    for path in ("/count", "/nowhere", "/break-down"):
        answer = httpx.get(base + path)
        assert {name: answer.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS


@pytest.mark.parametrize(("path", "cap"), [("/count", JSON_BYTES), ("/large", LARGER), ("/items/x/large", LARGER)])
def test_a_body_up_to_the_cap_passes_and_one_byte_more_does_not(base: str, path: str, cap: int) -> None:
    assert httpx.post(base + path, content=b"x" * cap).text == str(cap)
    answer = httpx.post(base + path, content=b"x" * (cap + 1))
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")


def test_a_gigabyte_is_refused_before_its_first_byte(base: str) -> None:
    head = b"POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\n"
    answer = raw_exchange(base, head)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()


def test_a_body_of_untold_length_is_counted(base: str) -> None:
    answer = httpx.post(base + "/count", content=iter([b"x" * JSON_BYTES, b"x"]))
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
    assert httpx.post(base + "/count", content=iter([b"x" * JSON_BYTES])).text == str(JSON_BYTES)


def test_an_endless_body_is_not_read_to_its_end(base: str) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 1 << 30:
            sent += 1 << 20
            yield b"x" * (1 << 20)

    with suppress(httpx.TransportError):  # the server closes while we still write
        httpx.post(base + "/count", content=endless())
    assert sent < 2 * LINGER_BYTES


@pytest.mark.parametrize("length", [b"-1", b"\xb2", b"1e9"])
def test_a_length_that_is_no_number_is_never_a_fault_of_ours(base: str, length: bytes) -> None:
    answer = raw_exchange(base, b"POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: " + length + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_an_unforeseen_exception_shows_a_fault_id_and_nothing_else(base: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = httpx.get(base + "/break-down", headers={"Accept-Language": "en"})
    body = answer.json()
    assert (answer.status_code, body["title"]) == (500, "Internal Server Error")
    assert body["fault"].startswith("fault-")
    assert f"{body['fault']} LookupError" in caplog.messages
    assert CANARY not in answer.text + caplog.text


def test_an_answer_that_had_begun_just_ends(base: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(httpx.RemoteProtocolError):
        httpx.get(base + "/break-off")
    assert CANARY not in caplog.text


def test_what_is_not_http_passes_untouched() -> None:
    """The server's own start and stop messages have no headers, no body and no answer."""
    seen: list[Scope] = []

    async def innermost(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    async def nothing(*_: object) -> Message:
        return {}

    app = SecurityHeaders(LastCatch(BodyCap(innermost, larger={})))
    anyio.run(app, {"type": "lifespan"}, nothing, nothing)
    assert seen == [{"type": "lifespan"}]
