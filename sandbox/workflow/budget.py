"""The odometer as the enclave tells it."""

from __future__ import annotations

from dataclasses import dataclass

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.wire import AskOdometer, GrantReading, Odometer, Reading
from sandbox.rules.access import Action, Record
from sandbox.store.database import reading
from sandbox.store.grants import GRANTS
from sandbox.workflow.office import Actor, Office, authorize, is_allowed


@dataclass(frozen=True)
class Budgets:
    """Lifetime loss of every entity set across all operators, and what each visible grant has used."""

    readings: tuple[Reading, ...]
    grants: tuple[GrantReading, ...]


def read_budget(office: Office, actor: Actor) -> Budgets:
    """All odometers, and the grants that the actor may see.

    Raises:
        Refused: by access.
    """
    authorize(office, actor, Action.READ_BUDGET, Record("budget", "all"))
    reply = office.enclave.call(AskOdometer())
    if not isinstance(reply, Odometer):
        raise Failed("enclave.answer")
    with reading(office.engine) as connection:
        owners = {record.grant.grant_id: record.grant.operator_id for record in GRANTS.listed(connection)}
    visible = tuple(
        item
        for item in reply.grants
        if is_allowed(
            office, actor, Action.READ_GRANT, Record("grant", item.grant_id, (owners.get(item.grant_id, ""),))
        )
    )
    return Budgets(reply.readings, visible)
