"""The libraries are measured by their files, wherever a file could hide; and by nothing that differs by machine."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import Distribution, PathDistribution, version
from pathlib import Path

import pytest

from enclave_runner.attest.packages import (
    OPTIONAL,
    REQUIRED,
    check_origin,
    closure,
    installed,
    packages_digest,
    path_hooks,
    startup_digest,
)
from enclave_runner.contract.errors import Failed

PYPROJECT = tomllib.loads((Path(__file__).parents[4] / "pyproject.toml").read_text())["project"]
RECORD = """pack/__init__.py,sha256=x,1
pack/inner/code.py,sha256=x,1
pack/__pycache__/__init__.cpython-311.pyc,,
lone_module.py,sha256=x,1
pack.libs/native.so,sha256=x,1
space/named/__init__.py,sha256=x,1
../../../bin/pack,sha256=x,1
pack-1.0.dist-info/RECORD,,
pack-1.0.dist-info/INSTALLER,sha256=x,1
"""


@pytest.fixture
def dist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Distribution:
    """A small installed distribution on the path."""
    for line in RECORD.splitlines():
        path = tmp_path / line.split(",")[0]
        if ".." not in path.parts:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(line)
    (tmp_path / "pack-1.0.dist-info" / "RECORD").write_text(RECORD)
    (tmp_path / "pack-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: pack\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return PathDistribution(tmp_path / "pack-1.0.dist-info")


def found(dist: Distribution) -> dict[str, str]:
    return {entry.path: entry.content for entry in installed(dist)}


def test_what_pyproject_names_for_the_enclave_is_what_is_measured() -> None:
    extras = PYPROJECT["optional-dependencies"]

    def names(lines: list[str]) -> set[str]:
        return {re.split(r"[=<>\[;]", line)[0] for line in lines}

    assert names([*PYPROJECT["dependencies"], *extras["enclave"]]) == set(REQUIRED)
    assert names([*extras["gm"], *extras["hsm"]]) == set(OPTIONAL)


def test_code_and_libraries_count_and_notes_of_the_installer_do_not(dist: Distribution) -> None:
    assert set(found(dist)) == {
        "pack/__init__.py",
        "pack/inner/code.py",
        "lone_module.py",
        "pack.libs/native.so",
        "space/named/__init__.py",
    }


@pytest.mark.parametrize("place", ["pack/added.py", "pack/inner/added.so", "pack/inner/deep/x.py", "space/named/a.py"])
def test_a_file_that_nobody_installed_is_seen(dist: Distribution, tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).touch()
    assert place in found(dist)


def test_neighbours_in_a_shared_folder_are_not_ours(dist: Distribution, tmp_path: Path) -> None:
    before = found(dist)
    (tmp_path / "space" / "other").mkdir()
    (tmp_path / "space" / "other" / "__init__.py").touch()
    (tmp_path / "another_package.py").touch()
    assert found(dist) == before


def test_a_changed_library_is_seen_whatever_its_record_says(dist: Distribution, tmp_path: Path) -> None:
    before = found(dist)
    (tmp_path / "pack.libs" / "native.so").write_text("changed")
    assert found(dist) != before


@pytest.mark.parametrize("place", ["pack/__init__.py", "pack.py", "lone_module/__init__.py", "lone_module.py"])
def test_a_copy_that_hides_a_measured_one_is_refused(
    dist: Distribution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    check_origin(dist)
    hiding = tmp_path / "earlier" / place
    hiding.parent.mkdir(parents=True)
    hiding.touch()
    monkeypatch.syspath_prepend(str(tmp_path / "earlier"))
    with pytest.raises(Failed) as caught:
        check_origin(dist)
    assert caught.value.code == "attest.packages"


def test_a_folder_beside_a_module_hides_it_and_is_refused(dist: Distribution, tmp_path: Path) -> None:
    (tmp_path / "lone_module").mkdir()
    (tmp_path / "lone_module" / "__init__.py").touch()
    sys.path_importer_cache.pop(str(tmp_path), None)
    with pytest.raises(Failed):
        check_origin(dist)


def test_a_missing_library_is_a_fault_and_a_missing_option_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enclave_runner.attest.packages.REQUIRED", ("no-such-library",))
    with pytest.raises(Failed) as caught:
        closure(("no-such-library",))
    assert caught.value.code == "attest.packages"
    assert closure(("no-such-option",)) == {}


def test_requirements_of_requirements_count_and_extras_do_not() -> None:
    names = set(closure(REQUIRED))
    assert {"cffi", "numpy", "protobuf", "duckdb"} <= names
    assert not names & {"pytest", "pandas", "polars", "fsspec"}


def test_the_digest_is_that_of_what_is_installed_and_is_taken_once() -> None:
    assert len(packages_digest()) == 64
    assert packages_digest() is packages_digest()
    assert closure(("duckdb",))["duckdb"].version == version("duckdb")


def test_only_lines_that_run_count_among_path_files(tmp_path: Path) -> None:
    (tmp_path / "place.pth").write_text("/some/where\n# import nothing\n")
    assert list(path_hooks(str(tmp_path))) == []
    (tmp_path / "hook.pth").write_text("/a\nimport os; os.getpid()\n")
    (first,) = path_hooks(str(tmp_path))
    (tmp_path / "hook.pth").write_text("/b\nimport os; os.getpid()\n")
    assert list(path_hooks(str(tmp_path))) == [first]
    (tmp_path / "hook.pth").write_text("/b\nimport\tos\n")
    assert list(path_hooks(str(tmp_path))) != [first]
    assert list(path_hooks(str(tmp_path / "missing"))) == []


def test_what_starts_with_the_interpreter_has_a_digest() -> None:
    assert re.fullmatch("[0-9a-f]{64}", startup_digest())
