"""Exact vectors become noisy ones: shapes, sensitivities, coarsening, clips, corrections, consistent marginals.

Statistical assertions here have a false-alarm rate below 1e-6 each; the law of the noise itself is tested elsewhere.
"""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.privacy import Budget
from enclave_runner.egress import measure
from enclave_runner.egress.measure import Learned, Noisy
from enclave_runner.egress.shares import Share, share_out
from enclave_runner.plan.bound import WEIGHT_SCALE, NormKind
from tests.support.bound_plans import VISITS, bound
from tests.support.enclave_home import changed

LOUD, QUIET = Budget(epsilon="0.5", delta="1e-6"), Budget(epsilon="20", delta="1e-6")
RHO = Share(10**12, None)
CATALOGUE = "SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(bounds = 'catalogue') "
COUNTS = bound("SELECT kind, COUNT(*) AS n FROM visits GROUP BY kind")
ROLLED = bound("SELECT kind, flag, COUNT(*) AS n, COUNT(amount) AS m FROM visits GROUP BY CUBE (kind, flag)")


@pytest.mark.parametrize("exact", [[], [[0, 0]], [[0] * 4], [[0] * 3, [0] * 3]])
def test_a_vector_of_another_shape_gets_no_noise(exact: list[list[int]]) -> None:
    assert COUNTS.sums is not None
    with pytest.raises(Failed) as caught:
        measure.noisy_sums(COUNTS, COUNTS.sums, RHO, 4, exact)
    assert caught.value.code == "egress.shape"


def test_the_scale_of_a_vector_is_its_sensitivity_by_the_root_of_twice_rho() -> None:
    assert COUNTS.sums is not None
    for clip in (1, 4):
        (((noisy,),)) = measure.noisy_sums(COUNTS, COUNTS.sums, RHO, clip, [[0, 0, 0]])
        assert math.sqrt(noisy.variance) == pytest.approx(clip / math.sqrt(2), rel=1e-9)
        assert noisy.half_width == pytest.approx(1.96 * clip / math.sqrt(2), rel=1e-3)


def test_cells_are_in_the_unit_of_the_aggregate_and_keep_their_sign() -> None:
    plan = bound("SELECT SUM(income) AS s, COUNT(*) AS n FROM homes")
    assert plan.sums is not None
    multipliers = [item.multiplier for item in plan.sums.statistics]
    exact = [[-(10**9) * multipliers[0]], [5 * 10**8 * multipliers[1]]]
    ((total, count),) = measure.noisy_sums(plan, plan.sums, Share(10**14, None), 1, exact)
    assert float(total.cells[0]) == pytest.approx(-(10**9), rel=1e-3)
    assert float(count.cells[0]) == pytest.approx(5 * 10**8, rel=1e-3)
    assert total.cells[0].denominator in {1, multipliers[0]}


def test_coarsened_cells_are_multiplied_back() -> None:
    wide = changed(VISITS, population_cap=2 * 10**9, rows_per_entity=10**6)
    plan = bound(CATALOGUE + "SUM(amount * amount) AS s FROM visits", visits=wide)
    assert plan.sums is not None
    clip = plan.sums.clipping.limit
    coarsening = measure.sums_coarsening(plan, clip)
    assert coarsening > 1
    cell = 1 << 57
    (((noisy,),)) = measure.noisy_sums(plan, plan.sums, Share(10**14, None), clip, [[cell]])
    whole = Fraction(cell * coarsening, WEIGHT_SCALE * 10**4)
    assert float(noisy.cells[0]) == pytest.approx(float(whole), rel=0.01)


@given(st.integers(1, 2 * 10**9), st.integers(1, 1 << 90))
def test_coarsening_is_the_least_power_of_two_that_fits(population: int, sensitivity: int) -> None:
    found = measure.coarsening_of(population, sensitivity)

    def fits(step: int) -> bool:
        cells = (population * sensitivity).bit_length() - step <= measure.CELL_BITS
        return cells and sensitivity.bit_length() - step <= measure.SENSITIVITY_BITS

    step = found.bit_length() - 1
    assert found == 1 << step
    assert fits(step)
    assert step == 0 or not fits(step - 1)


@given(
    st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=5),
    st.lists(st.integers(-(10**5), 10**5), min_size=5, max_size=5),
    st.sampled_from([2, 8, 64]),
    st.sampled_from([1, 2]),
)
def test_flooring_moves_a_coarsened_vector_by_no_more_than_is_said(
    base: list[int], one_unit: list[int], coarsening: int, power: int
) -> None:
    """Both neighbours are floored: the difference of the floors against the bound, in whole numbers."""
    other = [a + b for a, b in zip(base, one_unit, strict=False)]
    moved = [b - a for a, b in zip(base, other, strict=True)]
    floors = [b // coarsening - a // coarsening for a, b in zip(base, other, strict=True)]
    norm = sum(map(abs, moved)) if power == 1 else math.isqrt(sum(m * m for m in moved) - 1) + 1 if any(moved) else 0
    limit = measure.coarsened(norm, coarsening, power, len(base), is_marginal=False)
    reached = sum(map(abs, floors)) if power == 1 else math.sqrt(sum(f * f for f in floors))
    assert reached <= limit
    assert abs(sum(floors)) <= measure.coarsened(
        norm if power == 1 else sum(map(abs, moved)), coarsening, power, len(base), True
    )


def test_marginals_are_consistent_and_none_is_worse_than_measured() -> None:
    assert ROLLED.sums is not None
    exact = [[10_000 * WEIGHT_SCALE * (n + 1) for n in range(6)], [5_000 * WEIGHT_SCALE] * 6]
    sets = measure.noisy_sums(ROLLED, ROLLED.sums, RHO, 4, exact)
    assert [len(vectors[0].cells) for vectors in sets] == [6, 3, 2, 1]
    for at in (0, 1):
        fine, kinds, flags, whole = (vectors[at] for vectors in sets)
        parts = [fine.cells[2 * n : 2 * n + 2] for n in range(3)]
        for total, pair in zip(kinds.cells, parts, strict=True):
            assert float(total) == pytest.approx(float(sum(pair)), abs=1e-3)
        assert float(sum(flags.cells)) == pytest.approx(float(whole.cells[0]), abs=1e-3)
        truth = sum(exact[at]) / WEIGHT_SCALE
        assert abs(float(whole.cells[0]) - truth) < 6 * math.sqrt(whole.variance)
        assert whole.half_width == pytest.approx(1.96 * math.sqrt(whole.variance), rel=0.01)


def test_the_whole_of_a_rollup_costs_what_its_parts_say() -> None:
    """The ρ of all marginals together is no more than the share."""
    assert ROLLED.sums is not None
    used: list[int] = []

    class Noted(Share):
        def part(self, of: float) -> Share:
            used.append(super().part(of).pico_rho)
            return super().part(of)

    measure.noisy_sums(ROLLED, ROLLED.sums, Noted(10**12, None), 4, [[0] * 6] * 2)
    assert len(used) == 4
    assert sum(used) <= 10**12


def test_a_clip_is_the_catalogue_s_until_one_is_learned() -> None:
    shares = share_out(COUNTS, LOUD)
    assert measure.sums_clip(COUNTS, shares, {}) == 4
    silent = Learned((1, 2, 3, 4), (0, 0, 0, 0), 5.0)
    assert silent.furthest is None
    assert measure.sums_clip(COUNTS, shares, {NormKind.ROWS: silent}) == 4
    assert measure.lost(silent, 2) is None
    assert measure.lost(None, 2) is None


def test_a_learned_clip_grows_with_the_budget_and_stays_on_the_grid() -> None:
    many = changed(VISITS, rows_per_entity=128)
    plan = bound("SELECT kind, COUNT(*) AS n FROM visits GROUP BY kind", visits=many)
    assert plan.sums is not None
    edges = measure.edges_of(plan.sums.clipping)
    assert edges[0] == 1
    assert edges[-1] == 128
    counts = tuple(int(20_000 / edge**2) for edge in edges)
    learned = Learned(edges, counts, 1.0)
    clips = [measure.sums_clip(plan, share_out(plan, budget), {NormKind.ROWS: learned}) for budget in (LOUD, QUIET)]
    assert all(clip in edges for clip in clips)
    assert clips[0] < clips[1]
    median = bound("SELECT MEDIAN(amount) AS m FROM visits", visits=many)
    share = share_out(median, LOUD).quantiles[0, "0.5"]
    assert measure.histogram_clip(median.histograms[0], share, {}, 1) == 128
    assert measure.histogram_clip(median.histograms[0], share, {NormKind.ROWS: learned}, 1) < 128


def test_learning_has_noise_of_sensitivity_one_and_the_shape_of_the_grid() -> None:
    learned = measure.learn([100, 0, 7], (1, 2, 3), RHO)
    assert learned.deviation == pytest.approx(1 / math.sqrt(2), rel=1e-2)
    assert all(abs(found - true) < 8 for found, true in zip(learned.counts, (100, 0, 7), strict=True))
    with pytest.raises(Failed):
        measure.learn([1, 2], (1, 2, 3), RHO)


def test_a_ratio_is_told_only_where_both_totals_stand_out() -> None:
    def noisy(*cells: int, variance: float = 1.0) -> Noisy:
        return Noisy(tuple(map(Fraction, cells)), variance, 2.0)

    ratio, variance = measure.ratio_of(noisy(1100), noisy(400, 600))
    assert ratio == Fraction(11, 10)
    assert variance == pytest.approx(1.21 * (1 / 1100**2 + 2 / 1000**2))
    assert measure.ratio_of(noisy(900), noisy(1000))[0] == 1  # a clip takes away and never adds
    assert measure.ratio_of(noisy(9), noisy(1000)) == (Fraction(1), 0.0)
    assert measure.ratio_of(noisy(1100), noisy(3, 4)) == (Fraction(1), 0.0)
    assert measure.ratio_of(noisy(1100), noisy(0)) == (Fraction(1), 0.0)


def test_units_in_many_groups_move_by_the_root_of_their_number() -> None:
    for power, groups, moved in ((2, 20, math.sqrt(20)), (2, 1, 1), (1, 20, 20)):
        share = RHO
        mechanism, step = measure.units_mechanism(groups, power, share)
        assert mechanism.sensitivity == pytest.approx(moved * step, rel=1e-3)
        assert mechanism.sensitivity >= moved * step
    found = measure.noisy_units([50_000, 10], 20, 2, RHO)
    assert abs(float(found.cells[0]) - 50_000) < 8 * math.sqrt(found.variance)
    assert found.cells[0].denominator <= measure.UNIT_STEP


def test_values_are_counted_where_any_unit_shows_them() -> None:
    found = measure.noisy_values([3, 0, 1, 0, 9], 1, Share(10**15, None))
    assert found.cells == (Fraction(3),)


def test_the_quantile_of_each_group_is_a_bin_of_the_grid() -> None:
    plan = bound("SELECT region, MEDIAN(age) AS m FROM homes GROUP BY region")
    (histogram,) = plan.histograms
    exact = [100_000 * (20 <= age <= 40) for age in range(121)] + [100_000 * (age >= 20) for age in range(121)]
    found = measure.noisy_quantile(histogram, exact, 2, Fraction(1, 2), 1, Share(10**12, None))
    assert found == (30, 70)
    with pytest.raises(Failed):
        measure.noisy_quantile(histogram, exact[:-1], 2, Fraction(1, 2), 1, RHO)


def test_open_sums_and_totals_have_the_shape_they_are_given() -> None:
    assert COUNTS.sums is not None
    (opened,) = measure.open_sums(COUNTS, COUNTS.sums, RHO, 4, [[WEIGHT_SCALE] * 5])
    assert len(opened.cells) == 5
    assert measure.open_sums(COUNTS, COUNTS.sums, RHO, 4, [[]])[0].cells == ()
    (whole,) = measure.whole_sums(COUNTS, COUNTS.sums, RHO, 4, 1, [10_000 * WEIGHT_SCALE])
    assert abs(float(whole.cells[0]) - 10_000) < 8 * math.sqrt(whole.variance)
