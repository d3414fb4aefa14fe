"""The attestation: what the enclave says of itself to somebody who asks, signed; and what that somebody expects.

It is the host's own word. Without a quote of the hardware nothing in it is proof against the host's root.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime

from enclave_runner.contract.codec import Value, digest, encode
from enclave_runner.contract.receipt import Assurance, Measurement
from enclave_runner.contract.signing import PublicKey

PURPOSE = "attestation"
MAX_NONCE_BYTES = 64
BLOCKED = "BLOCKED"


class Attestation(Value, frozen=True):
    """Who the enclave is, what it runs, what it holds, and where its receipt log stands, at one moment for one asker.

    `nonce` is the asker's. `jail` is the canonical JSON of the jail's profile, `probes` the outcome of each escape
    probe: both are covered by the digests of `measurement`. `number` counts the attestations that this enclave ever
    gave, from 1. `checkpoint` is the newest signed note of the receipt log named `origin`.
    """

    number: int
    nonce: bytes
    assurance: Assurance
    key: PublicKey
    measurement: Measurement
    policy_sha256: str
    jail: str
    probes: dict[str, str]
    data_versions: dict[str, str]
    origin: str
    checkpoint: str
    made_at: datetime

    def __post_init__(self) -> None:
        if not 1 <= len(self.nonce) <= MAX_NONCE_BYTES:
            raise ValueError(f"a nonce has 1 to {MAX_NONCE_BYTES} bytes")
        if self.number < 1 or self.made_at.tzinfo is None:
            raise ValueError("an attestation has a number from 1 and a time with its zone")


class Expectation(Value, frozen=True):
    """What a measurement ought to be, computed from the published source on another machine. None: not compared."""

    runner_sha256: str | None = None
    packages_sha256: str | None = None
    startup_sha256: str | None = None
    lock_sha256: str | None = None
    jail_sha256: str | None = None
    policy_sha256: str | None = None
    python: str | None = None
    kernel: str | None = None
    engines: dict[str, str] | None = None


def selftest_digest(probes: Mapping[str, str]) -> str:
    """SHA-256 over names and outcomes of the escape probes."""
    return digest(encode(sorted(probes.items())))


def key_binding(key: PublicKey) -> bytes:
    """The 64 bytes of report data by which a TEE quote vouches for this key: SHA-512 under a purpose of its own."""
    return hashlib.sha512(b"yunei/v1/tee-key\n" + key.algorithm.encode() + b"\n" + key.raw).digest()
