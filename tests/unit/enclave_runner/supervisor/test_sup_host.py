"""What a host may lack: each lack is named by its layer, with the switch or the error behind it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.jail import confine, seccomp, syscalls
from enclave_runner.jail.launcher import Zygote
from enclave_runner.jail.profile import JailProfile
from enclave_runner.kinds.tasks import Outcome
from enclave_runner.supervisor import doctor, host
from enclave_runner.supervisor.doctor import LAYERS, causes, examine
from enclave_runner.supervisor.host import landlock_version, missing_prerequisites
from tests.support.enclave_home import make_bureau

ROOT = Path(__file__).parents[4]
OPEN = (  # the real probes, two of which are said to have gone another way
    "import sys\n"
    "from msgspec.structs import replace\n"
    "from enclave_runner.kinds.tasks import Outcome\n"
    "from enclave_runner.supervisor import selftest\n"
    "probe = selftest.probe_jail\n"
    "def altered(*arguments):\n"
    "    first, second, *rest = probe(*arguments).findings\n"
    "    first, second = replace(first, outcome=Outcome.ALLOWED), replace(second, outcome=Outcome.MISSING)\n"
    "    print(first.name, second.name, sep=', ', flush=True)\n"
    "    return selftest.SelfTest(findings=(first, second, *rest))\n"
    "selftest.probe_jail = altered\n"
    "from enclave_runner.__main__ import main\n"
    "sys.exit(main())\n"
)
LACKING = ("jail.absent", "jail.zygote-gone")  # according to whether a zygote lives there at all
WITHOUT_NAMESPACES = (
    "import ctypes, os, sys\n"
    "from pathlib import Path\n"
    "uid, gid = os.getuid(), os.getgid()\n"
    "assert ctypes.CDLL(None).unshare(0x10000000) == 0\n"
    "Path('/proc/self/setgroups').write_text('deny')\n"
    "Path('/proc/self/uid_map').write_text(f'1000 {uid} 1')\n"
    "Path('/proc/self/gid_map').write_text(f'1000 {gid} 1')\n"
    "Path('/proc/sys/user/max_user_namespaces').write_text('0')\n"
    "from enclave_runner.__main__ import main\n"
    "sys.exit(main())\n"
)


def rows(profile: JailProfile | None = None) -> list[tuple[str, str, str]]:
    """Name, layer and detail of what is missing."""
    found = missing_prerequisites(profile or JailProfile())
    assert {row.outcome for row in found} <= {Outcome.MISSING}
    return [(row.name, row.layer, row.detail) for row in found]


def refusing(code: int) -> object:
    def refuse(*arguments: object) -> int:
        raise OSError(code, "refused")

    return refuse


def test_this_host_lacks_nothing() -> None:
    assert rows() == []
    assert landlock_version() >= JailProfile().landlock_floor


def test_a_kernel_without_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "landlock_abi", refusing(errno.ENOSYS))
    assert rows() == [("landlock", "landlock", "ENOSYS")]
    assert landlock_version() == 0


def test_a_landlock_below_the_floor() -> None:
    (row,) = rows(JailProfile(landlock_floor=99))
    assert row == ("landlock-floor", "landlock", f"ABI {landlock_version()}, at least 99 is needed")


def test_a_kernel_without_the_filter_and_a_processor_without_a_list(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "actions").write_text("trap errno allow\n")
    for actions in (tmp_path / "actions", tmp_path / "nothing"):
        monkeypatch.setattr(host, "ACTIONS", actions)
        assert rows() == [("seccomp", "seccomp", "no kill_process")]
    monkeypatch.setattr(seccomp.platform, "machine", lambda: "riscv64")
    assert ("processor", "seccomp", "riscv64") in rows()


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSPC])
def test_namespaces_or_a_root_that_the_host_refuses(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """In the child that really tries; the parent is not touched."""
    name = errno.errorcode[code]
    with monkeypatch.context() as patched:
        patched.setattr(confine, "build_root", refusing(code))
        assert rows() == [("private-root", "root", name)]
    with monkeypatch.context() as patched:
        patched.setattr(confine, "enter_namespaces", refusing(code))
        assert rows() == [("user-namespaces", "namespaces", name)]


@pytest.mark.parametrize("options", [["doctor", "--json"], ["doctor"]])
def test_on_a_host_without_user_namespaces_nothing_runs_and_the_switch_is_named(options: list[str]) -> None:
    """A real one: a namespace in which no further ones may be made."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NAMESPACES, *options],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (3, b"")
    if options == ["doctor"]:
        assert (
            done.stdout.split() == b"MISSING namespaces user.max_user_namespaces user.max_user_namespaces = 0".split()
        )
        return
    report = json.loads(done.stdout)
    (row,) = report["probes"]
    assert (row["name"], row["layer"], row["outcome"]) == ("user.max_user_namespaces", "namespaces", "MISSING")
    assert (report["ok"], report["is_possible"]) == (False, False)


@pytest.mark.parametrize(
    ("program", "codes", "lacks"),
    [(OPEN, ("jail.open",), None), (WITHOUT_NAMESPACES, LACKING, "user.max_user_namespaces")],
    ids=["open", "absent"],
)
def test_a_start_that_the_jail_forbids_says_why(
    tmp_path: Path, program: str, codes: tuple[str, ...], lacks: str | None
) -> None:
    home = make_bureau(tmp_path).home
    done = subprocess.run(
        [sys.executable, "-c", program, "serve", "--home", str(home.folder)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    named = lacks or done.stdout.strip()
    assert named
    noted = json.loads(home.log.read_text(encoding="utf-8").splitlines()[-1])
    assert noted["code"] in codes
    assert (noted["subject"], noted["rows"]) == ("start", named.split(", "))
    said = f"yunei enclave: {noted['code']}: {named}; see `yunei enclave doctor`\n"
    assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.slow
def test_the_doctor_examines_under_the_limits_of_a_home(tmp_path: Path) -> None:
    home = make_bureau(tmp_path, wall_seconds="77").home
    command = [sys.executable, "-m", "enclave_runner", "doctor", "--json", "--home"]
    done = subprocess.run([*command, str(home.folder)], cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert json.loads(done.stdout)["profile"]["wall_seconds"] == 77 != JailProfile().wall_seconds
    done = subprocess.run([*command, str(tmp_path / "no")], cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"yunei enclave: policy.unreadable\n")


def test_where_something_is_missing_no_jail_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(doctor, "Zygote", lambda: started.append("zygote"))
    found = examine(JailProfile(landlock_floor=99))
    assert (started, found.ok, found.is_possible) == ([], False, False)
    assert [row.name for row in found.probes] == ["landlock-floor"]


def test_an_examination_covers_every_layer_in_order() -> None:
    found = examine(JailProfile())
    assert (found.ok, found.is_possible) == (True, True)
    shown = [row.layer for row in found.probes]
    assert list(dict.fromkeys(shown)) == [layer for layer in LAYERS if layer != "jail"]
    assert len({row.name for row in found.probes}) == len(found.probes) >= 90
    assert found.landlock_abi == landlock_version()


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (Refused("wire.malformed"), "wire.malformed"),  # an answer that is none
        (OSError(errno.EMFILE, "canary"), "EMFILE"),
        (OSError("canary"), "refused"),
    ],
)
def test_whatever_an_examination_meets_is_a_row(monkeypatch: pytest.MonkeyPatch, error: Exception, detail: str) -> None:
    def fail(*arguments: object) -> Zygote:
        raise error

    shown = [("jail", "jail", Outcome.MISSING, detail)]
    for name in ("probe_jail", "probe_excesses", "Zygote"):
        with monkeypatch.context() as patched:
            patched.setattr(doctor, name, fail)
            found = examine(JailProfile())
        assert [(row.name, row.layer, row.outcome, row.detail) for row in found.probes] == shown
        assert (found.ok, found.is_possible) == (False, True)
    if isinstance(error, OSError):
        monkeypatch.setattr(os, "fork", fail)
        found = examine(JailProfile())
        assert [(row.name, row.layer, row.outcome, row.detail) for row in found.probes] == shown
        assert (found.ok, found.is_possible) == (False, False)
        assert causes(Failed("jail.absent"), JailProfile()) == ("jail",)


@pytest.mark.parametrize("code", ["jail.absent", "jail.zygote-gone", "job.deadline"])
def test_a_jail_that_does_not_come_up_is_a_row(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    def fail(zygote: Zygote, profile: JailProfile) -> object:
        raise Failed(code)

    monkeypatch.setattr(doctor, "probe_jail", fail)
    found = examine(JailProfile())
    assert [(row.name, row.layer, row.outcome, row.detail) for row in found.probes] == [
        ("jail", "jail", Outcome.MISSING, code)
    ]
    assert (found.ok, found.is_possible) == (False, True)
