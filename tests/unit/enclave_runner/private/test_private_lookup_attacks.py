"""What whoever breaks the rules of a private lookup gets: the client beyond its column, the platform from reuse."""

from __future__ import annotations

import numpy as np
import pytest

from enclave_runner.contract.protocols import cell, oprf
from enclave_runner.contract.protocols.canonical import keyword
from enclave_runner.private import kernel
from enclave_runner.private.matrix import RECORD, Placed, place, shape_of
from sandbox.client import lookup
from tests.support.lookups import Tape

VERSION = "0c" * 16
ROWS = 2000
KEY = oprf.new_key()
YES = cell.label(cell.YES)


def name(number: int) -> bytes:
    return keyword(f"{number:018d}")


@pytest.fixture(scope="module")
def placed() -> Placed:
    """A table of ROWS subjects, all of them YES."""
    raw = bytearray()
    for number in range(ROWS):
        entry = cell.entry(oprf.evaluate_directly(KEY, name(number)), VERSION)
        raw += entry.word.to_bytes(8, "little") + entry.seal(YES)
    return place(np.frombuffer(bytes(raw), RECORD), shape_of(ROWS, 1024))


def four_at_once(placed: Placed, columns: list[int]) -> list[bytes]:
    """The question of a client that does not hide: 1, 2⁸, 2¹⁶, 2²⁴ at four columns; their bytes stand in the answer."""
    question = np.zeros(placed.shape.columns, "<u4")
    question[columns] = [1, 1 << 8, 1 << 16, 1 << 24]
    words = np.frombuffer(kernel.answer(placed.matrix, question.tobytes()), "<u4")
    return [(words >> np.uint32(8 * place)).astype(np.uint8).tobytes() for place in range(4)]


def test_a_client_that_does_not_hide_reads_four_columns_and_opens_what_it_had_evaluated(placed: Placed) -> None:
    """docs/reference/lattice.md: four columns a question. Of their rows it opens the one whose evaluation it paid."""
    output = oprf.evaluate_directly(KEY, name(7))
    own = cell.entry(output, VERSION).column(placed.shape.columns)
    wanted = [own, *[column for column in range(placed.shape.columns) if column != own][:3]]
    read = four_at_once(placed, wanted)
    assert read == [placed.matrix[:, column].tobytes() for column in wanted]
    assert [cell.find(column, output, VERSION) for column in read] == [YES, None, None, None]


def test_the_whole_table_in_the_hand_opens_nobody_without_the_platform(placed: Placed) -> None:
    """Every subject tried in every column with outputs of another key, of another version, and by name alone."""
    whole = np.ascontiguousarray(placed.matrix.T).tobytes()
    other = oprf.new_key()
    guesses = [oprf.evaluate_directly(other, name(number)) for number in range(200)] + [bytes(64), name(7) * 2]
    assert [cell.find(whole, guess, VERSION) for guess in guesses] == [None] * len(guesses)
    right = oprf.evaluate_directly(KEY, name(7))
    assert cell.find(whole, right, "0d" * 16) is None
    assert cell.find(whole, right, VERSION) == YES


def test_sealed_rows_of_one_label_look_alike_in_no_byte(placed: Placed) -> None:
    """All 2000 rows say YES; no two of the table's entries share a tag or a sealed label."""
    slots = np.ascontiguousarray(placed.matrix.T).reshape(-1, 16)
    assert len({slot[:8].tobytes() for slot in slots}) == len({slot[8:].tobytes() for slot in slots}) == len(slots)


def test_a_secret_used_twice_would_tell_and_so_it_never_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pitfall 13. With one s the difference of two questions is small but for a step at their columns."""

    def columns_told(first: bytes, second: bytes) -> list[int]:
        difference = (np.frombuffer(first, "<u4") - np.frombuffer(second, "<u4")).view(np.int32)
        return np.flatnonzero(np.abs(difference) > 1 << 23).tolist()

    tape = Tape(monkeypatch)
    asked = []
    for column, errors in ((11, 1), (400, 2)):
        tape.play(seed=errors)
        noise = lookup.gaussian(600)
        monkeypatch.setattr(lookup, "gaussian", lambda count, noise=noise: noise)
        tape.play(seed=3)
        asked.append(lookup.ask(bytes(16), 600, column)[1])
        monkeypatch.undo()
    assert columns_told(*asked) == [11, 400]
    fresh = [lookup.ask(bytes(16), 600, column)[1] for column in (11, 400)]
    assert len(columns_told(*fresh)) > 400, "everywhere, so nothing"
