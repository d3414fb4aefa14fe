"""The parameters of private lookups are worth 128 bits by an estimate that agrees with published ones."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from enclave_runner.contract.protocols import lattice
from tools import lattice_estimate
from tools.lattice_estimate import Estimate, estimate

LOG_KYBER = math.log2(3329)
PAGE = Path(__file__).parents[3] / "docs/reference/lattice.md"


# Kyber specification, round 3 (version 3.01, 2021), table 4: bits by core-SVP, classical and quantum. The deviation of
# the centred binomial of parameter η is √(η/2).
@pytest.mark.parametrize(
    ("n", "eta", "classical", "quantum"), [(512, 3, 118, 107), (768, 2, 182, 165), (1024, 2, 256, 232)]
)
def test_kyber_is_worth_what_its_authors_say(n: int, eta: int, classical: int, quantum: int) -> None:
    found = estimate(n, LOG_KYBER, math.sqrt(eta / 2), samples=n)
    assert found.classical == pytest.approx(classical, abs=1.5)
    assert found.quantum == pytest.approx(quantum, abs=1.5)


# malb/lattice-estimator at 27a581b (2026-06-06): primal_usvp with the cost model ADPS16, q = 2^32, 2^20 samples.
@pytest.mark.parametrize(
    ("n", "sigma", "block"), [(1024, 6.4, 326), (1024, 11.0, 351), (1280, 6.4, 441), (1408, 6.4, 500)]
)
def test_it_finds_the_blocks_of_the_lattice_estimator(n: int, sigma: float, block: int) -> None:
    assert estimate(n, 32, sigma).block == pytest.approx(block, abs=1)


def test_lookups_are_worth_128_bits_also_against_a_quantum_computer() -> None:
    found = estimate(lattice.DIMENSION, 32, float(lattice.SIGMA))
    assert (found.classical, found.quantum) > (128, 128)
    assert min(found.classical, found.quantum) > 128


def test_the_dimension_of_the_first_paper_would_not_be() -> None:
    """Why it is not 1024: the control of the test above."""
    assert estimate(1024, 32, 6.4).classical < 100


def test_a_smaller_error_or_a_larger_modulus_is_worth_less() -> None:
    base = estimate(700, 24, 6.4).block
    assert estimate(700, 24, 3.2).block < base
    assert estimate(700, 28, 6.4).block < base
    assert estimate(760, 24, 6.4).block > base


def test_it_is_told_in_bits(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["lattice_estimate.py"])
    lattice_estimate.main()
    told = capsys.readouterr().out
    assert told.startswith(f"n = {lattice.DIMENSION}, q = 2^32, sigma = {lattice.SIGMA}: block 500, ")
    assert Estimate(500, 3009).classical == 146.0
    assert "core-SVP 146.0 bits, quantum 132.5 bits" in told


def test_the_page_tells_of_these_parameters() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert f"n = {lattice.DIMENSION}" in page
    assert f"σ = {lattice.SIGMA}" in page
    assert "146.0" in page
