"""The release schedule: few steps, never early, never more than twice as late."""

from __future__ import annotations

import time
from datetime import timedelta
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.receipt import Outcome
from enclave_runner.contract.rulebook import PolicyPack
from enclave_runner.contract.signing import seal
from enclave_runner.contract.ticket import PURPOSE as TICKET_PURPOSE
from enclave_runner.contract.wire import AskOdometer, FetchSettlement, Odometer, Reading, RunJob, Settlement
from enclave_runner.supervisor.ledger import utc_now
from enclave_runner.supervisor.limits import read_limits
from enclave_runner.supervisor.schedule import Schedule, due
from enclave_runner.supervisor.service import answer
from tests.support.enclave_home import Site, policies_copy, query, with_enclave


@given(st.floats(0, 10_000), st.floats(0.001, 10))
def test_a_step_is_not_before_the_end_and_not_twice_as_late(elapsed: float, first: float) -> None:
    step = due(elapsed, first)
    assert elapsed <= step <= max(first, 2 * elapsed)


def test_there_are_few_steps() -> None:
    """All ends of a job within the wall limits of the pack, to the millisecond, leave at one of these times."""
    steps = {due(milliseconds / 1000, 0.1) for milliseconds in range(360_000)}
    assert len(steps) <= 13
    assert {later / earlier for earlier, later in zip(sorted(steps), sorted(steps)[1:], strict=False)} == {2.0}


def test_waiting_ends_at_the_step_and_not_before() -> None:
    schedule = Schedule(0.05)
    began = time.monotonic() - 0.06
    assert schedule.hold("t", began) == pytest.approx(began + 0.1)
    assert schedule.held() == {"t"}
    schedule.wait("t")
    assert time.monotonic() >= began + 0.1
    assert schedule.held() == frozenset()
    schedule.wait("another")  # never held: no wait


def test_until_its_step_a_ticket_is_told_as_running(site: Site) -> None:
    """Whoever polls must not see the end of the job before the step."""
    slow = with_enclave(site, schedule=Schedule(30.0))
    before = {item.entity_set: item for item in _odometer(slow)}.get("resident")
    ticket = slow.ticket(query())
    receipt = slow.receipt(slow.run(ticket))
    assert receipt.outcome is Outcome.RELEASED
    told = answer(slow.enclave, FetchSettlement(ticket_id=ticket.ticket_id), None)
    assert isinstance(told, Settlement)
    assert (told.receipt, told.release) == (None, None)
    after = {item.entity_set: item for item in _odometer(slow)}["resident"]
    assert after.spent == (before.spent if before else 0)
    assert after.reserved == receipt.losses[0].pico_rho + (before.reserved if before else 0)
    freed = with_enclave(site, schedule=Schedule(0.001))
    told = answer(freed.enclave, FetchSettlement(ticket_id=ticket.ticket_id), None)
    assert isinstance(told, Settlement)
    assert told.receipt is not None  # the control
    assert {item.entity_set: item for item in _odometer(freed)}["resident"].reserved == 0


def _odometer(site: Site) -> tuple[Reading, ...]:
    reply = answer(site.enclave, AskOdometer(), None)
    assert isinstance(reply, Odometer)
    return reply.readings


def test_the_receipt_names_the_second_of_the_step(site: Site) -> None:
    slow = with_enclave(site, schedule=Schedule(5.0))
    began = utc_now()
    receipt = slow.order(query())
    assert receipt.finished_at >= (began + timedelta(seconds=4)).replace(microsecond=0)


def test_an_answer_leaves_on_schedule(site: Site) -> None:
    first = site.enclave.limits.first_release
    ticket = site.ticket(query())
    began = time.monotonic()
    settlement = answer(site.enclave, RunJob(ticket=seal(ticket, TICKET_PURPOSE, site.bureau.control)), None)
    took = time.monotonic() - began
    assert isinstance(settlement, Settlement)
    steps = [first * 2**power for power in range(12)]
    assert any(0 <= took - step < step / 2 for step in steps)


def test_two_jobs_that_end_at_different_times_leave_at_the_same_one() -> None:
    """0, 10, 20 and 40 ms more of work were told apart before; now they are one."""
    assert {due(0.051 + more / 1000, 0.1) for more in (0, 10, 20, 40)} == {0.1}


@pytest.mark.parametrize("step", ["0", "-5", '"soon"'])
def test_a_schedule_without_steps_is_no_policy(step: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp(f"pack{next(NUMBERS)}")
    with pytest.raises(Failed) as caught:
        read_limits(PolicyPack(policies_copy(folder, first_release_ms=step)))
    assert caught.value.code == "policy.limits"


NUMBERS = count()
