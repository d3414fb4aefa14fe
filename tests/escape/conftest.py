"""What there is to reach on the host, and one zygote for each kind of control."""

from __future__ import annotations

import ctypes
import os
import secrets
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from enclave_runner.jail.launcher import MemoryFile
from enclave_runner.jail.profile import JOB_UID
from tests.support.hostile_attempts import Targets
from tests.support.hostile_calls import elf
from tests.support.hostile_program import AttemptZygote

IPC_RMID = 0


@pytest.fixture(scope="session")
def program() -> Iterator[int]:
    """A program without a name, as a job might be handed one."""
    with MemoryFile(elf()) as file:
        yield file.descriptor


@pytest.fixture(scope="session")
def targets() -> Iterator[Targets]:
    """Live targets, all within reach of a plain process of the job's uid."""
    secret, job_uid = secrets.token_hex(16), JOB_UID if os.geteuid() == 0 else os.geteuid()
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="yunei-escape-", ignore_cleanup_errors=True))
        )
        folder.chmod(0o777)
        canary, owned = folder / "canary", folder / "owned"
        for path in (canary, owned):
            path.write_text(secret)
        canary.chmod(0o644)
        if os.geteuid() == 0:
            os.chown(owned, job_uid, job_uid)
        abstract = _listener(stack, "\0" + f"yunei-{secret}")
        by_path = _listener(stack, str(folder / "socket"))
        (folder / "socket").chmod(0o777)
        port = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        yield Targets(
            canary=str(canary),
            owned=str(owned),
            folder=str(folder),
            secret=secret,
            neighbour=_neighbour(stack, secret, job_uid),
            port=port,
            abstract=abstract.removeprefix("\0"),
            socket_path=by_path,
            segment=_segment(stack),
        )


def _listener(stack: ExitStack, name: str) -> str:
    listener = stack.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(name)
    listener.listen()
    return name


def _neighbour(stack: ExitStack, secret: str, uid: int) -> int:
    """Another process of the job's uid, with the secret in its environment."""
    who = {"user": uid, "group": uid, "extra_groups": []} if os.geteuid() == 0 else {}
    # Not Python: our interpreter may lie below a folder that only its owner enters.
    command = ["/bin/sh", "-c", "printf x; exec /bin/sleep 3600"]
    process = subprocess.Popen(command, env={"SECRET": secret}, stdout=subprocess.PIPE, cwd="/", **who)
    stack.callback(process.wait)
    stack.callback(process.kill)
    assert process.stdout is not None
    stack.callback(process.stdout.close)
    assert process.stdout.read(1) == b"x"
    return process.pid


def _segment(stack: ExitStack) -> int:
    libc = ctypes.CDLL(None)
    segment = int(libc.shmget(0, 4096, 0o1000 | 0o666))
    assert segment >= 0
    stack.callback(libc.shmctl, segment, IPC_RMID, None)
    return segment


@pytest.fixture(scope="session")
def zygote_of() -> Iterator[Callable[[str], AttemptZygote]]:
    """The zygote of a control, started when it is first asked for."""
    started: dict[str, AttemptZygote] = {}

    def give(control: str) -> AttemptZygote:
        if control not in started:
            started[control] = AttemptZygote(control)
        return started[control]

    yield give
    for zygote in started.values():
        zygote.close()
