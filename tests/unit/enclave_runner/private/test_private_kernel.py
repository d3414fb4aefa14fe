from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import njit

from enclave_runner.contract.errors import Refused
from enclave_runner.private import dot, kernel
from tests.support.lookups import BYTES, WORDS, exact_product

WAYS = {"plain": njit(kernel.SIGNATURE)(kernel.plain)}
if dot.is_there():
    WAYS["paired"] = njit(kernel.SIGNATURE)(kernel.paired)

# Below, at and above what one pass, one vector of the processor and one block of the loop take.
SHAPES = [
    (1, 1),
    (1, 7),
    (2, 15),
    (3, 16),
    (4, 17),
    (5, 31),
    (7, 64),
    (8, 65),
    (9, 130),
    (16, 257),
    (33, 1023),
    (64, 3),
]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to the product, also the one that this processor does not take."""
    monkeypatch.setattr(kernel, "_times", WAYS[request.param])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("height", "columns"), SHAPES, ids=str)
def test_the_product_is_that_of_whole_numbers(height: int, columns: int) -> None:
    draw = np.random.default_rng(height * columns)
    matrix = draw.integers(0, 256, (height, columns), dtype=np.uint8)
    words = draw.integers(0, 2**32, columns, dtype=np.uint32)
    assert kernel.times(matrix, words).tolist() == exact_product(matrix, words)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("byte", BYTES)
@pytest.mark.parametrize("word", WORDS)
def test_extreme_values_wrap_exactly(byte: int, word: int) -> None:
    matrix, words = np.full((5, 1031), byte, np.uint8), np.full(1031, word, np.uint32)
    assert kernel.times(matrix, words).tolist() == [byte * word * 1031 % 2**32] * 5


@pytest.mark.usefixtures("way")
def test_the_widest_table_wraps_exactly() -> None:
    columns = 1 << 20
    matrix, words = np.full((3, columns), 255, np.uint8), np.full(columns, 2**32 - 1, np.uint32)
    matrix[1, 17], words[columns - 1] = 0, 5
    last = 255 * 5
    full = 255 * (2**32 - 1) * (columns - 1)
    assert kernel.times(matrix, words).tolist() == [
        (full + last) % 2**32,
        (full + last - 255 * (2**32 - 1)) % 2**32,
        (full + last) % 2**32,
    ]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("column", [0, 1, 15, 16, 62, 63, 64, 95, 96, 99])
def test_a_unit_question_reads_its_column(column: int) -> None:
    matrix = np.random.default_rng(3).integers(0, 256, (37, 100), dtype=np.uint8)
    words = np.zeros(100, np.uint32)
    words[column] = 1
    assert kernel.times(matrix, words).tolist() == matrix[:, column].tolist()


@pytest.mark.usefixtures("way")
def test_no_rows_and_no_columns_are_zeros() -> None:
    assert kernel.times(np.empty((0, 5), np.uint8), np.empty(5, np.uint32)).tolist() == []
    assert kernel.times(np.empty((6, 0), np.uint8), np.empty(0, np.uint32)).tolist() == [0] * 6


def test_a_read_only_memory_map_serves_and_nothing_is_compiled_for_it(tmp_path: Path) -> None:
    matrix = np.random.default_rng(4).integers(0, 256, (9, 50), dtype=np.uint8)
    path = tmp_path / "matrix"
    path.write_bytes(matrix.tobytes())
    mapped = np.memmap(path, np.uint8, "r", shape=(9, 50))
    question = np.random.default_rng(5).integers(0, 2**32, 50, dtype=np.uint32)
    question.flags.writeable = False
    before = list(kernel._times.signatures)
    assert kernel.times(mapped, question).tolist() == exact_product(matrix, question)
    assert kernel._times.signatures == before
    assert len(before) == 1


@pytest.mark.parametrize(
    ("matrix", "question"),
    [
        (np.zeros((4, 4), np.int8), np.zeros(4, np.uint32)),
        (np.zeros((4, 4), np.uint8, order="F"), np.zeros(4, np.uint32)),
        (np.zeros((4, 8), np.uint8)[:, ::2], np.zeros(4, np.uint32)),
        (np.zeros(4, np.uint8), np.zeros(4, np.uint32)),
        (np.zeros((4, 4), np.uint8), np.zeros(3, np.uint32)),
        (np.zeros((4, 4), np.uint8), np.zeros(5, np.uint32)),
        (np.zeros((4, 4), np.uint8), np.zeros((4, 1), np.uint32)),
        (np.zeros((4, 4), np.uint8), np.zeros(4, np.int32)),
        (np.zeros((4, 4), np.uint8), np.zeros(4, ">u4")),
        (np.zeros((4, 4), np.uint8), np.zeros(8, np.uint32)[::2]),
    ],
)
def test_other_types_and_shapes_are_errors(matrix: np.ndarray, question: np.ndarray) -> None:
    """The compiled loop checks no bounds: nothing of another shape may reach it."""
    with pytest.raises(ValueError, match=r"a row-major matrix|a contiguous vector"):
        kernel.times(matrix, question)


def test_an_answer_is_little_endian_words() -> None:
    matrix = np.array([[1, 0], [0, 255], [2, 3]], np.uint8)
    question = (7).to_bytes(4, "little") + (2**32 - 1).to_bytes(4, "little")
    words = [7, (255 * (2**32 - 1)) % 2**32, (14 + 3 * (2**32 - 1)) % 2**32]
    assert kernel.answer(matrix, question) == b"".join(word.to_bytes(4, "little") for word in words)


@pytest.mark.parametrize("length", [0, 1, 3, 4, 7, 9, 12, 4 << 20])
def test_a_question_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(Refused) as refused:
        kernel.answer(np.zeros((3, 2), np.uint8), bytes(length))
    assert refused.value.rule == "verification.question"


ALONE = """
import os
from pathlib import Path
from enclave_runner.private import kernel
import numpy as np
assert len(list(Path("/proc/self/task").iterdir())) == 1, "a thread was started"
kernel.times(np.zeros((4, 4), np.uint8), np.zeros(4, np.uint32))
assert len(list(Path("/proc/self/task").iterdir())) == 1, "a thread was started"
"""


def test_it_starts_no_thread_and_leaves_no_file() -> None:
    """A zygote forks after this import: it must be alone then, and workers can write nowhere."""
    environment = {"OPENBLAS_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    root = Path(kernel.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", ALONE], cwd=root, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in Path(kernel.__file__).parent.rglob("*.nb[ic]")] == []
