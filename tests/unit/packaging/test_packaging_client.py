"""The client alone: its own distribution holds no server, fits in 40 MB, and answers P0 to P3 without numpy."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from enclave_runner.contract.check import Check, CheckKind, VerificationMode
from enclave_runner.contract.dataset import ColumnType
from tests.support.platform_half import KEY, PRODUCT, Platform

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "packaging" / "client"
MAX_BYTES = 40_000_000


def project(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    return found


def requirements(names: list[str]) -> set[str]:
    """Everything that these distributions need here, themselves included, without extras."""
    found: set[str] = set()
    while names:
        name = names.pop()
        if name in found:
            continue
        found.add(name)
        for line in importlib.metadata.requires(name) or ():
            requirement, _, marker = line.partition(";")
            if "extra ==" not in marker and _applies(marker):
                names.append(re.split(r"[^A-Za-z0-9_.-]", requirement.strip())[0])
    return found


def _applies(marker: str) -> bool:
    """The markers that occur among our own requirements: a Python version, or an implementation."""
    bound = re.search(r"python_(?:full_)?version\s*<\s*['\"]3\.(\d+)", marker)
    return "!= 'PyPy'" in marker or not marker.strip() or (bound is not None and sys.version_info < (3, int(bound[1])))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of packages with the client's wheel and what it needs, as an installer would lay them, and no more."""
    folder = tmp_path_factory.mktemp("client")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "wheel")]
    subprocess.run(build, cwd=FOLDER, check=True, capture_output=True)
    (wheel,) = (folder / "wheel").iterdir()
    target = folder / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    base = [re.split("==", line)[0] for line in project(FOLDER / "pyproject.toml")["dependencies"]]
    for name in requirements(base):
        for file in importlib.metadata.files(name) or ():
            source = Path(str(file.locate()))
            if ".." not in file.parts and source.is_file():
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target / file)
    yield target
    shutil.rmtree(folder)


def run(site: Path, *line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The client's command in an interpreter that sees those packages and no others."""
    program = (
        f"import sys; sys.path.insert(0, {str(site)!r}); from sandbox.client.__main__ import main; sys.exit(main())"
    )
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, *line],
        env={"PATH": os.environ["PATH"], "HOME": str(site), **environment},
        capture_output=True,
        text=True,
        check=False,
        cwd=site,
    )


def test_version_and_pins_are_those_of_the_platform() -> None:
    client, platform = project(FOLDER / "pyproject.toml"), project(ROOT / "pyproject.toml")
    extras = platform["optional-dependencies"]
    assert client["version"] == platform["version"]
    assert client["requires-python"] == platform["requires-python"]
    assert sorted(client["dependencies"]) == sorted(platform["dependencies"] + extras["client"])
    for extra, pins in client["optional-dependencies"].items():
        assert pins == extras[extra]


def test_it_holds_the_client_and_the_contract_and_nothing_of_the_server(site: Path) -> None:
    modules = {
        path.relative_to(site).parts[:2] for top in ("sandbox", "enclave_runner") for path in (site / top).rglob("*.py")
    }
    assert modules == {
        ("sandbox", "__init__.py"),
        ("sandbox", "client"),
        ("enclave_runner", "__init__.py"),
        ("enclave_runner", "contract"),
    }
    assert not (site / "numpy").exists()


def test_it_fits_in_forty_megabytes_with_everything_that_it_needs(site: Path) -> None:
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    assert 5_000_000 < size <= MAX_BYTES


def test_its_command_is_the_client_s(site: Path) -> None:
    (info,) = site.glob("yunei_client-*.dist-info")
    assert "yunei-client = sandbox.client.__main__:main" in (info / "entry_points.txt").read_text()


def test_it_answers_in_every_mode_of_the_base_and_tells_what_the_others_need(site: Path) -> None:
    given = {"dataset_id": "licences", "attribute": "level"}
    modes = tuple(VerificationMode(f"P{n}") for n in (0, 1, 3, 4))
    platform = Platform(
        Check(kind=CheckKind.EQUALS, modes=modes, **given),  # type: ignore[arg-type]
        {f"S{n}": str(n) for n in range(40)},
        ColumnType.INTEGER,
    )
    with platform.serving() as url:
        environment = {"YUNEI_URL": url, "YUNEI_KEY": KEY, "YUNEI_TRUSTED": platform.trusted}
        line = ["verify", PRODUCT, "S7", "--claim", "7"]
        best = run(site, *line, "--json", **environment)
        told = [run(site, *line, "--mode", mode, **environment) for mode in ("P0", "P1", "P3")]
        lookup = run(site, *line, "--mode", "P4", **environment)
        refused = run(site, *line[:3], **environment)
    assert (best.stderr, best.returncode) == ("", 0)
    assert (json.loads(best.stdout)["verdict"], json.loads(best.stdout)["mode"]) == ("yes", "P3")
    assert [(one.returncode, one.stderr, "是 / yes" in one.stdout) for one in told] == [(0, "", True)] * 3
    assert (lookup.returncode, "yunei-client[pir]" in lookup.stderr) == (4, True)
    assert refused.returncode == 3
    assert "该产品回答的问题类型" in refused.stderr
