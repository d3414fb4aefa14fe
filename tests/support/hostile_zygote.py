"""A zygote whose jobs are attacks: a program of its own (`serve` with a hostile `work`), and the launcher for it.

`Sabotaged` starts the same program with one step of the jail made to fail.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import platform
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from enclave_runner.jail import confine
from enclave_runner.jail.launcher import Zygote
from enclave_runner.jail.zygote import serve

CANARY = "canary-7f3a-raw-cell"
CLONE = 56 if platform.machine() == "x86_64" else 220  # the system call's number


def echo(argument: str, descriptors: list[int]) -> bytes:
    """Say it back: the control that an ordinary job works."""
    return f"{argument} {len(descriptors)}".encode()


def raise_canary(argument: str, descriptors: list[int]) -> bytes:
    """An exception whose text holds a raw cell."""
    raise ValueError(f"could not convert {CANARY}")


def exit_code(argument: str, descriptors: list[int]) -> bytes:
    """Leave with a chosen exit code, as a side channel would."""
    os._exit(int(argument))


def stubborn(argument: str, descriptors: list[int]) -> bytes:
    """Block every signal, clear the death signal, and outstay the deadline while beating into the shared file."""
    signal.pthread_sigmask(signal.SIG_BLOCK, set(range(1, signal.NSIG)) - {32, 33})
    if argument == "unleashed":
        ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)  # PR_SET_PDEATHSIG = none
    beat = 0
    while True:
        beat += 1
        os.pwrite(descriptors[0], str(beat).encode().rjust(12), 0)
        time.sleep(0.01)


def deaf(argument: str, descriptors: list[int]) -> bytes:
    """Close every descriptor and sleep: the answer ends, the job does not."""
    os.closerange(0, 64)
    time.sleep(3600)
    return b""


def eat_memory(argument: str, descriptors: list[int]) -> bytes:
    """Allocate without end."""
    held = []
    while True:
        held.append(bytearray(16 << 20))


def fork_bomb(argument: str, descriptors: list[int]) -> bytes:
    """Fork until it is refused; how many were possible."""
    children = 0
    try:
        while children < 4096:
            if os.fork() == 0:
                time.sleep(3600)
            children += 1
    except OSError:
        pass
    return str(children).encode()


def descriptors_exhausted(argument: str, descriptors: list[int]) -> bytes:
    """Open until it is refused; how many are open then."""
    highest = 0
    try:
        while highest < 100_000:
            highest = os.dup(descriptors[0])
    except OSError:
        pass
    return str(highest).encode()


def fill_scratch(argument: str, descriptors: list[int]) -> bytes:
    """Write into /scratch until it is refused; how many MiB fitted."""
    written = 0
    try:
        for number in range(64):
            with Path(f"/scratch/{number}").open("wb", buffering=0) as file:
                for _ in range(16):
                    written += file.write(b"x" * (1 << 20))
    except OSError:
        pass
    return str(written >> 20).encode()


def fill_inodes(argument: str, descriptors: list[int]) -> bytes:
    """Make empty files until it is refused."""
    made = 0
    try:
        while made < 100_000:
            os.close(os.open(f"/scratch/i{made}", os.O_CREAT | os.O_WRONLY))
            made += 1
    except OSError:
        pass
    return str(made).encode()


def long_answer(argument: str, descriptors: list[int]) -> bytes:
    """As many bytes as asked."""
    return b"x" * int(argument)


def write_task(argument: str, descriptors: list[int]) -> bytes:
    """Try to change the handed file in every way."""
    done = []
    for name, attempt in {
        "pwrite": lambda: os.pwrite(descriptors[0], b"changed", 0),
        "truncate": lambda: os.ftruncate(descriptors[0], 0),
        "reopen": lambda: os.write(os.open(f"/proc/self/fd/{descriptors[0]}", os.O_WRONLY), b"changed"),
        "unseal": lambda: fcntl.fcntl(descriptors[0], fcntl.F_ADD_SEALS, 0),
    }.items():
        try:
            attempt()
        except OSError:
            continue
        done.append(name)
    return json.dumps(done).encode()


def raise_limits(argument: str, descriptors: list[int]) -> bytes:
    """Which hard limits can be raised again."""
    raised = []
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_DATA, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE):
        _, hard = resource.getrlimit(limit)
        try:
            resource.setrlimit(limit, (hard, hard + 1))
        except (OSError, ValueError):
            continue
        raised.append(limit)
    return json.dumps(raised).encode()


def new_namespace(argument: str, descriptors: list[int]) -> bytes:
    """What the job sees of itself: ids, environment, root, threads of the host, its limits."""
    seen = {
        "uid": os.getuid(),
        "pid": os.getpid(),
        "environment": dict(os.environ),
        "hostname": os.uname().nodename,
        "processes": [number for number in range(1, 4096) if Path(f"/proc/{number}").exists()],
    }
    return json.dumps(seen).encode()


def spin(argument: str, descriptors: list[int]) -> bytes:
    """Burn CPU in one C call that never returns to Python."""
    ctypes.PyDLL(None).pause() if argument == "gil" else None
    while True:
        pass


def nest(argument: str, descriptors: list[int]) -> bytes:
    """Which namespaces can be made inside, and whether the cap that forbids them can be lifted."""
    libc = ctypes.CDLL(None, use_errno=True)
    made = [name for name, flag in confine.NAMESPACE_FLAGS.items() if libc.unshare(flag) == 0]
    if libc.syscall(CLONE, confine.NAMESPACE_FLAGS["user"] | signal.SIGCHLD, 0, 0, 0, 0) >= 0:
        made.append("clone")
    try:
        Path(confine.NAMESPACE_CAP).write_text("1000")
    except OSError:
        return json.dumps(made).encode()
    return json.dumps([*made, "cap"]).encode()


ATTACKS: dict[str, Callable[[str, list[int]], bytes]] = {
    attack.__name__: attack
    for attack in (
        echo, raise_canary, exit_code, stubborn, deaf, eat_memory, fork_bomb, descriptors_exhausted, fill_scratch,
        fill_inodes, long_answer, write_task, raise_limits, new_namespace, spin, nest,
    )
}  # fmt: skip
STEPS = (
    "die_with_parent", "take_descriptors", "drop_identity", "enter_namespaces", "build_root", "set_environment",
    "set_limits", "drop_privileges", "check_root", "restrict_paths", "filter_calls", "read_back",
)  # fmt: skip


def work(data: bytes, descriptors: list[int]) -> bytes:
    """Run the attack that the task names ("name argument")."""
    name, _, argument = data.decode().partition(" ")
    return ATTACKS[name](argument, descriptors)


class HostileZygote(Zygote):
    """The real launcher in front of this program instead of the enclave's; `sabotage` names a step that will raise."""

    def __init__(self, sabotage: str = "") -> None:
        self._sabotage = sabotage
        super().__init__()

    def _command(self, orders: int) -> list[str]:
        return [sys.executable, str(Path(__file__)), str(orders), self._sabotage]


def _sabotage(step: str) -> None:
    """From the first order on, `step` fails (the zygote itself has to come up first)."""
    real, calls = getattr(confine, step), []

    def fail(*arguments: object) -> None:
        calls.append(step)
        if step == "die_with_parent" and len(calls) == 1:
            real(*arguments)
            return
        raise OSError("sabotaged")

    setattr(confine, step, fail)


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[2]:
        _sabotage(sys.argv[2])
    serve(socket.socket(fileno=int(sys.argv[1])), work)
