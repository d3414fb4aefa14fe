"""Programs that answer, end, hang or cannot be started: an answer or a reason, never an exception."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from benchmarks.dp.contestant import NoRun, Program, Run, running, start
from benchmarks.dp.data import Size, data_set, exact_answer
from benchmarks.dp.protocol import Given
from benchmarks.dp.race import FLOOR
from benchmarks.dp.statements import BOUNDS, STATEMENTS

BOUND = BOUNDS[128]
PROGRAM = """
import subprocess, sys, time
from benchmarks.dp.protocol import serve

def load(given):
    print("a library prints to stdout")
    return {"q1": lambda bound: {"rows": {"g00": bound.rows}}, "q2": fail, "q3": hang, "q4": lambda bound: sys.exit(3)}

def fail(bound):
    raise ValueError("this bound is not supported")

def hang(bound):
    child = subprocess.Popen(["sleep", "600"])
    print(child.pid, file=open(sys.argv[0] + ".child", "w"), flush=True)
    time.sleep(600)

serve(load)
"""


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    return data_set(Size("t", 2_000, 200), tmp_path_factory.mktemp("bench"))


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM, encoding="utf-8")
    return path


def program(script: Path, patience: float = 60.0) -> Program:
    return Program(
        "scripted", [sys.executable, str(script), "--data", str(script.parent)], script.with_suffix(".log"), patience
    )


def test_the_floor_gives_the_exact_answers(given: Given) -> None:
    with start(FLOOR, Path(sys.executable), given) as floor:
        for key in STATEMENTS:
            came = floor.ask(key, BOUND)
            assert isinstance(came, Run)
            assert came.answer == exact_answer(given, key)
            assert came.seconds > 0
            assert came.peak_mib > 10


def test_answers_and_reasons(script: Path) -> None:
    with program(script) as one:
        came = one.ask("q1", BOUND)
        assert isinstance(came, Run)
        assert came.answer == {"rows": {"g00": 128}}
        assert one.ask("q5", BOUND) == NoRun("not offered")
        assert one.ask("q2", BOUND) == NoRun("ValueError: this bound is not supported")
        assert isinstance(one.ask("q4", BOUND), NoRun)  # not even sys.exit ends the talk
        assert isinstance(one.ask("q1", BOUND), Run)
    assert "a library prints" in script.with_suffix(".log").read_text(encoding="utf-8")


def test_who_overruns_is_ended_with_all_that_it_started(script: Path) -> None:
    with program(script, patience=3.0) as one:
        assert one.ask("q3", BOUND) == NoRun("no answer within 3 s")
        assert one.ask("q1", BOUND) == NoRun("no answer within 3 s")
    child = int(Path(f"{script}.child").read_text(encoding="ascii"))
    deadline = time.monotonic() + 10
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(child)


def test_who_cannot_be_started_says_its_last_words(given: Given) -> None:
    with running({"nobody": Path(sys.executable)}, given) as programs:
        came = programs[0].ask("q1", BOUND)
    assert isinstance(came, NoRun)
    assert "No module named benchmarks.dp.peers.nobody" in came.reason


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
