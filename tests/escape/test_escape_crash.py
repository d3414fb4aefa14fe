"""kill -9 of the enclave at random moments of running jobs: nothing is lost, nothing doubled, nothing given back."""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from enclave_runner.contract.codec import digest, encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.grant import Grant
from enclave_runner.contract.merkle import frontier_of, open_checkpoint
from enclave_runner.contract.privacy import RHO_UNIT, PrivacyLoss
from enclave_runner.contract.receipt import PURPOSE as RECEIPT_PURPOSE
from enclave_runner.contract.receipt import Outcome, Receipt
from enclave_runner.contract.signing import PublicKey, seal, unseal
from enclave_runner.contract.ticket import PURPOSE as TICKET_PURPOSE
from enclave_runner.contract.wire import (
    AskHoldings,
    AskLog,
    AskOdometer,
    FetchSettlement,
    FileFormat,
    Hello,
    Holdings,
    Identity,
    ImportData,
    Odometer,
    ReceiptLog,
    RunJob,
    Settlement,
)
from enclave_runner.dp.conversion import pico_rho_of
from tests.support.enclave_home import (
    PEOPLE,
    PEOPLE_CSV,
    Bureau,
    make_bureau,
    make_grant,
    make_ticket,
    query,
    rewound,
    sign_spec,
)
from tests.support.enclave_process import EnclaveProcess, ask

ROUNDS = 16
CALLERS = 3
LONGEST_SECONDS = 3.0  # some answers have left by then, on schedule; some jobs are still running
COST = pico_rho_of(query(epsilon="0.05").budget)
QUESTIONS = itertools.count(1000)  # no two alike: an equal one would be answered from the ledger


class Caller(threading.Thread):
    """Orders one job after another until the enclave is gone; remembers what it ordered and what it was answered."""

    def __init__(self, bureau: Bureau, grant: Grant, version: str) -> None:
        super().__init__()
        self.bureau, self.grant, self.version = bureau, grant, version
        self.ordered: list[str] = []
        self.settled: dict[str, Settlement] = {}

    def run(self) -> None:
        while True:
            job = query(f"SELECT COUNT(*) AS n FROM people WHERE age < {next(QUESTIONS)}", "0.05")
            ticket = make_ticket(self.bureau, job, self.grant, data_versions={"people": self.version})
            self.ordered.append(ticket.ticket_id)
            try:
                reply = ask(self.bureau.home.folder, RunJob(ticket=seal(ticket, TICKET_PURPOSE, self.bureau.control)))
            except (OSError, Failed):
                return
            assert isinstance(reply, Settlement)
            self.settled[ticket.ticket_id] = reply


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kill_9_in_a_loop(tmp_path: Path) -> None:
    bureau = make_bureau(tmp_path, resident='"1000.0"')
    home = bureau.home.folder
    budgets = (PrivacyLoss(entity_set="resident", pico_rho=500 * RHO_UNIT),)
    grant, chance = make_grant(budgets=budgets, max_uses=10**6), random.Random(20260601)
    answered: dict[str, Settlement] = {}
    ordered: list[str] = []
    shown = 0
    for round_number in range(ROUNDS):
        with EnclaveProcess(home) as process:
            identity = process.wait_until_ready()
            version = _people(bureau)
            shown = _check(home, identity, answered, ordered, shown)
            callers = [Caller(bureau, grant, version) for _ in range(CALLERS)]
            for caller in callers:
                caller.start()
            time.sleep(chance.uniform(0.02, LONGEST_SECONDS))
            process.kill()
            for caller in callers:
                caller.join(timeout=60)
                assert not caller.is_alive()
                answered |= caller.settled
                ordered += caller.ordered
        assert len(ordered) >= CALLERS * (round_number + 1)
    with EnclaveProcess(home) as process:
        identity = process.wait_until_ready()
        _check(home, identity, answered, ordered, shown)
        outcomes = _outcomes(home, identity.key)
        assert outcomes[Outcome.RELEASED] >= len(answered) > 0
        assert outcomes[Outcome.FAILED] > 0, "no kill ever hit a running job: the test proved nothing"
        _check_imports(home)


def _people(bureau: Bureau) -> str:
    """The version of `people`, imported at the first start."""
    holdings = ask(bureau.home.folder, AskHoldings())
    assert isinstance(holdings, Holdings)
    if not holdings.items:
        order = ImportData(spec=sign_spec(bureau, PEOPLE), format=FileFormat.CSV)
        with rewound(PEOPLE_CSV.encode()) as file:
            ask(bureau.home.folder, order, file)
        return _people(bureau)
    return holdings.items[0].version


def _receipts(home: Path, key: PublicKey) -> list[Receipt]:
    """The whole log, verified: the root recomputed from the receipts is the one that the enclave signed."""
    signed = []
    while True:
        page = ask(home, AskLog(since=len(signed)))
        assert isinstance(page, ReceiptLog)
        if not page.receipts:
            break
        signed += page.receipts
    checkpoint = open_checkpoint(page.checkpoint, "yunei.enclave/receipts", key)
    frontier = frontier_of(encode(item) for item in signed)
    assert (checkpoint.size, checkpoint.root) == (frontier.size, frontier.root)
    return [unseal(item, RECEIPT_PURPOSE, (key,), Receipt) for item in signed]


def _check(home: Path, identity: Identity, answered: dict[str, Settlement], ordered: list[str], shown: int) -> int:
    """Everything that must hold after a restart. Returns what the odometer shows."""
    receipts = _receipts(home, identity.key)
    assert [receipt.sequence for receipt in receipts] == list(range(len(receipts)))
    by_ticket = Counter(receipt.ticket_id for receipt in receipts)
    assert set(by_ticket.values()) <= {1}, "a ticket has two receipts"
    assert set(by_ticket) <= set(ordered), "a receipt that nobody ordered"
    assert set(answered) <= set(by_ticket), "an answered job has lost its receipt"
    for receipt in receipts:
        if receipt.outcome is Outcome.FAILED:
            assert receipt.ticket_id not in answered, "what was answered has failed afterwards"
            assert receipt.release_sha256 is None
        assert sum(loss.pico_rho for loss in receipt.losses) in (COST, COST - 1)
    for ticket_id, settlement in list(answered.items())[-20:]:
        again = ask(home, FetchSettlement(ticket_id=ticket_id))
        assert again == settlement
        assert settlement.release is not None
    odometer = _odometer(home)
    spent = sum(item.spent for item in odometer.readings)
    assert sum(item.reserved for item in odometer.readings) == 0, "an open ticket was not settled at the start"
    assert spent == sum(loss.pico_rho for receipt in receipts for loss in receipt.losses), "ledger and receipts differ"
    assert spent >= shown, "the odometer went back"
    return spent


def _odometer(home: Path) -> Odometer:
    """Once what was settled at the start is due: until then it is told as if it still ran."""
    deadline = time.monotonic() + 10
    while True:
        odometer = ask(home, AskOdometer())
        assert isinstance(odometer, Odometer)
        if not any(item.reserved for item in odometer.readings) or time.monotonic() > deadline:
            return odometer
        time.sleep(0.02)


def _outcomes(home: Path, key: PublicKey) -> Counter[Outcome]:
    return Counter(receipt.outcome for receipt in _receipts(home, key))


def _check_imports(home: Path) -> None:
    """No draft, no second version."""
    (name,) = [path.name for path in (home / "raw").iterdir()]
    assert name.startswith("people@v1-")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kill_9_during_imports_leaves_whole_versions_only(tmp_path: Path) -> None:
    bureau, chance = make_bureau(tmp_path), random.Random(7)
    home = bureau.home.folder
    rows = "id,sex,age,income,city,joined,active\n" + "".join(f"p{n},,{n % 90},,,,\n" for n in range(9_000))
    order = ImportData(spec=sign_spec(bureau, PEOPLE), format=FileFormat.CSV)
    reported = 0
    for _ in range(6):
        with EnclaveProcess(home) as process:
            process.wait_until_ready()
            killer = threading.Timer(chance.uniform(0.02, 0.4), process.kill)
            killer.start()
            while True:
                try:
                    with rewound(rows.encode()) as file:
                        ask(home, order, file)
                except (OSError, Failed, Refused):
                    break
                reported += 1
            killer.join()
    with EnclaveProcess(home) as process:
        process.wait_until_ready()
        holdings = ask(home, AskHoldings())
        assert isinstance(holdings, Holdings)
        assert isinstance(ask(home, Hello()), Identity)
    if holdings.items:
        (item,) = holdings.items
        assert item.rows == 9_000
        assert item.version.endswith(digest(rows.encode())[:12])
        assert int(item.version.split("-")[0].removeprefix("v")) >= reported
    assert not [name for name in os.listdir(home / "raw") if name.startswith(".draft")]  # noqa: PTH208
