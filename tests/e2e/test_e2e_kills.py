"""Invariants 5 and 8 under kill -9 in loops: of the enclave, of a caller beside it, of the API, at random moments."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from enclave_runner.contract.codec import decode
from enclave_runner.contract.receipt import Outcome, Receipt
from enclave_runner.contract.wire import AskLog, AskOdometer, Odometer, ReceiptLog
from sandbox.domain.submission import SubmissionStatus
from sandbox.settings import Home
from sandbox.workflow.audit import verify_audit
from sandbox.workflow.keys import create_api_key
from sandbox.workflow.meter import list_events
from sandbox.workflow.recover import recover
from sandbox.workflow.releases import list_submissions
from tests.support.deployment import BANK, PRODUCT, furnish, make_deployment, open_world

ROUNDS = 12
SEED = 20261124


def _enclave(home: Home) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "enclave_runner", "serve", "--home", str(home.enclave)])


def _api(home: Home) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-m", "tests.support.api_process", str(home.folder)]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[2])


def _wait_for_socket(home: Home, enclave: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and enclave.poll() is None:
        if (home.enclave / "enclave.sock").exists():
            return
        time.sleep(0.05)
    raise AssertionError("the enclave did not come up")


@pytest.mark.slow
def test_nothing_is_lost_doubled_or_underspent(tmp_path: Path) -> None:
    home = make_deployment(tmp_path / "home")
    with open_world(home) as world:
        furnish(world)
    chance = random.Random(SEED)
    spent_before = 0
    for round_number in range(ROUNDS):
        (home.enclave / "enclave.sock").unlink(missing_ok=True)
        enclave = _enclave(home)
        _wait_for_socket(home, enclave)
        api = _api(home)
        time.sleep(2.0 + chance.random() * 1.5)
        victims = [(enclave, api), (api, enclave), (api, api)][round_number % 3]
        os.kill(victims[0].pid, signal.SIGKILL)
        time.sleep(chance.random() * 0.3)
        for process in (api, enclave):
            process.kill()
            process.wait()
        spent_before = _check(home, spent_before)


def _check(home: Home, spent_before: int) -> int:
    with open_world(home) as world:
        recover(world.office)
        log = world.office.enclave.call(AskLog())
        odometer = world.office.enclave.call(AskOdometer())
        assert isinstance(log, ReceiptLog)
        assert isinstance(odometer, Odometer)
        receipts = [decode(signed.payload, Receipt) for signed in log.receipts]
        submissions = list_submissions(world.office, world.actor())
        events = list_events(world.office, world.actor())
        report = verify_audit(world.office)
        assert report.ok, report
    settled = {SubmissionStatus.RELEASED, SubmissionStatus.REFUSED, SubmissionStatus.FAILED}
    dispatched = [s for s in submissions if s.status is SubmissionStatus.DISPATCHED]
    assert dispatched == []
    assert len({receipt.ticket_id for receipt in receipts}) == len(receipts)
    assert {event.receipt_id for event in events} == {receipt.receipt_id for receipt in receipts}
    assert len(events) == len(receipts)
    released = {receipt.submission_id for receipt in receipts if receipt.outcome is Outcome.RELEASED}
    assert {s.submission_id for s in submissions if s.status is SubmissionStatus.RELEASED} == released
    assert {s.submission_id for s in submissions if s.status in settled} >= released
    lost = sum(loss.pico_rho for receipt in receipts for loss in receipt.losses)
    spent = sum(reading.spent + reading.reserved for reading in odometer.readings)
    assert spent >= lost
    assert spent >= spent_before
    return spent


@dataclass
class Caller:
    """A business that asks over HTTP, one question per idempotency key, and retries each until it has an answer."""

    base: str
    token: str
    asked: int = 0
    answered: dict[str, dict[str, Any]] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Ask until stopped. A key that a kill left in progress is given up, as the API says."""
        while not self.stop.is_set():
            key = f"kill-{self.asked:08d}"
            self.asked += 1
            body = {"product_id": PRODUCT, "subject": f"p{self.asked % 400}", "claim": "true"}
            while not self.stop.is_set():
                status, document = self._post(key, body)
                if status == 201:
                    self.answered[key] = document
                if status in (201, 409):
                    break
                time.sleep(0.1)

    def _post(self, key: str, body: dict[str, str]) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self.token}", "Idempotency-Key": key}
        try:
            reply = httpx.post(f"{self.base}/v1/verifications", json=body, headers=headers, timeout=20)
        except httpx.TransportError:
            return 0, {}
        return reply.status_code, reply.json()


@pytest.mark.slow
def test_a_killed_api_asks_and_charges_nobody_twice(tmp_path: Path) -> None:
    home = make_deployment(tmp_path / "home")
    with open_world(home) as world:
        furnish(world)
        token = create_api_key(world.office, world.actor(), BANK, "caller")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    caller = Caller(f"http://127.0.0.1:{port}", token)
    asking = threading.Thread(target=caller.run)
    asking.start()
    chance = random.Random(SEED)
    line = [sys.executable, "-m", "sandbox.api", "--home", str(home.folder), "--port", str(port)]
    try:
        for _ in range(6):
            api = subprocess.Popen(line, stderr=subprocess.DEVNULL)
            time.sleep(4.0 + chance.random() * 1.5)
            api.kill()
            api.wait()
        api = subprocess.Popen(line, stderr=subprocess.DEVNULL)
        time.sleep(5.0)
        caller.stop.set()
        asking.join()
    finally:
        caller.stop.set()
        api.terminate()
        api.wait()
    with open_world(home) as world:
        recover(world.office)
        events = list_events(world.office, world.actor())
        submissions = list_submissions(world.office, world.actor())
        assert verify_audit(world.office).ok
    assert len(caller.answered) > 10
    paid = {event.submission_id: event.units for event in events}
    for document in caller.answered.values():
        released = document["release"] is not None
        assert paid[document["submission"]["submission_id"]] == int(released)
    assert len({document["submission"]["submission_id"] for document in caller.answered.values()}) == len(
        caller.answered
    )
    assert len(submissions) <= caller.asked
    assert len(events) == len(paid) <= caller.asked
