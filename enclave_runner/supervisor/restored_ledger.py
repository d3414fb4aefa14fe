"""What only a restore may do to a ledger: take back what it has forgotten, and count as spent what nobody can show.

Nothing here lowers an odometer or frees a nonce. A running enclave opens a plain `Ledger` and can do none of it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from enclave_runner.contract.codec import digest, encode
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.evidence import RESTORATION, Restoration
from enclave_runner.contract.privacy import PrivacyLoss
from enclave_runner.contract.receipt import Outcome, Receipt
from enclave_runner.contract.signing import Signed, seal
from enclave_runner.contract.ticket import Ticket
from enclave_runner.supervisor import odometer, standing
from enclave_runner.supervisor.ledger import Ledger, newest_frontier
from enclave_runner.supervisor.odometer import UNKNOWN


class RestoredLedger(Ledger):
    """The ledger of a home that is not in use yet."""

    def adopt(self, found: Iterable[tuple[Signed, Ticket, Signed, Receipt, bytes | None]]) -> int:
        """Take back receipts that this log has forgotten, in order: nonce, losses and place in the log. How many.

        The caller has verified them. What the log still has is skipped; all are taken or none.

        Raises:
            Refused: `restore.gap` when one does not follow the log's end.
        """
        count = 0
        with self._database.transaction() as connection:
            frontier = newest_frontier(connection)
            for order, ticket, signed, receipt, release in found:
                if receipt.sequence < frontier.size:
                    continue
                if receipt.sequence > frontier.size:
                    raise Refused("restore.gap", sequence=frontier.size)
                self._take_back(connection, order, ticket, receipt)
                self._enter(connection, frontier, ticket.ticket_id, signed, release)
                frontier, count = frontier.append(encode(signed)), count + 1
        return count

    def _take_back(self, connection: sqlite3.Connection, order: Signed, ticket: Ticket, receipt: Receipt) -> None:
        is_refused = receipt.outcome is Outcome.REFUSED
        known = connection.execute("SELECT 1 FROM tickets WHERE ticket_id = ?", (ticket.ticket_id,)).fetchone()
        if known:  # open in the backup, with all that it had reserved
            odometer.give_back(connection, ticket.ticket_id, receipt.losses)
        connection.execute(
            "INSERT INTO tickets VALUES (?, ?, ?, ?, ?) ON CONFLICT (ticket_id) DO UPDATE SET state = excluded.state",
            (
                ticket.ticket_id,
                receipt.grant_id,
                encode(order),
                "refused" if is_refused else "closed",
                receipt.finished_at.isoformat(),
            ),
        )
        if not is_refused:
            self._remember_time(connection, ticket.issued_at)
        for loss in () if known else receipt.losses:
            odometer.book(connection, ticket.ticket_id, receipt.grant_id, loss)

    def reopen(self, ticket: Ticket, signed: Signed, grant_id: str, losses: tuple[PrivacyLoss, ...]) -> bool:
        """Book a ticket that may have run before a restore as one that a crash left open; False when it is known.

        No cap is asked: what may have been spent is spent.
        """
        with self._database.transaction() as connection:
            if connection.execute("SELECT 1 FROM tickets WHERE ticket_id = ?", (ticket.ticket_id,)).fetchone():
                return False
            self._use_nonce(connection, ticket, signed, grant_id, "open", ticket.issued_at)
            self._remember_time(connection, ticket.issued_at)
            for loss in self._caps.with_nested(losses):
                odometer.book(connection, ticket.ticket_id, grant_id, loss)
        return True

    def record_restoration(self, restoration: Restoration, entity_sets: Iterable[str]) -> Signed:
        """Sign and keep the statement. A lossy one spends the lifetime of the given entity sets and of all others."""
        signed = seal(restoration, RESTORATION, self._signer)
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO restorations(signed, not_before) VALUES (?, ?)",
                (encode(signed), restoration.not_before.isoformat()),
            )
            standing.close_all(connection)
            if restoration.is_lossy:
                self._spend_all(connection, signed, restoration, entity_sets)
        return signed

    def _spend_all(
        self, connection: sqlite3.Connection, signed: Signed, restoration: Restoration, entity_sets: Iterable[str]
    ) -> None:
        name = f"restore-{digest(encode(signed))[:32]}"
        connection.execute(
            "INSERT INTO tickets VALUES (?, ?, ?, 'restored', ?)",
            (name, RESTORATION, encode(signed), restoration.not_before.isoformat()),
        )
        for entity_set in sorted({*entity_sets, *odometer.entity_sets(connection), UNKNOWN}):
            lifetime, spent = self._caps.lifetime(entity_set), odometer.spent(connection, entity_set)
            left = PrivacyLoss(
                entity_set=entity_set,
                pico_rho=max(0, lifetime.pico_rho - spent.pico_rho),
                atto_delta=max(0, lifetime.atto_delta - spent.atto_delta),
            )
            odometer.book(connection, name, RESTORATION, left)
