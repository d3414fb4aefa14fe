"""Registering parties, and suspending, restoring or terminating them (article 49)."""

from __future__ import annotations

from dataclasses import replace

from enclave_runner.contract.errors import Refused
from sandbox.domain.party import PARTY_LIFECYCLE, Party, PartyStatus
from sandbox.rules.access import Action, Record
from sandbox.rules.duties import decide_ground
from sandbox.store.database import reading, writing
from sandbox.store.parties import PARTIES
from sandbox.workflow.office import Actor, Office, authorize, is_allowed, note_act


def register_party(office: Office, actor: Actor, party: Party) -> None:
    """File a new party, active from now on. One organisation is one party, whatever became of it (article 49).

    Raises:
        Refused: by access, `record.exists`, or `party.code-taken` when another party has its credit code.
    """
    authorize(office, actor, Action.REGISTER_PARTY, _record(party.party_id))
    with writing(office.engine) as connection:
        PARTIES.add(connection, replace(party, status=PartyStatus.ACTIVE))
        if sum(known.credit_code == party.credit_code for known in PARTIES.listed(connection)) > 1:
            raise Refused("party.code-taken", party=party.party_id)
        note_act(
            office,
            connection,
            actor,
            "party.register",
            party.party_id,
            role=party.role.value,
            party_sha256=party.fixed_sha256,
        )


def list_parties(office: Office, actor: Actor) -> tuple[Party, ...]:
    """The parties that the actor may see, by id."""
    with reading(office.engine) as connection:
        parties = PARTIES.listed(connection)
    return tuple(p for p in parties if is_allowed(office, actor, Action.READ_PARTY, _record(p.party_id)))


def get_party(office: Office, actor: Actor, party_id: str) -> Party:
    """One party.

    Raises:
        Refused: by access, or `record.unknown`.
    """
    authorize(office, actor, Action.READ_PARTY, _record(party_id))
    with reading(office.engine) as connection:
        return PARTIES.get(connection, party_id)


def set_party_status(office: Office, actor: Actor, party_id: str, status: PartyStatus, ground: str) -> Party:
    """Move a party along its life cycle, on a stated ground.

    Raises:
        Refused: by access, `ground.missing` without a ground, `party.own-status` for the acting party itself,
            `lifecycle.illegal`, `record.unknown`.
    """
    authorize(office, actor, Action.SUSPEND_PARTY, _record(party_id))
    decide_ground(ground).enforce()
    if party_id == actor.party.party_id:
        raise Refused("party.own-status")
    with writing(office.engine) as connection:
        party = PARTIES.get(connection, party_id)
        changed = replace(party, status=PARTY_LIFECYCLE.check(party.status, status))
        PARTIES.save(connection, changed)
        note_act(office, connection, actor, f"party.{status.value}", party_id, ground=ground.strip())
    return changed


def _record(party_id: str) -> Record:
    return Record("party", party_id, (party_id,))
