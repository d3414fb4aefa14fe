"""The supervisor's end of a serving worker: what an honest one says, and what one that was taken over cannot."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from enclave_runner.contract.check import CheckKind, VerificationMode
from enclave_runner.contract.dataset import ColumnType
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.protocols import canonical, cell, equality, oprf, threshold
from enclave_runner.contract.protocols.cell import CANNOT_SAY, LEVEL, NO, YES
from enclave_runner.contract.scoring import Feature, Scorecard, ScoreCheck, Term
from enclave_runner.jail.launcher import Zygote
from enclave_runner.jail.profile import JailProfile
from enclave_runner.private.build import serving_profile
from enclave_runner.private.tasks import Serving, Subject
from enclave_runner.private.worker import ServingWorker
from tests.support.hostile_serving import HostileServing
from tests.support.private_tables import (
    HIDDEN,
    OPENING_SECRET,
    VERSION,
    Tables,
    check_of,
    column_of,
    subject_of,
    tables_of,
)

INTEGER = column_of(ColumnType.INTEGER)
ROWS = [(f"id{number}", number % 5) for number in range(300)] + [("empty", None)]
EQUALS = subject_of(check_of(CheckKind.EQUALS, (VerificationMode.PLAIN, VerificationMode.EQUALITY)), INTEGER)
AT_LEAST = subject_of(
    check_of(
        CheckKind.AT_LEAST, (VerificationMode.PLAIN, VerificationMode.THRESHOLD), edges=(1, 3, 4), says_unknown=True
    ),
    INTEGER,
)
BANDS = subject_of(check_of(CheckKind.LEVEL, HIDDEN, edges=(2, 4), says_unknown=True), INTEGER)
SCORE = subject_of(
    ScoreCheck(
        dataset_id="people",
        model=Scorecard(features=(Feature(name="f", weight=1, low=0, high=1),)),
        terms=(Term(column="level", weight=-7, low=1, high=3),),
    ),
    INTEGER,
)
CONTEXT = equality.context("product", VERSION, bytes(16))


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    """The enclave's own."""
    with Zygote("enclave_runner.private") as started:
        yield started


@contextmanager
def serving(zygote: Zygote, tables: Tables, seconds: float = 20.0) -> Iterator[ServingWorker]:
    """A worker over sealed memory."""
    profile = serving_profile(JailProfile(), sum(os.fstat(item).st_size for item in tables.memory))
    worker = ServingWorker.start(zygote, profile, tables.task, tables.memory, seconds)
    try:
        yield worker
    finally:
        worker.close()


def test_plain_questions_and_private_equality(zygote: Zygote) -> None:
    with tables_of(EQUALS, ROWS) as tables, serving(zygote, tables) as worker:
        assert worker.judge([("id3", "3"), (" id3 ", "+3"), ("id3", "4"), ("nobody", "3"), ("empty", "3")]) == (
            YES, YES, NO, NO, NO,
        )  # fmt: skip
        assert worker.judge([("id3", "3")], is_stale=True) == (NO,)
        assert worker.judge([]) == ()
        with pytest.raises(Refused) as caught:
            worker.judge([("id3", "3"), ("id4", "3.5")])
        assert (caught.value.rule, caught.value.facts) == (
            "verification.claim-form", {"type": "integer", "scale": "0"},
        )  # fmt: skip
        for subject, claim, truth in (("id3", "3", True), ("id3", "2", False), ("nobody", "3", False)):
            scalar, blinded = equality.blind(CONTEXT, canonical.claim_digest(claim))
            evaluated, tag, known = worker.equality(CONTEXT, subject, blinded)
            assert (equality.is_equal(CONTEXT, scalar, evaluated, tag), known) == (truth, True)
        for blinded in (bytes(32), b"\xff" * 32):
            with pytest.raises(Refused) as caught:
                worker.equality(CONTEXT, "id3", blinded)
            assert caught.value.rule == "verification.point"
        assert worker.is_alive


def test_thresholds_and_the_unknown(zygote: Zygote) -> None:
    with tables_of(AT_LEAST, ROWS) as tables, serving(zygote, tables) as worker:
        assert worker.judge([("id3", "3"), ("id3", "4"), ("empty", "0"), ("nobody", "0")]) == (
            YES, NO, CANNOT_SAY, CANNOT_SAY,
        )  # fmt: skip
        for subject, index, code in (("id3", 1, YES), ("id3", 2, NO), ("nobody", 0, CANNOT_SAY)):
            opening, point = worker.opening("caller")
            choice, pad = threshold.choose(point, index, CONTEXT)
            cells = worker.threshold("caller", subject, opening, choice, CONTEXT)
            assert threshold.read(pad, index, cells) == code
        with pytest.raises(Refused) as caught:
            worker.threshold("another", "id3", opening, choice, CONTEXT)
        assert caught.value.rule == "verification.opening"
        with pytest.raises(Refused) as caught:
            worker.threshold("caller", "id3", opening, bytes(32), CONTEXT)
        assert caught.value.rule == "verification.point"


def test_hidden_subjects_by_bucket_and_by_lookup(zygote: Zygote) -> None:
    with tables_of(BANDS, ROWS, k_min=40) as tables, serving(zygote, tables) as worker:
        hidden, shape = tables.task.hidden, tables.shape
        assert hidden is not None
        assert shape is not None
        blinded = [oprf.blind(canonical.keyword(subject)) for subject in ("id0", "id3", "id4", "nobody")]
        points, proof = worker.evaluate([item.element for item in blinded])
        outputs = oprf.finalize(blinded, points, proof, oprf.public_key(hidden.key))
        codes = []
        for output in outputs:
            column = cell.entry(output, VERSION).column(hidden.columns)
            label = cell.find(worker.bucket(column // hidden.bucket_columns), output, VERSION)
            question = np.zeros(hidden.columns, "<u4")
            question[column] = 1
            read = np.frombuffer(worker.lookup(question.tobytes()), "<u4").astype(np.uint8).tobytes()
            assert cell.find(read, output, VERSION) == label
            codes.append(None if label is None else cell.code_of(label))
        assert codes == [LEVEL, LEVEL + 1, LEVEL + 2, None]
        with pytest.raises(Refused) as caught:
            worker.bucket(hidden.columns // hidden.bucket_columns)
        assert caught.value.rule == "verification.bucket"
        for wrong in (b"", bytes(4 * hidden.columns - 4), bytes(4 * hidden.columns + 1)):
            with pytest.raises(Refused) as caught:
                worker.lookup(wrong)
            assert caught.value.rule == "verification.question"
        with pytest.raises(Refused) as caught:
            worker.evaluate([blinded[0].element, bytes(32)])
        assert caught.value.rule == "verification.point"


def test_points_are_clipped_and_weighed_and_none_of_an_empty_cell_or_of_nobody(zygote: Zygote) -> None:
    with tables_of(SCORE, ROWS) as tables, serving(zygote, tables) as worker:
        points, known = worker.points(["id0", "id2", "id4", "empty", "nobody"])
        assert np.frombuffer(points, "<i8").tolist() == [-7, -14, -21, 0, 0]
        assert known == (True, True, True, True, False)
        assert worker.points([]) == (b"", ())
        with pytest.raises(Failed) as caught:
            worker.judge([("id0", "")])
        assert caught.value.code == "serving.ask"


def test_two_workers_of_one_zygote_never_draw_the_same(zygote: Zygote) -> None:
    """Both were forked from one image: a generator that was seeded before the fork would repeat itself."""
    with tables_of(EQUALS, ROWS[:5]) as tables:
        drawn = set()
        _, blinded = equality.blind(CONTEXT, b"x")
        for _ in range(3):
            with serving(zygote, tables) as worker:
                drawn |= {worker.equality(CONTEXT, "id1", blinded)[0], worker.opening("caller")[0]}
        assert len(drawn) == 6


def test_threads_wait_for_each_other(zygote: Zygote) -> None:
    with tables_of(EQUALS, ROWS) as tables, serving(zygote, tables) as worker:
        wrong: list[tuple[int, ...]] = []

        def ask(number: int) -> None:
            for _ in range(20):
                codes = worker.judge([(f"id{number}", str(claim)) for claim in range(5)])
                if codes != tuple(YES if claim == number % 5 else NO for claim in range(5)):
                    wrong.append(codes)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_a_closed_worker_and_a_killed_one_are_gone(zygote: Zygote) -> None:
    with tables_of(EQUALS, ROWS) as tables, serving(zygote, tables) as worker:
        worker.close()
        assert not worker.is_alive
        with pytest.raises(Failed) as caught:
            worker.judge([("id1", "1")])
        assert caught.value.code == "serving.gone"
        with serving(zygote, tables) as other:
            (outer,) = _children(zygote.pid)
            os.kill(outer, signal.SIGTERM)
            with pytest.raises(Failed) as caught:
                for _ in range(1000):
                    other.judge([("id1", "1")])
            assert caught.value.code == "serving.gone"
            assert not other.is_alive


def _children(pid: int) -> list[int]:
    """The living ones."""
    found = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [number for number in found if _state(number) not in ("Z", "")]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


HOSTILE: dict[str, tuple[Callable[[ServingWorker], object], str, bool]] = {
    "no-state": (lambda worker: worker.judge([("a", "1")]), "serving.answer", False),
    "unknown-rule": (lambda worker: worker.judge([("a", "1")]), "serving.answer", False),
    "broken": (lambda worker: worker.judge([("a", "1")]), "serving.fault", True),
    "short": (lambda worker: worker.judge([("a", "1")]), "serving.deadline", False),
    "silent": (lambda worker: worker.judge([("a", "1")]), "serving.deadline", False),
    "deaf": (lambda worker: worker.judge([("a" * 60, "1" * 200)] * 10_000), "serving.deadline", False),
    "drip": (lambda worker: worker.judge([("a", "1")] * 1000), "serving.deadline", False),
    "unasked": (lambda worker: (time.sleep(0.3), worker.judge([("a", "1")])), "serving.answer", False),
    "exit": (lambda worker: worker.judge([("a", "1")]), "serving.gone", False),
    "hang-up": (lambda worker: worker.judge([("a", "1")]), "serving.gone", False),
    "sevens": (lambda worker: worker.judge([("a", "1")]), "serving.answer", False),
}


@pytest.mark.parametrize("mode", HOSTILE)
def test_a_worker_that_was_taken_over_says_nothing(mode: str) -> None:
    ask, code, goes_on = HOSTILE[mode]
    with HostileServing(mode) as zygote:
        worker = ServingWorker.start(zygote, JailProfile(), _task(EQUALS), [], 1.0)
        began = time.monotonic()
        with pytest.raises(Failed) as caught:
            ask(worker)
        assert time.monotonic() - began < 10
        assert (caught.value.code, worker.is_alive) == (code, goes_on)
        with pytest.raises(Failed) as caught:
            worker.judge([("a", "1")])
        assert caught.value.code == ("serving.fault" if goes_on else "serving.gone")
        worker.close()


@pytest.mark.parametrize(
    ("mode", "subject", "ask"),
    [
        ("sevens", EQUALS, lambda worker: worker.equality(CONTEXT, "a", bytes(32))),
        ("sevens", SCORE, lambda worker: worker.points(["a"])),
        ("ones", BANDS, lambda worker: worker.judge([("a", "")])),
    ],
)
def test_numbers_that_the_check_cannot_say_are_no_answer(
    mode: str, subject: Subject, ask: Callable[[ServingWorker], object]
) -> None:
    with HostileServing(mode) as zygote:
        worker = ServingWorker.start(zygote, JailProfile(), _task(subject), [], 5.0)
        with pytest.raises(Failed) as caught:
            ask(worker)
        assert (caught.value.code, worker.is_alive) == ("serving.answer", False)
        worker.close()


def test_more_than_was_asked_for_is_found_at_the_next_ask() -> None:
    with HostileServing("ones") as zygote:
        worker = ServingWorker.start(zygote, JailProfile(), _task(EQUALS), [], 5.0)
        evaluated, tag, known = worker.equality(CONTEXT, "a", bytes(32))  # 49 of the 65 bytes
        assert (evaluated, tag, known) == (b"\1" * 32, b"\1" * 16, True)
        with pytest.raises(Failed) as caught:
            worker.equality(CONTEXT, "a", bytes(32))
        assert (caught.value.code, worker.is_alive) == ("serving.answer", False)
        worker.close()


def _task(subject: Subject) -> Serving:
    return Serving(subject=subject, opening_secret=OPENING_SECRET)
