"""The OCI bundle: what it gives and what it keeps; run for real by runc, and refused from the inside under gVisor."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from enclave_runner.contract.wire import Hello, Identity
from tests.support.enclave_home import make_bureau
from tests.support.enclave_process import ask
from tools.make_bundle import CAPABILITY_SETS, HOME_INSIDE, configuration, main

ROOT = Path(__file__).parents[3]
OWNER = 65534
FIRST_ID = 200_000
START_SECONDS = 90.0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


def needs(program: str) -> None:
    """Skip where a container cannot be started, and say why."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    if os.geteuid() != 0:
        pytest.skip(f"{program} is started as root")


def bundle(folder: Path, home: Path, *options: str) -> Path:
    """A bundle of this checkout and this Python."""
    shown = {ROOT, Path(sys.prefix), Path(sys.base_prefix)}
    read_only = [part for path in shown if not path.is_relative_to("/usr") for part in ("--read-only", str(path))]
    assert main([str(folder), "--home", str(home), *read_only, *options]) == 0
    return folder


def belongs_to_nobody(home: Path) -> None:
    """Hand a home to the user whom the container runs as."""
    for path in [home, *home.rglob("*")]:
        os.chown(path, OWNER, OWNER)


def read(folder: Path) -> dict[str, Any]:
    """What the runtime is told."""
    return dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))


def examination(*command: str) -> tuple[int, dict[str, Any]]:
    """The doctor's exit code and report."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    return done.returncode, dict(json.loads(done.stdout.splitlines()[-1])) if done.stdout else {"said": done.stderr}


def test_only_the_home_can_be_written_and_nobody_has_a_capability(home: Path, tmp_path: Path) -> None:
    config = read(bundle(tmp_path / "bundle", home))
    assert config["root"] == {"path": "rootfs", "readonly": True}
    assert config["process"]["capabilities"] == {kind: [] for kind in CAPABILITY_SETS}
    assert config["process"]["noNewPrivileges"] is True
    binds = [mount for mount in config["mounts"] if mount["type"] == "bind"]
    assert [mount["source"] for mount in binds if "ro" not in mount["options"]] == [str(home)]
    assert all({"nosuid", "nodev"} <= set(mount["options"]) for mount in binds)
    assert config["process"]["args"][-3:] == ["serve", "--home", HOME_INSIDE]


def test_no_namespace_is_shared_and_what_the_jail_needs_is_not_masked(home: Path) -> None:
    linux = configuration(home, [Path("/usr")], ["true"], None)["linux"]
    assert {"pid", "network", "ipc", "uts", "mount"} <= {part["type"] for part in linux["namespaces"]}
    assert not [part for part in linux["namespaces"] if "path" in part]
    assert linux["maskedPaths"] == linux["readonlyPaths"] == []
    assert "seccomp" not in linux
    assert "uidMappings" not in linux


def test_ids_of_a_user_namespace_are_the_hosts_nobodies_but_for_the_homes_owner(home: Path) -> None:
    linux = configuration(home, [], ["true"], FIRST_ID)["linux"]
    own = home.stat().st_uid
    hosts = {}
    for part in linux["uidMappings"]:
        for number in range(part["size"]):
            hosts[part["containerID"] + number] = part["hostID"] + number
    assert hosts.pop(own) == own
    assert hosts == {number: FIRST_ID + number - (number > own) for number in range(65537) if number != own}


@contextmanager
def container(folder: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A bundle, run by runc; gone afterwards."""
    runc = ["runc", "--root", str(tmp_path / "runc")]
    name = f"yunei-test-{os.getpid()}"
    running = subprocess.Popen([*runc, "run", "--bundle", str(folder), name], stdin=subprocess.DEVNULL)
    try:
        yield running
    finally:
        subprocess.run([*runc, "delete", "--force", name], check=False, capture_output=True)
        running.wait(30)


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--user-namespace", str(FIRST_ID))], ids=["plain", "user-namespace"])
def test_the_jail_holds_inside_a_container(home: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    needs("runc")
    belongs_to_nobody(home)
    with tempfile.TemporaryDirectory() as reachable:  # for the mapped ids, which pytest's own folder is not
        Path(reachable).chmod(0o711)
        folder = bundle(Path(reachable), home, "--doctor", *options)
        runc = ("runc", "--root", str(tmp_path / "runc"))
        code, report = examination(*runc, "run", "--bundle", str(folder), f"yunei-test-{os.getpid()}")
    assert (code, report.get("ok")) == (0, True), report
    assert {row["outcome"] for row in report["probes"]} == {"BLOCKED"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hidden", "missing"),
    [({"readonlyPaths": ["/proc/sys"]}, "namespaces"), ({"maskedPaths": ["/proc/kcore", "/proc/keys"]}, "root")],
    ids=["read-only", "masked"],
)
def test_a_container_that_masks_proc_runs_no_job(
    home: Path, tmp_path: Path, hidden: dict[str, list[str]], missing: str
) -> None:
    """What every container engine does unless told otherwise takes the jail's parts away: nothing runs then."""
    needs("runc")
    belongs_to_nobody(home)
    folder = bundle(tmp_path / "bundle", home, "--doctor")
    config = read(folder)
    config["linux"].update(hidden)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    runc = ("runc", "--root", str(tmp_path / "runc"))
    code, report = examination(*runc, "run", "--bundle", str(folder), f"yunei-test-{os.getpid()}")
    assert code == 3
    assert [row["layer"] for row in report["probes"]] == [missing]


@pytest.mark.slow
def test_an_enclave_in_a_container_answers_through_its_home(tmp_path: Path) -> None:
    needs("runc")
    bureau = make_bureau(tmp_path)
    home = bureau.home.folder
    belongs_to_nobody(home)
    with container(bundle(tmp_path / "bundle", home), tmp_path) as running:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                answer = ask(home, Hello())
                break
            except OSError:
                assert running.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
    assert isinstance(answer, Identity)


@pytest.mark.slow
def test_gvisor_has_no_landlock_so_the_enclave_runs_no_job_there(home: Path, tmp_path: Path) -> None:
    needs("runsc")
    belongs_to_nobody(home)
    folder = bundle(tmp_path / "bundle", home, "--doctor")
    runsc = ("runsc", "--root", str(tmp_path / "runsc"), "--network=none", "--ignore-cgroups", "--platform=ptrace")
    code, report = examination(*runsc, "run", "-bundle", str(folder), f"yunei-test-{os.getpid()}")
    assert code == 3, report
    assert report["is_possible"] is False
    assert "landlock" in {row["layer"] for row in report["probes"] if row["outcome"] == "MISSING"}
