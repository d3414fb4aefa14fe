"""kill -9 of the enclave and of the API in the middle of calls: one receipt per call, one meter event per receipt."""

from __future__ import annotations

import os
import random
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from enclave_runner.contract.call import Asked, Call, CallReceipt, PlainAnswer, PlainAsk
from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.receipt import Outcome
from enclave_runner.contract.wire import AskCalls, AskOffer, CallLog, CallReply, OfferReply
from sandbox.domain.product import Product
from sandbox.settings import Home
from sandbox.workflow.audit import verify_audit
from sandbox.workflow.enclave import EnclaveDoor
from sandbox.workflow.keys import create_api_key
from sandbox.workflow.meter import list_events
from sandbox.workflow.products import publish_product
from sandbox.workflow.recover import recover
from tests.support.deployment import BANK, OPERATOR, PAID, import_text, make_deployment, open_world, rows
from tests.support.verification_site import CHECKS, furnish, paid_grant

PRODUCT, CALLERS, ROUNDS, SEED = "lives-in", 4, 8, 20261125
ROOT = Path(__file__).parents[2]


@dataclass
class Business:
    """Asks one question after the other; a question without an answer is sent again as it was, until it has one."""

    base: str
    token: str
    version: str
    name: int
    stop: threading.Event
    asked: list[Call] = field(default_factory=list)
    answered: dict[bytes, str] = field(default_factory=dict)
    used: set[bytes] = field(default_factory=set)
    strange: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Until stopped."""
        with httpx.Client(base_url=self.base, timeout=20) as client:
            while not self.stop.is_set():
                number = len(self.asked) * CALLERS + self.name
                ask = PlainAsk(asked=(Asked(subject=f"p{number % 3000}", claim="north"),))
                call = Call(
                    call_id=secrets.token_bytes(16), salt=secrets.token_bytes(32), version=self.version, ask=ask
                )
                self.asked.append(call)
                self._until_settled(client, call)

    def _until_settled(self, client: httpx.Client, call: Call) -> None:
        while not self.stop.is_set():
            try:
                answer = client.post(
                    f"/v1/products/{PRODUCT}/calls",
                    content=encode(call),
                    headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
                )
            except httpx.TransportError:
                time.sleep(0.05)
                continue
            if answer.status_code == 200 and self._is_taken(call, answer.content):
                return
            if answer.status_code >= 500:
                time.sleep(0.05)
            elif answer.status_code != 200:
                if answer.json().get("rule") == "call.used":
                    self.used.add(call.call_id)
                else:
                    self.strange.append(answer.text)
                return

    def _is_taken(self, call: Call, content: bytes) -> bool:
        reply = msgspec.json.decode(content, type=CallReply)
        if isinstance(reply.answer, PlainAnswer):
            self.answered[call.call_id] = reply.answer.verdicts[0]
        elif reply.rule is not None:
            self.strange.append(reply.rule)
        return True


def _enclave(home: Home) -> subprocess.Popen[bytes]:
    (home.enclave / "enclave.sock").unlink(missing_ok=True)
    process = subprocess.Popen([sys.executable, "-m", "enclave_runner", "serve", "--home", str(home.enclave)])
    deadline = time.monotonic() + 60
    while not (home.enclave / "enclave.sock").exists():
        assert process.poll() is None, "the enclave ended"
        assert time.monotonic() < deadline, "the enclave did not come up"
        time.sleep(0.05)
    return process


def _api(home: Home, port: int) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-m", "sandbox.api", "--home", str(home.folder), "--port", str(port)]
    process = subprocess.Popen(line, cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/v1/health")
        except httpx.TransportError:
            assert process.poll() is None, "the API ended"
            assert time.monotonic() < deadline, "the API did not come up"
            time.sleep(0.05)
        else:
            return process


@pytest.mark.slow
def test_no_call_is_lost_paid_twice_or_answered_without_a_receipt(tmp_path: Path) -> None:
    home = make_deployment(tmp_path / "home")
    with open_world(home) as world:
        token = furnish(world, PRODUCT)[BANK]
        reply = world.office.enclave.call(AskOffer(product_id=PRODUCT))
        assert isinstance(reply, OfferReply)
        version = msgspec.json.decode(reply.offer.payload)["version"]
        world.office.engine.dispose()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    stop, chance = threading.Event(), random.Random(SEED)
    callers = [Business(f"http://127.0.0.1:{port}", token, version, name, stop) for name in range(CALLERS)]
    threads = [threading.Thread(target=caller.run) for caller in callers]
    enclave, api = _enclave(home), _api(home, port)
    try:
        for thread in threads:
            thread.start()
        for number in range(ROUNDS):
            time.sleep(0.5 + chance.random())
            if number % 2:
                os.kill(api.pid, signal.SIGKILL)
                api.wait()
                api = _api(home, port)
            else:
                os.kill(enclave.pid, signal.SIGKILL)
                enclave.wait()
                enclave = _enclave(home)
            _wait_for_answers(callers)
        time.sleep(1.0)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        for process in (api, enclave):
            process.kill()
            process.wait()
    _check(home, callers)


def _wait_for_answers(callers: list[Business]) -> None:
    """An open product answers again by itself, as soon as its tables are read and its worker has started."""
    before, deadline = sum(len(caller.answered) for caller in callers), time.monotonic() + 60
    while sum(len(caller.answered) for caller in callers) < before + 20:
        assert time.monotonic() < deadline, "no call is answered any more"
        time.sleep(0.05)


def _check(home: Home, callers: list[Business]) -> None:
    assert [strange for caller in callers for strange in caller.strange] == []
    with open_world(home) as world:
        recover(world.office)
        receipts = _receipts(world.office.enclave)
        events = [event for event in list_events(world.office, world.actor()) if event.is_call]
        assert verify_audit(world.office).ok
    per_call = Counter(receipt.call_id for receipt in receipts)
    assert set(per_call.values()) == {1}
    assert [receipt.sequence for receipt in receipts] == list(range(len(receipts)))
    asked = {call.call_id.hex() for caller in callers for call in caller.asked}
    assert set(per_call) <= asked
    by_id = {receipt.call_id: receipt for receipt in receipts}
    answered = {call_id.hex(): verdict for caller in callers for call_id, verdict in caller.answered.items()}
    assert len(answered) > 100
    for call_id in answered:
        assert (by_id[call_id].outcome, by_id[call_id].units) == (Outcome.RELEASED, 1)
    for call_id in (call_id.hex() for caller in callers for call_id in caller.used):
        assert call_id in by_id  # its answer was lost with the enclave's memory, its receipt was not
    _check_answers(callers)
    assert len(events) == len({event.receipt_id for event in events}) == len(receipts)
    assert sum(event.units for event in events) == sum(receipt.units for receipt in receipts)
    ledger = sqlite3.connect(home.enclave / "ledger.db")
    (told,) = ledger.execute(
        "SELECT sum(amount) FROM tallies JOIN tally_scopes ON number = scope WHERE kind = 'guesses'"
    ).fetchone()
    ledger.close()
    assert told >= 1000 * sum(receipt.units for receipt in receipts)


def _check_answers(callers: list[Business]) -> None:
    for caller in callers:
        for call in caller.asked:
            verdict = caller.answered.get(call.call_id)
            if verdict is not None:
                assert isinstance(call.ask, PlainAsk)
                number = int(call.ask.asked[0].subject[1:])
                assert verdict == ("yes" if number % 2 == 0 else "no")


def _receipts(enclave: EnclaveDoor) -> list[CallReceipt]:
    """Of all batches, page by page."""
    found: list[CallReceipt] = []
    since = 0
    while True:
        page = enclave.call(AskCalls(since=since))
        assert isinstance(page, CallLog)
        if not page.batches:
            return found
        since += len(page.batches)
        found += [decode(receipt, CallReceipt) for batch in page.batches for receipt in batch.receipts]


def _opening(client: httpx.Client, headers: dict[str, str]) -> dict[str, Any]:
    """The newest order of the product."""
    answer = client.get(f"/v1/products/{PRODUCT}/opening", headers=headers)
    assert answer.status_code == 200, answer.text
    newest: dict[str, Any] = answer.json()["orders"][0]
    return newest


def _open(client: httpx.Client, headers: dict[str, str]) -> None:
    fresh = headers | {"Idempotency-Key": f"open-{secrets.token_hex(8)}", "Content-Type": "application/json"}
    answer = client.post(f"/v1/products/{PRODUCT}/opening", content=b"{}", headers=fresh)
    assert answer.status_code == 202, answer.text


def _wait(client: httpx.Client, headers: dict[str, str], holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + 240
    while not holds(order := _opening(client, headers)):
        assert time.monotonic() < deadline, order
        time.sleep(0.05)
    return order


@pytest.mark.slow
def test_a_killed_opening_is_carried_on_from_its_last_chunk(tmp_path: Path) -> None:
    """120,000 rows are three chunks of evaluations; the enclave dies after the first, and it is not made again."""
    home = make_deployment(tmp_path / "home")
    with open_world(home) as world:
        import_text(world, rows(120_000))
        paid_grant(world, (BANK,), 10**6)
        job = CHECKS[PRODUCT]
        publish_product(world.office, world.actor(OPERATOR), Product(PRODUCT, OPERATOR, PAID, "核验", job, False))
        headers = {"Authorization": f"Bearer {create_api_key(world.office, world.actor(), OPERATOR, 'clerk')}"}
        world.office.engine.dispose()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    enclave, api = _enclave(home), _api(home, port)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            _open(client, headers)
            before = _wait(client, headers, lambda order: order["stage"] == "evaluating" and order["done"] > 0)
            os.kill(enclave.pid, signal.SIGKILL)
            enclave.wait()
            enclave = _enclave(home)
            _open(client, headers)
            after = _wait(client, headers, lambda order: order["stage"] == "evaluating")
            done = _wait(client, headers, lambda order: order["status"] == "open")
    finally:
        for process in (api, enclave):
            process.kill()
            process.wait()
    assert done["ticket_id"] == after["ticket_id"] == before["ticket_id"]
    assert after["done"] >= before["done"] > 0
