from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from enclave_runner.contract.codec import digest
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.job import Job, Predicate, QueryJob, VerificationJob
from enclave_runner.contract.privacy import Budget, asked_budget
from sandbox.domain.submission import Submission, SubmissionStatus
from sandbox.store import audit_log, schema, submissions
from sandbox.store.database import reading
from sandbox.store.submissions import SUBMISSIONS
from sandbox.workflow.grants import draft_grant, revoke_grant
from sandbox.workflow.quote import quote
from sandbox.workflow.submit import artefact_path, submit
from tests.support.bureau import (
    COUNT,
    FREE,
    OPERATOR,
    OTHER,
    PAID,
    START,
    Bureau,
    dataset,
    grant,
    import_rows,
    model_job,
)
from tests.support.refusals import refused_by

MODEL = b"an onnx model"


def sql(text: str) -> QueryJob:
    return QueryJob(sql=text, budget=Budget(epsilon="1"))


def acts(bureau: Bureau) -> list[tuple[str, str, dict[str, str]]]:
    with reading(bureau.office.engine) as connection:
        return [(entry.act, entry.target, entry.facts) for entry in audit_log.entries(connection)]


def test_an_ordinary_query_is_admitted(bureau: Bureau) -> None:
    submission = submit(bureau.office, bureau.actor(OPERATOR, "analyst"), FREE, COUNT)
    assert submission.status is SubmissionStatus.ADMITTED
    assert (submission.operator_id, submission.requester_id, submission.input_sha256) == (OPERATOR, OPERATOR, None)
    with reading(bureau.office.engine) as connection:
        filing = submissions.filing(connection, submission.submission_id)
    assert (filing.dataset_ids, filing.submitted_by, filing.approvals) == (("insurance",), f"{OPERATOR}/analyst", 0)
    assert acts(bureau)[-1][:2] == ("submission.file", submission.submission_id)


def test_a_column_of_a_higher_grade_asks_for_review(bureau: Bureau) -> None:
    submission = submit(bureau.office, bureau.actor(OPERATOR), FREE, sql("SELECT SUM(income) AS n FROM insurance"))
    assert submission.status is SubmissionStatus.IN_REVIEW


def test_a_model_is_kept_under_its_digest_and_waits_for_review(bureau: Bureau) -> None:
    submission = submit(bureau.office, bureau.actor(OPERATOR), FREE, model_job(MODEL, digest(MODEL)), MODEL)
    assert submission.status is SubmissionStatus.IN_REVIEW
    assert artefact_path(bureau.office, digest(MODEL)).read_bytes() == MODEL
    again = submit(bureau.office, bureau.actor(OPERATOR), FREE, model_job(MODEL, digest(MODEL)), MODEL)
    assert again.submission_id != submission.submission_id
    assert [path.name for path in bureau.office.home.artefacts.iterdir()] == [digest(MODEL)]


@pytest.mark.parametrize("content", [None, b"another model", b""])
def test_a_model_that_is_not_the_named_one_is_refused(bureau: Bureau, content: bytes | None) -> None:
    with refused_by("model.digest"):
        submit(bureau.office, bureau.actor(OPERATOR), FREE, model_job(MODEL, digest(MODEL)), content)
    assert list(bureau.office.home.artefacts.iterdir()) == []


def test_nothing_travels_beside_a_query(bureau: Bureau) -> None:
    with refused_by("model.digest"):
        submit(bureau.office, bureau.actor(OPERATOR), FREE, COUNT, b"something")


@pytest.mark.parametrize(
    ("job", "rule"),
    [
        (sql("SELECT SUM(nothing) AS n FROM insurance"), "sql.column"),
        (sql("SELECT COUNT(*) AS n FROM insurance WHERE insured"), "grant.column"),
        (sql("SELECT COUNT(*) AS n FROM elsewhere"), "grant.dataset"),
        (
            VerificationJob(dataset_id="insurance", attribute="insured", predicate=Predicate.EQUALS),
            "submission.product-only",
        ),
    ],
)
def test_a_job_outside_the_grant_is_refused_and_the_refusal_is_on_record(bureau: Bureau, job: Job, rule: str) -> None:
    with refused_by(rule):
        submit(bureau.office, bureau.actor(OPERATOR, "analyst"), FREE, job)
    assert acts(bureau)[-1] == ("submission.refuse", FREE, {"rule": rule})
    with reading(bureau.office.engine) as connection:
        assert SUBMISSIONS.listed(connection) == ()


def test_an_unknown_grant_is_not_quoted_in_the_log(bureau: Bureau) -> None:
    with refused_by("record.unknown"):
        submit(bureau.office, bureau.actor(OPERATOR), "990001199001011234", COUNT)
    assert acts(bureau)[-1] == ("submission.refuse", "-", {"rule": "record.unknown"})


def test_a_foreign_an_expired_a_revoked_and_an_unsigned_grant_are_refused(bureau: Bureau) -> None:
    office = bureau.office
    with refused_by("access.foreign"):
        submit(office, bureau.actor(OTHER), FREE, COUNT)
    with refused_by("access.operator-only"):
        submit(office, bureau.actor(), FREE, COUNT)
    draft_grant(office, bureau.actor(), grant("draft"))
    with refused_by("grant.not-signed", status="draft"):
        submit(office, bureau.actor(OPERATOR), "draft", COUNT)
    revoke_grant(office, bureau.actor(), PAID)
    with refused_by("grant.not-signed", status="revoked"):
        submit(office, bureau.actor(OPERATOR), PAID, COUNT)
    bureau.clock.forward(days=90)
    with refused_by("grant.expired", deadline="2027-01-31"):
        submit(office, bureau.actor(OPERATOR), FREE, COUNT)
    bureau.clock.now = START.replace(year=2025)
    with refused_by("grant.not-yet"):
        submit(office, bureau.actor(OPERATOR), FREE, COUNT)


def test_a_column_withheld_since_the_grant_was_signed_refuses(bureau: Bureau) -> None:
    spec = dataset().spec
    columns = [
        column
        if column.name != "amount"
        else type(column)(
            name="amount", title=column.title, type=column.type, bounds=column.bounds, withheld="《保密法》"
        )
        for column in spec.columns
    ]
    fields = {name: getattr(spec, name) for name in spec.__struct_fields__} | {"columns": tuple(columns)}
    import_rows(bureau, entry=replace(dataset(), spec=type(spec)(**fields)))
    with refused_by("dataset.withheld", basis="《保密法》"):
        submit(bureau.office, bureau.actor(OPERATOR), FREE, sql("SELECT SUM(amount) AS n FROM insurance"))


@pytest.mark.parametrize("epsilon", ["-1", "0", "NaN", "Infinity", "-Infinity", "1e9", "", "one"])
def test_no_submission_without_a_usable_budget(epsilon: str) -> None:
    with refused_by("budget.malformed"):
        asked_budget(epsilon, "1e-6")


def test_a_quote_spends_nothing_and_is_refused_like_the_submission(bureau: Bureau) -> None:
    office, analyst = bureau.office, bureau.actor(OPERATOR)
    offered = quote(office, analyst, FREE, COUNT)
    assert (offered.charge.tariff_id, offered.charge.unit_price_fen) == ("query-public-interest", 0)
    assert offered.quote.losses[0].pico_rho == 50_000_000_000
    assert quote(office, analyst, PAID, COUNT).charge.unit_price_fen == 20_000
    assert bureau.enclave.spent("resident") == 0
    for wrong in (sql("SELECT SUM(nothing) AS n FROM insurance"), sql("SELECT COUNT(*) AS n FROM elsewhere")):
        with pytest.raises(Refused) as quoted:
            quote(office, analyst, FREE, wrong)
        with pytest.raises(Refused) as submitted:
            submit(office, analyst, FREE, wrong)
        assert (quoted.value.rule, quoted.value.facts) == (submitted.value.rule, submitted.value.facts)


def test_concurrent_submissions_are_all_filed_and_the_log_holds(bureau: Bureau) -> None:
    filed: list[Submission] = []
    analyst = bureau.actor(OPERATOR)

    def work() -> None:
        filed.extend(submit(bureau.office, analyst, FREE, COUNT) for _ in range(3))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({submission.submission_id for submission in filed}) == 24
    with reading(bureau.office.engine) as connection:
        assert len(SUBMISSIONS.listed(connection, schema.submissions.c.status == "admitted")) == 24
        assert audit_log.verify(connection, bureau.office.signer.public_key).ok
