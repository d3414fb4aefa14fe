"""Calls and standing orders as stored, and a deployment of the first schema that is brought up to date."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Column, Engine, TableClause, insert, select, text
from sqlalchemy import column as sql_column
from sqlalchemy import table as sql_table
from sqlalchemy.exc import IntegrityError

from enclave_runner.contract.codec import decode
from enclave_runner.contract.wire import BatchRecord
from sandbox.domain.metering import Invoice
from sandbox.domain.standing import StandingStatus
from sandbox.store import callable as callables
from sandbox.store import calls, database, invoices, schema, standing
from sandbox.store.database import open_engine, reading, sqlite_url, upgrade, writing
from sandbox.store.standing import ORDERS
from sandbox.workflow.call_sync import sync_calls
from sandbox.workflow.invoices import issue_invoice
from sandbox.workflow.products import suspend_product
from tests.support.bureau import BANK, OPERATOR, SHOP, Bureau, furnished_bureau
from tests.support.called import LICENCE, ask, furnish_firms, opened, plain
from tests.support.refusals import refused_by


@pytest.fixture
def called(tmp_path: Path) -> Bureau:
    """Two recorded calls on an invoice."""
    bureau = furnished_bureau(tmp_path)
    furnish_firms(bureau)
    opened(bureau)
    ask(bureau, asked=plain("a", "b"))
    ask(bureau, caller=OPERATOR)
    issue_invoice(bureau.after_the_month(), bureau.actor(), BANK, "2026-11")
    return bureau


@pytest.mark.parametrize(
    ("table", "changes"),
    [
        ("call_batches", {"digest": "other"}),
        ("call_batches", {"number": 99}),
        ("call_receipts", {}),
        ("call_invoice_lines", {}),
        ("standing_orders", {"number": 99}),
        ("standing_orders", {"ticket_id": "other"}),
    ],
)
def test_a_second_row_for_the_same_thing_is_impossible(called: Bureau, table: str, changes: dict[str, object]) -> None:
    with reading(called.office.engine) as connection:
        row = dict(connection.execute(select(schema.METADATA.tables[table])).mappings().first() or {})
    with pytest.raises(IntegrityError), writing(called.office.engine) as connection:
        connection.execute(insert(schema.METADATA.tables[table]).values({**row, **changes}))


def test_a_receipt_needs_its_batch_its_ticket_and_its_parties(called: Bureau) -> None:
    with reading(called.office.engine) as connection:
        row = dict(connection.execute(select(schema.call_receipts)).mappings().first() or {})
    for name, wrong in (("batch", 99), ("ticket_id", "x"), ("payer_id", "x"), ("operator_id", "x")):
        with pytest.raises(IntegrityError), writing(called.office.engine) as connection:
            connection.execute(insert(schema.call_receipts).values({**row, "sequence": 99, name: wrong}))


def test_calls_read_back_by_page_by_party_and_by_ticket(called: Bureau) -> None:
    with reading(called.office.engine) as connection:
        everything = calls.page(connection, 0, 10, None)
        assert [receipt.caller_id for receipt in everything] == [BANK, OPERATOR]
        assert calls.page(connection, 1, 10, None) == everything[1:]
        assert calls.page(connection, 0, 1, None) == everything[:1]
        assert calls.page(connection, 0, 10, BANK) == everything[:1]
        assert calls.page(connection, 0, 10, OPERATOR) == everything  # they run under its grant
        assert calls.page(connection, 0, 10, SHOP) == ()
        assert calls.used(connection, everything[0].ticket_id) == (2, 3)
        assert calls.used(connection, "other") == (0, 0)
        assert calls.on_invoice(connection, f"inv-2026-11-{BANK}") == everything[:1]
        assert calls.has_batch(connection, "other") is False
        assert [(number, len(written)) for number, _, written in calls.batches(connection)] == [(0, 1), (1, 1)]


def test_an_invoice_takes_each_use_once(called: Bureau) -> None:
    with reading(called.office.engine) as connection:
        until = called.clock.now.replace(year=2030)
        events = calls.events_between(connection, None, None, BANK)
        assert calls.open_uses(connection, BANK, until) == ()
    other = Invoice("inv-2026-12-bank", BANK, "2026-12", (), 0)
    with pytest.raises(IntegrityError), writing(called.office.engine) as connection:
        invoices.add(connection, other, events)


def test_orders_stand_newest_first(called: Bureau) -> None:
    second = opened(called, refresh=True)
    with reading(called.office.engine) as connection:
        orders = standing.of_product(connection, LICENCE)
        assert [order.status for order in orders] == [StandingStatus.OPEN, StandingStatus.CLOSED]
        assert orders[0] == second == ORDERS.get(connection, second.ticket_id)
        assert standing.in_status(connection, StandingStatus.CLOSED) == orders[1:]
        assert standing.of_product(connection, "other") == ()
        assert standing.has_any(connection)


def test_what_a_call_is_judged_by_is_read_as_it_stands(called: Bureau) -> None:
    def found() -> callables.Callable:
        with reading(called.office.engine) as connection:
            return callables.find(connection, LICENCE)

    first = found()
    assert (first.is_open, first.operator.party_id, first.record.grant.grant_id) == (True, OPERATOR, "grant-firms")
    assert first.dataset is not None
    assert found().product is first.product  # unchanged documents are decoded once
    suspended = suspend_product(called.office, called.actor(), LICENCE)
    assert found().product == suspended != first.product
    with reading(called.office.engine) as connection, refused_by("record.unknown", what="product"):
        callables.find(connection, "nothing")


def test_an_empty_batch_is_a_batch(called: Bureau) -> None:
    called.enclave.calls.sign(())
    assert sync_calls(called.office) == 0
    with reading(called.office.engine) as connection:
        assert [len(written) for _, _, written in calls.batches(connection)] == [1, 1, 0]
    ask(called)
    assert sync_calls(called.office) == 1


def test_a_batch_record_is_what_the_enclave_sent(called: Bureau) -> None:
    with reading(called.office.engine) as connection:
        stored = [BatchRecord(batch=signed, receipts=written) for _, signed, written in calls.batches(connection)]
    assert stored == called.enclave.calls.log


# Migration


def first_schema(path: Path) -> Engine:
    """A database as the first version of this program made it."""
    engine = open_engine(sqlite_url(path))
    config = Config()
    config.set_main_option("script_location", str(database.MIGRATIONS))
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    return engine


def test_a_deployment_of_the_first_schema_keeps_everything_and_opens_products(tmp_path: Path) -> None:
    """The rows of a used deployment are copied into a database of the first schema, which is then upgraded."""
    bureau = furnished_bureau(tmp_path)
    old = first_schema(tmp_path / "old.db")
    tables = [table for table in schema.METADATA.sorted_tables if table.name not in NEW]
    with reading(bureau.office.engine) as source, writing(old) as target:
        for table in tables:
            kept = [column for column in table.columns if column.name not in NEW_COLUMNS.get(table.name, ())]
            rows = [dict(row) for row in source.execute(select(*kept)).mappings()]
            if rows:
                target.execute(insert(table_of(table.name, kept)), rows)
    before = rows_of(old, [table.name for table in tables])
    upgrade(old)
    after = rows_of(old, [table.name for table in tables])
    for name, rows in before.items():
        assert all(row.items() >= was.items() for row, was in zip(after[name], rows, strict=True)), name
    moved = replace(bureau, office=replace(bureau.office, engine=old))
    furnish_firms(moved)
    opened(moved)
    assert ask(moved).rule is None
    assert sync_calls(moved.office) == 1
    old.dispose()


NEW = {"standing_orders", "call_batches", "call_receipts", "call_invoice_lines", "egress_reviews"}


NEW_COLUMNS = {"submissions": {"egress_approvals", "input_sha256"}}


def table_of(name: str, columns: list[Column[Any]]) -> TableClause:
    return sql_table(name, *(sql_column(column.name, column.type) for column in columns))


def rows_of(engine: Engine, names: list[str]) -> dict[str, list[dict[str, object]]]:
    """Every row, by table; a column that a later schema adds stands beside those that were there."""
    with reading(engine) as connection:
        return {
            name: [dict(row) for row in connection.execute(text(f"SELECT * FROM {name}")).mappings()] for name in names
        }


def test_documents_of_before_calls_read_as_they_were() -> None:
    """An invoice that was issued before there were calls has no lines of calls."""
    old = b'{"free_uses":1,"invoice_id":"i","lines":[],"month":"2026-01","payer_id":"bank"}'
    assert decode(old, Invoice) == Invoice("i", "bank", "2026-01", (), 1)
