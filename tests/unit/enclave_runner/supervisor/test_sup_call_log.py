"""Group commit: durable receipts in signed batches, a chain without gaps, no call id and no grant used too often."""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

from enclave_runner.contract.call import (
    NO_BATCH,
    CallReceipt,
    SettledCall,
    batch_digest,
    open_batch,
    open_settled,
)
from enclave_runner.contract.check import VerificationMode
from enclave_runner.contract.codec import decode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.grant import Grant
from enclave_runner.contract.receipt import Outcome
from enclave_runner.contract.ticket import Charge
from enclave_runner.contract.wire import BatchRecord
from enclave_runner.supervisor import call_log
from enclave_runner.supervisor.call_log import CallCommits, Entry
from enclave_runner.supervisor.database import Database
from enclave_runner.supervisor.guesses import GUESSES, Scope, Tallies, Tally
from tests.support.enclave_home import make_grant
from tests.support.ledgers import KEY, NOW, Book, open_book

TRUSTED = (KEY.public_key,)
TALLY = Tally(Scope(GUESSES, "people", "city", "v1"), b"subject", "caller-1")
MEASURED = "ab" * 32


@dataclass(frozen=True)
class Log:
    """A call log on a real file."""

    path: Path
    database: Database
    commits: CallCommits
    book: Book
    grant: Grant = field(default_factory=lambda: make_grant(max_uses=1_000_000))

    def entry(self, units: int = 1, **fields: object) -> Entry:
        call_id = secrets.token_bytes(16)

        def make(sequence: int, now: datetime, refused: Refused | None) -> CallReceipt:
            return receipt(call_id, sequence, now, units, refused)

        values = {
            "caller_id": "caller-1",
            "call_id": call_id,
            "ticket_id": "standing-1",
            "grant": self.grant,
            "units": units,
            "amounts": {},
        }
        return Entry(**{**values, "make": make, **fields})  # type: ignore[arg-type]

    def records(self) -> tuple[BatchRecord, ...]:
        """Everything, page by page."""
        found: list[BatchRecord] = []
        while page := self.commits.batches(self.after(found)).batches:
            found += page
        return tuple(found)

    def after(self, found: list[BatchRecord]) -> int:
        return (
            open_batch(found[-1].batch, found[-1].receipts, self.previous(found), TRUSTED)[0].number + 1 if found else 0
        )

    def previous(self, found: list[BatchRecord]) -> str:
        return batch_digest(found[-2].batch) if len(found) > 1 else NO_BATCH


def receipt(call_id: bytes, sequence: int, now: datetime, units: int, refused: Refused | None) -> CallReceipt:
    return CallReceipt(
        call_id=call_id.hex(),
        sequence=sequence,
        ticket_id="standing-1",
        product_id="product-1",
        grant_id="grant-1",
        operator_id="operator-1",
        caller_id="caller-1",
        purpose=make_grant().purpose,
        mode=VerificationMode.PLAIN,
        outcome=Outcome.REFUSED if refused else Outcome.RELEASED,
        units=0 if refused else units,
        commitment="00" * 32,
        version="v",
        data_versions={},
        policy_sha256="",
        charge=Charge(tariff_id="t", unit_price_fen=50, legal_basis="b"),
        finished_at=now,
        rule=refused.rule if refused else None,
    )


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    path = tmp_path / "ledger.db"
    with open_book(tmp_path) as book:
        yield Log(path, book.database, CallCommits(book.database, KEY, MEASURED, lambda: NOW), book)


def settle_at_once(log: Log, entries: list[Entry]) -> list[SettledCall | Exception]:
    results: list[SettledCall | Exception] = [Failed("test")] * len(entries)

    def settle(number: int) -> None:
        try:
            results[number] = log.commits.settle(entries[number])
        except (Refused, Failed) as error:
            results[number] = error

    threads = [threading.Thread(target=settle, args=(number,)) for number in range(len(entries))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def settled(results: list[SettledCall | Exception]) -> list[SettledCall]:
    assert all(isinstance(item, SettledCall) for item in results), results
    return [item for item in results if isinstance(item, SettledCall)]


def test_a_receipt_is_verified_offline_with_its_path(log: Log) -> None:
    found, batch = open_settled(log.commits.settle(log.entry()), TRUSTED)
    assert (found.sequence, batch.number, batch.first, batch.count, batch.previous) == (0, 0, 0, 1, NO_BATCH)
    assert (batch.measurement_sha256, batch.finished_at, found.finished_at) == (MEASURED, NOW, NOW)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
def test_every_receipt_of_a_group_has_its_own_path(log: Log, count: int) -> None:
    entries = [log.entry() for _ in range(count)]
    log.commits._commit(entries)
    opened = [open_settled(entry.settled, TRUSTED) for entry in entries if entry.settled is not None]
    assert [found.sequence for found, _ in opened] == list(range(count))
    assert {batch.count for _, batch in opened} == {count}


def test_calls_at_once_share_batches_and_each_has_one_receipt(log: Log) -> None:
    entries = [log.entry() for _ in range(60)]
    opened = [open_settled(item, TRUSTED) for item in settled(settle_at_once(log, entries))]
    assert sorted(found.sequence for found, _ in opened) == list(range(60))
    assert len({batch.number for _, batch in opened}) < 60
    assert [found.call_id for found, _ in opened] == [entry.call_id.hex() for entry in entries]


def test_a_group_has_a_largest_size(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_log, "MAX_GROUP", 4)
    settled(settle_at_once(log, [log.entry() for _ in range(30)]))
    counts = [len(record.receipts) for record in log.records()]
    assert sum(counts) == 30
    assert max(counts) <= 4


def test_the_batches_are_a_chain(log: Log) -> None:
    for _ in range(3):
        settled(settle_at_once(log, [log.entry() for _ in range(10)]))
    previous, sequence = NO_BATCH, 0
    for number, record in enumerate(log.records()):
        batch, calls = open_batch(record.batch, record.receipts, previous, TRUSTED)
        assert (batch.number, batch.first) == (number, sequence)
        previous, sequence = batch_digest(record.batch), sequence + len(calls)
    assert sequence == 30


def test_a_log_that_was_cut_reordered_or_changed_does_not_open(log: Log) -> None:
    for _ in range(2):
        log.commits._commit([log.entry() for _ in range(3)])
    first, second = log.records()
    with pytest.raises(Refused, match=r"call\.chain"):
        open_batch(second.batch, second.receipts, NO_BATCH, TRUSTED)
    for receipts in (first.receipts[:2], first.receipts[::-1], second.receipts, (b"{}", *first.receipts[1:])):
        with pytest.raises(Refused, match=r"call\.not-in-batch|wire\.malformed"):
            open_batch(first.batch, receipts, NO_BATCH, TRUSTED)


def test_a_receipt_does_not_open_with_another_s_path_or_batch(log: Log) -> None:
    entries = [log.entry() for _ in range(5)]
    log.commits._commit(entries)
    log.commits._commit([last := log.entry()])
    one, other = entries[0].settled, entries[1].settled
    assert one is not None
    assert other is not None
    assert last.settled is not None
    for path, batch in ((other.path, one.batch), (one.path, last.settled.batch), ((), one.batch)):
        with pytest.raises(Refused, match=r"call\.not-in-batch"):
            open_settled(SettledCall(receipt=one.receipt, path=path, batch=batch), TRUSTED)


def test_a_call_id_is_used_once_for_good(log: Log) -> None:
    used = log.entry()
    log.commits.settle(used)
    with pytest.raises(Refused, match=r"call\.used"):
        log.commits.settle(log.entry(call_id=used.call_id))
    fresh = CallCommits(log.database, KEY, MEASURED, lambda: NOW)  # after a restart
    with pytest.raises(Refused, match=r"call\.used"):
        fresh.settle(log.entry(call_id=used.call_id))
    assert sum(len(record.receipts) for record in log.records()) == 1


def test_of_two_calls_at_once_under_one_id_one_has_a_receipt(log: Log) -> None:
    call_id = secrets.token_bytes(16)
    entries = [log.entry(call_id=call_id) for _ in range(2)] + [log.entry()]
    log.commits._commit(entries)
    assert [entry.settled is not None for entry in entries] == [True, False, True]
    assert isinstance(entries[1].error, Refused)


def test_numbers_go_on_after_a_restart(log: Log) -> None:
    log.commits.settle(log.entry())
    fresh = CallCommits(log.database, KEY, MEASURED, lambda: NOW)
    found, batch = open_settled(fresh.settle(log.entry()), TRUSTED)
    assert (found.sequence, batch.number, batch.previous) == (1, 1, batch_digest(log.records()[0].batch))


def test_uses_never_pass_the_grant_s_even_at_once(log: Log) -> None:
    grant = make_grant(max_uses=10)
    entries = [log.entry(units=3, grant=grant) for _ in range(8)]
    settled(settle_at_once(log, entries))
    refused = [entry for entry in entries if entry.refused is not None]
    assert len(refused) == 5
    assert all(entry.refused is not None and entry.refused.rule == "grant.uses" for entry in refused)
    assert log.commits.uses(grant.grant_id) == 9
    released = [decode(item, CallReceipt) for record in log.records() for item in record.receipts]
    assert sum(item.units for item in released) == 9
    log.commits.settle(log.entry(units=1, grant=grant))  # the last use
    log.commits.settle(free := log.entry(units=0, grant=grant))  # and what costs nothing uses nothing
    assert free.refused is None


def test_tickets_and_calls_use_one_grant(log: Log) -> None:
    grant = make_grant(max_uses=2)
    with log.database.transaction() as connection:
        connection.execute("INSERT INTO tickets VALUES ('t1', ?, x'', 'closed', '')", (grant.grant_id,))
        connection.execute("INSERT INTO tickets VALUES ('t2', ?, x'', 'refused', '')", (grant.grant_id,))
    log.commits.settle(first := log.entry(grant=grant))
    log.commits.settle(second := log.entry(grant=grant))
    assert first.refused is None
    assert second.refused is not None
    readings = {item.grant_id: item.uses for item in log.book.ledger.grant_readings()}
    assert readings == {grant.grant_id: 2}


def test_guesses_are_durable_with_the_receipt_or_not_at_all(log: Log) -> None:
    log.commits.settle(log.entry(amounts={TALLY: 1000}))
    used = log.entry(amounts={TALLY: 1000})
    log.commits.settle(used)
    with pytest.raises(Refused):
        log.commits.settle(log.entry(call_id=used.call_id, amounts={TALLY: 1000}))
    with closing(Tallies(log.path)) as tallies:
        assert tallies.total(TALLY) == 2000


def test_what_cannot_be_made_durable_is_a_fault_for_the_whole_group(log: Log) -> None:
    def broken(sequence: int, now: datetime, refused: Refused | None) -> CallReceipt:
        raise Failed("ledger.write")

    entries = [log.entry(amounts={TALLY: 1000}), log.entry(make=broken)]
    log.commits._commit(entries)
    assert all(isinstance(entry.error, Failed) and entry.settled is None for entry in entries)
    assert log.records() == ()
    with closing(Tallies(log.path)) as tallies:
        assert tallies.total(TALLY) == 0
    found, _ = open_settled(log.commits.settle(log.entry()), TRUSTED)
    assert found.sequence == 0


def test_a_restored_log_uses_no_number_again(log: Log) -> None:
    log.commits.settle(log.entry())
    with log.database.transaction() as connection:
        connection.execute("INSERT INTO restorations(signed, not_before) VALUES (x'', '2026-01-01T00:00:00+00:00')")
    fresh = CallCommits(log.database, KEY, MEASURED, lambda: NOW)
    found, batch = open_settled(fresh.settle(log.entry()), TRUSTED)
    assert (found.sequence, batch.number) == (call_log.RESTORED_STEP, call_log.RESTORED_STEP)
    assert batch.previous == batch_digest(log.records()[0].batch)


def test_receipts_and_uses_are_never_altered(log: Log) -> None:
    log.commits.settle(log.entry())
    with closing(sqlite3.connect(log.path)) as raw:
        for statement in (
            "DELETE FROM calls",
            "UPDATE calls SET receipt = x''",
            "DELETE FROM call_batches",
            "UPDATE call_batches SET signed = x''",
            "DELETE FROM call_uses",
            "UPDATE call_uses SET units = 0",
        ):
            with pytest.raises(sqlite3.IntegrityError):
                raw.execute(statement)


def test_a_reply_holds_as_many_batches_as_fit(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        log.commits._commit([log.entry() for _ in range(3)])
    size = sum(len(item) for item in log.records()[0].receipts)
    monkeypatch.setattr(call_log, "REPLY_BYTES", int(size * 2.9))
    assert len(log.commits.batches(0).batches) == 2
    assert len(log.records()) == 5
    monkeypatch.setattr(call_log, "REPLY_BYTES", 1)
    assert len(log.commits.batches(3).batches) == 1
    assert log.commits.batches(5).batches == ()
