"""Everything that could change what runs changes the digest, and bytecode cannot stand in for another source."""

from __future__ import annotations

import importlib.util
import marshal
import os
import py_compile
from pathlib import Path

import pytest

from enclave_runner.attest.tree import check_bytecode, tree_digest
from enclave_runner.contract.errors import Failed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small tree of code."""
    root = tmp_path / "code"
    (root / "part").mkdir(parents=True)
    (root / "a.py").write_text("x = 1\n")
    (root / "part" / "b.py").write_text("y = 2\n")
    (root / "part" / "data.bin").write_bytes(b"\0")
    (root / "link.py").symlink_to("a.py")
    return root


def changes(folder: Path) -> dict[str, object]:
    """Each way of changing what runs."""
    return {
        "content": lambda: (folder / "a.py").write_text("x = 2\n"),
        "data": lambda: (folder / "part" / "data.bin").write_bytes(b"\1"),
        "added file": lambda: (folder / "part" / "c.so").touch(),
        "hidden file": lambda: (folder / ".hidden").touch(),
        "removed": lambda: (folder / "part" / "b.py").unlink(),
        "renamed": lambda: (folder / "a.py").rename(folder / "z.py"),
        "moved": lambda: (folder / "a.py").rename(folder / "part" / "a.py"),
        "executable": lambda: (folder / "a.py").chmod(0o755),
        "writable by anyone": lambda: (folder / "a.py").chmod(0o646),
        "another target": lambda: ((folder / "link.py").unlink(), (folder / "link.py").symlink_to("part/b.py")),
        "link to file": lambda: ((folder / "link.py").unlink(), (folder / "link.py").write_text("x = 1\n")),
        "file to link": lambda: ((folder / "a.py").unlink(), (folder / "a.py").symlink_to("part/b.py")),
        "folder to link": lambda: ((folder / "part").rename(folder.parent / "p"), (folder / "part").symlink_to("../p")),
        "a pipe": lambda: os.mkfifo(folder / "pipe"),
    }


@pytest.mark.parametrize("change", list(changes(Path())))
def test_every_change_is_seen(folder: Path, change: str) -> None:
    before = tree_digest(str(folder))
    changes(folder)[change]()  # type: ignore[operator]
    assert tree_digest(str(folder)) != before


def test_what_changes_nothing_is_not_seen(folder: Path, tmp_path: Path) -> None:
    before = tree_digest(str(folder))
    os.utime(folder / "a.py", (1, 1))
    (folder / "a.py").chmod(0o600)
    py_compile.compile(str(folder / "a.py"))
    assert (folder / "__pycache__").exists()
    assert tree_digest(str(folder)) == before
    folder.rename(tmp_path / "elsewhere")
    assert tree_digest(str(tmp_path / "elsewhere")) == before


def test_a_byte_cannot_move_from_a_name_to_a_content(tmp_path: Path) -> None:
    digests = set()
    for number, (name, content) in enumerate((("ab", "c"), ("a", "bc"), ("abc", ""))):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / name).write_text(content)
        digests.add(tree_digest(str(folder)))
    assert len(digests) == 3


def cached(folder: Path) -> Path:
    """The bytecode of a.py, freshly made as an import makes it."""
    source = folder / "a.py"
    py_compile.compile(str(source))
    return Path(importlib.util.cache_from_source(str(source)))


def is_refused(folder: Path) -> bool:
    try:
        check_bytecode(str(folder))
    except Failed as failed:
        assert failed.code == "attest.bytecode"
        return True
    return False


def test_honest_bytecode_passes(folder: Path) -> None:
    assert not is_refused(folder)
    cached(folder)
    assert not is_refused(folder)


def test_forged_bytecode_that_an_import_would_take_is_refused(folder: Path) -> None:
    path = cached(folder)
    forged = marshal.dumps(compile("x = 'forged'\n", str(folder / "a.py"), "exec"))
    header = path.read_bytes()[:16]
    path.write_bytes(header + forged)
    assert imported(folder) == "forged"
    assert is_refused(folder)
    # The same with a header that Python never holds against the source.
    path.write_bytes(header[:4] + (1).to_bytes(4, "little") + bytes(8) + forged)
    assert imported(folder) == "forged"
    assert is_refused(folder)


def test_forged_bytecode_that_no_import_takes_is_left_alone(folder: Path) -> None:
    path = cached(folder)
    forged = marshal.dumps(compile("x = 'forged'\n", "a.py", "exec"))
    header = path.read_bytes()[:16]
    for other in (b"\0\0\0\0" + header[4:], header[:8] + bytes(8), header[:4] + (3).to_bytes(4, "little") + bytes(8)):
        path.write_bytes(other + forged)
        assert not is_refused(folder)
    path.write_bytes(header[:10])
    assert not is_refused(folder)
    path.write_bytes(header + b"\xff")
    assert not is_refused(folder)


def test_hash_based_bytecode_is_held_to_its_source(folder: Path) -> None:
    py_compile.compile(str(folder / "a.py"), invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    path = Path(importlib.util.cache_from_source(str(folder / "a.py")))
    assert not is_refused(folder)
    path.write_bytes(path.read_bytes()[:16] + marshal.dumps(compile("x = 3\n", "a.py", "exec")))
    assert is_refused(folder)


def test_a_module_without_a_source_is_refused(folder: Path) -> None:
    cached(folder).rename(folder / "extra.pyc")
    assert is_refused(folder)


def imported(folder: Path) -> object:
    """What an import gets: the positive control of a forgery."""
    spec = importlib.util.spec_from_file_location("attest_sample", folder / "a.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.x
