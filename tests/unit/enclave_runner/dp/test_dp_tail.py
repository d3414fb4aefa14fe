"""Tails: exact for Laplace, bounds hardly above the truth for Gaussian; thresholds that are the least for their δ."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction

import opendp.prelude as dp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_runner.contract.errors import Failed
from enclave_runner.dp.mechanism import Mechanism, Noise
from enclave_runner.dp.tail import delta_of, normal_tail, threshold_for, upper_tail


def laplacian(scale: float) -> Mechanism:
    return Mechanism(Noise.LAPLACE, 1, scale, 1)


def gaussian(scale: float) -> Mechanism:
    return Mechanism(Noise.GAUSSIAN, 1, scale, 1)


def summed(mechanism: Mechanism, k: int) -> Decimal:
    """The tail from the definition with 90 digits, term by term, far beyond the last that counts."""
    with localcontext() as context:
        context.prec = 90
        scale = Decimal(mechanism.scale)

        def weight(x: int) -> Decimal:
            if mechanism.noise is Noise.LAPLACE:
                return (-abs(x) / scale).exp()
            return (-(Decimal(x) ** 2) / (2 * scale**2)).exp()

        reach = k + int(mechanism.scale * (160 if mechanism.noise is Noise.LAPLACE else 18)) + 20
        upper = [weight(x) for x in range(reach + 1)]
        return sum(upper[k:], Decimal(0)) / (2 * sum(upper[1:], Decimal(0)) + upper[0])


@pytest.mark.parametrize("scale", [0.1, 0.7, 1.0, 2.0, 9.5])
@pytest.mark.parametrize("k", [1, 2, 5, 30])
@pytest.mark.parametrize("kind", [laplacian, gaussian])
def test_narrow_tails_are_the_sum_of_their_terms_rounded_up(
    kind: Callable[[float], Mechanism], scale: float, k: int
) -> None:
    exact, bound = Fraction(summed(kind(scale), k)), Fraction(upper_tail(kind(scale), k))
    assert exact * (1 - Fraction(1, 10**80)) <= bound <= exact * (1 + Fraction(1, 10**28))


@pytest.mark.parametrize("scale", [64.5, 100.0])
@pytest.mark.parametrize(("sigmas", "excess"), [(0.5, 0.02), (1.2, 1e-4), (3, 1e-3), (6.5, 1e-3)])
def test_wide_gaussian_tails_are_hardly_above_the_sum(scale: float, sigmas: float, excess: float) -> None:
    k = int(scale * sigmas)
    ratio = Fraction(upper_tail(gaussian(scale), k)) / Fraction(summed(gaussian(scale), k))
    assert 1 <= ratio <= 1 + Fraction(excess)


@given(st.floats(0, 37))
@settings(max_examples=100, deadline=None)
def test_the_normal_tail_agrees_with_erfc(x: float) -> None:
    reference = math.erfc(x / math.sqrt(2)) / 2
    assert float(normal_tail(Fraction(x))) == pytest.approx(reference, rel=1e-12 * (1 + x * x))


def test_the_two_formulas_of_the_normal_tail_meet() -> None:
    """At 3 the series ends and the fraction begins; 10⁻³⁰ before it the tail is larger by 3.3 parts in 10³⁰."""
    below, above = normal_tail(3 - Fraction(1, 10**30)), normal_tail(Fraction(3))
    assert 3e-30 < Fraction(below) / Fraction(above) - 1 < 4e-30


@pytest.mark.parametrize("made", [laplacian(1.0), laplacian(1e5), gaussian(3.0), gaussian(70.0), gaussian(2.0**50)])
def test_a_tail_falls_and_is_a_probability(made: Mechanism) -> None:
    values = [upper_tail(made, int(made.scale * sigmas) + 1) for sigmas in (0, 0.5, 1, 1.01, 2, 5, 9, 40)]
    assert values == sorted(values, reverse=True)
    assert all(0 < value <= Decimal("0.5") for value in values)
    assert upper_tail(made, 0) == upper_tail(made, -5) == 1


@given(
    st.sampled_from([laplacian(0.3), laplacian(1.0), laplacian(4e6), gaussian(0.2), gaussian(7.0), gaussian(4.75e6)]),
    st.integers(1, 1000),
    st.sampled_from(["1e-4", "1e-6", "1e-10", "1e-18"]),
    st.sampled_from([1, 7, 1 << 20]),
)
@settings(max_examples=60, deadline=None)
def test_a_threshold_is_the_least_for_its_delta(made: Mechanism, keys: int, delta: str, step: int) -> None:
    threshold = threshold_for(made, keys, Decimal(delta), step)
    assert delta_of(made, threshold, keys, step) <= Decimal(delta)
    assert threshold == step + 1 or delta_of(made, threshold - 1, keys, step) > Decimal(delta)


@pytest.mark.parametrize("made", [laplacian(2.0), gaussian(2.0), gaussian(1e6)])
def test_delta_counts_every_key_and_the_step(made: Mechanism) -> None:
    far = int(made.scale * 6)
    assert delta_of(made, far + 1, 1) == upper_tail(made, far)
    assert delta_of(made, far + 9, 5, step=9) == pytest.approx(5 * upper_tail(made, far))
    assert delta_of(made, far, 1 << 40) == 1


def test_opendp_2922_our_delta_is_that_of_the_comparison_that_is_made() -> None:
    """OpenDP releases at ≥ and computes δ for >; at scale 1 and threshold 5 it reports e^-5/(1 + e^-1) ≈ 0.0049."""
    truth = math.exp(-4) / (1 + math.exp(-1))
    assert float(delta_of(laplacian(1.0), 5, 1)) == pytest.approx(truth, rel=1e-14)
    domain = dp.map_domain(dp.atom_domain(T="i64"), dp.atom_domain(T="i64"))
    metric = dp.l01inf_distance(dp.absolute_distance(T="i64"))
    _, reported = dp.m.make_laplace_threshold(domain, metric, scale=1.0, threshold=5).map((1, 1, 1))
    assert reported < truth / 2, "OpenDP has repaired #2922: see dp/tail.py"


@pytest.mark.parametrize(
    "action",
    [
        lambda: delta_of(laplacian(1.0), 5, 0),
        lambda: delta_of(laplacian(1.0), 5, 1, step=0),
        lambda: delta_of(laplacian(1.0), 5, (1 << 40) + 1),
        lambda: threshold_for(laplacian(1.0), 1, Decimal(0)),
        lambda: threshold_for(laplacian(1.0), 1, Decimal(1)),
        lambda: threshold_for(laplacian(1.0), 1, Decimal("NaN")),
        lambda: threshold_for(laplacian(2.0**54), 1, Decimal("1e-300")),
        lambda: threshold_for(laplacian(1.0), 1, Decimal("1e-6"), step=1 << 62),
    ],
)
def test_a_release_without_a_threshold_is_a_fault(action: Callable[[], object]) -> None:
    with pytest.raises(Failed) as caught:
        action()
    assert caught.value.code == "dp.threshold"
