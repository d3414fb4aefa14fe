"""Whatever is charged, with whatever sets nested in whatever others: nobody inside loses less than the whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from enclave_runner.contract.privacy import PrivacyLoss
from enclave_runner.supervisor.caps import Caps, Losses

SETS = [f"set-{number}" for number in range(6)]
# The parent of a set is one of a higher number: no cycle.
NESTED = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from(SETS[number + 1 :]) for number, name in enumerate(SETS[:-1])}
)
LOSSES = st.lists(
    st.builds(PrivacyLoss, entity_set=st.sampled_from(SETS), pico_rho=st.integers(0, 9), atto_delta=st.integers(0, 9)),
    max_size=6,
).map(tuple)


def caps(nested: dict[str, str]) -> Caps:
    return Caps(lambda entity_set: PrivacyLoss(entity_set=entity_set, pico_rho=0), nested)


def amounts(losses: Losses) -> dict[str, tuple[int, int]]:
    return {loss.entity_set: (loss.pico_rho, loss.atto_delta) for loss in losses}


@given(NESTED, LOSSES)
def test_every_nested_set_loses_at_least_what_its_parents_lose(nested: dict[str, str], losses: Losses) -> None:
    booked = amounts(caps(nested).with_nested(losses))
    for inner, outer in nested.items():
        for own, parent in zip(booked.get(inner, (0, 0)), booked.get(outer, (0, 0)), strict=True):
            assert own >= parent
    for name in SETS:  # and never less than what was charged to it, nor more than somebody was charged
        direct = [loss for loss in losses if loss.entity_set == name]
        assert booked.get(name, (0, 0))[0] >= sum(loss.pico_rho for loss in direct)
        assert booked.get(name, (0, 0))[1] >= sum(loss.atto_delta for loss in direct)


@given(NESTED, LOSSES)
def test_booking_again_changes_nothing_and_more_never_books_less(nested: dict[str, str], losses: Losses) -> None:
    rules = caps(nested)
    booked = rules.with_nested(losses)
    assert rules.with_nested(booked) == booked
    assert [loss.entity_set for loss in booked] == sorted({loss.entity_set for loss in booked})
    less = amounts(rules.with_nested(losses[:-1]))
    for name, amount in amounts(booked).items():
        assert all(one <= other for one, other in zip(less.get(name, (0, 0)), amount, strict=True))
