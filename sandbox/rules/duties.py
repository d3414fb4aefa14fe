"""Four eyes: how many must approve, who may not, on what ground, and what the verdicts amount to."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.grant import Mode
from enclave_runner.contract.rulebook import PolicyPack
from sandbox.domain.decision import ALLOWED, Decision, refuse
from sandbox.domain.submission import Review, Submission, SubmissionStatus, Verdict

REVIEWS_FILE = "reviews.toml"
GRADES = 4
MAX_GROUND = 500

Approvals = Mapping[Mode, tuple[int, ...]]


def read_approvals(pack: PolicyPack) -> Approvals:
    """Approvals by mode and grade.

    Raises:
        Failed: `policy.reviews` unless every mode has a number for every grade that never falls with the grade, and
            that of verifications is 0: a question is stored nowhere and cannot wait for a reviewer.
    """
    try:
        table: dict[str, Any] = pack.table(REVIEWS_FILE)["approvals"]
        approvals = {mode: tuple(int(number) for number in table[mode.value]) for mode in Mode}
    except (KeyError, TypeError, ValueError):
        raise Failed("policy.reviews") from None
    _check_numbers(approvals)
    if any(approvals[Mode.VERIFICATION]):
        raise Failed("policy.reviews")
    return approvals


def read_egress(pack: PolicyPack) -> Approvals:
    """Approvals of what a job gave, by mode and grade; none for a mode that the table does not name.

    Raises:
        Failed: `policy.reviews` unless the numbers never fall with the grade, scripts are named, and verifications are
            not: whoever asked one waits for its answer.
    """
    try:
        table: dict[str, Any] = pack.table(REVIEWS_FILE)["egress"]
        named = {Mode(name): tuple(int(number) for number in numbers) for name, numbers in table.items()}
    except (KeyError, TypeError, ValueError):
        raise Failed("policy.reviews") from None
    _check_numbers(named)
    if Mode.SCRIPT not in named or Mode.VERIFICATION in named:
        raise Failed("policy.reviews")
    return {mode: named.get(mode, (0,) * GRADES) for mode in Mode}


def _check_numbers(approvals: Approvals) -> None:
    for numbers in approvals.values():
        if len(numbers) != GRADES or list(numbers) != sorted(numbers) or numbers[0] < 0:
            raise Failed("policy.reviews")


def approvals_needed(approvals: Approvals, mode: Mode, grade: int) -> int:
    """How many reviewers must approve a job of that mode over columns of that grade, or what it gave."""
    return approvals[mode][grade - 1]


def decide_review(
    submission: Submission,
    submitted_by: str,
    reviewer: str,
    earlier: tuple[Review, ...],
    key_makers: Set[tuple[str, str]],
) -> Decision:
    """Whether this person may review: never own work, never twice, never with a key-maker's second name.

    People are named "party/person". `key_makers` pairs whoever made an API key with its holder: one of the two may have
    kept the key, so that the two count as one person, whichever of them acted first.
    """
    party = reviewer.partition("/")[0]
    if reviewer == submitted_by or party in (submission.operator_id, submission.requester_id):
        return refuse("review.own-work")
    if any(review.reviewer == reviewer for review in earlier):
        return refuse("review.repeated")
    others = {submitted_by, *(review.reviewer for review in earlier)}
    if any((reviewer, other) in key_makers or (other, reviewer) in key_makers for other in others):
        return refuse("review.key-maker")
    return ALLOWED


def decide_ground(ground: str) -> Decision:
    """Whether a ground is stated, in a length that people read."""
    return ALLOWED if 0 < len(ground.strip()) <= MAX_GROUND else refuse("ground.missing", max=MAX_GROUND)


def tally(reviews: tuple[Review, ...], needed: int) -> SubmissionStatus:
    """One rejection refuses; enough approvals admit; anything less waits."""
    if any(review.verdict is Verdict.REJECT for review in reviews):
        return SubmissionStatus.REFUSED
    return SubmissionStatus.ADMITTED if len(reviews) >= needed else SubmissionStatus.IN_REVIEW


def tally_egress(reviews: tuple[Review, ...], needed: int) -> SubmissionStatus:
    """One rejection withholds for good; enough approvals release; anything less waits."""
    if any(review.verdict is Verdict.REJECT for review in reviews):
        return SubmissionStatus.WITHHELD
    return SubmissionStatus.RELEASED if len(reviews) >= needed else SubmissionStatus.EGRESS_REVIEW
