"""Checking an attestation offline: against a pinned key, one's own nonce, the clock, and digests computed elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from enclave_runner.contract.attestation import (
    BLOCKED,
    PURPOSE,
    Attestation,
    Expectation,
    key_binding,
    selftest_digest,
)
from enclave_runner.contract.codec import decode, digest
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.merkle import open_checkpoint
from enclave_runner.contract.receipt import Assurance
from enclave_runner.contract.signing import PublicKey, Signed, unseal
from sandbox.client.tee import QuotePolicy, verify_quote

ORIGIN = "yunei.enclave/receipts"
MAX_AGE = timedelta(minutes=5)
CLOCK_SKEW = timedelta(minutes=2)
SOFTWARE_ONLY_ZH = (
    "仅软件度量：由主机自身的密钥签名，可防误操作与事后否认；不能防主机 root、内核与虚拟化层，也不能证明内存中的代码。"
)
SOFTWARE_ONLY_EN = (
    "software-only: signed by the host's own key; evidence against accident and later denial. It proves nothing "
    "against the host's root, its kernel or its hypervisor, and nothing about the code in memory."
)


class Status(StrEnum):
    """How a check went. UNCHECKED: there was nothing to compare with."""

    OK = "OK"
    FAILED = "FAILED"
    UNCHECKED = "UNCHECKED"


@dataclass(frozen=True)
class Check:
    """One line of the verdict."""

    name: str
    status: Status
    detail: str


@dataclass(frozen=True)
class Quoted:
    """A TEE quote that came beside the attestation, with what it takes to verify it."""

    quote: bytes
    collateral: str
    policy: QuotePolicy


@dataclass(frozen=True)
class Pins:
    """What the verifier knows for itself. `since` is the newest checkpoint of the receipt log that it saw earlier."""

    key: PublicKey
    nonce: bytes
    now: datetime
    max_age: timedelta = MAX_AGE
    expected: Expectation = field(default_factory=Expectation)
    since: str | None = None
    quoted: Quoted | None = None


@dataclass(frozen=True)
class Verdict:
    """Every check in order; the attestation is None when its signature did not verify: then it is hearsay."""

    checks: tuple[Check, ...]
    attestation: Attestation | None

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return self.attestation is not None and all(check.status is not Status.FAILED for check in self.checks)

    @property
    def assurance(self) -> Assurance:
        """What stands behind it: hardware only if a quote was verified here and all else held too."""
        quoted = any((check.name, check.status) == ("quote", Status.OK) for check in self.checks)
        return Assurance.TEE_VERIFIED if self.ok and quoted else Assurance.SOFTWARE_ONLY


def verify_attestation(data: bytes, pins: Pins) -> Verdict:
    """Judge the bytes of a signed attestation. Nothing is fetched; nothing counts that the pinned key did not sign.

    Raises:
        Failed: `key.sm2` or `quote.support` when an optional extra is needed to tell.
    """
    try:
        attestation = unseal(decode(data, Signed), PURPOSE, (pins.key,), Attestation)
    except Refused as refused:
        name = "form" if refused.rule == "wire.malformed" else "signature"
        return Verdict((Check(name, Status.FAILED, _why(refused)),), None)
    checks = [
        Check("signature", Status.OK, f"{pins.key.algorithm} key {pins.key.key_id}"),
        _equal("key", attestation.key.key_id, pins.key.key_id),
        _equal("nonce", attestation.nonce.hex(), pins.nonce.hex()),
        _age(attestation, pins),
        *_checkpoint(attestation, pins),
        _equal("jail", digest(attestation.jail.encode()), attestation.measurement.jail_sha256),
        _selftest(attestation),
        *_measurement(attestation, pins.expected),
        *_assurance(attestation, pins),
    ]
    return Verdict(tuple(checks), attestation)


def _why(refused: Refused) -> str:
    return ", ".join((refused.rule, *refused.facts.values()))


def _equal(name: str, found: object, expected: object) -> Check:
    if found == expected:
        return Check(name, Status.OK, _shown(found))
    return Check(name, Status.FAILED, f"{_shown(found)}, expected {_shown(expected)}")


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in sorted(value.items()))
    return "none" if value is None else str(value)


def _age(attestation: Attestation, pins: Pins) -> Check:
    age = pins.now - attestation.made_at
    status = Status.OK if -CLOCK_SKEW <= age <= pins.max_age else Status.FAILED
    return Check("age", status, f"{int(age.total_seconds())} s, at most {int(pins.max_age.total_seconds())}")


def _checkpoint(attestation: Attestation, pins: Pins) -> list[Check]:
    """The receipt log's head under the same key; it may not be behind, or beside, what was seen before."""
    try:
        now = open_checkpoint(attestation.checkpoint, ORIGIN, pins.key)
    except Refused as refused:
        return [Check("checkpoint", Status.FAILED, _why(refused))]
    checks = [Check("checkpoint", Status.OK, f"{now.size} receipts")]
    if pins.since is None:
        return [*checks, Check("log since", Status.UNCHECKED, "no earlier checkpoint given")]
    try:
        then = open_checkpoint(pins.since, ORIGIN, pins.key)
    except Refused as refused:
        return [*checks, Check("log since", Status.FAILED, _why(refused))]
    is_back = now.size < then.size or (now.size == then.size and now.root != then.root)
    return [*checks, Check("log since", Status.FAILED if is_back else Status.OK, f"{then.size} to {now.size} receipts")]


def _selftest(attestation: Attestation) -> Check:
    if selftest_digest(attestation.probes) != attestation.measurement.selftest_sha256:
        return Check("self-test", Status.FAILED, "the outcomes are not the measured ones")
    through = sorted(name for name, outcome in attestation.probes.items() if outcome != BLOCKED)
    if through or not attestation.probes:
        return Check("self-test", Status.FAILED, f"not blocked: {', '.join(through) or 'nothing was tried'}")
    return Check("self-test", Status.OK, f"{len(attestation.probes)} escape attempts blocked")


def _measurement(attestation: Attestation, expected: Expectation) -> list[Check]:
    found = {name: getattr(attestation.measurement, name) for name in attestation.measurement.__struct_fields__}
    found["policy_sha256"] = attestation.policy_sha256
    return [
        Check(name, Status.UNCHECKED, _shown(found[name]))
        if getattr(expected, name) is None
        else _equal(name, found[name], getattr(expected, name))
        for name in expected.__struct_fields__
    ]


def _assurance(attestation: Attestation, pins: Pins) -> list[Check]:
    """A claim of hardware counts for nothing without a quote, and a quote for nothing unless it names this key."""
    claims = {attestation.assurance, attestation.measurement.assurance}
    if pins.quoted is not None:
        quoted = pins.quoted
        try:
            report = verify_quote(quoted.quote, quoted.collateral, key_binding(pins.key), pins.now, quoted.policy)
        except Refused as refused:
            return [Check("quote", Status.FAILED, _why(refused))]
        advisories = ", ".join(report.advisories) or "no advisories"
        return [Check("quote", Status.OK, f"{report.kind} {report.status}, {advisories}")]
    if claims != {Assurance.SOFTWARE_ONLY}:
        return [Check("assurance", Status.FAILED, "claims hardware and shows no quote")]
    return [Check("assurance", Status.OK, Assurance.SOFTWARE_ONLY.value)]
