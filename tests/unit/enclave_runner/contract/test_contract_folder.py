"""A folder through an archive: what comes back is private, complete, and never outside the folder."""

from __future__ import annotations

import io
import os
import socket
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from enclave_runner.contract.archive import ArchiveReader, ArchiveWriter, BackupKey
from enclave_runner.contract.errors import Failed
from enclave_runner.contract.folder import FolderWriter, beside, require_free, settle, unpack, workspace

KEY = BackupKey(X25519PrivateKey.generate())


def packed(fill: Callable[[FolderWriter], None]) -> ArchiveReader:
    sink = io.BytesIO()
    folder = FolderWriter(ArchiveWriter(sink, KEY.public, "label", "part"))
    fill(folder)
    folder.finish()
    return ArchiveReader(io.BytesIO(sink.getvalue()), KEY)


def crafted(*members: tarfile.TarInfo) -> ArchiveReader:
    """An archive of whoever has the public half of the key."""
    plain, sink = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    writer = ArchiveWriter(sink, KEY.public, "label", "part")
    writer.write(plain.getvalue())
    writer.finish()
    return ArchiveReader(io.BytesIO(sink.getvalue()), KEY)


def test_a_tree_comes_back_for_its_owner_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "deep" / "empty").mkdir(parents=True)
    (source / "deep" / "file").write_bytes(os.urandom(3 << 20))
    (source / "名").write_text("x")
    (source / "名").chmod(0o644)
    (source / ".draft").write_text("unfinished")
    (source / "link").symlink_to(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(source / "socket"))
    target.mkdir()
    unpack(packed(lambda folder: folder.tree(source, lambda name: not name.name.startswith("."))), target)
    names = sorted(path.relative_to(target).as_posix() for path in target.rglob("*"))
    assert names == ["deep", "deep/empty", "deep/file", "名"]
    assert (target / "deep/file").read_bytes() == (source / "deep/file").read_bytes()
    assert stat.S_IMODE((target / "名").stat().st_mode) == 0o600
    assert stat.S_IMODE((target / "deep").stat().st_mode) == 0o700


def test_a_file_that_is_gone_is_left_out(tmp_path: Path) -> None:
    unpack(packed(lambda folder: folder.file("a", tmp_path / "nowhere")), tmp_path)
    assert list(tmp_path.iterdir()) == []


def member(name: str, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(made, field, value)
    return made


@pytest.mark.parametrize(
    "wrong",
    [
        member("../outside", size=1),
        member("/tmp/outside", size=1),
        member("a/../../outside", size=1),
        member("link", type=tarfile.SYMTYPE, linkname="/etc"),
        member("hard", type=tarfile.LNKTYPE, linkname="a"),
        member("pipe", type=tarfile.FIFOTYPE),
        member("device", type=tarfile.CHRTYPE),
        member("old", type=tarfile.AREGTYPE),
        member("contiguous", type=tarfile.CONTTYPE),
        member("sparse", type=tarfile.GNUTYPE_SPARSE),
        member("pax-sparse", pax_headers={"GNU.sparse.map": "0,0", "GNU.sparse.size": "9"}),
        member("bad-number", pax_headers={"GNU.sparse.map": "x,y"}),
        member("nul", pax_headers={"path": "a\0b"}),
        member("."),
    ],
    ids=lambda item: item.name,
)
def test_nothing_but_files_and_nothing_outside(tmp_path: Path, wrong: tarfile.TarInfo) -> None:
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(Failed, match=r"backup\.damaged"):
        unpack(crafted(wrong), target)
    assert list(tmp_path.iterdir()) == [target]
    assert list(target.iterdir()) == []


def test_a_name_twice_is_not_written_over(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"restore\.unwritable"):
        unpack(crafted(member("a", size=1), member("a", size=2)), tmp_path)
    assert (tmp_path / "a").read_bytes() == b"x"


def test_a_workspace_is_of_one_and_starts_and_ends_empty(tmp_path: Path) -> None:
    place = beside(tmp_path / "home")
    (place / "left").mkdir(parents=True)
    (place / "file").write_text("of a killed one")
    with workspace(place) as mine:
        assert list(mine.iterdir()) == []
        (mine / "new").write_text("x")
        with pytest.raises(Failed, match=r"workspace\.busy"), workspace(place):
            pass
        assert (mine / "new").exists()
    assert not place.exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(Failed, match=r"workspace\.unwritable"), workspace(tmp_path / "file"):
        pass


def test_only_an_unused_place_is_free(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    (made / "file").write_text("x")
    require_free(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    require_free(tmp_path / "empty")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for used in (made, made / "file", tmp_path / "link"):
        with pytest.raises(Failed, match=r"home\.exists"):
            require_free(used)
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(Failed, match=r"home\.exists"):
        settle(other, made)
    settle(made, tmp_path / "empty")
    assert (tmp_path / "empty" / "file").exists()
