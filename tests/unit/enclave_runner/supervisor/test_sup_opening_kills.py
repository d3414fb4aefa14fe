"""kill -9 of a real enclave while it builds a table: what was evaluated is not evaluated again, and nothing is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from enclave_runner.contract.call import OFFER_PURPOSE, Asked, Call, Offer, PlainAnswer, PlainAsk
from enclave_runner.contract.check import CheckKind, VerificationMode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.grant import PURPOSE as GRANT_PURPOSE
from enclave_runner.contract.grant import Mode
from enclave_runner.contract.signing import seal, unseal
from enclave_runner.contract.standing import PURPOSE as STANDING_PURPOSE
from enclave_runner.contract.standing import StandingTicket
from enclave_runner.contract.wire import (
    AskHoldings,
    AskProgress,
    CallReply,
    FileFormat,
    Holdings,
    ImportData,
    Opened,
    OpenProduct,
    Progress,
    RunCall,
)
from enclave_runner.private.build import CHUNK_ROWS
from tests.support.enclave_home import PEOPLE, Bureau, changed, make_bureau, make_grant, rewound, sign_spec
from tests.support.enclave_process import EnclaveProcess, ask
from tests.support.open_products import check_of
from tests.support.tariffs import pack_charge

ROWS = 3 * CHUNK_ROWS
PEOPLE_MANY = changed(PEOPLE, population_cap=10**6)
MODES = (VerificationMode.PLAIN, VerificationMode.BUCKET, VerificationMode.LOOKUP)
CHECK = check_of("age", CheckKind.EXISTS, MODES)


def import_rows(bureau: Bureau) -> None:
    lines = "".join(f"p{number},男,{number % 90},1.50,西城,2001-01-01,true\n" for number in range(ROWS))
    order = ImportData(spec=sign_spec(bureau, PEOPLE_MANY), format=FileFormat.CSV)
    with rewound(f"id,sex,age,income,city,joined,active\n{lines}".encode()) as descriptor:
        ask(bureau.home.folder, order, descriptor)


def ticket_for(bureau: Bureau) -> StandingTicket:
    now, grant = datetime.now(UTC).replace(microsecond=0), make_grant()
    held = ask(bureau.home.folder, AskHoldings())
    assert isinstance(held, Holdings)
    return StandingTicket(
        ticket_id="standing-killed",
        product_id="killed",
        grant=seal(grant, GRANT_PURPOSE, bureau.officer),
        check=CHECK,
        data_versions={item.dataset_id: item.version for item in held.items},
        policy_sha256=bureau.policy_sha256,
        charge=pack_charge(Mode.VERIFICATION, grant.purpose),
        calls=1000,
        issued_at=now - timedelta(seconds=5),
        expires_at=now + timedelta(hours=1),
    )


def progress_until(home: Path, ticket_id: str, is_enough: Callable[[Progress], bool]) -> Progress:
    """Ask again and again, as a progress bar does."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        try:
            found = ask(home, AskProgress(ticket_id=ticket_id))
        except Refused:  # the order has not come in yet
            continue
        assert isinstance(found, Progress)
        if is_enough(found):
            return found
        time.sleep(0.02)
    raise AssertionError


def order_in_background(home: Path, order: OpenProduct) -> threading.Thread:
    def send() -> None:
        try:
            ask(home, order)
        except (Failed, OSError):
            return  # the enclave is gone

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@pytest.mark.slow
def test_a_build_that_is_killed_with_its_enclave_goes_on_in_the_next(tmp_path: Path) -> None:
    bureau = make_bureau(tmp_path)
    home = bureau.home.folder
    with EnclaveProcess(home) as first:
        identity = first.wait_until_ready()
        import_rows(bureau)
        ticket = ticket_for(bureau)
        order = OpenProduct(ticket=seal(ticket, STANDING_PURPOSE, bureau.control))
        waiting = order_in_background(home, order)
        reached = progress_until(home, ticket.ticket_id, lambda at: at.stage == "evaluating" and at.done >= 1)
        assert reached.total == 3
        first.kill()
        waiting.join()
    kept = list(bureau.home.rawdata.glob(".table@*cells*/manifest.json"))
    with EnclaveProcess(home) as second:
        second.wait_until_ready()
        assert ask(home, AskProgress(ticket_id=ticket.ticket_id)) == Progress(stage="waiting", done=0, total=1)
        waiting = order_in_background(home, order)
        resumed = progress_until(home, ticket.ticket_id, lambda at: at.stage in ("evaluating", "assembling"))
        assert resumed.stage == "assembling" or resumed.done >= 1
        waiting.join()
        opened = ask(home, order)
        assert isinstance(opened, Opened)
        offer = unseal(opened.offer, OFFER_PURPOSE, (identity.key,), Offer)
        call = Call(call_id=bytes(16), salt=bytes(32), version=offer.version, ask=asked("p0", f"p{ROWS - 1}", "p-none"))
        reply = ask(home, RunCall(product_id="killed", caller_id="c", consents=None, call=call))
        assert isinstance(reply, CallReply)
        assert reply.answer == PlainAnswer(verdicts=("yes", "yes", "no"))
        assert offer.table is not None
        assert offer.table.k >= 1024
    assert kept
    assert not list(bureau.home.rawdata.glob(".draft-*"))
    pieces = {path.name.rpartition("-")[2] for path in bureau.home.rawdata.glob(".table@*")}
    assert pieces == {"secrets", "plain", "matrix", "hint"}


def asked(*subjects: str) -> PlainAsk:
    return PlainAsk(asked=tuple(Asked(subject=subject) for subject in subjects))
