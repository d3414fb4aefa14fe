"""Held workers: in the same jail as a job, without its wall clock, and gone with whoever holds them."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from enclave_runner.contract.errors import Failed
from enclave_runner.jail.launcher import MAX_DESCRIPTORS, Held, Zygote
from enclave_runner.jail.profile import JailProfile
from enclave_runner.private.asks import LENGTH_BYTES
from tests.support.hostile_serving import HostileServing
from tests.support.hostile_zygote import STEPS, HostileZygote

PROFILE = JailProfile(wall_seconds=1)
PATIENCE = 20.0


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    """Its workers say `echo` to whatever they hear."""
    with HostileServing("echo") as started:
        yield started


def hear(held: Held) -> bytes:
    """Ask, and read what comes."""
    held.connection.settimeout(PATIENCE)
    held.connection.sendall((1).to_bytes(LENGTH_BYTES, "big") + b"?")
    return held.connection.recv(100)


def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition; it must come."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def open_files() -> list[str]:
    """Our descriptors."""
    return sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208


def test_a_held_worker_outlives_the_wall_clock_of_its_profile_and_answers_until_it_is_closed(zygote: Zygote) -> None:
    before = open_files()
    held = zygote.hold(b"task", [], PROFILE)
    assert hear(held) == b"echo"
    time.sleep(1.3)
    assert held.is_alive
    assert hear(held) == b"echo"
    held.close()
    assert not held.is_alive
    held.close()
    with pytest.raises(OSError, match="Bad file"):
        held.connection.sendall(b"x")
    until(lambda: open_files() == before)


def test_workers_are_held_beside_each_other_and_jobs_go_on(zygote: Zygote) -> None:
    held = [zygote.hold(b"task", [], PROFILE) for _ in range(3)]
    assert [hear(item) for item in reversed(held)] == [b"echo"] * 3
    held[1].close()
    assert [hear(held[0]), hear(held[2])] == [b"echo"] * 2
    read, write = os.pipe()
    with pytest.raises(Failed) as caught:  # an ordinary job of the same program, which waits for an ask in vain
        zygote.run(b"job", [read], PROFILE, wall_seconds=0.5)
    assert caught.value.code == "job.deadline"
    os.write(write, bytes(8))
    os.close(write)
    assert [hear(held[0]), hear(held[2])] == [b"echo"] * 2
    os.close(read)
    for item in held:
        item.close()


def test_a_held_worker_whose_connection_ends_is_gone(zygote: Zygote) -> None:
    held = zygote.hold(b"task", [], PROFILE)
    held.connection.shutdown(2)
    until(lambda: not held.is_alive)
    held.close()


def test_a_held_worker_dies_with_its_zygote() -> None:
    with HostileServing("echo") as zygote:
        held = zygote.hold(b"task", [], PROFILE)
        assert hear(held) == b"echo"
        os.kill(zygote.pid, signal.SIGKILL)
        until(lambda: not held.is_alive)
        assert select.select([held.connection], [], [], PATIENCE)[0]
        assert held.connection.recv(1) == b""
        held.close()
        with pytest.raises(Failed) as caught:
            zygote.hold(b"task", [], PROFILE)
        assert caught.value.code == "jail.zygote-gone"


def test_a_held_worker_has_the_limits_of_its_profile() -> None:
    with HostileServing("eat") as zygote:
        held = zygote.hold(b"task", [], JailProfile(memory_mb=256))
        held.connection.sendall(bytes(LENGTH_BYTES))
        until(lambda: not held.is_alive)
        held.close()


@pytest.mark.parametrize("step", STEPS)
def test_without_any_one_layer_nothing_is_held(step: str) -> None:
    before = open_files()
    with HostileZygote(step) as zygote:
        with pytest.raises(Failed) as caught:
            zygote.hold(b"echo x", [], PROFILE)
        assert caught.value.code == "jail.absent"
    until(lambda: open_files() == before)


def test_the_sabotage_is_what_stops_it() -> None:
    """Control: without it the same worker is held (and ends, since its work is done at once)."""
    with HostileZygote() as zygote:
        held = zygote.hold(b"echo x", [], PROFILE)
        until(lambda: not held.is_alive)
        held.close()


def test_one_layer_less_and_nothing_is_held() -> None:
    with HostileZygote("filter_calls") as zygote, pytest.raises(Failed) as caught:
        zygote.hold(b"echo x", [], PROFILE)
    assert caught.value.code == "jail.absent"


def test_the_zygotes_of_two_programs_are_two(zygote: Zygote) -> None:
    with Zygote("enclave_runner.private") as other:
        until(lambda: b"enclave_runner.private" in Path(f"/proc/{other.pid}/cmdline").read_bytes())
        assert zygote.pid != other.pid


def test_a_revived_zygote_runs_the_same_program() -> None:
    with Zygote("enclave_runner.private") as zygote:
        os.kill(zygote.pid, signal.SIGKILL)
        until(lambda: not zygote.is_alive)
        zygote.revive(lambda fresh: None)
        until(lambda: b"enclave_runner.private" in Path(f"/proc/{zygote.pid}/cmdline").read_bytes())


def test_too_many_descriptors_are_refused_and_none_leaks(zygote: Zygote) -> None:
    before = open_files()
    null = os.open("/dev/null", os.O_RDONLY)
    with pytest.raises(Failed) as caught:
        zygote.hold(b"task", [null] * (MAX_DESCRIPTORS - 1), PROFILE)
    assert caught.value.code == "jail.descriptors"
    os.close(null)
    assert open_files() == before
