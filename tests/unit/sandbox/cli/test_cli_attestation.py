"""Asking, keeping, expecting and verifying, through the commands and a real enclave; with SM2 as well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from enclave_runner.contract.codec import decode
from enclave_runner.contract.signing import Signed
from sandbox.settings import Home
from sandbox.workflow.enclave import start_enclave
from tests.support.command_line import Answer, call_main


@dataclass(frozen=True)
class Deployment:
    """A fresh deployment of one algorithm."""

    folder: Path
    algorithm: str

    def call(self, *arguments: str) -> Answer:
        return call_main("--home", str(self.folder / "home"), *arguments)


@pytest.fixture(scope="module", params=["ed25519", pytest.param("sm2", marks=pytest.mark.slow)])
def deployment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    made = Deployment(tmp_path_factory.mktemp("attest"), request.param)
    assert made.call("init", "--algorithm", request.param).code == 0
    with start_enclave(Home(made.folder / "home")):  # one for all commands: each would start its own
        yield made


def test_from_the_question_to_the_offline_verdict(deployment: Deployment) -> None:
    kept, expected = deployment.folder / "a.json", deployment.folder / "e.json"
    asked = deployment.call("enclave", "attest", "--nonce", "00ff", "--output", str(kept), "--json").document
    assert (asked["ok"], asked["assurance"], asked["nonce"]) == (True, "software-only", "00ff")
    assert asked["key"].startswith(f"{deployment.algorithm}:")
    assert decode(kept.read_bytes(), Signed).algorithm == deployment.algorithm
    policies = deployment.folder / "home" / "enclave" / "policies"
    assert deployment.call("enclave", "expect", "--policies", str(policies), "--output", str(expected)).code == 0
    line = ("enclave", "verify-attestation", str(kept), "--expect", str(expected))
    good = deployment.call(*line, "--nonce", "00ff")
    assert good.code == 0
    assert "仅软件度量" in good.out
    assert "not compared: 2" in good.out  # the kernel, and no earlier checkpoint
    assert deployment.call(*line, "--nonce", "00fe").code == 5
    assert deployment.call(*line, "--nonce", "00ff", "--key", f"ed25519:{'0' * 64}").code == 5
    assert deployment.call(*line, "--nonce", "00ff", "--at", "2020-01-01T00:00:00+00:00").code == 5


def test_another_policy_pack_is_not_what_was_expected(deployment: Deployment) -> None:
    kept, expected = deployment.folder / "a.json", deployment.folder / "e.json"
    deployment.call("enclave", "attest", "--nonce", "01", "--output", str(kept))
    document = deployment.call("enclave", "expect", "--output", str(expected), "--json").document
    expected.write_text(json.dumps({**document, "policy_sha256": "0" * 64}))
    verdict = deployment.call(
        "enclave", "verify-attestation", str(kept), "--nonce", "01", "--expect", str(expected), "--json"
    )
    assert verdict.code == 5
    failed = [check["name"] for check in json.loads(verdict.out)["checks"] if check["status"] == "FAILED"]
    assert failed == ["policy_sha256"]


def test_a_nonce_of_its_own_is_fresh_each_time(deployment: Deployment) -> None:
    nonces = {deployment.call("enclave", "attest", "--json").document["nonce"] for _ in range(2)}
    assert {len(nonce) for nonce in nonces} == {64}
    assert len(nonces) == 2


def test_wrong_usage_and_missing_files(deployment: Deployment, tmp_path: Path) -> None:
    assert "hex" in deployment.call("enclave", "attest", "--nonce", "xy", "--json").usage
    assert deployment.call("enclave", "attest", "--nonce", "00" * 65, "--json").rule[:2] == (3, "attestation.nonce")
    missing = str(tmp_path / "none")
    line = ("enclave", "verify-attestation", missing, "--nonce", "00", "--json")
    assert deployment.call(*line).fault == (4, "file.unreadable")
    assert call_main("--home", missing, *line).fault == (4, "home.missing")
    assert deployment.call("enclave", "expect", "--policies", missing, "--json").fault == (4, "enclave.expect")
    unwritable = str(tmp_path / "no" / "folder")
    assert deployment.call("enclave", "attest", "--output", unwritable, "--json").fault == (4, "file.unwritable")
