"""Nested entity sets: whoever loses as a household loses as a resident."""

from __future__ import annotations

import pytest

from enclave_runner.contract.grant import Grant
from enclave_runner.contract.privacy import PrivacyLoss
from enclave_runner.supervisor.caps import Caps
from tests.support.enclave_home import make_grant
from tests.support.ledgers import lost

# A resident lies in a household, a household in a street.
CAPS = Caps(lambda entity_set: lost(100, 10, entity_set), {"resident": "household", "household": "street"})


def grant(*budgets: PrivacyLoss) -> Grant:
    return make_grant(budgets=budgets)


def test_every_set_below_the_charged_one_is_charged_alike() -> None:
    booked = CAPS.with_nested((lost(5, 2, "street"),))
    assert booked == (lost(5, 2, "household"), lost(5, 2, "resident"), lost(5, 2, "street"))


def test_a_set_above_or_beside_is_not_charged() -> None:
    assert CAPS.with_nested((lost(5),)) == (lost(5),)
    assert CAPS.with_nested((lost(5, 0, "enterprise"),)) == (lost(5, 0, "enterprise"),)
    assert CAPS.with_nested(()) == ()


@pytest.mark.parametrize(
    ("own", "booked"), [(lost(9, 1), lost(9, 2)), (lost(1, 9), lost(5, 9)), (lost(5, 2), lost(5, 2))]
)
def test_the_larger_of_both_losses_counts_each_by_itself(own: PrivacyLoss, booked: PrivacyLoss) -> None:
    assert CAPS.with_nested((own, lost(5, 2, "household"))) == (lost(5, 2, "household"), booked)


def test_losses_of_one_set_add() -> None:
    assert CAPS.with_nested((lost(5, 2), lost(3, 1))) == (lost(8, 3),)


def test_what_an_officer_allowed_to_households_is_allowed_to_their_residents() -> None:
    wide = grant(lost(5, 1), lost(7, 2, "street"))
    assert CAPS.allotment(wide, "resident") == lost(12, 3)
    assert CAPS.allotment(wide, "household") == lost(7, 2, "household")
    assert CAPS.allotment(wide, "street") == lost(7, 2, "street")
    assert CAPS.allotment(wide, "enterprise") == lost(0, 0, "enterprise")
    assert CAPS.allotment(grant(lost(5, 1)), "household") == lost(0, 0, "household")


@pytest.mark.parametrize("nested", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "b", "b": "c", "c": "b"}])
def test_a_set_inside_itself_is_an_error(nested: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="nested in itself"):
        Caps(CAPS.lifetime, nested).parents("a")
