from __future__ import annotations

from pathlib import Path

from enclave_runner.contract.grant import PURPOSE, Scope
from enclave_runner.contract.signing import KeyFile, seal
from sandbox.domain.grant import GrantStatus
from sandbox.workflow.grants import draft_grant, get_grant, list_grants, revoke_grant, sign_grant
from tests.support.bureau import FREE, OPERATOR, OTHER, Bureau, grant
from tests.support.refusals import refused_by


def test_a_grant_is_drafted_signed_and_revoked(bureau: Bureau) -> None:
    office, clerk = bureau.office, bureau.actor()
    assert draft_grant(office, clerk, grant("g-1")).status is GrantStatus.DRAFT
    signed = seal(grant("g-1"), PURPOSE, bureau.officer)
    assert sign_grant(office, clerk, "g-1", signed).signed == signed
    assert revoke_grant(office, clerk, "g-1").status is GrantStatus.REVOKED
    with refused_by("lifecycle.illegal", current="revoked"):
        sign_grant(office, clerk, "g-1", signed)
    with refused_by("lifecycle.illegal"):
        revoke_grant(office, clerk, "g-1")


def test_only_an_officers_signature_over_exactly_the_draft_counts(bureau: Bureau, tmp_path: Path) -> None:
    office, clerk = bureau.office, bureau.actor()
    draft_grant(office, clerk, grant("g-1"))
    stranger = KeyFile.create(tmp_path / "stranger.key")
    for key in (stranger, office.signer):
        with refused_by("signature.invalid"):
            sign_grant(office, clerk, "g-1", seal(grant("g-1"), PURPOSE, key))
    with refused_by("signature.invalid"):
        sign_grant(office, clerk, "g-1", seal(grant("g-1"), "ticket", bureau.officer))
    with refused_by("grant.differs"):
        sign_grant(office, clerk, "g-1", seal(grant("g-1", max_uses=101), PURPOSE, bureau.officer))
    assert get_grant(office, clerk, "g-1").status is GrantStatus.DRAFT


def test_a_draft_over_a_withheld_column_is_not_filed(bureau: Bureau) -> None:
    withheld = grant("g-1", scopes=(Scope(dataset_id="insurance", columns=("illness",)),))
    with refused_by("dataset.withheld", column="illness", basis="《个人信息保护法》第二十八条"):
        draft_grant(bureau.office, bureau.actor(), withheld)
    with refused_by("record.unknown", what="grant"):
        get_grant(bureau.office, bureau.actor(), "g-1")


def test_an_id_is_used_once_and_parties_must_be_known(bureau: Bureau) -> None:
    with refused_by("record.exists"):
        draft_grant(bureau.office, bureau.actor(), grant(FREE))
    with refused_by("record.unknown", what="scenario"):
        draft_grant(bureau.office, bureau.actor(), grant("g-1", scenario_id="nothing"))
    with refused_by("record.unknown", what="party"):
        draft_grant(bureau.office, bureau.actor(), grant("g-1", operator_id="nobody"))


def test_operators_see_their_own_and_change_none(bureau: Bureau) -> None:
    office = bureau.office
    assert len(list_grants(office, bureau.actor())) == len(list_grants(office, bureau.actor(OPERATOR))) == 2
    assert list_grants(office, bureau.actor(OTHER)) == ()
    with refused_by("access.foreign"):
        get_grant(office, bureau.actor(OTHER), FREE)
    with refused_by("access.bureau-only"):
        draft_grant(office, bureau.actor(OPERATOR), grant("g-1"))
    with refused_by("access.bureau-only"):
        revoke_grant(office, bureau.actor(OPERATOR), FREE)
    with refused_by("access.bureau-only"):
        sign_grant(office, bureau.actor(OPERATOR), FREE, seal(grant(FREE), PURPOSE, bureau.officer))
