"""Workers that wait in their jails: one job each, nothing carried over, replaced, gone with the zygote; the watch."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from enclave_runner.contract.errors import Failed
from enclave_runner.jail.launcher import Zygote
from enclave_runner.jail.profile import JailProfile
from enclave_runner.jail.zygote import MAX_DESCRIPTORS, SHARED_MB
from tests.support.stocked_zygote import StockedZygote

PROFILE = JailProfile(wall_seconds=20)
PATIENCE = 20.0


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    """A zygote with no stock yet."""
    with StockedZygote() as started:
        assert started.run(b"echo", [], PROFILE) == b"echo"
        yield started


def children(pid: int) -> list[int]:
    """The processes of a parent, zombies left out."""
    found = []
    for number in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split():
        try:
            state = Path(f"/proc/{number}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if state != "Z":
            found.append(int(number))
    return found


def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition; it must come."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def age(zygote: Zygote) -> float:
    """How many ms the worker had been ready when its task came."""
    times, milliseconds = json.loads(zygote.run(b"age", [], PROFILE))
    assert times == 1
    return float(milliseconds)


def test_a_waiting_worker_was_ready_before_its_task(zygote: Zygote) -> None:
    assert age(zygote) < 150
    zygote.keep_ready(PROFILE, 2)
    until(lambda: len(children(zygote.pid)) == 2)
    time.sleep(0.3)
    assert age(zygote) > 200


def test_the_stock_is_filled_again_and_never_beyond_what_is_wanted(zygote: Zygote) -> None:
    zygote.keep_ready(PROFILE, 2)
    for _ in range(5):
        until(lambda: len(children(zygote.pid)) == 2)
        zygote.run(b"echo", [], PROFILE)
    until(lambda: len(children(zygote.pid)) == 2)
    time.sleep(0.3)
    assert len(children(zygote.pid)) == 2


def test_each_worker_does_one_job_and_leaves_nothing(zygote: Zygote) -> None:
    zygote.keep_ready(PROFILE, 1)
    said = [json.loads(zygote.run(b"note", [], PROFILE)) for _ in range(6)]
    assert all(item == [[], 2, said[0][2]] for item in said)
    assert "NOTE" in said[0][2]


def test_a_waiting_worker_that_was_killed_is_not_given_a_job(zygote: Zygote) -> None:
    zygote.keep_ready(PROFILE, 2)
    until(lambda: len(children(zygote.pid)) == 2)
    time.sleep(0.2)
    waiting = children(zygote.pid)
    for pid in waiting:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not any(_is_running(pid) for pid in waiting))
    assert zygote.run(b"echo", [], PROFILE) == b"echo"


def test_another_profile_never_gets_a_worker_of_this_one(zygote: Zygote) -> None:
    zygote.keep_ready(PROFILE, 1)
    until(lambda: len(children(zygote.pid)) == 1)
    time.sleep(0.4)
    times, milliseconds = json.loads(zygote.run(b"age", [], JailProfile(wall_seconds=20, scratch_mb=1)))
    assert (times, milliseconds < 300) == (1, True)


def test_waiting_workers_end_with_their_zygote() -> None:
    with StockedZygote() as zygote:
        zygote.keep_ready(PROFILE, 3)
        until(lambda: len(children(zygote.pid)) == 3)
        waiting = children(zygote.pid)
    until(lambda: not any(_is_running(pid) for pid in waiting))


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_new_zygote_is_stocked_like_the_old_one(zygote: Zygote) -> None:
    zygote.keep_ready(PROFILE, 1)
    os.kill(zygote.pid, signal.SIGKILL)
    until(lambda: not zygote.is_alive)
    zygote.revive(lambda fresh: None)
    # Revived, it is the enclave's own program: what it keeps ready is what counts here.
    until(lambda: len(children(zygote.pid)) == 1)


def test_memory_that_no_limit_of_the_kernel_counts_is_watched(zygote: Zygote) -> None:
    """Pages of a handed file, mapped shared, are no data of the process: RLIMIT_DATA does not see them."""
    small = JailProfile(memory_mb=64, file_mb=4096, wall_seconds=25)
    file = os.memfd_create("shared")
    try:
        os.ftruncate(file, (64 + SHARED_MB + 300) << 20)
        began = time.monotonic()
        with pytest.raises(Failed) as caught:
            zygote.run(b"map", [file], small)
        assert caught.value.code == "job.limit"
        assert time.monotonic() - began < 20
        os.ftruncate(file, 8 << 20)
        with pytest.raises(Failed) as caught:  # the control: less of it is left alone, until the deadline
            zygote.run(b"map", [file], small, wall_seconds=2)
        assert caught.value.code == "job.deadline"
    finally:
        os.close(file)


def test_too_many_descriptors_are_refused_before_anything_runs(zygote: Zygote) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    try:
        with pytest.raises(Failed) as caught:
            zygote.run(b"echo", [null] * MAX_DESCRIPTORS, PROFILE)
        assert caught.value.code == "jail.descriptors"
        assert zygote.run(b"echo", [null] * (MAX_DESCRIPTORS - 1), PROFILE) == b"echo"
    finally:
        os.close(null)
