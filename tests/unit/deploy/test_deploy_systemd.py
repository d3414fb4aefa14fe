"""The units: systemd understands them, and none of its switches takes away what the jail is made of."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from enclave_runner.supervisor.home import EnclaveHome

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy/systemd"
ENCLAVE, API = "yunei-enclave.service", "yunei-api.service"
PROGRAM = re.compile(r"/opt/yunei/bin/\w+")
# Each of these masks /proc, forbids namespaces, mounts or the host name, or hides the control groups.
BREAKS_THE_JAIL = {
    "MemoryDenyWriteExecute",
    "ProcSubset",
    "ProtectControlGroups",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelTunables",
    "ProtectProc",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "SystemCallFilter",
}


def settings(name: str) -> dict[str, list[str]]:
    """A unit's settings; one that is given twice has two values."""
    found: dict[str, list[str]] = {}
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def verify(folder: Path, *drop_ins: str) -> str:
    """What systemd finds wrong with the units, their programs replaced by one that exists."""
    for name in (ENCLAVE, API):
        text = (FOLDER / name).read_text(encoding="utf-8")
        (folder / name).write_text(PROGRAM.sub(shutil.which("true") or "", text), encoding="utf-8")
    for name in drop_ins:
        (folder / f"{ENCLAVE}.d").mkdir()
        shutil.copy(FOLDER / name, folder / f"{ENCLAVE}.d")
    command = ["systemd-analyze", "verify", *(str(folder / name) for name in (ENCLAVE, API))]
    path = {"SYSTEMD_UNIT_PATH": f"{folder}:"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=path)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if str(folder) in line]
    return "\n".join(line for line in said if "DelegateSubgroup" not in line)  # unknown before systemd 254


@pytest.mark.parametrize("drop_ins", [(), ("older-systemd.conf",)], ids=["units", "older"])
def test_systemd_understands_the_units(tmp_path: Path, drop_ins: tuple[str, ...]) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    assert verify(tmp_path, *drop_ins) == ""


def test_a_mistake_in_a_unit_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the same check finds a switch that does not exist."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    copy = shutil.copytree(FOLDER, tmp_path / "copy")
    text = (copy / ENCLAVE).read_text(encoding="utf-8")
    (copy / ENCLAVE).write_text(text.replace("NoNewPrivileges=yes", "NoNewPrivilege=yes"), encoding="utf-8")
    monkeypatch.setattr(f"{__name__}.FOLDER", copy)
    assert "NoNewPrivilege" in verify(tmp_path)


def test_the_enclaves_unit_has_none_of_what_would_break_the_jail() -> None:
    unit = settings(ENCLAVE)
    assert unit.keys() & BREAKS_THE_JAIL == set()
    text = (FOLDER / ENCLAVE).read_text(encoding="utf-8")
    for name in BREAKS_THE_JAIL:
        assert f"{name}=" in text, "left out without saying so"


def test_the_enclave_has_no_network_no_capability_and_groups_of_its_own() -> None:
    unit = settings(ENCLAVE)
    assert unit["User"] == settings(API)["User"] != ["root"]
    assert unit["PrivateNetwork"] == ["yes"]
    assert unit["CapabilityBoundingSet"] == unit["AmbientCapabilities"] == [""]
    assert unit["Delegate"] == ["memory pids"]
    assert unit["DelegateSubgroup"] == ["supervisor"]
    assert unit["ExecStartPre"][0].endswith("enclave_runner doctor")
    assert unit["UMask"] == ["0077"]


def test_the_api_sees_neither_keys_nor_raw_data() -> None:
    hidden = " ".join(settings(API)["InaccessiblePaths"]).split()
    home = EnclaveHome(Path("/var/lib/yunei/enclave"))
    secret = (home.receipt_key, home.pseudonym_key, home.rawdata, home.ledger, home.folder / "kek")
    assert [path for path in secret if f"-{path}" not in hidden] == []
    assert settings(API)["RestrictNamespaces"] == ["yes"]
    assert settings(API)["IPAddressAllow"] == ["localhost"]
