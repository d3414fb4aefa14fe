"""The release schedule: few steps, never early, never more than twice as late."""

from __future__ import annotations

import time
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.rulebook import PolicyPack
from enclave_runner.contract.signing import seal
from enclave_runner.contract.ticket import PURPOSE as TICKET_PURPOSE
from enclave_runner.contract.wire import RunJob, Settlement
from enclave_runner.supervisor.limits import read_limits
from enclave_runner.supervisor.schedule import due, wait_until_due
from enclave_runner.supervisor.service import answer
from tests.support.enclave_home import Site, policies_copy, query


@given(st.floats(0, 10_000), st.floats(0.001, 10))
def test_a_step_is_not_before_the_end_and_not_twice_as_late(elapsed: float, first: float) -> None:
    step = due(elapsed, first)
    assert elapsed <= step <= max(first, 2 * elapsed)


def test_there_are_few_steps() -> None:
    """All ends of a job within the wall limits of the pack, to the millisecond, leave at one of these times."""
    steps = {due(milliseconds / 1000, 0.1) for milliseconds in range(360_000)}
    assert len(steps) <= 13
    assert {later / earlier for earlier, later in zip(sorted(steps), sorted(steps)[1:], strict=False)} == {2.0}


def test_waiting_ends_at_the_step() -> None:
    began = time.monotonic() - 0.03
    wait_until_due(began, 0.05)
    assert time.monotonic() - began >= 0.05
    late = time.monotonic() - 0.06
    wait_until_due(late, 0.05)
    assert time.monotonic() - late >= 0.1


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
