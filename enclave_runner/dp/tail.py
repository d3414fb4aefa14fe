"""Proven upper tails of the two noises, and the threshold and δ of a release of keys that are not public.

A key is released when its noisy count reaches the threshold τ (`noisy >= τ`, the comparison that is really made;
opendp#2922 computes δ for `>`). Let D' have one unit more than D. Keys that only this unit has are at most
`keys_per_unit`, each with an exact count of at most `step`; when none of them survives, the release on D' is that of
the noisy vector on the keys of D. So the release is that of the noise but for δ = keys_per_unit · P[noise ≥ τ - step].

Every number is a decimal of 60 digits rounded towards safety, never a float. Laplace tails are exact but for that
rounding. Gaussian tails are sums with a proven remainder up to σ = 64, above it the bounds of `_wide_tail`.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from functools import lru_cache

from enclave_runner.contract.errors import Failed
from enclave_runner.dp.mechanism import MAX_CELL, Mechanism, Noise

UP = Context(prec=60, rounding=ROUND_CEILING)
DOWN = Context(prec=60, rounding=ROUND_FLOOR)
SUMMED_SCALE = 64
SERIES_BELOW = 3
TERMS = 400
SLACK = Decimal(1) + Decimal("1e-50")
PI_DOWN = Decimal("3.14159265358979323846264338327950288419716939937510582097494")
PI_UP = Decimal("3.14159265358979323846264338327950288419716939937510582097495")
MAX_KEYS_PER_UNIT = 1 << 40


def upper_tail(mechanism: Mechanism, k: int) -> Decimal:
    """P[noise ≥ k], rounded up, for k ≥ 1; 1 for the rest."""
    if k <= 0:
        return Decimal(1)
    scale = Fraction(mechanism.scale)
    if mechanism.noise is Noise.LAPLACE:
        return _laplace_tail(scale, k)
    return _summed_tail(scale, k) if scale <= SUMMED_SCALE else _wide_tail(scale, k)


def delta_of(mechanism: Mechanism, threshold: int, keys_per_unit: int, step: int = 1) -> Decimal:
    """The δ of a release of the keys whose noisy count is at least `threshold`, rounded up, at most 1.

    `step` is the most that one unit adds to one key, `keys_per_unit` the most keys to which it adds, in the mechanism's
    own integer units.

    Raises:
        Failed: `dp.threshold` for a step or a number of keys that is not above 0.
    """
    if step <= 0 or not 0 < keys_per_unit <= MAX_KEYS_PER_UNIT:
        raise Failed("dp.threshold")
    return min(Decimal(1), UP.multiply(Decimal(keys_per_unit), upper_tail(mechanism, threshold - step)))


@lru_cache(maxsize=256)
def threshold_for(mechanism: Mechanism, keys_per_unit: int, delta: Decimal, step: int = 1) -> int:
    """The least τ above `step` whose `delta_of` is at most `delta`.

    Raises:
        Failed: `dp.threshold` when δ is not above 0 and below 1, or no cell could reach the threshold.
    """
    if not delta.is_finite() or not 0 < delta < 1:
        raise Failed("dp.threshold")
    low, high = step, step + 1  # at τ = step a lone key survives half of the time or more
    while delta_of(mechanism, high, keys_per_unit, step) > delta:
        low, high = high, step + 2 * (high - step)
        if high >= MAX_CELL:
            raise Failed("dp.threshold")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if delta_of(mechanism, middle, keys_per_unit, step) <= delta else (middle, high)
    return high


def _laplace_tail(scale: Fraction, k: int) -> Decimal:
    """e^(-k/s) / (1 + e^(-1/s)) for k ≥ 1."""
    return UP.divide(_exp_up(-k / scale), DOWN.add(Decimal(1), _exp_down(-1 / scale)))


def _summed_tail(scale: Fraction, k: int) -> Decimal:
    """Σ_{j≥k} e^(-j²/2σ²) / Σ_j e^(-j²/2σ²): terms of the one sum rounded up, of the other down.

    Each term is the last one times a ratio, and the ratios shrink by e^(-1/σ²), so that after any term with ratio r < 1
    the rest is at most term·r/(1-r).
    """
    step_up, total = _exp_up(-1 / scale**2), Decimal(0)
    term, ratio = _exp_up(Fraction(-k * k) / (2 * scale**2)), _exp_up(Fraction(-2 * k - 1) / (2 * scale**2))
    enough = DOWN.multiply(term, Decimal("1e-30"))
    while term > enough:
        total = UP.add(total, term)
        term, ratio = UP.multiply(term, ratio), UP.multiply(ratio, step_up)
    rest = UP.divide(term, DOWN.subtract(Decimal(1), ratio))
    return min(Decimal("0.5"), UP.divide(UP.add(total, rest), _mass_down(scale)))


@lru_cache(maxsize=64)
def _mass_down(scale: Fraction) -> Decimal:
    """A lower bound on Σ_j e^(-j²/2σ²): the terms up to 12σ, the rest left out (below 10⁻³¹ of it)."""
    step, total = _exp_down(-1 / scale**2), Decimal(0)
    term = ratio = _exp_down(-1 / (2 * scale**2))
    ratio = DOWN.multiply(ratio, step)
    for _ in range(int(12 * scale) + 2):
        total = DOWN.add(total, term)
        term, ratio = DOWN.multiply(term, ratio), DOWN.multiply(ratio, step)
    return DOWN.add(Decimal(1), DOWN.multiply(Decimal(2), total))


def _wide_tail(scale: Fraction, k: int) -> Decimal:
    """For wide noise: at most P[N(0, σ²) ≥ k - ½] where the density is convex, k - ½ ≥ σ.

    A convex function is at most its mean over the unit interval around a point, so that Σ_{j≥k} g(j) ≤ ∫_{k-½}^∞ g; and
    Σ_j g(j) ≥ σ√(2π) by Poisson summation. Before σ, where g only falls: Σ_{j≥k} g(j) ≤ ∫_{k-1}^∞ g. No more than ½ by
    symmetry. The excess over the exact tail is a factor of about 1 + (k/σ)²/(24σ²), and 1 + 1/σ before σ.
    """
    edge = Fraction(2 * k - 1, 2) if Fraction(2 * k - 1, 2) >= scale else Fraction(k - 1)
    return min(Decimal("0.5"), normal_tail(edge / scale))


def normal_tail(x: Fraction) -> Decimal:
    """An upper bound on P[N(0, 1) ≥ x] for x ≥ 0, to 45 digits from x = 0 to 40.

    Below 3: ½ - φ(x)·Σ x^(2n+1)/(1·3·…·(2n+1)), all terms positive, so that a partial sum rounded down is safe. From
    3 on φ(x)/(x + 1/(x + 2/(x + 3/…))), whose convergents lie above and below in turn; one from above is taken.
    Rounding: a sum or quotient of positive numbers keeps the largest relative error of its parts, 10⁻⁵⁹ a step, below
    the slack.
    """
    if x < SERIES_BELOW:
        down, total, term = _decimal(x, DOWN), Decimal(0), _decimal(x, DOWN)
        for n in range(1, 120):
            total = DOWN.add(total, term)
            term = DOWN.divide(DOWN.multiply(term, DOWN.multiply(down, down)), Decimal(2 * n + 1))
        return UP.subtract(Decimal("0.5"), DOWN.multiply(_density_down(x), total))
    point = _decimal(x, DOWN)
    fraction = point
    for n in range(TERMS, 0, -1):  # an even number of levels below the first: a fraction from below, a tail from above
        fraction = DOWN.add(point, DOWN.divide(Decimal(n), fraction))
    return UP.multiply(UP.divide(_density_up(x), fraction), SLACK)


def _density_up(x: Fraction) -> Decimal:
    """e^(-x²/2) / √(2π)."""
    return UP.divide(_exp_up(-x * x / 2), DOWN.multiply(Decimal(2), PI_DOWN).sqrt(DOWN).next_minus(DOWN))


def _density_down(x: Fraction) -> Decimal:
    return DOWN.divide(_exp_down(-x * x / 2), UP.multiply(Decimal(2), PI_UP).sqrt(UP).next_plus(UP))


def _exp_up(exponent: Fraction) -> Decimal:
    # Decimal's exp and sqrt are rounded to the nearest whatever the context says: one step beyond is a bound.
    return _decimal(exponent, UP).exp(UP).next_plus(UP)


def _exp_down(exponent: Fraction) -> Decimal:
    return _decimal(exponent, DOWN).exp(DOWN).next_minus(DOWN)


def _decimal(value: Fraction, context: Context) -> Decimal:
    # Context.divide takes operands of any length exactly and rounds once.
    return context.divide(Decimal(value.numerator), Decimal(value.denominator))
