"""The offline verdict: one wrong thing at a time, and the check that names it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from enclave_runner.contract.attestation import PURPOSE, Expectation, key_binding, selftest_digest
from enclave_runner.contract.codec import encode
from enclave_runner.contract.receipt import Assurance
from enclave_runner.contract.signing import Algorithm, KeyFile, Signed, seal
from sandbox.client.attestation import CLOCK_SKEW, MAX_AGE, Pins, Quoted, Status, Verdict, verify_attestation
from tests.support.attestations import (
    KEY,
    NONCE,
    NOW,
    PROBES,
    checkpoint_note,
    make_attestation,
    make_measurement,
    sealed,
)
from tests.support.receipts import altered
from tests.support.tee_samples import NOW as SAMPLED
from tests.support.tee_samples import TDX

OTHER = KeyFile(Ed25519PrivateKey.generate())
PINS = Pins(key=KEY.public_key, nonce=NONCE, now=NOW)
FULL = Expectation(
    runner_sha256="1" * 64,
    packages_sha256="2" * 64,
    startup_sha256="3" * 64,
    jail_sha256=make_measurement().jail_sha256,
    policy_sha256="4" * 64,
    python="3.11.2",
    kernel="6.18.0",
    engines={"duckdb": "2.0.1"},
)


def pins(**fields: object) -> Pins:
    return Pins(**{**{name: getattr(PINS, name) for name in PINS.__dataclass_fields__}, **fields})  # type: ignore[arg-type]


def judge(signed: Signed | bytes, **given: object) -> Verdict:
    return verify_attestation(signed if isinstance(signed, bytes) else encode(signed), pins(**given))


def failed(verdict: Verdict) -> list[str]:
    names = [check.name for check in verdict.checks if check.status is Status.FAILED]
    assert verdict.ok == (not names)
    assert verdict.assurance is Assurance.SOFTWARE_ONLY
    return names


def test_what_fits_is_verified_and_stays_software_only() -> None:
    verdict = judge(sealed(), expected=FULL, since=checkpoint_note())
    assert failed(verdict) == []
    assert verdict.attestation == make_attestation()
    unchecked = [check.name for check in verdict.checks if check.status is Status.UNCHECKED]
    assert unchecked == ["lock_sha256"]


def test_without_expectations_nothing_passes_for_compared() -> None:
    verdict = judge(sealed())
    unchecked = {check.name for check in verdict.checks if check.status is Status.UNCHECKED}
    assert unchecked == {"log since", *Expectation.__struct_fields__}


@pytest.mark.parametrize(
    ("signed", "given", "expected"),
    [
        (sealed(OTHER), {}, ["signature"]),
        (sealed(), {"key": OTHER.public_key}, ["signature"]),
        (sealed(purpose="receipt"), {}, ["signature"]),
        (altered(sealed(purpose="receipt"), purpose=PURPOSE), {}, ["signature"]),
        (altered(sealed(), payload=encode(make_attestation(number=2))), {}, ["signature"]),
        (sealed(key=OTHER.public_key), {}, ["key"]),
        (sealed(), {"nonce": b"another"}, ["nonce"]),
        (sealed(nonce=b"of yesterday"), {}, ["nonce"]),
        (sealed(), {"now": NOW + MAX_AGE}, []),
        (sealed(), {"now": NOW + MAX_AGE + timedelta(seconds=1)}, ["age"]),
        (sealed(), {"now": NOW - CLOCK_SKEW}, []),
        (sealed(), {"now": NOW - CLOCK_SKEW - timedelta(seconds=1)}, ["age"]),
        (sealed(checkpoint=checkpoint_note(signer=OTHER)), {}, ["checkpoint"]),
        (sealed(checkpoint=checkpoint_note(origin="another/log"), origin="another/log"), {}, ["checkpoint"]),
        (sealed(checkpoint="text"), {}, ["checkpoint"]),
        (sealed(), {"since": checkpoint_note(b"receipt")}, []),
        (sealed(), {"since": checkpoint_note(b"receipt", b"later")}, ["log since"]),
        (sealed(), {"since": checkpoint_note(b"another")}, ["log since"]),
        (sealed(), {"since": checkpoint_note(signer=OTHER)}, ["log since"]),
        (sealed(jail="{}"), {}, ["jail"]),
        (sealed(probes={**PROBES, "mount": "ALLOWED"}), {}, ["self-test"]),
        (sealed(assurance=Assurance.TEE_VERIFIED), {}, ["assurance"]),
        (sealed(measurement=make_measurement(assurance=Assurance.TEE_VERIFIED)), {}, ["assurance"]),
    ],
)
def test_each_wrong_thing_is_named(signed: Signed, given: dict[str, object], expected: list[str]) -> None:
    assert failed(judge(signed, **given)) == expected


@pytest.mark.parametrize("probes", [{}, {"mount": "ALLOWED"}, {"mount": "BLOCKED", "tcp": "MISSING"}])
def test_a_self_test_that_is_honestly_bad_is_bad(probes: dict[str, str]) -> None:
    measurement = make_measurement(selftest_sha256=selftest_digest(probes))
    assert failed(judge(sealed(measurement=measurement, probes=probes))) == ["self-test"]


@pytest.mark.parametrize("name", [*Expectation.__struct_fields__])
def test_every_expected_item_is_compared(name: str) -> None:
    wrong: object = {"duckdb": "2.0.0"} if name == "engines" else "0" * 64
    verdict = judge(sealed(), expected=altered(FULL, **{name: wrong}))
    assert failed(verdict) == [name]


def test_after_a_bad_signature_nothing_else_is_said() -> None:
    verdict = judge(sealed(OTHER))
    assert verdict.attestation is None
    assert [check.name for check in verdict.checks] == ["signature"]


@pytest.mark.parametrize("data", [b"", b"{}", b"null", b"\xff", encode(sealed())[:-1], encode(sealed())[1:]])
def test_what_is_no_signed_document_is_malformed(data: bytes) -> None:
    assert failed(judge(data)) == ["form"]


def test_unknown_fields_are_refused_outside_and_inside() -> None:
    signed = encode(sealed())
    assert failed(judge(signed[:-1] + b',"extra":1}')) == ["form"]
    payload = encode(make_attestation())[:-1] + b',"extra":1}'
    assert failed(judge(resealed(payload))) == ["form"]
    assert failed(judge(resealed(payload.replace(b',"extra":1', b"")))) == []


def resealed(payload: bytes) -> Signed:
    """Any payload under the real key: what a defective or malicious enclave could sign."""
    signature = KEY.sign(b"yunei/v1/attestation\n" + payload)
    return altered(sealed(), payload=payload, signature=signature)  # type: ignore[return-value]


def test_every_byte_of_the_document_counts() -> None:
    data = encode(sealed())
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        assert failed(judge(changed)), at


def test_a_quote_for_another_key_gives_no_assurance() -> None:
    quoted = Quoted(TDX.quote, TDX.collateral, TDX.policy)
    verdict = judge(sealed(assurance=Assurance.TEE_VERIFIED), quoted=quoted)
    assert "quote" in failed(verdict)


def test_only_a_quote_that_names_this_key_makes_it_tee_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    # No hardware here: the sample's report data stands in for the binding of our key, all else is real.
    monkeypatch.setattr("sandbox.client.attestation.key_binding", lambda key: TDX.report_data)
    quoted, signed = Quoted(TDX.quote, TDX.collateral, TDX.policy), sealed(made_at=SAMPLED)
    verdict = judge(signed, quoted=quoted, now=SAMPLED)
    assert (verdict.ok, verdict.assurance) == (True, Assurance.TEE_VERIFIED)
    stale = judge(signed, quoted=quoted, now=SAMPLED + timedelta(days=1))
    assert failed(stale) == ["age"]


def test_a_key_has_a_binding_of_its_own(tmp_path: Path) -> None:
    keys = [KEY.public_key, OTHER.public_key, KeyFile.create(tmp_path / "sm2", Algorithm.SM2).public_key]
    keys.append(altered(KEY.public_key, algorithm="sm2"))  # type: ignore[arg-type]
    bindings = {key_binding(key) for key in keys}
    assert (len(bindings), {len(binding) for binding in bindings}) == (4, {64})


def test_an_sm2_enclave_is_verified_alike(tmp_path: Path) -> None:
    key = KeyFile.create(tmp_path / "sm2", Algorithm.SM2)
    signed = seal(make_attestation(key), PURPOSE, key)
    assert failed(judge(signed, key=key.public_key)) == []
    assert failed(judge(signed)) == ["signature"]
