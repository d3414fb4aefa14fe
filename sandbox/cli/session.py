"""One invocation of the command line: which deployment, who acts, and how results are shown."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.rulebook import PolicyPack, Refusal
from sandbox.settings import Home, default_home, pack_folder
from sandbox.workflow.enclave import start_enclave
from sandbox.workflow.office import Actor, Office, local_actor, open_office
from sandbox.workflow.recover import recover

EXIT_OK, EXIT_USAGE, EXIT_REFUSED, EXIT_FAILED, EXIT_NOT_VERIFIED = 0, 2, 3, 4, 5


@dataclass(frozen=True)
class Session:
    """Global options and the terminal."""

    home: Home = field(default_factory=lambda: Home(default_home()))
    as_json: bool = False
    party: str = "bureau"
    person: str = field(default_factory=getpass.getuser)
    console: Console = field(default_factory=Console)

    @contextmanager
    def office(self) -> Iterator[tuple[Office, Actor]]:
        """The control plane with a running enclave, and who acts."""
        with start_enclave(self.home) as enclave:
            office = open_office(self.home, enclave.door)
            if enclave.process is not None:
                # A crash may have left tickets unsettled. With an enclave that runs already, somebody else may
                # be between writing a ticket and sending it: that is not ours to bring home.
                recover(office)
            yield office, local_actor(office, self.party, self.person)

    def show(self, document: object, people: Callable[[Console], None]) -> None:
        """One JSON document for scripts, or what people look at."""
        if self.as_json:
            print_json(document)
        else:
            people(self.console)

    def table(self, document: object, title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
        """A table for people; the document for scripts. Columns that start with '>' are right-aligned."""

        def draw(console: Console) -> None:
            table = Table(title=title, title_justify="left", header_style="bold")
            for column in columns:
                table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
            for row in rows:
                table.add_row(*(str(cell) for cell in row))
            console.print(table if rows else f"{title}: none")

        self.show(document, draw)


def print_json(document: object) -> None:
    """Exactly one JSON document on standard output."""
    encoded = msgspec.json.encode(document, order="deterministic")
    print(msgspec.json.format(encoded, indent=2).decode())  # noqa: T201 - this is the output


def report_refused(session: Session, refused: Refused) -> int:
    """Say which rule said no, under which article, and what would make it pass."""
    refusal = explain(session, refused)

    def draw(console: Console) -> None:
        article = (
            f"第{refusal.article}条 / art. {refusal.article}" if refusal.article != "-" else "平台规则 / platform rule"
        )
        body = f"{refusal.reason_zh}\n{refusal.remedy_zh}\n\n{refusal.reason}\n{refusal.remedy}"
        console.print(Panel(body, title=f"拒绝 refused · {refusal.rule} · {article}", border_style="yellow"))

    session.show({"refused": msgspec.to_builtins(refusal)}, draw)
    return EXIT_REFUSED


def report_failed(session: Session, failed: Failed) -> int:
    """Say that something broke, by its opaque id, and what to do."""
    advice = ADVICE.get(failed.code, "look the fault id up in the enclave's faults.log, or try again")

    def draw(console: Console) -> None:
        console.print(Panel(f"{failed.code}\n{advice}", title=f"故障 failed · {failed.fault}", border_style="red"))

    session.show({"failed": {"code": failed.code, "fault": failed.fault, "advice": advice}}, draw)
    return EXIT_FAILED


ADVICE = {
    "home.missing": "make a deployment first: yunei init",
    "home.exists": "this deployment exists already; choose another --home, or use it",
    "home.busy": "another enclave runs in this home; stop it, or let this command use it through its socket",
    "enclave.absent": "the enclave did not start; run: yunei enclave doctor",
    "jail.absent": "this host cannot build the jail; allow user namespaces (user.max_user_namespaces > 0)",
    "jail.open": "the jail does not hold on this host, so nothing runs; run: yunei enclave doctor",
    "key.unreadable": "the key file is missing or no Ed25519 key; name it with --officer-key",
    "key.permissions": "a key file must be readable by its owner only: chmod 600",
    "file.unreadable": "check the file's name and that you may read it",
    "catalogue.malformed": "compare the file with data/adult.toml and docs/how-to/catalogue.md",
}


def explain(session: Session, refused: Refused) -> Refusal:
    """The refusal's full text from the deployment's pack, or from the shipped one before there is a deployment."""
    folder = session.home.policies if session.home.policies.is_dir() else pack_folder()
    return PolicyPack(folder).explain(refused)


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
