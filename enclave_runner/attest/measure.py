"""The measurement in every receipt: which code, libraries, jail and self-test stood behind it; the host's own word."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version

import enclave_runner
from enclave_runner.attest.packages import packages_digest, startup_digest
from enclave_runner.attest.tree import check_bytecode, tree_digest
from enclave_runner.contract.attestation import Expectation, selftest_digest
from enclave_runner.contract.codec import digest
from enclave_runner.contract.receipt import Assurance, Measurement
from enclave_runner.jail.profile import JailProfile

ENGINES = ("duckdb", "numpy", "onnxruntime", "opendp", "pyarrow", "sqlglot")
RUNNER = enclave_runner.__path__[0]
LOCK = os.path.join(os.path.dirname(RUNNER), "requirements", "run.lock")


def measure(profile: JailProfile, probes: Mapping[str, str]) -> Measurement:
    """Measure the code on disk, once, at start. `probes` are the outcomes of the self-test that has just run.

    Raises:
        Failed: `attest.bytecode`, `attest.packages` when something else would run than what is measured.
    """
    check_bytecode(RUNNER)
    return Measurement(
        assurance=Assurance.SOFTWARE_ONLY,
        runner_sha256=tree_digest(RUNNER),
        packages_sha256=packages_digest(),
        startup_sha256=startup_digest(),
        lock_sha256=_lock_digest(),
        jail_sha256=profile.sha256,
        selftest_sha256=selftest_digest(probes),
        python=platform.python_version(),
        kernel=platform.release(),
        engines={name: version(name) for name in ENGINES},
    )


def expect(profile: JailProfile, policy_sha256: str) -> Expectation:
    """What an enclave ought to say that runs this source, these distributions and this policy pack on any host.

    Raises:
        Failed: as `measure` does.
    """
    check_bytecode(RUNNER)
    return Expectation(
        runner_sha256=tree_digest(RUNNER),
        packages_sha256=packages_digest(),
        startup_sha256=startup_digest(),
        lock_sha256=_lock_digest(),
        jail_sha256=profile.sha256,
        policy_sha256=policy_sha256,
        python=platform.python_version(),
        engines={name: version(name) for name in ENGINES},
    )


def _lock_digest() -> str | None:
    """The lock file of a checkout; an installed wheel has none beside it."""
    try:
        with open(LOCK, "rb") as file:
            return digest(file.read())
    except OSError:
        return None
