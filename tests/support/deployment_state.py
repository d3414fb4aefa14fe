"""Everything that a deployment holds, to be compared before and after a command that must leave nothing behind."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sandbox.settings import Home

# Refusals stand in the audit log, each under a new checkpoint.
AUDIT = frozenset({"control.audit_entries", "control.audit_checkpoints"})
# Moves with every request that the enclave answers.
CLOCK = "ledger.clock"
State = dict[str, tuple[object, ...]]


def state_of(home: Home) -> State:
    """Every row of both databases and the names of all other files."""
    state = _tables("control", home.control_db) | _tables("ledger", home.enclave / "ledger.db")
    del state[CLOCK]
    for folder in (home.artefacts, home.enclave / "raw", home.control_key.parent, home.policies):
        state[folder.name] = tuple(sorted(str(path.relative_to(folder)) for path in folder.rglob("*")))
    return state


def changes(before: State, after: State) -> set[str]:
    """The tables and folders that are not what they were."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def _tables(name: str, database: Path) -> State:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            f"{name}.{table}": tuple(sorted(connection.execute(f'SELECT * FROM "{table}"'), key=repr))
            for table in tables
        }
