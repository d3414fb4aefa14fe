"""What an auditor names on a command line, judged: files are read, keys and nonces are hex, times carry their zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from enclave_runner.contract.attestation import Expectation
from enclave_runner.contract.codec import decode
from enclave_runner.contract.errors import Failed
from enclave_runner.contract.receipt import Assurance
from enclave_runner.contract.signing import PublicKey
from sandbox.client.attestation import (
    MAX_AGE,
    SOFTWARE_ONLY_EN,
    SOFTWARE_ONLY_ZH,
    Pins,
    Quoted,
    Status,
    Verdict,
    verify_attestation,
)
from sandbox.client.tee import QuotePolicy

T = TypeVar("T")
ED25519_BYTES = 32


@dataclass(frozen=True)
class Audit:
    """One attestation in a file, and what to hold it against."""

    attestation: Path
    key: str
    nonce: str
    expect: Path | None = None
    since: Path | None = None
    quote: Path | None = None
    collateral: Path | None = None
    quote_policy: Path | None = None
    max_age_seconds: int = int(MAX_AGE.total_seconds())
    at: str | None = None

    def judge(self) -> Verdict:
        """Read everything and verify.

        Raises:
            ValueError: an argument is not what it should be.
            Failed: `file.unreadable`, or as `verify_attestation`.
            Refused: `wire.malformed` for a file of expectations or a policy.
        """
        return verify_attestation(
            _bytes(self.attestation),
            Pins(
                key=parse_key(self.key),
                nonce=bytes.fromhex(self.nonce),
                now=parse_time(self.at) if self.at else datetime.now(UTC),
                max_age=timedelta(seconds=self.max_age_seconds),
                expected=_value(self.expect, Expectation) if self.expect else Expectation(),
                since=_bytes(self.since).decode() if self.since else None,
                quoted=self._quoted(),
            ),
        )

    def _quoted(self) -> Quoted | None:
        if self.quote is None and self.collateral is None and self.quote_policy is None:
            return None
        if self.quote is None or self.collateral is None or self.quote_policy is None:
            raise ValueError("a quote needs its collateral and a policy: three files, or none")
        return Quoted(
            quote=_bytes(self.quote),
            collateral=_bytes(self.collateral).decode(),
            policy=_value(self.quote_policy, QuotePolicy),
        )


def format_key(key: PublicKey) -> str:
    """A public key on one line: algorithm and hex."""
    return f"{key.algorithm}:{key.raw.hex()}"


def parse_key(text: str) -> PublicKey:
    """The key that `format_key` wrote.

    Raises:
        ValueError: it is no such line.
    """
    algorithm, colon, raw = text.strip().partition(":")
    if not (algorithm and colon and raw):
        raise ValueError("a key is written as algorithm:hex")
    key = PublicKey(algorithm=algorithm, raw=bytes.fromhex(raw))
    if key.algorithm == "ed25519" and len(key.raw) != ED25519_BYTES:
        raise ValueError("an ed25519 key has 32 bytes")
    return key


def parse_time(text: str) -> datetime:
    """A moment in ISO 8601 with its zone.

    Raises:
        ValueError: it is none.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time needs its zone")
    return moment


def document(verdict: Verdict) -> dict[str, object]:
    """The verdict for scripts."""
    return {
        "ok": verdict.ok,
        "assurance": verdict.assurance.value,
        "headline": headline(verdict),
        "checks": [{"name": c.name, "status": c.status.value, "detail": c.detail} for c in verdict.checks],
        "notes": notes(verdict),
        "claims": verdict.attestation,
    }


def headline(verdict: Verdict) -> str:
    """One line that never says more than was verified."""
    if not verdict.ok:
        return "核验未通过 / NOT VERIFIED"
    open_items = sum(check.status is Status.UNCHECKED for check in verdict.checks)
    rest = f"; 未比对 / not compared: {open_items}" if open_items else ""
    return f"核验通过 / verified: {verdict.assurance.value}{rest}"


def claims(verdict: Verdict) -> list[str]:
    """What the enclave says beyond its measurement; nothing when it was not the enclave that said it."""
    said = verdict.attestation
    if said is None:
        return []
    held = ", ".join(f"{name} {version}" for name, version in sorted(said.data_versions.items()))
    return [
        f"时间 / made at       {said.made_at.isoformat()}, no. {said.number}",
        f"数据版本 / data held  {held or 'none'}",
        f"隔离配置 / jail       {said.jail}",
    ]


def notes(verdict: Verdict) -> list[str]:
    """What the verdict does not prove, in both languages."""
    return [] if verdict.assurance is Assurance.TEE_VERIFIED else [SOFTWARE_ONLY_ZH, SOFTWARE_ONLY_EN]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise Failed("file.unreadable") from None


def _value(path: Path, kind: type[T]) -> T:
    return decode(_bytes(path), kind)
