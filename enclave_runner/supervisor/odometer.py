"""The odometer's tables: what every ticket reserved, and what it was certain not to have spent.

Both are append-only: the loss of a ticket is what it reserved less what it gave back, and it gives back once, while it
is open, never more than it had reserved. Every function works inside the transaction of its caller.
"""

from __future__ import annotations

import json
import sqlite3
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache
from typing import NamedTuple

from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.grant import Grant
from enclave_runner.contract.privacy import DELTA_UNIT, RHO_UNIT, PrivacyLoss, delta_text
from enclave_runner.contract.wire import GrantReading, Reading
from enclave_runner.dp.conversion import epsilon_of
from enclave_runner.supervisor.caps import Caps, Losses

# Stands for every entity set that a restored ledger has not met yet.
UNKNOWN = "*"
# The δ at which a loss is shown as an ε, beside the δ that was spent.
SHOWN_DELTA = DELTA_UNIT // 10**6
# Above it OpenDP's curve overflows; the simple bound of Bun and Steinke (2016, proposition 1.3) holds for every ρ.
CURVE_UNTIL = 100 * RHO_UNIT

SCHEMA = """
CREATE TABLE IF NOT EXISTS losses(
    ticket_id TEXT NOT NULL REFERENCES tickets, grant_id TEXT NOT NULL, entity_set TEXT NOT NULL,
    pico_rho INTEGER NOT NULL CHECK (pico_rho >= 0),
    atto_delta INTEGER NOT NULL DEFAULT 0 CHECK (atto_delta >= 0), PRIMARY KEY (ticket_id, entity_set));
CREATE TABLE IF NOT EXISTS returns(
    ticket_id TEXT NOT NULL, grant_id TEXT NOT NULL, entity_set TEXT NOT NULL,
    pico_rho INTEGER NOT NULL CHECK (pico_rho >= 0), atto_delta INTEGER NOT NULL CHECK (atto_delta >= 0),
    PRIMARY KEY (ticket_id, entity_set), FOREIGN KEY (ticket_id, entity_set) REFERENCES losses);
CREATE INDEX IF NOT EXISTS losses_of_set ON losses(entity_set, grant_id, pico_rho, atto_delta);
CREATE INDEX IF NOT EXISTS returns_of_set ON returns(entity_set, grant_id, pico_rho, atto_delta);
CREATE TRIGGER IF NOT EXISTS losses_keep BEFORE DELETE ON losses BEGIN SELECT RAISE(ABORT, 'the odometer only grows');
    END;
CREATE TRIGGER IF NOT EXISTS losses_fixed BEFORE UPDATE ON losses BEGIN SELECT RAISE(ABORT, 'the odometer only
    grows'); END;
CREATE TRIGGER IF NOT EXISTS returns_keep BEFORE DELETE ON returns BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS returns_fixed BEFORE UPDATE ON returns BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS returns_fit BEFORE INSERT ON returns WHEN NOT EXISTS (
    SELECT 1 FROM losses JOIN tickets USING (ticket_id) WHERE losses.ticket_id = NEW.ticket_id
    AND losses.entity_set = NEW.entity_set AND losses.grant_id = NEW.grant_id AND tickets.state = 'open'
    AND NEW.pico_rho <= losses.pico_rho AND NEW.atto_delta <= losses.atto_delta)
    BEGIN SELECT RAISE(ABORT, 'more than was reserved'); END;
"""


class Amount(NamedTuple):
    """A sum of losses; sums may be larger than one loss may be."""

    pico_rho: int
    atto_delta: int


def migrate(connection: sqlite3.Connection) -> None:
    """Give the table of a ledger from before there was a δ its column; every loss in it had none."""
    columns = {row[1] for row in connection.execute("PRAGMA table_info(losses)")}
    if columns and "atto_delta" not in columns:
        connection.execute(
            "ALTER TABLE losses ADD COLUMN atto_delta INTEGER NOT NULL DEFAULT 0 CHECK (atto_delta >= 0)"
        )


def reserve(connection: sqlite3.Connection, ticket_id: str, grant: Grant, losses: Losses, caps: Caps) -> None:
    """Book the losses of an open ticket.

    Raises:
        Refused: `grant.budget`, `odometer.spent`: what is short, ρ or δ, and how much of it is left.
    """
    for loss in losses:
        _count_unknown(connection, loss.entity_set)
        short = _shortage(
            loss, caps.allotment(grant, loss.entity_set), spent(connection, loss.entity_set, grant.grant_id)
        )
        if short:
            raise Refused("grant.budget", **short)
        short = _shortage(loss, caps.lifetime(loss.entity_set), spent(connection, loss.entity_set))
        if short:
            raise Refused("odometer.spent", **short)
        book(connection, ticket_id, grant.grant_id, loss)


def book(connection: sqlite3.Connection, ticket_id: str, grant_id: str, loss: PrivacyLoss) -> None:
    """Write one loss down; no cap is asked."""
    connection.execute(
        "INSERT INTO losses(ticket_id, grant_id, entity_set, pico_rho, atto_delta) VALUES (?, ?, ?, ?, ?)",
        (ticket_id, grant_id, loss.entity_set, loss.pico_rho, loss.atto_delta),
    )


def give_back(connection: sqlite3.Connection, ticket_id: str, spent_in_the_end: Losses) -> None:
    """Return what an open ticket reserved and is certain not to have spent.

    Raises:
        Failed: `ledger.loss` for a loss that was not reserved.
    """
    left = {loss.entity_set: loss for loss in spent_in_the_end}
    for grant_id, name, pico_rho, atto_delta in connection.execute(
        "SELECT grant_id, entity_set, pico_rho, atto_delta FROM losses WHERE ticket_id = ?", (ticket_id,)
    ).fetchall():
        kept = left.pop(name, PrivacyLoss(entity_set=name, pico_rho=0))
        back = Amount(pico_rho - kept.pico_rho, atto_delta - kept.atto_delta)
        if min(back) < 0:
            raise Failed("ledger.loss")
        if max(back) > 0:
            connection.execute(
                "INSERT INTO returns(ticket_id, grant_id, entity_set, pico_rho, atto_delta) VALUES (?, ?, ?, ?, ?)",
                (ticket_id, grant_id, name, *back),
            )
    if any(loss.pico_rho or loss.atto_delta for loss in left.values()):
        raise Failed("ledger.loss")


def spent(connection: sqlite3.Connection, entity_set: str, grant_id: str | None = None) -> Amount:
    """What a set has lost or has reserved, by one grant or by all."""
    where, values = "entity_set = ?", [entity_set]
    if grant_id is not None:
        where, values = f"{where} AND grant_id = ?", [entity_set, grant_id]
    reserved, returned = (
        connection.execute(
            f"SELECT coalesce(sum(pico_rho), 0), coalesce(sum(atto_delta), 0) FROM {table} WHERE {where}", values
        ).fetchone()
        for table in ("losses", "returns")
    )
    return Amount(reserved[0] - returned[0], reserved[1] - returned[1])


def losses_of(connection: sqlite3.Connection, ticket_id: str) -> Losses:
    """What a ticket has lost, by name of the entity set; sets that lost nothing are left out."""
    rows = connection.execute(
        "SELECT l.entity_set, l.pico_rho - coalesce(r.pico_rho, 0), l.atto_delta - coalesce(r.atto_delta, 0) "
        "FROM losses l LEFT JOIN returns r USING (ticket_id, entity_set) WHERE l.ticket_id = ? ORDER BY l.entity_set",
        (ticket_id,),
    ).fetchall()
    return tuple(
        PrivacyLoss(entity_set=name, pico_rho=rho, atto_delta=delta) for name, rho, delta in rows if rho or delta
    )


def entity_sets(connection: sqlite3.Connection) -> frozenset[str]:
    """Every set that was ever charged."""
    return frozenset(row[0] for row in connection.execute("SELECT DISTINCT entity_set FROM losses"))


def readings(connection: sqlite3.Connection, held: frozenset[str], caps: Caps) -> tuple[Reading, ...]:
    """The odometer of every set that was ever charged. Tickets that are held count as running, at all they reserved."""
    rows = connection.execute(
        "SELECT l.entity_set, sum(l.pico_rho), sum(l.atto_delta), coalesce(sum(r.pico_rho), 0), "
        "coalesce(sum(r.atto_delta), 0) FROM losses l LEFT JOIN returns r USING (ticket_id, entity_set) "
        "WHERE l.ticket_id IN (SELECT ticket_id FROM tickets WHERE state = 'open' UNION "
        "SELECT value FROM json_each(?)) GROUP BY l.entity_set",
        (json.dumps(sorted(held)),),
    ).fetchall()
    running = {name: (Amount(*sums[:2]), Amount(sums[0] - sums[2], sums[1] - sums[3])) for name, *sums in rows}
    found = []
    for name in sorted(entity_sets(connection) - {UNKNOWN}):
        reserved, kept = running.get(name, (Amount(0, 0), Amount(0, 0)))
        lost = spent(connection, name)
        ended = Amount(lost.pico_rho - kept.pico_rho, lost.atto_delta - kept.atto_delta)
        found.append(_reading(caps.lifetime(name), ended, reserved))
    return tuple(found)


def _reading(lifetime: PrivacyLoss, ended: Amount, running: Amount) -> Reading:
    at_delta = ended.atto_delta + running.atto_delta + SHOWN_DELTA
    return Reading(
        entity_set=lifetime.entity_set,
        spent=ended.pico_rho,
        reserved=running.pico_rho,
        lifetime=lifetime.pico_rho,
        spent_delta=ended.atto_delta,
        reserved_delta=running.atto_delta,
        lifetime_delta=lifetime.atto_delta,
        epsilon=shown_epsilon(ended.pico_rho + running.pico_rho),
        at_delta=delta_text(at_delta),
    )


@lru_cache(maxsize=1024)
def shown_epsilon(pico_rho: int) -> str:
    """The ε of that ρ at `SHOWN_DELTA`, rounded up to four digits after the point."""
    delta = Decimal(SHOWN_DELTA) / DELTA_UNIT
    if pico_rho <= CURVE_UNTIL:
        epsilon = Decimal(epsilon_of(pico_rho, float(delta)))
    else:
        rho = Decimal(pico_rho) / RHO_UNIT
        epsilon = rho + 2 * (rho * -delta.ln()).sqrt()
    return str(epsilon.quantize(Decimal("0.0001"), rounding=ROUND_CEILING))


def grant_readings(connection: sqlite3.Connection, held: frozenset[str]) -> tuple[GrantReading, ...]:
    """Uses and losses of every grant that was ever used; what held tickets gave back is not told yet."""
    uses = connection.execute(
        "SELECT grant_id, count(*) FROM tickets WHERE state NOT IN ('refused', 'restored') "
        "GROUP BY grant_id ORDER BY grant_id"
    ).fetchall()
    losses: dict[str, list[PrivacyLoss]] = {}
    returned = _returned_by_grant(connection, held)
    for grant_id, name, rho, delta in connection.execute(
        "SELECT grant_id, entity_set, sum(pico_rho), sum(atto_delta) FROM losses "
        "GROUP BY entity_set, grant_id ORDER BY entity_set"
    ).fetchall():
        back = returned.get((grant_id, name), Amount(0, 0))
        if rho > back.pico_rho or delta > back.atto_delta:
            left = PrivacyLoss(entity_set=name, pico_rho=rho - back.pico_rho, atto_delta=delta - back.atto_delta)
            losses.setdefault(grant_id, []).append(left)
    return tuple(
        GrantReading(grant_id=grant_id, uses=count, losses=tuple(losses.get(grant_id, ()))) for grant_id, count in uses
    )


def _returned_by_grant(connection: sqlite3.Connection, held: frozenset[str]) -> dict[tuple[str, str], Amount]:
    rows = connection.execute(
        "SELECT grant_id, entity_set, sum(pico_rho), sum(atto_delta) FROM returns "
        "WHERE ticket_id NOT IN (SELECT value FROM json_each(?)) GROUP BY grant_id, entity_set",
        (json.dumps(sorted(held)),),
    ).fetchall()
    return {(grant_id, name): Amount(rho, delta) for grant_id, name, rho, delta in rows}


def _count_unknown(connection: sqlite3.Connection, entity_set: str) -> None:
    """An entity set that is met for the first time after a restore may have been spent before it."""
    connection.execute(
        "INSERT INTO losses(ticket_id, grant_id, entity_set, pico_rho, atto_delta) "
        "SELECT ticket_id, grant_id, ?, pico_rho, atto_delta FROM losses WHERE entity_set = ? "
        "AND NOT EXISTS (SELECT 1 FROM losses known WHERE known.entity_set = ?)",
        (entity_set, UNKNOWN, entity_set),
    )


def _shortage(loss: PrivacyLoss, allowed: PrivacyLoss, used: Amount) -> dict[str, str]:
    """The facts of a refusal: what is short, and how much of it is left; empty when the loss fits."""
    rho_left = allowed.pico_rho - used.pico_rho
    if loss.pico_rho > rho_left:
        return _facts(loss, "ρ", _rho(loss.pico_rho), _rho(rho_left))
    delta_left = allowed.atto_delta - used.atto_delta
    if loss.atto_delta > delta_left:
        return _facts(loss, "δ", delta_text(loss.atto_delta), delta_text(delta_left))
    return {}


def _facts(loss: PrivacyLoss, what: str, asked: str, left: str) -> dict[str, str]:
    return {"entity_set": loss.entity_set, "what": what, "asked": asked, "left": left}


def _rho(pico_rho: int) -> str:
    return f"{pico_rho / RHO_UNIT:.6f}"
