"""Grants: drafted by the bureau, signed by an officer elsewhere, revoked for good (article 28)."""

from __future__ import annotations

from dataclasses import replace

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import PURPOSE, Grant
from enclave_runner.contract.signing import Signed, unseal
from sandbox.domain.grant import GRANT_LIFECYCLE, GrantRecord, GrantStatus
from sandbox.rules.access import Action, Record
from sandbox.rules.admission import decide_draft
from sandbox.store import datasets
from sandbox.store.database import reading, writing
from sandbox.store.grants import GRANTS
from sandbox.store.parties import PARTIES
from sandbox.store.scenarios import SCENARIOS
from sandbox.workflow.office import Actor, Office, authorize, is_allowed, note_act


def draft_grant(office: Office, actor: Actor, grant: Grant) -> GrantRecord:
    """File a draft; it allows nothing before an officer has signed it.

    Raises:
        Refused: by access, by the elements of article 28, the negative list, a core column, or `record.exists`.
    """
    authorize(office, actor, Action.DRAFT_GRANT, _record(grant))
    record = GrantRecord(grant, GrantStatus.DRAFT)
    with writing(office.engine) as connection:
        scenario = SCENARIOS.get(connection, grant.scenario_id)
        operator = PARTIES.get(connection, grant.operator_id)
        decide_draft(grant, scenario, operator, datasets.catalogue(connection), office.clock()).enforce()
        GRANTS.add(connection, record)
        note_act(office, connection, actor, "grant.draft", grant.grant_id, operator=grant.operator_id)
    return record


def sign_grant(office: Office, actor: Actor, grant_id: str, signed: Signed) -> GrantRecord:
    """File an officer's signature over exactly this draft.

    Raises:
        Refused: by access, `record.unknown`, `signature.invalid`, `grant.differs`, `lifecycle.illegal`.
    """
    with writing(office.engine) as connection:
        record = GRANTS.get(connection, grant_id)
        authorize(office, actor, Action.SIGN_GRANT, _record(record.grant))
        if unseal(signed, PURPOSE, office.officers, Grant) != record.grant:
            raise Refused("grant.differs", grant=grant_id)
        status = GRANT_LIFECYCLE.check(record.status, GrantStatus.SIGNED)
        record = GrantRecord(record.grant, status, signed)
        GRANTS.save(connection, record)
        note_act(office, connection, actor, "grant.sign", grant_id, officer_key=signed.key_id)
    return record


def revoke_grant(office: Office, actor: Actor, grant_id: str) -> GrantRecord:
    """End a grant for good: from now on nothing is admitted or dispatched under it.

    Raises:
        Refused: by access, `record.unknown`, `lifecycle.illegal`.
    """
    with writing(office.engine) as connection:
        record = GRANTS.get(connection, grant_id)
        authorize(office, actor, Action.REVOKE_GRANT, _record(record.grant))
        record = replace(record, status=GRANT_LIFECYCLE.check(record.status, GrantStatus.REVOKED))
        GRANTS.save(connection, record)
        note_act(office, connection, actor, "grant.revoke", grant_id)
    return record


def get_grant(office: Office, actor: Actor, grant_id: str) -> GrantRecord:
    """One grant.

    Raises:
        Refused: by access, or `record.unknown`.
    """
    with reading(office.engine) as connection:
        record = GRANTS.get(connection, grant_id)
    authorize(office, actor, Action.READ_GRANT, _record(record.grant))
    return record


def list_grants(office: Office, actor: Actor) -> tuple[GrantRecord, ...]:
    """The grants that the actor may see."""
    with reading(office.engine) as connection:
        records = GRANTS.listed(connection)
    return tuple(item for item in records if is_allowed(office, actor, Action.READ_GRANT, _record(item.grant)))


def _record(grant: Grant) -> Record:
    return Record("grant", grant.grant_id, (grant.operator_id,))
