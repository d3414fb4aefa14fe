"""Killed anywhere between dispatch and settle: after `recover` there is exactly one receipt and one event."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from sqlalchemy import delete

from enclave_runner.contract.codec import digest
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.signing import KeyFile
from enclave_runner.contract.trust import Trust
from enclave_runner.contract.wire import AskHoldings, FetchSettlement, Hello, Reply, Request, Settlement
from sandbox.domain.submission import Submission, SubmissionStatus, Verdict
from sandbox.store import audit_log, schema
from sandbox.store.database import reading, writing
from sandbox.store.datasets import current_version
from sandbox.store.meter_events import EVENTS
from sandbox.store.receipts import listed
from sandbox.store.submissions import SUBMISSIONS
from sandbox.workflow import settle as settle_module
from sandbox.workflow.audit import verify_audit
from sandbox.workflow.consents import file_consent
from sandbox.workflow.dispatch import dispatch
from sandbox.workflow.office import Office
from sandbox.workflow.recover import recover, recover_beside_others
from sandbox.workflow.review import review
from sandbox.workflow.submit import artefact_path, submit
from sandbox.workflow.verify import verify
from tests.support.bureau import (
    BANK,
    COUNT,
    FREE,
    OPERATOR,
    PAID,
    PRODUCT,
    RESIDENT,
    Bureau,
    LostConnection,
    model_job,
    with_door,
)
from tests.support.refusals import failed_at

MODEL = b"an onnx model"


def crash(bureau: Bureau, submission: Submission, after: bool) -> None:
    with failed_at("enclave.lost"):
        dispatch(with_door(bureau.office, LostConnection(bureau.enclave, after)), submission.submission_id)


def exactly_one(bureau: Bureau) -> SubmissionStatus:
    """Check one receipt, one event, an odometer spent once, sound logs; give the submission's state."""
    with reading(bureau.office.engine) as connection:
        (stored,) = listed(connection)
        (event,) = EVENTS.listed(connection)
        (submission,) = SUBMISSIONS.listed(connection)
    assert event.receipt_id == stored.receipt.receipt_id
    assert bureau.enclave.spent("resident") == sum(loss.pico_rho for loss in stored.receipt.losses)
    report = verify_audit(bureau.office)
    assert report.ok, report.rows()
    return submission.status


@pytest.mark.parametrize("after", [False, True])
def test_a_query_lost_before_or_after_its_job_is_released_once(bureau: Bureau, after: bool) -> None:
    submission = submit(bureau.office, bureau.actor(OPERATOR), PAID, COUNT)
    crash(bureau, submission, after)
    (outcome,) = recover(bureau.office)
    assert outcome.submission.submission_id == submission.submission_id
    assert exactly_one(bureau) is SubmissionStatus.RELEASED
    assert recover(bureau.office) == ()


def test_a_crash_while_settling_leaves_nothing_half_recorded(bureau: Bureau, monkeypatch: pytest.MonkeyPatch) -> None:
    submission = submit(bureau.office, bureau.actor(OPERATOR), PAID, COUNT)

    def killed(*arguments: object, **facts: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(settle_module, "note_act", killed)  # the last step of the transaction
        with pytest.raises(SystemExit):
            dispatch(bureau.office, submission.submission_id)
    with reading(bureau.office.engine) as connection:
        assert listed(connection) == ()
        assert EVENTS.listed(connection) == ()
    assert len(recover(bureau.office)) == 1
    assert exactly_one(bureau) is SubmissionStatus.RELEASED


def test_a_crash_while_recovering_is_recovered(bureau: Bureau) -> None:
    submission = submit(bureau.office, bureau.actor(OPERATOR), PAID, COUNT)
    crash(bureau, submission, after=False)
    with failed_at("enclave.lost"):
        recover(with_door(bureau.office, LostConnection(bureau.enclave, after=True)))
    assert len(recover(bureau.office)) == 1
    assert exactly_one(bureau) is SubmissionStatus.RELEASED


def a_model(bureau: Bureau) -> Submission:
    submission = submit(bureau.office, bureau.actor(OPERATOR), FREE, model_job(MODEL, digest(MODEL)), MODEL)
    return review(bureau.office, bureau.actor(), submission.submission_id, Verdict.APPROVE, "一致")


def test_a_model_is_sent_again_from_its_artefact(bureau: Bureau) -> None:
    crash(bureau, a_model(bureau), after=False)
    assert len(recover(bureau.office)) == 1
    assert exactly_one(bureau) is SubmissionStatus.RELEASED


def test_a_model_whose_artefact_is_gone_is_refused_for_good(bureau: Bureau) -> None:
    crash(bureau, a_model(bureau), after=False)
    artefact_path(bureau.office, digest(MODEL)).unlink()
    (outcome,) = recover(bureau.office)
    assert outcome.receipt.rule == "ticket.input"
    assert exactly_one(bureau) is SubmissionStatus.REFUSED


@pytest.mark.parametrize(("after", "status"), [(True, SubmissionStatus.RELEASED), (False, SubmissionStatus.REFUSED)])
def test_a_question_is_not_kept_so_it_is_answered_once_or_refused_once(
    bureau: Bureau, after: bool, status: SubmissionStatus
) -> None:
    expires = bureau.clock.now.replace(year=2027)
    file_consent(bureau.office, bureau.actor(), PRODUCT, BANK, RESIDENT, expires)
    office = with_door(bureau.office, LostConnection(bureau.enclave, after))
    with failed_at("enclave.lost"):
        verify(office, bureau.actor(BANK), PRODUCT, RESIDENT, "true")
    (outcome,) = recover(bureau.office)
    assert outcome.submission.status is status
    assert exactly_one(bureau) is status
    assert len(bureau.enclave.questions) == int(after)


def test_an_expired_ticket_is_refused_with_a_receipt_and_can_never_run(bureau: Bureau) -> None:
    submission = submit(bureau.office, bureau.actor(OPERATOR), PAID, COUNT)
    crash(bureau, submission, after=False)
    bureau.clock.forward(minutes=11)
    (outcome,) = recover(bureau.office)
    assert outcome.receipt.rule == "ticket.expired"
    assert exactly_one(bureau) is SubmissionStatus.REFUSED


class StillRunning:
    """An enclave in which an earlier sending of the ticket still runs."""

    def __init__(self, bureau: Bureau) -> None:
        self._bureau = bureau

    def call(self, request: Request, descriptor: int | None = None) -> Reply:
        if isinstance(request, FetchSettlement | AskHoldings | Hello):
            return self._bureau.enclave.call(request, descriptor)
        raise Refused("ticket.replayed")


def test_a_job_that_still_runs_is_left_alone(bureau: Bureau) -> None:
    submission = submit(bureau.office, bureau.actor(OPERATOR), PAID, COUNT)
    crash(bureau, submission, after=False)
    assert recover(replace(bureau.office, enclave=StillRunning(bureau))) == ()
    with reading(bureau.office.engine) as connection:
        assert SUBMISSIONS.get(connection, submission.submission_id).status is SubmissionStatus.DISPATCHED
    assert len(recover(bureau.office)) == 1


def test_an_order_under_a_key_that_no_longer_counts_is_ended(
    bureau: Bureau, tmp_path_factory: pytest.TempPathFactory
) -> None:
    submission = submit(bureau.office, bureau.actor(OPERATOR), PAID, COUNT)
    crash(bureau, submission, after=False)
    other = KeyFile.create(tmp_path_factory.mktemp("keys") / "control.key")
    bureau.enclave.trust = Trust(control=(other.public_key,), officers=bureau.enclave.trust.officers)
    assert recover(bureau.office) == ()
    with reading(bureau.office.engine) as connection:
        assert SUBMISSIONS.get(connection, submission.submission_id).status is SubmissionStatus.REFUSED


def test_an_import_that_was_not_recorded_is_found(bureau: Bureau) -> None:
    with reading(bureau.office.engine) as connection:
        version = current_version(connection, "insurance")
    with writing(bureau.office.engine) as connection:
        connection.execute(delete(schema.dataset_versions))
    recover(bureau.office)
    with reading(bureau.office.engine) as connection:
        assert current_version(connection, "insurance") == version
        assert audit_log.entries(connection)[-1].act == "dataset.recover"
    recover(bureau.office)
    with reading(bureau.office.engine) as connection:
        assert [entry.act for entry in audit_log.entries(connection)].count("dataset.recover") == 1


def test_an_admitted_submission_that_nobody_sent_is_carried_on(bureau: Bureau) -> None:
    submit(bureau.office, bureau.actor(OPERATOR), PAID, COUNT)
    (outcome,) = recover(bureau.office)
    assert outcome.submission.status is SubmissionStatus.RELEASED
    assert exactly_one(bureau) is SubmissionStatus.RELEASED


def test_what_has_only_just_begun_is_left_to_who_began_it(bureau: Bureau) -> None:
    submit(bureau.office, bureau.actor(OPERATOR), PAID, COUNT)
    crash(bureau, submit(bureau.office, bureau.actor(OPERATOR), PAID, COUNT), after=False)
    assert recover_beside_others(bureau.office, is_alone=False) == ()
    bureau.clock.forward(minutes=2)
    assert len(recover_beside_others(bureau.office, is_alone=False)) == 2


def test_a_receipt_that_does_not_fit_keeps_nobody_else_waiting(bureau: Bureau) -> None:
    """The first settlement comes back with other released bytes: the second is settled all the same."""
    first = submit(bureau.office, bureau.actor(OPERATOR), PAID, COUNT)
    second = submit(bureau.office, bureau.actor(OPERATOR), PAID, COUNT)
    crash(bureau, first, after=True)
    crash(bureau, second, after=True)

    class Forges:
        def call(self, request: Request, descriptor: int | None = None) -> Reply:
            reply = bureau.enclave.call(request, descriptor)
            if isinstance(reply, Settlement) and reply.receipt is not None and not self.done:
                self.done = True
                return msgspec.structs.replace(reply, release=b"another")
            return reply

        done = False

    settled = recover(replace(bureau.office, enclave=Forges()))
    assert len(settled) == 1
    assert len(recover(bureau.office)) == 1


def test_nothing_is_recovered_without_an_enclave(bureau: Bureau) -> None:
    class Absent:
        def call(self, request: Request, descriptor: int | None = None) -> Reply:
            raise Failed("enclave.absent")

    office: Office = replace(bureau.office, enclave=Absent())
    with failed_at("enclave.absent"):
        recover(office)
