"""Private lookups of any shape and content are read back; parsers refuse every other length and never break."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.protocols.lattice import hint_bytes
from enclave_runner.private import hint, kernel, matrix
from sandbox.client import lookup
from tests.support.lookups import exact_product, records

SIDES = st.tuples(st.integers(1, 12), st.integers(1, 70))
TABLES = SIDES.flatmap(lambda sides: arrays.arrays(np.uint8, sides))
FUZZED = int(os.environ.get("YUNEI_FUZZ_CASES", "100000"))  # a nightly run takes a million


@given(TABLES, st.data())
@settings(deadline=None, max_examples=200)
def test_the_kernel_is_whole_number_arithmetic(table: np.ndarray, data: st.DataObject) -> None:
    words = data.draw(arrays.arrays(np.uint32, table.shape[1]))
    assert kernel.times(table, words).tolist() == exact_product(table, words)


@given(TABLES, st.binary(min_size=16, max_size=16), st.data())
@settings(deadline=None, max_examples=100)
def test_any_column_of_any_table_is_read(table: np.ndarray, seed: bytes, data: st.DataObject) -> None:
    column = data.draw(st.integers(0, table.shape[1] - 1))
    secret, question = lookup.ask(seed, table.shape[1], column)
    read = lookup.decode(kernel.answer(table, question), hint.hint_rows(table, seed).tobytes(), secret)
    assert read == table[:, column].tobytes()


@given(st.lists(st.integers(0, 2**64 - 1), unique=True, max_size=400), st.integers(1, 50), st.integers(1, 60))
@settings(deadline=None, max_examples=100)
def test_a_table_keeps_every_record_whatever_the_words(words: list[int], columns: int, k_min: int) -> None:
    """Also where hypothesis crowds them: the table grows, or is refused once it cannot."""
    width = next(width for width in range(1, columns + 1) if columns % width == 0)
    made = records(words)
    try:
        placed = matrix.place(made, matrix.Shape(2048, columns, width, k_min))
    except Refused as refused:
        assert refused.rule == "verification.too-many"
        return
    whole = np.ascontiguousarray(placed.matrix.T)
    for record in made:
        column = whole[int(record["word"]) * placed.shape.columns >> 64].tobytes()
        assert column.find(record["entry"].tobytes()) % 16 == 0
    assert placed.k >= k_min or placed.shape.buckets == 1


@pytest.mark.slow
def test_a_hundred_thousand_questions_and_replies_break_nothing() -> None:
    """Every length around the right one, zeros, ones and random bytes: answered, or refused by a rule."""
    table = np.random.default_rng(1).integers(
        0, 256, (16, 3), dtype=np.uint8
    )  # tall: a random reply fits a few rows at times
    made = hint.hint_rows(table, bytes(16)).tobytes()
    secret, _ = lookup.ask(bytes(16), 3, 1)
    draw = np.random.default_rng(2)
    outcomes: dict[str, int] = {}
    for _ in range(FUZZED // 2):
        length = int(draw.choice((0, 1, 8, 11, 12, 13, 16, 63, 64, 65, 66)))
        message = (bytes(length), b"\xff" * length, os.urandom(length))[int(draw.integers(0, 3))]
        said = (made, made[:length], made[: hint_bytes(1)])[int(draw.integers(0, 8)) % 3]
        for name, act in (("question", lambda m, s: kernel.answer(table, m)), ("reply", _decode_with(secret))):
            try:
                act(message, said)
                outcome = f"{name} read"
            except Refused as refused:
                outcome = f"{name} {refused.rule}"
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert set(outcomes) == {
        "question read",
        "question verification.question",
        "reply verification.answer",
        "reply verification.noise",
    }, "no random reply is read, and nothing else is raised"


def _decode_with(secret: lookup.Secret):  # type: ignore[no-untyped-def]
    return lambda message, said: lookup.decode(message, said, secret)
