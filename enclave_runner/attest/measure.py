"""The measurement in every receipt: digests of the runner's code and of the jail profile, and engine versions."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

import enclave_runner
from enclave_runner.contract.receipt import Measurement
from enclave_runner.jail.profile import JailProfile

ENGINES = ("duckdb", "numpy", "onnxruntime", "opendp", "sqlglot")


def measure(profile: JailProfile) -> Measurement:
    """Measure the code on disk, once, at start."""
    return Measurement(
        assurance="software-only",
        runner_sha256=tree_digest(Path(enclave_runner.__path__[0])),
        jail_sha256=profile.sha256,
        engines={name: version(name) for name in ENGINES},
    )


def tree_digest(folder: Path) -> str:
    """SHA-256 over relative path and content of every Python file, in path order."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
