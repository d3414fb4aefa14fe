"""How a build is divided, and the jails of its parts."""

from __future__ import annotations

import pytest

from enclave_runner.contract.check import CheckKind, VerificationMode
from enclave_runner.jail.profile import JailProfile
from enclave_runner.private import build
from tests.support.private_tables import HIDDEN, check_of

BASE = JailProfile()


@pytest.mark.parametrize("total", [0, 1, 49_999, 50_000, 50_001, 1_000_000])
def test_chunks_are_everything_once(total: int) -> None:
    parts = list(build.chunks(total))
    assert [number for first, count in parts for number in (first, first + count)] == [
        edge for at in range(0, total, build.CHUNK_ROWS) for edge in (at, min(at + build.CHUNK_ROWS, total))
    ]
    assert all(0 < count <= build.CHUNK_ROWS for _, count in parts)
    assert sum(count for _, count in parts) == total


def test_a_hint_is_made_in_parts_of_its_rows() -> None:
    assert [count for _, count in build.hint_parts(4096)] == [256] * 16
    assert build.hint_size(4096) % (4096 * 4) == 0
    assert build.cells_size(3) == 72


@pytest.mark.parametrize(
    ("modes", "is_hidden"), [((VerificationMode.PLAIN,), False), (HIDDEN, True), (HIDDEN[1:2], True)]
)
def test_only_modes_that_hide_the_subject_need_a_table(modes: tuple[VerificationMode, ...], is_hidden: bool) -> None:
    assert build.has_hidden_table(check_of(CheckKind.EXISTS, modes)) is is_hidden


def test_a_build_may_write_what_it_makes_and_take_an_hour() -> None:
    profile = build.build_profile(BASE, 219 << 20)
    assert (profile.file_mb, profile.wall_seconds) == (219, 3600)
    assert build.build_profile(BASE, (219 << 20) + 1).file_mb == 220
    assert build.build_profile(BASE, 0).file_mb == BASE.file_mb
    assert profile.memory_mb == BASE.memory_mb


def test_a_serving_worker_may_hold_its_tables_and_write_nothing() -> None:
    profile = build.serving_profile(BASE, 500 << 20)
    assert profile.memory_mb == 1524
    assert (profile.file_mb, profile.scratch_mb) == (1, 1)
    assert profile.cpu_seconds > 365 * 86_400
    assert profile.namespaces == BASE.namespaces
    assert profile.calls_sha256 == BASE.calls_sha256
