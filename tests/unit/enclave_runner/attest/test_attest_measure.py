"""The measurement changes with every byte of code and every setting of the jail."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import enclave_runner
from enclave_runner.attest.measure import ENGINES, measure, tree_digest
from enclave_runner.jail.profile import JailProfile


@dataclass(frozen=True)
class Tree:
    """A small folder of code."""

    folder: Path

    def write(self, name: str, content: str) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return tree_digest(self.folder)


def test_content_names_and_places_count(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    digests = [
        tree.write("a.py", "x = 1"),
        tree.write("a.py", "x = 2"),
        tree.write("b/a.py", ""),
        tree.write("b/c.py", ""),
    ]
    assert len(set(digests)) == 4
    assert tree.write("notes.txt", "not code") == digests[-1]


def test_moving_a_byte_between_two_files_is_seen(tmp_path: Path) -> None:
    first, second = Tree(tmp_path / "1"), Tree(tmp_path / "2")
    first.write("a.py", "xy")
    second.write("a.py", "x")
    assert first.write("b.py", "z") != second.write("b.py", "yz")


def test_what_runs_is_what_is_measured() -> None:
    found = measure(JailProfile())
    assert found.runner_sha256 == tree_digest(Path(enclave_runner.__path__[0]))
    assert found.engines == {name: version(name) for name in ENGINES}
    assert found.assurance == "software-only"


def test_every_setting_of_the_jail_is_in_its_digest() -> None:
    plain = JailProfile()
    others = {
        JailProfile(**{name: value + 1}).sha256
        for name in JailProfile.__struct_fields__
        if isinstance(value := getattr(plain, name), int)
    }
    others |= {JailProfile(namespaces=("user",)).sha256, JailProfile(root="another").sha256}
    assert len(others) == len(JailProfile.__struct_fields__)
    assert plain.sha256 not in others
    assert measure(plain).jail_sha256 == plain.sha256
