from __future__ import annotations

import pytest

from enclave_runner.contract.codec import digest
from enclave_runner.contract.grant import Purpose
from enclave_runner.contract.job import ModelJob
from sandbox.domain.submission import Submission, SubmissionStatus, Verdict
from sandbox.workflow.dispatch import dispatch
from sandbox.workflow.keys import authenticate, create_api_key, list_api_keys, revoke_api_key
from sandbox.workflow.releases import get_release, get_submission
from sandbox.workflow.review import list_reviews, review
from sandbox.workflow.submit import submit
from tests.support.bureau import COUNT, FREE, OPERATOR, OTHER, Bureau, model_job
from tests.support.refusals import refused_by

MODEL = b"an onnx model"


@pytest.fixture
def waiting(bureau: Bureau) -> Submission:
    """A model over a grade 3 column: two approvals."""
    job = model_job(MODEL, digest(MODEL), "income")
    return submit(bureau.office, bureau.actor(OPERATOR), FREE, job, MODEL)


def approve(bureau: Bureau, submission: Submission, person: str, party: str = "bureau") -> Submission:
    return review(bureau.office, bureau.actor(party, person), submission.submission_id, Verdict.APPROVE, "用途一致")


def test_two_people_must_approve(bureau: Bureau, waiting: Submission) -> None:
    assert approve(bureau, waiting, "a").status is SubmissionStatus.IN_REVIEW
    with refused_by("lifecycle.illegal", current="in-review"):
        dispatch(bureau.office, waiting.submission_id)
    with refused_by("review.repeated"):
        approve(bureau, waiting, "a")
    assert approve(bureau, waiting, "b").status is SubmissionStatus.ADMITTED
    assert dispatch(bureau.office, waiting.submission_id).submission.status is SubmissionStatus.RELEASED


@pytest.mark.parametrize("again", ["a ", " A", "\uff21", "a\n"], ids=ascii)
def test_another_spelling_is_no_other_person(bureau: Bureau, waiting: Submission, again: str) -> None:
    approve(bureau, waiting, "a")
    with refused_by("review.repeated"):
        approve(bureau, waiting, again)


@pytest.mark.parametrize(("first", "second"), [("mallory", "eve"), ("eve", "mallory")])
def test_a_key_maker_is_no_second_pair_of_eyes(bureau: Bureau, waiting: Submission, first: str, second: str) -> None:
    """Whichever of the two names comes first, and whether or not the key still opens anything."""
    mallory = bureau.actor("bureau", "mallory")
    create_api_key(bureau.office, mallory, "bureau", "eve")
    (key,) = list_api_keys(bureau.office, mallory, "bureau")
    revoke_api_key(bureau.office, mallory, key.key_id)
    approve(bureau, waiting, first)
    with refused_by("review.key-maker"):
        approve(bureau, waiting, second)
    assert approve(bureau, waiting, "b").status is SubmissionStatus.ADMITTED


def test_a_key_made_between_two_verdicts_counts_too(bureau: Bureau, waiting: Submission) -> None:
    approve(bureau, waiting, "mallory")
    token = create_api_key(bureau.office, bureau.actor("bureau", "Mallory"), "bureau", "EVE")
    with refused_by("review.key-maker"):
        review(bureau.office, authenticate(bureau.office, token), waiting.submission_id, Verdict.APPROVE, "x")


def test_who_made_the_submitters_key_does_not_review(bureau: Bureau) -> None:
    token = create_api_key(bureau.office, bureau.actor("bureau", "mallory"), OPERATOR, "analyst")
    job = model_job(MODEL, digest(MODEL), "income")
    submitted = submit(bureau.office, authenticate(bureau.office, token), FREE, job, MODEL)
    with refused_by("review.key-maker"):
        approve(bureau, submitted, "mallory")
    approve(bureau, submitted, "a")
    assert approve(bureau, submitted, "b").status is SubmissionStatus.ADMITTED


def test_who_made_keys_for_others_reviews(bureau: Bureau, waiting: Submission) -> None:
    create_api_key(bureau.office, bureau.actor("bureau", "a"), "bureau", "a")
    create_api_key(bureau.office, bureau.actor("bureau", "a"), "bureau", "somebody")
    create_api_key(bureau.office, bureau.actor("bureau", "a"), OTHER, "b")  # of another party: no reviewer here
    create_api_key(bureau.office, bureau.actor("bureau", "admin"), "bureau", "b")
    approve(bureau, waiting, "a")
    assert approve(bureau, waiting, "b").status is SubmissionStatus.ADMITTED


def test_one_rejection_ends_it(bureau: Bureau, waiting: Submission) -> None:
    approve(bureau, waiting, "a")
    rejected = review(bureau.office, bureau.actor("bureau", "b"), waiting.submission_id, Verdict.REJECT, "超出用途")
    assert rejected.status is SubmissionStatus.REFUSED
    with refused_by("review.closed", status="refused"):
        approve(bureau, waiting, "c")
    with refused_by("lifecycle.illegal"):
        dispatch(bureau.office, waiting.submission_id)


def test_an_operator_reviews_nothing(bureau: Bureau, waiting: Submission) -> None:
    with refused_by("access.bureau-only"):
        approve(bureau, waiting, "x", OPERATOR)


@pytest.mark.parametrize("ground", ["", "   ", "x" * 501])
def test_a_verdict_has_a_ground(bureau: Bureau, waiting: Submission, ground: str) -> None:
    with refused_by("ground.missing"):
        review(bureau.office, bureau.actor(), waiting.submission_id, Verdict.APPROVE, ground)


def test_only_what_waits_is_reviewed(bureau: Bureau) -> None:
    admitted = submit(bureau.office, bureau.actor(OPERATOR), FREE, COUNT)
    with refused_by("review.closed", status="admitted"):
        approve(bureau, admitted, "a")
    with refused_by("record.unknown"):
        review(bureau.office, bureau.actor(), "nothing", Verdict.APPROVE, "x")


def test_a_reviewer_sees_what_would_run_and_for_what(bureau: Bureau, waiting: Submission) -> None:
    seen = get_submission(bureau.office, bureau.actor("bureau", "a"), waiting.submission_id)
    assert isinstance(seen.job, ModelJob)
    assert "income" in seen.job.sql
    assert (seen.purpose, seen.columns) == (Purpose.PUBLIC_INTEREST, ("income",))


def test_the_ground_of_a_rejection_is_told(bureau: Bureau, waiting: Submission) -> None:
    office, submission_id = bureau.office, waiting.submission_id
    approve(bureau, waiting, "b")
    bureau.clock.forward(minutes=1)
    review(office, bureau.actor("bureau", "a"), submission_id, Verdict.REJECT, " 超出用途 ")
    for who in ("bureau", OPERATOR):
        given = list_reviews(office, bureau.actor(who), submission_id)
        assert [(item.reviewer, item.ground) for item in given] == [("bureau/b", "用途一致"), ("bureau/a", "超出用途")]
        with refused_by("review.rejected", ground="超出用途"):
            get_release(office, bureau.actor(who), submission_id)
    for ask in (list_reviews, get_release):
        with refused_by("access.foreign"):
            ask(office, bureau.actor(OTHER), submission_id)
        with refused_by("record.unknown", what="submission"):
            ask(office, bureau.actor(), "nothing")
