"""Planted faults: each is put into the code that runs, and the checks of the grey box must see every one of them.

A fault is killed by a promise (the vector moves further than was said), by the interpreter (the SQL says something
else), by the gate in front of the engine, or by a fault of the run. Without its fault every case passes.

`<` for `<=` in a weight's comparison is no fault: at norm = clip the quotient is the scale itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest

from enclave_runner.kinds.sql_gate import UnlistedSqlError
from tests.support.plan_cases import Case
from tests.support.plan_checks import faults, moves_by_sql
from tests.support.plan_mutants import MUTANTS, Mutant

QUICK = ("a weight is rounded up", "a weight allows one row more", "a norm is rounded down", "LIMIT below the noise")


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    original = getattr(mutant.where, mutant.name)
    with patch.object(mutant.where, mutant.name, mutant.of(original)):
        yield


def killed_by(case: Case) -> str:
    """What sees that something is wrong, empty when nothing does."""
    try:
        plan, bound = case.bind()
        broken = {name: part for name, part in moves_by_sql(case, bound).items() if part > 1}
        if broken:
            name, part = max(broken.items(), key=lambda item: item[1])
            return f"promise: {name} moves {float(part) ** (1 / case.power):.6g} of 1"
        return "interpreter" if faults(case, plan, bound) else ""
    except UnlistedSqlError as refusal:
        return f"gate: {refusal}"
    except AssertionError:
        return "interpreter"
    except Exception as fault:
        if "positional argument" in str(fault):  # the fault no longer fits the function that it is planted into
            raise
        return f"fault of the run: {type(fault).__name__}"


@pytest.mark.parametrize("name", QUICK)
def test_a_fault_is_killed(name: str) -> None:
    assert killed_by(MUTANTS[name].case) == ""
    with planted(MUTANTS[name]):
        assert killed_by(MUTANTS[name].case)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_fault_is_killed(capsys: pytest.CaptureFixture[str]) -> None:
    """All of them, with a table of what has killed each."""
    table: list[str] = []
    ways: Counter[str] = Counter()
    for name, mutant in MUTANTS.items():
        assert killed_by(mutant.case) == "", name
        with planted(mutant):
            by = killed_by(mutant.case)
        table.append(f"{name:<52} {by or 'SURVIVES'}")
        ways[by.split(":")[0]] += 1
    with capsys.disabled():
        print("\n" + "\n".join(table) + f"\n{dict(ways)}")
    assert len(MUTANTS) >= 60
    assert not ways[""], [line for line in table if line.endswith("SURVIVES")]
    assert ways["promise"] >= 30
