from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from enclave_runner.contract.grant import PURPOSE, Mode, Purpose, Scope
from enclave_runner.contract.privacy import PrivacyLoss
from enclave_runner.contract.signing import KeyFile, seal
from sandbox.domain.grant import GrantRecord, GrantStatus
from sandbox.domain.party import PartyStatus, Role
from sandbox.rules.admission import decide_active, decide_draft, decide_grant, decide_mode, decide_scope
from tests.support.articles import a_party
from tests.support.bureau import OPERATOR, OTHER, START, dataset, grant, scenario

CATALOGUE = {"insurance": dataset()}
RELIEF = scenario("relief", Purpose.PUBLIC_INTEREST)
DRAFT = grant("g-1")


def scoped(*columns: str, dataset_id: str = "insurance") -> dict[str, object]:
    return {"scopes": (Scope(dataset_id=dataset_id, columns=columns),)}


def test_a_draft_with_every_element_is_allowed() -> None:
    assert decide_draft(DRAFT, RELIEF, a_party(), CATALOGUE, START).allowed


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"operator_id": OTHER}, "grant.operator"),
        ({"operator_code": "91110000600037341X"}, "grant.operator-code"),
        ({"scenario_id": "another"}, "grant.scenario"),
        ({"purpose": Purpose.INDUSTRY}, "grant.purpose"),
        ({"deadline": START + timedelta(days=121)}, "grant.beyond-scenario"),
        ({"not_before": START - timedelta(days=9), "deadline": START}, "grant.expired"),
        (scoped("amount", dataset_id="nothing"), "dataset.unknown"),
        (scoped("amount", "no_such_column"), "dataset.column"),
        (scoped("illness"), "dataset.withheld"),
        (scoped("secret"), "dataset.core-grade"),
        ({"budgets": (PrivacyLoss(entity_set="enterprise", pico_rho=1),)}, "grant.entity-set"),
    ],
)
def test_a_draft_is_refused_for_the_one_element_that_is_wrong(changes: dict[str, object], rule: str) -> None:
    assert decide_draft(grant("g-1", **changes), RELIEF, a_party(), CATALOGUE, START).rule == rule


def test_the_negative_list_answers_with_its_legal_basis() -> None:
    decision = decide_draft(grant("g-1", **scoped("illness")), RELIEF, a_party(), CATALOGUE, START)
    assert decision.facts == {"column": "illness", "basis": "《个人信息保护法》第二十八条"}


@pytest.mark.parametrize("role", [Role.BUSINESS, Role.DEPARTMENT, Role.BUREAU])
def test_only_an_operator_is_a_using_unit(role: Role) -> None:
    assert decide_draft(DRAFT, RELIEF, a_party(role=role), CATALOGUE, START).rule == "grant.operator"


@pytest.mark.parametrize("status", [PartyStatus.SUSPENDED, PartyStatus.TERMINATED])
def test_a_party_out_of_service_gets_no_grant(status: PartyStatus) -> None:
    assert decide_draft(DRAFT, RELIEF, a_party(status=status), CATALOGUE, START).rule == "party.inactive"
    assert decide_active(a_party(status=status)).rule == "party.inactive"


@pytest.fixture
def record(tmp_path_factory: pytest.TempPathFactory) -> GrantRecord:
    officer = KeyFile.create(tmp_path_factory.mktemp("officer") / "officer.key")
    return GrantRecord(DRAFT, GrantStatus.SIGNED, seal(DRAFT, PURPOSE, officer))


def test_a_signed_grant_holds_from_its_beginning_to_just_before_its_deadline(record: GrantRecord) -> None:
    second = timedelta(seconds=1)
    assert decide_grant(record, OPERATOR, DRAFT.not_before).allowed
    assert decide_grant(record, OPERATOR, DRAFT.deadline - second).allowed
    assert decide_grant(record, OPERATOR, DRAFT.not_before - second).rule == "grant.not-yet"
    assert decide_grant(record, OPERATOR, DRAFT.deadline).rule == "grant.expired"


def test_a_grant_is_of_one_operator_and_only_while_signed(record: GrantRecord) -> None:
    assert decide_grant(record, OTHER, START).rule == "grant.foreign"
    assert decide_grant(GrantRecord(DRAFT, GrantStatus.DRAFT), OPERATOR, START).rule == "grant.not-signed"
    assert decide_grant(replace(record, status=GrantStatus.REVOKED), OPERATOR, START).rule == "grant.not-signed"


@pytest.mark.parametrize(
    ("dataset_id", "columns", "rule"),
    [
        ("insurance", ("amount", "income"), None),
        ("insurance", (), None),
        ("payroll", ("amount",), "grant.dataset"),
        ("insurance", ("insured",), "grant.column"),
        ("insurance", ("nothing",), "dataset.column"),
    ],
)
def test_a_job_stays_within_its_scope(dataset_id: str, columns: tuple[str, ...], rule: str | None) -> None:
    assert decide_scope(DRAFT, dataset_id, columns, CATALOGUE).rule == rule


def test_a_column_that_came_on_the_negative_list_later_refuses_at_once() -> None:
    wide = grant("g-1", **scoped("amount", "illness"))
    assert decide_scope(wide, "insurance", ("illness",), CATALOGUE).rule == "dataset.withheld"


def test_a_mode_that_was_not_granted_is_refused() -> None:
    assert decide_mode(DRAFT, Mode.QUERY).allowed
    assert decide_mode(DRAFT, Mode.VERIFICATION).rule == "grant.mode"
