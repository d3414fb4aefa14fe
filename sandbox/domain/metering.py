"""Money and metering. Money is integer fen (分). One receipt gives one meter event; one paid event one invoice line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import Mode, Purpose


@dataclass(frozen=True)
class Tariff:
    """The unit price of one kind of use for one purpose class, at most `cap_fen` (上限收费标准)."""

    tariff_id: str
    mode: Mode
    purpose: Purpose
    unit_price_fen: int
    cap_fen: int
    legal_basis: str

    def __post_init__(self) -> None:
        if not 0 <= self.unit_price_fen <= self.cap_fen:
            raise Refused("tariff.cap", tariff=self.tariff_id)
        if self.purpose.is_free and self.unit_price_fen:
            raise Refused("tariff.free-use", tariff=self.tariff_id)


@dataclass(frozen=True)
class MeterEvent:
    """One use, read from one receipt. Only a released use has a unit and may cost."""

    receipt_id: str
    submission_id: str
    payer_id: str
    operator_id: str
    product_id: str | None
    mode: Mode
    purpose: Purpose
    units: int
    tariff_id: str
    unit_price_fen: int
    legal_basis: str
    occurred_at: datetime

    def __post_init__(self) -> None:
        if self.units not in (0, 1) or self.unit_price_fen < 0:
            raise ValueError("an event is one use or none, at a price that is not negative")

    @property
    def amount_fen(self) -> int:
        """What the event costs."""
        return self.units * self.unit_price_fen


@dataclass(frozen=True)
class InvoiceLine:
    """One paid event on an invoice."""

    receipt_id: str
    tariff_id: str
    unit_price_fen: int
    units: int
    amount_fen: int
    legal_basis: str


@dataclass(frozen=True)
class Invoice:
    """All paid events of one payer in one month (Asia/Shanghai, "2026-11"). The total is the sum of the lines."""

    invoice_id: str
    payer_id: str
    month: str
    lines: tuple[InvoiceLine, ...]
    free_uses: int

    @property
    def total_fen(self) -> int:
        """Sum of the lines, in fen."""
        return sum(line.amount_fen for line in self.lines)
