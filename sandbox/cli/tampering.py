"""A copy of the control plane's database with one byte of one audit entry changed, to show that it is found."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from enclave_runner.contract.errors import Failed


@contextmanager
def tampered_copy(database: Path) -> Iterator[Path]:
    """The copy, gone afterwards. An administrator could do the same: triggers bind nobody who may drop them."""
    with tempfile.TemporaryDirectory(prefix="yunei-") as folder:
        copy = Path(folder) / database.name
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")
        content = bytearray(copy.read_bytes())
        place = content.find(b'"act":"')
        if place < 0:
            raise Failed("demo.no-audit-entry")
        content[place + 7] ^= 0x01
        copy.write_bytes(bytes(content))
        yield copy
