"""A backup that cannot begin: no descriptor, no half file and no lock of the database is left."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from enclave_runner.contract.errors import Failed
from sandbox.settings import Home
from sandbox.workflow import backup
from tests.support.raw_stores import open_files
from tests.support.refusals import failed_at


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """As much of a deployment as a backup looks at before it begins."""
    home = Home(tmp_path / "home")
    for file in (home.trust, home.control_db):
        file.parent.mkdir(parents=True, exist_ok=True)
    home.trust.write_text("{}")
    with closing(sqlite3.connect(home.control_db)) as connection:
        connection.execute("CREATE TABLE parties(name TEXT)")
    return home


@pytest.mark.parametrize("broken", ["the copy", "the program"])
def test_nothing_stays_open_of_a_backup_that_cannot_begin(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    recipient = tmp_path / "backup.key.pub"
    public = X25519PrivateKey.generate().public_key()
    recipient.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    def unreadable(path: Path, copy: Path) -> None:
        raise Failed("backup.unreadable")

    before = open_files()
    for number in range(3):
        to = tmp_path / f"backup-{number}"
        if broken == "the copy":
            monkeypatch.setattr(backup, "_copy_database", unreadable)
            with failed_at("backup.unreadable"):
                backup.back_up(home, to, recipient, lambda *sizes: None)
        else:
            monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere"))
            with pytest.raises(FileNotFoundError):
                backup.back_up(home, to, recipient, lambda *sizes: None)
        assert open_files() == before
        assert not to.exists()
    with closing(sqlite3.connect(home.control_db, timeout=0)) as connection:
        connection.execute("BEGIN IMMEDIATE")
