from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.protocols.lattice import DIMENSION, MAX_COLUMNS, hint_bytes, public_rows
from enclave_runner.private import hint, kernel
from sandbox.client import lookup
from tests.support.lookups import Tape

SEED = bytes(range(16))


@pytest.fixture
def tape(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tape]:
    made = Tape(monkeypatch)
    yield made
    made.stop()


def table(height: int, columns: int) -> np.ndarray:
    return np.random.default_rng(height + columns).integers(0, 256, (height, columns), dtype=np.uint8)


def refusal(reply: bytes, said: bytes, secret: lookup.Secret) -> str:
    with pytest.raises(Refused) as refused:
        lookup.decode(reply, said, secret)
    return refused.value.rule


@pytest.mark.parametrize(
    ("height", "columns"), [(16, 1), (32, 2), (16, 40), (48, 1024), (16, 1025), (16, 5000)], ids=str
)
def test_every_kind_of_column_is_read(height: int, columns: int) -> None:
    """The first, the last, and those around the ends of a block of the public matrix."""
    matrix = table(height, columns)
    made = hint.hint_rows(matrix, SEED).tobytes()
    for column in sorted({0, 1, columns // 2, 1023, 1024, columns - 1} & set(range(columns))):
        secret, question = lookup.ask(SEED, columns, column)
        assert len(question) == 4 * columns
        assert lookup.decode(kernel.answer(matrix, question), made, secret) == matrix[:, column].tobytes()


@pytest.mark.parametrize("byte", [0, 255])
def test_tables_of_one_value_are_read(byte: int) -> None:
    """The worst tables for the error: all of it adds up with one sign."""
    matrix = np.full((16, 20_000), byte, np.uint8)
    matrix[3, 777] = 255 - byte
    secret, question = lookup.ask(SEED, 20_000, 777)
    read = lookup.decode(kernel.answer(matrix, question), hint.hint_rows(matrix, SEED).tobytes(), secret)
    assert read == matrix[:, 777].tobytes()


@pytest.mark.slow
def test_the_widest_worst_table_is_read() -> None:
    """2^20 columns of zeros, which take the error furthest: 8·10^5 expected, 8.4·10^6 allowed. Its hint is zero."""
    matrix = np.zeros((16, MAX_COLUMNS), np.uint8)
    secret, question = lookup.ask(SEED, MAX_COLUMNS, MAX_COLUMNS - 1)
    assert lookup.decode(kernel.answer(matrix, question), bytes(hint_bytes(16)), secret) == bytes(16)


@pytest.mark.parametrize("form", [bytes, memoryview, "words", "map"])
def test_a_hint_may_come_in_any_form(form: object, tmp_path: Path) -> None:
    matrix = table(16, 30)
    words = hint.hint_rows(matrix, SEED)
    path = tmp_path / "hint"
    path.write_bytes(words.tobytes())
    mapped = np.memmap(path, "<u4", "r")
    said = {bytes: words.tobytes(), memoryview: memoryview(words.tobytes()), "words": words, "map": mapped}[form]
    secret, question = lookup.ask(SEED, 30, 29)
    assert lookup.decode(kernel.answer(matrix, question), said, secret) == matrix[:, 29].tobytes()


@pytest.mark.parametrize(
    ("seed", "columns", "column"),
    [(SEED, 5, -1), (SEED, 5, 5), (SEED, 0, 0), (SEED, MAX_COLUMNS + 1, 0), (SEED[:15], 5, 1), (b"", 5, 1)],
)
def test_what_cannot_be_asked_is_an_error(seed: bytes, columns: int, column: int) -> None:
    with pytest.raises(ValueError, match=r"of 16 bytes|a column of the table"):
        lookup.ask(seed, columns, column)


def test_lengths_that_do_not_fit_are_refused() -> None:
    matrix = table(16, 30)
    made = hint.hint_rows(matrix, SEED).tobytes()
    secret, question = lookup.ask(SEED, 30, 3)
    reply = kernel.answer(matrix, question)
    for wrong in (b"", reply[:-1], reply + b"\0", reply[:-4], reply + bytes(4), reply * 2):
        assert refusal(wrong, made, secret) == "verification.answer"
    for other in (b"", made[:-1], made + b"\0", made[:-4], made + bytes(4), made[: len(made) // 2], made * 2):
        assert refusal(reply, other, secret) == "verification.answer"


def test_what_was_not_made_from_question_and_table_is_an_error_never_an_answer() -> None:
    """Pitfall 5: another version's hint or table, another question's secret or reply, a changed question, noise."""
    columns = 4000
    matrix, other = table(64, columns), table(64, columns) ^ np.uint8(1)
    made, foreign = (hint.hint_rows(which, SEED).tobytes() for which in (matrix, other))
    secret, question = lookup.ask(SEED, columns, 9)
    second, _ = lookup.ask(SEED, columns, 9)
    reply = kernel.answer(matrix, question)
    changed = bytearray(question)
    changed[5] ^= 0x40
    assert lookup.decode(reply, made, secret) == matrix[:, 9].tobytes()
    assert refusal(reply, foreign, secret) == "verification.noise"
    assert refusal(kernel.answer(other, question), made, secret) == "verification.noise"
    assert refusal(reply, made, second) == "verification.noise"
    assert refusal(kernel.answer(matrix, bytes(changed)), made, secret) == "verification.noise"
    assert refusal(bytes(len(reply)), made, secret) == "verification.noise"
    assert refusal(reply[4:] + reply[:4], made, secret) == "verification.noise"
    assert refusal(reply, hint.hint_rows(matrix, bytes(16)).tobytes(), secret) == "verification.noise"


def test_whether_a_reply_is_refused_does_not_depend_on_the_column(tape: Tape) -> None:
    """No oracle for a platform that answers wrongly on purpose: the same randomness, two columns, every kind of lie."""
    columns, matrix = 500, table(32, 500)
    lies = [np.zeros(32, np.uint32), np.full(32, 1 << 22, np.uint32), np.full(32, 5 << 24, np.uint32)]
    lies += [np.eye(32, dtype=np.uint32)[row] << shift for row in (0, 31) for shift in (10, 20, 23, 24, 31)]
    made = hint.hint_rows(matrix, SEED).tobytes()
    outcomes = []
    for column in (0, 499):
        tape.play()
        secret, question = lookup.ask(SEED, columns, column)
        told = []
        for lie in lies:
            reply = (kernel.times(matrix, np.frombuffer(question, "<u4")) + lie).tobytes()
            try:
                lookup.decode(reply, made, secret)
                told.append("read")
            except Refused as refused:
                told.append(refused.rule)
        outcomes.append(told)
    assert outcomes[0] == outcomes[1]
    assert set(outcomes[0]) == {"read", "verification.noise"}


def test_the_column_decides_one_step_of_the_question_and_nothing_else(tape: Tape) -> None:
    """With the same randomness two questions differ by 2^24 at their columns; what is drawn, and when, is the same."""
    questions, draws, secrets = [], [], []
    for column in (3, 4321):
        tape.play()
        secret, question = lookup.ask(SEED, 5000, column)
        questions.append(np.frombuffer(question, "<u4"))
        draws.append(tape.drawn)
        secrets.append((secret.words.tobytes(), secret.lift, secret.slack))
    difference = questions[0] - questions[1]
    assert np.flatnonzero(difference).tolist() == [3, 4321]
    assert difference[[3, 4321]].tolist() == [1 << 24, 2**32 - (1 << 24)]
    assert draws[0] == draws[1]
    assert secrets[0] == secrets[1]


def test_a_question_is_one_sample_for_each_column(tape: Tape) -> None:
    """question - A·s - 2^24·unit is the error: small, as drawn, and its sum is what the secret keeps."""
    tape.play()
    secret, question = lookup.ask(SEED, 50, 7)
    public = np.frombuffer(public_rows(SEED, 0, 50), "<u4").reshape(50, DIMENSION).astype(object)
    unit = [(1 << 24) * (column == 7) for column in range(50)]
    masked = [int(word) for word in public @ secret.words.astype(object)]
    words = np.frombuffer(question, "<u4").tolist()
    errors = [
        (word - mask - step + 2**31) % 2**32 - 2**31 for word, mask, step in zip(words, masked, unit, strict=True)
    ]
    tape.play()
    tape_of_secret = os.urandom(4 * DIMENSION)
    assert secret.words.tobytes() == tape_of_secret
    assert errors == lookup.gaussian(50).tolist()
    assert max(map(abs, errors)) > 0
    assert secret.lift == 128 * sum(errors) % 2**32


def test_every_question_has_a_fresh_secret_that_is_not_shown() -> None:
    """Pitfall 13: a secret used twice tells the difference of two questions, and so whether they are the same."""
    asked = [lookup.ask(SEED, 64, 5) for _ in range(50)]
    assert len({secret.words.tobytes() for secret, _ in asked}) == len({question for _, question in asked}) == 50
    assert repr(asked[0][0]) == f"Secret(slack={asked[0][0].slack})"


@pytest.mark.parametrize("columns", [1, 1000, 12_255, 54_474, MAX_COLUMNS])
def test_the_slack_is_far_beyond_the_error_and_below_half_a_step(columns: int) -> None:
    worst = 128 * 6.4 * math.sqrt(columns)
    assert 9.5 * worst <= lookup.Secret(np.zeros(1, np.uint32), 0, lookup._slack(columns)).slack < 1 << 23


def exact_weights(digits: int, reach: int) -> list[Decimal]:
    """P[|X| = x] for x = 0, 1, …, by another way than the sampler's: a product of ratios, summed from the far end."""
    with localcontext() as context:
        context.prec = digits
        ratio = (-1 / (2 * Decimal("6.4") ** 2)).exp()
        weights = [Decimal(1)]
        for x in range(1, reach):
            weights.append(weights[-1] * ratio ** (2 * x - 1))
        doubled = [weight * (1 if x == 0 else 2) for x, weight in enumerate(weights)]
        total = sum(reversed(doubled))
        return [weight / total for weight in doubled]


def test_the_sampler_is_within_two_to_the_minus_120_of_the_discrete_gaussian() -> None:
    cuts = lookup.thresholds()
    assert len(cuts) == 84
    assert all(low < high for low, high in itertools.pairwise(cuts))
    assert 0 < cuts[0] < cuts[-1] < 2**127
    drawn = [Decimal(high - low) for low, high in zip([0, *cuts], [*cuts, 2**127], strict=True)]
    with localcontext() as context:
        context.prec = 120
        exact = exact_weights(120, 300)
        drawn = [count / 2**127 for count in drawn] + [Decimal(0)] * (300 - len(drawn))
        distance = sum(abs(p - q) for p, q in zip(exact, drawn, strict=True)) / 2
        assert distance < Decimal(2) ** -120
        assert sum(exact[85:]) < Decimal(2) ** -130


def test_the_sampler_turns_over_exactly_at_its_thresholds(tape: Tape) -> None:
    """Both words of the number count, the lowest bit is the sign, and the far ends are 0 and 84."""
    cuts = lookup.thresholds()
    numbers = [0, *(cut - 1 for cut in cuts), *cuts, 2**127 - 1]
    expected = [0, *range(84), *range(1, 85), 84]
    for sign in (0, 1):
        high = np.array([number >> 63 for number in numbers], "<u8")
        low = np.array([(number % 2**63) << 1 | sign for number in numbers], "<u8")
        tape.play(iter([high.tobytes() + low.tobytes()]))
        assert lookup.gaussian(len(numbers)).tolist() == [value * (1 - 2 * sign) for value in expected]


def test_as_many_samples_as_asked_for_in_draws_of_fixed_size(tape: Tape) -> None:
    tape.play()
    assert len(lookup.gaussian(10_000)) == 10_000
    assert tape.drawn == [16 * 4096, 16 * 4096, 16 * (10_000 - 8192)]


def test_a_question_over_ten_million_rows_takes_little_memory() -> None:
    tracemalloc.start()
    lookup.ask(SEED, 54_474, 5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6


def test_it_needs_neither_numba_nor_the_enclave() -> None:
    code = (
        "import sys, sandbox.client.lookup\n"
        "loaded = {name for name in sys.modules if name.startswith(('numba', 'enclave_runner.', 'tenseal', 'httpx'))}\n"
        "assert all(name.startswith('enclave_runner.contract') for name in loaded), loaded"
    )
    root = Path(lookup.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
