"""An attestation by a real enclave: true, for this asker alone, and in the log before anybody sees it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from enclave_runner.attest.measure import expect
from enclave_runner.contract.attestation import MAX_NONCE_BYTES, PURPOSE, Attestation, selftest_digest
from enclave_runner.contract.codec import encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.merkle import open_checkpoint
from enclave_runner.contract.receipt import Assurance, Outcome
from enclave_runner.contract.signing import Algorithm, unseal
from enclave_runner.contract.trust import Trust
from enclave_runner.contract.wire import AskAttestation, AttestationReply
from enclave_runner.supervisor.database import Database
from enclave_runner.supervisor.home import EnclaveHome, create_home
from enclave_runner.supervisor.service import answer
from sandbox.client.attestation import Pins, Status, verify_attestation
from tests.support.enclave_home import PEOPLE, PEOPLE_CSV, Bureau, Site, make_bureau, query, running_site


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running enclave that holds no data."""
    with running_site(make_bureau(tmp_path_factory.mktemp("bare"))) as site:
        yield site


def ask(site: Site, nonce: bytes = b"nonce") -> Attestation:
    reply = answer(site.enclave, AskAttestation(nonce=nonce), None)
    assert isinstance(reply, AttestationReply)
    return unseal(reply.attestation, PURPOSE, (site.enclave.key.public_key,), Attestation)


def test_it_says_what_is_so(bare: Site) -> None:
    enclave, said = bare.enclave, ask(bare, b"\0\xff")
    assert (said.nonce, said.key, said.origin) == (b"\0\xff", enclave.key.public_key, "yunei.enclave/receipts")
    assert said.assurance is said.measurement.assurance is Assurance.SOFTWARE_ONLY
    assert said.policy_sha256 == bare.bureau.policy_sha256
    assert said.data_versions == {}
    assert json.loads(said.jail)["memory_mb"] == enclave.limits.job_profile.memory_mb
    assert said.jail.encode() == encode(enclave.limits.job_profile)
    assert selftest_digest(said.probes) == said.measurement.selftest_sha256
    assert len(said.probes) >= 18
    assert set(said.probes.values()) == {"BLOCKED"}
    assert abs(said.made_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_the_offline_verifier_agrees_and_so_does_a_fresh_computation(bare: Site) -> None:
    reply = answer(bare.enclave, AskAttestation(nonce=b"offline"), None)
    assert isinstance(reply, AttestationReply)
    expected = expect(bare.enclave.limits.job_profile, bare.bureau.policy_sha256)
    pins = Pins(key=bare.enclave.key.public_key, nonce=b"offline", now=datetime.now(UTC), expected=expected)
    verdict = verify_attestation(encode(reply.attestation), pins)
    assert verdict.ok
    assert {check.name for check in verdict.checks if check.status is Status.UNCHECKED} == {"log since", "kernel"}


@pytest.mark.parametrize("nonce", [b"", b"x" * (MAX_NONCE_BYTES + 1)])
def test_a_nonce_has_its_length(bare: Site, nonce: bytes) -> None:
    before = len(bare.enclave.attestations.all())
    with pytest.raises(Refused) as caught:
        answer(bare.enclave, AskAttestation(nonce=nonce), None)
    assert (caught.value.rule, caught.value.facts) == ("attestation.nonce", {"max": "64"})
    assert len(bare.enclave.attestations.all()) == before


def test_every_attestation_is_logged_with_its_number(bare: Site) -> None:
    before = bare.enclave.attestations.all()
    replies = [answer(bare.enclave, AskAttestation(nonce=bytes([number])), None) for number in (1, 2, 3)]
    after = bare.enclave.attestations.all()
    assert after[: len(before)] == before
    assert list(after[len(before) :]) == [reply.attestation for reply in replies]  # type: ignore[union-attr]
    numbers = [unseal(one, PURPOSE, (bare.enclave.key.public_key,), Attestation).number for one in after]
    assert numbers == list(range(1, len(after) + 1))


def test_the_log_only_grows(bare: Site) -> None:
    ask(bare)
    with sqlite3.connect(bare.bureau.home.ledger) as connection:
        for statement in ("DELETE FROM attestations", "UPDATE attestations SET signed = x'00'"):
            with pytest.raises(sqlite3.IntegrityError, match="append only"):
                connection.execute(statement)
    connection.close()


def test_what_cannot_be_logged_is_not_said(bare: Site, tmp_path: Path) -> None:
    """The log in a file that cannot be written: the signature is made, and never leaves."""
    database = Database(tmp_path / "ledger.db")
    try:
        log = type(bare.enclave.attestations)(database)
        with database.transaction() as connection:
            connection.execute("DROP TABLE attestations")
        with pytest.raises(Failed) as caught:
            log.append(lambda number: pytest.fail("nothing may be signed"))
        assert caught.value.code == "ledger.write"
    finally:
        database.close()


def test_it_names_the_data_that_is_held_and_how_far_the_receipts_are(site: Site) -> None:
    said, held = ask(site), site.enclave.holdings.find("people")
    assert held is not None
    assert said.data_versions["people"] == held.version
    assert said.checkpoint == site.enclave.ledger.checkpoint()


def test_an_sm2_enclave_signs_receipts_and_checkpoints_that_verify(tmp_path: Path) -> None:
    made = make_bureau(tmp_path)
    home = EnclaveHome(tmp_path / "sm2")
    trust = Trust(control=(made.control.public_key,), officers=(made.officer.public_key,))
    create_home(home, trust, made.home.policies, algorithm=Algorithm.SM2)
    with running_site(Bureau(made.officer, made.control, home)) as site:
        site.import_csv(PEOPLE, PEOPLE_CSV)
        settled = site.settle(query())
        assert settled.receipt is not None
        assert settled.receipt.algorithm == "sm2"
        receipt = site.receipt(settled)
        assert receipt.outcome is Outcome.RELEASED
        assert receipt.measurement == site.enclave.measurement
        key = site.enclave.key.public_key
        assert open_checkpoint(settled.checkpoint, "yunei.enclave/receipts", key).size == 1


def test_it_carries_on_counting_after_a_restart(tmp_path: Path) -> None:
    bureau = make_bureau(tmp_path)
    with running_site(bureau) as site:
        assert ask(site).number == 1
    with running_site(bureau) as site:
        assert ask(site).number == 2
