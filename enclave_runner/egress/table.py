"""A released table: noisy aggregates laid out by group, rounded to text, with intervals, loss and clip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Context, Decimal, localcontext
from fractions import Fraction
from itertools import product

from enclave_runner.contract.privacy import Budget, PrivacyLoss, number
from enclave_runner.contract.receipt import Clip, DPTable, Measure
from enclave_runner.dp.conversion import epsilon_of
from enclave_runner.dp.marginals import variances_of
from enclave_runner.egress.estimate import Estimated
from enclave_runner.egress.measure import sums_bound, sums_coarsening, units_mechanism
from enclave_runner.egress.shares import Shares
from enclave_runner.plan.bound import BoundSelect, Estimate
from enclave_runner.plan.finish import computed_outputs
from enclave_runner.plan.nodes import AggregateKind, Slot
from enclave_runner.plan.statistics import LINEAR

WIDE = Context(prec=80)  # a coarsened cell in its unit has more than the default 28 digits
MEAN_DIGITS = 4


@dataclass(frozen=True)
class Groups:
    """The groups of a result, their keys in the order of the plan's (None: summed over), and their aggregates."""

    keys: tuple[tuple[str | None, ...], ...]
    aggregates: tuple[Estimated, ...]

    def texts(self, plan: BoundSelect) -> tuple[tuple[str | None, ...], ...]:
        """The values as decimal text, by group."""
        columns = [
            [fraction_text(value, digits(plan, estimate)) for value in found.values]
            for estimate, found in zip(plan.estimates, self.aggregates, strict=True)
        ]
        return tuple(zip(*columns, strict=True))


@dataclass(frozen=True)
class Arrangement:
    """Which groups stay, in which order, and what was computed from each."""

    rows: tuple[int, ...]
    computed: tuple[tuple[str | None, ...], ...]


def public_keys(plan: BoundSelect) -> tuple[tuple[tuple[str | None, ...], ...], ...]:
    """For each grouping set, the keys of every group in catalogue order."""
    return tuple(
        tuple(product(*(axis.labels if at in kept else (None,) for at, axis in enumerate(plan.axes))))
        for kept in map(set, plan.grouping_sets)
    )


def joined(sets: Sequence[tuple[Estimated, ...]]) -> tuple[Estimated, ...]:
    """The aggregates of several grouping sets, one below the other."""
    return tuple(
        Estimated(
            tuple(value for part in parts for value in part.values),
            tuple(width for part in parts for width in part.half_widths),
        )
        for parts in zip(*sets, strict=True)
    )


def release(
    plan: BoundSelect, shares: Shares, budget: Budget, groups: Groups, arrangement: Arrangement, clip: Clip | None
) -> DPTable:
    """The table as it leaves."""
    texts = groups.texts(plan)
    shown = [output.expression for output in plan.outputs if output.is_key]
    keys = [slot.index for slot in shown if isinstance(slot, Slot)]
    computed = [output.name for output in computed_outputs(plan)]
    rows: list[tuple[str | None, ...]] = []
    widths: list[tuple[str | None, ...]] = []
    for row, extra in zip(arrangement.rows, arrangement.computed, strict=True):
        cells: list[str | None] = []
        reach: list[str | None] = []
        for output in plan.outputs:
            if not isinstance(output.expression, Slot):
                cells.append(extra[computed.index(output.name)])
                reach.append(None)
            elif not output.is_key:
                at = output.expression.index
                cells.append(texts[row][at])
                reach.append(_width(plan, plan.estimates[at], groups.aggregates[at].half_widths[row]))
        rows.append((*(groups.keys[row][index] for index in keys), *cells))
        widths.append(tuple(reach))
    return DPTable(
        keys=tuple(output.name for output in plan.outputs if output.is_key),
        measures=_measures(plan, shares, widths),
        rows=tuple(rows),
        half_widths=tuple(widths),
        loss=PrivacyLoss(entity_set=plan.entity_sets[0], pico_rho=shares.pico_rho, atto_delta=shares.atto_delta),
        epsilon=shown_epsilon(shares, budget),
        delta=budget.delta,
        noise="laplace" if plan.power == 1 else "gaussian",
        clip=clip,
    )


def expected_measures(plan: BoundSelect, shares: Shares) -> tuple[Measure, ...]:
    """The measures with the half widths that noise and the catalogue's bounds alone fix: a learned clip gives less."""
    return tuple(
        Measure(
            name=output.name, unit=_unit(plan, output.expression), half_width=_expected(plan, shares, output.expression)
        )
        for output in plan.outputs
        if not output.is_key
    )


def expected_half_width(plan: BoundSelect, shares: Shares, estimate: Estimate) -> float | None:
    """The half width of one aggregate's interval at the catalogue's bounds; None where the data decide it."""
    if estimate.kind is AggregateKind.COUNT_DISTINCT:
        return _distinct_half_width(plan, shares, estimate)
    at = estimate.count if estimate.kind is AggregateKind.COUNT else estimate.total
    if (
        estimate.kind not in (AggregateKind.COUNT, AggregateKind.SUM)
        or plan.sums is None
        or shares.sums is None
        or at is None
    ):
        return None
    clip = plan.sums.clipping.limit
    several = len(plan.grouping_sets) > 1
    coarsening = sums_coarsening(plan, clip)
    mechanism = shares.sums.mechanism(sums_bound(plan, plan.sums, clip))
    half_width = mechanism.half_width
    if several:
        sizes = [len(axis.labels) for axis in plan.axes]
        even = {frozenset(kept): mechanism.variance * len(plan.grouping_sets) for kept in plan.grouping_sets}
        half_width = half_width * math.sqrt(max(variances_of(sizes, even).values()) / mechanism.variance)
    statistic = plan.sums.statistics[at]
    reach = half_width * float(plan.sums.unit(at, coarsening))
    if estimate.kind is AggregateKind.SUM and estimate.count is not None and statistic.centre:
        centre = abs(statistic.centre) / 10**statistic.scale
        reach = math.hypot(reach, centre * half_width * float(plan.sums.unit(estimate.count, coarsening)))
    return reach


def digits(plan: BoundSelect, estimate: Estimate) -> int:
    """How many decimals an aggregate is told with."""
    whole = plan.sums is None or plan.sums.clipping.weight_scale == 1
    match estimate.kind:
        case AggregateKind.COUNT:
            return 0 if whole and len(plan.grouping_sets) == 1 and not plan.options.correction else 2
        case AggregateKind.COUNT_DISTINCT:
            return 0 if plan.cells == 1 and not plan.is_open else 2
        case AggregateKind.SUM:
            return estimate.scale if whole and len(plan.grouping_sets) == 1 else max(estimate.scale, 2)
        case AggregateKind.QUANTILE:
            return estimate.scale
    return estimate.scale + MEAN_DIGITS


def shown_epsilon(shares: Shares, budget: Budget) -> str:
    """The ε of a whole query at its budget's δ."""
    return epsilon_text(shares.pico_rho, shares.epsilon, number(budget.delta) - shares.delta)


def epsilon_text(pico_rho: int, pure: Decimal | None, delta: Decimal) -> str:
    """ε, rounded up: of pure parts alone their sum, else what ρ comes to at δ."""
    epsilon = pure if pure is not None else Decimal(epsilon_of(pico_rho, float(delta)))
    return f"{epsilon.quantize(Decimal('0.0001'), rounding=ROUND_CEILING)}"


def ratio_text(value: float, decimals: int = 4) -> str:
    """A share as decimal text."""
    return f"{value:.{decimals}f}"


def _measures(plan: BoundSelect, shares: Shares, widths: Sequence[Sequence[str | None]]) -> tuple[Measure, ...]:
    """The measures; one half width for a column where all its cells have the same."""
    measures = []
    shown = [output for output in plan.outputs if not output.is_key]
    for at, output in enumerate(shown):
        found = {row[at] for row in widths}
        only = next(iter(found)) if len(found) == 1 else None
        measures.append(Measure(name=output.name, unit=_unit(plan, output.expression), half_width=only or ""))
    return tuple(measures)


def _unit(plan: BoundSelect, expression: object) -> str:
    return plan.estimates[expression.index].unit if isinstance(expression, Slot) else ""


def _expected(plan: BoundSelect, shares: Shares, expression: object) -> str:
    if not isinstance(expression, Slot):
        return ""
    estimate = plan.estimates[expression.index]
    return _width(plan, estimate, expected_half_width(plan, shares, estimate)) or ""


def _width(plan: BoundSelect, estimate: Estimate, value: float | None) -> str | None:
    """A half width at the aggregate's digits. Beside larger entries noise is in parts of a row."""
    scaled = plan.sums is not None and any(item.multiplier > 1 for item in plan.sums.statistics)
    is_linear = estimate.kind in LINEAR
    return width_text(value, digits(plan, estimate), is_whole=not (is_linear and scaled))


def _distinct_half_width(plan: BoundSelect, shares: Shares, estimate: Estimate) -> float:
    at = estimate.vector or 0
    if estimate.unit == "values":
        return shares.values[at].mechanism(plan.values[at].limit).half_width
    if plan.is_open and shares.selection is not None:
        mechanism, step = units_mechanism(plan.open_groups, plan.power, shares.selection)
    else:
        mechanism, step = units_mechanism(plan.units[at].groups, plan.power, shares.units[at])
    return mechanism.half_width / step


def fraction_text(value: Fraction | None, decimals: int) -> str | None:
    if value is None:
        return None
    with localcontext(WIDE):
        quotient = (Decimal(value.numerator) / value.denominator).quantize(
            Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_EVEN
        )
        return f"{quotient + 0:f}"  # + 0 turns a negative zero into zero


def width_text(value: float | None, decimals: int, is_whole: bool = True) -> str | None:
    """Rounded up, with half of the last digit that the value was rounded to; of whole values nothing was."""
    if value is None or not math.isfinite(value):
        return None
    with localcontext(WIDE):
        last = Decimal(1).scaleb(-decimals)
        rounded = 0 if is_whole and decimals == 0 else last / 2
        return f"{(Decimal(value) + rounded).quantize(last, rounding=ROUND_CEILING):f}"
