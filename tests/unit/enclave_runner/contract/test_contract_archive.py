"""The sealed archive: only the key opens it, and no changed, cut, joined or reordered stream is ever believed."""

from __future__ import annotations

import io
import random
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_runner.contract.archive import (
    CHUNK,
    MAGIC,
    TAG,
    ArchiveReader,
    ArchiveWriter,
    BackupKey,
    load_recipient,
    recipient_pem,
    write_new,
)
from enclave_runner.contract.errors import Failed
from enclave_runner.contract.signing import KeyFile

KEY = BackupKey(X25519PrivateKey.generate())


def seal(content: bytes, pieces: int = 1, part: str = "enclave", finished: bool = True) -> bytes:
    sink = io.BytesIO()
    writer = ArchiveWriter(sink, KEY.public, "label", part)
    step = max(1, -(-len(content) // pieces))
    for start in range(0, len(content), step):
        writer.write(content[start : start + step])
    if finished:
        writer.finish()
    return sink.getvalue()


def opened(archive: bytes, key: BackupKey = KEY) -> bytes:
    reader = ArchiveReader(io.BytesIO(archive), key)
    content = reader.read(1 << 30)
    reader.drain()
    return content


def code_of(archive: bytes, key: BackupKey = KEY) -> str:
    with pytest.raises(Failed) as caught:
        opened(archive, key)
    return caught.value.code


@given(st.integers(0, 2 * CHUNK + 7), st.integers(1, 9))
@settings(max_examples=25, deadline=None)
def test_what_goes_in_comes_out(size: int, pieces: int) -> None:
    content = random.Random(size).randbytes(size)
    archive = seal(content, pieces)
    assert opened(archive) == content
    assert size < 16 or content[:16] not in archive


def test_it_is_read_in_any_pieces_and_not_beyond_its_end() -> None:
    content = random.Random(1).randbytes(CHUNK + 100)
    source = io.BytesIO(seal(content) + b"the next part")
    reader = ArchiveReader(source, KEY)
    assert (reader.header.label, reader.header.part) == ("label", "enclave")
    assert b"".join(iter(lambda: reader.read(9999), b"")) == content
    assert source.read() == b"the next part"


def test_two_archives_of_the_same_bytes_share_nothing() -> None:
    one, other = seal(b"x" * 1000), seal(b"x" * 1000)
    assert one[-1000:] != other[-1000:]


def test_another_key_opens_nothing_and_is_told_apart_from_damage() -> None:
    assert code_of(seal(b"content"), BackupKey(X25519PrivateKey.generate())) == "backup.key"


@pytest.mark.parametrize("seed", range(40))
def test_one_changed_bit_is_never_believed(seed: int) -> None:
    archive = bytearray(seal(random.Random(0).randbytes(CHUNK + 5000)))
    chance = random.Random(seed)
    place = chance.randrange(len(archive) if seed % 2 else 300)  # every other one hits the header
    archive[place] ^= 1 << chance.randrange(8)
    assert code_of(bytes(archive)) in ("backup.damaged", "backup.key")


@pytest.mark.parametrize("left", [0, 1, len(MAGIC), len(MAGIC) + 4, 100, 1000, -1, -TAG, -(CHUNK + TAG + 4)])
def test_a_cut_archive_is_never_believed(left: int) -> None:
    assert code_of(seal(bytes(3 * CHUNK))[:left]) == "backup.damaged"


def test_an_archive_that_was_never_finished_has_no_end() -> None:
    assert code_of(seal(bytes(3 * CHUNK), finished=False)) == "backup.damaged"


def test_chunks_cannot_change_places_or_be_left_out() -> None:
    archive = seal(random.Random(2).randbytes(3 * CHUNK))
    frame = CHUNK + TAG + 4
    head = len(archive) - 3 * frame
    first, second, third = (archive[head + frame * i : head + frame * (i + 1)] for i in range(3))
    assert opened(archive[:head] + first + second + third)
    for wrong in (second + first + third, first + third, third, first + second, first + first + second + third):
        assert code_of(archive[:head] + wrong) == "backup.damaged"


def test_a_chunk_of_another_archive_does_not_fit() -> None:
    one, other = seal(b"a" * 100), seal(b"a" * 100)
    assert code_of(one[:-120] + other[-120:]) == "backup.damaged"


def test_a_full_disk_is_said() -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "no space")

    with pytest.raises(Failed) as caught:
        ArchiveWriter(Full(), KEY.public, "label", "part")
    assert caught.value.code == "backup.unwritable"


def test_key_files(tmp_path: Path) -> None:
    path, public = tmp_path / "backup.key", tmp_path / "backup.key.pub"
    made = BackupKey.create(path)
    write_new(public, recipient_pem(made.public))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert BackupKey.load(path).public == made.public == load_recipient(public)
    with pytest.raises(Failed, match=r"backup\.exists"):
        BackupKey.create(path)
    assert BackupKey.load(path).public == made.public
    path.chmod(0o644)
    with pytest.raises(Failed, match=r"key\.permissions"):
        BackupKey.load(path)


def test_other_files_are_no_keys(tmp_path: Path) -> None:
    KeyFile.create(tmp_path / "signing.key")
    (tmp_path / "text").write_text("no key")
    (tmp_path / "text").chmod(0o600)
    for name, code in (("signing.key", "key.algorithm"), ("text", "key.unreadable"), ("nowhere", "key.unreadable")):
        with pytest.raises(Failed) as caught:
            BackupKey.load(tmp_path / name)
        assert caught.value.code == code
    for name in ("signing.key", "text", "nowhere"):
        with pytest.raises(Failed) as caught:
            load_recipient(tmp_path / name)
        assert caught.value.code == "key.unreadable"
    with pytest.raises(Failed, match=r"backup\.unwritable"):
        write_new(tmp_path / "nowhere" / "file", b"")
