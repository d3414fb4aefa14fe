"""The enclave's home: keys, trust, its own copy of the policy pack, ledger, raw tables. 0700, of one process at a
time."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Failed
from enclave_runner.contract.folder import sync_folder, sync_tree
from enclave_runner.contract.rulebook import PolicyPack
from enclave_runner.contract.signing import Algorithm, KeyFile
from enclave_runner.contract.trust import Trust
from enclave_runner.rawdata.kms import FILE_KMS, Kms, KmsChoice
from enclave_runner.rawdata.store import RawStore
from enclave_runner.supervisor.limits import read_limits


@dataclass(frozen=True)
class EnclaveHome:
    """Paths below one folder."""

    folder: Path

    @property
    def receipt_key(self) -> Path:
        """The key that signs receipts and checkpoints."""
        return self.folder / "receipt.key"

    @property
    def pseudonym_key(self) -> Path:
        """The secret of the keyed pseudonyms."""
        return self.folder / "pseudonym.key"

    @property
    def trust(self) -> Path:
        """The `Trust` file."""
        return self.folder / "trust.json"

    @property
    def policies(self) -> Path:
        """The enclave's own copy of the policy pack."""
        return self.folder / "policies"

    @property
    def ledger(self) -> Path:
        """The SQLite file."""
        return self.folder / "ledger.db"

    @property
    def rawdata(self) -> Path:
        """The raw tables."""
        return self.folder / "raw"

    @property
    def kms(self) -> Kms:
        """Which key-encryption keys wrap the data keys of the raw tables."""
        return Kms(self.folder / "kms.json", self.folder / "kek")

    def open_store(self) -> RawStore:
        """The raw tables, opened under the keys that wrap theirs.

        Raises:
            Failed: `kms.…`.
        """
        keys, suite = self.kms.open()
        return RawStore(self.rawdata, keys, suite)

    @property
    def log(self) -> Path:
        """Faults by id: code and ticket, never data."""
        return self.folder / "faults.log"

    def note_fault(self, failed: Failed, subject: str, rows: tuple[str, ...] = ()) -> None:
        """Append a fault: code, subject and, for a jail that does not hold, the names of the rows. Never raises."""
        at = datetime.now(UTC).isoformat()
        line = {"at": at, "fault": failed.fault, "code": failed.code, "subject": subject}
        text = json.dumps(line | ({"rows": rows} if rows else {}), sort_keys=True) + "\n"
        # A full disk must not cost a ticket its receipt: the receipt has the fault's id as well, the log is for people.
        with suppress(OSError), self.log.open("a", encoding="utf-8") as log:
            log.write(text)


def create_home(
    home: EnclaveHome,
    trust: Trust,
    policies: Path,
    kms: KmsChoice = FILE_KMS,
    algorithm: Algorithm = Algorithm.ED25519,
) -> None:
    """Make a new home, or nothing when a part cannot be made. Keys are made here and never leave.

    Raises:
        Failed: `home.exists` when there is one already; `policy.…`; `kms.…`; `key.sm2`.
    """
    read_limits(PolicyPack(policies))
    try:
        home.folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise Failed("home.exists") from None
    try:
        home.kms.create(kms)
        KeyFile.create(home.receipt_key, algorithm)
    except BaseException:
        shutil.rmtree(home.folder, ignore_errors=True)
        raise
    _write_private(home.pseudonym_key, secrets.token_bytes(32))
    home.policies.mkdir(mode=0o700)
    for source in sorted(policies.iterdir()):
        if source.is_file():
            _write_private(home.policies / source.name, source.read_bytes())
    _write_private(home.trust, encode(trust))
    sync_tree(home.folder)  # a key or a limit that a power cut takes away would not come back
    sync_folder(home.folder.parent)


def read_trust(home: EnclaveHome) -> Trust:
    """Whose signatures count.

    Raises:
        Failed: `home.unreadable`.
    """
    try:
        return decode(home.trust.read_bytes(), Trust)
    except OSError:
        raise Failed("home.unreadable") from None


def lock_home(home: EnclaveHome) -> int:
    """Hold the home for this process; the lock goes with the returned descriptor.

    Raises:
        Failed: `home.unreadable`, or `home.busy` when another enclave runs in it.
    """
    try:
        descriptor = os.open(home.folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        raise Failed("home.unreadable") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise Failed("home.busy") from None
    return descriptor


def _write_private(path: Path, content: bytes) -> None:
    """A new file on disk; its name is made durable with the others."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
