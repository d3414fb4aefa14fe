"""`yunei demo` as a program: its figures, its length, its second run, and a start over after a kill."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sandbox.settings import Home
from sandbox.workflow.enclave import start_enclave
from tests.support.command_line import ROOT, Answer, call_main, run_program

KEYS = {
    "releases", "refusals", "free_uses", "paid_uses", "invoice_total_fen", "privacy_loss", "audit_ok",
    "tamper_detected",
}  # fmt: skip
CITY = ("--residents", "1500")
ID_NUMBER = re.compile(r"\b\d{17}[\dX]\b")
CREDIT_CODE = re.compile(r"\b91\d{6}[0-9A-Z]{10}\b")


@dataclass(frozen=True)
class Told:
    """After a first run: the folder of YUNEI_HOME, what was printed, how long it took, and how to run it again."""

    folder: Path
    first: Answer
    seconds: float
    run: Callable[..., Answer]

    def again(self, *arguments: str) -> Answer:
        """Another command in the same folder."""
        return self.run(*arguments, environment={"YUNEI_HOME": str(self.folder)})

    def of_deployment(self, *arguments: str) -> Any:
        """What a command of the deployment that the demo made says."""
        return self.run(*arguments, "--json", "--home", str(self.folder / "demo")).document


@pytest.fixture(scope="module", params=[call_main, pytest.param(run_program, marks=pytest.mark.slow)])
def told(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Told]:
    """The quick round keeps the enclave of the finished demo running; in the slow one each command starts its own."""
    folder, run = tmp_path_factory.mktemp("demo"), request.param
    started = time.monotonic()
    answer = run("demo", *CITY, "--json", environment={"YUNEI_HOME": str(folder)})
    seconds = time.monotonic() - started
    with start_enclave(Home(folder / "demo")) if run is call_main else nullcontext():
        yield Told(folder, answer, seconds, run)


def test_the_figures_are_exactly_those_of_the_story(told: Told) -> None:
    assert told.first.code == 0
    figures = told.first.document
    assert set(figures) == KEYS
    for name in ("releases", "free_uses", "paid_uses", "invoice_total_fen"):
        assert type(figures[name]) is int
    assert (figures["audit_ok"], figures["tamper_detected"]) == (True, True)
    assert figures["releases"] == figures["free_uses"] + figures["paid_uses"]
    assert (figures["free_uses"], figures["paid_uses"]) == (2, 3)
    assert figures["invoice_total_fen"] == 2 * 50 + 80_000
    _check_refusals(figures["refusals"])
    assert set(figures["privacy_loss"]) == {"census-respondent"}
    assert Decimal(0) < Decimal(figures["privacy_loss"]["census-respondent"]) <= Decimal("0.12")


def _check_refusals(refusals: list[dict[str, Any]]) -> None:
    rules = [(refusal["rule"], refusal["article"]) for refusal in refusals]
    assert rules == [("consent.missing", "43"), ("grant.column", "28"), ("odometer.spent", "35")]
    for refusal in refusals:
        assert set(refusal) == {"rule", "article", "reason", "remedy"}
        assert refusal["reason"].strip()
        assert refusal["remedy"].strip()


def test_a_second_run_spends_nothing_is_quicker_and_verifies_again(told: Told) -> None:
    events, budgets = told.of_deployment("meter"), told.of_deployment("budget")
    started = time.monotonic()
    again = told.again("--json", "demo", *CITY)
    assert time.monotonic() - started < told.seconds
    assert again.code == 0
    assert again.document == told.first.document
    assert told.of_deployment("meter") == events
    assert told.of_deployment("budget") == budgets


def test_the_odometer_of_the_deployment_is_the_one_that_was_told(told: Told) -> None:
    readings = told.of_deployment("budget")["readings"]
    spent = {item["entity_set"]: f"{Decimal(item['spent']) / 10**12:.12f}" for item in readings}
    assert spent == told.first.document["privacy_loss"]


def test_the_text_fits_a_screen_names_articles_and_shows_no_identifier(told: Told) -> None:
    text = told.again("demo")
    assert (text.code, text.err) == (0, "")
    lines = text.out.splitlines()
    assert 20 < len(lines) <= 60
    for refusal in told.first.document["refusals"]:
        assert any(refusal["rule"] in line and f"art. {refusal['article']}" in line for line in lines)
    assert "total ¥800.00" in text.out
    assert ID_NUMBER.search(text.out) is None
    assert CREDIT_CODE.search(text.out) is None


def test_a_second_run_notices_what_was_done_to_the_log_in_between(told: Told, tmp_path: Path) -> None:
    """A backup in which one byte of one audit entry differs: exit code 5, and the figures say so."""
    shutil.copytree(told.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("*.sock"))
    database = Home(tmp_path / "copy" / "demo").control_db
    content = bytearray(database.read_bytes())
    places = [match.start() for match in re.finditer(rb'"act":"grant\.sign"', content)]
    assert places
    for place in places:
        content[place + 7] ^= 0x01
    database.write_bytes(bytes(content))
    answer = told.run("demo", "--json", "--home", str(tmp_path / "copy"))
    assert answer.code == 5
    assert answer.document["audit_ok"] is False


def test_too_small_a_city_is_wrong_usage(tmp_path: Path) -> None:
    answer = call_main("demo", "--json", "--residents", "10", "--home", str(tmp_path))
    assert "--residents" in answer.usage
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts a demo in `tmp_path`; whatever it leaves running, its enclave above all, ends with the test."""
    line = [sys.executable, "-m", "sandbox.cli", "demo", *CITY, "--json", "--home", str(tmp_path)]
    yield lambda: subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    for process in _processes_of(tmp_path):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _processes_of(folder: Path) -> list[int]:
    """Our own processes: those whose command line names this test's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if os.fsencode(folder) in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("reached", ["enclave/ledger.db", "city/residents.csv", "model.onnx"])
def test_a_demo_that_was_killed_starts_over(
    start: Callable[[], subprocess.Popen[bytes]], tmp_path: Path, reached: str
) -> None:
    process = start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "demo" / reached).exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None
    process.kill()
    process.wait()
    assert not (tmp_path / "demo" / "story.json").exists()
    again = run_program("demo", *CITY, "--json", "--home", str(tmp_path))
    assert again.code == 0
    figures = again.document
    assert (figures["free_uses"], figures["paid_uses"], figures["invoice_total_fen"]) == (2, 3, 80_100)
    assert (figures["audit_ok"], figures["tamper_detected"]) == (True, True)
    assert run_program("demo", "--json", "--home", str(tmp_path)).document == figures
