"""Privacy loss: approximate zCDP (Bun and Steinke 2016, section 8) in fixed point, one entity set at a time.

ρ is kept as an integer count of 10⁻¹² and δ as one of 10⁻¹⁸, so that ledgers add exactly; every conversion into them
rounds up. Under composition both add, each by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_CEILING, Decimal, InvalidOperation

from enclave_runner.contract.codec import Value
from enclave_runner.contract.errors import Refused

RHO_UNIT = 10**12
MAX_PICO_RHO = 10**6 * RHO_UNIT
DELTA_UNIT = 10**18


class PrivacyLoss(Value, frozen=True, omit_defaults=True):
    """Loss of one entity set: `pico_rho` is ρ·10¹², `atto_delta` is δ·10¹⁸; whole numbers, never negative.

    A δ of zero is not written down: what was signed before there was a δ has the same bytes as ever.
    """

    entity_set: str
    pico_rho: int
    atto_delta: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.pico_rho <= MAX_PICO_RHO or not 0 <= self.atto_delta <= DELTA_UNIT:
            raise ValueError("a privacy loss is between 0 and 10^6 ρ, and between 0 and 1 δ")

    @property
    def rho(self) -> Decimal:
        """ρ as an exact decimal."""
        return Decimal(self.pico_rho) / RHO_UNIT

    @property
    def delta(self) -> Decimal:
        """δ as an exact decimal."""
        return Decimal(self.atto_delta) / DELTA_UNIT

    @property
    def text(self) -> str:
        """The loss for people, exact: `resident ρ=0.02`, with its δ where it has one."""
        beside = f" δ={delta_text(self.atto_delta)}" if self.atto_delta else ""
        return f"{self.entity_set} ρ={self.rho}{beside}"


def losses_text(losses: Iterable[PrivacyLoss]) -> str:
    """All of them for people; empty for none."""
    return ", ".join(loss.text for loss in losses)


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


def to_atto_delta(delta: Decimal) -> int:
    """δ in units of 10⁻¹⁸, rounded up."""
    return int((delta * DELTA_UNIT).to_integral_value(rounding=ROUND_CEILING))


def delta_text(atto_delta: int) -> str:
    """δ for people, exact: `1e-6`."""
    return f"{(Decimal(atto_delta) / DELTA_UNIT).normalize():e}" if atto_delta else "0"
