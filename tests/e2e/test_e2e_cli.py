"""A stranger's whole session: from an empty folder to an invoice, a caught forgery and a suspended operator.

`--json` stands at another place of the line each time. The slow round runs every command as a process of its own, the
quick one in this process, with the same enclave.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from enclave_runner.contract.codec import decode
from enclave_runner.contract.receipt import DPTable
from sandbox.cli.tampering import tampered_copy
from sandbox.cli.times import month_of
from sandbox.settings import Home
from sandbox.workflow.enclave import start_enclave
from tests.support.command_line import CANARY, ROOT, Answer, call_main, run_program, with_json
from tests.support.onnx_models import identity
from tests.support.staff import CATALOGUE, COLUMNS, staff_csv, write

DEPARTMENT, OPERATOR, BANK = "dept-labour", "op-one", "biz-bank"
CODES = {DEPARTMENT: "11590100MA0RNEDK1B", OPERATOR: "91590100MA2F5C9T9W", BANK: "91590100MA31A18J72"}
ROLES = {DEPARTMENT: "department", OPERATOR: "operator", BANK: "business"}
COUNT_SQL = "SELECT district, COUNT(*) AS people, SUM(pay) AS pay FROM staff GROUP BY district"
MODEL_SQL = "SELECT pay FROM staff"


@dataclass
class Stranger:
    """Somebody at a terminal in a folder of their own."""

    folder: Path
    run: Callable[..., Answer]
    calls: int = 0
    enclave: ExitStack = field(default_factory=ExitStack)

    @property
    def home(self) -> Home:
        """The deployment, where YUNEI_HOME is not set: `var` below the working directory."""
        return Home(self.folder / "var")

    def file(self, name: str, content: str | bytes) -> str:
        """A file of theirs."""
        return write(self.folder / name, content)

    def ask(self, *arguments: str, stdin: str = "") -> Answer:
        """One command, for a script."""
        self.calls += 1
        return self.run(*with_json(arguments, self.calls * 3), stdin=stdin, cwd=self.folder)

    def done(self, *arguments: str, stdin: str = "") -> Any:
        """One command that must succeed; its document."""
        answer = self.ask(*arguments, stdin=stdin)
        assert answer.code == 0, answer
        return answer.document


@pytest.fixture(scope="module", params=[call_main, pytest.param(run_program, marks=pytest.mark.slow)])
def stranger(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Stranger]:
    """After the set-up: parties, data, scenarios, grants. The tests below go on from there, in order."""
    person = Stranger(tmp_path_factory.mktemp("stranger"), request.param)
    with person.enclave:
        _set_up(person)
        yield person


def _set_up(person: Stranger) -> None:
    made = person.done("init", "--name", "甲市数据局")
    assert made["home"] == str(person.home.folder)
    assert stat.S_IMODE(person.home.officer_key.stat().st_mode) == 0o600
    assert stat.S_IMODE(person.home.enclave.stat().st_mode) == 0o700
    # The commands so far and at the end start an enclave each; between, one runs, as under `yunei serve`.
    person.enclave.enter_context(start_enclave(person.home))
    for party, role in ROLES.items():
        line = ("party", "add", party, "--name", f"甲 {party}", "--role", role, "--credit-code", CODES[party])
        assert person.done(*line)[0]["status"] == "active"
    data, entry = person.file("staff.csv", staff_csv()), person.file("staff.toml", CATALOGUE)
    report = person.done("dataset", "import", data, "--catalogue", entry)
    assert (report["accepted"], report["rejected"], report["rejections"]) == (300, 0, [])
    approval = person.file("approval.pdf", b"%PDF approval")
    _authorize(person, "free", "public-interest", approval, "query")
    _authorize(person, "paid", "industry", approval, "query", "model", "verification")


def _authorize(person: Stranger, name: str, purpose: str, approval: str, *modes: str) -> None:
    scenario = ("scenario", "add", f"use-{name}", "--operator", OPERATOR, "--title", "用途", "--purpose", purpose)
    person.done(*scenario, "--evidence", approval, "--until", "2099-12-31", "--recipient", BANK)
    how = [word for mode in modes for word in ("--mode", mode)]
    draft = ("grant", "draft", f"grant-{name}", "--scenario", f"use-{name}", "--column", COLUMNS, *how)
    drafted = person.done(*draft, "--until", "2099-06-30", "--rho", "resident=2", "--uses", "100")
    assert drafted[0]["status"] == "draft"
    signed = person.done("grant", "sign", f"grant-{name}")
    assert signed[0]["status"] == "signed"
    assert signed[0]["grant"]["purpose"] == purpose


def test_lists_show_what_was_filed(stranger: Stranger) -> None:
    assert [item["party_id"] for item in stranger.done("party", "list")] == sorted(["bureau", *ROLES])
    assert [item["spec"]["dataset_id"] for item in stranger.done("dataset", "list")] == ["staff"]
    assert stranger.done("dataset", "show", "staff")["department_id"] == DEPARTMENT
    assert [item["scenario_id"] for item in stranger.done("scenario", "list")] == ["use-free", "use-paid"]
    assert [item["grant"]["grant_id"] for item in stranger.done("grant", "list")] == ["grant-free", "grant-paid"]
    assert stranger.done("grant", "show", "grant-free")["status"] == "signed"


def test_a_query_is_quoted_run_listed_and_fetched_again(stranger: Stranger) -> None:
    asked = (COUNT_SQL, "--grant", "grant-free", "--epsilon", "1", "--as", OPERATOR)
    offered = stranger.done("quote", *asked)
    share = offered["shares"][0]
    assert (share["budget"], share["asked"]) == ("grant", offered["quote"]["losses"][0]["pico_rho"])
    chart, csv = stranger.folder / "pay.svg", stranger.folder / "pay.csv"
    outcome = stranger.done("submit", *asked, "--chart", str(chart), "--csv", str(csv))
    assert outcome["receipt"]["losses"] == offered["quote"]["losses"]
    assert outcome["charge"]["unit_price_fen"] == 0
    _check_table(outcome["release"], offered)
    number = outcome["submission"]["submission_id"]
    assert [item["submission_id"] for item in stranger.done("job", "list", "--as", OPERATOR)] == [number]
    assert stranger.done("job", "show", number)[0]["status"] == "released"
    out = stranger.folder / "release.json"
    again = stranger.done("release", "get", number, "--out", str(out), "--as", OPERATOR)
    assert again == outcome
    assert json.loads(out.read_bytes()) == outcome["release"]
    assert decode(out.read_bytes(), DPTable).keys == ("district",)
    assert [len(row) for row in outcome["variances"]] == [2, 2]
    assert csv.read_text(encoding="utf-8-sig").splitlines()[0] == "district,people,people_half_width,pay,pay_half_width"
    drawn = chart.read_bytes()
    stranger.done("release", "chart", number, "--out", str(chart), "--measure", "pay", "--as", OPERATOR)
    assert b"people \xc2\xb7 district" in drawn
    assert b"pay \xc2\xb7 district" in chart.read_bytes()
    assert [path.name for path in stranger.folder.iterdir() if path.name.startswith(".")] == []


def _check_table(release: dict[str, Any], offered: dict[str, Any]) -> None:
    """150 people in each district; the noise is far below ten times its 95 % interval."""
    widths = [float(measure["half_width"]) for measure in offered["quote"]["measures"]]
    assert [row[0] for row in release["rows"]] == ["north", "south"]
    for district, people, pay in release["rows"]:
        first = 0 if district == "north" else 1
        exact = sum(3000.5 + number for number in range(first, 300, 2))
        assert abs(int(people) - 150) <= 10 * widths[0]
        assert abs(float(pay) - exact) <= 10 * widths[1]


def test_a_model_waits_for_review_and_runs_when_approved(stranger: Stranger) -> None:
    model = stranger.file("identity.onnx", identity())
    line = ("submit", "model", MODEL_SQL, "--grant", "grant-paid", "--model", model, "--output", "score")
    (waiting,) = stranger.done(*line, "--bins", "4", "--epsilon", "0.5", "--as", OPERATOR, "--person", "analyst")
    assert waiting["status"] == "in-review"
    number = waiting["submission_id"]
    unsettled = stranger.ask("release", "get", number, "--as", OPERATOR)
    assert unsettled.rule == (3, "submission.unsettled", "-")
    assert [item["submission_id"] for item in stranger.done("review", "list")] == [number]
    approve = ("review", "approve", number, "--ground", "在用途之内", "--person", "reviewer")
    outcome = stranger.done(*approve)
    assert outcome["submission"]["status"] == "released"
    assert len(outcome["release"]["rows"]) == 4
    assert stranger.done("review", "list") == []
    assert stranger.ask(*approve).rule == (3, "review.closed", "-")


def test_a_rejected_model_never_runs(stranger: Stranger) -> None:
    model = stranger.file("identity.onnx", identity())
    line = ("submit", "model", MODEL_SQL, "--grant", "grant-paid", "--model", model, "--output", "score")
    (waiting,) = stranger.done(*line, "--as", OPERATOR)
    (refused,) = stranger.done("review", "reject", waiting["submission_id"], "--ground", "超出用途")
    assert refused["status"] == "refused"


def test_a_business_verifies_with_the_subjects_consent(stranger: Stranger) -> None:
    line = ("product", "publish", "on-duty", "--grant", "grant-paid", "--title", "在岗核验")
    (product,) = stranger.done(*line, "--attribute", "staff.active", "--as", OPERATOR)
    assert (product["status"], product["needs_consent"]) == ("published", True)
    subject = f"{CANARY}-1\n"
    verify = ("submit", "verify", "--product", "on-duty", "--claim", "true", "--as", BANK)
    assert stranger.ask(*verify, stdin=subject).rule == (3, "consent.missing", "43")
    consent = ("consent", "add", "--product", "on-duty", "--business", BANK, "--until", "2099-01-01")
    filed = stranger.done(*consent, stdin=subject)
    outcome = stranger.done(*verify, stdin=subject)
    assert outcome["release"]["answer"] == "yes"
    assert outcome["charge"]["unit_price_fen"] == 50
    assert stranger.done("consent", "withdraw", filed["consent_id"])["withdrawn_at"] is not None
    assert stranger.ask(*verify, stdin=subject).rule == (3, "consent.missing", "43")
    assert [item["product_id"] for item in stranger.done("product", "list", "--as", BANK)] == ["on-duty"]


def test_every_use_is_metered_and_every_paid_one_invoiced(stranger: Stranger) -> None:
    month = month_of(datetime.now(UTC))
    events = stranger.done("meter", "--month", month)
    kinds = sorted((event["payer_id"], event["mode"], event["unit_price_fen"], event["units"]) for event in events)
    assert kinds == [(BANK, "verification", 50, 1), (OPERATOR, "model", 80000, 1), (OPERATOR, "query", 0, 1)]
    issued = stranger.done("invoice", OPERATOR, "--month", month)
    assert (issued["total_fen"], issued["invoice"]["free_uses"]) == (80000, 1)
    assert [line["amount_fen"] for line in issued["invoice"]["lines"]] == [80000]
    assert stranger.done("invoice", OPERATOR, "--month", month) == issued
    assert stranger.done("invoice", BANK, "--month", month)["total_fen"] == 50


def test_the_odometer_shows_what_the_receipts_say(stranger: Stranger) -> None:
    budgets = stranger.done("budget")
    (reading,) = budgets["readings"]
    outcomes = [stranger.done("release", "get", item["submission_id"]) for item in _released(stranger)]
    losses = [loss["pico_rho"] for outcome in outcomes for loss in outcome["receipt"]["losses"]]
    assert len(losses) == 2  # the query and the model; a verification has none
    assert (reading["entity_set"], reading["spent"], reading["reserved"]) == ("resident", sum(losses), 0)
    assert {item["grant_id"]: item["uses"] for item in budgets["grants"]} == {"grant-free": 1, "grant-paid": 2}


def _released(stranger: Stranger) -> list[dict[str, Any]]:
    return [item for item in stranger.done("job", "list") if item["status"] == "released"]


def test_the_logs_verify_and_a_tampered_copy_does_not(stranger: Stranger) -> None:
    report = stranger.done("audit", "verify")
    assert report["ok"] is True
    with tampered_copy(stranger.home.control_db) as copy:
        answer = stranger.ask("audit", "verify", "--copy", str(copy))
    assert answer.code == 5
    verdict = answer.document
    assert verdict["ok"] is False
    assert verdict["first_bad_index"] >= 0
    assert verdict["problem"].strip()


def test_a_suspended_operator_is_refused_until_it_is_restored(stranger: Stranger) -> None:
    asked = ("submit", "sql", COUNT_SQL, "--grant", "grant-free", "--epsilon", "0.1", "--as", OPERATOR)
    (party,) = stranger.done("party", "suspend", OPERATOR, "--ground", "违反授权")
    assert party["status"] == "suspended"
    assert stranger.ask(*asked).rule == (3, "access.suspended", "49")
    stranger.done("party", "restore", OPERATOR, "--ground", "已整改")
    assert stranger.done(*asked)["submission"]["status"] == "released"


def test_an_api_key_is_shown_once_and_kept_as_a_hash(stranger: Stranger) -> None:
    made = stranger.done("party", "key", OPERATOR, "--holder", "analyst")
    assert made["token"].encode() not in stranger.home.control_db.read_bytes()


def test_the_jail_holds_on_this_host(stranger: Stranger) -> None:
    report = stranger.done("enclave", "doctor")
    assert report["ok"] is True
    assert {probe["outcome"] for probe in report["probes"]} == {"BLOCKED"}


def test_people_see_tables_and_refusals_with_their_article(stranger: Stranger) -> None:
    shown = stranger.run("grant", "list", cwd=stranger.folder)
    assert (shown.code, shown.err) == (0, "")
    assert "grant-free" in shown.out
    refused = stranger.run("grant", "show", "nothing", "--as", OPERATOR, cwd=stranger.folder)
    assert refused.code == 3
    assert "record.unknown" in refused.out
    wrong = stranger.run("grant", "shoe", cwd=stranger.folder)
    assert (wrong.code, wrong.out) == (2, "")
    assert "shoe" in wrong.err


def test_nothing_of_the_data_stands_in_the_control_plane(stranger: Stranger) -> None:
    written = [path for path in (stranger.home.folder / "bureau").rglob("*") if path.is_file()]
    assert stranger.home.control_db in written
    assert [path for path in written if CANARY.encode() in path.read_bytes()] == []


def test_the_session_goes_on_without_a_running_enclave(stranger: Stranger) -> None:
    """The last test of the module: the enclave ends, and the next command starts one of its own."""
    stranger.enclave.close()
    before = {item["submission_id"] for item in _released(stranger)}
    line = ("submit", "sql", COUNT_SQL, "--grant", "grant-free", "--epsilon", "0.1", "--as", OPERATOR)
    outcome = stranger.run("--json", *line, cwd=ROOT, environment={"YUNEI_HOME": str(stranger.home.folder)}).document
    assert outcome["submission"]["submission_id"] not in before
    assert stranger.done("audit", "verify")["ok"] is True
