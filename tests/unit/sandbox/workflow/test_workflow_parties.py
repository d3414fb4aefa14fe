from __future__ import annotations

from dataclasses import replace

import pytest

from sandbox.domain.party import PartyStatus, Role
from sandbox.store import audit_log
from sandbox.store.database import reading
from sandbox.workflow.parties import get_party, list_parties, register_party, set_party_status
from tests.support.articles import CREDIT_CODE
from tests.support.bureau import BANK, OPERATOR, OTHER, Bureau, party
from tests.support.refusals import refused_by


def test_a_registered_party_is_active_whatever_was_said(bureau: Bureau) -> None:
    register_party(bureau.office, bureau.actor(), replace(party("new", Role.BUSINESS), status=PartyStatus.TERMINATED))
    assert get_party(bureau.office, bureau.actor(), "new").status is PartyStatus.ACTIVE


def test_the_bureau_sees_all_parties_and_others_see_themselves(bureau: Bureau) -> None:
    assert len(list_parties(bureau.office, bureau.actor())) == 6
    assert [item.party_id for item in list_parties(bureau.office, bureau.actor(BANK))] == [BANK]
    with refused_by("access.foreign"):
        get_party(bureau.office, bureau.actor(BANK), OPERATOR)


def test_a_party_is_suspended_restored_and_terminated_on_stated_grounds(bureau: Bureau) -> None:
    office, clerk = bureau.office, bureau.actor()
    for status in (PartyStatus.SUSPENDED, PartyStatus.ACTIVE, PartyStatus.SUSPENDED, PartyStatus.TERMINATED):
        assert set_party_status(office, clerk, OTHER, status, " 未按要求整改 ").status is status
    with refused_by("lifecycle.illegal", current="terminated", target="active"):
        set_party_status(office, clerk, OTHER, PartyStatus.ACTIVE, "恢复")
    with reading(office.engine) as connection:
        last = audit_log.entries(connection)[-1]
    assert (last.act, last.target, last.facts) == ("party.terminated", OTHER, {"ground": "未按要求整改"})


@pytest.mark.parametrize("ground", ["", "  ", "x" * 501])
def test_no_status_changes_without_a_ground(bureau: Bureau, ground: str) -> None:
    with refused_by("ground.missing", max="500"):
        set_party_status(bureau.office, bureau.actor(), OTHER, PartyStatus.SUSPENDED, ground)


def test_nobody_changes_the_own_status_and_no_other_role_any(bureau: Bureau) -> None:
    with refused_by("party.own-status"):
        set_party_status(bureau.office, bureau.actor(), "bureau", PartyStatus.SUSPENDED, "x")
    with refused_by("access.bureau-only"):
        set_party_status(bureau.office, bureau.actor(OPERATOR), OTHER, PartyStatus.SUSPENDED, "x")
    with refused_by("record.unknown"):
        set_party_status(bureau.office, bureau.actor(), "nobody", PartyStatus.SUSPENDED, "x")


def test_a_suspended_organisation_does_not_come_back_under_another_id(bureau: Bureau) -> None:
    set_party_status(bureau.office, bureau.actor(), BANK, PartyStatus.SUSPENDED, "整改")
    with refused_by("party.code-taken", party="new"):
        register_party(bureau.office, bureau.actor(), replace(party(BANK, Role.BUSINESS), party_id="new"))
    with refused_by("record.unknown"):
        get_party(bureau.office, bureau.actor(), "new")


@pytest.mark.parametrize("spelling", [CREDIT_CODE.lower(), f" {CREDIT_CODE}", f"{CREDIT_CODE[:8]}-{CREDIT_CODE[8:]}"])
def test_a_credit_code_has_one_spelling(spelling: str) -> None:
    with refused_by("party.credit-code"):
        replace(party(OPERATOR, Role.OPERATOR), credit_code=spelling)
