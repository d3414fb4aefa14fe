from __future__ import annotations

import re

import pytest

from sandbox.domain.party import PartyStatus
from sandbox.workflow.keys import authenticate, create_api_key, list_api_keys, revoke_api_key
from sandbox.workflow.parties import set_party_status
from tests.support.bureau import BANK, OPERATOR, Bureau
from tests.support.refusals import refused_by


@pytest.fixture
def token(bureau: Bureau) -> str:
    """A key of the bank's clerk."""
    return create_api_key(bureau.office, bureau.actor(), BANK, "clerk")


def test_a_key_names_its_holder(bureau: Bureau, token: str) -> None:
    assert re.fullmatch(r"yunei_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", token)
    assert authenticate(bureau.office, token) == bureau.actor(BANK, "clerk")


def test_a_key_remembers_who_made_it_and_names_its_holder_plainly(bureau: Bureau) -> None:
    token = create_api_key(bureau.office, bureau.actor("bureau", "Admin"), BANK, " Clerk")
    (key,) = list_api_keys(bureau.office, bureau.actor(), BANK)
    assert (key.person, key.created_by) == ("clerk", "bureau/admin")
    assert authenticate(bureau.office, token).name == f"{BANK}/clerk"


def test_the_key_itself_is_stored_nowhere(bureau: Bureau, token: str) -> None:
    secret = token.rpartition("_")[2].encode()
    files = [path for path in bureau.office.home.folder.rglob("*") if path.is_file()]
    assert files
    assert not any(secret in path.read_bytes() for path in files)


def test_every_changed_character_makes_it_unknown(bureau: Bureau, token: str) -> None:
    for position in range(len(token)):
        changed = token[:position] + ("A" if token[position] != "A" else "B") + token[position + 1 :]
        with refused_by("key.unknown"):
            authenticate(bureau.office, changed)


@pytest.mark.parametrize("wrong", ["", "yunei_", "Bearer x", "yunei_" + "0" * 12 + "_" + "A" * 43, "é" * 61])
def test_a_malformed_or_foreign_key_is_unknown(bureau: Bureau, wrong: str) -> None:
    with refused_by("key.unknown"):
        authenticate(bureau.office, wrong)


def test_trailing_text_makes_it_unknown(bureau: Bureau, token: str) -> None:
    for changed in (token + "\n", " " + token, token + "A"):
        with refused_by("key.unknown"):
            authenticate(bureau.office, changed)


def test_a_withdrawn_key_is_unknown_for_good(bureau: Bureau, token: str) -> None:
    (key,) = list_api_keys(bureau.office, bureau.actor(), BANK)
    revoke_api_key(bureau.office, bureau.actor(), key.key_id)
    revoke_api_key(bureau.office, bureau.actor(), key.key_id)
    with refused_by("key.unknown"):
        authenticate(bureau.office, token)
    with refused_by("record.unknown", what="key"):
        revoke_api_key(bureau.office, bureau.actor(), "0" * 12)


@pytest.mark.parametrize("status", [PartyStatus.SUSPENDED, PartyStatus.TERMINATED])
def test_the_key_of_a_party_out_of_service_opens_nothing(bureau: Bureau, token: str, status: PartyStatus) -> None:
    set_party_status(bureau.office, bureau.actor(), BANK, PartyStatus.SUSPENDED, "整改")
    if status is PartyStatus.TERMINATED:
        set_party_status(bureau.office, bureau.actor(), BANK, status, "终止")
    with refused_by("party.inactive", party=BANK, status=status.value):
        authenticate(bureau.office, token)


def test_only_the_bureau_makes_and_lists_keys(bureau: Bureau) -> None:
    operator = bureau.actor(OPERATOR)
    with refused_by("access.bureau-only"):
        create_api_key(bureau.office, operator, OPERATOR, "x")
    with refused_by("access.bureau-only"):
        list_api_keys(bureau.office, operator, OPERATOR)
    with refused_by("access.bureau-only"):
        revoke_api_key(bureau.office, operator, "0" * 12)
    with refused_by("record.unknown"):
        create_api_key(bureau.office, bureau.actor(), "nobody", "x")
    with refused_by("actor.person"):
        create_api_key(bureau.office, bureau.actor(), BANK, "a/b")
