from __future__ import annotations

from dataclasses import replace

import pytest

from enclave_runner.contract.grant import Purpose
from sandbox.store import audit_log
from sandbox.store.database import reading
from sandbox.workflow.dispatch import dispatch
from sandbox.workflow.scenarios import authorize_scenario, end_scenario, get_scenario, list_scenarios
from sandbox.workflow.submit import submit
from tests.support.bureau import BANK, COUNT, FREE, OPERATOR, OTHER, SHOP, START, Bureau, scenario
from tests.support.refusals import refused_by

NEW = scenario("new", Purpose.INDUSTRY, (SHOP,))


def test_a_scenario_is_seen_by_its_operator_its_recipients_and_the_bureau(bureau: Bureau) -> None:
    authorize_scenario(bureau.office, bureau.actor(), NEW)
    for who in ("bureau", OPERATOR, SHOP):
        assert get_scenario(bureau.office, bureau.actor(who), "new") == NEW
    for who in (OTHER, BANK):
        with refused_by("access.foreign"):
            get_scenario(bureau.office, bureau.actor(who), "new")
    assert [item.scenario_id for item in list_scenarios(bureau.office, bureau.actor(BANK))] == ["credit"]
    assert len(list_scenarios(bureau.office, bureau.actor(OPERATOR))) == 3


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        (replace(NEW, operator_id=BANK), "scenario.operator"),
        (replace(NEW, operator_id="nobody"), "record.unknown"),
        (replace(NEW, recipients=("nobody",)), "record.unknown"),
        (replace(NEW, valid_until=START), "scenario.expired"),
        (replace(NEW, scenario_id="relief", purpose=Purpose.PUBLIC_INTEREST), "record.exists"),
    ],
)
def test_a_scenario_names_known_parties_and_is_never_changed(bureau: Bureau, wrong: object, rule: str) -> None:
    with refused_by(rule):
        authorize_scenario(bureau.office, bureau.actor(), wrong)  # type: ignore[arg-type]
    assert len(list_scenarios(bureau.office, bureau.actor())) == 2


def test_an_operator_authorizes_nothing_for_itself(bureau: Bureau) -> None:
    with refused_by("access.bureau-only"):
        authorize_scenario(bureau.office, bureau.actor(OPERATOR), NEW)


def test_an_ended_scenario_stops_its_grants_at_dispatch(bureau: Bureau) -> None:
    office = bureau.office
    waiting = submit(office, bureau.actor(OPERATOR), FREE, COUNT)
    ended = end_scenario(office, bureau.actor(), "relief")
    assert ended.valid_until == START
    assert get_scenario(office, bureau.actor(), "relief") == ended
    with refused_by("scenario.expired"):
        dispatch(office, waiting.submission_id)
    with refused_by("scenario.expired"):
        end_scenario(office, bureau.actor(), "relief")
    with reading(office.engine) as connection:
        assert [e.act for e in audit_log.entries(connection) if e.target == "relief"][-1] == "scenario.end"


def test_only_the_bureau_ends_a_scenario(bureau: Bureau) -> None:
    with refused_by("access.bureau-only"):
        end_scenario(bureau.office, bureau.actor(OPERATOR), "relief")
    with refused_by("record.unknown", what="scenario"):
        end_scenario(bureau.office, bureau.actor(), "nothing")
