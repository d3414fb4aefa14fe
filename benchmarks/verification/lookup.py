"""A private lookup (P4) beside the least that the platform can do for it: read its table once.

The tables are whole: random records stand for most rows (an entry is pseudorandom to whoever lacks its OPRF output),
some thousand are evaluated with the table's key, and the hint is that of all rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from time import perf_counter

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from benchmarks.report import Check
from enclave_runner.contract.protocols import cell, oprf
from enclave_runner.contract.protocols.canonical import keyword
from enclave_runner.private import hint, kernel
from enclave_runner.private.matrix import RECORD, RECORD_BYTES, Shape, place, shape_of
from sandbox.client import lookup

VERSION = "0b" * 16
K_MIN = 1024
SIZES, QUICK_SIZES = (1_000_000, 10_000_000), (1_000_000,)  # a smaller one would lie in the cache of the core
OWN, FOREIGN, QUICK_FOREIGN = 2_000, 100_000, 1_000


@dataclass(frozen=True)
class Table:
    """One version of a table, its client's hint, and how long both took to make."""

    key: bytes
    seed: bytes
    matrix: NDArray[np.uint8]
    shape: Shape
    hint: NDArray[np.uint32]
    placed_in: float
    hinted_in: float


def lookup_checks(quick: bool = False) -> list[Check]:
    """Kernel and whole lookup at each size, and false matches among foreign keywords at the smallest."""
    checks = []
    for rows in QUICK_SIZES if quick else SIZES:
        table = _table(rows)
        size = f"{rows:.0e}".replace("e+0", "e")
        checks += [_kernel_check(table, size, 20 if quick else 40), _whole_check(table, size, 4 if quick else 10)]
        if rows == (QUICK_SIZES if quick else SIZES)[0]:
            checks.append(_match_check(table, size, QUICK_FOREIGN if quick else FOREIGN))
    return checks


def _own(number: int) -> tuple[bytes, bytes]:
    """A keyword that is in the table, and its label."""
    return keyword(f"own-{number:08d}"), cell.label(cell.YES if number % 3 else cell.NO)


def _foreign(number: int) -> bytes:
    return keyword(f"foreign-{number:08d}")


def _table(rows: int) -> Table:
    key, seed = oprf.new_key(), os.urandom(16)
    some = bytearray()
    for number in range(OWN):
        name, label = _own(number)
        entry = cell.entry(oprf.evaluate_directly(key, name), VERSION)
        some += entry.word.to_bytes(8, "little") + entry.seal(label)
    records = np.frombuffer(bytes(some) + os.urandom((rows - OWN) * RECORD_BYTES), RECORD)
    begun = perf_counter()
    placed = place(records, shape_of(rows, K_MIN))
    between = perf_counter()
    made = hint.hint_rows(placed.matrix, seed)
    return Table(key, seed, placed.matrix, placed.shape, made, between - begun, perf_counter() - between)


@njit(types.uint64(types.Array(types.uint64, 1, "C", readonly=True)))
def _read(words):  # type: ignore[no-untyped-def]
    total = np.uint64(0)
    for index in range(len(words)):
        total += words[index]
    return total


def _kernel_check(table: Table, size: str, rounds: int) -> Check:
    """The kernel's share of the faster of two ways to read the same bytes, all in turn and on one core.

    The best round of each counts, as in STREAM (McCalpin 1995): others tell who else was on the machine.
    """
    matrix, question = table.matrix, np.frombuffer(os.urandom(4 * table.shape.columns), "<u4")
    words = matrix.reshape(-1).view(np.uint64)
    actions: tuple[Callable[[], object], ...] = (
        lambda: kernel.times(matrix, question),
        lambda: _read(words),
        lambda: words.sum(),
    )
    own, *reads = _best(rounds, *actions)
    note = (
        f"{matrix.nbytes / own / 1e9:.1f} GB/s beside {matrix.nbytes / min(reads) / 1e9:.1f} GB/s; {own * 1e3:.2f} ms, "
        f"{table.shape.height} × {table.shape.columns}"
    )
    return Check(f"P4 kernel, {size} rows", min(reads) / own, "×", ">= 0.5", "the speed of reading the table", note)


def _best(rounds: int, *actions: Callable[[], object]) -> list[float]:
    """The least seconds of each action, all of them in turn in every round."""
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for action, seconds in zip(actions, times, strict=True):
            start = perf_counter()
            action()
            seconds.append(perf_counter() - start)
    return [min(seconds) for seconds in times]


def _whole_check(table: Table, size: str, rounds: int) -> Check:
    """Both halves of both moves, the hint in the client's cache, without a network; every answer is checked."""
    laps: list[tuple[float, ...]] = []
    for number in range(rounds):
        name, label = _own(number)
        for data, expected in ((name, label), (_foreign(number), None)):
            found, lap = _whole(table, data)
            if found != expected:
                raise ArithmeticError("a wrong answer")
            laps.append(lap)
    shape, parts = table.shape, [median(lap) * 1e3 for lap in zip(*laps, strict=True)]
    note = (
        f"ms: OPRF {parts[0]:.1f}, question {parts[1]:.0f}, kernel {parts[2]:.1f}, reading {parts[3]:.1f}; KB: up "
        f"{shape.columns * 4 / 1e3:.0f}, down {shape.height * 4 / 1e3:.0f}, hint {table.hint.nbytes / 1e3:.0f} once a "
        f"version; built in {table.placed_in:.1f} s, hint {table.hinted_in:.0f} s on one core"
    )
    whole = median(sum(lap) for lap in laps)
    return Check(f"P4 answer, {size} rows", whole, "s", "<= 1", "one second", note)


def _whole(table: Table, data: bytes) -> tuple[bytes | None, tuple[float, ...]]:
    """The label of one keyword, and the seconds of each step."""
    marks = [perf_counter()]
    blinded = oprf.blind(data)
    evaluated, proof = oprf.evaluate(table.key, [blinded.element])
    output = oprf.finalize([blinded], evaluated, proof, oprf.public_key(table.key))[0]
    marks.append(perf_counter())
    column = cell.entry(output, VERSION).column(table.shape.columns)
    secret, question = lookup.ask(table.seed, table.shape.columns, column)
    marks.append(perf_counter())
    reply = kernel.answer(table.matrix, question)
    marks.append(perf_counter())
    read = lookup.decode(reply, table.hint, secret)
    found = cell.find(read, output, VERSION)
    marks.append(perf_counter())
    if read != table.matrix[:, column].tobytes():
        raise ArithmeticError("another column")
    return found, tuple(after - before for before, after in pairwise(marks))


def _match_check(table: Table, size: str, count: int) -> Check:
    """Foreign keywords found in their columns, which `_whole_check` showed to be what a client decodes."""
    columns = np.ascontiguousarray(table.matrix.T)

    def found(data: bytes) -> bytes | None:
        output = oprf.evaluate_directly(table.key, data)
        return cell.find(columns[cell.entry(output, VERSION).column(len(columns))].tobytes(), output, VERSION)

    missed = sum(found(name) != label for name, label in map(_own, range(OWN)))
    if missed:
        raise ArithmeticError("an own keyword was not found")
    false = sum(found(_foreign(number)) is not None for number in range(count))
    note = f"of {count} foreign keywords in {size} rows; {OWN} of {OWN} own ones found with their labels"
    return Check("P4 false matches", float(false), "", "<= 0", "none", note)
