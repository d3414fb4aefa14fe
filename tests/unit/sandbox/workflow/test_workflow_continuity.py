"""The control plane and an enclave that has forgotten something: found at the start, at a quote, at a ticket."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.evidence import RESTORATION, Restoration, read_exchanges, read_seen
from enclave_runner.contract.merkle import frontier_of, open_checkpoint
from enclave_runner.contract.receipt import Receipt
from enclave_runner.contract.signing import KeyFile, Signed, seal
from enclave_runner.contract.ticket import Ticket
from enclave_runner.contract.wire import AskLog, ReceiptLog, Reply, Request
from sandbox.domain.submission import SubmissionStatus
from sandbox.store import receipts, tickets
from sandbox.store.database import reading
from sandbox.workflow.audit import verify_audit
from sandbox.workflow.continuity import check_continuity
from sandbox.workflow.dispatch import dispatch
from sandbox.workflow.evidence import export_checkpoint, export_evidence
from sandbox.workflow.quote import quote
from sandbox.workflow.recover import recover
from sandbox.workflow.submit import submit
from tests.support.bureau import COUNT, FREE, OPERATOR, START, Bureau, LostConnection, furnished_bureau, with_door


@pytest.fixture
def bureau(tmp_path: Path) -> Bureau:
    """Three settled jobs."""
    made = furnished_bureau(tmp_path)
    for _ in range(3):
        run(made)
    return made


def run(bureau: Bureau) -> Receipt:
    return dispatch(bureau.office, submit(bureau.office, bureau.actor(OPERATOR), FREE, COUNT).submission_id).receipt


def rule_of(caught: pytest.ExceptionInfo[Refused]) -> tuple[str, dict[str, str]]:
    return caught.value.rule, caught.value.facts


ROLLED_BACK = ("enclave.rolled-back", {"have": "2", "seen": "3"})


def test_an_enclave_that_has_forgotten_nothing_passes(bureau: Bureau, tmp_path: Path) -> None:
    check_continuity(bureau.office)
    (tmp_path / "fresh").mkdir()
    check_continuity(furnished_bureau(tmp_path / "fresh").office)  # nobody has seen anything yet


def test_each_ticket_names_the_newest_checkpoint_that_was_settled(bureau: Bureau) -> None:
    receipt = run(bureau)
    with reading(bureau.office.engine) as connection:
        ticket = tickets.find(connection, receipt.ticket_id)
        newest = receipts.newest_checkpoint(connection)
    assert ticket is not None
    assert ticket.receipts_seen is not None
    assert newest is not None
    key, origin = bureau.office.enclave_key, bureau.office.enclave_origin
    assert open_checkpoint(ticket.receipts_seen, origin, key).size == receipt.sequence == 3
    assert open_checkpoint(newest, origin, key).size == 4


def test_a_shorter_log_is_found_at_the_start_and_gets_nothing_to_do(bureau: Bureau) -> None:
    bureau.enclave.forget(1)
    with pytest.raises(Refused) as caught:
        check_continuity(bureau.office)
    assert rule_of(caught) == ROLLED_BACK
    with pytest.raises(Refused) as caught:
        recover(bureau.office)
    assert rule_of(caught) == ROLLED_BACK


def test_it_is_found_at_a_quote_and_at_a_ticket_that_nobody_checked_for(bureau: Bureau) -> None:
    submission = submit(bureau.office, bureau.actor(OPERATOR), FREE, COUNT)
    bureau.enclave.forget(1)
    with pytest.raises(Refused) as caught:
        quote(bureau.office, bureau.actor(OPERATOR), FREE, COUNT)
    assert rule_of(caught) == ROLLED_BACK
    with pytest.raises(Refused) as caught:
        dispatch(bureau.office, submission.submission_id)
    assert rule_of(caught) == ROLLED_BACK
    assert submission.status is not SubmissionStatus.RELEASED


def test_a_log_of_the_same_length_with_another_end_is_found(bureau: Bureau) -> None:
    with reading(bureau.office.engine) as connection:
        signed = tickets.of_submission(connection, receipts.listed(connection)[-1].receipt.submission_id)
    bureau.enclave.forget(1)
    run_on_the_side(bureau, decode(signed.payload, Ticket))
    with pytest.raises(Refused) as caught:
        check_continuity(bureau.office)
    assert rule_of(caught) == ("enclave.rolled-back", {"have": "3", "seen": "3"})


def run_on_the_side(bureau: Bureau, ticket: Ticket) -> None:
    """The enclave runs the same ticket once more, by somebody who got hold of it: another receipt in its place."""
    with reading(bureau.office.engine) as connection:
        signed = tickets.of_submission(connection, ticket.submission_id)
    bureau.enclave._run(signed, None)


def test_another_enclave_is_told_apart(bureau: Bureau, tmp_path: Path) -> None:
    bureau.enclave.key = KeyFile.create(tmp_path / "another.key")
    with pytest.raises(Failed) as caught:
        check_continuity(bureau.office)
    assert caught.value.code == "enclave.other"


def test_evidence_is_every_ticket_with_its_receipt_and_then_what_is_under_way(bureau: Bureau, tmp_path: Path) -> None:
    lost = with_door(bureau.office, LostConnection(bureau.enclave, after=False))
    with pytest.raises(Failed):
        dispatch(lost, submit(bureau.office, bureau.actor(OPERATOR), FREE, COUNT).submission_id)
    assert export_evidence(bureau.office, tmp_path / "seen") == 4
    exchanges = list(read_exchanges(tmp_path / "seen"))
    sequences = [None if item.receipt is None else decode(item.receipt.payload, Receipt).sequence for item in exchanges]
    assert sequences == [0, 1, 2, None]
    assert [item.release is None for item in exchanges] == [False, False, False, True]
    note = export_checkpoint(bureau.office, tmp_path / "note")
    assert read_seen(tmp_path / "seen").checkpoint == note == (tmp_path / "note").read_text()
    for export in (export_evidence, export_checkpoint):
        with pytest.raises(Failed, match=r"backup\.exists"):
            export(bureau.office, tmp_path / "seen")
        with pytest.raises(Failed, match=r"backup\.unwritable"):
            export(bureau.office, tmp_path / "nowhere" / "seen")


def test_before_the_first_receipt_there_is_no_checkpoint_but_evidence_of_that(tmp_path: Path) -> None:
    bureau = furnished_bureau(tmp_path)
    with pytest.raises(Refused, match=r"record\.unknown"):
        export_checkpoint(bureau.office, tmp_path / "note")
    assert export_evidence(bureau.office, tmp_path / "seen") == 0
    assert read_seen(tmp_path / "seen").checkpoint is None


def test_the_audit_checks_what_the_enclave_states_of_its_restores(bureau: Bureau, tmp_path: Path) -> None:
    log = bureau.enclave.call(AskLog())
    assert isinstance(log, ReceiptLog)
    root = frontier_of(encode(signed) for signed in log.receipts[:2]).root.hex()

    def verdict(key: KeyFile, **changes: object) -> tuple[bool, int]:
        fields = {"label": "a", "not_before": START, "size": 2, "root": root, "replayed": 0, "is_lossy": False}
        signed = seal(Restoration(**{**fields, **changes}), RESTORATION, key)  # type: ignore[arg-type]
        door = RestoredDoor(bureau, signed)
        report = verify_audit(replace(bureau.office, enclave=door))
        (check,) = [check for check in report.checks if check.name == "restores"]
        assert report.ok == check.ok
        return check.ok, check.entries

    assert verdict(bureau.enclave.key) == (True, 1)
    assert verdict(bureau.enclave.key, root="00" * 32) == (False, 1)
    assert verdict(bureau.enclave.key, size=9) == (False, 1)
    assert verdict(KeyFile.create(tmp_path / "stranger.key")) == (False, 0)


class RestoredDoor:
    """The same enclave, which states one restore."""

    def __init__(self, bureau: Bureau, signed: Signed) -> None:
        self._bureau, self._signed = bureau, signed

    def call(self, request: Request, descriptor: int | None = None) -> Reply:
        reply = self._bureau.enclave.call(request, descriptor)
        if isinstance(reply, ReceiptLog):
            return ReceiptLog(receipts=reply.receipts, checkpoint=reply.checkpoint, restorations=(self._signed,))
        return reply
