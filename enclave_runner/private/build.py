"""How the tables of a product are built: in which parts, and in jails of which size. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from enclave_runner.contract.check import Check
from enclave_runner.contract.protocols.lattice import hint_bytes
from enclave_runner.contract.scoring import ScoreCheck
from enclave_runner.jail.profile import JailProfile
from enclave_runner.private.tasks import CELL_BYTES

CHUNK_ROWS = 50_000  # about three seconds of evaluations: what a killed build loses
HINT_ROWS = 256
MIB = 1 << 20
BUILD_SECONDS = 3600
# The serving zygote's own image is private memory of each worker's: libraries, compiled kernels, the engine.
IMAGE_MB = 1024
FOREVER_SECONDS = 1 << 31


def has_hidden_table(check: Check | ScoreCheck) -> bool:
    """Whether the product needs keyword records, cells, a matrix and a hint."""
    return any(mode.hides_subject for mode in check.modes)


def chunks(total: int, size: int = CHUNK_ROWS) -> Iterator[tuple[int, int]]:
    """(first, count) of each part of that many records, in order."""
    return ((first, min(size, total - first)) for first in range(0, total, size))


def hint_parts(height: int) -> Iterator[tuple[int, int]]:
    """(first, count) of the rows of each part of a hint, in order."""
    return chunks(height, HINT_ROWS)


def cells_size(count: int) -> int:
    """How many bytes the cells of that many records have."""
    return count * CELL_BYTES


def hint_size(height: int) -> int:
    """How many bytes a hint has."""
    return hint_bytes(height)


def build_profile(base: JailProfile, output_bytes: int) -> JailProfile:
    """The jail of a build task that writes files of at most that size: the base profile's, and an hour."""
    return msgspec.structs.replace(
        base,
        file_mb=max(base.file_mb, _mib(output_bytes)),
        cpu_seconds=2 * BUILD_SECONDS,
        wall_seconds=BUILD_SECONDS,
    )


def serving_profile(base: JailProfile, table_bytes: int) -> JailProfile:
    """The jail of a serving worker over tables of that size together: no end of its time, nothing to write.

    The tables are shared memory of the supervisor's; they count as resident where the jail's watch looks.
    """
    return msgspec.structs.replace(
        base, memory_mb=IMAGE_MB + _mib(table_bytes), cpu_seconds=FOREVER_SECONDS, file_mb=1, scratch_mb=1
    )


def _mib(size: int) -> int:
    return -(-size // MIB)
