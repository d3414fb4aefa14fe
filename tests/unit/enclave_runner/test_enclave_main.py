"""The enclave as a program: init, serve, doctor; fixed exit codes, no text but codes, a clean end on SIGTERM."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.receipt import Receipt
from enclave_runner.contract.signing import KeyFile, seal
from enclave_runner.contract.ticket import PURPOSE as TICKET_PURPOSE
from enclave_runner.contract.trust import Trust
from enclave_runner.contract.wire import USERS_NAME, Hello, Identity, RunJob, Settlement
from enclave_runner.supervisor.service import CONNECTIONS
from tests.support.enclave_home import POLICIES, make_bureau, make_grant, make_ticket, query
from tests.support.enclave_process import ROOT, EnclaveProcess, ask, command, connected


def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command(*arguments), cwd=ROOT, input=stdin, capture_output=True, timeout=60, check=False)


def trust_of(folder: Path) -> bytes:
    control, officer = KeyFile.create(folder / "c.key"), KeyFile.create(folder / "o.key")
    return encode(Trust(control=(control.public_key,), officers=(officer.public_key,)))


def test_init_makes_a_home_that_serves_and_ends_on_sigterm(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"
    arguments = ("init", "--home", str(home), "--policies", str(POLICIES))
    done = run(*arguments, stdin=trust_of(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    again = run(*arguments, stdin=encode(Trust(control=_key(tmp_path, "a"), officers=_key(tmp_path, "b"))))
    assert (again.returncode, again.stderr) == (1, b"yunei enclave: home.exists\n")
    with EnclaveProcess(home) as process:
        process.wait_until_ready()
        second = run("serve", "--home", str(home))
        assert (second.returncode, second.stderr) == (1, b"yunei enclave: home.busy\n")
        children = _children(process.pid)
        assert process.end(signal.SIGTERM) == (0, b"")
    _wait_until_gone(children)


def _key(folder: Path, name: str) -> tuple[object, ...]:
    return (KeyFile.create(folder / f"{name}.key").public_key,)


def _children(pid: int) -> list[int]:
    children = [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    assert len(children) == 1  # the zygote
    return children


def _wait_until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def _wait_until_gone(pids: list[int]) -> None:
    """The zygote does not outlive its enclave."""
    _wait_until(lambda: not any(_is_running(pid) for pid in pids))


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_the_zygote_dies_with_a_killed_enclave_and_the_home_is_free_again(tmp_path: Path) -> None:
    bureau = make_bureau(tmp_path)
    with EnclaveProcess(bureau.home.folder) as process:
        identity = process.wait_until_ready()
        children = _children(process.pid)
        process.kill()
    _wait_until_gone(children)
    with EnclaveProcess(bureau.home.folder) as process:
        assert process.wait_until_ready().key == identity.key


def use(home: Path) -> int:
    """The lock of somebody who uses the enclave of that home; it goes with the descriptor."""
    descriptor = os.open(home / USERS_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def test_while_used_it_lives_exactly_as_long_as_its_last_user(tmp_path: Path) -> None:
    home = make_bureau(tmp_path).home.folder
    first, second = use(home), use(home)
    with EnclaveProcess(home, "--while-used") as process:
        process.wait_until_ready()
        children = _children(process.pid)
        os.close(first)
        assert not process.ends_within(1.5)
        assert isinstance(ask(home, Hello()), Identity)
        os.close(second)
        assert process.ends_within(10)
    _wait_until_gone(children)
    with EnclaveProcess(home) as process:  # without the option nobody has to hold a lock
        process.wait_until_ready()
        assert not process.ends_within(1)


def test_while_used_a_running_job_reaches_its_receipt(tmp_path: Path) -> None:
    """A user that was killed in the middle has lost its lock: its job must not be lost with it."""
    bureau = make_bureau(tmp_path)
    home, replies = bureau.home.folder, []
    slow = query("SELECT " + "INT(" * 30 + "1" + ")" * 30)
    signed = seal(make_ticket(bureau, slow, make_grant()), TICKET_PURPOSE, bureau.control)
    user = use(home)
    with EnclaveProcess(home, "--while-used") as process:
        process.wait_until_ready()
        caller = threading.Thread(target=lambda: replies.append(ask(home, RunJob(ticket=signed))))
        caller.start()
        time.sleep(0.5)
        os.close(user)
        assert not process.ends_within(2)
        caller.join(timeout=30)
        assert process.ends_within(10)
    (settled,) = replies
    assert isinstance(settled, Settlement)
    assert settled.receipt is not None
    assert decode(settled.receipt.payload, Receipt).rule == "sql.slow"


def _enters(idle: ExitStack, home: Path) -> bool:
    """One more idle caller; not when the enclave has yet to take in those who wait already."""
    try:
        idle.enter_context(connected(home))
    except BlockingIOError:
        return False
    return True


@pytest.mark.slow
def test_idle_callers_without_number_do_not_end_it(tmp_path: Path) -> None:
    home = make_bureau(tmp_path).home.folder
    with EnclaveProcess(home, wrapper=("sh", "-c", 'ulimit -n 256; exec "$@"', "sh")) as process, ExitStack() as idle:
        identity = process.wait_until_ready()
        for _ in range(240):
            _wait_until(lambda: _enters(idle, home))
        # As many as it lets in at once are in, and the descriptors that jobs need are still there.
        _wait_until(lambda: len(os.listdir(f"/proc/{process.pid}/fd")) >= CONNECTIONS)  # noqa: PTH208
        assert not process.ends_within(1)
        assert len(os.listdir(f"/proc/{process.pid}/fd")) < CONNECTIONS + 64  # noqa: PTH208
        idle.close()
        assert process.wait_until_ready().key == identity.key
        _wait_until(lambda: len(os.listdir(f"/proc/{process.pid}/fd")) < 50)  # noqa: PTH208
        assert not process.ends_within(0.1)


@pytest.mark.parametrize("stdin", [b"", b'{"control":[],"officers":[]}'])
def test_init_without_trust_makes_nothing(tmp_path: Path, stdin: bytes) -> None:
    done = run("init", "--home", str(tmp_path / "home"), "--policies", str(POLICIES), stdin=stdin)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"yunei enclave: refused by wire.malformed")
    assert not (tmp_path / "home").exists()


def test_init_without_a_pack_makes_nothing(tmp_path: Path) -> None:
    arguments = ("init", "--home", str(tmp_path / "home"), "--policies", str(tmp_path / "nowhere"))
    done = run(*arguments, stdin=trust_of(tmp_path))
    assert (done.returncode, done.stderr) == (1, b"yunei enclave: policy.unreadable\n")
    assert not (tmp_path / "home").exists()


def test_serve_without_a_home_says_so(tmp_path: Path) -> None:
    done = run("serve", "--home", str(tmp_path / "nowhere"))
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"yunei enclave: home.unreadable\n")


def test_doctor_tries_every_escape() -> None:
    done = run("doctor", "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert {probe["outcome"] for probe in report["probes"]} == {"BLOCKED"}
    assert all(set(probe) == {"name", "layer", "outcome", "detail"} for probe in report["probes"])
    assert len(report["probes"]) >= 90
    assert report["landlock_abi"] >= report["profile"]["landlock_floor"] >= 1
    plain = run("doctor")
    lines = plain.stdout.decode().splitlines()
    assert [line.split()[:3] for line in lines] == [
        [probe["outcome"], probe["layer"], probe["name"]] for probe in report["probes"]
    ]


def test_a_wrong_command_is_refused_by_the_parser() -> None:
    assert run("unjail").returncode == 2
    assert run().returncode == 2
