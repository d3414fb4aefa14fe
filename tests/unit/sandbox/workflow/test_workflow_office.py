from __future__ import annotations

import os
import stat
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import pytest
from sqlalchemy import text

from enclave_runner.contract.signing import KeyFile
from sandbox.domain.party import Role
from sandbox.settings import Home
from sandbox.store import audit_log
from sandbox.store.database import reading, writing
from sandbox.workflow.audit import verify_audit
from sandbox.workflow.office import (
    Actor,
    create_office,
    open_as_found,
    open_office,
    plain_name,
    read_bureau_trust,
    utc_now,
)
from sandbox.workflow.parties import register_party
from tests.support.bureau import OTHER, Bureau, open_bureau, party
from tests.support.refusals import failed_at, refused_by


def test_a_new_office_has_a_bureau_and_one_audit_entry(tmp_path: Path) -> None:
    bureau = open_bureau(tmp_path)
    assert bureau.actor().party == party("bureau", Role.BUREAU)
    with reading(bureau.office.engine) as connection:
        (entry,) = audit_log.entries(connection)
    assert (entry.actor, entry.act, entry.target) == ("platform", "office.create", "bureau")
    digest = party("bureau", Role.BUREAU).fixed_sha256
    assert entry.facts == {"policy": bureau.office.pack.sha256, "party_sha256": digest}


def test_the_trust_file_holds_public_keys_and_the_key_file_is_private(tmp_path: Path) -> None:
    bureau = open_bureau(tmp_path)
    home = bureau.office.home
    trust = read_bureau_trust(home)
    assert trust.control == bureau.office.signer.public_key
    assert trust.officers == (bureau.officer.public_key,)
    assert trust.enclave == bureau.enclave.key.public_key
    assert stat.S_IMODE(home.control_key.stat().st_mode) == 0o600
    assert not home.officer_key.exists()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_deployment_is_its_owners_alone(tmp_path: Path, bureau: Bureau, umask: int) -> None:
    home = Home(tmp_path / "second")
    before = os.umask(umask)
    try:
        home.folder.mkdir()
        create_office(home, party("bureau", Role.BUREAU), bureau.office.officers, bureau.enclave.identity())
        office = open_office(home, bureau.enclave)
        with reading(office.engine):
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.bureau.glob("control.db*")}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("control.db", "control.db-wal", "control.db-shm"), 0o600)
    for folder in (home.folder, home.bureau, home.control_key.parent, home.artefacts):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_home_of_any_name_opens(tmp_path: Path, bureau: Bureau) -> None:
    home = Home(tmp_path / "50% of #1? yes")
    create_office(home, party("bureau", Role.BUREAU), bureau.office.officers, bureau.enclave.identity())
    assert home.control_db.is_file()
    assert verify_audit(replace(bureau.office, home=home, engine=open_office(home, bureau.enclave).engine)).checks


def test_an_office_is_not_made_twice(bureau: Bureau) -> None:
    with failed_at("office.exists"):
        create_office(
            bureau.office.home, party("bureau", Role.BUREAU), bureau.office.officers, bureau.enclave.identity()
        )


def test_a_key_is_made_when_none_stands_there(tmp_path: Path, bureau: Bureau) -> None:
    home = Home(tmp_path / "second")
    create_office(home, party("bureau", Role.BUREAU), bureau.office.officers, bureau.enclave.identity())
    assert read_bureau_trust(home).control == KeyFile.load(home.control_key).public_key


def test_making_an_office_goes_on_after_a_crash(tmp_path: Path, bureau: Bureau) -> None:
    home = Home(tmp_path / "second")
    create_office(home, party("bureau", Role.BUREAU), bureau.office.officers, bureau.enclave.identity())
    home.trust.unlink()  # as if the process had died just before its last step
    create_office(home, party("bureau", Role.BUREAU), bureau.office.officers, bureau.enclave.identity())
    office = open_office(home, bureau.enclave)
    with reading(office.engine) as connection:
        assert len(audit_log.entries(connection)) == 1


def test_an_enclave_with_another_pack_gets_no_office(tmp_path: Path, bureau: Bureau) -> None:
    bureau.enclave.policy_sha256 = "0" * 64
    with failed_at("policy.differs"):
        create_office(
            Home(tmp_path / "second"), party("bureau", Role.BUREAU), bureau.office.officers, bureau.enclave.identity()
        )


def test_half_an_office_does_not_open(tmp_path: Path, bureau: Bureau) -> None:
    with failed_at("home.missing"):
        open_office(Home(tmp_path / "nothing"), bureau.enclave)
    (bureau.office.home.policies / "access.cedar").unlink()
    with failed_at("policy.access"):
        open_office(bureau.office.home, bureau.enclave)


STRANGE_NAMES = [
    "",
    " ",
    "a/b",
    "x" * 65,
    "line\nbreak",
    "two words",
    "m\u0430llory",
    "mall\u03bfry",
    "mallory\u200b",
    "mallory\u0301",
    "ﬁ" * 33,
    "m<b>",
    "a\\b",
    "名\u3000字",
    "\u2e8f",
    "o'neil",
]


@pytest.mark.parametrize("person", STRANGE_NAMES, ids=ascii)
def test_a_person_has_a_plain_name(bureau: Bureau, person: str) -> None:
    with refused_by("actor.person"):
        bureau.actor("bureau", person)


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("Mallory", "mallory"),
        ("mallory ", "mallory"),
        ("\u3000ｍａｌｌｏｒｙ", "mallory"),
        ("MALLORY\n", "mallory"),
        ("\u212aim", "kim"),  # the sign of Kelvin
        ("王\u2f29明", "王小明"),  # the radical, which looks the same
        ("\uf90a", "金"),
        ("𠮷野", "𠮷野"),
        ("a.b-c_d@e9", "a.b-c_d@e9"),
        ("x" * 64, "x" * 64),
    ],
    ids=ascii,
)
def test_a_name_has_one_spelling(bureau: Bureau, written: str, plain: str) -> None:
    assert bureau.actor("bureau", written) == bureau.actor("bureau", plain)
    assert bureau.actor("bureau", written).name == f"bureau/{plain}"
    assert plain_name(plain) == plain


def test_an_office_that_is_only_looked_at_is_left_as_it_is(bureau: Bureau) -> None:
    home = bureau.office.home
    with writing(bureau.office.engine) as connection:
        connection.execute(text("DELETE FROM alembic_version"))
    found = open_as_found(home, bureau.enclave)
    assert verify_audit(found).ok
    with reading(found.engine) as connection:
        assert connection.execute(text("SELECT * FROM alembic_version")).all() == []
    found.engine.dispose()
    with failed_at("home.missing"):
        open_as_found(Home(home.folder / "nothing"), bureau.enclave)


def test_an_actor_of_no_known_party_is_refused(bureau: Bureau) -> None:
    with refused_by("record.unknown", what="party"):
        bureau.actor("nobody")


def test_an_act_that_is_refused_leaves_no_entry(bureau: Bureau) -> None:
    with reading(bureau.office.engine) as connection:
        before = audit_log.frontier(connection)
    with refused_by("record.exists"):
        register_party(bureau.office, bureau.actor(), party(OTHER, Role.OPERATOR))
    with refused_by("access.bureau-only"):
        register_party(bureau.office, bureau.actor(OTHER), party("new", Role.OPERATOR))
    with reading(bureau.office.engine) as connection:
        assert audit_log.frontier(connection) == before


def test_the_clock_counts_whole_seconds_in_utc() -> None:
    now = utc_now()
    assert now.microsecond == 0
    assert now.tzinfo is UTC


def test_people_are_named_with_their_party() -> None:
    assert Actor(party("bureau", Role.BUREAU), "b").name == "bureau/b"
