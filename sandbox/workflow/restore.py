"""Restoring a deployment, or only its enclave, from a backup.

The enclave restores itself in a process of its own, and decides by its own rule whether what it has forgotten is shown
to it or counts as spent. Its control plane, where it lives on, is what shows it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from enclave_runner.contract.archive import ArchiveReader, BackupKey
from enclave_runner.contract.codec import decode, digest
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.evidence import RestoreReport
from enclave_runner.contract.folder import beside, file_of, require_free, settle, unpack, workspace
from enclave_runner.contract.wire import RefusedReply
from sandbox.settings import Home
from sandbox.workflow.backup import PART, said_by_enclave
from sandbox.workflow.enclave import SocketDoor
from sandbox.workflow.evidence import export_evidence
from sandbox.workflow.office import open_as_found


@dataclass(frozen=True)
class Shown:
    """What is shown to the restored enclave: files of somebody else's, or the will to lose; whose key it must have, and
    the token with its keys."""

    checkpoint: Path | None = None
    receipts: Path | None = None
    accepts_loss: bool = False
    enclave_key: str | None = None
    module: Path | None = None
    token: str | None = None
    pin_file: Path | None = None

    def options(self) -> list[str]:
        """As the enclave's command takes them."""
        words = [] if self.checkpoint is None else ["--checkpoint", str(self.checkpoint.absolute())]
        words += [] if self.receipts is None else ["--receipts", str(self.receipts.absolute())]
        words += [] if self.enclave_key is None else [f"--enclave-key={self.enclave_key}"]
        words += [] if self.module is None else [f"--pkcs11-module={self.module.resolve()}"]
        words += [] if self.token is None else [f"--pkcs11-token={self.token}"]
        words += [] if self.pin_file is None else [f"--pkcs11-pin-file={self.pin_file.absolute()}"]
        return [*words, "--accept-loss-of-receipts"] if self.accepts_loss else words


def restore_deployment(home: Home, file: Path, key_file: Path, shown: Shown) -> RestoreReport:
    """Make the whole deployment anew in an unused folder, whole or not at all.

    Raises:
        Failed: `home.exists`, `backup.…`, `restore.…`, `workspace.…`, `key.…`, `file.unreadable`, or as the
            enclave says.
        Refused: as the enclave says: `restore.unproven`, `restore.behind`, `restore.gap`, `checkpoint.invalid`.
    """
    require_free(home.folder)
    key, descriptor = BackupKey.load(key_file), _open(file)
    try:
        with workspace(beside(home.folder)) as place:
            made = place / "home"
            made.mkdir(mode=0o700)
            report = _restore_enclave(made / home.enclave.name, descriptor, key_file, shown)
            archive = ArchiveReader(file_of(descriptor), key)
            if archive.header.part != PART or archive.header.label != report.label:
                raise Failed("backup.parts")
            unpack(archive, made)
            if os.read(descriptor, 1):
                raise Failed("backup.damaged")
            settle(made, home.folder)
    finally:
        os.close(descriptor)
    return report


def restore_enclave(home: Home, file: Path, key_file: Path, shown: Shown) -> RestoreReport:
    """Make only the enclave anew, under the control plane that lives on. Unless other receipts are shown, it is shown
    those that this control plane has settled. Its key must be the one that this control plane trusts.

    Raises:
        Failed, Refused: as `restore_deployment`; `home.missing` when there is no control plane.
    """
    require_free(home.enclave)
    office = open_as_found(home, SocketDoor(home.enclave))
    descriptor = _open(file)
    try:
        with workspace(home.bureau / ".restore") as place:
            own = place / "receipts"
            if shown.receipts is None:
                export_evidence(office, own)
            known = shown.enclave_key or digest(office.enclave_key.raw)
            shown = replace(shown, receipts=shown.receipts or own, enclave_key=known)
            return _restore_enclave(home.enclave, descriptor, key_file, shown)
    finally:
        os.close(descriptor)
        office.engine.dispose()


def _open(file: Path) -> int:
    try:
        return os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        raise Failed("file.unreadable") from None


def _restore_enclave(folder: Path, descriptor: int, key_file: Path, shown: Shown) -> RestoreReport:
    command = [sys.executable, "-P", "-m", "enclave_runner", "restore", "--home", str(folder)]
    command += ["--key", str(key_file.absolute()), *shown.options()]
    with tempfile.TemporaryFile() as errors:
        done = subprocess.run(  # noqa: S603 - our own program, no shell
            command, stdin=descriptor, stdout=subprocess.PIPE, stderr=errors, check=False
        )
        if done.returncode == 0:
            return decode(done.stdout, RestoreReport)
        if done.stdout:
            refused = decode(done.stdout, RefusedReply)
            raise Refused(refused.rule, **refused.facts)
        raise Failed(said_by_enclave(errors))
