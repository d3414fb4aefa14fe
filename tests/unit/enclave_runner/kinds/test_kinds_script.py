"""A script over one block, in this process: answers on the grid, failures as the middle, dealing, made-up rows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from enclave_runner.contract.dataset import ColumnType
from enclave_runner.kinds import script
from enclave_runner.kinds.tasks import CELL_BYTES, STEPS, Declined, Done, ScriptBlock, ScriptTrial
from tests.support.enclave_home import column

COLUMNS = (
    ("n", ColumnType.INTEGER, 0),
    ("money", ColumnType.DECIMAL, 2),
    ("day", ColumnType.DATE, 0),
    ("city", ColumnType.TEXT, 0),
    ("ok", ColumnType.BOOLEAN, 0),
)
TABLE = pa.table(
    {
        "n": pa.array([1, None, 3], pa.int64()),
        "money": pa.array([150, 250, None], pa.int64()),
        "day": pa.array([date(2022, 1, 1), None, date(2022, 1, 3)], pa.date32()),
        "city": pa.array(["福州", None, "x"]),
        "ok": pa.array([True, False, None]),
    }
)
MIDDLE = STEPS // 2


@contextmanager
def block(table: pa.Table) -> Iterator[int]:
    """A block's file."""
    descriptor = os.memfd_create("block")
    script._write(table, tuple(table.column_names), descriptor)
    yield descriptor
    os.close(descriptor)


def run(text: str, ranges: tuple[tuple[float, float], ...] = ((0.0, 10.0),), table: pa.Table = TABLE) -> list[int]:
    with block(table) as descriptor:
        said = script.run(ScriptBlock(script=text, columns=COLUMNS, ranges=ranges), [descriptor])
    assert len(said) == CELL_BYTES * len(ranges)
    return [int.from_bytes(said[at : at + CELL_BYTES], "big") for at in range(0, len(said), CELL_BYTES)]


def body(expression: str) -> str:
    return f"import numpy as np, math\ndef main(data):\n    return {expression}\n"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("np.nansum(data['n'])", 4.0),
        ("float(np.nansum(data['money']))", 4.0),
        ("int((data['day'][2] - data['day'][0]).astype(int)) * 2", 4.0),
        ("list(data['city']).index('') + (data['city'][0] == '福州') + 2", 4.0),
        ("np.nansum(data['ok']) + len(data['ok'])", 4.0),
        ("[np.isnat(data['day'][1]) * 4.0]", 4.0),
        ("np.array(4, dtype=np.int8)", 4.0),
        ("99", 10.0),
        ("-1e300", 0.0),
    ],
)
def test_a_script_sees_its_columns_and_gives_a_clipped_number(expression: str, value: float) -> None:
    assert run(body(expression)) == [int(value / 10 * STEPS)]


@pytest.mark.parametrize(
    "text",
    [
        *map(
            body,
            [
                "1/0",
                "None",
                "'a'",
                "[]",
                "[1, 2]",
                "float('nan')",
                "math.inf",
                "-math.inf",
                "10**400",
                "object()",
                "1j",
            ],
        ),
        "x = 1",
        "def main(:",
        "main = 3",
        "raise SystemExit",
        "raise KeyboardInterrupt",
        "def main(data):\n    raise MemoryError",
        "def main(data):\n    raise BaseException(data)",
        "def main(data):\n    return main(data)",
        "class N:\n    def __float__(self): raise ValueError\ndef main(data): return N()",
        "\x00",
    ],
)
def test_whatever_fails_is_the_middle_of_all_ranges(text: str) -> None:
    assert run(text) == [MIDDLE]


def test_one_bad_output_of_several_spoils_them_all() -> None:
    assert run(body("[1, float('nan')]"), ((0.0, 10.0), (0.0, 1.0))) == [MIDDLE, MIDDLE]


def test_an_empty_block_runs_like_any_other() -> None:
    assert run(body("len(data['n'])"), table=TABLE.slice(0, 0)) == [0]


def test_a_denormal_a_negative_zero_and_an_ulp_are_all_on_the_grid() -> None:
    for expression in ("5e-324", "-0.0", "np.float64(2e-8)"):
        assert run(body(expression)) == [0]


def test_adding_one_entity_moves_no_other_one() -> None:
    dealt = script._dealt(b"k" * 32, 1000, 40)
    assert (script._dealt(b"k" * 32, 1001, 40)[:1000] == dealt).all()
    assert (script._dealt(b"j" * 32, 1000, 40) != dealt).mean() > 0.9


def test_entities_are_dealt_evenly() -> None:
    counts = np.bincount(script._dealt(os.urandom(32), 80_000, 40), minlength=40)
    assert len(counts) == 40
    assert ((counts - 2000) ** 2 / 2000).sum() < 100  # χ² with 39 degrees of freedom: p < 1e-6


def attempt(text: str) -> Done | Declined:
    columns = (
        column("n", ColumnType.INTEGER, bounds=(5, 9)),
        column("kind", ColumnType.TEXT, domain=("a", "b")),
        column("day", ColumnType.DATE),
        column("free", ColumnType.TEXT),
        column("ok", ColumnType.BOOLEAN),
        column("code", ColumnType.INTEGER, domain=("1", "7")),
        column("money", ColumnType.DECIMAL, scale=2, bounds=(0, 1000)),
    )
    return script.attempt(ScriptTrial(script=text, columns=columns, ranges=((0.0, 1.0),)))


def test_a_trial_has_every_column_with_values_of_the_catalogue() -> None:
    text = (
        "def main(data):\n"
        "    assert 5 <= data['n'].min() < data['n'].max() <= 9 and set(data['kind']) == {'a', 'b'}\n"
        "    assert set(data['code']) == {1.0, 7.0} and data['money'].max() == 10 and set(data['ok']) == {0.0, 1.0}\n"
        "    assert data['day'].dtype.kind == 'M' and isinstance(data['free'][0], str)\n"
        "    return 0\n"
    )
    assert attempt(text) == Done()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\ndef main(data):\n    return 1 / 0\n", "ZeroDivisionError in line 3"),
        ("def main(:\n", "SyntaxError in line 1"),
        ("x = 1\n", "it defines no main(data)"),
        ("def main(data):\n    return [1, 2]\n", "main(data) gave 2 numbers, and 1 outputs are declared"),
        ("def main(data):\n    return data['nothing']\n", "KeyError in line 2"),
        ("import torch\n", "ModuleNotFoundError in line 1"),
    ],
)
def test_a_trial_tells_what_the_text_does_wrong(text: str, told: str) -> None:
    answer = attempt(text)
    assert isinstance(answer, Declined)
    assert answer.rule == "script.trial"
    assert answer.facts["what"].startswith(told)
