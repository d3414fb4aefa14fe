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


MAX_UNITS = 10_000


@dataclass(frozen=True)
class MeterEvent:
    """One use, read from one receipt. Only a released use has units and may cost.

    A job is one unit. A call of an open product has no submission and one unit for each answered question.
    """

    receipt_id: str
    submission_id: str | None
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
        most = MAX_UNITS if self.is_call else 1
        if not 0 <= self.units <= most or self.unit_price_fen < 0:
            raise ValueError("a job is one unit or none, a call at most 10 000, at a price that is not negative")

    @property
    def is_call(self) -> bool:
        """Whether it is a call of an open product, and not a job."""
        return self.submission_id is None

    @property
    def amount_fen(self) -> int:
        """What the event costs."""
        return self.units * self.unit_price_fen


@dataclass(frozen=True)
class InvoiceLine:
    """One paid job on an invoice."""

    receipt_id: str
    tariff_id: str
    unit_price_fen: int
    units: int
    amount_fen: int
    legal_basis: str


@dataclass(frozen=True)
class CallLine:
    """All paid calls of one product at one price: how many calls, and how many answered questions they were.

    `receipts_sha256` is the digest of their receipt ids in order, one to a line: it says which calls these are.
    """

    product_id: str
    tariff_id: str
    unit_price_fen: int
    calls: int
    units: int
    amount_fen: int
    legal_basis: str
    receipts_sha256: str


@dataclass(frozen=True)
class Invoice:
    """All paid events of one payer in one month (Asia/Shanghai, "2026-11"). The total is the sum of all lines.

    Each paid job has a line of its own in `lines`; calls, of which a month may have a million, are summed in
    `call_lines`.
    """

    invoice_id: str
    payer_id: str
    month: str
    lines: tuple[InvoiceLine, ...]
    free_uses: int
    call_lines: tuple[CallLine, ...] = ()

    @property
    def total_fen(self) -> int:
        """Sum of the lines, in fen."""
        return sum(line.amount_fen for line in self.lines) + sum(line.amount_fen for line in self.call_lines)
