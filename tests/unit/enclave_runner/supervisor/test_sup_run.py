"""A ticket from signature to receipt: what is released, refused, failed, and what it costs."""

from __future__ import annotations

from enclave_runner.contract.receipt import Outcome
from tests.support.enclave_home import Site, query


def test_a_query_is_released_with_a_receipt(site: Site) -> None:
    receipt = site.order(query())
    assert receipt.outcome is Outcome.RELEASED, (receipt.rule, receipt.facts)
