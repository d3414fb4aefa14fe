"""Landlock in a process that is otherwise free: paths close, sealed memory stays reachable, the floor holds."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from enclave_runner.jail import landlock, syscalls
from tests.support.enclave_process import ROOT

# The rules name /scratch, which only a jail has: the child gets a map without it.
CHILD = """
import os, sys
from enclave_runner.jail import landlock, syscalls
del landlock.GRANTED["/scratch"]
syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
memory = os.memfd_create("sealed")
os.write(memory, b"content")
held = os.open(sys.argv[0], os.O_RDONLY)
attempts = {
    "read a file": lambda: os.open("/etc/hostname", os.O_RDONLY),
    "list a folder": lambda: os.listdir("/"),
    "write a file": lambda: os.open("/tmp/landlock-test", os.O_WRONLY | os.O_CREAT),
    "run a program": lambda: os.execv("/bin/true", ["true"]),
    "reopen a file that is open": lambda: os.open(f"/proc/self/fd/{held}", os.O_RDONLY),
    "reopen sealed memory": lambda: os.open(f"/proc/self/fd/{memory}", os.O_RDONLY),
    "read a file that is open": lambda: os.pread(held, 1, 0),
    "read /dev/urandom": lambda: os.open("/dev/urandom", os.O_RDONLY),
    "write /dev/urandom": lambda: os.open("/dev/urandom", os.O_WRONLY),
    "write /dev/null": lambda: os.open("/dev/null", os.O_WRONLY),
    "read /proc/self/environ": lambda: os.open("/proc/self/environ", os.O_RDONLY),
    "read /proc/self/status": lambda: os.open("/proc/self/status", os.O_RDONLY),
}
if len(sys.argv) > 1:
    landlock.restrict_paths(1)
for name, attempt in attempts.items():
    if name == "run a program":
        child = os.fork()
        if child == 0:
            try:
                attempt()
            except OSError:
                os._exit(1)
        print(name, os.waitpid(child, 0)[1] == 0, sep=":")
        continue
    try:
        attempt()
        print(name, True, sep=":")
    except OSError as error:
        print(name, error.errno == 13 and False, sep=":")
"""
OPEN_STILL = {
    "reopen sealed memory",
    "read a file that is open",
    "read /dev/urandom",
    "write /dev/null",
    "read /proc/self/status",
}


def outcomes(*arguments: str) -> dict[str, bool]:
    script = ROOT / "build" / f"landlock-{os.getpid()}.py"
    script.parent.mkdir(exist_ok=True)
    script.write_text(CHILD, encoding="utf-8")
    try:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, str(script), *arguments], capture_output=True, text=True, check=True, env=environment
        )
    finally:
        script.unlink()
    return {name: said == "True" for name, _, said in (line.partition(":") for line in done.stdout.splitlines())}


def test_every_path_closes_but_those_that_are_named() -> None:
    free, closed = outcomes(), outcomes("restricted")
    assert len(free) == len(closed) == 12
    assert all(free.values())  # the control: each of them works without Landlock
    assert {name for name, works in closed.items() if works} == OPEN_STILL


def test_a_kernel_below_the_floor_is_refused() -> None:
    with pytest.raises(OSError, match="below"):
        landlock.restrict_paths(1000)
    assert os.listdir("/")  # noqa: PTH208 - and nothing was closed


def test_the_kernel_names_its_abi() -> None:
    assert syscalls.landlock_abi() >= 1


@pytest.mark.parametrize("abi", [1, 2, 3, 4, 6])
def test_each_abi_gets_the_attributes_that_it_knows(abi: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer attributes, or a right that it does not know, an older kernel would refuse altogether."""
    seen: list[bytes] = []

    def refuse(attributes: bytes) -> int:
        seen.append(attributes)
        raise OSError("no further")

    monkeypatch.setattr(syscalls, "landlock_abi", lambda: abi)
    monkeypatch.setattr(syscalls, "landlock_ruleset", refuse)
    with pytest.raises(OSError, match="no further"):
        landlock.restrict_paths(1)
    handled = int.from_bytes(seen[0][:8], "little")
    assert len(seen[0]) == {1: 8, 2: 8, 3: 8, 4: 16, 6: 24}[abi]
    assert handled.bit_length() == {1: 13, 2: 14, 3: 15, 4: 15, 6: 16}[abi]
    assert handled == (1 << handled.bit_length()) - 1
