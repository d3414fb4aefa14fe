"""The odometer's tables: δ beside ρ, what is given back, and ledgers from before there was either."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.merkle import Checkpoint, frontier_of, sign_checkpoint
from enclave_runner.contract.privacy import DELTA_UNIT, RHO_UNIT, PrivacyLoss
from enclave_runner.contract.receipt import PURPOSE, DPTable, Receipt, Release
from enclave_runner.contract.signing import PublicKey, Signed, unseal
from enclave_runner.dp.conversion import epsilon_of
from enclave_runner.supervisor.ledger import RECEIPT_ORIGIN
from enclave_runner.supervisor.odometer import CURVE_UNTIL, SHOWN_DELTA, shown_epsilon
from tests.support.ledgers import KEY, LIFETIME, Book, budgeted, lost, open_book

MICRO = DELTA_UNIT // 10**6
BEFORE_DELTA = Path(__file__).parents[3] / "data" / "before_delta"
# What signed those files.
OLD_KEY = PublicKey(
    algorithm="ed25519",
    raw=bytes.fromhex("03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"),
)
# The tables of a ledger from before there was a δ.
OLD_SCHEMA = """
CREATE TABLE tickets(
    ticket_id TEXT PRIMARY KEY, grant_id TEXT NOT NULL, signed BLOB NOT NULL, state TEXT NOT NULL,
    opened_at TEXT NOT NULL);
CREATE TABLE losses(
    ticket_id TEXT NOT NULL REFERENCES tickets, grant_id TEXT NOT NULL, entity_set TEXT NOT NULL,
    pico_rho INTEGER NOT NULL CHECK (pico_rho >= 0), PRIMARY KEY (ticket_id, entity_set));
CREATE TABLE receipts(
    sequence INTEGER PRIMARY KEY, ticket_id TEXT UNIQUE NOT NULL REFERENCES tickets, signed BLOB NOT NULL,
    release BLOB, checkpoint TEXT NOT NULL, frontier BLOB NOT NULL);
CREATE TRIGGER losses_keep BEFORE DELETE ON losses BEGIN SELECT RAISE(ABORT, 'the odometer only grows'); END;
CREATE TRIGGER losses_fixed BEFORE UPDATE ON losses BEGIN SELECT RAISE(ABORT, 'the odometer only grows'); END;
"""


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    with open_book(tmp_path, delta=5 * MICRO) as opened:
        yield opened


def receipt_losses(book: Book, ticket_id: str) -> tuple[PrivacyLoss, ...]:
    signed = book.ledger.settlement(ticket_id).receipt
    assert signed is not None
    return unseal(signed, PURPOSE, (KEY.public_key,), Receipt).losses


def test_a_grant_without_delta_allows_none_and_says_what_is_short(book: Book) -> None:
    with pytest.raises(Refused) as caught:
        book.open(budgeted(), 10, atto_delta=1)
    assert caught.value.rule == "grant.budget"
    assert caught.value.facts == {"entity_set": "resident", "what": "δ", "asked": "1e-18", "left": "0"}
    assert book.spent_of("resident") == lost(0)


def test_delta_is_held_against_the_grant_and_the_lifetime(book: Book) -> None:
    small, large = budgeted(atto_delta=2 * MICRO), budgeted(atto_delta=100 * MICRO)
    book.open(small, 1, atto_delta=2 * MICRO)
    with pytest.raises(Refused) as caught:
        book.open(small, 1, atto_delta=1)
    assert (caught.value.rule, caught.value.facts["what"]) == ("grant.budget", "δ")
    with pytest.raises(Refused) as caught:
        book.open(large, 1, atto_delta=4 * MICRO)
    assert (caught.value.rule, caught.value.facts["what"]) == ("odometer.spent", "δ")
    assert (caught.value.facts["asked"], caught.value.facts["left"]) == ("4e-6", "3e-6")
    book.open(large, 1, atto_delta=3 * MICRO)
    with pytest.raises(Refused) as caught:
        book.open(large, LIFETIME)
    assert caught.value.facts["what"] == "ρ"
    assert book.spent_of("resident") == lost(2, 5 * MICRO)


def test_delta_stands_in_receipt_and_readings(book: Book) -> None:
    grant = budgeted(atto_delta=3 * MICRO)
    ticket = book.open(grant, 7, atto_delta=MICRO)
    (reading,) = book.ledger.readings()
    assert (reading.spent_delta, reading.reserved_delta, reading.lifetime_delta) == (0, MICRO, 5 * MICRO)
    book.close(ticket, grant)
    (reading,) = book.ledger.readings()
    assert (reading.spent_delta, reading.reserved_delta) == (MICRO, 0)
    assert reading.at_delta == "2e-6"
    assert receipt_losses(book, ticket.ticket_id) == (lost(7, MICRO),)
    (used,) = book.ledger.grant_readings()
    assert used.losses == (lost(7, MICRO),)


@pytest.mark.parametrize(
    ("kept", "shown"),
    [
        (lost(300, 2), (lost(300, 2),)),
        (lost(120, 2), (lost(120, 2),)),
        (lost(300, 1), (lost(300, 1),)),
        (lost(1, 0), (lost(1, 0),)),
        (lost(0, 0), ()),
        (None, ()),
    ],
)
def test_what_never_ran_is_given_back_once(
    book: Book, kept: PrivacyLoss | None, shown: tuple[PrivacyLoss, ...]
) -> None:
    grant = budgeted(atto_delta=2)
    ticket = book.open(grant, 300, atto_delta=2)
    book.close(ticket, grant, spent=() if kept is None else (kept,))
    assert receipt_losses(book, ticket.ticket_id) == shown
    assert book.spent_of("resident") == (shown[0] if shown else lost(0))
    (used,) = book.ledger.grant_readings()
    assert used.losses == shown
    left = LIFETIME - book.spent
    with pytest.raises(Refused):
        book.open(grant, left + 1)
    book.open(grant, left)


@pytest.mark.parametrize(
    "claimed", [(lost(301),), (lost(300, 1),), (lost(300), lost(1, 0, "enterprise")), (lost(200), lost(101))]
)
def test_a_job_that_claims_to_have_spent_more_is_not_closed(book: Book, claimed: tuple[PrivacyLoss, ...]) -> None:
    grant = budgeted()
    ticket = book.open(grant, 300)
    with pytest.raises(Failed) as caught:
        book.close(ticket, grant, spent=claimed)
    assert caught.value.code == "ledger.loss"
    assert (book.spent, book.check_log(), len(book.ledger.open_tickets())) == (300, 0, 1)
    book.close(ticket, grant)
    assert receipt_losses(book, ticket.ticket_id) == (lost(300),)


def test_a_crash_before_the_close_gives_nothing_back(tmp_path: Path) -> None:
    grant = budgeted()
    with open_book(tmp_path) as book:
        ticket = book.open(grant, 300)

        def killed(sequence: int, losses: tuple[PrivacyLoss, ...]) -> Receipt:
            assert losses == (lost(100),)  # the return was in the transaction that is undone
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            book.ledger.close_ticket(ticket.ticket_id, killed, b"{}", (lost(100),))
    with open_book(tmp_path) as book:
        assert book.spent == 300
        ((_, reserved),) = book.ledger.open_tickets()
        assert reserved == (lost(300),)


def test_what_a_held_ticket_gave_back_is_not_told_yet(book: Book) -> None:
    """Until its step of the schedule a ticket looks as if it ran."""
    grant = budgeted()
    ticket = book.open(grant, 300)
    book.close(ticket, grant, spent=(lost(100),))
    held = frozenset({ticket.ticket_id})
    (reading,), (used,) = book.ledger.readings(held), book.ledger.grant_readings(held)
    assert (reading.spent, reading.reserved, used.losses) == (0, 300, (lost(300),))
    (reading,), (used,) = book.ledger.readings(), book.ledger.grant_readings()
    assert (reading.spent, reading.reserved, used.losses) == (100, 0, (lost(100),))


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM returns",
        "UPDATE returns SET pico_rho = 299",
        "INSERT INTO returns SELECT ticket_id, grant_id, 'enterprise', 1, 0 FROM losses",
        "INSERT INTO returns VALUES ('ticket-open', 'grant-a', 'resident', 301, 0)",
        "INSERT INTO returns VALUES ('ticket-open', 'grant-a', 'resident', 0, 1)",
        "INSERT INTO returns VALUES ('ticket-open', 'grant-a', 'resident', -1, 0)",
        "INSERT INTO returns VALUES ('ticket-open', 'grant-b', 'resident', 1, 0)",
        "INSERT INTO returns VALUES ('ticket-closed', 'grant-a', 'resident', 1, 0)",
        "INSERT OR REPLACE INTO returns VALUES ('ticket-back', 'grant-a', 'resident', 250, 0)",
        "INSERT INTO returns VALUES ('ticket-never', 'grant-a', 'resident', 0, 0)",
    ],
)
def test_the_file_itself_refuses_to_give_back_more(tmp_path: Path, statement: str) -> None:
    grant = budgeted(grant_id="grant-a")
    with open_book(tmp_path) as book:
        book.close(book.open(grant, 300, "ticket-closed"), grant)
        book.close(book.open(grant, 300, "ticket-back"), grant, spent=(lost(100),))
        book.open(grant, 300, "ticket-open")
        with pytest.raises(Failed) as caught, book.database.transaction() as connection:
            connection.execute(statement)
        assert caught.value.code == "ledger.write"
        assert book.spent == 700


def test_nested_sets_are_charged_and_given_back_with_their_parent(tmp_path: Path) -> None:
    with open_book(tmp_path, delta=10, nested={"resident": "household"}) as book:
        grant = budgeted(0, atto_delta=0)
        with pytest.raises(Refused) as caught:
            book.open(grant, 5, entity_set="household")
        assert caught.value.facts["entity_set"] == "household"
        wide = _household_grant(400, 9)
        ticket = book.open(wide, 300, entity_set="household", atto_delta=9)
        assert book.spent_of("resident") == lost(300, 9)
        book.close(ticket, wide, spent=(lost(100, 4, "household"),))
        assert receipt_losses(book, ticket.ticket_id) == (lost(100, 4, "household"), lost(100, 4))
        assert (book.spent_of("household"), book.spent_of("resident")) == (lost(100, 4, "household"), lost(100, 4))


def test_residents_who_are_spent_stop_their_households(tmp_path: Path) -> None:
    with open_book(tmp_path, nested={"resident": "household"}) as book:
        book.open(budgeted(), LIFETIME)
        with pytest.raises(Refused) as caught:
            book.open(_household_grant(1000, 0), 1, entity_set="household")
        assert (caught.value.rule, caught.value.facts["entity_set"]) == ("odometer.spent", "resident")
        assert book.spent_of("household") == lost(0, 0, "household")


def _household_grant(pico_rho: int, atto_delta: int):  # type: ignore[no-untyped-def]
    grant = budgeted()
    values = {name: getattr(grant, name) for name in grant.__struct_fields__}
    return type(grant)(**{**values, "budgets": (lost(pico_rho, atto_delta, "household"),)})


@pytest.mark.parametrize("pico_rho", [0, 1, RHO_UNIT // 1000, RHO_UNIT, 8 * RHO_UNIT, CURVE_UNTIL, CURVE_UNTIL + 1])
def test_the_shown_epsilon_is_never_below_the_true_one(pico_rho: int) -> None:
    shown = Decimal(shown_epsilon(pico_rho))
    rho = pico_rho / RHO_UNIT
    exact = epsilon_of(min(pico_rho, CURVE_UNTIL), SHOWN_DELTA / DELTA_UNIT)
    assert float(shown) >= exact
    assert float(shown) <= rho + 2 * (rho * 13.8156) ** 0.5 + 1e-4


def test_a_ledger_that_was_restored_at_a_loss_can_still_be_read() -> None:
    assert Decimal(shown_epsilon(10**6 * RHO_UNIT)) > 10**6


def old_ledger(folder: Path) -> Signed:
    """A file as the version before wrote it: one closed ticket that lost 7, one open one that reserved 11."""
    signed = decode((BEFORE_DELTA / "receipt.json").read_bytes(), Signed)
    frontier = frontier_of([encode(signed)])
    note = sign_checkpoint(Checkpoint(origin=RECEIPT_ORIGIN, size=1, root=frontier.root), KEY)
    with closing(sqlite3.connect(folder / "ledger.db")) as file:
        file.executescript(OLD_SCHEMA)
        for ticket_id, state, loss in (("ticket-old", "closed", 7), ("ticket-open", "open", 11)):
            values = (ticket_id, "grant-old", encode(signed), state, "2026-11-01T12:00:00+00:00")
            file.execute("INSERT INTO tickets VALUES (?, ?, ?, ?, ?)", values)
            file.execute("INSERT INTO losses VALUES (?, 'grant-old', 'resident', ?)", (ticket_id, loss))
        row = (0, "ticket-old", encode(signed), None, note, encode(frontier))
        file.execute("INSERT INTO receipts VALUES (?, ?, ?, ?, ?, ?)", row)
        file.commit()
    return signed


def test_a_ledger_from_before_there_was_a_delta_opens_and_goes_on(tmp_path: Path) -> None:
    signed = old_ledger(tmp_path)
    for _ in range(2):  # the second open finds the column
        with open_book(tmp_path, delta=MICRO) as book:
            assert book.spent_of("resident") == lost(18)
            assert [losses for _, losses in book.ledger.open_tickets()] == [(lost(11),)]
            assert book.ledger.settlement("ticket-old").receipt == signed
            assert book.check_log() == 1
    with open_book(tmp_path, delta=MICRO) as book:
        grant = budgeted(100, grant_id="grant-old", atto_delta=1)
        ticket = book.open(grant, 40, atto_delta=1)
        with pytest.raises(Refused):
            book.open(grant, 43)
        book.close(ticket, grant, spent=(lost(10, 1),))
        assert book.spent_of("resident") == lost(28, 1)
        with pytest.raises(Failed), book.database.transaction() as connection:
            connection.execute("UPDATE losses SET atto_delta = 0")


def test_a_ledger_that_cannot_be_changed_is_a_fault_and_left_alone(tmp_path: Path) -> None:
    old_ledger(tmp_path)
    shutil.copy(tmp_path / "ledger.db", tmp_path / "copy.db")
    with closing(sqlite3.connect(tmp_path / "copy.db")) as file:
        file.execute("DROP TABLE losses")
        file.execute("CREATE VIEW losses AS SELECT ticket_id, grant_id, 'resident' AS entity_set FROM tickets")
        file.commit()
    shutil.move(tmp_path / "copy.db", tmp_path / "ledger.db")
    with pytest.raises(Failed) as caught, open_book(tmp_path):
        pass
    assert caught.value.code == "ledger.write"


def test_receipts_and_grants_from_before_verify_and_have_the_same_bytes() -> None:
    for name, kind in (("receipt", Receipt), ("grant", type(budgeted()))):
        signed = decode((BEFORE_DELTA / f"{name}.json").read_bytes(), Signed)
        value = unseal(signed, name, (OLD_KEY,), kind)
        assert encode(value) == signed.payload


def test_tables_from_before_are_read_and_have_the_same_bytes() -> None:
    content = (BEFORE_DELTA / "table.json").read_bytes()
    table: Release = decode(content, Release)  # type: ignore[arg-type]
    assert isinstance(table, DPTable)
    assert encode(table) == content
    assert (table.rows, table.widths) == ((("男", "42"),), (("3",),))
