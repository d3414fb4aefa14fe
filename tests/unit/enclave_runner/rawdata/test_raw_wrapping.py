"""Key-encryption keys in files: private, bound to a context, replaced one at a time."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from enclave_runner.rawdata.suite import Suite
from enclave_runner.rawdata.wrapping import FileWrapper, WrappedKey
from tests.support.refusals import failed_at


@pytest.fixture(params=Suite)
def wrapper(tmp_path: Path, request: pytest.FixtureRequest) -> FileWrapper:
    return FileWrapper.create(tmp_path / "kek", request.param)


def key_file(folder: Path, wrapper: FileWrapper) -> Path:
    return folder / "kek" / f"{wrapper.key_id}.kek"


def test_a_key_comes_back_in_its_context_only(wrapper: FileWrapper) -> None:
    key = secrets.token_bytes(32)
    wrapped = wrapper.wrap(key, b"here")
    assert wrapper.unwrap(wrapped, b"here") == key
    assert key not in wrapped.wrapped
    assert wrapper.wrap(key, b"here") != wrapped  # a fresh nonce each time
    for altered in (
        b"",
        wrapped.wrapped[:11],
        wrapped.wrapped[:-1],
        bytes([wrapped.wrapped[0] ^ 1]) + wrapped.wrapped[1:],
    ):
        with failed_at("rawdata.damaged"):
            wrapper.unwrap(WrappedKey(key_id=wrapped.key_id, wrapped=altered), b"here")
    with failed_at("rawdata.damaged"):
        wrapper.unwrap(wrapped, b"there")


def test_it_is_the_owners_alone(wrapper: FileWrapper, tmp_path: Path) -> None:
    path = key_file(tmp_path, wrapper)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    for mode in (0o640, 0o604, 0o620, 0o610):
        path.chmod(mode)
        with failed_at("kms.permissions"):
            wrapper.wrap(bytes(32), b"")
    path.chmod(0o600)
    assert wrapper.unwrap(wrapper.wrap(bytes(32), b""), b"") == bytes(32)


@pytest.mark.parametrize("content", [None, b"", b"short", bytes(33)])
def test_without_a_whole_key_nothing_works(wrapper: FileWrapper, tmp_path: Path, content: bytes | None) -> None:
    path, wrapped = key_file(tmp_path, wrapper), wrapper.wrap(bytes(32), b"")
    path.unlink()
    if content is not None:
        path.touch(0o600)
        path.write_bytes(content)
    with failed_at("kms.key-missing"):
        wrapper.unwrap(wrapped, b"")


def test_a_link_is_not_followed_and_an_id_is_no_path(wrapper: FileWrapper, tmp_path: Path) -> None:
    path = key_file(tmp_path, wrapper)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with failed_at("kms.key-missing"):
        wrapper.wrap(bytes(32), b"")
    for key_id in ("../elsewhere", "", "0" * 15, "0" * 16 + "\n", "g" * 16):
        with failed_at("rawdata.damaged"):
            wrapper.unwrap(WrappedKey(key_id=key_id, wrapped=bytes(60)), b"")


def test_a_renewed_one_opens_the_old_until_it_is_destroyed(wrapper: FileWrapper, tmp_path: Path) -> None:
    old = wrapper.wrap(b"k" * 32, b"c")
    renewed = wrapper.renewed()
    assert renewed.key_id != wrapper.key_id
    assert renewed.unwrap(old, b"c") == b"k" * 32
    new = renewed.wrap(b"k" * 32, b"c")
    assert (old.key_id, new.key_id) == (wrapper.key_id, renewed.key_id)
    assert renewed.destroy_others() == 1
    assert [path.name for path in (tmp_path / "kek").iterdir()] == [f"{renewed.key_id}.kek"]
    assert renewed.unwrap(new, b"c") == b"k" * 32
    with failed_at("kms.key-missing"):
        renewed.unwrap(old, b"c")
