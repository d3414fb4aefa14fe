from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from enclave_runner.contract.codec import decode, digest
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.receipt import DPTable
from enclave_runner.contract.receipt import Outcome as ReceiptOutcome
from enclave_runner.contract.signing import KeyFile
from enclave_runner.contract.ticket import Ticket
from enclave_runner.contract.wire import FetchSettlement, Reply, Request, RunJob, Settlement
from sandbox.domain.party import PartyStatus
from sandbox.domain.submission import Submission, SubmissionStatus, Verdict
from sandbox.store import audit_log, schema, tickets
from sandbox.store.database import reading, writing
from sandbox.store.meter_events import EVENTS
from sandbox.store.receipts import listed
from sandbox.store.scenarios import SCENARIOS
from sandbox.store.submissions import SUBMISSIONS
from sandbox.workflow.dispatch import TICKET_LIFE, dispatch
from sandbox.workflow.grants import revoke_grant
from sandbox.workflow.parties import set_party_status
from sandbox.workflow.releases import get_submission
from sandbox.workflow.review import review
from sandbox.workflow.submit import artefact_path, submit
from tests.support.bureau import COUNT, FREE, OPERATOR, PAID, Bureau, LostConnection, import_rows, model_job, with_door
from tests.support.refusals import failed_at, refused_by

MODEL = b"an onnx model"


@pytest.fixture
def admitted(bureau: Bureau) -> Submission:
    """An admitted query under the free grant."""
    return submit(bureau.office, bureau.actor(OPERATOR), FREE, COUNT)


def status_of(bureau: Bureau, submission: Submission) -> SubmissionStatus:
    return get_submission(bureau.office, bureau.actor(), submission.submission_id).status


def ticket_of(bureau: Bureau, submission: Submission) -> Ticket:
    with reading(bureau.office.engine) as connection:
        return decode(tickets.of_submission(connection, submission.submission_id).payload, Ticket)


def no_ticket_went_out(bureau: Bureau) -> bool:
    with reading(bureau.office.engine) as connection:
        return connection.execute(schema.tickets.select()).all() == []


def test_a_job_is_run_settled_and_metered(bureau: Bureau, admitted: Submission) -> None:
    outcome = dispatch(bureau.office, admitted.submission_id)
    assert outcome.submission.status is SubmissionStatus.RELEASED
    assert isinstance(outcome.release, DPTable)
    assert digest(outcome.release_bytes or b"") == outcome.receipt.release_sha256
    with reading(bureau.office.engine) as connection:
        (event,) = EVENTS.listed(connection)
    assert (event.receipt_id, event.units, event.amount_fen) == (outcome.receipt.receipt_id, 1, 0)


def test_the_ticket_pins_what_was_decided(bureau: Bureau) -> None:
    with reading(bureau.office.engine) as connection:
        before = audit_log.frontier(connection)
    paid = submit(bureau.office, bureau.actor(OPERATOR), PAID, COUNT)
    version = import_rows(bureau, b"header\nnewer\n")
    dispatch(bureau.office, paid.submission_id)
    ticket = ticket_of(bureau, paid)
    assert ticket.data_versions == {"insurance": version}
    assert (ticket.charge.tariff_id, ticket.charge.unit_price_fen) == ("query-industry", 20_000)
    assert ticket.policy_sha256 == bureau.office.pack.sha256
    assert ticket.expires_at - ticket.issued_at == TICKET_LIFE
    assert ticket.audit_size == before.size + 2
    assert TICKET_LIFE.total_seconds() <= bureau.office.pack.table("limits.toml")["ticket"]["max_life_seconds"]


def test_a_submission_is_dispatched_once(bureau: Bureau, admitted: Submission) -> None:
    dispatch(bureau.office, admitted.submission_id)
    with refused_by("lifecycle.illegal", current="released", target="dispatched"):
        dispatch(bureau.office, admitted.submission_id)
    with refused_by("record.unknown", what="submission"):
        dispatch(bureau.office, "nothing")


def test_one_of_many_concurrent_dispatches_runs(bureau: Bureau, admitted: Submission) -> None:
    results: list[str] = []

    def work() -> None:
        try:
            dispatch(bureau.office, admitted.submission_id)
            results.append("ran")
        except Refused as refused:
            results.append(refused.rule)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["lifecycle.illegal"] * 5 + ["ran"]
    with reading(bureau.office.engine) as connection:
        assert len(listed(connection)) == len(EVENTS.listed(connection)) == 1


def test_what_changed_since_admission_refuses_and_nothing_is_sent(bureau: Bureau, admitted: Submission) -> None:
    revoke_grant(bureau.office, bureau.actor(), FREE)
    with refused_by("grant.not-signed", status="revoked"):
        dispatch(bureau.office, admitted.submission_id)
    assert status_of(bureau, admitted) is SubmissionStatus.REFUSED
    assert no_ticket_went_out(bureau)
    with reading(bureau.office.engine) as connection:
        last = audit_log.entries(connection)[-1]
    assert (last.act, last.target, last.facts) == (
        "submission.refuse",
        admitted.submission_id,
        {"rule": "grant.not-signed"},
    )


def test_a_suspended_operator_runs_nothing(bureau: Bureau, admitted: Submission) -> None:
    set_party_status(bureau.office, bureau.actor(), OPERATOR, PartyStatus.SUSPENDED, "整改")
    with refused_by("party.inactive", party=OPERATOR):
        dispatch(bureau.office, admitted.submission_id)
    assert no_ticket_went_out(bureau)


@pytest.mark.parametrize(("days", "rule"), [(90, "grant.expired"), (400, "grant.expired")])
def test_an_expired_grant_runs_nothing(bureau: Bureau, admitted: Submission, days: int, rule: str) -> None:
    bureau.clock.forward(days=days)
    with refused_by(rule):
        dispatch(bureau.office, admitted.submission_id)
    assert no_ticket_went_out(bureau)


def test_the_conditions_of_the_scenario_hold_at_dispatch(bureau: Bureau, admitted: Submission) -> None:
    with writing(bureau.office.engine) as connection:
        scenario = SCENARIOS.get(connection, "relief")
        SCENARIOS.save(connection, replace(scenario, valid_until=bureau.clock.now))
    with refused_by("scenario.expired"):
        dispatch(bureau.office, admitted.submission_id)
    assert no_ticket_went_out(bureau)


def test_a_refusing_enclave_leaves_a_receipt_and_a_free_event(bureau: Bureau) -> None:
    paid = submit(bureau.office, bureau.actor(OPERATOR), PAID, COUNT)
    bureau.enclave.refuse_next = Refused("odometer.spent", entity_set="resident", asked=1, left=0)
    outcome = dispatch(bureau.office, paid.submission_id)
    assert outcome.submission.status is SubmissionStatus.REFUSED
    assert (outcome.receipt.rule, outcome.release, outcome.release_bytes) == ("odometer.spent", None, None)
    with reading(bureau.office.engine) as connection:
        (event,) = EVENTS.listed(connection)
    assert (event.units, event.unit_price_fen, event.amount_fen) == (0, 20_000, 0)


def test_an_enclave_with_another_pack_refuses_and_that_is_settled(bureau: Bureau, admitted: Submission) -> None:
    bureau.enclave.policy_sha256 = "f" * 64
    outcome = dispatch(bureau.office, admitted.submission_id)
    assert (outcome.receipt.rule, outcome.submission.status) == ("ticket.policy", SubmissionStatus.REFUSED)


def test_a_failed_job_keeps_its_loss_and_costs_nothing(bureau: Bureau, admitted: Submission) -> None:
    bureau.enclave.fail_next = True
    outcome = dispatch(bureau.office, admitted.submission_id)
    assert outcome.submission.status is SubmissionStatus.FAILED
    assert outcome.receipt.outcome is ReceiptOutcome.FAILED
    assert bureau.enclave.spent("resident") == outcome.receipt.losses[0].pico_rho > 0
    with reading(bureau.office.engine) as connection:
        assert [event.units for event in EVENTS.listed(connection)] == [0]


def test_a_model_travels_beside_its_ticket(bureau: Bureau) -> None:
    submission = submit(bureau.office, bureau.actor(OPERATOR), FREE, model_job(MODEL, digest(MODEL)), MODEL)
    review(bureau.office, bureau.actor(), submission.submission_id, Verdict.APPROVE, "一致")
    outcome = dispatch(bureau.office, submission.submission_id)
    assert outcome.receipt.outcome is ReceiptOutcome.RELEASED
    assert outcome.receipt.input_sha256 == digest(MODEL)


def test_a_model_changed_on_disk_is_refused_by_the_enclave(bureau: Bureau) -> None:
    submission = submit(bureau.office, bureau.actor(OPERATOR), FREE, model_job(MODEL, digest(MODEL)), MODEL)
    review(bureau.office, bureau.actor(), submission.submission_id, Verdict.APPROVE, "一致")
    artefact_path(bureau.office, digest(MODEL)).write_bytes(b"another model")
    assert dispatch(bureau.office, submission.submission_id).receipt.rule == "ticket.input"


def test_a_lost_connection_leaves_the_submission_dispatched(bureau: Bureau, admitted: Submission) -> None:
    office = with_door(bureau.office, LostConnection(bureau.enclave, after=False))
    with failed_at("enclave.lost"):
        dispatch(office, admitted.submission_id)
    assert status_of(bureau, admitted) is SubmissionStatus.DISPATCHED


def test_an_order_that_the_enclave_does_not_accept_ends_without_a_receipt(
    bureau: Bureau, admitted: Submission, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = KeyFile.create(tmp_path_factory.mktemp("keys") / "control.key")
    with refused_by("signature.invalid"):
        dispatch(replace(bureau.office, signer=stranger), admitted.submission_id)
    assert status_of(bureau, admitted) is SubmissionStatus.REFUSED
    with reading(bureau.office.engine) as connection:
        assert listed(connection) == ()


class Replaying:
    """A door behind which every ticket was used before, and whose job may still run."""

    def __init__(self, bureau: Bureau, ended: bool) -> None:
        self._bureau, self._ended = bureau, ended

    def call(self, request: Request, descriptor: int | None = None) -> Reply:
        if isinstance(request, RunJob) and self._ended:
            self._bureau.enclave.call(request, descriptor)
        if isinstance(request, RunJob):
            raise Refused("ticket.replayed")
        if isinstance(request, FetchSettlement) and not self._ended:
            return Settlement(receipt=None, release=None, checkpoint="")
        return self._bureau.enclave.call(request, descriptor)


def test_a_replayed_ticket_is_settled_from_its_first_use(bureau: Bureau, admitted: Submission) -> None:
    office = replace(bureau.office, enclave=Replaying(bureau, ended=True))
    assert dispatch(office, admitted.submission_id).submission.status is SubmissionStatus.RELEASED


def test_a_job_that_still_runs_is_left_alone(bureau: Bureau, admitted: Submission) -> None:
    office = replace(bureau.office, enclave=Replaying(bureau, ended=False))
    with failed_at("dispatch.running"):
        dispatch(office, admitted.submission_id)
    assert status_of(bureau, admitted) is SubmissionStatus.DISPATCHED


def test_the_enclave_refuses_a_replayed_ticket(bureau: Bureau, admitted: Submission) -> None:
    dispatch(bureau.office, admitted.submission_id)
    with reading(bureau.office.engine) as connection:
        signed = tickets.of_submission(connection, admitted.submission_id)
    with refused_by("ticket.replayed"):
        bureau.enclave.call(RunJob(ticket=signed))


def test_a_foreign_answer_is_a_fault(bureau: Bureau, admitted: Submission) -> None:
    class Confused:
        def call(self, request: Request, descriptor: int | None = None) -> Reply:
            return bureau.enclave.identity()

    with pytest.raises(Failed) as failed:
        dispatch(replace(bureau.office, enclave=Confused()), admitted.submission_id)
    assert failed.value.code == "enclave.answer"
    with reading(bureau.office.engine) as connection:
        assert SUBMISSIONS.get(connection, admitted.submission_id).status is SubmissionStatus.DISPATCHED
