"""The measurement changes with the code, the jail and the self-test, and its expectation is computed alike."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

import pytest

from enclave_runner.attest import measure as module
from enclave_runner.attest.measure import ENGINES, RUNNER, expect, measure
from enclave_runner.attest.packages import packages_digest
from enclave_runner.attest.tree import tree_digest
from enclave_runner.contract.attestation import Expectation, selftest_digest
from enclave_runner.contract.codec import digest, encode
from enclave_runner.contract.receipt import Assurance
from enclave_runner.jail.profile import JailProfile

PROBES = {"mount": "BLOCKED", "tcp": "BLOCKED"}


def test_what_runs_is_what_is_measured() -> None:
    found = measure(JailProfile(), PROBES)
    assert found.assurance is Assurance.SOFTWARE_ONLY
    assert found.runner_sha256 == tree_digest(RUNNER)
    assert found.packages_sha256 == packages_digest()
    assert found.engines == {name: version(name) for name in ENGINES}
    assert (found.python, found.kernel) == (platform.python_version(), platform.release())
    assert Path(RUNNER).name == "enclave_runner"


def test_a_receipt_carries_it_at_little_cost() -> None:
    assert len(encode(measure(JailProfile(), PROBES))) < 1000


def test_the_outcome_of_every_probe_is_in_it() -> None:
    digests = {
        measure(JailProfile(), probes).selftest_sha256
        for probes in (PROBES, {**PROBES, "tcp": "ALLOWED"}, {"mount": "BLOCKED"}, {})
    }
    assert len(digests) == 4
    assert selftest_digest(PROBES) == selftest_digest(dict(reversed(PROBES.items())))


def test_an_expectation_is_what_the_same_source_measures_anywhere() -> None:
    expected, found = expect(JailProfile(), "p" * 64), measure(JailProfile(), PROBES)
    assert expected.policy_sha256 == "p" * 64
    assert expected.kernel is None  # the host's own
    for name in Expectation.__struct_fields__:
        if name not in ("policy_sha256", "kernel"):
            assert getattr(expected, name) == getattr(found, name), name


def test_the_lock_file_counts_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run.lock").write_text("duckdb==2.0.1")
    monkeypatch.setattr(module, "LOCK", str(tmp_path / "run.lock"))
    assert measure(JailProfile(), PROBES).lock_sha256 == digest(b"duckdb==2.0.1")
    monkeypatch.setattr(module, "LOCK", str(tmp_path / "none.lock"))
    assert measure(JailProfile(), PROBES).lock_sha256 is None


def test_every_setting_of_the_jail_is_in_its_digest() -> None:
    plain = JailProfile()
    names = [name for name in JailProfile.__struct_fields__ if isinstance(getattr(plain, name), int)]
    others = {JailProfile(**{name: getattr(plain, name) + 1}).sha256 for name in names}  # type: ignore[arg-type]
    others |= {JailProfile(namespaces=("user",)).sha256, JailProfile(root="another").sha256}
    assert len(others) == len(names) + 2
    assert plain.sha256 not in others
    assert measure(plain, PROBES).jail_sha256 == plain.sha256
