"""Checking egress reviews: what left, or was withheld, is what the audit log says that reviewers decided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from sandbox.domain.audit import AuditEntry
from sandbox.domain.submission import Review, Submission, SubmissionStatus
from sandbox.rules.duties import tally_egress
from sandbox.store import submissions

ACTS = ("submission.file", "egress.review")
JUDGED = frozenset({SubmissionStatus.EGRESS_REVIEW, SubmissionStatus.RELEASED, SubmissionStatus.WITHHELD})


def check_egress(
    connection: Connection, asked: Mapping[str, Submission], acts: Iterable[AuditEntry], whole: bool
) -> tuple[int, str | None]:
    """How many verdicts are recorded, and what is wrong with them, if anything is.

    `acts` are the entries of the audit log of `ACTS`, as far as it verifies; `whole`: it does to its end.

    Raises:
        Refused, ValueError: a stored value cannot be read.
    """
    needed: dict[str, int] = {}
    logged: dict[str, set[tuple[str, str]]] = {}
    for entry in acts:
        if entry.act == "egress.review":
            logged.setdefault(entry.target, set()).add((entry.actor, entry.facts["verdict"]))
        else:
            needed[entry.target] = int(entry.facts.get("egress", "0"))
    count = 0
    for submission_id, submission in asked.items():
        given = submissions.egress_reviews_of(connection, submission_id)
        count += len(given)
        said, stored = logged.get(submission_id, set()), {(item.reviewer, item.verdict.value) for item in given}
        if said != stored if whole else not said <= stored:
            return count, f"the egress reviews of {submission_id} are not those that the audit log recorded"
        approvals = submissions.filing(connection, submission_id).egress_approvals
        if needed.get(submission_id, approvals) != approvals:
            return count, f"{submission_id} needs another number of egress reviews than when it was filed"
        if not _stands(submission, given, approvals):
            return count, f"{submission_id} is {submission.status.value}, which its egress reviews did not decide"
    return count, None


def _stands(submission: Submission, given: tuple[Review, ...], approvals: int) -> bool:
    """Nothing was judged but what ran and gave something; what needed no judgement was released at once."""
    return submission.status is tally_egress(given, approvals) if submission.status in JUDGED else not given
