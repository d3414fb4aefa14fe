"""What the API does beside answering: openings that were left, receipts of calls that nobody asked for."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.wire import OpenProduct, Reply, Request
from sandbox.api import background
from sandbox.api.background import Openings, fetch_calls, keep_fetching_calls
from sandbox.domain.standing import StandingStatus
from sandbox.store import calls, standing
from sandbox.store.database import reading
from sandbox.workflow.standing import open_product
from tests.support.bureau import OPERATOR, Bureau, furnished_bureau
from tests.support.called import LICENCE, ask, furnish_firms, opened


@pytest.fixture
def firms(tmp_path: Path) -> Bureau:
    """A bureau with a product that can be opened."""
    bureau = furnished_bureau(tmp_path)
    furnish_firms(bureau)
    return bureau


def wait_for(bureau: Bureau, status: StandingStatus) -> None:
    deadline = time.monotonic() + 30
    while True:
        with reading(bureau.office.engine) as connection:
            if standing.of_product(connection, LICENCE)[0].status is status:
                return
        assert time.monotonic() < deadline
        time.sleep(0.01)


def recorded(bureau: Bureau) -> int:
    with reading(bureau.office.engine) as connection:
        return len(calls.page(connection, 0, 100, None))


def test_what_an_earlier_process_left_is_opened(firms: Bureau) -> None:
    open_product(firms.office, firms.actor(OPERATOR), LICENCE)
    Openings(firms.office).start_all()
    wait_for(firms, StandingStatus.OPEN)
    assert ask(firms).rule is None


def test_an_order_is_carried_out_once_at_a_time(firms: Bureau) -> None:
    order = open_product(firms.office, firms.actor(OPERATOR), LICENCE)
    gate, seen = threading.Event(), []

    class Slow:
        def call(self, request: Request, descriptor: int | None = None) -> Reply:
            if isinstance(request, OpenProduct):
                seen.append(request)
                assert gate.wait(30)
            return firms.enclave.call(request, descriptor)

    openings = Openings(replace(firms.office, enclave=Slow()))
    for _ in range(5):
        openings.start(order.ticket_id)
    gate.set()
    wait_for(firms, StandingStatus.OPEN)
    assert len(seen) == 1


def test_an_opening_that_is_refused_stands_in_its_order(firms: Bureau) -> None:
    firms.enclave.calls.refuse_opening = Refused("verification.too-few", min=1024)
    order = open_product(firms.office, firms.actor(OPERATOR), LICENCE)
    Openings(firms.office).start(order.ticket_id)
    wait_for(firms, StandingStatus.REFUSED)


def test_receipts_are_fetched_until_it_is_told_to_stop(firms: Bureau, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "SYNC_SECONDS", 0.01)
    opened(firms)
    stop = threading.Event()
    thread = keep_fetching_calls(firms.office, stop)
    ask(firms)
    deadline = time.monotonic() + 30
    while not recorded(firms):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Refused("call.chain", number=1), "call.chain"),
        (Failed("enclave.lost"), "enclave.lost"),
        (LookupError("CANARY"), "LookupError"),
    ],
)
def test_what_keeps_receipts_from_being_recorded_is_logged_and_ends_nothing(
    firms: Bureau, caplog: pytest.LogCaptureFixture, error: Exception, said: str
) -> None:
    class Broken:
        def call(self, request: Request, descriptor: int | None = None) -> Reply:
            raise error

    opened(firms)
    with caplog.at_level(logging.ERROR, "yunei.api"):
        fetch_calls(replace(firms.office, enclave=Broken()))
    assert said in caplog.text
    assert "CANARY" not in caplog.text
