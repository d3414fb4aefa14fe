"""Noise as it leaves: after shares, scaling and rounding to text. Each test states its false-alarm rate."""

from __future__ import annotations

import math
from statistics import NormalDist

from enclave_runner.contract.privacy import Budget
from enclave_runner.egress.estimate import linear
from enclave_runner.egress.measure import noisy_sums
from enclave_runner.egress.shares import share_out
from enclave_runner.egress.table import Groups, public_keys
from tests.support.bound_plans import bound

FALSE_ALARM = 1e-6
Z = NormalDist().inv_cdf(1 - FALSE_ALARM / 4)  # two-sided, shared by two tests of one sample
RUNS = 600


def test_a_released_count_is_unbiased_and_as_noisy_as_its_share_says() -> None:
    """600 releases of 3 cells whose exact value is 3, so that many are negative. False alarms: 1e-6."""
    plan = bound("SELECT kind, COUNT(*) FROM visits GROUP BY kind")
    sums, share = plan.sums, share_out(plan, Budget(epsilon="1")).sums
    assert sums is not None and share is not None
    clip, scale = sums.clipping.limit, sums.clipping.weight_scale
    noise = []
    for _ in range(RUNS):
        (vectors,) = noisy_sums(plan, sums, share, clip, ((3 * scale,) * 3,))
        groups = Groups(public_keys(plan)[0], tuple(linear(item, vectors, sums.statistics) for item in plan.estimates))
        noise += [float(text) - 3 for (text,) in groups.texts(plan) if text is not None]
    variance = share.mechanism(sums.clipping.sensitivity(clip)).variance / scale**2
    assert len(noise) == 3 * RUNS
    assert sum(value < -3 for value in noise) > RUNS / 2
    assert abs(sum(noise) / len(noise)) <= Z * math.sqrt(variance / len(noise)) + 0.005
    spread = 1.05 * Z * variance * math.sqrt(2 / len(noise)) + 0.001
    assert abs(sum(value * value for value in noise) / len(noise) - variance) <= spread
