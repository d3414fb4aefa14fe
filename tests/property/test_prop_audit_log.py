"""One byte changed anywhere in the audit rows, of any log, is found at its entry."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text, update

from enclave_runner.contract.merkle import frontier_of
from enclave_runner.contract.signing import KeyFile
from sandbox.domain.audit import AuditEntry
from sandbox.store import audit_log
from sandbox.store.database import open_engine, reading, sqlite_url, upgrade, writing
from sandbox.store.schema import LEDGERS, audit_checkpoints, audit_entries

WORDS = st.text(max_size=20)
ENTRIES = st.lists(
    st.builds(
        AuditEntry,
        actor=WORDS,
        act=WORDS,
        target=WORDS,
        facts=st.dictionaries(WORDS, WORDS, max_size=3),
        at=st.datetimes(timezones=st.just(UTC), min_value=datetime(2026, 1, 1), max_value=datetime(2030, 1, 1)),
    ),
    min_size=1,
    max_size=8,
)
PLACES = (
    (audit_entries, "doc", "number", 0),
    (audit_entries, "leaf_hash", "number", 0),
    (audit_checkpoints, "note", "size", 1),
    (audit_checkpoints, "frontier", "size", 1),
)


@settings(max_examples=25, deadline=None)
@given(ENTRIES, st.data())
def test_a_changed_byte_is_found_where_it_is(written: list[AuditEntry], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        key = KeyFile.create(Path(folder) / "control.key")
        engine = open_engine(sqlite_url(Path(folder) / "control.db"))
        upgrade(engine)
        with writing(engine) as connection:
            for entry in written:
                audit_log.append(connection, entry, key)
            for table in LEDGERS:
                connection.execute(text(f"DROP TRIGGER {table}_no_update"))
        anchors = {len(written): frontier_of(entry.leaf for entry in written).root.hex()}
        with reading(engine) as connection:
            assert audit_log.verify(connection, key.public_key, anchors).ok
            assert audit_log.entries(connection) == tuple(written)
        table, column, number, offset = data.draw(st.sampled_from(PLACES))
        index = data.draw(st.integers(0, len(written) - 1))
        here = table.c[number] == index + offset
        with writing(engine) as connection:
            content = bytearray(connection.execute(select(table.c[column]).where(here)).scalar_one())
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
            connection.execute(update(table).where(here).values({column: bytes(content)}))
        with reading(engine) as connection:
            verdict = audit_log.verify(connection, key.public_key, anchors)
        engine.dispose()
        assert (verdict.ok, verdict.first_bad_index) == (False, index)
