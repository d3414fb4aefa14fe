"""Released tables as an enclave would give them, made by hand: what the command line draws, writes and exports."""

from __future__ import annotations

from datetime import UTC, datetime

from enclave_runner.contract.grant import Mode, Purpose
from enclave_runner.contract.privacy import PrivacyLoss
from enclave_runner.contract.receipt import Clip, DPTable, Measure, Outcome, Receipt
from enclave_runner.contract.ticket import Charge
from tests.support.attestations import make_measurement

LOSS = PrivacyLoss(entity_set="resident", pico_rho=24_350_000_000)
MARKUP = "</text><script>alert(1)</script><text onload='x'>&\""
STEERING = "\x1b[2Jnorth\u202eerised\x07"
Cell = tuple[str | None, str | None]


def table(
    keys: tuple[str, ...],
    rows: dict[tuple[str | None, ...], Cell],
    unit: str = "rows",
    shared: str = "",
    noise: str = "gaussian",
    clip: Clip | None = None,
) -> DPTable:
    """One measure, `people`: (value, half width) by key texts."""
    return DPTable(
        keys=keys,
        measures=(Measure(name="people", unit=unit, half_width=shared),),
        rows=tuple((*key, value) for key, (value, _) in rows.items()),
        half_widths=tuple((width,) for _, width in rows.values()),
        loss=LOSS,
        epsilon="1.0000",
        delta="1e-6",
        noise=noise,
        clip=clip,
    )


def by_district(clip: Clip | None = None) -> DPTable:
    """Two measures: a count with one half width for all, and a mean with one for each cell; a total below."""
    return DPTable(
        keys=("district",),
        measures=(
            Measure(name="people", unit="rows", half_width="3.5"),
            Measure(name="mean_income", unit="income", half_width=""),
        ),
        rows=(("[north]", "40", "1000.5"), ("south", "-2", None), (None, "38", "990.25")),
        half_widths=(("3.5", "12.25"), ("3.5", None), ("3.5", None)),
        loss=LOSS,
        epsilon="1.0000",
        delta="1e-6",
        clip=clip,
    )


def days(count: int = 10) -> DPTable:
    """Visits by day; the third day is unknown."""
    rows: dict[tuple[str | None, ...], Cell] = {
        (f"2026-03-{day + 1:02}",): (None, None) if day == 2 else (str(100 + 20 * (day % 3)), "15")
        for day in range(count)
    }
    return table(("day",), rows)


def field(rows: int = 6, columns: int = 5) -> DPTable:
    """Two keys, all pairs."""
    return table(
        ("district", "age"),
        {(f"d{row}", f"a{column}"): (str(10 * row + column), "2") for row in range(rows) for column in range(columns)},
    )


def receipt(repeats: str | None = None) -> Receipt:
    """A receipt of such a table."""
    return Receipt(
        receipt_id="rcpt-1",
        sequence=7,
        ticket_id="tkt-1",
        submission_id="sub-1",
        grant_id="grant-free",
        operator_id="op-city-data",
        purpose=Purpose.PUBLIC_INTEREST,
        mode=Mode.QUERY,
        outcome=Outcome.RELEASED,
        rule=None,
        facts={},
        fault=None,
        losses=() if repeats else (LOSS,),
        data_versions={"people": "v-1"},
        input_sha256=None,
        release_sha256="0" * 64,
        policy_sha256="0" * 64,
        charge=Charge(tariff_id="query-public-interest", unit_price_fen=0, legal_basis="第三十五条"),
        measurement=make_measurement(),
        audit_size=1,
        audit_root="0" * 64,
        finished_at=datetime(2026, 11, 24, tzinfo=UTC),
        repeats=repeats,
    )
