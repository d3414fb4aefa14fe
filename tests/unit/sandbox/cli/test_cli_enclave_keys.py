"""Keys at rest and dropping data on the command line, through the enclave's real program."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
import typer

from enclave_runner.supervisor.database import Database
from enclave_runner.supervisor.holdings import HeldVersion, Holdings
from enclave_runner.supervisor.home import EnclaveHome, lock_home
from sandbox.cli.enclave_keys import KmsName, SuiteName, init_options, last_words
from tests.support.command_line import call_main
from tests.support.enclave_home import PEOPLE, POLICIES, make_bureau
from tests.support.enclave_process import ROOT, command
from tests.support.raw_stores import contents, publish
from tests.support.softhsm import PIN, make_token, needs_softhsm


@pytest.fixture
def home(tmp_path: Path) -> EnclaveHome:
    """The enclave's part of a deployment below `tmp_path`, with one version of `people`."""
    made = make_bureau(tmp_path).home
    made.folder.rename(tmp_path / "enclave")
    home = EnclaveHome(tmp_path / "enclave")
    name = publish(home.open_store(), age=b"1", income=b"2")
    with closing(Database(home.ledger)) as database:
        Holdings(database).add(HeldVersion("people", "v1-a", name, 1, PEOPLE, "2026-01-01T00:00:00+00:00"))
    return home


def test_rotation_says_what_it_did(home: EnclaveHome) -> None:
    answer = call_main("enclave", "rotate-keys", "--home", str(home.folder.parent), "--json")
    assert answer.code == 0
    assert answer.document["versions"] == answer.document["destroyed"] == 1
    assert [path.stem for path in (home.folder / "kek").iterdir()] == [answer.document["key_id"]]
    plain = call_main("enclave", "rotate-keys", "--home", str(home.folder.parent))
    assert "密钥轮换 / key rotation" in plain.out
    assert contents(home.open_store(), "people@v1-a", "age") == [b"1"]


def test_dropping_asks_a_person_and_not_a_script(home: EnclaveHome) -> None:
    place = ("--home", str(home.folder.parent), "--dataset", "people")
    asked = call_main("enclave", "drop-data", *place, "--column", "income")
    assert asked.code != 0
    assert contents(home.open_store(), "people@v1-a", "income") == [b"2"]
    done = call_main("enclave", "drop-data", *place, "--column", "income", "--json")
    assert done.document == {"dataset_id": "people", "versions": ["v1-a"], "column": "income"}
    again = call_main("enclave", "drop-data", *place, "--column", "income", "--json")
    assert again.rule == (3, "dataset.column", "17")
    whole = call_main("enclave", "drop-data", *place, "--yes")
    assert "已删除 / dropped" in whole.out
    assert list(home.rawdata.iterdir()) == []
    assert call_main("enclave", "drop-data", *place, "--json").rule == (3, "dataset.unknown", "-")


@pytest.mark.parametrize("words", [("rotate-keys",), ("drop-data", "--dataset", "people")])
def test_what_is_in_the_way_is_told(home: EnclaveHome, tmp_path: Path, words: tuple[str, ...]) -> None:
    lock = lock_home(home)
    assert call_main("enclave", *words, "--home", str(tmp_path), "--json").fault == (4, "home.busy")
    os.close(lock)
    (home.folder / "kms.json").unlink()
    assert call_main("enclave", *words, "--home", str(tmp_path), "--json").fault == (4, "kms.unreadable")
    assert call_main("enclave", *words, "--home", str(tmp_path / "no"), "--json").fault == (4, "home.missing")


def test_a_value_is_never_taken_for_an_option(home: EnclaveHome) -> None:
    place = ("--home", str(home.folder.parent), "--json")
    assert call_main("enclave", "drop-data", "--dataset=--version", *place).rule == (3, "dataset.unknown", "-")


def test_a_token_is_named_in_full_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter):
        init_options(SuiteName.SM4_GCM, KmsName.PKCS11, tmp_path / "lib.so", "label", None)
    assert init_options(SuiteName.SM4_GCM, KmsName.FILE, None, None, None) == ("--suite=sm4-gcm", "--kms=file")


@pytest.mark.parametrize(
    ("errors", "code"),
    [(b"yunei enclave: kms.pin\n", "kms.pin"), (b"Traceback\nyunei enclave: a.b\n", "a.b"), (b"", "enclave.absent")],
)
def test_the_last_words_are_a_code(errors: bytes, code: str) -> None:
    assert last_words(errors) == code


def test_init_records_the_choice(tmp_path: Path) -> None:
    answer = call_main("init", "--home", str(tmp_path / "d"), "--suite", "sm4-gcm", "--json")
    assert answer.code == 0
    _, suite = EnclaveHome(tmp_path / "d" / "enclave").kms.open()
    assert suite.value == "sm4-gcm"


def test_init_with_a_token_that_does_not_answer_makes_nothing_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "pin").touch(0o644)
    named = ("--pkcs11-module", "/nowhere.so", "--pkcs11-token", "t", "--pkcs11-pin-file", str(tmp_path / "pin"))
    answer = call_main("init", "--home", str(tmp_path / "d"), "--kms", "pkcs11", *named, "--json")
    assert answer.code == 4
    assert answer.fault[1] in ("kms.permissions", "kms.library-absent")
    assert list((tmp_path / "d").iterdir()) == []


@needs_softhsm
def test_a_home_under_a_token_is_made_and_rotated_and_holds_no_key(tmp_path: Path) -> None:
    token, home = make_token(tmp_path / "hsm"), tmp_path / "under-a-token"
    trust = make_bureau(tmp_path).home.trust.read_bytes()
    environment = {**os.environ, **token.environment}
    line = command("init", "--home", str(home), "--policies", str(POLICIES), *token.options)
    subprocess.run(line, cwd=ROOT, env=environment, input=trust, check=True, capture_output=True)
    assert not (home / "kek").exists()
    done = subprocess.run(
        command("rotate-keys", "--home", str(home)), cwd=ROOT, env=environment, check=True, capture_output=True
    )
    assert json.loads(done.stdout)["destroyed"] == 1
    assert all(PIN.encode() not in path.read_bytes() for path in home.rglob("*") if path.is_file())
    elsewhere = subprocess.run(
        command("rotate-keys", "--home", str(home)), cwd=ROOT, env=dict(os.environ), check=False, capture_output=True
    )
    assert elsewhere.returncode == 1
    assert elsewhere.stderr.startswith(b"yunei enclave: kms.")
