"""Bad input at the command line: a refusal with rule and article, and a deployment that is exactly what it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from enclave_runner.contract.signing import KeyFile
from tests.support.command_line import CANARY, call_main
from tests.support.deployment import BANK, OPERATOR
from tests.support.deployment_state import AUDIT
from tests.support.desk import Desk, Refusal, draft
from tests.support.onnx_models import identity

COUNT_SQL = "SELECT district, COUNT(*) AS people FROM staff GROUP BY district"


DRAFTS: dict[str, tuple[tuple[str, ...], Refusal]] = {
    "a withheld column": (("--column", "staff:district,illness"), (3, "dataset.withheld", "24")),
    "an unknown column": (("--column", "staff:salary"), (3, "dataset.column", "17")),
    "an unknown dataset": (("--column", "cities:name"), (3, "dataset.unknown", "-")),
    "a deadline that is over": (("--until", "2020-01-01"), (3, "grant.expired", "28")),
    "a deadline beyond the scenario": (("--until", "2100-06-30"), (3, "grant.beyond-scenario", "28")),
    "people that it does not touch": (("--rho", "enterprise=1"), (3, "grant.entity-set", "28")),
    "an unknown scenario": (("--scenario", "nothing"), (3, "record.unknown", "-")),
    "an operator who drafts": (("--as", OPERATOR), (3, "access.bureau-only", "44")),
}


@pytest.mark.parametrize("what", DRAFTS)
def test_a_draft_that_the_rules_refuse(desk: Desk, what: str) -> None:
    more, refusal = DRAFTS[what]
    assert desk.ask_in_vain(*draft("grant-new", "free", *more)).rule == refusal


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--rho", "resident=-1"), "--rho"),
        (("--rho", "resident=NaN"), "--rho"),
        (("--rho", "resident=Infinity"), "--rho"),
        (("--rho", "resident=1e30"), "--rho"),
        (("--rho", "resident=much"), "--rho"),
        (("--rho", "=1"), "--rho"),
        (("--rho", "resident=1", "--rho", "resident=2"), "one budget"),
        (("--column", "staff"), "--column"),
        (("--column", "staff:"), "--column"),
        (("--column", "staff:pay,pay"), "each once"),
        (("--column", "staff:pay", "--column", "staff:active"), "each once"),
        (("--uses", "0"), "uses"),
        (("--uses", "-5"), "uses"),
        (("--uses", "many"), "integer"),
        (("--mode", "download"), "download"),
        (("--until", "31.12.2099"), "31.12.2099"),
        (("--since", "0001-01-01"), "0001-01-02"),
        (("--since", "2099-08-01"), "deadline"),
    ],
)
def test_a_draft_that_is_no_grant(desk: Desk, more: tuple[str, ...], said: str) -> None:
    assert said in desk.ask_in_vain(*draft("grant-new", "free", *more)).usage


def test_ids_are_given_once(desk: Desk) -> None:
    exists = (3, "record.exists", "-")
    assert desk.ask_in_vain(*draft("grant-free", "free")).rule == exists
    scenario = ("scenario", "add", "free", "--operator", OPERATOR, "--title", "用途", "--purpose", "industry")
    evidence = ("--evidence", str(desk.folder / "approval.txt"), "--until", "2099-12-31")
    assert desk.ask_in_vain(*scenario, *evidence).rule == exists
    party = ("party", "add", BANK, "--name", "又一家", "--role", "business", "--credit-code", "91590100MA31A18J72")
    assert desk.ask_in_vain(*party).rule == exists
    product = ("product", "publish", "on-duty", "--grant", "grant-paid", "--title", "另一个", "--as", OPERATOR)
    assert desk.ask_in_vain(*product, "--attribute", "staff.active").rule == exists


def test_a_party_needs_a_valid_code_and_id(desk: Desk) -> None:
    line = ("party", "add", "op-new", "--name", "甲", "--role", "operator", "--credit-code")
    assert desk.ask_in_vain(*line, "91590100MA31A18J73").rule == (3, "party.credit-code", "12")
    line = ("party", "add", "Op New", "--name", "甲", "--role", "operator", "--credit-code", "91590100MA31A18J72")
    assert desk.ask_in_vain(*line).rule == (3, "party.id", "-")
    line = ("party", "add", "op-new", "--name", "甲", "--role", "operator", "--credit-code", "91590100MA31A18J72")
    assert desk.ask_in_vain(*line).rule == (3, "party.code-taken", "49")


def test_only_a_trusted_officer_signs(desk: Desk, tmp_path: Path) -> None:
    KeyFile.create(tmp_path / "foreign.key")
    foreign = ("--officer-key", str(tmp_path / "foreign.key"))
    invalid = (3, "signature.invalid", "-")
    assert desk.ask_in_vain("grant", "sign", "grant-draft", *foreign).rule == invalid
    entry = ("dataset", "import", str(desk.folder / "staff.csv"), "--catalogue", str(desk.folder / "staff.toml"))
    assert desk.ask_in_vain(*entry, *foreign).rule == invalid
    control = ("--officer-key", str(desk.home.control_key))
    assert desk.ask_in_vain("grant", "sign", "grant-draft", *control).rule == invalid
    assert desk.ask_in_vain("grant", "sign", "grant-free").rule == (3, "lifecycle.illegal", "-")
    assert desk.ask_in_vain("grant", "sign", "grant-revoked").rule == (3, "lifecycle.illegal", "-")
    assert desk.ask_in_vain("grant", "sign", "nothing").rule == (3, "record.unknown", "-")


def test_a_key_file_must_be_the_officers_alone(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "officer.key"
    path.write_bytes(desk.home.officer_key.read_bytes())
    path.chmod(0o644)
    line = ("grant", "sign", "grant-draft", "--officer-key")
    assert desk.ask_in_vain(*line, str(path)).fault == (4, "key.permissions")
    path.chmod(0o600)
    path.write_bytes(b"no key")
    assert desk.ask_in_vain(*line, str(path)).fault == (4, "key.unreadable")
    assert desk.ask_in_vain(*line, str(tmp_path / "nothing")).fault == (4, "key.unreadable")
    assert desk.ask_in_vain(*line, str(tmp_path)).fault[0] == 4


def _sql(sql: str = COUNT_SQL, grant: str = "grant-free", epsilon: str = "0.1", delta: str = "1e-6") -> tuple[str, ...]:
    return ("sql", sql, "--grant", grant, "--epsilon", epsilon, "--delta", delta, "--as", OPERATOR)


QUERIES: dict[str, tuple[tuple[str, ...], Refusal]] = {
    "no bounds": (_sql("SELECT SUM(hours) AS h FROM staff"), (3, "dataset.bound-missing", "35")),
    "no contribution bound": (_sql("SELECT COUNT(*) AS n FROM visits"), (3, "dataset.unit-bound-missing", "35")),
    "an unknown column": (_sql("SELECT SUM(salary) AS s FROM staff"), (3, "sql.column", "-")),
    "a withheld column": (
        _sql("SELECT illness, COUNT(*) AS n FROM staff GROUP BY illness"),
        (3, "grant.column", "28"),
    ),
    "an ungranted dataset": (_sql("SELECT COUNT(*) AS n FROM cities"), (3, "grant.dataset", "28")),
    "rows": (_sql("SELECT * FROM staff"), (3, "sql.star", "-")),
    "no SQL": (_sql("SELECT FROM GROUP (("), (3, "sql.syntax", "-")),
    "another statement": (_sql("DROP TABLE staff"), (3, "sql.statement", "-")),
    "a grant of another operator": (_sql(grant="grant-other"), (3, "access.foreign", "28")),
    "a revoked grant": (_sql(grant="grant-revoked"), (3, "grant.not-signed", "28")),
    "an unsigned grant": (_sql(grant="grant-draft"), (3, "grant.not-signed", "28")),
    "an expired grant": (_sql(grant="grant-expired"), (3, "grant.expired", "28")),
    "a grant of tomorrow": (_sql(grant="grant-later"), (3, "grant.not-yet", "28")),
    "an unknown grant": (_sql(grant="nothing"), (3, "record.unknown", "-")),
    "above the cap": (_sql(epsilon="4.1"), (3, "budget.cap", "35")),
    "above the cap of δ": (_sql(delta="2e-5"), (3, "budget.cap", "35")),
}


@pytest.mark.parametrize("what", QUERIES)
def test_a_query_that_the_rules_refuse(desk: Desk, what: str) -> None:
    line, refusal = QUERIES[what]
    assert desk.ask_in_vain("submit", *line, allowed=AUDIT).rule == refusal
    assert desk.ask_in_vain("quote", *line[1:]).rule == refusal


@pytest.mark.parametrize("epsilon", ["-1", "0", "-0.0", "NaN", "sNaN", "Infinity", "-inf", "101", "1e999999", "", "x"])
def test_a_budget_that_is_no_budget(desk: Desk, epsilon: str) -> None:
    malformed = (3, "budget.malformed", "-")
    line = ("submit", "sql", COUNT_SQL, "--grant", "grant-free", "--as", OPERATOR)
    assert desk.ask_in_vain(*line, f"--epsilon={epsilon}").rule == malformed
    assert desk.ask_in_vain(*line, f"--delta={epsilon}").rule == malformed


@pytest.mark.parametrize("sql", ["", "x" * 20_001])
def test_a_text_that_is_no_query(desk: Desk, sql: str) -> None:
    assert "SQL text" in desk.ask_in_vain("submit", *_sql(sql)).usage


# What the enclave refuses when the ticket has gone out leaves a receipt, which costs nothing.
RECEIPT = AUDIT | {
    "control.submissions", "control.tickets", "control.receipts", "control.meter_events", "ledger.tickets",
    "ledger.receipts",
}  # fmt: skip


def test_a_spent_grant_is_refused_by_a_receipt_that_costs_nothing(desk: Desk) -> None:
    answer = desk.ask_in_vain("submit", *_sql(grant="grant-small", epsilon="1"), allowed=RECEIPT)
    assert answer.rule == (3, "grant.budget", "28")
    assert answer.document["receipt"]["losses"] == []
    assert answer.document["submission"]["status"] == "refused"
    desk.done("submit", *_sql(grant="grant-once"))
    answer = desk.ask_in_vain("submit", *_sql(grant="grant-once"), allowed=RECEIPT)
    assert answer.rule == (3, "grant.uses", "28")
    again = desk.ask_in_vain("release", "get", answer.document["submission"]["submission_id"])
    assert again.document == answer.document


def test_the_refusal_of_a_receipt_is_told_to_people_too(desk: Desk) -> None:
    told = call_main("--home", str(desk.home.folder), "submit", *_sql(grant="grant-small", epsilon="1"))
    assert told.code == 3
    assert "grant.budget" in told.out
    assert "art. 28" in told.out
    assert "rcpt-" in told.out


def _model(path: str, grant: str = "grant-paid") -> tuple[str, ...]:
    line = ("submit", "model", "SELECT pay FROM staff", "--grant", grant, "--model", path, "--output", "score")
    return (*line, "--as", OPERATOR)


def test_a_model_that_is_no_model(desk: Desk) -> None:
    assert desk.ask_in_vain(*_model(str(desk.folder / "nothing.onnx"))).fault == (4, "file.unreadable")
    assert desk.ask_in_vain(*_model(str(desk.folder))).fault == (4, "file.unreadable")
    path = desk.file("model.onnx", identity())
    assert desk.ask_in_vain(*_model(path, "grant-free"), allowed=AUDIT).rule == (3, "grant.mode", "28")
    waiting = desk.ask(*_model(desk.file("bad.onnx", b"no model")))
    number = waiting.document[0]["submission_id"]
    answer = desk.ask_in_vain(
        "review", "approve", number, "--ground", "在用途之内", allowed=RECEIPT | {"control.reviews"}
    )
    assert answer.rule == (3, "model.malformed", "-")
    assert answer.document["receipt"]["losses"] == []


def _verify(product: str = "on-duty", claim: str = "true", actor: str = BANK) -> tuple[str, ...]:
    return ("submit", "verify", "--product", product, "--claim", claim, "--as", actor)


SUBJECTS: dict[str, tuple[tuple[str, ...], str | bytes, Refusal]] = {
    "an unknown product": (_verify("nothing"), f"{CANARY}-1", (3, "record.unknown", "-")),
    "no consent": (_verify(), f"{CANARY}-1", (3, "consent.missing", "43")),
    "a caller outside the scenario": (_verify(actor="biz-insurer"), f"{CANARY}-1", (3, "scenario.recipient", "35")),
    "the bureau as caller": (_verify(actor="bureau"), f"{CANARY}-1", (3, "access.caller-only", "35")),
    "no subject": (_verify(), "", (3, "subject.malformed", "-")),
    "blanks": (_verify(), "  \n", (3, "subject.malformed", "-")),
    "a long subject": (_verify(), CANARY * 20, (3, "subject.malformed", "-")),
    "a subject in another encoding": (_verify(), CANARY.encode() + b"\xff\xfe", (3, "subject.malformed", "-")),
    "a control character": (_verify(), f"{CANARY}\x1b[2J", (3, "subject.malformed", "-")),
    "a long claim": (_verify(claim="x" * 201), f"{CANARY}-1", (3, "verification.claim-length", "-")),
}


@pytest.mark.parametrize("what", SUBJECTS)
def test_a_verification_that_the_rules_refuse(desk: Desk, what: str) -> None:
    line, stdin, refusal = SUBJECTS[what]
    assert desk.ask_in_vain(*line, stdin=stdin, allowed=AUDIT).rule == refusal


def test_a_consent_counts_until_it_is_withdrawn(desk: Desk) -> None:
    subject = f"{CANARY}-2"
    add = ("consent", "add", "--product", "on-duty", "--business", BANK, "--until")
    assert desk.ask_in_vain(*add, "2020-01-01", stdin=subject).rule == (3, "consent.expired", "43")
    assert desk.ask_in_vain(*add, "2099-01-01", stdin=b"\xff").rule == (3, "subject.malformed", "-")
    assert desk.ask_in_vain("consent", "withdraw", "nothing").rule == (3, "record.unknown", "-")
    number = desk.ask(*add, "2099-01-01", stdin=subject).document["consent_id"]
    desk.done(*_verify(), stdin=subject)
    no_truth_value = desk.ask_in_vain(*_verify(claim="perhaps"), stdin=subject, allowed=RECEIPT)
    assert no_truth_value.rule == (3, "verification.claim", "-")
    desk.done("consent", "withdraw", number)
    assert desk.ask_in_vain(*_verify(), stdin=subject, allowed=AUDIT).rule == (3, "consent.missing", "43")


def test_who_acts_must_be_somebody(desk: Desk) -> None:
    assert desk.ask_in_vain("party", "list", "--as", "nobody").rule == (3, "record.unknown", "-")
    assert desk.ask_in_vain("party", "list", "--person", "a/b").rule == (3, "actor.person", "44")
    assert desk.ask_in_vain("party", "suspend", "bureau", "--ground", "x").rule == (3, "party.own-status", "-")
    assert desk.ask_in_vain("party", "suspend", BANK, "--ground", " ").rule == (3, "ground.missing", "-")


@pytest.mark.parametrize("month", ["2026-13", "november", "2026-1", ""])
def test_a_month_that_is_no_month(desk: Desk, month: str) -> None:
    assert desk.ask_in_vain("invoice", BANK, "--month", month).rule == (3, "month.malformed", "-")
    assert desk.ask_in_vain("meter", "--month", month).rule == (3, "month.malformed", "-")


def test_a_release_is_written_whole_or_not_at_all(desk: Desk, tmp_path: Path) -> None:
    released = desk.ask("submit", *_sql())
    get = ("release", "get", released.document["submission"]["submission_id"], "--out")
    for place in (tmp_path, tmp_path / "nowhere" / "x.json", desk.folder / "staff.csv" / "x.json"):
        assert desk.ask_in_vain(*get, str(place)).fault == (4, "file.unwritable")
    assert list(tmp_path.iterdir()) == []
