from __future__ import annotations

import csv
import io
import json
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
import typer
from rich.console import Console

from enclave_runner.contract.codec import decode
from enclave_runner.contract.errors import Failed
from enclave_runner.contract.grant import Purpose
from enclave_runner.contract.job import Answer, QueryJob
from enclave_runner.contract.privacy import Budget
from enclave_runner.contract.receipt import DPTable, DPTables, VerificationAnswer
from sandbox.cli.releases import Exports, chart, numbered, show_outcome
from sandbox.cli.session import Session
from sandbox.domain.submission import Submission, SubmissionStatus
from sandbox.workflow.settle import Outcome
from tests.support.released_tables import by_district, days, receipt

SUBMISSION = Submission(
    submission_id="sub-1",
    grant_id="grant-free",
    operator_id="op-city-data",
    requester_id="op-city-data",
    product_id=None,
    job=QueryJob(sql="SELECT 1", budget=Budget(epsilon="1")),
    input_sha256=None,
    status=SubmissionStatus.RELEASED,
    submitted_at=datetime(2026, 11, 24, tzinfo=UTC),
    purpose=Purpose.PUBLIC_INTEREST,
    columns=("district", "income"),
)
TABLE = Outcome(SUBMISSION, receipt(), by_district(), receipt().charge)
ANSWER = replace(TABLE, release=VerificationAnswer(answer=Answer.YES, question_sha256="0" * 64, data_version="v-1"))
WORKLOAD = replace(TABLE, release=DPTables(tables=(by_district(), days())))
REFUSED = replace(TABLE, release=None, receipt=msgspec.structs.replace(receipt(), rule="odometer.spent", facts={}))
FAILED = replace(TABLE, release=None, receipt=msgspec.structs.replace(receipt(), fault="fault-1"))


NO_FILES = Exports()


def document_of(outcome: Outcome, exports: Exports = NO_FILES) -> Any:
    out = io.StringIO()
    with redirect_stdout(out):
        show_outcome(Session(as_json=True), outcome, exports)
    return json.loads(out.getvalue())


def text_of(outcome: Outcome) -> str:
    out = io.StringIO()
    show_outcome(Session(console=Console(file=out, width=120, markup=False)), outcome)
    return out.getvalue()


def test_a_script_gets_the_release_as_it_is_with_variances_beside_it() -> None:
    document = document_of(TABLE)
    assert set(document) == {"submission", "receipt", "release", "charge", "variances"}
    assert decode(json.dumps(document["release"]).encode(), DPTable) == TABLE.release
    assert [[cell and float(cell) for cell in row] for row in document["variances"]] == [
        pytest.approx([(3.5 / 1.959964) ** 2, (12.25 / 1.959964) ** 2]),
        pytest.approx([(3.5 / 1.959964) ** 2, None]),
        pytest.approx([(3.5 / 1.959964) ** 2, None]),
    ]


def test_people_get_the_table_and_the_receipt_below_it() -> None:
    lines = text_of(TABLE).splitlines()
    assert any("[north]" in line and "1000.5  ± 12.25" in line for line in lines)
    assert lines[-1].startswith("回执 / receipt rcpt-1 #7")


def test_an_answer_has_no_variances_and_no_chart() -> None:
    assert set(document_of(ANSWER)) == {"submission", "receipt", "release", "charge"}
    assert text_of(ANSWER).startswith("yes\n")
    with pytest.raises(Failed, match=r"release\.no-table"):
        chart(ANSWER)


def test_all_files_are_written_beside_what_is_shown(tmp_path: Path) -> None:
    exports = Exports(tmp_path / "a.json", tmp_path / "a.svg", tmp_path / "a.csv")
    exports.check()
    document = document_of(TABLE, exports)
    assert json.loads((tmp_path / "a.json").read_bytes()) == document["release"]
    assert (tmp_path / "a.json").read_bytes() == TABLE.release_bytes
    assert ElementTree.fromstring((tmp_path / "a.svg").read_bytes()).tag.endswith("svg")
    rows = list(csv.reader(io.StringIO((tmp_path / "a.csv").read_text(encoding="utf-8-sig"))))
    assert len(rows) == 1 + 3
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(("outcome", "code"), [(REFUSED, 3), (FAILED, 4)])
def test_what_was_not_released_is_not_drawn(tmp_path: Path, outcome: Outcome, code: int) -> None:
    with pytest.raises(typer.Exit) as left:
        document_of(outcome, Exports(chart=tmp_path / "a.svg", csv=tmp_path / "a.csv"))
    assert left.value.exit_code == code
    assert list(tmp_path.iterdir()) == []


def test_a_chart_of_a_measure_that_is_none_is_wrong_usage() -> None:
    with pytest.raises(typer.BadParameter, match="people, mean_income"):
        chart(TABLE, 1, "median")


def test_a_workload_is_shown_exported_and_drawn_table_by_table(tmp_path: Path) -> None:
    document = document_of(WORKLOAD, Exports(chart=tmp_path / "a.svg", csv=tmp_path / "a.csv"))
    assert [len(rows) for rows in document["variances"]] == [3, 10]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-1.csv", "a-1.svg", "a-2.csv", "a-2.svg"]
    assert (tmp_path / "a-2.csv").read_text(encoding="utf-8-sig").startswith("day,")
    assert b"2026-03-01" in chart(WORKLOAD, 2)
    shown = text_of(WORKLOAD)
    assert shown.index("table 1 / 2") < shown.index("[north]") < shown.index("table 2 / 2") < shown.index("2026-03-01")
    for number in (0, 3):
        with pytest.raises(typer.BadParameter, match="1 to 2"):
            chart(WORKLOAD, number)


def test_one_file_keeps_its_name() -> None:
    assert numbered(Path("d/a.csv"), 1) == (Path("d/a.csv"),)
    assert numbered(Path("d/a.csv"), 2) == (Path("d/a-1.csv"), Path("d/a-2.csv"))


@pytest.mark.parametrize("name", ["json", "chart", "csv"])
def test_every_file_is_checked_before_the_job(tmp_path: Path, name: str) -> None:
    with pytest.raises(Failed, match=r"file\.unwritable"):
        Exports(**{name: tmp_path / "missing" / "file"}).check()
