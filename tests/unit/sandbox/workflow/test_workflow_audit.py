"""Both logs against each other: an administrator of either side who changes something is seen from the other."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.grant import Purpose
from enclave_runner.contract.merkle import Frontier
from enclave_runner.contract.receipt import PURPOSE, Receipt
from enclave_runner.contract.signing import KeyFile, seal
from enclave_runner.contract.wire import AskLog
from sandbox.domain.party import PartyStatus
from sandbox.domain.submission import SubmissionStatus
from sandbox.store import audit_log, submissions
from sandbox.store.audit_log import AuditVerdict
from sandbox.store.database import open_engine, reading, sqlite_url, writing
from sandbox.store.schema import LEDGERS
from sandbox.store.submissions import SUBMISSIONS, Filing
from sandbox.workflow.audit import AuditReport, verify_audit, verify_copy
from sandbox.workflow.dispatch import dispatch
from sandbox.workflow.invoices import issue_invoice
from sandbox.workflow.parties import set_party_status
from sandbox.workflow.submit import submit
from tests.support.bureau import COUNT, FREE, OPERATOR, OTHER, PAID, Bureau, LostConnection, with_door
from tests.support.refusals import failed_at, refused_by


@pytest.fixture
def used(bureau: Bureau) -> Bureau:
    """Three settled jobs and an invoice."""
    for grant_id in (FREE, PAID, PAID):
        submission = submit(bureau.office, bureau.actor(OPERATOR), grant_id, COUNT)
        dispatch(bureau.office, submission.submission_id)
    issue_invoice(bureau.after_the_month(), bureau.actor(), OPERATOR, "2026-11")
    return bureau


def edit(path: Path, *statements: str) -> None:
    """Change rows behind the control plane's back, triggers dropped."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for table in LEDGERS:
            for verb in ("update", "delete"):
                connection.execute(f"DROP TRIGGER IF EXISTS {table}_no_{verb}")
        for statement in statements:
            connection.execute(statement)


def failing(report: AuditReport) -> list[str]:
    assert report.ok == all(check.ok for check in report.checks)
    return [check.name for check in report.checks if not check.ok]


def test_an_honest_deployment_verifies(used: Bureau) -> None:
    report = verify_audit(used.office)
    assert report.ok
    assert {name: entries for name, entries, verdict in report.rows() if verdict == "ok"} == {
        "audit log": report.checks[0].entries,
        "receipt log": 3,
        "receipts stored": 3,
        "restores": 0,
        "repeats": 0,
        "cross-checkpoints": 3,
        "parties": 6,
        "meter events": 3,
        "egress reviews": 0,
        "calls": 0,
        "releases": 3,
        "invoices": 1,
    }


def test_a_job_that_waits_to_be_settled_is_no_finding(used: Bureau) -> None:
    submission = submit(used.office, used.actor(OPERATOR), FREE, COUNT)
    with failed_at("enclave.lost"):
        dispatch(with_door(used.office, LostConnection(used.enclave, after=True)), submission.submission_id)
    assert verify_audit(used.office).ok


def test_who_may_ask(used: Bureau) -> None:
    assert verify_audit(used.office, used.actor()).ok
    with refused_by("access.bureau-only"):
        verify_audit(used.office, used.actor(OPERATOR))


CUT_TAIL = (
    "DELETE FROM audit_entries WHERE number >= 12",
    "DELETE FROM audit_checkpoints WHERE size > 12",
)


@pytest.mark.parametrize(
    ("statements", "findings"),
    [
        (CUT_TAIL, ["audit log"]),
        (("UPDATE audit_entries SET doc = replace(doc, 'grant.sign', 'grant.sigN')",), ["audit log"]),
        (("DELETE FROM releases",), ["releases"]),
        (("UPDATE releases SET content = CAST(replace(CAST(content AS TEXT), '42', '43') AS BLOB)",), ["releases"]),
        (("DELETE FROM invoice_lines", "DELETE FROM invoices"), ["invoices"]),
        (("UPDATE meter_events SET doc = replace(doc, '20000', '10000')",), ["meter events"]),
        (
            ("DELETE FROM invoice_lines", "DELETE FROM invoices", "DELETE FROM meter_events"),
            ["meter events", "invoices"],
        ),
        (("UPDATE invoices SET doc = replace(doc, '20000', '10000')",), ["invoices"]),
        (("DELETE FROM invoice_lines WHERE amount_fen = 0",), ["invoices"]),
    ],
)
def test_what_an_administrator_changed_here_is_found(
    used: Bureau, statements: tuple[str, ...], findings: list[str]
) -> None:
    casted = [statement.replace("replace(doc,", "replace(CAST(doc AS TEXT),") for statement in statements]
    edit(used.office.home.control_db, *(_as_blob(statement) for statement in casted))
    assert failing(verify_audit(used.office)) == findings


def _as_blob(statement: str) -> str:
    """An edited document stays a blob."""
    head, found, tail = statement.partition("SET doc = ")
    if not found:
        return statement
    value, where, condition = tail.partition(" WHERE ")
    return f"{head}{found}CAST({value} AS BLOB){where}{condition}"


def test_a_receipt_lost_here_is_found(used: Bureau) -> None:
    with closing(sqlite3.connect(used.office.home.control_db)) as connection:
        (receipt_id,) = connection.execute("SELECT receipt_id FROM receipts ORDER BY sequence DESC LIMIT 1").fetchone()
    edit(
        used.office.home.control_db,
        f"DELETE FROM invoice_lines WHERE receipt_id = '{receipt_id}'",
        f"DELETE FROM meter_events WHERE receipt_id = '{receipt_id}'",
        f"DELETE FROM releases WHERE receipt_id = '{receipt_id}'",
        f"DELETE FROM receipts WHERE receipt_id = '{receipt_id}'",
    )
    assert failing(verify_audit(used.office)) == ["receipts stored", "meter events", "invoices"]


def test_an_enclave_that_drops_its_last_receipt_is_found(used: Bureau) -> None:
    log = used.enclave._log
    log.pop()
    used.enclave._frontier = Frontier()
    for signed in log:
        used.enclave._frontier = used.enclave._frontier.append(encode(signed))
    assert failing(verify_audit(used.office)) == ["receipts stored"]


def test_an_enclave_that_writes_its_log_anew_is_found(used: Bureau) -> None:
    log = used.enclave._log
    log[0], log[1] = log[1], log[0]
    assert "receipt log" in failing(verify_audit(used.office))


def test_an_enclave_whose_checkpoint_does_not_fit_is_found(used: Bureau) -> None:
    used.enclave._frontier = used.enclave._frontier.append(b"hidden")
    assert failing(verify_audit(used.office)) == ["receipt log"]


def test_another_enclave_is_found(used: Bureau, tmp_path_factory: pytest.TempPathFactory) -> None:
    used.enclave.key = KeyFile.create(tmp_path_factory.mktemp("keys") / "receipt.key")
    assert "receipt log" in failing(verify_audit(used.office))


def test_a_rewritten_cross_checkpoint_is_found(used: Bureau) -> None:
    """An enclave that re-signs an earlier receipt after the audit log has seen the old root."""
    old = decode(used.enclave._log[0].payload, Receipt)
    fields = {name: getattr(old, name) for name in old.__struct_fields__} | {"facts": {"x": "y"}}
    resigned = seal(Receipt(**fields), PURPOSE, used.enclave.key)
    used.enclave._log[0] = resigned
    used.enclave._frontier = Frontier()
    for signed in used.enclave._log:
        used.enclave._frontier = used.enclave._frontier.append(encode(signed))
    assert failing(verify_audit(used.office)) == ["receipts stored", "cross-checkpoints"]


BESIDE_DOC = {"audit_entries": "leaf_hash", "audit_checkpoints": "note", "releases": "content"}
# Tables whose content verification reads, and how many of their bytes the test below changes, one after the other.
READ_BY_VERIFICATION = {
    "audit_entries": 24,
    "audit_checkpoints": 12,
    "receipts": 24,
    "releases": 12,
    "meter_events": 24,
    "invoices": 12,
    "submissions": 24,
    "parties": 12,
}


def flip(path: Path, table: str, number: int, place: float, byte: int) -> int:
    """Change one byte in one row, or change it back; which row of the table it is in."""
    column = BESIDE_DOC.get(table, "doc")
    with closing(sqlite3.connect(path)) as connection, connection:
        rows = connection.execute(f"SELECT rowid, {column} FROM {table} ORDER BY rowid").fetchall()
        index = number % len(rows)
        rowid, value = rows[index]
        changed = bytearray(value)
        changed[int(place * len(changed))] ^= byte
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (bytes(changed), rowid))
    return index


@pytest.mark.parametrize("table", READ_BY_VERIFICATION)
def test_one_byte_changed_anywhere_never_keeps_the_report_from_being_made(used: Bureau, table: str) -> None:
    path, wrong = used.office.home.control_db, 0
    edit(path)
    times = READ_BY_VERIFICATION[table]
    for number in range(times):
        place, byte = (number * 7 % times) / times, (0x01, 0x80, 0x20)[number % 3]
        index = flip(path, table, number, place, byte)
        report = verify_audit(used.office)
        wrong += not report.ok
        if table in ("audit_entries", "audit_checkpoints"):
            assert not report.ok
            assert report.checks[0].problem is not None
            assert report.checks[0].problem.startswith(f"entry {index}: ")
            assert failing(report) == ["audit log"]
        flip(path, table, number, place, byte)
    assert wrong == times
    assert verify_audit(used.office).ok


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("UPDATE meter_events SET doc = x'7B7D'", "meter events"),
        ("UPDATE meter_events SET doc = 'text'", "meter events"),
        ("UPDATE invoices SET doc = 7", "invoices"),
        ("UPDATE receipts SET doc = x'FF' WHERE sequence = 1", "receipts stored"),
        ("UPDATE submissions SET doc = x'7B7D'", "meter events"),
        ("DROP TABLE invoice_lines", "invoices"),
    ],
)
def test_what_cannot_be_read_is_a_finding_of_the_check_that_needed_it(
    used: Bureau, statement: str, finding: str
) -> None:
    edit(used.office.home.control_db, statement)
    report = verify_audit(used.office)
    assert finding in failing(report)
    assert "audit log" not in failing(report)
    assert [check.name for check in report.checks] == [check.name for check in verify_audit(used.office).checks]


def swapped(table: str, column: str, name: str, before: str, after: str) -> str:
    """A statement that rewrites one field, in the document and in the column that is looked up."""
    doc = f'CAST(replace(CAST(doc AS TEXT), \'"{name}":"{before}"\', \'"{name}":"{after}"\') AS BLOB)'
    return f"UPDATE {table} SET doc = {doc}, {column} = '{after}' WHERE {column} = '{before}'"


REWRITTEN_SUBMISSION = swapped("submissions", "requester_id", "requester_id", OPERATOR, OTHER)
REWRITTEN_PAYER = swapped("meter_events", "payer_id", "payer_id", OPERATOR, OTHER)


@pytest.mark.parametrize(
    "statements",
    [
        (REWRITTEN_SUBMISSION, REWRITTEN_PAYER),
        (REWRITTEN_SUBMISSION,),
        (f"UPDATE meter_events SET payer_id = '{OTHER}'",),
        (f"UPDATE submissions SET requester_id = '{OTHER}'",),
        ("UPDATE meter_events SET units = 0",),
        ("UPDATE submissions SET doc = CAST(CAST(doc AS TEXT) || ' ' AS BLOB)",),
    ],
)
def test_nobody_else_is_made_to_pay(bureau: Bureau, statements: tuple[str, ...]) -> None:
    """Before there is any invoice, nothing but the filing in the audit log says who asked."""
    dispatch(bureau.office, submit(bureau.office, bureau.actor(OPERATOR), PAID, COUNT).submission_id)
    assert verify_audit(bureau.office).ok
    edit(bureau.office.home.control_db, *statements)
    assert failing(verify_audit(bureau.office)) == ["meter events"]


def test_the_filing_of_a_submission_says_who_asked_and_for_what(bureau: Bureau) -> None:
    submission = submit(bureau.office, bureau.actor(OPERATOR), PAID, COUNT)
    with reading(bureau.office.engine) as connection:
        filed = audit_log.entries(connection)[-1]
    assert (filed.act, filed.target) == ("submission.file", submission.submission_id)
    assert filed.facts["requester"] == OPERATOR
    assert filed.facts["submission_sha256"] == submission.fixed_sha256
    assert dispatch(bureau.office, submission.submission_id).submission.fixed_sha256 == submission.fixed_sha256
    for change in ({"requester_id": OTHER}, {"purpose": Purpose.GOVERNANCE}, {"columns": ("amount",)}):
        assert replace(submission, **change).fixed_sha256 != submission.fixed_sha256  # type: ignore[arg-type]


def test_a_submission_that_nobody_filed_is_found(used: Bureau) -> None:
    with writing(used.office.engine) as connection:
        made_up = SUBMISSIONS.listed(connection)[0]
        made_up = replace(made_up, submission_id="sub-made-up", status=SubmissionStatus.REFUSED)
        submissions.add(connection, Filing(made_up, "insurance", f"{OPERATOR}/clerk", 0))
    assert failing(verify_audit(used.office)) == ["meter events"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE parties SET doc = x'FF'",
        swapped("parties", "status", "status", "active", "suspended"),
        "UPDATE parties SET status = 'suspended'",
        f"UPDATE parties SET doc = CAST(replace(CAST(doc AS TEXT), '{OTHER} 公司', '{OTHER} 公社') AS BLOB)",
    ],
)
def test_a_changed_party_is_a_finding_and_keeps_nobody_from_the_others(used: Bureau, statement: str) -> None:
    edit(used.office.home.control_db, statement)
    assert failing(verify_audit(used.office)) == ["parties"]


def test_a_party_that_was_suspended_and_restored_verifies(used: Bureau) -> None:
    for status in (PartyStatus.SUSPENDED, PartyStatus.ACTIVE, PartyStatus.SUSPENDED, PartyStatus.TERMINATED):
        set_party_status(used.office, used.actor(), OTHER, status, "整改")
        assert verify_audit(used.office).ok
    edit(used.office.home.control_db, swapped("parties", "status", "status", "terminated", "active"))
    assert failing(verify_audit(used.office)) == ["parties"]


def test_nothing_is_concluded_from_what_follows_a_bad_entry(used: Bureau) -> None:
    path = used.office.home.control_db
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT number, doc FROM audit_entries ORDER BY number").fetchall()
    number, doc = next((number, doc) for number, doc in rows if b'"act":"receipt.settle"' in doc)
    edit(
        path, f"UPDATE audit_entries SET doc = x'{doc.replace(b'log_root', b'log_rooT').hex()}' WHERE number = {number}"
    )
    report = verify_audit(used.office)
    assert failing(report) == ["audit log"]
    assert {check.name: check.entries for check in report.checks}["cross-checkpoints"] == 0


def test_an_unreadable_database_gives_a_report(used: Bureau) -> None:
    used.office.engine.dispose()
    for path in used.office.home.bureau.glob("control.db*"):
        path.write_bytes(b"no database at all" * 400)
    assert failing(verify_audit(used.office)) == ["ledgers"]


def test_a_broken_schema_gives_a_report(used: Bureau, tmp_path: Path) -> None:
    copy = copy_of(used, tmp_path)
    content = bytearray(copy.read_bytes())
    content[content.index(b"CREATE TABLE meter_events") + 8] ^= 0x80
    copy.write_bytes(bytes(content))
    engine = open_engine(sqlite_url(copy))
    assert failing(verify_audit(replace(used.office, engine=engine))) == ["ledgers"]
    engine.dispose()
    assert not verify_copy(copy, used.office.home.trust).ok


def test_a_bad_entry_is_located_in_a_copy_whose_receipts_cannot_be_read(used: Bureau, tmp_path: Path) -> None:
    copy = copy_of(used, tmp_path)
    edit(copy, "UPDATE receipts SET doc = x'FF'")
    assert not verify_copy(copy, used.office.home.trust).ok
    edit(copy, "UPDATE audit_entries SET leaf_hash = x'00' WHERE number = 5")
    verdict = verify_copy(copy, used.office.home.trust)
    assert (verdict.ok, verdict.first_bad_index) == (False, 5)


def copy_of(bureau: Bureau, folder: Path) -> Path:
    """A consistent copy, as a backup makes it."""
    target = folder / "copy.db"
    with closing(sqlite3.connect(bureau.office.home.control_db)) as source, closing(sqlite3.connect(target)) as sink:
        source.backup(sink)
        sink.execute("PRAGMA journal_mode = DELETE")
    return target


def test_a_copy_verifies_offline(used: Bureau, tmp_path: Path) -> None:
    copy, trust = copy_of(used, tmp_path), tmp_path / "trust.json"
    shutil.copy(used.office.home.trust, trust)
    content = copy.read_bytes()
    verdict = verify_copy(copy, trust)
    assert verdict == AuditVerdict(True, verify_audit(used.office).checks[0].entries)
    assert copy.read_bytes() == content


@pytest.mark.parametrize("act", ["party.register", "grant.sign", "receipt.settle"])
def test_one_byte_changed_in_a_copy_is_located(used: Bureau, tmp_path: Path, act: str) -> None:
    copy = copy_of(used, tmp_path)
    content = bytearray(copy.read_bytes())
    with closing(sqlite3.connect(copy)) as connection:
        rows = connection.execute("SELECT number, doc FROM audit_entries ORDER BY number").fetchall()
    index, doc = next((number, doc) for number, doc in rows if f'"act":"{act}"'.encode() in doc)
    place = bytes(content).find(doc)
    assert place >= 0
    content[place + 9] ^= 0x01
    copy.write_bytes(bytes(content))
    verdict = verify_copy(copy, used.office.home.trust)
    assert (verdict.ok, verdict.first_bad_index) == (False, index)


def test_a_cut_tail_in_a_copy_is_seen_from_the_receipts_in_it(used: Bureau, tmp_path: Path) -> None:
    copy = copy_of(used, tmp_path)
    edit(copy, *CUT_TAIL)
    verdict = verify_copy(copy, used.office.home.trust)
    assert (verdict.ok, verdict.first_bad_index) == (False, 12)


def test_a_forged_receipt_in_a_copy_is_seen(used: Bureau, tmp_path: Path) -> None:
    copy = copy_of(used, tmp_path)
    edit(copy, "UPDATE receipts SET doc = CAST(replace(CAST(doc AS TEXT), 'A', 'B') AS BLOB) WHERE sequence = 0")
    assert not verify_copy(copy, used.office.home.trust).ok


def test_what_is_no_database_does_not_verify(used: Bureau, tmp_path: Path) -> None:
    (tmp_path / "noise.db").write_bytes(b"no database at all" * 400)
    assert not verify_copy(tmp_path / "noise.db", used.office.home.trust).ok
    with failed_at("file.unreadable"):
        verify_copy(tmp_path / "nothing.db", used.office.home.trust)
    with failed_at("file.unreadable"):
        verify_copy(tmp_path / "noise.db", tmp_path / "nothing.json")


def test_a_long_log_is_fetched_page_by_page(used: Bureau, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.workflow.audit.PAGE", 2)
    asked: list[int] = []
    call = used.enclave.call

    def paged(request: object, descriptor: int | None = None) -> object:
        reply = call(request, descriptor)  # type: ignore[arg-type]
        if isinstance(request, AskLog):
            asked.append(request.since)
            return type(reply)(receipts=reply.receipts[:2], checkpoint=reply.checkpoint)  # type: ignore[union-attr]
        return reply

    monkeypatch.setattr(used.enclave, "call", paged)
    assert verify_audit(used.office).ok
    assert asked == [0, 2]
