"""The benchmark of encrypted scoring counts what is wrong, and reports each figure that the issue asks for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.verification import scoring
from enclave_runner.contract.ciphertext import Workbench
from enclave_runner.contract.scoring import Model


@pytest.mark.slow
def test_a_short_run_reports_every_figure() -> None:
    checks = {check.name: check for check in scoring.scoring_checks(quick=True)}
    assert list(checks) == ["P5 scorecard", "P5 wrong scores", "P5 linear error", "P5 network error"]
    assert all(check.value is not None for check in checks.values())
    assert [checks[name].ok for name in list(checks)[1:]] == [True, True, True]
    assert checks["P5 scorecard"].goal == "<= 120"


def test_a_wrong_score_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform that gives two customers other points stays within every range, and is seen all the same."""
    honest: Callable[[Model, int, bytes, Workbench], bytes] = scoring.score

    def swapping(model: Model, subjects: int, request: bytes, bench: Workbench) -> bytes:
        one, other = (number.to_bytes(8, "little") for number in (7, 8))
        return honest(model, subjects, request[:-16] + one + other, bench)

    monkeypatch.setattr(scoring, "score", swapping)
    rng, bench = scoring.np.random.default_rng(1), Workbench()
    check = scoring._exactness(rng, bench, 1)
    bench.close()
    assert check.value == 2
    assert not check.ok
