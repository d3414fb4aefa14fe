"""Quotes of Intel TDX and SGX, verified offline at a given moment, under a policy that is written down.

The optional extra `tee` brings the verifier (dcap-qvl). It stays out of the enclave: it could fetch from the network.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from enclave_runner.contract.codec import Value
from enclave_runner.contract.errors import Failed, Refused

try:
    import dcap_qvl
except ImportError:
    AVAILABLE = False
else:
    AVAILABLE = True

REPORT_DATA_BYTES = 64
# The register that holds the digest of the first code, by kind of report; without it a quote names no code at all.
FIRST_CODE = {"TD10": "mr_td", "TD15": "mr_td", "TD15Ex": "mr_td", "SgxEnclave": "mr_enclave"}
MAX_REASON = 160


class QuotePolicy(Value, frozen=True):
    """Which quotes count.

    `registers` are the expected measurement registers in hex; `mr_td` (TDX) or `mr_enclave` (SGX) must be among them.
    `statuses` are the acceptable TCB statuses, `rejected_advisories` ids that are refused whatever the status.
    The last three say whether the platform may gain processors later, keep keys of them, and share cores.
    """

    registers: dict[str, str]
    statuses: tuple[str, ...] = ("UpToDate",)
    rejected_advisories: tuple[str, ...] = ()
    allow_dynamic_platform: bool = False
    allow_cached_keys: bool = False
    allow_smt: bool = False


class QuoteReport(Value, frozen=True):
    """What a verified quote says."""

    kind: str
    status: str
    advisories: tuple[str, ...]


def verify_quote(quote: bytes, collateral: str, report_data: bytes, now: datetime, policy: QuotePolicy) -> QuoteReport:
    """The report of a quote that Intel's chain signs, that is current at `now`, and that is bound to `report_data`.

    `collateral` is the JSON of QuoteCollateralV3: certificates, revocation lists, TCB and quoting-enclave identity.

    Raises:
        Refused: `quote.invalid` with what is wrong.
        Failed: `quote.support` when the extra `tee` is not installed.
    """
    if not AVAILABLE:
        raise Failed("quote.support")
    try:
        verifier = dcap_qvl.QuoteVerifier()
        claims = json.loads(
            verifier.verify_with_policy(
                quote, dcap_qvl.QuoteCollateralV3.from_json(collateral), _seconds(now), _rules(policy, now)
            ).to_json()
        )
        ((kind, report),) = claims["report"].items()
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise Refused("quote.invalid", what=str(error)[:MAX_REASON]) from None
    _check_report(kind, report, report_data, policy)
    return QuoteReport(
        kind=kind, status=str(claims["tcb"]["status"]), advisories=tuple(sorted(claims["tcb"]["advisory_ids"]))
    )


def _rules(policy: QuotePolicy, now: datetime) -> dcap_qvl.QuotePolicy:
    rules = dcap_qvl.QuotePolicy.strict(_seconds(now))
    for status in policy.statuses:
        rules = rules.allow_status(status)
    return (
        rules.reject_advisories(list(policy.rejected_advisories))
        .allow_dynamic_platform(policy.allow_dynamic_platform)
        .allow_cached_keys(policy.allow_cached_keys)
        .allow_smt(policy.allow_smt)
    )


def _check_report(kind: str, report: dict[str, Any], report_data: bytes, policy: QuotePolicy) -> None:
    """Bound to whom, and running what: the two things that Intel's signature alone does not say."""
    if len(report_data) != REPORT_DATA_BYTES or report.get("report_data") != report_data.hex():
        raise Refused("quote.invalid", what="its report data names another key")
    if FIRST_CODE.get(kind) not in policy.registers:
        raise Refused("quote.invalid", what=f"the policy pins no {FIRST_CODE.get(kind, 'register')} for {kind}")
    for name, expected in sorted(policy.registers.items()):
        if report.get(name) != expected.lower():
            raise Refused("quote.invalid", what=f"register {name} differs")


def _seconds(now: datetime) -> int:
    return int(now.timestamp())
