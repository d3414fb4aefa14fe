"""Real quotes of real hardware, at a fixed clock: what is accepted, and each way of not being accepted."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from enclave_runner.contract.errors import Failed, Refused
from sandbox.client import tee
from sandbox.client.tee import QuotePolicy, QuoteReport, verify_quote
from tests.support.receipts import altered
from tests.support.tee_samples import NOW, SGX, TDX, Sample

both = pytest.mark.parametrize("sample", [TDX, SGX], ids=lambda sample: sample.name)


def verify(sample: Sample, **changed: object) -> QuoteReport:
    given = {
        "quote": sample.quote,
        "collateral": sample.collateral,
        "report_data": sample.report_data,
        "now": NOW,
        "policy": sample.policy,
    }
    return verify_quote(**{**given, **changed})  # type: ignore[arg-type]


def reason(sample: Sample, **changed: object) -> str:
    with pytest.raises(Refused) as caught:
        verify(sample, **changed)
    assert caught.value.rule == "quote.invalid"
    return caught.value.facts["what"]


def policy(sample: Sample, **fields: object) -> QuotePolicy:
    return altered(sample.policy, **fields)  # type: ignore[return-value]


def test_the_samples_verify_with_what_they_are() -> None:
    assert verify(TDX) == QuoteReport(kind="TD10", status="UpToDate", advisories=())
    assert verify(SGX) == QuoteReport(
        kind="SgxEnclave",
        status="ConfigurationAndSWHardeningNeeded",
        advisories=("INTEL-SA-00289", "INTEL-SA-00615"),
    )


@both
def test_any_flipped_byte_of_what_is_signed_is_refused(sample: Sample) -> None:
    for at in itertools.chain(*sample.signed):
        flipped = bytearray(sample.quote)
        flipped[at] ^= 1
        assert reason(sample, quote=bytes(flipped)), at


@both
def test_a_truncated_or_foreign_quote_is_refused(sample: Sample) -> None:
    other = SGX if sample is TDX else TDX
    for quote in (b"", sample.quote[:-1000], sample.quote[: sample.signed[-1].stop], b"\0" * 5000):
        assert reason(sample, quote=quote)
    assert reason(sample, collateral=other.collateral)


@both
@pytest.mark.parametrize("days", [-30, 40, 400])
def test_collateral_counts_in_its_own_time_only(sample: Sample, days: int) -> None:
    assert reason(sample, now=NOW + timedelta(days=days))


@both
def test_todays_clock_refuses_the_old_samples(sample: Sample) -> None:
    assert "Expired" in reason(sample, now=datetime(2026, 11, 24, tzinfo=UTC))


@both
def test_altered_collateral_is_refused(sample: Sample) -> None:
    forged = sample.collateral.replace("UpToDate", "Revoked_", 1)
    assert forged != sample.collateral
    for collateral in (forged, "{}", "", "[1]"):
        assert reason(sample, collateral=collateral)


@both
def test_it_must_name_this_key(sample: Sample) -> None:
    wrong = bytes([sample.report_data[0] ^ 1]) + sample.report_data[1:]
    for report_data in (wrong, b"", sample.report_data[:-1], sample.report_data + b"\0"):
        assert "key" in reason(sample, report_data=report_data)


@both
def test_the_code_must_be_pinned_and_equal(sample: Sample) -> None:
    name = next(iter(sample.policy.registers))
    assert "pins no" in reason(sample, policy=policy(sample, registers={}))
    assert "pins no" in reason(sample, policy=policy(sample, registers={"mr_signer": "00"}))
    assert name in reason(sample, policy=policy(sample, registers={name: "00" * 48}))
    assert "other" in reason(sample, policy=policy(sample, registers={**sample.policy.registers, "other": "00"}))


def test_a_weaker_status_counts_only_where_the_policy_names_it() -> None:
    assert "not acceptable" in reason(SGX, policy=policy(SGX, statuses=("UpToDate",)))
    assert "INTEL-SA-00615" in reason(SGX, policy=policy(SGX, rejected_advisories=("INTEL-SA-00615",)))
    assert "Unknown" in reason(SGX, policy=policy(SGX, statuses=("Splendid",)))


@pytest.mark.parametrize("right", ["allow_dynamic_platform", "allow_cached_keys", "allow_smt"])
def test_every_property_of_the_platform_must_be_allowed(right: str) -> None:
    assert "not allowed" in reason(TDX, policy=policy(TDX, **{right: False}))


def test_without_the_extra_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tee, "AVAILABLE", False)
    with pytest.raises(Failed) as caught:
        verify(TDX)
    assert caught.value.code == "quote.support"
