"""Hostile jobs in the real jail: bounds hold, nothing of a job but its answer or a fixed code comes out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from enclave_runner.contract.errors import Failed
from enclave_runner.jail.launcher import MAX_RESULT_BYTES, MemoryFile
from enclave_runner.jail.profile import JailProfile
from tests.support.hostile_zygote import CANARY, STEPS, HostileZygote
from tests.support.tally import TALLY

PROFILE = JailProfile(wall_seconds=20)


@pytest.fixture(scope="module")
def hostile() -> Iterator[HostileZygote]:
    """A zygote whose jobs are attacks."""
    with HostileZygote() as zygote:
        yield zygote


def code_of(zygote: HostileZygote, task: str, descriptors: list[int] | None = None, **profile: int) -> str:
    """The code with which the job fails."""
    with pytest.raises(Failed) as caught:
        zygote.run(task.encode(), descriptors or [], JailProfile(**{"wall_seconds": 20, **profile}))
    return caught.value.code


@pytest.fixture
def beat() -> Iterator[int]:
    """A file in which a running job leaves a growing number."""
    descriptor = os.memfd_create("beat")
    os.write(descriptor, b"0".rjust(12))
    yield descriptor
    os.close(descriptor)


def is_beating(descriptor: int) -> bool:
    before = os.pread(descriptor, 12, 0)
    time.sleep(0.2)
    return os.pread(descriptor, 12, 0) != before


def test_an_ordinary_job_works(hostile: HostileZygote, beat: int) -> None:
    assert hostile.run("echo 你好".encode(), [beat, beat], PROFILE) == "你好 2".encode()


def test_the_job_sees_nothing_but_its_jail(hostile: HostileZygote) -> None:
    seen = json.loads(hostile.run(b"new_namespace", [], PROFILE))
    assert seen["pid"] == 1
    assert seen["uid"] != 0
    assert seen["processes"] == [1]
    assert seen["hostname"] == "enclave"
    assert set(seen["environment"]) <= {"LANG", "TZ", "OPENBLAS_NUM_THREADS", "ORT_DISABLE_TELEMETRY"}


def test_no_namespace_can_be_made_inside(hostile: HostileZygote) -> None:
    """In one of its own a worker would have every capability again: mounts, a network stack, far more kernel to try."""
    assert json.loads(hostile.run(b"nest", [], PROFILE)) == []


def test_outside_and_in_a_namespace_without_that_cap_they_can_be_made() -> None:
    """Control: neither the host nor the depth is what blocks it."""
    code = (
        "import ctypes, json, os\n"
        "from pathlib import Path\n"
        "libc, uid, gid, made = ctypes.CDLL(None), os.getuid(), os.getgid(), []\n"
        "for _ in range(2):\n"
        "    made.append(libc.unshare(0x10000000))\n"
        "    Path('/proc/self/setgroups').write_text('deny')\n"
        "    Path('/proc/self/uid_map').write_text(f'{uid} {uid} 1')\n"
        "    Path('/proc/self/gid_map').write_text(f'{gid} {gid} 1')\n"
        "print(json.dumps(made))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=True)
    assert json.loads(done.stdout) == [0, 0]


@pytest.mark.parametrize("step", STEPS)
def test_without_any_one_layer_nothing_runs(step: str, beat: int) -> None:
    with HostileZygote(step) as zygote:
        assert code_of(zygote, "stubborn x", [beat], wall_seconds=5) == "jail.absent"
        assert not is_beating(beat)
        assert os.pread(beat, 12, 0) == b"0".rjust(12)
    TALLY.count("FAIL-CLOSED")


def test_the_sabotage_itself_is_what_stops_the_job(beat: int) -> None:
    """Control: the same program without sabotage runs the same job; the test above passes for no other reason."""
    with HostileZygote() as zygote:
        assert code_of(zygote, "stubborn x", [beat], wall_seconds=1) == "job.deadline"
        assert os.pread(beat, 12, 0) != b"0".rjust(12)


@pytest.mark.parametrize("argument", ["leashed", "unleashed"])
def test_the_deadline_kills_a_job_that_blocks_all_signals_and_takes_off_its_death_signal(
    hostile: HostileZygote, beat: int, argument: str
) -> None:
    started = time.monotonic()
    assert code_of(hostile, f"stubborn {argument}", [beat], wall_seconds=1) == "job.deadline"
    assert time.monotonic() - started < 4
    assert not is_beating(beat)


def test_the_deadline_holds_for_a_job_that_closed_its_answer(hostile: HostileZygote) -> None:
    assert code_of(hostile, "deaf", wall_seconds=1) == "job.deadline"


@pytest.mark.parametrize("argument", ["leashed", "unleashed"])
def test_a_job_dies_with_its_zygote(beat: int, argument: str) -> None:
    zygote = HostileZygote()
    codes: list[str] = []
    runner = threading.Thread(target=lambda: codes.append(code_of(zygote, f"stubborn {argument}", [beat])))
    runner.start()
    _wait_until(lambda: is_beating(beat))
    os.kill(zygote.pid, signal.SIGKILL)
    runner.join(timeout=10)
    assert not runner.is_alive()
    assert codes == ["job.limit"]
    assert not is_beating(beat)
    assert not zygote.is_alive
    assert code_of(zygote, "echo x") == "jail.zygote-gone"
    zygote.close()


def test_memory_cpu_processes_and_descriptors_are_bounded(hostile: HostileZygote, beat: int) -> None:
    assert code_of(hostile, "eat_memory", memory_mb=256) == "job.limit"
    assert code_of(hostile, "spin", cpu_seconds=1) == "job.limit"
    assert hostile.run(b"fork_bomb", [], PROFILE) == b"0"
    assert 0 < int(hostile.run(b"descriptors_exhausted", [beat], PROFILE)) < PROFILE.descriptors
    assert json.loads(hostile.run(b"raise_limits", [], PROFILE)) == []


def test_scratch_is_bounded_in_bytes_and_inodes_and_empty_for_the_next_job(hostile: HostileZygote) -> None:
    for _ in range(2):
        assert 0 < int(hostile.run(b"fill_scratch", [], JailProfile(scratch_mb=16))) <= 16
        assert 0 < int(hostile.run(b"fill_inodes", [], PROFILE)) <= 1024


def test_an_answer_ends_at_eight_mebibytes(hostile: HostileZygote) -> None:
    assert len(hostile.run(f"long_answer {MAX_RESULT_BYTES}".encode(), [], PROFILE)) == MAX_RESULT_BYTES
    assert code_of(hostile, f"long_answer {MAX_RESULT_BYTES + 1}") == "job.limit"


def test_the_text_of_an_exception_ends_in_the_jail(hostile: HostileZygote) -> None:
    with pytest.raises(Failed) as caught:
        hostile.run(b"raise_canary", [], PROFILE)
    assert caught.value.code == "job.broken"
    chain = [caught.value, caught.value.__cause__, caught.value.__context__]
    assert CANARY not in "".join(f"{error!r}{error}" for error in chain if error is not None)


@pytest.mark.parametrize("code", [1, 2, 42, 95, 255])
def test_an_exit_code_tells_nothing(hostile: HostileZygote, code: int) -> None:
    assert code_of(hostile, f"exit_code {code}") == "job.broken"


def test_an_exit_without_an_answer_is_no_answer(hostile: HostileZygote) -> None:
    with pytest.raises(Failed) as caught:
        hostile.run(b"exit_code 0", [], PROFILE)
    assert caught.value.code == "job.broken"


def test_a_sealed_file_cannot_be_changed_and_an_open_one_can(hostile: HostileZygote, beat: int) -> None:
    with MemoryFile(b"granted rows") as sealed:
        assert json.loads(hostile.run(b"write_task", [sealed.descriptor], PROFILE)) == []
        assert os.pread(sealed.descriptor, 64, 0) == b"granted rows"
    assert "pwrite" in json.loads(hostile.run(b"write_task", [beat], PROFILE))


def test_two_hundred_jobs_leave_nothing_behind(hostile: HostileZygote) -> None:
    hostile.run(b"echo warm", [], PROFILE)
    time.sleep(1)  # until the worker that was taken from the stock has a successor
    before = _traces(hostile)
    for _ in range(200):
        hostile.run(b"echo x", [], PROFILE)
    # The last one may not be buried yet; and what an earlier test left open here may be closed meanwhile.
    _wait_until(lambda: all(now <= then for now, then in zip(_traces(hostile), before, strict=True)))


def test_threads_share_a_zygote(hostile: HostileZygote) -> None:
    answers: list[bytes] = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(hostile.run(f"echo {n}".encode(), [], PROFILE)))
        for n in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(answers) == sorted(f"{n} 0".encode() for n in range(16))


def _traces(zygote: HostileZygote) -> tuple[int, int, int, int, int]:
    """Open descriptors here and in the zygote, its mounts and ours, and its children that are alive but for one.

    The dead are buried with the next order and do not pile up.
    """
    children = Path(f"/proc/{zygote.pid}/task/{zygote.pid}/children").read_text().split()
    assert len(children) < 10
    return (
        len(list(Path("/proc/self/fd").iterdir())),
        len(list(Path(f"/proc/{zygote.pid}/fd").iterdir())),
        len(Path(f"/proc/{zygote.pid}/mounts").read_text().splitlines()),
        len(Path("/proc/self/mounts").read_text().splitlines()),
        max(1, sum(map(_is_alive, children))),
    )


def _is_alive(pid: str) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return "State:\tZ" not in status


def _wait_until(is_true: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, "it never came true"
