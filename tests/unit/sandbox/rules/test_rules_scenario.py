from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from enclave_runner.contract.grant import Purpose
from sandbox.rules.scenario import NOTHING_FILED, decide_use
from tests.support.bureau import BANK, OPERATOR, SHOP, START, grant, paid_grant, scenario

CREDIT = scenario("credit", Purpose.INDUSTRY, (BANK,))


@pytest.mark.parametrize("requester", [OPERATOR, BANK])
def test_the_operator_and_the_named_recipients_may_receive(requester: str) -> None:
    assert decide_use(CREDIT, paid_grant(), requester, START).allowed


def test_nobody_else_may_receive() -> None:
    decision = decide_use(CREDIT, paid_grant(), SHOP, START)
    assert (decision.rule, decision.facts) == ("scenario.recipient", {"party": SHOP})


def test_the_authorization_ends_at_its_moment() -> None:
    assert decide_use(CREDIT, paid_grant(), BANK, CREDIT.valid_until - timedelta(seconds=1)).allowed
    assert decide_use(CREDIT, paid_grant(), BANK, CREDIT.valid_until).rule == "scenario.expired"


def test_the_digest_of_nothing_is_no_evidence() -> None:
    assert decide_use(replace(CREDIT, evidence_sha256=NOTHING_FILED), paid_grant(), BANK, START).rule == (
        "scenario.evidence"
    )


def test_the_purpose_is_the_authorized_one() -> None:
    assert decide_use(CREDIT, grant("g"), BANK, START).rule == "grant.purpose"
