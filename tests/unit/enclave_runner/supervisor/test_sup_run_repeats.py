"""The same question again: the same bytes at no loss, with a receipt of its own; and what a job gives back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.privacy import RHO_UNIT, PrivacyLoss
from enclave_runner.contract.receipt import Outcome
from enclave_runner.supervisor import run
from enclave_runner.supervisor.enclave import Enclave
from enclave_runner.supervisor.execute import Executed, execute
from enclave_runner.supervisor.prepare import Prepared
from enclave_runner.supervisor.schedule import Schedule
from tests.support.enclave_home import (
    PEOPLE,
    PEOPLE_CSV,
    Site,
    make_bureau,
    make_grant,
    query,
    running_site,
    with_enclave,
)
from tests.support.ledgers import lost

Executing = Callable[[Enclave, Prepared, str | None], Executed]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An enclave of its own: a test imports another version."""
    bureau = make_bureau(tmp_path_factory.mktemp("repeats"), resident='"1000.0"')
    with running_site(bureau) as running:
        running.import_csv(PEOPLE, PEOPLE_CSV)
        yield running


@pytest.fixture
def executing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Executing], Executing]], None]:
    """Put something around the running of a job."""

    def around(wrap: Callable[[Executing], Executing]) -> None:
        monkeypatch.setattr(run, "execute", wrap(execute))

    return around


def test_the_same_question_is_answered_alike_and_at_no_loss(site: Site) -> None:
    grant = make_grant()
    first = site.settle(query(), grant)
    before, paid = site.spent(), site.receipt(first)
    again = site.settle(query(), grant)
    repeated = site.receipt(again)
    assert paid.losses
    assert (again.release, site.spent()) == (first.release, before)
    assert (repeated.outcome, repeated.losses, repeated.repeats) == (Outcome.RELEASED, (), paid.receipt_id)
    assert repeated.release_sha256 == paid.release_sha256
    assert repeated.sequence == paid.sequence + 1
    assert repeated.receipt_id != paid.receipt_id
    third = site.receipt(site.settle(query(), grant))
    assert third.repeats == paid.receipt_id  # the first one, not the one before
    (used,) = [item for item in site.enclave.ledger.grant_readings() if item.grant_id == grant.grant_id]
    assert (used.uses, used.losses) == (3, paid.losses)


def test_a_first_answer_says_nothing_of_repeats(site: Site) -> None:
    settled = site.settle(query(), make_grant())
    assert settled.receipt is not None
    assert b"repeats" not in settled.receipt.payload


def test_another_grant_or_budget_is_another_question(site: Site) -> None:
    grant = make_grant()
    first = site.settle(query(), grant)
    for job, other in ((query(), make_grant()), (query(epsilon="0.2"), grant)):
        before = site.spent()
        receipt = site.order(job, other)
        assert receipt.repeats is None
        assert site.spent() > before
    assert site.receipt(site.settle(query(), grant)).repeats == site.receipt(first).receipt_id


def test_a_new_data_version_is_asked_anew_and_costs_the_same_people(site: Site) -> None:
    grant = make_grant()
    site.order(query(), grant)
    before = site.spent()
    site.import_csv(PEOPLE, PEOPLE_CSV.replace("p1,", "q1,", 1))
    receipt = site.order(query(), grant)
    assert (receipt.outcome, receipt.repeats) == (Outcome.RELEASED, None)
    assert site.spent() > before


def test_a_question_that_failed_was_not_answered(
    site: Site, executing: Callable[[Callable[[Executing], Executing]], None]
) -> None:
    grant, broken = make_grant(), [True]

    def failing_once(real: Executing) -> Executing:
        def running(enclave: Enclave, prepared: Prepared, input_sha256: str | None) -> Executed:
            if broken.pop():
                raise Failed("job.broken")
            return real(enclave, prepared, input_sha256)

        return running

    executing(failing_once)
    failed = site.order(query(), grant)
    assert failed.outcome is Outcome.FAILED
    assert failed.losses
    broken.append(False)
    receipt = site.order(query(), grant)
    assert (receipt.outcome, receipt.repeats, receipt.losses) == (Outcome.RELEASED, None, failed.losses)


def test_who_has_spent_all_may_still_ask_what_was_answered(site: Site) -> None:
    cost = site.order(query(), make_grant()).losses
    grant = make_grant(budgets=cost, max_uses=3)
    assert site.order(query(), grant).losses == cost
    assert site.order(query(epsilon="0.2"), grant).rule == "grant.budget"
    assert site.order(query(), grant).outcome is Outcome.RELEASED
    assert site.order(query(), grant).outcome is Outcome.RELEASED
    assert site.order(query(), grant).rule == "grant.uses"  # a repeated answer is a use


def test_a_repeated_answer_leaves_no_earlier_than_the_first(site: Site) -> None:
    slow = with_enclave(site, schedule=Schedule(2.0))
    grant = make_grant()
    first = slow.ticket(query(), grant)
    slow.run(first)
    assert first.ticket_id in slow.enclave.schedule.held()
    slow.order(query(), grant)
    assert first.ticket_id not in slow.enclave.schedule.held()


def test_of_equal_questions_at_once_one_is_charged(site: Site) -> None:
    grant, releases, before = make_grant(), [], site.spent()

    def ask() -> None:
        settled = site.settle(query(), grant)
        releases.append((settled.release, site.receipt(settled)))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    charged = [receipt for _, receipt in releases if receipt.losses]
    assert len(charged) == 1
    assert {release for release, _ in releases} == {releases[0][0]}
    assert {receipt.repeats for _, receipt in releases if not receipt.losses} == {charged[0].receipt_id}
    assert site.spent() - before == charged[0].losses[0].pico_rho
    assert site.enclave.turns.count() == 0


@pytest.mark.parametrize("part", ["half", "nothing"])
def test_a_job_gives_back_what_never_ran(
    site: Site, executing: Callable[[Callable[[Executing], Executing]], None], part: str
) -> None:
    def sparing(real: Executing) -> Executing:
        def running(enclave: Enclave, prepared: Prepared, input_sha256: str | None) -> Executed:
            return replace(real(enclave, prepared, input_sha256), spent=spent_of(prepared.losses))

        return running

    def spent_of(losses: tuple[PrivacyLoss, ...]) -> tuple[PrivacyLoss, ...]:
        return tuple(lost(loss.pico_rho // 2, 0, loss.entity_set) for loss in losses) if part == "half" else ()

    executing(sparing)
    before, reserved = site.spent(), site.order(query(), make_grant(), ticket_id=f"ticket-{part}")
    assert (reserved.outcome, reserved.repeats) == (Outcome.RELEASED, None)
    assert site.spent() - before == sum(loss.pico_rho for loss in reserved.losses)
    assert bool(reserved.losses) == (part == "half")


def test_a_job_that_claims_more_than_it_reserved_is_not_released(
    site: Site, executing: Callable[[Callable[[Executing], Executing]], None]
) -> None:
    def greedy(real: Executing) -> Executing:
        def running(enclave: Enclave, prepared: Prepared, input_sha256: str | None) -> Executed:
            return replace(real(enclave, prepared, input_sha256), spent=(lost(RHO_UNIT),))

        return running

    executing(greedy)
    ticket, before = site.ticket(query(), make_grant()), site.spent()
    with pytest.raises(Failed) as caught:
        site.run(ticket)
    assert caught.value.code == "ledger.loss"
    settled = site.enclave.ledger.settlement(ticket.ticket_id)
    assert (settled.receipt, settled.release) == (None, None)
    assert site.spent() > before
    assert run.recover_open_tickets(site.enclave) == 1
    receipt = site.receipt(site.enclave.ledger.settlement(ticket.ticket_id))
    assert (receipt.outcome, site.spent() - before) == (Outcome.FAILED, receipt.losses[0].pico_rho)
