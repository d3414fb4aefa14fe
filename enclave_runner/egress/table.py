"""Noise, shape check, and rendering of a released table. The exact vector ends in this module."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from itertools import pairwise, product

from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.privacy import Budget, PrivacyLoss, number
from enclave_runner.contract.receipt import DPTable, Measure
from enclave_runner.dp.conversion import epsilon_of, pico_rho_of
from enclave_runner.dp.noise import add_noise, half_width
from enclave_runner.plan.bind import BoundAggregate, BoundFeatures, BoundTable
from enclave_runner.plan.nodes import AggregateKind

MAX_CELL = 1 << 62
WIDE = Context(prec=80)  # a coarsened cell in its unit has more than the default 28 digits


def share_of(budget: Budget, parts: int) -> int:
    """ρ·10¹² for each of `parts` noisy vectors; rounded down, so that the parts never exceed the budget.

    Raises:
        Refused: `budget.malformed` when the budget is too small to be shared at all.
    """
    share = pico_rho_of(budget) // parts
    if share <= 0:
        raise Refused("budget.malformed")
    return share


def expected_measures(plan: BoundTable, budget: Budget) -> tuple[Measure, ...]:
    """The columns of the table with their accuracy, from bounds and noise alone."""
    share = share_of(budget, len(plan.aggregates))
    return tuple(
        Measure(
            name=item.name,
            unit=_unit(item),
            half_width=_decimal(half_width(item.sensitivity, share), plan.weight_scale, item),
        )
        for item in plan.aggregates
    )


def release_table(plan: BoundTable, budget: Budget, exact: Sequence[Sequence[int]]) -> DPTable:
    """The noisy table of an exact vector per aggregate.

    Raises:
        Failed: `egress.shape` when the worker's answer does not have the shape that the plan fixes.
    """
    _check_shape(exact, len(plan.aggregates), plan.cells)
    share = share_of(budget, len(plan.aggregates))
    columns = [
        [_value(cell, plan.weight_scale, item) for cell in add_noise(vector, item.sensitivity, share)]
        for item, vector in zip(plan.aggregates, exact, strict=True)
    ]
    keys = list(product(*(key.domain for key in plan.keys)))
    spent = share * len(plan.aggregates)
    return DPTable(
        keys=tuple(key.column for key in plan.keys),
        measures=expected_measures(plan, budget),
        rows=tuple((*key, *(column[index] for column in columns)) for index, key in enumerate(keys)),
        loss=PrivacyLoss(entity_set=plan.entity_set, pico_rho=spent),
        epsilon=_shown_epsilon(spent, budget),
        delta=budget.delta,
    )


def histogram_measure(plan: BoundFeatures, budget: Budget) -> Measure:
    """The one column of a score histogram with its accuracy."""
    width = half_width(plan.sensitivity, share_of(budget, 1))
    return Measure(name="entities", unit="entities", half_width=_ratio(Decimal(width), plan.weight_scale, 2))


def release_histogram(
    plan: BoundFeatures, budget: Budget, exact: Sequence[Sequence[int]], low: int, high: int, bins: int
) -> DPTable:
    """The noisy histogram of model scores; raises as `release_table` does."""
    _check_shape(exact, 1, bins)
    share = share_of(budget, 1)
    noisy = add_noise(exact[0], plan.sensitivity, share)
    edges = [Decimal(low) / 1000 + Decimal(high - low) / 1000 * index / bins for index in range(bins + 1)]
    labels = [f"{_short(start)}–{_short(end)}" for start, end in pairwise(edges)]
    digits = 0 if plan.weight_scale == 1 else 2
    return DPTable(
        keys=("score",),
        measures=(histogram_measure(plan, budget),),
        rows=tuple(
            (label, _ratio(Decimal(cell), plan.weight_scale, digits)) for label, cell in zip(labels, noisy, strict=True)
        ),
        loss=PrivacyLoss(entity_set=plan.entity_set, pico_rho=share),
        epsilon=_shown_epsilon(share, budget),
        delta=budget.delta,
    )


def _check_shape(exact: Sequence[Sequence[int]], vectors: int, cells: int) -> None:
    if len(exact) != vectors or any(len(vector) != cells for vector in exact):
        raise Failed("egress.shape")
    if any(abs(cell) >= MAX_CELL for vector in exact for cell in vector):
        raise Failed("egress.shape")


def _shown_epsilon(pico_rho: int, budget: Budget) -> str:
    return f"{epsilon_of(pico_rho, float(number(budget.delta))):.4f}"


def _unit(item: BoundAggregate) -> str:
    return "rows" if item.kind is AggregateKind.COUNT else item.column or ""


def _value(cell: int, weight_scale: int, item: BoundAggregate) -> str:
    digits = item.scale if weight_scale == 1 else max(item.scale, 2)
    return _ratio(Decimal(cell * item.coarsening), weight_scale * 10**item.scale, digits)


def _decimal(width: float, weight_scale: int, item: BoundAggregate) -> str:
    return _ratio(Decimal(width) * item.coarsening, weight_scale * 10**item.scale, max(item.scale, 2))


def _ratio(value: Decimal, denominator: int, digits: int) -> str:
    with localcontext(WIDE):
        quotient = (value / denominator).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_EVEN)
        return f"{quotient + 0:f}"  # + 0 turns a negative zero into zero


def _short(value: Decimal) -> str:
    return f"{value.quantize(Decimal('0.001')):f}".rstrip("0").rstrip(".")
