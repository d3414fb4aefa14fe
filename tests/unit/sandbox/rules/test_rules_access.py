from __future__ import annotations

import pytest

from enclave_runner.contract.rulebook import PolicyPack
from sandbox.domain.party import Party, PartyStatus, Role
from sandbox.rules.access import AccessPolicy, Action, Record, read_access
from sandbox.settings import pack_folder
from tests.support.articles import CREDIT_CODE
from tests.support.refusals import failed_at

PACK = PolicyPack(pack_folder())
ACCESS = read_access(PACK)
POLICIES, SCHEMA = PACK.files["access.cedar"].decode(), PACK.files["access.cedarschema"].decode()

BUREAU_DUTIES = {
    Action.REGISTER_PARTY,
    Action.SUSPEND_PARTY,
    Action.MANAGE_KEYS,
    Action.AUTHORIZE_SCENARIO,
    Action.DRAFT_GRANT,
    Action.SIGN_GRANT,
    Action.REVOKE_GRANT,
    Action.REVIEW_SUBMISSION,
    Action.FILE_CONSENT,
    Action.ISSUE_INVOICE,
    Action.READ_AUDIT,
    Action.READ_ALARMS,
}
OWN_READS = {
    Action.READ_PARTY,
    Action.READ_SCENARIO,
    Action.READ_GRANT,
    Action.READ_SUBMISSION,
    Action.READ_RELEASE,
    Action.READ_METER,
    Action.READ_INVOICE,
    Action.READ_CONSENT,
}
OPEN_READS = {Action.READ_CATALOGUE, Action.READ_PRODUCT}
ALLOWED = {
    Role.BUREAU: BUREAU_DUTIES
    | OWN_READS
    | OPEN_READS
    | {Action.IMPORT_DATASET, Action.SUSPEND_PRODUCT, Action.OPEN_PRODUCT, Action.READ_BUDGET},
    Role.DEPARTMENT: OWN_READS | OPEN_READS | {Action.IMPORT_DATASET, Action.CALL_PRODUCT, Action.READ_BUDGET},
    Role.OPERATOR: OWN_READS
    | OPEN_READS
    | {
        Action.SUBMIT_JOB,
        Action.PUBLISH_PRODUCT,
        Action.SUSPEND_PRODUCT,
        Action.OPEN_PRODUCT,
        Action.CALL_PRODUCT,
        Action.READ_BUDGET,
    },
    Role.BUSINESS: OWN_READS | OPEN_READS | {Action.CALL_PRODUCT},
}


def party(role: Role, status: PartyStatus = PartyStatus.ACTIVE) -> Party:
    return Party("somebody", "某单位", role, CREDIT_CODE, status)


def own(action: Action) -> Record:
    return Record("thing", action.value, ("somebody",))


@pytest.mark.parametrize("role", list(Role))
def test_the_whole_matrix_of_roles_and_actions_over_own_records(role: Role) -> None:
    allowed = {action for action in Action if ACCESS.decide(party(role), action, own(action)).allowed}
    assert allowed == ALLOWED[role]


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.BUREAU])
def test_no_party_but_the_bureau_touches_a_foreign_record(role: Role) -> None:
    owned = (
        *OWN_READS,
        Action.SUBMIT_JOB,
        Action.PUBLISH_PRODUCT,
        Action.SUSPEND_PRODUCT,
        Action.OPEN_PRODUCT,
        Action.IMPORT_DATASET,
    )
    for action in owned:
        if action not in ALLOWED[role]:
            continue
        decision = ACCESS.decide(party(role), action, Record("thing", "1", ("somebody-else",)))
        assert (action, decision.rule) == (action, "access.foreign")


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("status", [PartyStatus.SUSPENDED, PartyStatus.TERMINATED])
def test_a_suspended_or_terminated_party_only_reads_its_own(role: Role, status: PartyStatus) -> None:
    allowed = {action for action in Action if ACCESS.decide(party(role, status), action, own(action)).allowed}
    assert allowed == OWN_READS


@pytest.mark.parametrize(
    ("role", "action", "rule"),
    [
        (Role.OPERATOR, Action.SIGN_GRANT, "access.bureau-only"),
        (Role.BUREAU, Action.SUBMIT_JOB, "access.operator-only"),
        (Role.BUSINESS, Action.IMPORT_DATASET, "access.provider-only"),
        (Role.BUREAU, Action.CALL_PRODUCT, "access.caller-only"),
        (Role.BUSINESS, Action.READ_BUDGET, "access.denied"),
    ],
)
def test_a_refusal_names_its_condition(role: Role, action: Action, rule: str) -> None:
    decision = ACCESS.decide(party(role), action, own(action))
    assert decision.rule == rule
    assert decision.facts == {"action": action.value, "party": "somebody", "role": role.value}


def test_the_first_condition_in_the_file_is_named_when_several_do_not_hold() -> None:
    suspended = party(Role.BUSINESS, PartyStatus.SUSPENDED)
    decision = ACCESS.decide(suspended, Action.SUBMIT_JOB, Record("grant", "1", ("somebody-else",)))
    assert decision.rule == "access.suspended"


def test_every_condition_is_a_rule_of_the_pack_under_the_same_article() -> None:
    assert {rule: PACK.rules[rule].article for rule in ACCESS.articles} == ACCESS.articles


def test_an_id_with_strange_characters_is_no_way_around() -> None:
    strange = Record("thing", 'x"}; permit(principal,action,resource); //\n', ('somebody"',))
    assert ACCESS.decide(party(Role.OPERATOR), Action.READ_GRANT, strange).rule == "access.foreign"


@pytest.mark.parametrize(
    ("policies", "schema"),
    [
        ("permit (", SCHEMA),
        (POLICIES.replace("principal.active", "principal.actvie"), SCHEMA),
        (POLICIES.replace('"bureauDuty"', '"bureauDutty"'), SCHEMA),
        (POLICIES.replace('@id("access.foreign")', ""), SCHEMA),
        (POLICIES.replace('@article("49")', ""), SCHEMA),
        (POLICIES, "namespace Yunei {"),
        (POLICIES, SCHEMA.replace("active: Bool", "active: String")),
    ],
)
def test_doubtful_policies_do_not_load(policies: str, schema: str) -> None:
    assert (policies, schema) != (POLICIES, SCHEMA)
    with failed_at("policy.access"):
        AccessPolicy(policies, schema)


def test_an_action_that_the_schema_does_not_know_is_denied() -> None:
    small = SCHEMA.replace('"readAudit"', '"readSomething"')
    decision = AccessPolicy(POLICIES, small).decide(party(Role.BUREAU), Action.READ_AUDIT, own(Action.READ_AUDIT))
    assert decision.rule == "access.denied"
