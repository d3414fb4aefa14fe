"""The launcher: sealed memory files, and a zygote that is executed clean and gone when told."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from pathlib import Path

import pytest

from enclave_runner.contract.errors import Failed
from enclave_runner.jail.launcher import MemoryFile, Zygote, seal_memory
from enclave_runner.jail.profile import JailProfile


def test_a_memory_file_holds_its_content_for_good_and_goes_with_its_descriptor() -> None:
    with MemoryFile(b"content") as file:
        assert os.pread(file.descriptor, 100, 0) == b"content"
        for attempt in (
            lambda: os.pwrite(file.descriptor, b"x", 0),
            lambda: os.pwrite(file.descriptor, b"x", 100),
            lambda: os.ftruncate(file.descriptor, 0),
            lambda: os.ftruncate(file.descriptor, 100),
        ):
            with pytest.raises(PermissionError):
                attempt()
        assert not os.get_inheritable(file.descriptor)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(file.descriptor)


def test_a_file_of_a_size_that_memory_never_had_can_be_empty() -> None:
    with MemoryFile(b"") as file:
        assert os.fstat(file.descriptor).st_size == 0


def test_a_file_that_may_not_be_sealed_says_so() -> None:
    descriptor = os.memfd_create("open")
    with pytest.raises(PermissionError):
        seal_memory(descriptor)
    os.close(descriptor)


def test_the_zygote_has_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YUNEI_SECRET", "canary")
    descriptor = os.memfd_create("ours")
    os.set_inheritable(descriptor, True)
    with Zygote() as zygote:
        deadline = time.monotonic() + 20
        while b"enclave_runner.kinds" not in Path(f"/proc/{zygote.pid}/cmdline").read_bytes():
            assert time.monotonic() < deadline
        assert b"canary" not in Path(f"/proc/{zygote.pid}/environ").read_bytes()
        open_files = [str(path.readlink()) for path in Path(f"/proc/{zygote.pid}/fd").iterdir()]
        assert not [name for name in open_files if "ours" in name]
        assert Path(f"/proc/{zygote.pid}/cwd").readlink() == Path("/")
        assert zygote.is_alive
    os.close(descriptor)


def test_the_zygote_has_a_network_of_its_own_with_nothing_in_it() -> None:
    with Zygote() as zygote:
        deadline = time.monotonic() + 20
        own = Path("/proc/self/ns/net").readlink()
        while Path(f"/proc/{zygote.pid}/ns/net").readlink() == own:
            assert time.monotonic() < deadline
        interfaces = Path(f"/proc/{zygote.pid}/net/dev").read_text(encoding="ascii").splitlines()[2:]
        assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
        routes = Path(f"/proc/{zygote.pid}/net/route").read_text(encoding="ascii").splitlines()[1:]
        assert routes == []


def test_the_programs_workers_have_their_engine_ready_before_the_task() -> None:
    """A stock whose workers opened DuckDB for each task would be no stock: a ready engine has a second thread."""
    with Zygote() as zygote:
        zygote.keep_ready(JailProfile(), 1)
        deadline = time.monotonic() + 30
        while 2 not in _threads_below(zygote.pid):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def _threads_below(pid: int) -> list[int]:
    """How many threads each process has that descends from this one."""
    found, parents = [], [pid]
    while parents:
        parent = parents.pop()
        try:
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split()
        except OSError:
            continue
        for child in children:
            parents.append(int(child))
            with contextlib.suppress(OSError):
                found.append(len(list(Path(f"/proc/{child}/task").iterdir())))
    return found


def test_an_order_for_which_the_host_has_no_process_does_not_start_and_others_go_on() -> None:
    """With every descriptor taken the zygote makes no worker; it says so and lives."""
    with Zygote() as zygote:
        with pytest.raises(Failed):
            zygote.run(b"no task at all", [], JailProfile())
        soft, hard = resource.prlimit(zygote.pid, resource.RLIMIT_NOFILE)
        time.sleep(0.5)  # the worker before has left nothing open
        in_use = {int(path.name) for path in Path(f"/proc/{zygote.pid}/fd").iterdir()}
        free = [number for number in range(100) if number not in in_use]
        resource.prlimit(zygote.pid, resource.RLIMIT_NOFILE, (free[3], hard))  # its task, one pipe, and no other
        with pytest.raises(Failed) as caught:
            zygote.run(b"no task at all", [], JailProfile())
        assert caught.value.code == "jail.absent"
        resource.prlimit(zygote.pid, resource.RLIMIT_NOFILE, (soft, hard))
        with pytest.raises(Failed) as caught:
            zygote.run(b"no task at all", [], JailProfile())
        assert caught.value.code == "job.broken"
        assert zygote.is_alive


def test_a_zygote_that_stands_still_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enclave_runner.jail.launcher.ORDER_SECONDS", 1.0)
    with Zygote() as zygote:
        with pytest.raises(Failed):
            zygote.run(b"no task at all", [], JailProfile())
        os.kill(zygote.pid, signal.SIGSTOP)
        with pytest.raises(Failed) as caught:
            zygote.run(b"no task at all", [], JailProfile())
        assert caught.value.code == "jail.zygote-gone"
        deadline = time.monotonic() + 20
        while zygote.is_alive:
            assert time.monotonic() < deadline


def test_a_closed_zygote_takes_no_orders() -> None:
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208
    zygote = Zygote()
    zygote.close()
    assert not zygote.is_alive
    for _ in range(3):
        with pytest.raises(Failed) as caught:
            zygote.run(b"task", [], JailProfile())
        assert caught.value.code == "jail.zygote-gone"
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_dead_zygote_is_replaced_by_one_that_was_proved_first() -> None:
    proofs: list[int] = []

    def prove(fresh: Zygote) -> None:
        """While it lasts, orders to the old one still fail: nobody reaches a jail that is not proved."""
        proofs.append(fresh.pid)
        assert fresh.is_alive
        with pytest.raises(Failed):
            zygote.run(b"task", [], JailProfile())

    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with Zygote() as zygote:
        zygote.revive(prove)
        assert proofs == []  # a living one is left alone
        first = zygote.pid
        os.kill(first, signal.SIGKILL)
        _wait_until_dead(zygote)
        zygote.revive(prove)
        assert proofs == [zygote.pid] != [first]
        with pytest.raises(Failed) as caught:
            zygote.run(b"no task at all", [], JailProfile())
        assert caught.value.code == "job.broken"  # it takes orders
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_zygote_that_was_not_proved_takes_no_orders_ever() -> None:
    started: list[Zygote] = []

    def disprove(fresh: Zygote) -> None:
        started.append(fresh)
        raise Failed("jail.open")

    with Zygote() as zygote:
        os.kill(zygote.pid, signal.SIGKILL)
        _wait_until_dead(zygote)
        for _ in range(2):
            with pytest.raises(Failed) as caught:
                zygote.revive(disprove)
            assert caught.value.code == "jail.open"
            with pytest.raises(Failed) as caught:
                zygote.run(b"task", [], JailProfile())
            assert caught.value.code == "jail.zygote-gone"
        assert [fresh.is_alive for fresh in started] == [False, False]


def _wait_until_dead(zygote: Zygote) -> None:
    deadline = time.monotonic() + 10
    while zygote.is_alive:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_task_that_is_none_breaks_its_worker_and_no_more() -> None:
    with Zygote() as zygote:
        for _ in range(2):
            with pytest.raises(Failed) as caught:
                zygote.run(b"no task at all", [], JailProfile())
            assert caught.value.code == "job.broken"
        assert zygote.is_alive
