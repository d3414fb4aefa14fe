"""Exactly once is held by the database itself, whatever the code above does."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from sandbox.store import api_keys, idempotency, receipts, schema, tickets
from sandbox.store.api_keys import StoredKey
from sandbox.store.database import reading, writing
from sandbox.store.idempotency import Slot
from sandbox.workflow.dispatch import dispatch
from sandbox.workflow.invoices import issue_invoice
from sandbox.workflow.submit import submit
from tests.support.bureau import COUNT, OPERATOR, PAID, Bureau, furnished_bureau
from tests.support.refusals import refused_by


@pytest.fixture
def used(tmp_path: Path) -> Bureau:
    """A deployment with one settled, invoiced job."""
    bureau = furnished_bureau(tmp_path)
    submission = submit(bureau.office, bureau.actor(OPERATOR), PAID, COUNT)
    dispatch(bureau.office, submission.submission_id)
    issue_invoice(bureau.after_the_month(), bureau.actor(), OPERATOR, "2026-11")
    return bureau


@pytest.mark.parametrize(
    ("table", "changes"),
    [
        ("receipts", {"receipt_id": "other", "sequence": 99, "submission_id": None}),
        ("receipts", {"receipt_id": "other", "sequence": 99, "ticket_id": None}),
        ("receipts", {"receipt_id": "other", "ticket_id": None, "submission_id": None}),
        ("tickets", {"ticket_id": "other"}),
        ("meter_events", {}),
        ("invoice_lines", {}),
        ("invoices", {"invoice_id": "other"}),
        ("releases", {}),
        ("audit_entries", {}),
        ("audit_checkpoints", {}),
    ],
)
def test_a_second_row_for_the_same_thing_is_impossible(used: Bureau, table: str, changes: dict[str, object]) -> None:
    with reading(used.office.engine) as connection:
        row = dict(connection.execute(select(schema.METADATA.tables[table])).mappings().first() or {})
    twin = {**row, **{name: value for name, value in changes.items() if value is not None}}
    with pytest.raises(IntegrityError), writing(used.office.engine) as connection:
        connection.execute(insert(schema.METADATA.tables[table]).values(twin))


def test_receipts_tickets_and_releases_read_back(used: Bureau) -> None:
    with reading(used.office.engine) as connection:
        (stored,) = receipts.listed(connection)
        assert receipts.of_submission(connection, stored.receipt.submission_id) == stored
        assert receipts.of_submission(connection, "other") is None
        assert receipts.on_invoice(connection, f"inv-2026-11-{OPERATOR}") == (stored.receipt,)
        assert receipts.on_invoice(connection, "other") == ()
        assert receipts.release_of(connection, stored.receipt.receipt_id) is not None
        assert receipts.release_of(connection, "other") is None
        ticket = tickets.find(connection, stored.receipt.ticket_id)
        assert ticket is not None
        assert ticket.submission_id == stored.receipt.submission_id
        assert tickets.find(connection, "other") is None
        with refused_by("record.unknown", what="ticket"):
            tickets.of_submission(connection, "other")


def test_an_invoice_of_more_receipts_than_a_statement_takes_parameters_reads_back(used: Bureau) -> None:
    uses = [submit(used.office, used.actor(OPERATOR), PAID, COUNT).submission_id for _ in range(4)]
    done = [dispatch(used.office, submission_id).receipt for submission_id in uses]
    used.clock.now = datetime(2027, 1, 4, tzinfo=UTC)
    issued = issue_invoice(used.office, used.actor(), OPERATOR, "2026-12")
    with reading(used.office.engine) as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 3)
        assert receipts.on_invoice(connection, issued.invoice_id) == tuple(done)


def test_one_hash_names_one_key(used: Bureau) -> None:
    key = StoredKey("a" * 12, "h" * 64, OPERATOR, "x", "bureau/a", "2026-11-01T00:00:00Z", None)
    with writing(used.office.engine) as connection:
        api_keys.add(connection, key)
    with pytest.raises(IntegrityError), writing(used.office.engine) as connection:
        api_keys.add(connection, replace(key, key_id="b" * 12))
    with writing(used.office.engine) as connection:
        api_keys.revoke(connection, key.key_id, "2026-11-02T00:00:00Z")
        api_keys.revoke(connection, key.key_id, "2026-11-03T00:00:00Z")
        found = api_keys.find(connection, key.key_id)
        assert found is not None
        assert found.revoked_at == "2026-11-02T00:00:00Z"
        assert api_keys.listed(connection, OPERATOR) == (found,)
        assert api_keys.find(connection, "c" * 12) is None


def test_makers_of_keys_are_known_among_the_people_asked_about(used: Bureau) -> None:
    first = StoredKey("a" * 12, "a" * 64, OPERATOR, "x", "bureau/a", "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z")
    with writing(used.office.engine) as connection:
        api_keys.add(connection, first)
        api_keys.add(connection, replace(first, key_id="b" * 12, hash="b" * 64, created_by="bureau/b"))
        makers = [
            api_keys.makers_among(connection, people)
            for people in (
                {"bureau/a", "bureau/b", f"{OPERATOR}/x"},
                {"bureau/a", f"{OPERATOR}/x"},
                {"bureau/a"},
                set(),
            )
        ]
    pairs = [("bureau/a", f"{OPERATOR}/x"), ("bureau/b", f"{OPERATOR}/x")]
    assert makers == [set(pairs), {pairs[0]}, set(), set()]


def test_an_answered_idempotency_key_is_never_given_back(used: Bureau) -> None:
    slot = Slot(OPERATOR, "x", "key")
    with writing(used.office.engine) as connection:
        idempotency.reserve(connection, slot, "f")
        idempotency.answer(connection, slot, b"done")
        idempotency.free(connection, slot)
        stored = idempotency.find(connection, slot)
        assert stored is not None
        assert stored.response == b"done"
        idempotency.reserve(connection, Slot(OPERATOR, "y", "key"), "f")
        idempotency.free(connection, Slot(OPERATOR, "y", "key"))
        assert idempotency.find(connection, Slot(OPERATOR, "y", "key")) is None
