"""Privacy loss: zCDP ρ (Bun and Steinke 2016) in fixed point, one entity set at a time.

ρ is kept as an integer count of 10⁻¹² so that ledgers add exactly; every conversion into it rounds up.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, InvalidOperation

from enclave_runner.contract.codec import Value
from enclave_runner.contract.errors import Refused

RHO_UNIT = 10**12
MAX_PICO_RHO = 10**6 * RHO_UNIT


class PrivacyLoss(Value, frozen=True):
    """Loss of one entity set: `pico_rho` is ρ·10¹², a whole number, never negative."""

    entity_set: str
    pico_rho: int

    def __post_init__(self) -> None:
        if not 0 <= self.pico_rho <= MAX_PICO_RHO:
            raise ValueError("a privacy loss is between 0 and 10^6 ρ")

    @property
    def rho(self) -> Decimal:
        """ρ as an exact decimal."""
        return Decimal(self.pico_rho) / RHO_UNIT


class Budget(Value, frozen=True):
    """What a caller asks to spend, in the (ε, δ) that people know; decimals as text, so that nothing is rounded."""

    epsilon: str
    delta: str = "1e-6"

    def __post_init__(self) -> None:
        if not Decimal(0) < number(self.epsilon) <= Decimal(100):
            raise ValueError("ε is above 0 and at most 100")
        if not Decimal("1e-15") <= number(self.delta) <= Decimal("1e-4"):
            raise ValueError("δ is between 1e-15 and 1e-4")


def number(text: str) -> Decimal:
    """A finite decimal from text; ValueError for anything else (NaN and infinity included)."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError("not a number") from None
    if not value.is_finite():
        raise ValueError("not a finite number")
    return value


def asked_budget(epsilon: str, delta: str) -> Budget:
    """A budget from a caller's text.

    Raises:
        Refused: `budget.malformed` for zero, negative, NaN, infinite or absurd values.
    """
    try:
        return Budget(epsilon=epsilon, delta=delta)
    except ValueError:
        raise Refused("budget.malformed") from None


def to_pico_rho(rho: Decimal) -> int:
    """ρ in units of 10⁻¹², rounded up: a ledger never shows less than what was spent."""
    return int((rho * RHO_UNIT).to_integral_value(rounding=ROUND_CEILING))
