from __future__ import annotations

from pathlib import Path

import pytest

from enclave_runner.contract.grant import Mode, Purpose
from enclave_runner.contract.rulebook import PolicyPack
from sandbox.domain.submission import Review, Submission, SubmissionStatus, Verdict
from sandbox.rules.duties import approvals_needed, decide_ground, decide_review, read_approvals, tally
from sandbox.settings import pack_folder
from tests.support.bureau import BANK, COUNT, FREE, OPERATOR, START
from tests.support.refusals import failed_at

SUBMISSION = Submission(
    "s-1", FREE, OPERATOR, BANK, None, COUNT, None, SubmissionStatus.IN_REVIEW, START, Purpose.INDUSTRY, ()
)

NOBODY: frozenset[tuple[str, str]] = frozenset()


def verdict(reviewer: str, given: Verdict = Verdict.APPROVE) -> Review:
    return Review("s-1", reviewer, given, "理由", START)


def test_the_pack_asks_more_of_models_and_of_higher_grades() -> None:
    approvals = read_approvals(PolicyPack(pack_folder()))
    assert [approvals_needed(approvals, Mode.QUERY, grade) for grade in (1, 2, 3)] == [0, 0, 1]
    assert [approvals_needed(approvals, Mode.MODEL, grade) for grade in (1, 2, 3)] == [1, 1, 2]
    assert approvals_needed(approvals, Mode.VERIFICATION, 3) == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[approvals]\nquery = [0,0,0,0]\nmodel = [0,0,0,0]",
        "[approvals]\nquery = [0,0,0]\nverification = [0,0,0,0]\nmodel = [0,0,0,0]",
        "[approvals]\nquery = [2,1,1,1]\nverification = [0,0,0,0]\nmodel = [0,0,0,0]",
        "[approvals]\nquery = [-1,0,0,0]\nverification = [0,0,0,0]\nmodel = [0,0,0,0]",
        "[approvals]\nquery = [0,0,0,0]\nverification = [0,0,0,1]\nmodel = [0,0,0,0]",
        '[approvals]\nquery = "none"\nverification = [0,0,0,0]\nmodel = [0,0,0,0]',
    ],
)
def test_a_table_with_a_gap_or_a_fall_or_reviews_of_questions_does_not_load(tmp_path: Path, text: str) -> None:
    (tmp_path / "rules.toml").write_text("")
    (tmp_path / "reviews.toml").write_text(text)
    with failed_at("policy.reviews"):
        read_approvals(PolicyPack(tmp_path))


@pytest.mark.parametrize("reviewer", [f"{OPERATOR}/anyone", f"{BANK}/anyone", "bureau/submitter"])
def test_nobody_reviews_own_work(reviewer: str) -> None:
    assert decide_review(SUBMISSION, "bureau/submitter", reviewer, (), NOBODY).rule == "review.own-work"


def test_nobody_counts_twice() -> None:
    earlier = (verdict("bureau/a"),)
    assert decide_review(SUBMISSION, f"{OPERATOR}/x", "bureau/a", earlier, NOBODY).rule == "review.repeated"
    assert decide_review(SUBMISSION, f"{OPERATOR}/x", "bureau/b", earlier, NOBODY).allowed


@pytest.mark.parametrize(
    ("pair", "rule"),
    [
        (("bureau/b", "bureau/a"), "review.key-maker"),
        (("bureau/a", "bureau/b"), "review.key-maker"),
        (("bureau/b", f"{OPERATOR}/x"), "review.key-maker"),
        (("bureau/b", "bureau/b"), None),
        (("bureau/b", "bureau/c"), None),
        (("bureau/a", f"{OPERATOR}/x"), None),
    ],
)
def test_maker_and_holder_of_a_key_are_one_person(pair: tuple[str, str], rule: str | None) -> None:
    earlier = (verdict("bureau/a"),)
    assert decide_review(SUBMISSION, f"{OPERATOR}/x", "bureau/b", earlier, frozenset({pair})).rule == rule


@pytest.mark.parametrize(
    ("reviews", "needed", "status"),
    [
        ((), 1, SubmissionStatus.IN_REVIEW),
        ((verdict("a"),), 1, SubmissionStatus.ADMITTED),
        ((verdict("a"),), 2, SubmissionStatus.IN_REVIEW),
        ((verdict("a"), verdict("b")), 2, SubmissionStatus.ADMITTED),
        ((verdict("a"), verdict("b", Verdict.REJECT)), 2, SubmissionStatus.REFUSED),
        ((verdict("a", Verdict.REJECT),), 0, SubmissionStatus.REFUSED),
    ],
)
def test_verdicts_add_up(reviews: tuple[Review, ...], needed: int, status: SubmissionStatus) -> None:
    assert tally(reviews, needed) is status


@pytest.mark.parametrize(
    ("ground", "allowed"), [("", False), (" \n", False), ("x", True), (" " + "x" * 500 + " ", True), ("x" * 501, False)]
)
def test_a_ground_is_stated_at_readable_length(ground: str, allowed: bool) -> None:
    assert decide_ground(ground).allowed is allowed
