from __future__ import annotations

import pytest
from sqlalchemy import delete, text, update

from enclave_runner.contract.codec import digest, encode
from enclave_runner.contract.privacy import Budget
from enclave_runner.contract.script import ScriptJob, ScriptOutput
from sandbox.domain.submission import Submission, SubmissionStatus, Verdict
from sandbox.store import schema
from sandbox.store.database import reading, writing
from sandbox.store.meter_events import EVENTS
from sandbox.store.submissions import SUBMISSIONS
from sandbox.workflow.audit import verify_audit
from sandbox.workflow.dispatch import dispatch
from sandbox.workflow.egress import list_egress_reviews, review_egress
from sandbox.workflow.invoices import draft_invoice, issue_invoice
from sandbox.workflow.meter import list_events
from sandbox.workflow.recover import recover
from sandbox.workflow.releases import get_release, get_submission
from sandbox.workflow.review import review
from sandbox.workflow.scripts import keep_script, read_script, show_script
from sandbox.workflow.submit import artefact_path, submit
from tests.support.bureau import OPERATOR, OTHER, PAID, Bureau
from tests.support.refusals import refused_by

SCRIPT = b"def main(data):\n    return data['amount'].mean()\n"


def script_job(content: bytes = SCRIPT) -> ScriptJob:
    return ScriptJob(
        sql="SELECT amount FROM insurance",
        budget=Budget(epsilon="1"),
        script_sha256=digest(content),
        outputs=(ScriptOutput(name="amount", low="0", high="100"),),
    )


@pytest.fixture
def candidate(bureau: Bureau) -> Submission:
    """A script that was read, approved and run; nobody has let its result go."""
    office = bureau.office
    filed = submit(office, bureau.actor(OPERATOR), PAID, script_job(), SCRIPT)
    assert filed.status is SubmissionStatus.IN_REVIEW
    review(office, bureau.actor("bureau", "reader"), filed.submission_id, Verdict.APPROVE, "读过脚本")
    return dispatch(office, filed.submission_id).submission


def judge(
    bureau: Bureau, submission: Submission, verdict: Verdict, person: str = "judge", ground: str = "无"
) -> Submission:
    return review_egress(bureau.office, bureau.actor("bureau", person), submission.submission_id, verdict, ground)


def test_what_a_script_gave_is_seen_by_reviewers_only(bureau: Bureau, candidate: Submission) -> None:
    assert candidate.status is SubmissionStatus.EGRESS_REVIEW
    office, submission_id = bureau.office, candidate.submission_id
    seen = get_release(office, bureau.actor("bureau", "judge"), submission_id)
    assert seen.release is not None
    assert seen.receipt.input_sha256 == digest(SCRIPT)
    assert get_submission(office, bureau.actor(OPERATOR), submission_id).status is SubmissionStatus.EGRESS_REVIEW
    with refused_by("submission.unsettled", status="egress-review"):
        get_release(office, bureau.actor(OPERATOR), submission_id)
    with refused_by("access.bureau-only"):
        list_egress_reviews(office, bureau.actor(OPERATOR), submission_id)
    with refused_by("access.bureau-only"):
        review_egress(office, bureau.actor(OPERATOR), submission_id, Verdict.APPROVE, "自批")
    assert list_events(office, bureau.actor(OPERATOR)) == ()
    assert verify_audit(office).ok


def test_an_approval_releases_and_the_use_is_paid(bureau: Bureau, candidate: Submission) -> None:
    assert judge(bureau, candidate, Verdict.APPROVE).status is SubmissionStatus.RELEASED
    outcome = get_release(bureau.office, bureau.actor(OPERATOR), candidate.submission_id)
    assert outcome.release_bytes is not None
    assert digest(outcome.release_bytes) == outcome.receipt.release_sha256
    later = bureau.after_the_month()
    invoice = issue_invoice(later, bureau.actor(), OPERATOR, "2026-11")
    assert [(line.receipt_id, line.amount_fen) for line in invoice.lines] == [(outcome.receipt.receipt_id, 80000)]
    assert verify_audit(later).ok
    with refused_by("egress.closed", status="released"):
        judge(bureau, candidate, Verdict.REJECT, "late")


def test_a_rejection_withholds_for_good_unpaid_and_the_loss_stays(bureau: Bureau, candidate: Submission) -> None:
    spent = bureau.enclave.spent("resident")
    assert judge(bureau, candidate, Verdict.REJECT, ground="范围过窄").status is SubmissionStatus.WITHHELD
    office = bureau.office
    with refused_by("egress.withheld", ground="范围过窄"):
        get_release(office, bureau.actor(OPERATOR), candidate.submission_id)
    (event,) = list_events(office, bureau.actor(OPERATOR))
    assert (event.units, event.amount_fen) == (0, 0)
    later = bureau.after_the_month()
    with refused_by("invoice.empty"):
        issue_invoice(later, bureau.actor(), OPERATOR, "2026-11")
    assert draft_invoice(later, bureau.actor(), OPERATOR, "2026-11").free_uses == 0
    assert bureau.enclave.spent("resident") == spent > 0
    with refused_by("egress.closed", status="withheld"):
        judge(bureau, candidate, Verdict.APPROVE, "second")
    assert verify_audit(office).ok


def test_a_withheld_answer_given_again_is_judged_again(bureau: Bureau, candidate: Submission) -> None:
    """The enclave answers the same question at no loss; that is no way around a reviewer."""
    bureau.enclave.repeats = True
    judge(bureau, candidate, Verdict.REJECT)
    office = bureau.office
    again = submit(office, bureau.actor(OPERATOR), PAID, script_job(), SCRIPT)
    review(office, bureau.actor("bureau", "reader"), again.submission_id, Verdict.APPROVE, "同上")
    assert dispatch(office, again.submission_id).submission.status is SubmissionStatus.EGRESS_REVIEW
    with refused_by("submission.unsettled"):
        get_release(office, bureau.actor(OPERATOR), again.submission_id)


def test_four_eyes_hold_for_what_leaves(bureau: Bureau, candidate: Submission) -> None:
    for ground in ("", " "):
        with refused_by("ground.missing"):
            judge(bureau, candidate, Verdict.APPROVE, ground=ground)
    with refused_by("record.unknown"):
        review_egress(bureau.office, bureau.actor(), "nothing", Verdict.APPROVE, "x")


def test_results_from_columns_of_grade_three_need_two(bureau: Bureau) -> None:
    assert bureau.office.egress_approvals[script_job().mode] == (1, 1, 2, 2)


def test_a_verdict_before_the_run_is_none_on_the_result(bureau: Bureau) -> None:
    filed = submit(bureau.office, bureau.actor(OPERATOR), PAID, script_job(), SCRIPT)
    with refused_by("egress.closed", status="in-review"):
        judge(bureau, filed, Verdict.APPROVE)


def test_a_crash_before_settling_ends_in_egress_review_too(bureau: Bureau) -> None:
    filed = submit(bureau.office, bureau.actor(OPERATOR), PAID, script_job(), SCRIPT)
    review(bureau.office, bureau.actor("bureau", "reader"), filed.submission_id, Verdict.APPROVE, "读过")
    (outcome,) = recover(bureau.office)
    assert outcome.submission.status is SubmissionStatus.EGRESS_REVIEW


@pytest.mark.parametrize("status", [SubmissionStatus.RELEASED, SubmissionStatus.WITHHELD])
def test_an_edited_state_is_found(bureau: Bureau, candidate: Submission, status: SubmissionStatus) -> None:
    """Whoever holds the database cannot release, nor make a use free, without the audit log saying so."""
    with writing(bureau.office.engine) as connection:
        doc = encode(candidate).replace(b'"egress-review"', f'"{status.value}"'.encode())
        values = {"doc": doc, "status": status.value}
        connection.execute(
            update(schema.submissions)
            .where(schema.submissions.c.submission_id == candidate.submission_id)
            .values(values)
        )
    names = [check.name for check in verify_audit(bureau.office).checks if not check.ok]
    assert "egress reviews" in names


def test_a_forged_verdict_is_found(bureau: Bureau, candidate: Submission) -> None:
    judge(bureau, candidate, Verdict.REJECT)
    with writing(bureau.office.engine) as connection:
        connection.execute(text("DROP TRIGGER egress_reviews_no_delete"))
        connection.execute(delete(schema.egress_reviews))
    assert "egress reviews" in [check.name for check in verify_audit(bureau.office).checks if not check.ok]


def test_what_was_reviewed_is_what_runs(bureau: Bureau) -> None:
    """Probe 3 of the PySyft record: code that is replaced after its approval."""
    office = bureau.office
    filed = submit(office, bureau.actor(OPERATOR), PAID, script_job(), SCRIPT)
    review(office, bureau.actor("bureau", "reader"), filed.submission_id, Verdict.APPROVE, "读过")
    artefact_path(office, digest(SCRIPT)).write_bytes(b"def main(data):\n    return 0\n")
    outcome = dispatch(office, filed.submission_id)
    assert (outcome.receipt.rule, outcome.release) == ("ticket.input", None)


def test_a_submission_names_the_script_that_it_brings(bureau: Bureau) -> None:
    for content in (b"def main(data): return 0\n", None):
        with refused_by("script.digest"):
            submit(bureau.office, bureau.actor(OPERATOR), PAID, script_job(), content)


def test_scripts_are_read_by_reviewers_and_by_who_submitted_them(bureau: Bureau) -> None:
    office, sha256 = bureau.office, digest(SCRIPT)
    assert keep_script(office, bureau.actor(OPERATOR), SCRIPT) == sha256
    for who in ("bureau", OPERATOR):
        with refused_by("script.unknown"):
            show_script(office, bureau.actor(who), sha256)  # nobody submitted it yet
    submit(office, bureau.actor(OPERATOR), PAID, script_job(), SCRIPT)
    for who in ("bureau", OPERATOR):
        assert show_script(office, bureau.actor(who), sha256) == SCRIPT
    with refused_by("script.unknown"):
        show_script(office, bureau.actor(OTHER), sha256)
    for name in ("f" * 64, "../../keys/control.key"):
        with refused_by("script.unknown"):
            read_script(office, name)
    with refused_by("access.operator-only"):
        keep_script(office, bureau.actor(), SCRIPT)


def test_one_event_for_each_receipt(bureau: Bureau, candidate: Submission) -> None:
    with reading(bureau.office.engine) as connection:
        assert EVENTS.listed(connection) == ()
    judge(bureau, candidate, Verdict.APPROVE)
    with reading(bureau.office.engine) as connection:
        assert len(EVENTS.listed(connection)) == 1
        assert SUBMISSIONS.get(connection, candidate.submission_id).status is SubmissionStatus.RELEASED
