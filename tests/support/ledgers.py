"""A real ledger on a real file, with tickets and receipts that need no running enclave."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from enclave_runner.contract.codec import encode
from enclave_runner.contract.grant import Grant, Mode
from enclave_runner.contract.merkle import frontier_of, open_checkpoint
from enclave_runner.contract.privacy import PrivacyLoss
from enclave_runner.contract.receipt import Outcome, Receipt
from enclave_runner.contract.signing import KeyFile, Signed, seal
from enclave_runner.contract.ticket import PURPOSE, Charge, Ticket
from enclave_runner.contract.wire import Settlement
from enclave_runner.supervisor.caps import Caps, Losses
from enclave_runner.supervisor.database import Database
from enclave_runner.supervisor.ledger import RECEIPT_ORIGIN, Ledger, Maker
from tests.support.attestations import make_measurement
from tests.support.enclave_home import make_grant, query

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
LIFETIME = 1000
KEY = KeyFile(Ed25519PrivateKey.generate())
CONTROL = KeyFile(Ed25519PrivateKey.generate())
GRANT_SIGNATURE = Signed(purpose="grant", key_id="", algorithm="ed25519", payload=b"", signature=b"")


@dataclass(frozen=True)
class Book:
    """A ledger and the tickets that were tried on it."""

    ledger: Ledger
    database: Database

    def open(
        self,
        grant: Grant,
        pico_rho: int,
        ticket_id: str | None = None,
        entity_set: str = "resident",
        atto_delta: int = 0,
    ) -> Ticket:
        """Open a ticket that reserves one loss (none for 0)."""
        ticket = make_open_ticket(ticket_id)
        losses = (lost(pico_rho, atto_delta, entity_set),) if pico_rho or atto_delta else ()
        self.ledger.open_ticket(ticket, seal(ticket, PURPOSE, CONTROL), grant, losses, NOW)
        return ticket

    def close(
        self,
        ticket: Ticket,
        grant: Grant,
        release: bytes | None = b"{}",
        spent: Losses | None = None,
        answer_key: str | None = None,
    ) -> Settlement:
        """Close it with a receipt."""
        return self.ledger.close_ticket(ticket.ticket_id, receipt_maker(ticket, grant), release, spent, answer_key)

    def refuse(self, ticket: Ticket, grant: Grant) -> Settlement:
        """Use a ticket up without opening it."""
        signed = seal(ticket, PURPOSE, CONTROL)
        return self.ledger.refuse_ticket(ticket, signed, grant.grant_id, receipt_maker(ticket, grant), NOW)

    @property
    def spent(self) -> int:
        """ρ·10¹² on the odometer of residents, reservations included."""
        return self.spent_of("resident").pico_rho

    def spent_of(self, entity_set: str) -> PrivacyLoss:
        """The odometer of that set, reservations included."""
        found = [item for item in self.ledger.readings() if item.entity_set == entity_set]
        return lost(
            sum(item.spent + item.reserved for item in found),
            sum(item.spent_delta + item.reserved_delta for item in found),
            entity_set,
        )

    def check_log(self) -> int:
        """The log recomputed from its receipts must be what the checkpoint signs; how many receipts it has."""
        return check_log(self.ledger, KEY)


def check_log(ledger: Ledger, key: KeyFile) -> int:
    """As `Book.check_log`, for the log of any enclave."""
    receipts = ledger.receipts(0, 10**6)
    checkpoint = open_checkpoint(ledger.checkpoint(), RECEIPT_ORIGIN, key.public_key)
    frontier = frontier_of(encode(receipt) for receipt in receipts)
    assert (checkpoint.size, checkpoint.root) == (frontier.size, frontier.root)
    return checkpoint.size


@contextmanager
def open_book(
    folder: Path, lifetime: int = LIFETIME, delta: int = 0, nested: dict[str, str] | None = None
) -> Iterator[Book]:
    """The ledger in that folder, with one lifetime for every entity set."""
    caps = Caps(lambda entity_set: lost(lifetime, delta, entity_set), nested or {})
    database = Database(folder / "ledger.db")
    try:
        yield Book(Ledger(database, KEY, caps), database)
    finally:
        database.close()


def lost(pico_rho: int, atto_delta: int = 0, entity_set: str = "resident") -> PrivacyLoss:
    """A loss, of residents unless said otherwise."""
    return PrivacyLoss(entity_set=entity_set, pico_rho=pico_rho, atto_delta=atto_delta)


def budgeted(pico_rho: int = LIFETIME, max_uses: int = 1000, grant_id: str | None = None, atto_delta: int = 0) -> Grant:
    """A grant of that budget over residents."""
    name = grant_id or f"grant-{secrets.token_hex(6)}"
    return make_grant(grant_id=name, budgets=(lost(pico_rho, atto_delta),), max_uses=max_uses)


def make_open_ticket(ticket_id: str | None = None) -> Ticket:
    """A ticket whose content the ledger does not look at."""
    return Ticket(
        ticket_id=ticket_id or f"ticket-{secrets.token_hex(8)}",
        submission_id="submission-1",
        grant=GRANT_SIGNATURE,
        job=query(),
        data_versions={},
        input_sha256=None,
        policy_sha256="",
        charge=Charge(tariff_id="t", unit_price_fen=1, legal_basis="x"),
        issued_at=NOW,
        expires_at=NOW + timedelta(minutes=5),
        audit_size=0,
        audit_root="",
    )


def receipt_maker(ticket: Ticket, grant: Grant) -> Maker:
    """A receipt for whatever place in the log and losses it gets."""
    return lambda sequence, losses: Receipt(
        receipt_id=f"rcpt-{secrets.token_hex(12)}",
        sequence=sequence,
        ticket_id=ticket.ticket_id,
        submission_id=ticket.submission_id,
        grant_id=grant.grant_id,
        operator_id=grant.operator_id,
        purpose=grant.purpose,
        mode=Mode.QUERY,
        outcome=Outcome.RELEASED,
        rule=None,
        facts={},
        fault=None,
        losses=losses,
        data_versions={},
        input_sha256=None,
        release_sha256=None,
        policy_sha256="",
        charge=ticket.charge,
        measurement=make_measurement(),
        audit_size=0,
        audit_root="",
        finished_at=NOW,
    )
