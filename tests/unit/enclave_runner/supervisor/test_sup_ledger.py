"""The ledger: one use per ticket, never over a cap, append-only even by hand, and whole after any fault."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.merkle import open_checkpoint
from enclave_runner.contract.privacy import PrivacyLoss
from enclave_runner.contract.receipt import PURPOSE, Receipt
from enclave_runner.contract.signing import unseal
from enclave_runner.supervisor.caps import Losses
from enclave_runner.supervisor.ledger import RECEIPT_ORIGIN, utc_now
from tests.support.ledgers import KEY, LIFETIME, NOW, Book, budgeted, make_open_ticket, open_book, receipt_maker


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    with open_book(tmp_path) as opened:
        yield opened


def rule_of(attempt: Callable[[], object]) -> tuple[str, dict[str, str]]:
    with pytest.raises(Refused) as caught:
        attempt()
    return caught.value.rule, caught.value.facts


def code_of(attempt: Callable[[], object]) -> str:
    with pytest.raises(Failed) as caught:
        attempt()
    return caught.value.code


def test_a_loss_is_reserved_then_spent_and_never_given_back(book: Book) -> None:
    grant = budgeted()
    ticket = book.open(grant, 300)
    (reading,) = book.ledger.readings()
    assert (reading.spent, reading.reserved, reading.lifetime) == (0, 300, LIFETIME)
    book.close(ticket, grant, None)
    (reading,) = book.ledger.readings()
    assert (reading.spent, reading.reserved) == (300, 0)


@pytest.mark.parametrize("end", ["open", "closed", "refused"])
def test_a_ticket_is_used_once_however_it_ended(book: Book, end: str) -> None:
    grant = budgeted()
    ticket = make_open_ticket("nonce")
    if end == "refused":
        book.refuse(ticket, grant)
    else:
        book.open(grant, 1, "nonce")
    if end == "closed":
        book.close(ticket, grant)
    before = book.spent
    assert rule_of(lambda: book.open(grant, 1, "nonce")) == ("ticket.replayed", {})
    assert rule_of(lambda: book.refuse(ticket, grant)) == ("ticket.replayed", {})
    assert book.spent == before


def test_the_last_unit_fits_and_one_more_does_not(book: Book) -> None:
    first, second = budgeted(700), budgeted(LIFETIME)
    book.open(first, 699)
    assert rule_of(lambda: book.open(first, 2))[0] == "grant.budget"
    book.open(first, 1)
    assert rule_of(lambda: book.open(second, 301))[0] == "odometer.spent"
    book.open(second, 300)
    assert rule_of(lambda: book.open(second, 1))[0] == "odometer.spent"
    assert book.spent == LIFETIME


def test_a_refused_opening_leaves_no_trace_and_its_nonce_free(book: Book) -> None:
    grant = budgeted(10)
    assert rule_of(lambda: book.open(grant, 11, "nonce"))[0] == "grant.budget"
    assert (book.spent, book.ledger.grant_readings()) == (0, ())
    book.open(grant, 10, "nonce")


def test_an_entity_set_that_was_not_granted_has_no_budget(book: Book) -> None:
    rule, facts = rule_of(lambda: book.open(budgeted(), 1, entity_set="enterprise"))
    assert (rule, facts["entity_set"]) == ("grant.budget", "enterprise")


def test_all_losses_of_a_ticket_or_none(book: Book) -> None:
    ticket, grant = make_open_ticket(), budgeted()
    losses = (PrivacyLoss(entity_set="resident", pico_rho=1), PrivacyLoss(entity_set="enterprise", pico_rho=1))
    signed = book.ledger.receipts(0, 1)
    assert signed == ()
    with pytest.raises(Refused):
        book.ledger.open_ticket(ticket, ticket.grant, grant, losses, NOW)
    assert book.spent == 0


def test_uses_are_capped_and_refusals_are_no_uses(book: Book) -> None:
    grant = budgeted(max_uses=2)
    for _ in range(5):
        book.refuse(make_open_ticket(), grant)
    for _ in range(2):
        book.open(grant, 0)
    assert rule_of(lambda: book.open(grant, 0)) == ("grant.uses", {"max": "2"})
    (reading,) = book.ledger.grant_readings()
    assert (reading.grant_id, reading.uses, reading.losses) == (grant.grant_id, 2, ())


def test_a_receipt_is_signed_in_its_place_and_the_checkpoint_covers_it(book: Book) -> None:
    grant = budgeted()
    assert book.check_log() == 0
    for place in range(9):
        ticket = book.open(grant, 1)
        settled = book.close(ticket, grant, b"released")
        assert settled.receipt is not None
        receipt = unseal(settled.receipt, PURPOSE, (KEY.public_key,), Receipt)
        assert (receipt.sequence, receipt.ticket_id) == (place, ticket.ticket_id)
        assert open_checkpoint(settled.checkpoint, RECEIPT_ORIGIN, KEY.public_key).size == place + 1
        assert book.ledger.settlement(ticket.ticket_id) == settled
        assert book.check_log() == place + 1
    assert len(book.ledger.receipts(4, 3)) == 3
    assert book.ledger.receipts(9, 3) == ()


def test_a_ticket_closes_once(book: Book) -> None:
    grant = budgeted()
    ticket = book.open(grant, 1)
    book.close(ticket, grant)
    assert code_of(lambda: book.close(ticket, grant)) == "ledger.not-open"
    assert code_of(lambda: book.close(make_open_ticket(), grant)) == "ledger.not-open"
    assert book.check_log() == 1


def test_an_unknown_or_open_ticket_has_no_receipt(book: Book) -> None:
    ticket = book.open(budgeted(), 1)
    for ticket_id in ("never", ticket.ticket_id):
        assert book.ledger.settlement(ticket_id).receipt is None


def test_a_receipt_that_cannot_be_made_leaves_the_ticket_open(book: Book) -> None:
    grant = budgeted()
    ticket = book.open(grant, 5)

    def broken(sequence: int, losses: Losses) -> Receipt:
        raise RuntimeError("no receipt")

    with pytest.raises(RuntimeError):
        book.ledger.close_ticket(ticket.ticket_id, broken, b"released")
    assert book.check_log() == 0
    assert [losses for _, losses in book.ledger.open_tickets()] == [(PrivacyLoss(entity_set="resident", pico_rho=5),)]
    book.close(ticket, grant)


def test_a_restart_finds_everything(tmp_path: Path) -> None:
    grant = budgeted()
    with open_book(tmp_path) as book:
        book.close(book.open(grant, 7), grant)
        left_open = book.open(grant, 11)
    with open_book(tmp_path) as book:
        assert book.spent == 18
        assert book.check_log() == 1
        ((signed, losses),) = book.ledger.open_tickets()
        assert decode(signed.payload, type(left_open)) == left_open
        assert losses == (PrivacyLoss(entity_set="resident", pico_rho=11),)
        book.close(left_open, grant, None)
        assert book.check_log() == 2
        assert rule_of(lambda: book.open(grant, 1, left_open.ticket_id))[0] == "ticket.replayed"


def test_a_lower_lifetime_after_a_restart_refuses_and_forgets_nothing(tmp_path: Path) -> None:
    grant = budgeted()
    with open_book(tmp_path) as book:
        book.open(grant, 500)
    with open_book(tmp_path, lifetime=400) as book:
        assert rule_of(lambda: book.open(grant, 1))[0] == "odometer.spent"
        assert book.spent == 500


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM losses",
        "UPDATE losses SET pico_rho = 0",
        "UPDATE losses SET entity_set = 'other'",
        "INSERT OR REPLACE INTO losses SELECT ticket_id, grant_id, entity_set, 0, 0 FROM losses",
        "INSERT OR REPLACE INTO receipts SELECT sequence, ticket_id, x'', NULL, '', x'' FROM receipts",
        "DELETE FROM receipts",
        "UPDATE receipts SET signed = x''",
        "DELETE FROM tickets",
        "INSERT INTO losses VALUES ('ticket-x', 'g', 'other', -5, 0)",
        "INSERT INTO losses VALUES ('ticket-x', 'g', 'other', 5, -1)",
        "INSERT INTO losses VALUES ('never', 'g', 'resident', 5, 0)",
        "INSERT INTO returns SELECT ticket_id, grant_id, entity_set, pico_rho, atto_delta FROM losses",
        "INSERT INTO answers VALUES ('g', 'key', 99)",
    ],
)
def test_the_file_itself_refuses_to_forget(tmp_path: Path, statement: str) -> None:
    grant = budgeted()
    with open_book(tmp_path) as book:
        book.close(book.open(grant, 7, "ticket-x"), grant)
        assert code_of(lambda: _execute(book, statement)) == "ledger.write"
        assert (book.spent, book.check_log()) == (7, 1)
    with sqlite3.connect(tmp_path / "ledger.db") as by_hand:
        assert by_hand.execute("SELECT count(*) FROM losses").fetchone() == (1,)
    by_hand.close()


def _execute(book: Book, statement: str) -> None:
    with book.database.transaction() as connection:
        connection.execute(statement)


def test_a_clock_that_is_put_back_stands_still(book: Book) -> None:
    book.open(budgeted(), 1)
    assert book.ledger.now(NOW - timedelta(days=1)) == NOW
    assert book.ledger.now(NOW + timedelta(seconds=1)) == NOW + timedelta(seconds=1)


def test_a_clock_that_ran_ahead_is_not_believed_for_ever(book: Book) -> None:
    """Only signed times are kept: a wrong clock, or a ticket that a rule refused, moves nothing."""
    assert book.ledger.now(NOW + timedelta(days=9000)) == NOW + timedelta(days=9000)
    ticket, grant = make_open_ticket(), budgeted()
    book.refuse(ticket, grant)
    with pytest.raises(Refused):
        book.open(budgeted(0), 1)
    assert book.ledger.now(NOW - timedelta(days=1)) == NOW - timedelta(days=1)
    book.open(grant, 1)
    assert book.ledger.now(NOW - timedelta(days=1)) == NOW


def test_a_clock_is_kept_over_a_restart(tmp_path: Path) -> None:
    with open_book(tmp_path) as book:
        book.open(budgeted(), 1)
    with open_book(tmp_path) as book:
        assert book.ledger.now(NOW - timedelta(days=400)) == NOW
    assert utc_now().tzinfo is not None


def test_threads_together_never_overspend(book: Book) -> None:
    grant, outcomes = budgeted(LIFETIME, max_uses=10**6), []

    def spend() -> None:
        for _ in range(12):
            try:
                ticket = book.open(grant, 17)
                book.close(ticket, grant)
                outcomes.append(17)
            except Refused as refused:
                assert refused.rule in ("grant.budget", "odometer.spent")

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(outcomes) == book.spent == LIFETIME // 17 * 17
    assert book.check_log() == len(outcomes)


def test_one_ticket_in_many_threads_is_used_once(book: Book) -> None:
    grant, wins = budgeted(), []

    def race() -> None:
        try:
            book.open(grant, 1, "nonce")
            wins.append(1)
        except Refused as refused:
            assert refused.rule == "ticket.replayed"

    threads = [threading.Thread(target=race) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (wins, book.spent) == ([1], 1)


def test_a_full_disk_is_a_fault_and_changes_nothing(tmp_path: Path) -> None:
    with open_book(tmp_path) as book:
        with book.database.transaction() as connection:
            connection.execute("PRAGMA max_page_count = 1")  # SQLite's own "disk is full", at the present size

        def fill() -> None:
            for _ in range(200):
                book.open(budgeted(), 1)

        assert code_of(fill) == "ledger.write"
        before = book.spent
        assert code_of(fill) == "ledger.write"
        assert (book.spent, len(book.ledger.open_tickets())) == (before, before)


def test_the_signed_ticket_is_kept_as_it_came(book: Book) -> None:
    ticket, grant = make_open_ticket(), budgeted()
    book.ledger.open_ticket(ticket, ticket.grant, grant, (), NOW)
    ((signed, losses),) = book.ledger.open_tickets()
    assert (encode(signed), losses) == (encode(ticket.grant), ())
    assert receipt_maker(ticket, grant)(3, ()).sequence == 3
