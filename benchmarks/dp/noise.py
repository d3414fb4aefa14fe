"""What our noise costs beside the bare OpenDP calls that it stands on: few cells, and many."""

from __future__ import annotations

import random

import opendp.prelude as dp

from benchmarks.report import Check, interleaved
from enclave_runner.contract.privacy import RHO_UNIT
from enclave_runner.dp.mechanism import Mechanism, gaussian

SENSITIVITY, PICO_RHO = 128 << 20, RHO_UNIT * 2435 // 100_000  # a clip of 128 rows, (1, 1e-6)
FEW, MANY = 20, 100_000
FEW_ROUNDS, MANY_ROUNDS = 201, 3


def noise_checks(few_rounds: int = FEW_ROUNDS, many_rounds: int = MANY_ROUNDS) -> list[Check]:
    """Both ratios."""
    beside = "bare OpenDP: build, map and draw of one vector"
    few = _ratio(FEW, few_rounds)
    many = _ratio(MANY, many_rounds)
    return [
        Check("dp_noise_20_cells", few[0], "x", "<= 2", beside, few[1]),
        Check("dp_noise_100000_cells", many[0], "x", "<= 0.6", f"{beside}, one thread", many[1]),
    ]


def _ratio(cells: int, rounds: int) -> tuple[float, str]:
    draw = random.Random(7)
    exact = [draw.randrange(10**12) for _ in range(cells)]
    scale = _ours().scale
    mine, bare = interleaved(rounds, lambda: _ours().add(exact), lambda: _bare(scale, exact))
    return mine / bare, f"{cells} cells: {mine * 1000:.2f} ms beside {bare * 1000:.2f} ms"


def _ours() -> Mechanism:
    return gaussian(SENSITIVITY, PICO_RHO)


def _bare(scale: float, exact: list[int]) -> list[int]:
    domain = dp.vector_domain(dp.atom_domain(T="i64"))
    measurement = dp.m.make_gaussian(domain, dp.l2_distance(T="i64"), scale=scale)
    measurement.map(SENSITIVITY)
    noisy: list[int] = measurement(exact)
    return noisy
