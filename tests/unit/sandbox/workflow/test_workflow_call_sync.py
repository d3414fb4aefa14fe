"""Receipts of calls: fetched, verified against the chain, recorded once, metered, invoiced, audited."""

from __future__ import annotations

import secrets
import shutil
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from enclave_runner.contract.call import CallReceipt, SettledCall
from enclave_runner.contract.check import VerificationMode
from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.evidence import RESTORATION, Restoration
from enclave_runner.contract.grant import Purpose, Scope
from enclave_runner.contract.receipt import Outcome
from enclave_runner.contract.signing import seal
from enclave_runner.contract.ticket import Charge
from enclave_runner.contract.wire import AskCalls, BatchRecord, Reply, Request
from enclave_runner.supervisor import call_log
from sandbox.domain.metering import Invoice
from sandbox.store import audit_log, calls
from sandbox.store.database import reading
from sandbox.store.schema import LEDGERS
from sandbox.workflow import call_sync
from sandbox.workflow.audit import verify_audit
from sandbox.workflow.call_sync import sync_calls
from sandbox.workflow.dispatch import dispatch
from sandbox.workflow.invoices import draft_invoice, issue_invoice, recompute_invoice
from sandbox.workflow.meter import list_events
from sandbox.workflow.products import publish_product
from sandbox.workflow.recover import recover
from sandbox.workflow.scenarios import authorize_scenario
from sandbox.workflow.submit import submit
from tests.support.bureau import BANK, COUNT, FREE, OPERATOR, SHOP, Bureau, paid_grant, scenario
from tests.support.called import FIRM, INSURED, LICENCE, a_call, ask, furnish_firms, insured, licence, opened, plain
from tests.support.refusals import failed_at, refused_by
from tests.support.simulated_calls import SimulatedCalls


@pytest.fixture
def firms(bureau: Bureau) -> Bureau:
    """A bureau with an open product about firms."""
    furnish_firms(bureau)
    opened(bureau)
    return bureau


def stored(bureau: Bureau) -> list[int]:
    with reading(bureau.office.engine) as connection:
        return [receipt.sequence for receipt in calls.page(connection, 0, 1000, None)]


def units(bureau: Bureau) -> list[int]:
    return [event.units for event in list_events(bureau.office, bureau.actor())]


def forged(bureau: Bureau, **changes: object) -> SettledCall:
    """A call whose receipt the enclave signed with other contents."""
    door: SimulatedCalls = bureau.enclave.calls
    call = a_call(door.opened[LICENCE].version, plain())
    return door.settle(LICENCE, BANK, None, call, door.answer_to(call.ask), **changes)


def test_nothing_is_asked_before_anything_was_opened(bureau: Bureau) -> None:
    class Deaf:
        def call(self, request: Request, descriptor: int | None = None) -> Reply:
            raise AssertionError

    assert sync_calls(replace(bureau.office, enclave=Deaf())) == 0


def test_every_call_is_recorded_once(firms: Bureau) -> None:
    for _ in range(7):  # more than a page of the simulated enclave
        ask(firms)
    assert sync_calls(firms.office) == 7
    assert sync_calls(firms.office) == 0
    ask(firms)
    assert sync_calls(firms.office) == 1
    assert stored(firms) == list(range(8))
    with reading(firms.office.engine) as connection:
        entries = [entry for entry in audit_log.entries(connection) if entry.act == "calls.settle"]
    assert [(entry.target, entry.facts["count"]) for entry in entries] == [
        ("batch-2", "3"),
        ("batch-4", "2"),
        ("batch-6", "2"),
        ("batch-7", "1"),
    ]


def test_batches_of_several_calls_are_recorded_in_their_order(firms: Bureau) -> None:
    door = firms.enclave.calls
    receipts = [decode(forged(firms).receipt, CallReceipt) for _ in range(3)]
    door.forget(3)
    door.sign(tuple(encode(receipt) for receipt in receipts))
    assert sync_calls(firms.office) == 3
    assert stored(firms) == [0, 1, 2]


def test_several_who_fetch_at_once_record_each_call_once(firms: Bureau) -> None:
    for _ in range(10):
        ask(firms)
    errors: list[Exception] = []

    def fetch() -> None:
        try:
            sync_calls(firms.office)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=fetch) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert stored(firms) == list(range(10))
    assert verify_audit(firms.office).ok


def test_a_fetch_that_breaks_off_goes_on_where_it_stopped(firms: Bureau) -> None:
    class Breaking:
        left = 2

        def call(self, request: Request, descriptor: int | None = None) -> Reply:
            if isinstance(request, AskCalls):
                self.left -= 1
                if self.left < 0:
                    raise Failed("enclave.lost")
            return firms.enclave.call(request, descriptor)

    for _ in range(9):
        ask(firms)
    with failed_at("enclave.lost"):
        sync_calls(replace(firms.office, enclave=Breaking()))
    assert len(stored(firms)) == 5
    recover(firms.office)
    assert stored(firms) == list(range(9))


# What does not fit


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("product", {"product_id": "other"}),
        ("grant", {"grant_id": FREE}),
        ("operator", {"operator_id": BANK}),
        ("purpose", {"purpose": Purpose.GOVERNANCE}),
        ("charge", {"charge": Charge(tariff_id="t", unit_price_fen=1, legal_basis="x")}),
        ("data version", {"data_versions": {"firms": "v-other"}}),
        ("units", {"units": 10_001}),
        ("units", {"units": -1}),
        ("units", {"outcome": Outcome.REFUSED}),
        ("units", {"outcome": Outcome.FAILED}),
        ("mode", {"mode": VerificationMode.LOOKUP}),
        ("policy", {"policy_sha256": "0" * 64}),
        ("caller", {"caller_id": "nobody"}),
    ],
)
def test_a_receipt_that_is_not_as_its_ticket_says_records_nothing(
    firms: Bureau, what: str, changes: dict[str, object]
) -> None:
    forged(firms, **changes)
    ask(firms)
    with refused_by("receipt.mismatch", what=what):
        sync_calls(firms.office)
    with refused_by("receipt.mismatch"):
        list_events(firms.office, firms.actor())
    assert stored(firms) == []
    recover(firms.office)  # others are not kept from their work


def test_a_receipt_under_a_ticket_that_was_never_signed_here_records_nothing(firms: Bureau) -> None:
    forged(firms, ticket_id="stand-other")
    with refused_by("receipt.unknown-ticket"):
        sync_calls(firms.office)
    assert stored(firms) == []


def test_answered_questions_about_people_name_their_consent(bureau: Bureau) -> None:
    publish_product(bureau.office, bureau.actor(OPERATOR), insured())
    opened(bureau, INSURED)
    door = bureau.enclave.calls
    call = a_call(door.opened[INSURED].version, plain())
    door.settle(INSURED, BANK, None, call, door.answer_to(call.ask))
    with refused_by("receipt.mismatch", what="consent"):
        sync_calls(bureau.office)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"number": 5}, "call.chain"),
        ({"first": 5}, "call.not-in-batch"),
        ({"previous": "1" * 64}, "call.chain"),
        ({"count": 2}, "call.not-in-batch"),
        ({"root": "1" * 64}, "call.not-in-batch"),
        ({"number": 1 << 40, "previous": "1" * 64}, "call.chain"),
    ],
)
def test_a_batch_that_does_not_stand_behind_the_one_before_it_records_nothing(
    firms: Bureau, changes: dict[str, object], rule: str
) -> None:
    ask(firms)
    door = firms.enclave.calls
    receipt = forged(firms).receipt
    door.forget(1)
    door.sign((receipt,), **changes)
    with refused_by(rule):
        sync_calls(firms.office)
    assert stored(firms) == []


def test_a_batch_that_somebody_else_signed_records_nothing(firms: Bureau) -> None:
    ask(firms)
    door = firms.enclave.calls
    door.log[0] = BatchRecord(batch=seal(door.heads[0], "call-batch", firms.officer), receipts=door.log[0].receipts)
    with refused_by("signature.invalid"):
        sync_calls(firms.office)


def test_a_changed_receipt_is_not_in_its_batch(firms: Bureau) -> None:
    ask(firms)
    door = firms.enclave.calls
    written = door.log[0].receipts[0].replace(b'"units":1', b'"units":0')
    door.log[0] = BatchRecord(batch=door.log[0].batch, receipts=(written,))
    with refused_by("call.not-in-batch"):
        sync_calls(firms.office)


def test_an_enclave_that_has_forgotten_calls_is_found(firms: Bureau) -> None:
    for _ in range(3):
        ask(firms)
    sync_calls(firms.office)
    firms.enclave.calls.forget(1)
    with refused_by("call.forgotten", number="2"):
        sync_calls(firms.office)
    ask(firms)  # the same number again, with other contents
    with refused_by("call.forgotten"):
        sync_calls(firms.office)
    assert "calls" in [check.name for check in verify_audit(firms.office).checks if not check.ok]
    assert stored(firms) == [0, 1, 2]


def test_a_restored_enclave_goes_on_behind_what_it_has_forgotten(firms: Bureau) -> None:
    assert call_sync.RESTORED_STEP == call_log.RESTORED_STEP
    for _ in range(3):
        ask(firms)
    sync_calls(firms.office)
    door = firms.enclave.calls
    door.forget(2)
    _restore(firms)
    assert sync_calls(firms.office) == 0
    door.answered.clear()
    ask(firms)
    ask(firms)
    assert sync_calls(firms.office) == 2
    assert stored(firms) == [0, 1, 2, 1 << 40, (1 << 40) + 1]
    assert len(units(firms)) == 5
    assert verify_audit(firms.office).ok
    ask(firms)
    assert sync_calls(firms.office) == 1
    assert verify_audit(firms.office).ok


def test_a_jump_without_a_stated_restore_is_refused(firms: Bureau) -> None:
    ask(firms)
    sync_calls(firms.office)
    firms.enclave.calls.restores = 1
    ask(firms)
    with refused_by("call.chain"):
        sync_calls(firms.office)


def test_calls_before_the_first_fetch_may_be_lost_in_a_restore(firms: Bureau) -> None:
    ask(firms)
    firms.enclave.calls.forget(1)
    _restore(firms)
    ask(firms, asked=plain("x"))
    assert sync_calls(firms.office) == 1
    assert stored(firms) == [1 << 40]


def _restore(bureau: Bureau) -> None:
    statement = Restoration(
        label="l",
        not_before=bureau.clock.now,
        size=0,
        root="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        replayed=0,
        is_lossy=False,
    )
    bureau.enclave.restorations.append(seal(statement, RESTORATION, bureau.enclave.key))
    bureau.enclave.calls.restores += 1


# The meter and invoices


def test_a_batch_is_metered_by_its_answered_questions(firms: Bureau) -> None:
    ask(firms, asked=plain(*(f"f{number}" for number in range(300))))
    firms.enclave.calls.refuse_next = Refused("guess.spent")
    ask(firms)
    assert units(firms) == [300, 0]
    (event, _) = list_events(firms.office, firms.actor(BANK))
    assert (event.amount_fen, event.payer_id, event.product_id, event.submission_id) == (15_000, BANK, LICENCE, None)
    assert event.receipt_id == "call-0000000000000000"


def test_events_of_jobs_and_calls_stand_together_in_order_of_time(firms: Bureau) -> None:
    ask(firms)
    firms.clock.forward(seconds=5)
    submission = submit(firms.office, firms.actor(OPERATOR), FREE, COUNT)
    dispatch(firms.office, submission.submission_id)
    firms.clock.forward(seconds=5)
    ask(firms)
    assert [event.is_call for event in list_events(firms.office, firms.actor())] == [True, False, True]
    assert len(list_events(firms.office, firms.actor(), "2026-11")) == 3
    assert list_events(firms.office, firms.actor(), "2026-10") == ()
    assert list_events(firms.office, firms.actor(SHOP)) == ()


def invoice(bureau: Bureau, month: str = "2026-11", payer: str = BANK) -> Invoice:
    late = replace(bureau.office, clock=lambda: datetime(2028, 1, 1, tzinfo=UTC))
    return issue_invoice(late, bureau.actor(), payer, month)


def test_calls_stand_on_one_invoice_summed_by_product_and_recomputable(firms: Bureau) -> None:
    ask(firms)
    ask(firms, asked=plain("a", "b", "c"))
    draft = draft_invoice(firms.office, firms.actor(BANK), BANK, "2026-11")
    issued = invoice(firms)
    assert issued == draft
    (line,) = issued.call_lines
    assert (line.product_id, line.calls, line.units, line.amount_fen) == (LICENCE, 2, 4, 200)
    assert (issued.total_fen, issued.lines, issued.free_uses) == (200, (), 0)
    with reading(firms.office.engine) as connection:
        covered = calls.on_invoice(connection, issued.invoice_id)
    assert recompute_invoice(issued, (), {}, covered)
    assert recompute_invoice(issued, (), {}, tuple(reversed(covered)))
    assert not recompute_invoice(issued, (), {}, covered[:1])
    assert not recompute_invoice(replace(issued, call_lines=()), (), {}, covered)
    assert not recompute_invoice(replace(issued, call_lines=(replace(line, units=3),)), (), {}, covered)
    assert not recompute_invoice(replace(issued, payer_id=SHOP), (), {}, covered)
    ask(firms)
    firms.clock.now = datetime(2026, 12, 5, tzinfo=UTC)
    assert [line.calls for line in invoice(firms, "2026-12").call_lines] == [1]
    assert verify_audit(firms.office).ok


def test_free_calls_are_counted_question_by_question(firms: Bureau) -> None:
    authorize_scenario(firms.office, firms.actor(), scenario("governing", Purpose.GOVERNANCE, (BANK,)))
    scope = Scope(dataset_id="firms", columns=("status",))
    free = {"scenario_id": "governing", "purpose": Purpose.GOVERNANCE, "scopes": (scope,), "budgets": ()}
    firms.sign(paid_grant("grant-governing", **free))
    publish_product(firms.office, firms.actor(OPERATOR), licence(product_id="free", grant_id="grant-governing"))
    opened(firms, "free")
    ask(firms, "free", plain("a", "b"))
    issued = invoice(firms)
    assert (issued.free_uses, issued.call_lines, issued.total_fen) == (2, (), 0)


@pytest.mark.slow
def test_an_invoice_of_a_month_of_many_calls_stays_small(firms: Bureau) -> None:
    receipts = [decode(forged(firms).receipt, CallReceipt)]
    door = firms.enclave.calls
    door.forget(1)
    fields = {name: getattr(receipts[0], name) for name in receipts[0].__struct_fields__}
    many = tuple(
        encode(CallReceipt(**{**fields, "sequence": number, "call_id": secrets.token_hex(16)}))
        for number in range(3000)
    )
    door.sign(many)
    issued = invoice(firms)
    assert [(line.calls, line.units) for line in issued.call_lines] == [(3000, 3000)]
    assert len(encode(issued)) < 1000
    assert verify_audit(firms.office).ok


# The audit


def edit(path: Path, *statements: str) -> None:
    """Change rows behind the control plane's back, triggers dropped."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for table in LEDGERS:
            for verb in ("update", "delete"):
                connection.execute(f"DROP TRIGGER IF EXISTS {table}_no_{verb}")
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def called(firms: Bureau) -> Bureau:
    """Four calls and an invoice."""
    for _ in range(4):
        ask(firms)
    invoice(firms)
    return firms


def test_an_honest_deployment_with_calls_verifies(called: Bureau) -> None:
    ask(called)  # not fetched yet: no finding
    report = verify_audit(called.office)
    assert report.ok
    assert ("calls", 4, "ok") in report.rows()


@pytest.mark.parametrize(
    ("statements", "names"),
    [
        (("UPDATE call_receipts SET doc = replace(doc, '\"units\":1', '\"units\":9') WHERE sequence = 2",), {"calls"}),
        (("UPDATE call_receipts SET units = 9 WHERE sequence = 2",), {"calls"}),
        (("UPDATE call_receipts SET payer_id = 'shop' WHERE sequence = 2",), {"calls"}),
        (("UPDATE call_receipts SET occurred_at = '2030-01-01T00:00:00Z'",), {"calls"}),
        (
            ("DELETE FROM call_invoice_lines WHERE sequence = 2", "DELETE FROM call_receipts WHERE sequence = 2"),
            {"calls", "invoices"},
        ),
        (
            ("DELETE FROM call_invoice_lines", "DELETE FROM call_receipts", "DELETE FROM call_batches"),
            {"calls", "invoices"},
        ),
        (("DELETE FROM call_invoice_lines WHERE sequence = 2",), {"invoices"}),
        (("UPDATE call_batches SET doc = x'7B7D' WHERE number = 1",), {"calls"}),
        (("UPDATE call_batches SET doc = 'text' WHERE number = 1",), {"calls"}),
        (("UPDATE call_receipts SET doc = x'FF' WHERE sequence = 1",), {"calls", "invoices"}),
        (("UPDATE standing_orders SET status = 'closed'",), {"calls"}),
        (("UPDATE standing_orders SET doc = x'7B7D'",), {"calls"}),
    ],
)
def test_what_another_hand_changed_is_a_finding(called: Bureau, statements: tuple[str, ...], names: set[str]) -> None:
    edit(called.office.home.control_db, *statements)
    report = verify_audit(called.office)
    found = {check.name for check in report.checks if not check.ok}
    assert found >= names
    assert found <= {"calls", "invoices"}


def test_a_cut_tail_is_seen_by_the_audit_log(called: Bureau) -> None:
    edit(
        called.office.home.control_db,
        "DELETE FROM call_invoice_lines WHERE sequence = 3",
        "DELETE FROM call_receipts WHERE sequence = 3",
        "DELETE FROM call_batches WHERE number = 3",
    )
    assert "calls" in {check.name for check in verify_audit(called.office).checks if not check.ok}


@pytest.mark.parametrize("verb", ["UPDATE call_receipts SET units = 0", "DELETE FROM call_batches"])
def test_the_ledgers_of_calls_are_only_added_to(called: Bureau, verb: str, tmp_path: Path) -> None:
    copy = tmp_path / "control.db"
    with reading(called.office.engine):
        shutil.copy(called.office.home.control_db, copy)
        wal = called.office.home.control_db.with_name("control.db-wal")
        if wal.exists():
            shutil.copy(wal, copy.with_name("control.db-wal"))
    with closing(sqlite3.connect(copy)) as connection, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(verb)


def test_no_receipt_holds_whom_a_call_was_about(called: Bureau) -> None:
    with reading(called.office.engine) as connection:
        for receipt in calls.page(connection, 0, 100, None):
            assert FIRM not in encode(receipt).decode()
