"""What stands around every request, routes or none: a cap on the body, security headers, and the last catch."""

from __future__ import annotations

from collections.abc import Mapping

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandbox.api import problem
from sandbox.api.language import preferred

JSON_BYTES = 1 << 20
# A client that is still writing loses our answer if we close at once: so much is read and dropped, for so long.
LINGER_BYTES = 32 << 20
LINGER_SECONDS = 1.0

SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class SecurityHeaders:
    """Every answer carries the headers above, errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers to the start of the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class LastCatch:
    """An exception that nobody foresaw becomes a fault id; no trace of it leaves, to the caller or to a log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 500 unless the answer had begun; then the connection simply ends."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def watch(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:
            failed = problem.unexpected(error)
            if begun:
                return
            language = preferred(Headers(scope=scope).get("accept-language"))
            await problem.of_fault(failed, language)(scope, receive, send)


class BodyCap:
    """No body is read beyond its cap: by the declared length before the first byte, else by counting.

    `larger` names the paths whose cap is not the ordinary one; a segment `*` in it stands for any one segment.
    """

    def __init__(self, app: ASGIApp, larger: Mapping[str, int]) -> None:
        self._app = app
        self._larger = {tuple(path.split("/")): cap for path, cap in larger.items()}

    def _cap(self, path: str) -> int:
        given = path.split("/")
        for pattern, cap in self._larger.items():
            if len(pattern) == len(given) and all(want in ("*", got) for want, got in zip(pattern, given, strict=True)):
                return cap
        return JSON_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 413 at once, or pass on with a counting `receive`."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        cap = self._cap(scope["path"])
        headers = Headers(scope=scope)
        if _declared(headers.get("content-length")) > cap:
            answer = problem.of_status(413, preferred(headers.get("accept-language")), {"Connection": "close"})
            await send({"type": "http.response.start", "status": 413, "headers": answer.raw_headers})
            await send({"type": "http.response.body", "body": answer.body, "more_body": True})
            await _linger(receive)
            await send({"type": "http.response.body", "body": b""})
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > cap:
                await _linger(receive)
                raise HTTPException(413, headers={"Connection": "close"})
            return message

        await self._app(scope, counted, send)


async def _linger(receive: Receive) -> None:
    dropped = 0
    with anyio.move_on_after(LINGER_SECONDS):
        while dropped < LINGER_BYTES:
            message = await receive()
            dropped += len(message.get("body", b""))
            if not message.get("more_body", False):
                return


def _declared(length: str | None) -> int:
    return int(length) if length is not None and length.isascii() and length.isdigit() else 0
