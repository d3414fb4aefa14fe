"""Shares: decided by the plan alone, every vector has one, and together they never exceed the budget."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.privacy import Budget
from enclave_runner.dp.conversion import pico_rho_of
from enclave_runner.dp.mechanism import Noise
from enclave_runner.egress.shares import Share, corrects, learned_norms, quantiles, share_out
from enclave_runner.plan.bound import NormKind
from tests.support.bound_plans import bound

BUDGET = Budget(epsilon="1", delta="1e-6")
CATALOGUE = "bounds = 'catalogue'"
WITH = "SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS({}) "
TEXTS = {
    "count": "SELECT COUNT(*) AS n FROM visits",
    "one row each": "SELECT COUNT(*) AS n FROM homes",
    "moments": "SELECT kind, AVG(amount) AS a, STDDEV(amount) AS d, COUNT(*) AS n FROM visits GROUP BY kind",
    "everything": "SELECT SUM(amount) AS s, MEDIAN(amount) AS m, QUANTILE(amount, 0.9) AS q, COUNT(DISTINCT who) AS u, "
    "COUNT(DISTINCT kind) AS k FROM visits",
    "open keys": "SELECT shop, COUNT(*) AS n, COUNT(DISTINCT who) AS u FROM visits GROUP BY shop",
    "corrected": WITH.format("clip_correction = true") + "COUNT(*) AS n, SUM(amount) AS s FROM visits",
    "catalogue": WITH.format("bounds = 'catalogue'") + "COUNT(*) AS n FROM visits",
    "rollup": "SELECT kind, flag, COUNT(*) AS n FROM visits GROUP BY ROLLUP (kind, flag)",
    "product": "SELECT COUNT(*) AS n FROM visits JOIN calls USING (who)",
}
PLANS = {(name, power): bound(sql, power) for name, sql in TEXTS.items() for power in (1, 2)}
EPSILONS = st.decimals("0.01", "20", places=4)


@given(st.sampled_from(sorted(PLANS)), EPSILONS, st.fractions(Fraction(1, 50), 1, max_denominator=10**6))
@settings(max_examples=120, deadline=None)
def test_the_parts_together_never_exceed_the_portion_of_the_budget(
    which: tuple[str, int], epsilon: Decimal, portion: Fraction
) -> None:
    plan, budget = PLANS[which], Budget(epsilon=str(epsilon), delta="1e-6")
    shares = share_out(plan, budget, portion)
    if plan.power == 2:
        assert shares.epsilon is None
        assert 0 < shares.pico_rho <= pico_rho_of(budget) * portion
        return
    every = [share.epsilon or Decimal(0) for share in (*shares.noisy, *shares.quantiles.values())]
    exact = sum(map(Fraction, every), Fraction(0))
    assert exact <= Fraction(epsilon) * portion
    assert shares.epsilon == pytest.approx(Decimal(exact.numerator) / exact.denominator, rel=Decimal("1e-20"))
    # Pure parts are booked as ε²/2 each, which is no more than that of the whole; one unit of rounding for each part.
    most = Fraction(epsilon) ** 2 * portion**2 / 2 * 10**12
    parts = len(shares.noisy) + len(shares.quantiles)
    assert shares.pico_rho <= most + 3 * parts


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("name", TEXTS)
def test_every_vector_has_a_share_whose_mechanism_costs_no_more(name: str, power: int) -> None:
    plan = PLANS[name, power]
    shares = share_out(plan, BUDGET)
    assert (shares.sums is not None) is (plan.sums is not None)
    assert len(shares.units) == (0 if plan.is_open else len(plan.units))  # the selection counts those of open keys
    assert len(shares.values) == len(plan.values)
    assert set(shares.quantiles) == set(quantiles(plan))
    assert (shares.correction is not None) is corrects(plan)
    assert (shares.selection is not None) is (shares.counting is not None) is plan.is_open
    assert set(shares.learning) == set(learned_norms(plan))
    for share in shares.noisy:
        mechanism = share.mechanism(12345)
        assert mechanism.pico_rho <= share.pico_rho
        assert mechanism.noise is (Noise.GAUSSIAN if power == 2 else Noise.LAPLACE)


def test_learning_takes_a_tenth_of_what_it_serves_and_the_catalogue_nothing() -> None:
    plan = PLANS["count", 2]
    shares = share_out(plan, BUDGET)
    assert shares.sums is not None
    assert shares.learning[NormKind.ROWS].pico_rho == pytest.approx(shares.sums.pico_rho / 10, rel=1e-6)
    assert learned_norms(PLANS["catalogue", 2]) == ()
    assert learned_norms(PLANS["product", 2]) == ()  # no one table gives that norm
    assert learned_norms(PLANS["one row each", 2]) == ()
    assert not corrects(bound(WITH.format("clip_correction = true") + "COUNT(*) AS n FROM homes"))


def test_a_joint_vector_gets_a_part_for_each_aggregate() -> None:
    outputs = "COUNT(*) AS n, COUNT(amount) AS m, AVG(amount) AS a, COUNT(DISTINCT who) AS u"
    shares = share_out(bound(f"{WITH.format(CATALOGUE)} {outputs} FROM visits"), BUDGET)
    assert shares.sums is not None
    assert shares.sums.pico_rho == pytest.approx(3 * shares.units[0].pico_rho, rel=1e-6)


@pytest.mark.parametrize("delta", ["1e-6", "1e-15", "1e-4"])
def test_open_keys_spend_half_of_delta_and_the_rest_of_the_query_the_other(delta: str) -> None:
    plan, budget = PLANS["open keys", 2], Budget(epsilon="1", delta=delta)
    shares = share_out(plan, budget)
    assert shares.delta == Decimal(delta) / 2
    assert 0 < shares.pico_rho <= pico_rho_of(budget, Decimal(delta) / 2) < pico_rho_of(budget)
    assert Decimal(shares.atto_delta) / 10**18 >= shares.delta
    assert share_out(PLANS["count", 2], budget).atto_delta == 0


def test_a_budget_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        share_out(PLANS["everything", 2], Budget(epsilon="1e-9", delta="1e-15"))
    assert caught.value.rule == "budget.malformed"
    with pytest.raises(Refused):
        share_out(PLANS["count", 2], BUDGET, Fraction(1, 10**14))


@given(st.integers(10, 10**13), st.floats(1e-6, 1.0))
def test_a_part_of_a_share_is_rounded_down(pico_rho: int, of: float) -> None:
    try:
        part = Share(pico_rho, None).part(of)
    except Refused as refused:
        assert refused.rule == "budget.malformed"
        assert pico_rho * of < 1
        return
    assert part.pico_rho <= pico_rho * Fraction(of) < part.pico_rho + 1


def test_a_part_of_a_pure_share_is_pure() -> None:
    part = Share(5 * 10**11, Decimal(1)).part(0.25)
    assert part.epsilon == Decimal("0.25")
    assert part.pico_rho == 10**12 // 32 + 1


def test_a_choice_under_a_pure_budget_is_booked_as_what_it_is() -> None:
    """The exponential mechanism at ε is (ε²/8)-zCDP; under ρ it costs its ρ."""
    assert Share(10**12, None).choice_pico_rho == 10**12
    assert Share(5 * 10**11, Decimal(1)).choice_pico_rho == 10**12 // 8
