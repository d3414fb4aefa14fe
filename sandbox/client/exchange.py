"""One request and its reply, apart from how they travel: every conversation is a flow of these, for both transports."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import anyio.to_thread

from enclave_runner.contract.errors import YuneiError

T = TypeVar("T")
JSON = "application/json"
BYTES = "application/octet-stream"
PROBLEM = "application/problem+json"


@dataclass(frozen=True)
class Exchange:
    """A request that may safely be sent again, and the longest reply that it can have.

    `sends` is the media type of the body. `key` is the idempotency key of a write, which makes it safe to send again.
    """

    method: str
    path: str
    max_reply: int
    body: bytes | None = field(default=None, repr=False)
    query: tuple[tuple[str, str], ...] = ()
    accepts: str = JSON
    sends: str = JSON
    key: str | None = None


@dataclass(frozen=True)
class Reply:
    """What came back: status, media type without parameters, and at most `max_reply` bytes."""

    status: int
    media_type: str
    body: bytes = field(repr=False)


Flow = Generator[Exchange, Reply, T]


def run(flow: Flow[T], send: Callable[[Exchange], Reply]) -> T:
    """Carry a flow to its end; what `send` raises is raised inside the flow, where it stands."""
    try:
        exchange = next(flow)
        while True:
            try:
                reply = send(exchange)
            except YuneiError as error:
                exchange = flow.throw(error)
            else:
                exchange = flow.send(reply)
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        flow.close()


async def run_async(flow: Flow[T], send: Callable[[Exchange], Awaitable[Reply]]) -> T:
    """The same with an asynchronous `send`; the flow's own work runs in a thread beside the event loop."""
    advance: Callable[[], Exchange] = partial(next, flow)
    try:
        while True:
            reached = await anyio.to_thread.run_sync(_reach, advance)
            if isinstance(reached, _End):
                result: T = reached.value
                return result
            try:
                advance = partial(flow.send, await send(reached))
            except YuneiError as error:
                advance = partial(flow.throw, error)
    finally:
        flow.close()


@dataclass(frozen=True)
class _End:
    value: Any


def _reach(advance: Callable[[], Exchange]) -> Exchange | _End:
    """A StopIteration cannot leave a thread as one: an end is a value here."""
    try:
        return advance()
    except StopIteration as done:
        return _End(done.value)
