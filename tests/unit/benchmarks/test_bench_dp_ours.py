"""Our engine as a contestant: the texts that it is asked, and every statement through a real deployment."""

from __future__ import annotations

import pytest

from benchmarks.dp.contestant import Run
from benchmarks.dp.data import Size, data_set, exact_answer
from benchmarks.dp.ours import SQL, Ours, answer_from, sql_of
from benchmarks.dp.statements import BOUNDS, LEARNED, STATEMENTS, Bound
from enclave_runner.contract.privacy import PrivacyLoss
from enclave_runner.contract.receipt import DPTable
from enclave_runner.plan.nodes import Bounds, Noise
from enclave_runner.plan.parse import parse_select

# Noise of scale 128 rows (times 100 for sums of amounts up to 100) goes beyond 60 scales with probability e^-60 a cell.
# A mean over a noisy count of nothing has no value, so that means are not looked at.
LIMITS = {"rows": 128 * 60.0, "units": 128 * 60.0, "sum": 128 * 100 * 60.0, "quartile": 100.0}
CHOICES = (LEARNED, *BOUNDS.values())


def table(keys: tuple[str, ...], *rows: tuple[str | None, ...]) -> DPTable:
    loss = PrivacyLoss(entity_set="resident", pico_rho=1)
    return DPTable(keys=keys, measures=(), rows=rows, half_widths=(), loss=loss, epsilon="1", delta="1e-6")


@pytest.mark.parametrize("key", STATEMENTS)
@pytest.mark.parametrize("bound", CHOICES)
def test_every_text_asks_for_the_whole_budget_and_the_stated_clip(key: str, bound: Bound) -> None:
    options = parse_select(sql_of(key, bound)).options
    assert (float(options.epsilon or 0), float(options.delta or 0), options.noise) == (1.0, 1e-6, Noise.AUTO)
    if STATEMENTS[key].bounded == "rows":
        assert options.bounds is (Bounds.AUTO if bound is LEARNED else Bounds.CATALOGUE)
        assert options.rows == (None if bound is LEARNED else bound.rows)


def test_every_statement_has_a_text() -> None:
    assert set(SQL) == set(STATEMENTS)


def test_answers_are_read_off_the_table() -> None:
    assert answer_from("q1", table(("grp",), ("g00", "5"), ("g01", "-1"))) == {"rows": {"g00": 5.0, "g01": -1.0}}
    assert answer_from("q2", table(("grp",), ("g00", "5.5", None))) == {"sum": {"g00": 5.5}, "mean": {}}
    assert answer_from("q3", table((), ("7",))) == {"units": {"": 7.0}}
    assert answer_from("q4", table((), ("1", "2", "3"))) == {"quartile": {"0.25": 1.0, "0.5": 2.0, "0.75": 3.0}}


@pytest.mark.slow
def test_every_statement_is_answered_by_a_real_deployment(tmp_path_factory: pytest.TempPathFactory) -> None:
    given = data_set(Size("t", 20_000, 2_000), tmp_path_factory.mktemp("bench"))
    with Ours(given) as ours:
        for key, statement in STATEMENTS.items():
            came = ours.ask(key, BOUNDS[128])
            assert isinstance(came, Run), came
            exact = exact_answer(given, key)
            assert set(came.answer) == set(statement.columns)
            for column in set(LIMITS) & set(came.answer):
                assert set(came.answer[column]) == set(exact[column])
                assert all(abs(v - exact[column][k]) < LIMITS[column] for k, v in came.answer[column].items())
        assert 20 < ours.peak_mib("q1", BOUNDS[128]) < 2000
        assert ours.partitions("q1", BOUNDS[128]) == 1
        assert len(ours.costs()) >= len(STATEMENTS)
