"""Article 35 at dispatch: free use and paid use are both conditional, and the conditions hold at the moment of use."""

from __future__ import annotations

import hashlib
from datetime import datetime

from enclave_runner.contract.grant import Grant
from sandbox.domain.decision import ALLOWED, Decision, refuse
from sandbox.domain.scenario import Scenario

NOTHING_FILED = hashlib.sha256(b"").hexdigest()


def decide_use(scenario: Scenario, grant: Grant, requester_id: str, now: datetime) -> Decision:
    """Whether a use under this scenario may be released to the requester now."""
    if scenario.evidence_sha256 == NOTHING_FILED:
        return refuse("scenario.evidence")
    if scenario.purpose is not grant.purpose:
        return refuse("grant.purpose", purpose=grant.purpose.value, authorized=scenario.purpose.value)
    if now >= scenario.valid_until:
        return refuse("scenario.expired", until=scenario.valid_until.date().isoformat())
    if requester_id not in (scenario.operator_id, *scenario.recipients):
        return refuse("scenario.recipient", party=requester_id)
    return ALLOWED
