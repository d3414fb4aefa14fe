"""Noise: the scale that OpenDP itself proves, refused where there would be none, never twice the same."""

from __future__ import annotations

import math

import opendp.prelude as dp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.privacy import RHO_UNIT
from enclave_runner.dp import noise
from enclave_runner.dp.noise import add_noise, half_width, scale_for

LOSSES = st.integers(10**4, 8 * RHO_UNIT)
SENSITIVITIES = st.integers(1, 1 << 40)


@given(SENSITIVITIES, LOSSES)
@settings(max_examples=60, deadline=None)
def test_the_scale_is_the_least_that_opendp_proves(sensitivity: int, pico_rho: int) -> None:
    scale = scale_for(sensitivity, pico_rho)
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64")
    measurement = dp.m.make_gaussian(*space, scale=scale)
    assert measurement.map(float(sensitivity)) * RHO_UNIT <= pico_rho
    ideal = sensitivity / math.sqrt(2 * pico_rho / RHO_UNIT)
    assert ideal * (1 - 1e-9) <= scale <= ideal * (1 + 1e-9)


@pytest.mark.parametrize(("sensitivity", "pico_rho"), [(0, 1), (-1, 1), (1, 0), (1, -1), (0, 0)])
def test_no_sensitivity_or_no_loss_never_means_no_noise(sensitivity: int, pico_rho: int) -> None:
    for attempt in (lambda: scale_for(sensitivity, pico_rho), lambda: add_noise([1], sensitivity, pico_rho)):
        with pytest.raises(Failed) as caught:
            attempt()
        assert caught.value.code == "dp.no-noise"


def test_noise_is_fresh_whole_and_of_the_same_shape() -> None:
    exact = [10**6] * 200
    first, second = add_noise(exact, 1, RHO_UNIT // 1000), add_noise(exact, 1, RHO_UNIT // 1000)
    assert first != second
    assert len(first) == 200
    assert all(type(cell) is int for cell in first)
    assert sum(cell != 10**6 for cell in first) > 100
    assert add_noise([], 1, RHO_UNIT) == []


def test_cells_near_the_edge_of_the_range_keep_their_place() -> None:
    for cell in ((1 << 58) - 1, -(1 << 58)):
        (noisy,) = add_noise([cell], 1 << 40, RHO_UNIT // 100)
        assert abs(noisy - cell) < 1 << 48


@pytest.mark.parametrize("pico_rho", [RHO_UNIT // 10**6, RHO_UNIT // 100, RHO_UNIT, 8 * RHO_UNIT, 10**5 * RHO_UNIT])
@pytest.mark.parametrize("sensitivity", [1, 3, 100])
def test_the_interval_holds_95_percent_of_a_discrete_gaussian(sensitivity: int, pico_rho: int) -> None:
    """Computed exactly from the density, not sampled."""
    scale, width = scale_for(sensitivity, pico_rho), half_width(sensitivity, pico_rho)
    if scale > 10_000:
        return
    reach = int(scale * 12) + 2
    density = [math.exp(-(x * x) / (2 * scale * scale)) for x in range(reach + 1)]
    inside = density[0] + 2 * sum(density[1 : int(width) + 1])
    assert inside / (density[0] + 2 * sum(density[1:])) >= 0.95


def test_an_answer_of_another_shape_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        def map(self, distance: float) -> float:
            return 0.0

        def __call__(self, vector: list[int]) -> list[int]:
            return [*vector, 0]

    monkeypatch.setattr(noise, "_measurement", lambda scale: Wrong())
    with pytest.raises(Failed) as caught:
        add_noise([1], 1, RHO_UNIT)
    assert caught.value.code == "dp.shape"


def test_a_scale_that_never_satisfies_its_map_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    class Never:
        def map(self, distance: float) -> float:
            return math.inf

    monkeypatch.setattr(noise, "_measurement", lambda scale: Never())
    with pytest.raises(Failed) as caught:
        scale_for(1, RHO_UNIT)
    assert caught.value.code == "dp.scale"
