"""A released histogram of a model's scores."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.privacy import Budget, PrivacyLoss, number
from enclave_runner.contract.receipt import DPTable, Measure
from enclave_runner.dp.conversion import epsilon_of, pico_rho_of
from enclave_runner.dp.mechanism import MAX_CELL, Mechanism, gaussian
from enclave_runner.egress.table import fraction_text, width_text
from enclave_runner.plan.bound import BoundFeatures


def histogram_loss(budget: Budget) -> int:
    """The ρ·10¹² of one histogram.

    Raises:
        Refused: `budget.malformed` when the budget is too small.
    """
    pico_rho = pico_rho_of(budget)
    if pico_rho <= 0:
        raise Refused("budget.malformed")
    return pico_rho


def histogram_measure(plan: BoundFeatures, budget: Budget) -> Measure:
    """The one column of a score histogram with its accuracy."""
    width = _mechanism(plan, budget).half_width / plan.clipping.weight_scale
    return Measure(name="entities", unit="entities", half_width=width_text(width, _digits(plan)) or "")


def release_histogram(
    plan: BoundFeatures, budget: Budget, exact: Sequence[Sequence[int]], low: int, high: int, bins: int
) -> DPTable:
    """The noisy histogram of model scores.

    Raises:
        Failed: `egress.shape` when the worker's answer does not have the shape that the plan fixes.
    """
    if len(exact) != 1 or len(exact[0]) != bins or any(not 0 <= cell < MAX_CELL for cell in exact[0]):
        raise Failed("egress.shape")
    mechanism, measure = _mechanism(plan, budget), histogram_measure(plan, budget)
    edges = [Decimal(low) / 1000 + Decimal(high - low) / 1000 * index / bins for index in range(bins + 1)]
    labels = [f"{_short(start)}–{_short(end)}" for start, end in pairwise(edges)]
    unit = Fraction(1, plan.clipping.weight_scale)
    loss = histogram_loss(budget)
    return DPTable(
        keys=("score",),
        measures=(measure,),
        rows=tuple(
            (label, fraction_text(cell * unit, _digits(plan)))
            for label, cell in zip(labels, mechanism.add(exact[0]), strict=True)
        ),
        half_widths=((measure.half_width,),) * bins,
        loss=PrivacyLoss(entity_set=plan.source.entity_set or "", pico_rho=loss),
        epsilon=f"{epsilon_of(loss, float(number(budget.delta))):.4f}",
        delta=budget.delta,
    )


def _mechanism(plan: BoundFeatures, budget: Budget) -> Mechanism:
    return gaussian(plan.sensitivity, histogram_loss(budget))


def _digits(plan: BoundFeatures) -> int:
    return 0 if plan.clipping.weight_scale == 1 else 2


def _short(value: Decimal) -> str:
    return f"{value.quantize(Decimal('0.001')):f}".rstrip("0").rstrip(".")
