"""A real home with a real ledger and no running jail, what its control plane has seen, and backups of both."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from enclave_runner.contract.archive import BackupKey
from enclave_runner.contract.codec import digest
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.evidence import Exchange, RestoreReport, Seen, write_evidence
from enclave_runner.contract.grant import Grant
from enclave_runner.contract.privacy import PrivacyLoss
from enclave_runner.contract.receipt import Outcome
from enclave_runner.contract.rulebook import PolicyPack
from enclave_runner.contract.signing import KeyFile, Signed, seal
from enclave_runner.contract.ticket import PURPOSE, Ticket
from enclave_runner.contract.wire import Settlement
from enclave_runner.rawdata.kms import FILE_KMS, KmsChoice
from enclave_runner.supervisor.backup import back_up
from enclave_runner.supervisor.database import Database
from enclave_runner.supervisor.holdings import HeldVersion, Holdings
from enclave_runner.supervisor.home import EnclaveHome
from enclave_runner.supervisor.ledger import Ledger, Maker, utc_now
from enclave_runner.supervisor.limits import read_limits
from enclave_runner.supervisor.restore import Proof, restore
from tests.support.enclave_home import PEOPLE, Bureau, make_bureau, make_grant, make_ticket, query
from tests.support.ledgers import lost, receipt_maker
from tests.support.receipts import altered

BACKUP_KEY = BackupKey(X25519PrivateKey.generate())
LABEL = "ab" * 16
RELEASE = b'{"n":1}'


@dataclass
class Custody:
    """A home, and every order that was ever sent to it, as its control plane keeps them."""

    bureau: Bureau
    exchanges: list[Exchange] = field(default_factory=list)
    tickets: list[tuple[Ticket, Signed, Grant]] = field(default_factory=list)
    note: str | None = None

    @property
    def home(self) -> EnclaveHome:
        """Where the enclave is."""
        return self.bureau.home

    def order(self, ledger: Ledger, ending: str, pico_rho: int = 0, returned: int = 0) -> Ticket:
        """One job that ends as `released`, `failed` or `refused`, or is left `open`. A release may return some ρ."""
        grant = make_grant(budgets=(PrivacyLoss(entity_set="resident", pico_rho=10**15),))
        ticket = make_ticket(self.bureau, query(), grant, data_versions={"people": "v1"}, receipts_seen=self.note)
        signed = seal(ticket, PURPOSE, self.bureau.control)
        losses = (PrivacyLoss(entity_set="resident", pico_rho=pico_rho),) if pico_rho else ()
        settled: Settlement | None = None
        if ending == "refused":
            make = receipt_for(ticket, grant, ending)
            settled = ledger.refuse_ticket(ticket, signed, grant.grant_id, make, utc_now())
        else:
            ledger.open_ticket(ticket, signed, grant, losses, utc_now())
        if ending in ("released", "failed"):
            release = RELEASE if ending == "released" else None
            spent = (lost(pico_rho - returned),) if returned and release else None
            settled = ledger.close_ticket(ticket.ticket_id, receipt_for(ticket, grant, ending), release, spent)
        self.tickets.append((ticket, signed, grant))
        self._keep(signed, settled)
        return ticket

    def _keep(self, signed: Signed, settled: Settlement | None) -> None:
        if settled is not None:
            self.note = settled.checkpoint
        self.exchanges.append(
            Exchange(
                ticket=signed,
                receipt=None if settled is None else settled.receipt,
                release=None if settled is None else settled.release,
            )
        )

    def evidence(self, path: Path) -> Path:
        """What was seen, as a file; settled tickets first."""
        path.unlink(missing_ok=True)
        write_evidence(path, Seen(checkpoint=self.note), sorted(self.exchanges, key=lambda item: item.receipt is None))
        return path


def make_custody(folder: Path, **limits: str) -> Custody:
    """A new home that holds `people`, or says so: there is no file of it."""
    custody = Custody(make_bureau(folder, **limits))
    with closing(Database(custody.home.ledger)) as database:
        Holdings(database).add(HeldVersion("people", "v1", "people@v1", 1, PEOPLE, "2026-01-01"))
    return custody


def receipt_for(ticket: Ticket, grant: Grant, ending: str) -> Maker:
    """A receipt of that ending, for whatever place in the log it gets."""
    return lambda sequence, losses: altered(  # type: ignore[return-value]
        receipt_maker(ticket, grant)(sequence, losses),
        outcome=Outcome(ending),
        rule="grant.mode" if ending == "refused" else None,
        fault="fault-1" if ending == "failed" else None,
        release_sha256=digest(RELEASE) if ending == "released" else None,
    )


@contextmanager
def open_ledger(home: EnclaveHome) -> Iterator[Ledger]:
    """The ledger of a home, under its own key and limits."""
    limits = read_limits(PolicyPack(home.policies))
    with closing(Database(home.ledger)) as database:
        yield Ledger(database, KeyFile.load(home.receipt_key), limits.caps)


def archive_of(home: EnclaveHome, label: str = LABEL) -> bytes:
    """A backup, in memory."""
    sink = io.BytesIO()
    back_up(home, sink, BACKUP_KEY.public, label, lambda: None)
    return sink.getvalue()


def bring_back(
    archive: bytes,
    folder: Path,
    proof: Proof,
    key: BackupKey = BACKUP_KEY,
    label: str | None = LABEL,
    token: KmsChoice = FILE_KMS,
) -> tuple[EnclaveHome, RestoreReport]:
    """Restore into that folder, by a clock that nobody has to wait for."""
    home = EnclaveHome(folder)
    return home, restore(home, io.BytesIO(archive), key, proof, label, quick_clock(), token)


def quick_clock() -> Callable[[], datetime]:
    """A clock by which the current second is over whenever it is asked again."""
    moments = iter((utc_now(), utc_now() + timedelta(seconds=2)))
    return lambda: next(moments)


def spent(ledger: Ledger) -> dict[str, int]:
    """Every odometer, reservations included."""
    return {item.entity_set: item.spent + item.reserved for item in ledger.readings()}


def runs_again(ledger: Ledger, ticket: Ticket, signed: Signed, grant: Grant) -> bool:
    """Whether the enclave would take that ticket now: neither void nor used."""
    not_before = ledger.not_before()
    if not_before is not None and ticket.issued_at < not_before:
        return False
    try:
        ledger.open_ticket(ticket, signed, grant, (), utc_now())
    except Refused:
        return False
    return True
