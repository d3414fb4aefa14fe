"""Tariffs, meter events and invoice lines. Free or paid follows from the authorized scenario, never from the caller."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from enclave_runner.contract.call import CallReceipt
from enclave_runner.contract.codec import digest
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.grant import Mode, Purpose
from enclave_runner.contract.receipt import Outcome, Receipt
from enclave_runner.contract.rulebook import PolicyPack
from enclave_runner.contract.ticket import Charge
from sandbox.domain.metering import CallLine, InvoiceLine, MeterEvent, Tariff
from sandbox.domain.submission import Submission, SubmissionStatus

TARIFFS_FILE = "tariffs.toml"


def read_tariffs(pack: PolicyPack) -> tuple[Tariff, ...]:
    """The pack's tariffs, exactly one per mode and purpose class.

    Raises:
        Failed: `policy.tariffs` when one is missing, doubled, above its cap or puts a price on free use.
    """
    try:
        tariffs = tuple(_tariff(name, fields) for name, fields in pack.table(TARIFFS_FILE).items())
    except (KeyError, TypeError, ValueError, Refused):
        raise Failed("policy.tariffs") from None
    pairs = [(tariff.mode, tariff.purpose) for tariff in tariffs]
    if len(set(pairs)) != len(pairs) or len(pairs) != len(Mode) * len(Purpose):
        raise Failed("policy.tariffs")
    return tariffs


def _tariff(name: str, fields: dict[str, Any]) -> Tariff:
    for price in ("unit_price_fen", "cap_fen"):
        if type(fields[price]) is not int:
            raise TypeError("a price is a whole number of fen")
    return Tariff(
        tariff_id=name,
        mode=Mode(fields["mode"]),
        purpose=Purpose(fields["purpose"]),
        unit_price_fen=fields["unit_price_fen"],
        cap_fen=fields["cap_fen"],
        legal_basis=str(fields["legal_basis"]),
    )


def charge_for(tariffs: tuple[Tariff, ...], purpose: Purpose, mode: Mode) -> Charge:
    """The price tag of one use, as the ticket freezes it."""
    tariff = next(item for item in tariffs if (item.purpose, item.mode) == (purpose, mode))
    return Charge(tariff_id=tariff.tariff_id, unit_price_fen=tariff.unit_price_fen, legal_basis=tariff.legal_basis)


def meter(receipt: Receipt, submission: Submission) -> MeterEvent:
    """The one event of a receipt. Whoever asked pays, and only for what was released to them: not for what the enclave
    released and a review withheld.
    """
    released = receipt.outcome is Outcome.RELEASED and submission.status is not SubmissionStatus.WITHHELD
    return MeterEvent(
        receipt_id=receipt.receipt_id,
        submission_id=receipt.submission_id,
        payer_id=submission.requester_id,
        operator_id=receipt.operator_id,
        product_id=submission.product_id,
        mode=receipt.mode,
        purpose=receipt.purpose,
        units=1 if released else 0,
        tariff_id=receipt.charge.tariff_id,
        unit_price_fen=receipt.charge.unit_price_fen,
        legal_basis=receipt.charge.legal_basis,
        occurred_at=receipt.finished_at,
    )


def call_receipt_id(receipt: CallReceipt) -> str:
    """The name of a call's receipt: its number among all calls of the enclave. Texts sort as the calls came."""
    return f"call-{receipt.sequence:016d}"


def sequence_of(event: MeterEvent) -> int:
    """The number of the call whose event it is."""
    return int(event.receipt_id.rpartition("-")[2])


def meter_call(receipt: CallReceipt) -> MeterEvent:
    """The one event of a call's receipt. Whoever called pays, and only for what was answered."""
    return MeterEvent(
        receipt_id=call_receipt_id(receipt),
        submission_id=None,
        payer_id=receipt.caller_id,
        operator_id=receipt.operator_id,
        product_id=receipt.product_id,
        mode=Mode.VERIFICATION,
        purpose=receipt.purpose,
        units=receipt.units,
        tariff_id=receipt.charge.tariff_id,
        unit_price_fen=receipt.charge.unit_price_fen,
        legal_basis=receipt.charge.legal_basis,
        occurred_at=receipt.finished_at,
    )


def rate(events: Iterable[MeterEvent]) -> tuple[InvoiceLine, ...]:
    """One line per paid job, in order of time and receipt."""
    ordered = sorted(events, key=lambda event: (event.occurred_at, event.receipt_id))
    return tuple(
        InvoiceLine(
            receipt_id=event.receipt_id,
            tariff_id=event.tariff_id,
            unit_price_fen=event.unit_price_fen,
            units=event.units,
            amount_fen=event.amount_fen,
            legal_basis=event.legal_basis,
        )
        for event in ordered
        if event.amount_fen > 0 and not event.is_call
    )


def rate_calls(events: Iterable[MeterEvent]) -> tuple[CallLine, ...]:
    """One line for each product, tariff and price of paid calls, in that order."""
    paid = sorted(
        (event for event in events if event.is_call and event.amount_fen > 0),
        key=lambda event: (*_line_of(event), event.receipt_id),
    )
    return tuple(_call_line(*key, tuple(group)) for key, group in groupby(paid, key=_line_of))


def _line_of(event: MeterEvent) -> tuple[str, str, int, str]:
    return event.product_id or "", event.tariff_id, event.unit_price_fen, event.legal_basis


def _call_line(
    product_id: str, tariff_id: str, unit_price_fen: int, legal_basis: str, events: tuple[MeterEvent, ...]
) -> CallLine:
    return CallLine(
        product_id=product_id,
        tariff_id=tariff_id,
        unit_price_fen=unit_price_fen,
        calls=len(events),
        units=sum(event.units for event in events),
        amount_fen=sum(event.amount_fen for event in events),
        legal_basis=legal_basis,
        receipts_sha256=digest("".join(f"{event.receipt_id}\n" for event in events).encode()),
    )


def count_free(events: Iterable[MeterEvent]) -> int:
    """How many uses cost nothing, each answered question of a call one; refused and failed jobs are no uses."""
    return sum(event.units for event in events if event.amount_fen == 0)
