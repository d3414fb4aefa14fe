"""Authorizing application scenarios, and ending them (article 35)."""

from __future__ import annotations

from dataclasses import replace

from enclave_runner.contract.errors import Refused
from sandbox.domain.party import Role
from sandbox.domain.scenario import Scenario
from sandbox.rules.access import Action, Record
from sandbox.store.database import reading, writing
from sandbox.store.parties import PARTIES
from sandbox.store.scenarios import SCENARIOS
from sandbox.workflow.office import Actor, Office, authorize, is_allowed, note_act


def authorize_scenario(office: Office, actor: Actor, scenario: Scenario) -> None:
    """File an authorized scenario. It can end early, and is never changed: a changed purpose is another scenario.

    Raises:
        Refused: by access, `record.exists`, `record.unknown`, `scenario.operator`, `scenario.expired`.
    """
    authorize(office, actor, Action.AUTHORIZE_SCENARIO, _record(scenario))
    if scenario.valid_until <= office.clock():
        raise Refused("scenario.expired", until=scenario.valid_until.date().isoformat())
    with writing(office.engine) as connection:
        if PARTIES.get(connection, scenario.operator_id).role is not Role.OPERATOR:
            raise Refused("scenario.operator", party=scenario.operator_id)
        for recipient in scenario.recipients:
            PARTIES.get(connection, recipient)
        SCENARIOS.add(connection, scenario)
        note_act(
            office,
            connection,
            actor,
            "scenario.authorize",
            scenario.scenario_id,
            operator=scenario.operator_id,
            purpose=scenario.purpose.value,
            evidence_sha256=scenario.evidence_sha256,
        )


def end_scenario(office: Office, actor: Actor, scenario_id: str) -> Scenario:
    """End a scenario now, for good: grants under it stay as they are, and nothing is dispatched under them any more.

    Raises:
        Refused: by access, `record.unknown`, `scenario.expired` when it has ended before.
    """
    with writing(office.engine) as connection:
        scenario = SCENARIOS.get(connection, scenario_id)
        authorize(office, actor, Action.AUTHORIZE_SCENARIO, _record(scenario))
        now = office.clock()
        if scenario.valid_until <= now:
            raise Refused("scenario.expired", until=scenario.valid_until.date().isoformat())
        ended = replace(scenario, valid_until=now)
        SCENARIOS.save(connection, ended)
        note_act(office, connection, actor, "scenario.end", scenario_id)
    return ended


def list_scenarios(office: Office, actor: Actor) -> tuple[Scenario, ...]:
    """The scenarios that the actor may see."""
    with reading(office.engine) as connection:
        scenarios = SCENARIOS.listed(connection)
    return tuple(item for item in scenarios if is_allowed(office, actor, Action.READ_SCENARIO, _record(item)))


def get_scenario(office: Office, actor: Actor, scenario_id: str) -> Scenario:
    """One scenario.

    Raises:
        Refused: by access, or `record.unknown`.
    """
    with reading(office.engine) as connection:
        scenario = SCENARIOS.get(connection, scenario_id)
    authorize(office, actor, Action.READ_SCENARIO, _record(scenario))
    return scenario


def _record(scenario: Scenario) -> Record:
    return Record("scenario", scenario.scenario_id, (scenario.operator_id, *scenario.recipients))
