from __future__ import annotations

from sandbox.domain.submission import Submission
from sandbox.workflow.dispatch import dispatch
from sandbox.workflow.releases import get_release, get_submission, list_submissions
from sandbox.workflow.submit import submit
from tests.support.bureau import BANK, COUNT, FREE, OPERATOR, OTHER, Bureau
from tests.support.refusals import refused_by


def settled(bureau: Bureau) -> Submission:
    submission = submit(bureau.office, bureau.actor(OPERATOR), FREE, COUNT)
    return dispatch(bureau.office, submission.submission_id).submission


def test_a_release_is_read_again_at_no_loss_and_no_price(bureau: Bureau) -> None:
    submission = settled(bureau)
    spent = bureau.enclave.spent("resident")
    first = get_release(bureau.office, bureau.actor(OPERATOR), submission.submission_id)
    assert get_release(bureau.office, bureau.actor(), submission.submission_id) == first
    assert bureau.enclave.spent("resident") == spent


def test_nobody_else_reads_it(bureau: Bureau) -> None:
    submission = settled(bureau)
    for who in (OTHER, BANK):
        with refused_by("access.foreign"):
            get_release(bureau.office, bureau.actor(who), submission.submission_id)
        with refused_by("access.foreign"):
            get_submission(bureau.office, bureau.actor(who), submission.submission_id)
        assert list_submissions(bureau.office, bureau.actor(who)) == ()


def test_there_is_no_release_before_the_receipt(bureau: Bureau) -> None:
    submission = submit(bureau.office, bureau.actor(OPERATOR), FREE, COUNT)
    with refused_by("submission.unsettled", status="admitted"):
        get_release(bureau.office, bureau.actor(OPERATOR), submission.submission_id)
    with refused_by("record.unknown", what="submission"):
        get_release(bureau.office, bureau.actor(OPERATOR), "nothing")


def test_lists_are_in_order_of_time(bureau: Bureau) -> None:
    filed = []
    for _ in range(4):
        filed.append(submit(bureau.office, bureau.actor(OPERATOR), FREE, COUNT).submission_id)
        bureau.clock.forward(minutes=1)
    for who in (OPERATOR, "bureau"):
        assert [item.submission_id for item in list_submissions(bureau.office, bureau.actor(who))] == filed
