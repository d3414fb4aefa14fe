"""Every attempt of the self-test: blocked in the jail, possible outside: none is blocked for a wrong reason."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Failed
from enclave_runner.jail.launcher import Zygote
from enclave_runner.jail.profile import JailProfile
from enclave_runner.kinds.tasks import Probe, ProbeReport, TaskAnswer
from enclave_runner.supervisor import selftest
from enclave_runner.supervisor.selftest import probe_jail, require_jail

ROOT = Path(__file__).parents[2]
# What a plain process may do, whoever runs the tests. The others need root, a network, or would change the host.
POSSIBLE_OUTSIDE = (
    "read-host-file", "list-host-root", "read-passwd", "tcp-loopback", "host-abstract-socket", "see-host-processes",
    "signal-host", "run-program", "leaked-descriptor", "environment-secret", "core-dump",
)  # fmt: skip
POSSIBLE_FOR_ROOT = ("become-root",)
OUTSIDE = """
import sys
from pathlib import Path
from enclave_runner.contract.codec import decode, encode
from enclave_runner.kinds import probe
from enclave_runner.kinds.tasks import Probe
Path.write_bytes = Path.write_text = probe.libc = None  # the three attempts that would change the host
sys.stdout.buffer.write(encode(probe.run(decode(sys.stdin.buffer.read(), Probe), [])))
"""


@pytest.fixture
def probe(tmp_path: Path) -> Iterator[Probe]:
    """Live targets on the host."""
    canary, name, secret = tmp_path / "canary", f"yunei-test-{secrets.token_hex(8)}", secrets.token_hex(16)
    canary.write_text(secret)
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0" + name)
        abstract.listen()
        yield Probe(
            canary=str(canary), port=tcp.getsockname()[1], abstract_name=name, host_pid=os.getpid(), secret=secret
        )


def run_outside(probe: Probe) -> ProbeReport:
    """The same attempts in a plain process with spare descriptors and a secret in its environment."""
    spare = [os.open("/dev/null", os.O_RDONLY) for _ in range(6)]
    try:
        done = subprocess.run(
            [sys.executable, "-c", OUTSIDE],
            input=encode(probe),
            capture_output=True,
            env={"PYTHONPATH": str(ROOT), "SECRET": probe.secret},
            pass_fds=spare,
            check=True,
        )
    finally:
        for descriptor in spare:
            os.close(descriptor)
    return decode(done.stdout, ProbeReport)


def test_the_same_attempts_work_outside_the_jail(probe: Probe) -> None:
    expected = set(POSSIBLE_OUTSIDE) | (set(POSSIBLE_FOR_ROOT) if os.geteuid() == 0 else set())
    if _hard_core_limit() == 0:
        expected -= {"core-dump"}
    assert set(run_outside(probe).allowed) - {"udp-send", "host-root-through-proc"} == expected  # as the host has it


def _hard_core_limit() -> int:
    text = Path("/proc/self/limits").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("Max core file size")]
    return 0 if line[26:].split()[0] == "0" else 1


def test_every_attempt_is_blocked_in_the_jail(probe: Probe) -> None:
    with Zygote() as zygote:
        answer: TaskAnswer = decode(zygote.run(encode(probe), [], JailProfile()), TaskAnswer)  # type: ignore[arg-type]
    assert isinstance(answer, ProbeReport)
    assert answer.allowed == ()
    assert {
        *POSSIBLE_OUTSIDE,
        *POSSIBLE_FOR_ROOT,
        "write-root",
        "write-proc-sys",
        "mount",
        "host-root-through-proc",
    } <= set(answer.attempts)


def test_the_self_test_gives_targets_that_the_enclave_itself_can_reach() -> None:
    with Zygote() as zygote:
        report = require_jail(zygote, JailProfile())
        assert zygote.pid > 1
    assert report.allowed == ()
    assert len(report.attempts) >= 17


def test_an_enclave_that_was_started_by_pid_1_still_finds_its_jail_closed() -> None:
    """The worker is pid 1 of its own space: a target of that number would be the worker itself."""
    code = (
        "import os, sys, time\n"
        "if os.fork(): os._exit(0)\n"
        "while os.getppid() == int(sys.argv[1]): time.sleep(0.01)\n"
        "from enclave_runner.__main__ import main\n"
        "sys.argv[1:] = ['doctor', '--json']\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import os, sys\nsys.argv.append(str(os.getpid()))\n{code}"],
        capture_output=True,
        env={"PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert json.loads(done.stdout)["ok"] is True


def test_one_open_probe_stops_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    for report in (ProbeReport(attempts=("a", "b"), allowed=("b",)), ProbeReport(attempts=(), allowed=())):
        monkeypatch.setattr(selftest, "probe_jail", lambda zygote, profile, report=report: report)
        with Zygote() as zygote, pytest.raises(Failed) as caught:
            require_jail(zygote, JailProfile())
        assert caught.value.code == "jail.open"


def test_a_probe_that_answers_something_else_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Zygote, "run", lambda self, task, descriptors, profile: b'{"type":"done"}')
    with Zygote() as zygote, pytest.raises(Failed) as caught:
        probe_jail(zygote, JailProfile())
    assert caught.value.code == "jail.probe"
