"""System calls raise what the kernel says, and refuse a machine whose numbers nobody has reviewed."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from enclave_runner.jail import syscalls
from enclave_runner.jail.confine import NAMESPACE_FLAGS, drop_identity
from enclave_runner.jail.profile import JailProfile
from tests.support.enclave_process import ROOT


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: syscalls.prctl(-1),
        lambda: syscalls.unshare(-1),
        lambda: syscalls.mount("none", "/no/such/place", "tmpfs", 0),
        lambda: syscalls.detach("/no/such/place"),
        lambda: syscalls.pivot_root("/no/such/place", "/no/such/place"),
    ],
)
def test_a_refusing_kernel_is_an_error(attempt: object) -> None:
    assert callable(attempt)
    with pytest.raises(OSError) as caught:
        attempt()
    assert caught.value.errno


def test_an_unreviewed_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(OSError, match="riscv64"):
        syscalls.pivot_root("/", "/")


def test_every_namespace_of_the_profile_is_known_and_each_has_its_own_flag() -> None:
    assert set(JailProfile().namespaces) == set(NAMESPACE_FLAGS)
    assert len(set(NAMESPACE_FLAGS.values())) == len(NAMESPACE_FLAGS) == 7


def in_child(code: str) -> subprocess.CompletedProcess[bytes]:
    program = f"import os, sys\nfrom enclave_runner.jail import confine, syscalls\n{code}"
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=60, check=False)


def test_descriptors_end_up_in_their_places_whatever_their_numbers_were() -> None:
    code = (
        "files = [os.memfd_create(str(n)) for n in range(4)]\n"
        "order = [files[2], files[0], files[3], files[1]]\n"
        "keep = os.dup2(1, 200)\n"
        "names = [os.readlink(f'/proc/self/fd/{n}') for n in order]\n"
        "out = os.dup(1)\n"
        "confine.take_descriptors([*order, out])\n"
        "now = [os.readlink(f'/proc/self/fd/{n}') for n in (3, 4, 5, 6)]\n"
        "null = {os.readlink(f'/proc/self/fd/{n}') for n in (0, 1, 2)}\n"
        "open_ones = sorted(int(n) for n in os.listdir('/proc/self/fd'))[:-1]\n"
        "os.write(7, repr((now == names, null, open_ones)).encode())\n"
    )
    done = in_child(code)
    assert done.stdout.decode() == repr((True, {"/dev/null"}, [0, 1, 2, 3, 4, 5, 6, 7])), done.stderr


def test_a_child_of_a_dead_parent_ends_itself() -> None:
    done = in_child("confine.die_with_parent(os.getppid() + 1)\nprint('still here')")
    assert (done.returncode, done.stdout) == (97, b"")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has an identity to drop")
def test_root_is_dropped_for_good() -> None:
    code = (
        "confine.drop_identity(os.getppid())\n"
        "status = dict(l.split(':\\t') for l in open('/proc/self/status').read().splitlines() if ':\\t' in l)\n"
        "print(status['Uid'].split(), status['Groups'].split())\n"
        "try: os.setuid(0)\n"
        "except PermissionError: print('stays')\n"
    )
    assert in_child(code).stdout.decode() == "['64901', '64901', '64901', '64901'] []\nstays\n"


def test_an_identity_that_stayed_root_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getuid", lambda: 0)
    with pytest.raises(PermissionError, match="root"):
        drop_identity(os.getppid())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to drop")
def test_capabilities_are_all_gone_after_dropping() -> None:
    code = (
        "syscalls.drop_capabilities()\n"
        "lines = open('/proc/self/status').read().splitlines()\n"
        "print({l.split()[1] for l in lines if l.startswith('Cap')})\n"
    )
    assert in_child(code).stdout.decode() == "{'0000000000000000'}\n"


def test_the_read_back_does_not_believe_a_process_that_is_not_jailed() -> None:
    done = in_child("from enclave_runner.jail.profile import JailProfile\nconfine.read_back(JailProfile())")
    assert done.returncode == 1
    assert b"PermissionError" in done.stderr


def test_the_root_is_not_believed_where_the_worker_is_root_outside() -> None:
    """Inside, a worker sees the inner id whoever it is outside: only the map tells."""
    done = in_child("confine.check_root()")
    assert done.returncode == 1
    assert b"root outside" in done.stderr
