"""HTTP to one platform, and nothing more: no redirects, no proxies of the environment, no compression, no cookies.

Every exchange has a cap on its reply, a deadline on the whole of it, and a fixed number of attempts. When to try again
depends on the connection and the status alone, never on what a reply says.
"""

from __future__ import annotations

import ipaddress
import math
import re
import ssl
import time
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any

import anyio
import httpx

from enclave_runner.contract.errors import Failed, Refused
from sandbox.client.exchange import Exchange, Reply

KEY = re.compile(r"[\x21-\x7e]{8,256}")
# Answers that came from something in between, or from a platform that asks for patience.
PASSING = frozenset({502, 503, 504})
# Long enough together for an enclave that is started again.
PAUSES = (0.5, 1.5, 4.0)
MAX_PROBLEM_BYTES = 1 << 16
SECONDS = 60.0
READ_SECONDS = 30.0


@dataclass(frozen=True)
class Door:
    """Where a platform is and how one gets in. `ca` is a file of trusted certificates in place of the system's.

    An address without TLS is taken only on this machine itself: the key would be read on the way. Through a unix
    `socket` no key is needed: who listens there knows whose it is, and the address only names the platform.
    `read_seconds` is the longest wait for the next piece of an answer.
    """

    url: str
    key: str = ""
    ca: Path | None = None
    proxy: str | None = None
    seconds: float = SECONDS
    pauses: tuple[float, ...] = PAUSES
    socket: Path | None = None
    read_seconds: float = READ_SECONDS

    def __post_init__(self) -> None:
        parts = _parsed(self.url)
        if parts.scheme != "https" and not (parts.scheme == "http" and _is_here(parts.host)):
            raise ValueError("the platform's address begins with https://")
        if parts.userinfo or parts.query or parts.fragment or not parts.host:
            raise ValueError("the platform's address is a scheme, a host and a path")
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise ValueError("the timeout is a positive number of seconds")
        if self.proxy is not None:
            _check_proxy(self.proxy)
        if not KEY.fullmatch(self.key) and not (self.socket is not None and not self.key):
            raise ValueError("an API key has 8 to 256 printable characters without blanks")

    def __repr__(self) -> str:
        return f"Door({self.url!r})"

    @property
    def options(self) -> dict[str, Any]:
        """What every request through this door has. No single step of a connection waits longer than its timeout.

        Raises:
            Failed: `file.unreadable` when the file of certificates has none.
        """
        return {
            "headers": {
                **({"Authorization": f"Bearer {self.key}"} if self.key else {}),
                "Accept-Encoding": "identity",
                "User-Agent": "yunei-client",
            },
            "cookies": CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            "timeout": httpx.Timeout(min(self.read_seconds, self.seconds)),
            "verify": self._trusted() if self.socket is None else False,
            "proxy": self.proxy,
            "trust_env": False,
            "follow_redirects": False,
        }

    @property
    def base(self) -> str:
        """The address without a slash at its end."""
        return self.url.rstrip("/")

    def _trusted(self) -> ssl.SSLContext:
        """The certificates that count."""
        try:
            return ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError):
            raise Failed("file.unreadable") from None


class Transport:
    """Blocking. One object may serve several threads."""

    def __init__(self, door: Door) -> None:
        self._door = door
        over = None if door.socket is None else httpx.HTTPTransport(uds=str(door.socket), verify=False)
        self._http = httpx.Client(**door.options, transport=over)

    def send(self, exchange: Exchange) -> Reply:
        """The reply, after as many attempts as the door allows.

        Raises:
            Failed: `client.unreachable` when none of them was answered.
            Refused: `client.answer` for a reply that is longer than it may be, encoded, or a redirect: not tried again.
        """
        for pause in (*self._door.pauses, None):
            reply = self._attempt(exchange)
            if reply is not None and (reply.status not in PASSING or pause is None):
                return reply
            if pause is not None:
                time.sleep(pause)
        raise Failed("client.unreachable")

    def _attempt(self, exchange: Exchange) -> Reply | None:
        intake = _Intake(exchange, self._door.seconds)
        try:
            with self._http.stream(**_request(self._door, exchange)) as response:
                intake.begin(response)
                for piece in response.iter_raw():
                    intake.take(piece)
        except (httpx.HTTPError, httpx.StreamError):
            return None
        return intake.reply

    def close(self) -> None:
        """End the connections."""
        self._http.close()


class AsyncTransport:
    """The same for an event loop."""

    def __init__(self, door: Door) -> None:
        self._door = door
        over = None if door.socket is None else httpx.AsyncHTTPTransport(uds=str(door.socket), verify=False)
        self._http = httpx.AsyncClient(**door.options, transport=over)

    async def send(self, exchange: Exchange) -> Reply:
        """As `Transport.send`."""
        for pause in (*self._door.pauses, None):
            reply = await self._attempt(exchange)
            if reply is not None and (reply.status not in PASSING or pause is None):
                return reply
            if pause is not None:
                await anyio.sleep(pause)
        raise Failed("client.unreachable")

    async def _attempt(self, exchange: Exchange) -> Reply | None:
        intake = _Intake(exchange, self._door.seconds)
        try:
            with anyio.fail_after(self._door.seconds):
                async with self._http.stream(**_request(self._door, exchange)) as response:
                    intake.begin(response)
                    async for piece in response.aiter_raw():
                        intake.take(piece)
        except (httpx.HTTPError, httpx.StreamError, TimeoutError):
            return None
        return intake.reply

    async def close(self) -> None:
        """End the connections."""
        await self._http.aclose()


class _Intake:
    """A reply as it comes in, up to its cap and its deadline."""

    def __init__(self, exchange: Exchange, seconds: float) -> None:
        self._limit = exchange.max_reply
        self._deadline = time.monotonic() + seconds
        self._status, self._media_type = 0, ""
        self._body = bytearray()

    def begin(self, response: httpx.Response) -> None:
        """Judge what came before the body."""
        self._status = response.status_code
        self._media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()[:80]
        if self._status >= 400:
            self._limit = max(self._limit, MAX_PROBLEM_BYTES)
        if 300 <= self._status < 400:
            raise Refused("client.answer", what="a redirect")
        if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise Refused("client.answer", what="an encoding that was not asked for")

    def take(self, piece: bytes) -> None:
        """Keep a piece; too many bytes are a lie, too much time is a lost answer."""
        if len(self._body) + len(piece) > self._limit:
            raise Refused("client.answer", what="longer than it can be")
        if time.monotonic() > self._deadline:
            raise httpx.ReadTimeout("the whole of it took too long")
        self._body += piece

    @property
    def reply(self) -> Reply:
        """All of it."""
        return Reply(self._status, self._media_type, bytes(self._body))


def _request(door: Door, exchange: Exchange) -> dict[str, Any]:
    headers = {"Accept": exchange.accepts}
    if exchange.body is not None:
        headers["Content-Type"] = exchange.sends
    if exchange.key is not None:
        headers["Idempotency-Key"] = exchange.key
    url = httpx.URL(door.base + exchange.path, params=exchange.query) if exchange.query else door.base + exchange.path
    return {"method": exchange.method, "url": url, "content": exchange.body, "headers": headers}


def _parsed(url: str) -> httpx.URL:
    try:
        return httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        raise ValueError("the platform's address is no address") from None


def _check_proxy(proxy: str) -> None:
    """Pass for what httpx takes; the text is not quoted, for it may have a password."""
    try:
        host = httpx.Proxy(proxy).url.host
    except (httpx.InvalidURL, ValueError, TypeError):
        host = ""
    if not host:
        raise ValueError("the proxy is no address")


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
