"""Hints on disk: fetched once, checked at each reading, readable by nobody else, and never through a planted link."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from enclave_runner.contract.check import Check, CheckKind, VerificationMode
from sandbox.client.hints import KEPT, HintCache, default_folder, is_hint
from sandbox.client.verification import VerificationClient
from tests.support.platform_half import KEY, PRODUCT, Platform, altered

CHECK = Check(dataset_id="licences", attribute="level", kind=CheckKind.EXISTS, modes=(VerificationMode.LOOKUP,))


@contextmanager
def client_of(platform: Platform, cache: Path, **wishes: object) -> Iterator[VerificationClient]:
    with (
        platform.serving() as url,
        VerificationClient(
            url,
            KEY,
            PRODUCT,
            trusted=platform.trusted,
            cache=cache,
            **wishes,  # type: ignore[arg-type]
        ) as client,
    ):
        yield client


def downloads(platform: Platform) -> int:
    """How many parts of hints were asked for."""
    return sum(path.endswith("/hint") for _, path, _ in platform.requests)


@pytest.fixture
def platform() -> Platform:
    return Platform(CHECK, {"S1": "1"})


def kept(cache: Path) -> Path:
    (path,) = cache.iterdir()
    return path


def test_a_hint_is_downloaded_once_with_progress_and_kept_for_its_owner(platform: Platform, tmp_path: Path) -> None:
    cache = tmp_path / "deep" / "cache"
    steps: list[tuple[int, int]] = []
    with client_of(platform, cache, progress=lambda done, total: steps.append((done, total))) as client:
        assert client.verify("S1").is_yes
        assert client.verify("S1").is_yes
    first = downloads(platform)
    with client_of(platform, cache) as client:
        assert client.verify("S1").is_yes
    assert downloads(platform) == first > 1
    assert platform.hidden is not None
    total = len(platform.hidden.hint)
    assert (steps[0], steps[-1]) == ((0, total), (total, total))
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})
    assert (cache.stat().st_mode & 0o777, kept(cache).stat().st_mode & 0o777) == (0o700, 0o600)
    assert kept(cache).name == f"{platform.hidden.table.hint_sha256}.hint"


@pytest.mark.parametrize("damage", ["bit", "short", "long", "empty", "folder", "link", "pipe"])
def test_what_was_done_to_a_file_only_costs_another_download(platform: Platform, tmp_path: Path, damage: str) -> None:
    assert platform.hidden is not None
    path = tmp_path / f"{platform.hidden.table.hint_sha256}.hint"
    data = platform.hidden.hint
    outside = tmp_path / "outside"
    outside.write_bytes(data)
    match damage:
        case "bit":
            path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        case "short":
            path.write_bytes(data[:-1])
        case "long":
            path.write_bytes(data + b"x")
        case "empty":
            path.write_bytes(b"")
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to(outside)
        case "pipe":
            os.mkfifo(path)
    with client_of(platform, tmp_path) as client:
        assert client.verify("S1").is_yes
    assert downloads(platform) > 0
    assert outside.read_bytes() == data


def test_a_planted_link_is_replaced_and_not_written_through(platform: Platform, tmp_path: Path) -> None:
    assert platform.hidden is not None
    victim = tmp_path / "victim"
    victim.write_text("mine")
    cache = tmp_path / "cache"
    cache.mkdir()
    path = cache / f"{platform.hidden.table.hint_sha256}.hint"
    path.symlink_to(victim)
    with client_of(platform, cache) as client:
        client.verify("S1")
    assert victim.read_text() == "mine"
    assert not path.is_symlink()
    assert path.read_bytes() == platform.hidden.hint


def test_a_folder_that_cannot_be_used_is_no_error(platform: Platform, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with client_of(platform, file / "cache") as client:
        assert client.verify("S1").is_yes


def test_only_the_newest_are_kept_and_nothing_else_is_touched(platform: Platform, tmp_path: Path) -> None:
    assert platform.hidden is not None
    table, cache = platform.hidden.table, HintCache(tmp_path)
    others = [tmp_path / name for name in ("notes.txt", "notes.hint")]
    for other in others:
        other.write_text("mine")
        os.utime(other, (0, 0))
    for number in range(KEPT + 3):
        named = altered(table, hint_sha256=f"{number:064x}")
        cache.keep(named, b"x")  # type: ignore[arg-type]
        os.utime(tmp_path / f"{number:064x}.hint", (number, number))
    cache.keep(table, platform.hidden.hint)
    assert len(list(tmp_path.glob("*.hint"))) == KEPT + 1
    assert cache.find(table) == platform.hidden.hint
    assert [other.read_text() for other in others] == ["mine", "mine"]


def test_threads_share_a_client_and_its_hint(platform: Platform, tmp_path: Path) -> None:
    answers: list[bool] = []
    with client_of(platform, tmp_path) as client:
        threads = [threading.Thread(target=lambda: answers.append(client.verify("S1").is_yes)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [True] * 6


def test_a_digest_is_of_the_whole_hint(platform: Platform) -> None:
    assert platform.hidden is not None
    table, hint = platform.hidden.table, platform.hidden.hint
    assert is_hint(hint, table)
    assert not is_hint(hint + b"\0", table)
    assert not is_hint(hint[:-1], table)


def test_hints_lie_in_the_user_s_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "yunei"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "yunei"
    monkeypatch.delenv("HOME")

    def nobody(number: int) -> object:
        raise KeyError(number)

    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert default_folder() is None
    VerificationClient("https://platform.example", KEY, PRODUCT, trusted="ed25519:" + "0" * 64)
