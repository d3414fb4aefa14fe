"""One invocation of the command line: which deployment, who acts, and how results are shown."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.rulebook import PolicyPack, Refusal
from sandbox.settings import Home, default_home, pack_folder
from sandbox.workflow.enclave import SocketDoor, start_enclave
from sandbox.workflow.office import Actor, Office, local_actor, open_as_found, open_office, read_bureau_trust
from sandbox.workflow.recover import recover_beside_others

T = TypeVar("T")
NOTHING: Mapping[str, object] = MappingProxyType({})
PIPE_WIDTH = 160
EXIT_OK, EXIT_USAGE, EXIT_REFUSED, EXIT_FAILED, EXIT_NOT_VERIFIED = 0, 2, 3, 4, 5


def login_name() -> str:
    """Who is logged in; the number of the account where it has no name (a bare container)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"


def plain_console() -> Console:
    """A terminal that takes names of parties and columns as they are: brackets and colons in them are no markup.

    A pipe has no width: there lines are long enough for ids to stand in one piece, for grep.
    """
    return Console(markup=False, emoji=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


@dataclass(frozen=True)
class Session:
    """Global options and the terminal."""

    home: Home = field(default_factory=lambda: Home(default_home()))
    as_json: bool = False
    party: str = "bureau"
    person: str = field(default_factory=login_name)
    console: Console = field(default_factory=plain_console)

    @contextmanager
    def office(self) -> Iterator[tuple[Office, Actor]]:
        """The control plane with a running enclave, and who acts.

        Raises:
            Failed: `home.missing`, `home.incomplete`, or why the enclave or the control plane does not open.
        """
        self._check_whole()
        with start_enclave(self.home) as enclave:
            office = open_office(self.home, enclave.door)
            try:
                recover_beside_others(office, is_alone=enclave.process is not None)
                yield office, local_actor(office, self.party, self.person)
            finally:
                office.engine.dispose()

    @contextmanager
    def office_alone(self) -> Iterator[Office]:
        """The control plane as it was found, with a running enclave, and nobody who acts: for looking, not for acting.

        The schema is not brought up to date, nothing is recovered, and no party is read.

        Raises:
            Failed: as `office` does.
        """
        self._check_whole()
        with start_enclave(self.home) as enclave:
            office = open_as_found(self.home, enclave.door)
            try:
                yield office
            finally:
                office.engine.dispose()

    @contextmanager
    def office_found(self) -> Iterator[Office]:
        """The control plane alone, as it was found; no enclave is started or asked.

        Raises:
            Failed: `home.missing`, `home.incomplete`, or why the control plane does not open.
        """
        self._check_whole()
        office = open_as_found(self.home, SocketDoor(self.home.enclave))
        try:
            yield office
        finally:
            office.engine.dispose()

    def _check_whole(self) -> None:
        read_bureau_trust(self.home)
        if not self.home.control_db.is_file():  # opening it would make an empty one
            raise Failed("home.incomplete")

    def show(self, document: object, people: Callable[[Console], None]) -> None:
        """One JSON document for scripts, or what people look at."""
        if self.as_json:
            print_json(document)
        else:
            people(self.console)

    def table(self, document: object, title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
        """A table for people; the document for scripts. Columns that start with '>' are right-aligned."""

        def draw(console: Console) -> None:
            if not rows:
                console.print(Text(f"{title}: none"))
                return
            console.print(Text(title, style="bold"))  # beside the table: a narrow one would wrap its title
            table = Table(header_style="bold")
            for column in columns:
                table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
            for row in rows:
                table.add_row(*(str(cell) for cell in row))
            console.print(table)

        self.show(document, draw)


def print_json(document: object) -> None:
    """Exactly one JSON document on standard output."""
    encoded = msgspec.json.encode(document, order="deterministic")
    print(msgspec.json.format(encoded, indent=2).decode())  # noqa: T201 - this is the output


def report_refused(session: Session, refused: Refused, beside: Mapping[str, object] = NOTHING) -> int:
    """Say which rule said no, under which article, and what would make it pass; `beside` goes into the document."""
    refusal = explain(session, refused)

    def draw(console: Console) -> None:
        article = (
            f"第{refusal.article}条 / art. {refusal.article}" if refusal.article != "-" else "平台规则 / platform rule"
        )
        body = f"{refusal.reason_zh}\n{refusal.remedy_zh}\n\n{refusal.reason}\n{refusal.remedy}"
        title = Text(f"拒绝 refused · {refusal.rule} · {article}")
        console.print(Panel(Text(body), title=title, border_style="yellow"))

    session.show({"refused": refusal, **beside}, draw)
    return EXIT_REFUSED


def report_failed(session: Session, failed: Failed, beside: Mapping[str, object] = NOTHING) -> int:
    """Say that something broke, by its opaque id, and what to do; `beside` goes into the document."""
    advice = ADVICE.get(failed.code, "look the fault id up in the enclave's faults.log, or try again")

    def draw(console: Console) -> None:
        title = Text(f"故障 failed · {failed.fault}")
        console.print(Panel(Text(f"{failed.code}\n{advice}"), title=title, border_style="red"))

    session.show({"failed": {"code": failed.code, "fault": failed.fault, "advice": advice}, **beside}, draw)
    return EXIT_FAILED


ADVICE = {
    "home.missing": "make a deployment first: yunei init",
    "home.exists": "this deployment exists already; choose another --home, or use it",
    "home.busy": "another enclave runs in this home; stop it, or let this command use it through its socket",
    "home.folder": "the home is a file, or its folder cannot be written; choose another --home",
    "home.incomplete": "the control plane's database is missing: restore it from a backup of this deployment",
    "job.failed": "nothing was released; what was reserved stays spent; quote the fault id to the bureau",
    "home.unreadable": "the enclave's folder is missing or incomplete: restore it from a backup of this deployment",
    "enclave.absent": "the enclave did not start; run: yunei enclave doctor",
    "kms.unreadable": "the enclave's kms.json is missing or damaged: restore it from a backup of this deployment",
    "kms.key-missing": "the key-encryption key is gone: restore the enclave's kek folder, or connect its token",
    "kms.permissions": "key and PIN files must be readable by their owner only: chmod 600",
    "kms.pin": "the PIN file is missing, or the token refuses its PIN; check it before the token locks itself",
    "kms.token-absent": "the PKCS#11 token does not answer; check its library, its label and that it is connected",
    "kms.module": "name the PKCS#11 library by its full path, outside the enclave's home",
    "kms.library-absent": "install the extra: pip install 'yunei[hsm]'",
    "rawdata.unreadable": "the disk or the memory of the host failed while raw data were read; look at its system log",
    "rawdata.damaged": "raw data were altered on disk: restore them from a backup, or drop and import them again",
    "jail.absent": "this host cannot build the jail; run: yunei enclave doctor",
    "jail.zygote-gone": "what starts the jobs has ended; run: yunei enclave doctor",
    "jail.open": "the jail does not hold on this host, so nothing runs; run: yunei enclave doctor",
    "key.unreadable": "the key file is missing or no Ed25519 or SM2 key; name it with --officer-key",
    "key.sm2": "SM2 needs an extra: pip install 'yunei[gm]'",
    "quote.support": "checking a TEE quote needs an extra: pip install 'yunei[tee]'",
    "attest.bytecode": "a cached .pyc is not what its source compiles to: delete every __pycache__ of the runner",
    "attest.packages": "a library is missing, or another copy of it would be imported: look at PYTHONPATH, reinstall",
    "enclave.expect": "check the folder of the policy pack; computing needs the enclave's libraries installed here",
    "key.permissions": "a key file must be readable by its owner only: chmod 600",
    "file.unreadable": "check the file's name and that you may read it",
    "file.unwritable": "check that the folder exists and that you may write there; nothing was written",
    "release.no-table": "only a released table can be drawn or written as CSV; look at it with: yunei release get",
    "backup.exists": "a file of that name exists; name another one, backups are never written over",
    "backup.unwritable": "check that the folder exists, that you may write there and that its disk is not full",
    "backup.busy": "another backup writes this file at this moment",
    "backup.changed": "keys of the enclave were replaced during the backup: back up again",
    "backup.key": "this backup was made for another key; name the private half of the right one with --key",
    "backup.damaged": "the file is no whole backup: it was changed or cut off; take another copy",
    "backup.parts": "the file's parts are of different backups; take another copy",
    "backup.format": "the backup was made by a newer version of this program",
    "ledger.damaged": "the ledger in this backup was edited before it was made; take an older backup",
    "workspace.busy": "another backup or restore works here at this moment",
    "workspace.unwritable": "check that you may write beside the home and that the disk is not full",
    "restore.unwritable": "check that you may write beside the home and that the disk is not full",
    "restore.foreign": "this backup is of another enclave than the one that is known; take the right file",
    "restore.token-needed": "its keys are in a token: give --pkcs11-module, --pkcs11-token and --pkcs11-pin-file",
    "restore.token-unexpected": "its keys are files, no token: make sure that this is your backup",
    "enclave.other": "another enclave answers in this home: put the right home back, or restore it from a backup",
    "cli.unexpected": "this is a defect of the program; report the exception's name, printed on standard error",
}


def explain(session: Session, refused: Refused) -> Refusal:
    """The refusal's full text from the deployment's pack, or from the shipped one before there is a deployment."""
    try:
        return PolicyPack(session.home.policies).explain(refused)
    except Failed:
        return PolicyPack(pack_folder()).explain(refused)


def built(make: Callable[[], T]) -> T:
    """A value of the contract from what stands on the command line.

    Raises:
        typer.BadParameter: with the contract's own words, when there is no such value.
    """
    try:
        return make()
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def identifier_from_input() -> str:
    """The one line on standard input; bytes that are no text come back as characters that no identifier has."""
    return sys.stdin.buffer.readline().decode(errors="replace").replace("\ufffd", "\x00").strip()


def readable(path: Path) -> Path:
    """The path, if it is a file that can be read.

    Raises:
        Failed: `file.unreadable`.
    """
    try:
        with path.open("rb"):
            return path
    except OSError:
        raise Failed("file.unreadable") from None
