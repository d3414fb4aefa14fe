"""Whatever is used, whenever, and whenever invoices are issued: every paid use stands on exactly one invoice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from enclave_runner.contract.grant import Mode, Purpose
from sandbox.domain.metering import MeterEvent
from sandbox.rules.months import SHANGHAI, month_bounds
from sandbox.rules.rating import count_free, rate, rate_calls

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
PRICES = {Purpose.INDUSTRY: st.integers(0, 10**9), Purpose.PUBLIC_INTEREST: st.just(0)}


@st.composite
def events(draw: st.DrawFn) -> tuple[MeterEvent, ...]:
    """Uses of one payer at any second of two years."""
    made = []
    for number in range(draw(st.integers(0, 25))):
        purpose = draw(st.sampled_from(sorted(PRICES, key=str)))
        is_call = draw(st.booleans())
        made.append(
            MeterEvent(
                receipt_id=f"r-{number}",
                submission_id=None if is_call else f"s-{number}",
                payer_id="bank",
                operator_id="operator-a",
                product_id=draw(st.sampled_from(("p", "q"))) if is_call else None,
                mode=draw(st.sampled_from(list(Mode))),
                purpose=purpose,
                units=draw(st.integers(0, 10_000 if is_call else 1)),
                tariff_id="t",
                unit_price_fen=draw(PRICES[purpose]),
                legal_basis="第三十五条",
                occurred_at=BEGIN + timedelta(seconds=draw(st.integers(0, 2 * 365 * 86400))),
            )
        )
    return tuple(made)


@given(events(), st.randoms(use_true_random=False))
def test_lines_recompute_exactly_in_any_order(used: tuple[MeterEvent, ...], random: object) -> None:
    shuffled = list(used)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    lines, called = rate(used), rate_calls(used)
    assert (rate(shuffled), rate_calls(shuffled)) == (lines, called)
    assert sum(line.amount_fen for line in (*lines, *called)) == sum(event.amount_fen for event in used)
    assert all(line.amount_fen == line.units * line.unit_price_fen > 0 for line in (*lines, *called))
    billed = len(lines) + sum(line.units for line in called)
    assert billed + count_free(used) == sum(event.units for event in used)
    assert sum(line.calls for line in called) == sum(event.is_call and event.amount_fen > 0 for event in used)
    assert len({(line.product_id, line.unit_price_fen) for line in called}) == len(called)


@given(events(), st.lists(st.integers(0, 23), unique=True))
def test_every_use_is_billed_once_whatever_months_are_closed_in_whatever_order(
    used: tuple[MeterEvent, ...], order: list[int]
) -> None:
    months = [f"{2026 + number // 12}-{number % 12 + 1:02}" for number in order] + ["2028-01"]
    billed: list[str] = []
    for month in months:
        until = month_bounds(month)[1]
        open_uses = [event for event in used if event.receipt_id not in billed and event.occurred_at < until]
        billed += [line.receipt_id for line in rate(open_uses)]
        billed += [event.receipt_id for event in open_uses if event.is_call and event.amount_fen]
    assert sorted(billed) == sorted(event.receipt_id for event in used if event.amount_fen)


@given(st.datetimes(datetime(2026, 1, 1), datetime(2030, 12, 31), timezones=st.just(UTC)))
def test_every_moment_lies_in_exactly_the_month_that_clocks_in_shanghai_show(moment: datetime) -> None:
    month = moment.astimezone(SHANGHAI).strftime("%Y-%m")
    begin, end = month_bounds(month)
    assert begin <= moment < end
    assert month_bounds(end.astimezone(SHANGHAI).strftime("%Y-%m"))[0] == end
