"""Mechanisms: the least scale that OpenDP proves, whole numbers, exact widths, never silently without noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

import opendp.prelude as dp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.privacy import RHO_UNIT
from enclave_runner.dp import mechanism as module
from enclave_runner.dp.mechanism import MAX_SCALE, Mechanism, Noise, gaussian, laplace, pico
from tests.support.densities import density

LOSSES = st.integers(10**4, 10**6 * RHO_UNIT)
SENSITIVITIES = st.integers(1, 1 << 40)
VECTORS = dp.vector_domain(dp.atom_domain(T="i64"))


@given(SENSITIVITIES, LOSSES)
@settings(max_examples=60, deadline=None)
def test_the_gaussian_scale_is_the_least_that_opendp_proves(sensitivity: int, pico_rho: int) -> None:
    made = gaussian(sensitivity, pico_rho)
    proven = dp.m.make_gaussian(VECTORS, dp.l2_distance(T="f64"), scale=made.scale).map(float(sensitivity))
    assert Fraction(proven) * RHO_UNIT <= pico_rho == made.pico_rho
    ideal = sensitivity / math.sqrt(2 * pico_rho / RHO_UNIT)
    assert ideal * (1 - 1e-11) <= made.scale <= ideal * (1 + 1e-11)


@given(SENSITIVITIES, st.decimals("0.0001", "50", places=6))
@settings(max_examples=60, deadline=None)
def test_the_laplace_scale_is_the_least_that_opendp_proves(sensitivity: int, epsilon: Decimal) -> None:
    made = laplace(sensitivity, epsilon)
    proven = dp.m.make_laplace(VECTORS, dp.l1_distance(T="f64"), scale=made.scale).map(float(sensitivity))
    assert Fraction(proven) <= Fraction(epsilon)
    assert sensitivity / float(epsilon) * (1 - 1e-11) <= made.scale <= sensitivity / float(epsilon) * (1 + 1e-11)
    measurement = dp.m.make_laplace(VECTORS, dp.l1_distance(T="i64"), scale=made.scale)
    by_opendp = dp.c.make_pureDP_to_zCDP(measurement).map(sensitivity)
    booked = Fraction(made.pico_rho, RHO_UNIT)
    assert by_opendp == pytest.approx(float(booked), rel=1e-9, abs=1.01 / RHO_UNIT)
    assert Fraction(sensitivity) ** 2 / Fraction(made.scale) ** 2 / 2 <= booked
    assert booked <= Fraction(epsilon) ** 2 / 2 * Fraction(1 + 1e-9) + Fraction(1, RHO_UNIT)


@given(st.floats(0, 1e6))
def test_a_loss_is_never_rounded_down(rho: float) -> None:
    assert 0 <= pico(rho) - Fraction(rho) * RHO_UNIT < 1


@pytest.mark.parametrize("rho", [math.inf, math.nan])
def test_a_loss_without_a_bound_is_a_fault(rho: float) -> None:
    assert fault(lambda: pico(rho)) == "dp.scale"


@pytest.mark.parametrize(
    "make",
    [
        lambda: gaussian(0, 1),
        lambda: gaussian(-1, 1),
        lambda: gaussian(1, 0),
        lambda: gaussian(1, -1),
        lambda: laplace(0, Decimal(1)),
        lambda: laplace(1, Decimal(0)),
        lambda: laplace(1, Decimal(-1)),
        lambda: laplace(1, Decimal("NaN")),
        lambda: laplace(1, Decimal("Infinity")),
        lambda: laplace(1, Decimal("1e-400")),
    ],
)
def test_no_sensitivity_or_no_loss_never_means_no_noise(make: Callable[[], object]) -> None:
    assert fault(make) == "dp.no-noise"


@pytest.mark.parametrize(
    "make",
    [
        lambda: gaussian(1 << 62, RHO_UNIT),
        lambda: gaussian(10**400, RHO_UNIT),
        lambda: laplace(1 << 55, Decimal(1)),
        lambda: laplace(1, Decimal("1e-300")),
    ],
)
def test_a_scale_near_the_edge_of_64_bits_is_a_fault(make: Callable[[], object]) -> None:
    assert fault(make) == "dp.scale"


@pytest.mark.parametrize("made", [gaussian(1 << 53, RHO_UNIT // 2), laplace(1 << 53, Decimal(1))])
def test_the_widest_noise_and_the_largest_cells_stay_inside_64_bits(made: Mechanism) -> None:
    assert MAX_SCALE / 4 < made.scale <= MAX_SCALE
    edge = (1 << 62) - 1
    for noisy, cell in zip(made.add([edge, -edge] * 50), [edge, -edge] * 50, strict=True):
        assert abs(noisy - cell) < 1 << 60
        assert -(1 << 63) < noisy < (1 << 63) - 1


@pytest.mark.parametrize("cell", [1 << 62, -(1 << 62), 1 << 70])
@pytest.mark.parametrize("made", [gaussian(1, RHO_UNIT), laplace(1, Decimal(1))])
def test_a_cell_beyond_the_proven_range_is_a_fault(made: Mechanism, cell: int) -> None:
    assert fault(lambda: made.add([0, cell])) == "dp.cell"


@pytest.mark.parametrize("made", [gaussian(1, RHO_UNIT // 1000), laplace(1, Decimal("0.05"))])
def test_noise_is_fresh_whole_and_keeps_negatives(made: Mechanism) -> None:
    first, second = made.add([0] * 200), made.add([0] * 200)
    assert first != second
    assert all(type(cell) is int for cell in first)  # hence no digits and no negative zero
    assert any(cell < 0 for cell in first)
    assert len(set(first)) > 20
    assert made.add([]) == []


@pytest.mark.parametrize("count", [4096, 4097, 8192, 20_000])
@pytest.mark.parametrize("made", [gaussian(1, RHO_UNIT), laplace(1, Decimal(1))])
def test_long_vectors_keep_their_order_and_draw_every_cell(made: Mechanism, count: int) -> None:
    exact = [index << 20 for index in range(count)]
    noisy = made.add(exact)
    noise = [after - before for after, before in zip(noisy, exact, strict=True)]
    assert max(map(abs, noise)) < 1 << 10
    for start in range(0, count - 1000, 1000):
        assert len(set(noise[start : start + 1000])) > 1
        assert noise[start : start + 500] != noise[start + 500 : start + 1000]


def test_chunks_do_not_repeat_each_other() -> None:
    noise = gaussian(1, RHO_UNIT // 10**6).add([0] * 32768)
    chunks = [tuple(noise[start : start + 8192]) for start in range(0, 32768, 8192)]
    assert len(set(chunks)) == 4


SMALL = [
    *(Mechanism(Noise.GAUSSIAN, 1, scale, 1) for scale in (0.05, 0.3, 0.5, 0.9, 1.0, 1.7, 2.0, 3.3, 25.0, 400.5)),
    *(Mechanism(Noise.LAPLACE, 1, scale, 1) for scale in (0.01, 0.2, 0.33, 0.5, 1.0, 1.7, 3.3, 25.0, 100.5)),
]


@pytest.mark.parametrize("made", SMALL, ids=str)
def test_width_and_variance_are_those_of_the_distribution(made: Mechanism) -> None:
    """Computed from the density, not sampled. The width is the least whole one, for Gaussian noise at most one more."""
    law, width = density(made), made.half_width
    assert math.fsum(p for x, p in law.items() if abs(x) <= width) >= 0.95
    spare = 1 if made.noise is Noise.LAPLACE else 2
    assert width < spare or math.fsum(p for x, p in law.items() if abs(x) <= width - spare) < 0.95
    assert made.variance == pytest.approx(math.fsum(x * x * p for x, p in law.items()), rel=1e-9, abs=1e-200)


def test_an_answer_of_another_shape_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    made = gaussian(1, RHO_UNIT)
    monkeypatch.setattr(module, "_measurement", lambda noise, scale: lambda cells: [*cells, 0])
    assert fault(lambda: made.add([1])) == "dp.shape"


@pytest.mark.parametrize("make", [lambda: gaussian(1, RHO_UNIT), lambda: laplace(1, Decimal(1))])
def test_a_scale_that_does_not_satisfy_its_map_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], object]
) -> None:
    class Worse:
        def map(self, distance: int) -> float:
            return 1.0000001

    monkeypatch.setattr(module, "_measurement", lambda noise, scale: Worse())
    gaussian.cache_clear()
    laplace.cache_clear()
    assert fault(make) == "dp.scale"


def fault(action: Callable[[], object]) -> str:
    with pytest.raises(Failed) as caught:
        action()
    return caught.value.code
