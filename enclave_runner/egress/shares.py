"""How a query's budget is shared among the noisy vectors that it needs, decided before any data are touched.

The weights follow from the plan alone. ρ adds over vectors (Bun and Steinke 2016); under Laplace noise ε adds, and each
share books ρ = ε²/2, which together is no more than the ε²/2 of the whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.privacy import RHO_UNIT, Budget, number, to_atto_delta
from enclave_runner.dp.conversion import pico_rho_of
from enclave_runner.dp.mechanism import Mechanism, gaussian, laplace
from enclave_runner.plan.bound import BoundSelect, NormKind
from enclave_runner.plan.nodes import AggregateKind, Bounds
from enclave_runner.plan.statistics import LINEAR

DOWN = Context(prec=40, rounding=ROUND_FLOOR)
# Learning a clip takes this part of what the vectors that it clips get; estimating what it lost takes that one.
LEARNING, CORRECTING, COUNTING = Fraction(1, 10), Fraction(1, 5), Fraction(1, 20)


@dataclass(frozen=True)
class Share:
    """The loss of one noisy vector: ρ·10¹², and the ε where its noise is Laplace."""

    pico_rho: int
    epsilon: Decimal | None

    def mechanism(self, sensitivity: int) -> Mechanism:
        """Noise for a vector of that sensitivity, in L2, or in L1 where it is Laplace."""
        if self.epsilon is not None:
            return laplace(sensitivity, self.epsilon)
        return gaussian(sensitivity, self.pico_rho)

    def part(self, of: float) -> Share:
        """That part of the share, rounded down.

        Raises:
            Refused: `budget.malformed` when nothing is left of it.
        """
        portion = Fraction(of)
        if self.epsilon is not None:
            return _pure(
                DOWN.multiply(self.epsilon, DOWN.divide(Decimal(portion.numerator), Decimal(portion.denominator)))
            )
        pico_rho = math.floor(self.pico_rho * portion)
        if pico_rho <= 0:
            raise Refused("budget.malformed")
        return Share(pico_rho, None)

    @property
    def choice_pico_rho(self) -> int:
        """The loss of a quantile's choice: with ε it is the exponential mechanism at that ε, ρ = ε²/8, rounded down."""
        if self.epsilon is None:
            return self.pico_rho
        return int(DOWN.multiply(DOWN.multiply(self.epsilon, self.epsilon), Decimal(RHO_UNIT) / 8))


@dataclass(frozen=True)
class Shares:
    """The share of every vector of a plan. `delta` is what a threshold release may spend, 0 where keys are public."""

    learning: dict[NormKind, Share]
    correction: Share | None
    sums: Share | None
    units: tuple[Share, ...]
    values: tuple[Share, ...]
    quantiles: dict[tuple[int, str], Share]
    counting: Share | None
    selection: Share | None
    delta: Decimal

    @property
    def noisy(self) -> tuple[Share, ...]:
        """The shares of all vectors that get noise in every cell."""
        singles = (self.correction, self.sums, self.counting, self.selection)
        several = (*self.learning.values(), *self.units, *self.values)
        return tuple(share for share in (*singles, *several) if share is not None)

    @property
    def pico_rho(self) -> int:
        """The loss of all together."""
        chosen = sum(share.choice_pico_rho for share in self.quantiles.values())
        return sum(share.pico_rho for share in self.noisy) + chosen

    @property
    def epsilon(self) -> Decimal | None:
        """The ε of all together where every part is pure; None where ρ counts."""
        parts = [share.epsilon for share in (*self.noisy, *self.quantiles.values())]
        known = [part for part in parts if part is not None]
        return sum(known, Decimal(0)) if known and len(known) == len(parts) else None

    @property
    def atto_delta(self) -> int:
        """The δ of all together."""
        return to_atto_delta(self.delta)


def learned_norms(plan: BoundSelect) -> tuple[NormKind, ...]:
    """The norms whose clip is learned: only where one table gives them, and the query does not ask for the catalogue's.

    The catalogue's bound stays the upper limit.
    """
    several = [source for source in plan.sources if source.rows]
    kinds = [clipping.kind for clipping in plan.clippings if clipping.kind is not NormKind.NONE]
    if plan.options.bounds is Bounds.CATALOGUE or len(several) > 1:
        return ()
    return tuple(dict.fromkeys(kinds))


def corrects(plan: BoundSelect) -> bool:
    """Whether totals are rescaled by a private estimate of what the clip lost."""
    is_clipped = plan.sums is not None and plan.sums.clipping.kind is not NormKind.NONE
    return plan.options.correction and is_clipped and not plan.is_open


def share_out(plan: BoundSelect, budget: Budget, portion: Fraction = Fraction(1)) -> Shares:
    """The shares of a budget, or of a portion of its ρ (of its ε under Laplace noise).

    Raises:
        Refused: `budget.malformed` when the budget is too small to be shared.
    """
    weights = _weights(plan)
    total = sum(weights.values())
    delta = number(budget.delta)
    # Half of δ is for keys; a relative target chooses keys twice.
    runs = 1 if plan.options.relative_error is None else 2
    key_delta = delta / 2 if plan.is_open else Decimal(0)
    pure = number(budget.epsilon) if plan.power == 1 else None

    def share(name: str) -> Share:
        part = portion * weights[name] / total
        if pure is not None:
            epsilon = DOWN.multiply(pure, DOWN.divide(Decimal(part.numerator), Decimal(part.denominator)))
            return _pure(epsilon)
        pico_rho = pico_rho_of(budget, key_delta) * part.numerator // part.denominator
        if pico_rho <= 0:
            raise Refused("budget.malformed")
        return Share(pico_rho, None)

    made = {name: share(name) for name in weights}
    return Shares(
        learning={kind: made[f"learning-{kind}"] for kind in learned_norms(plan)},
        correction=made.get("correction"),
        sums=made.get("sums"),
        units=tuple(share for name, share in made.items() if name.startswith("units-")),
        values=tuple(made[f"values-{index}"] for index in range(len(plan.values))),
        quantiles={key: made[f"quantile-{key[0]}-{key[1]}"] for key in quantiles(plan)},
        counting=made.get("counting"),
        selection=made.get("selection"),
        delta=key_delta / runs,
    )


def quantiles(plan: BoundSelect) -> tuple[tuple[int, str], ...]:
    """Histogram and fraction of every different quantile."""
    asked = [
        (item.vector, item.fraction)
        for item in plan.estimates
        if item.kind is AggregateKind.QUANTILE and item.vector is not None and item.fraction is not None
    ]
    return tuple(dict.fromkeys(asked))


def _weights(plan: BoundSelect) -> dict[str, Fraction]:
    weights: dict[str, Fraction] = {}
    linear = sum(item.kind in LINEAR for item in plan.estimates)
    if plan.sums is not None:
        weights["sums"] = Fraction(max(1, linear))
    if not plan.is_open:  # of open keys the selection itself counts the units
        weights |= {f"units-{index}": Fraction(1) for index in range(len(plan.units))}
    weights |= {f"values-{index}": Fraction(1) for index in range(len(plan.values))}
    weights |= {f"quantile-{index}-{fraction}": Fraction(1) for index, fraction in quantiles(plan)}
    clipped = sum(weights.values())
    for kind in learned_norms(plan):
        weights[f"learning-{kind}"] = LEARNING * clipped
    if corrects(plan):
        weights["correction"] = CORRECTING * clipped
    if plan.is_open:
        weights["selection"] = Fraction(1)
        weights["counting"] = COUNTING
    return weights


def _pure(epsilon: Decimal) -> Share:
    if epsilon <= 0:
        raise Refused("budget.malformed")
    rho = epsilon * epsilon / 2 * RHO_UNIT
    # One more than the exact value: OpenDP's own figure is rounded up in floats.
    return Share(int(rho.to_integral_value(rounding=ROUND_CEILING)) + 1, epsilon)
