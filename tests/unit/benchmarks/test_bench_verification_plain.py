"""The parts of the P0 benchmark: the floor is durable and groups, the callers count what they were answered."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from benchmarks.verification.floor import GroupCommit
from benchmarks.verification.load import Order, Tally, load
from benchmarks.verification.plain import Round
from enclave_runner.contract.call import Call, PlainAsk
from enclave_runner.contract.codec import decode
from tests.support.http_server import serving


def test_a_row_is_durable_when_its_caller_goes_on(tmp_path: Path) -> None:
    commits = GroupCommit(tmp_path / "floor.db")
    threads = [threading.Thread(target=commits.record, args=(f"caller-{n}", bytes([n]) * 32)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other = sqlite3.connect(tmp_path / "floor.db")
    rows = other.execute("SELECT caller, digest FROM calls").fetchall()
    assert sorted(rows) == sorted((f"caller-{n}", bytes([n]) * 32) for n in range(20))
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()


class Echo:
    """Answers every third request with 403, and keeps all calls."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message.get("more_body", False)
        self.calls.append(decode(body, Call))
        status = 403 if len(self.calls) % 3 == 0 else 200
        content = b"x" * (1 + len(self.calls) % 5)
        headers = [(b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})


@pytest.fixture
def echo() -> Iterator[tuple[Echo, str]]:
    app = Echo()
    with serving(app) as base:
        yield app, base


def order(base: str, **changes: object) -> Order:
    host, port = base.removeprefix("http://").split(":")
    fields: dict[str, object] = {
        "host": host, "port": int(port), "path": "/x", "token": "t", "version": "v", "subjects": ("a", "b", "c"),
        "first": 1, "claim": "north", "connections": 3, "milliseconds": 300,
    }  # fmt: skip
    return Order(**{**fields, **changes})  # type: ignore[arg-type]


def test_callers_ask_about_one_after_the_other_each_call_under_its_own_id(echo: tuple[Echo, str]) -> None:
    app, base = echo
    tally = load(order(base, connections=1))
    assert tally.answered + tally.otherwise == len(app.calls) > 3
    assert tally.otherwise == len(app.calls) // 3
    assert len({call.call_id for call in app.calls}) == len(app.calls)
    asked = [call.ask.asked[0] for call in app.calls if isinstance(call.ask, PlainAsk)]
    assert [item.subject for item in asked[:4]] == ["b", "c", "a", "b"]
    assert {item.claim for item in asked} == {"north"}


def test_connections_share_the_subjects(echo: tuple[Echo, str]) -> None:
    app, base = echo
    tally = load(order(base))
    assert len(tally.microseconds) == tally.answered
    assert list(tally.microseconds) == sorted(tally.microseconds)
    assert tally.answered + tally.otherwise == len(app.calls)


def test_rates_and_centiles() -> None:
    tally = Tally(answered=100, otherwise=0, microseconds=tuple(range(1000, 101_000, 1000)), milliseconds=500)
    assert tally.rate == 200
    assert tally.centile(0.5) == 51
    assert tally.centile(0.99) == 100
    assert Tally(answered=0, otherwise=9, microseconds=(), milliseconds=500).centile(0.99) == float("inf")
    assert Round(floor=tally, product=Tally(answered=50, otherwise=0, microseconds=(), milliseconds=500)).ratio == 0.5
