"""Measurements, attestations and the keys that sign them, without an enclave."""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from enclave_runner.contract.attestation import PURPOSE, Attestation, selftest_digest
from enclave_runner.contract.codec import digest
from enclave_runner.contract.merkle import Checkpoint, frontier_of, sign_checkpoint
from enclave_runner.contract.receipt import Assurance, Measurement
from enclave_runner.contract.signing import KeyFile, Signed, Signer, seal

KEY = KeyFile(Ed25519PrivateKey.generate())
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
NONCE = b"nonce of the asker"
ORIGIN = "yunei.enclave/receipts"
JAIL = '{"memory_mb":3072,"namespaces":["user","pid"]}'
PROBES = {"mount": "BLOCKED", "tcp-loopback": "BLOCKED"}


def make_measurement(**fields: object) -> Measurement:
    """A measurement that fits `JAIL` and `PROBES`."""
    given: dict[str, object] = {
        "assurance": Assurance.SOFTWARE_ONLY,
        "runner_sha256": "1" * 64,
        "packages_sha256": "2" * 64,
        "startup_sha256": "3" * 64,
        "lock_sha256": None,
        "jail_sha256": digest(JAIL.encode()),
        "selftest_sha256": selftest_digest(PROBES),
        "python": "3.11.2",
        "kernel": "6.18.0",
        "engines": {"duckdb": "2.0.1"},
    }
    return Measurement(**{**given, **fields})  # type: ignore[arg-type]


def checkpoint_note(*entries: bytes, signer: Signer = KEY, origin: str = ORIGIN) -> str:
    """A signed checkpoint of the log with these entries."""
    frontier = frontier_of(entries)
    return sign_checkpoint(Checkpoint(origin=origin, size=frontier.size, root=frontier.root), signer)


def make_attestation(signer: Signer = KEY, **fields: object) -> Attestation:
    """An attestation in which everything fits, made at `NOW` for `NONCE`."""
    given: dict[str, object] = {
        "number": 1,
        "nonce": NONCE,
        "assurance": Assurance.SOFTWARE_ONLY,
        "key": signer.public_key,
        "measurement": make_measurement(),
        "policy_sha256": "4" * 64,
        "jail": JAIL,
        "probes": PROBES,
        "data_versions": {"people": "20261124-1"},
        "origin": ORIGIN,
        "checkpoint": checkpoint_note(b"receipt", signer=signer),
        "made_at": NOW,
    }
    return Attestation(**{**given, **fields})  # type: ignore[arg-type]


def sealed(signer: Signer = KEY, purpose: str = PURPOSE, **fields: object) -> Signed:
    """Such an attestation under the signer's key."""
    return seal(make_attestation(signer, **fields), purpose, signer)
