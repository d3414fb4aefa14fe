"""Open products over time: builds that are killed, progress, and new versions without a gap."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from enclave_runner.contract.call import Ask, BucketAsk, EvaluationAsk
from enclave_runner.contract.check import CheckKind, VerificationMode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.protocols import oprf
from enclave_runner.contract.protocols.canonical import keyword
from enclave_runner.contract.standing import StandingTicket
from enclave_runner.contract.wire import AskProgress, CloseProduct, Progress
from enclave_runner.private.build import chunks
from enclave_runner.private.tasks import Evaluating, Tabulating
from enclave_runner.supervisor import serving, table_build
from enclave_runner.supervisor.opening import open_product
from enclave_runner.supervisor.service import answer as door
from enclave_runner.supervisor.standing import State
from enclave_runner.supervisor.verification import ServingZygote
from tests.support.enclave_home import (
    PEOPLE,
    PEOPLE_CSV,
    Bureau,
    Site,
    make_bureau,
    running_site,
)
from tests.support.open_products import (
    Product,
    check_of,
    opened,
    opened_under,
    plain,
    sign_standing,
    standing_ticket,
)

P0, P1, P2 = VerificationMode.PLAIN, VerificationMode.EQUALITY, VerificationMode.THRESHOLD
P3, P4 = VerificationMode.BUCKET, VerificationMode.LOOKUP
CITY = check_of("city", CheckKind.EQUALS)
WEST = check_of("city", CheckKind.MEMBER, (P0, P3, P4), members=("西城",))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An enclave for what leaves no trace that another test would meet."""
    with running_site(make_bureau(tmp_path_factory.mktemp("opening"), k_min="64")) as running:
        running.import_csv(PEOPLE, PEOPLE_CSV)
        yield running


@pytest.fixture
def bureau(tmp_path: Path) -> Bureau:
    """A home of one's own."""
    return make_bureau(tmp_path, k_min="64", max_products="3")


def imported(site: Site) -> Site:
    site.import_csv(PEOPLE, PEOPLE_CSV)
    return site


def again(site: Site, product: Product) -> Product:
    """The same product in another run of the enclave."""
    return Product(site, product.ticket, product.offer)


def refusal(site: Site, ticket: StandingTicket) -> str:
    with pytest.raises(Refused) as refused:
        open_product(site.enclave, sign_standing(site, ticket))
    return refused.value.rule


# Builds that are killed


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_build, "chunks", partial(chunks, size=16))


@pytest.mark.usefixtures("small_chunks")
def test_a_build_that_was_killed_goes_on_with_what_it_has(bureau: Bureau, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, stopped = ServingZygote.work, 3
    done: list[object] = []

    def work(self: ServingZygote, task: object, descriptors: object, profile: object) -> object:
        if isinstance(task, Evaluating) and len(done) >= stopped:
            raise Failed("jail.zygote-gone")
        answer = honest(self, task, descriptors, profile)  # type: ignore[arg-type]
        done.append(task)
        return answer

    monkeypatch.setattr(ServingZygote, "work", work)
    with running_site(bureau) as site:
        ticket = standing_ticket(imported(site), WEST, product_id="killed")
        with pytest.raises(Failed, match=r"jail\.zygote-gone"):
            opened_under(site, ticket)
        assert len([task for task in done if isinstance(task, Tabulating)]) == 1
        progress = door(site.enclave, AskProgress(ticket_id=ticket.ticket_id), None)
        assert progress == Progress(stage="waiting", done=0, total=1)
    before, stopped = len(done), 10**6
    with running_site(bureau) as site:  # the home was closed in between, as after a kill
        product = opened_under(site, ticket)
        assert product.verdicts(("p3", ""), ("p4", "")) == ("yes", "no")
    assert not [task for task in done[before:] if isinstance(task, Tabulating)]
    firsts = [task.first for task in done if isinstance(task, Evaluating)]
    assert len(firsts) == len(set(firsts)) > before - 1


@pytest.mark.usefixtures("small_chunks")
def test_progress_is_told_while_a_table_is_built(bureau: Bureau, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, told = ServingZygote.work, []
    with running_site(bureau) as site:
        ticket = standing_ticket(imported(site), WEST, product_id="progress")

        def work(self: ServingZygote, task: object, descriptors: object, profile: object) -> object:
            told.append(door(site.enclave, AskProgress(ticket_id=ticket.ticket_id), None))
            return honest(self, task, descriptors, profile)  # type: ignore[arg-type]

        monkeypatch.setattr(ServingZygote, "work", work)
        with pytest.raises(Refused, match=r"standing\.unknown"):
            door(site.enclave, AskProgress(ticket_id=ticket.ticket_id), None)
        opened_under(site, ticket)
    stages = [item.stage for item in told if isinstance(item, Progress)]
    assert [stage for index, stage in enumerate(stages) if stage not in stages[:index]] == [
        "reading",
        "evaluating",
        "assembling",
        "hint",
    ]
    assert all(0 <= item.done <= item.total for item in told if isinstance(item, Progress))


@pytest.mark.usefixtures("small_chunks")
def test_a_ticket_that_is_closed_while_it_is_built_never_answers(
    bureau: Bureau, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = ServingZygote.work
    with running_site(bureau) as site:
        before = opened(imported(site), CITY, product_id="race")
        ticket = standing_ticket(site, WEST, product_id="race")

        def work(self: ServingZygote, task: object, descriptors: object, profile: object) -> object:
            answer = honest(self, task, descriptors, profile)  # type: ignore[arg-type]
            if isinstance(task, Evaluating):
                door(site.enclave, CloseProduct(ticket_id=ticket.ticket_id), None)
            return answer

        monkeypatch.setattr(ServingZygote, "work", work)
        with pytest.raises((Refused, Failed)):
            opened_under(site, ticket)
        assert before.verdicts(("p3", "西城")) == ("yes",)
        found = site.enclave.verification.standing.find(ticket.ticket_id)
        assert found is not None
        assert found.state is State.CLOSED
        assert site.enclave.verification.tables.versions() == {before.offer.version}


@pytest.mark.parametrize("size", [0, 1, 3333])
def test_a_worker_that_leaves_another_size_is_a_fault(
    bureau: Bureau, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    honest = ServingZygote.work

    def work(self: ServingZygote, task: object, descriptors: list[int], profile: object) -> object:
        answer = honest(self, task, descriptors, profile)  # type: ignore[arg-type]
        if isinstance(task, Evaluating):
            os.ftruncate(descriptors[-1], size)
        return answer

    monkeypatch.setattr(ServingZygote, "work", work)
    with running_site(bureau) as site, pytest.raises(Failed, match=r"job\.answer"):
        opened(imported(site), WEST)


# Switches


def test_a_new_version_answers_without_a_gap(bureau: Bureau) -> None:
    """Callers ask all the time while the product goes through four versions: each call is answered, or told to take the
    new offer; none meets a closed door."""
    with running_site(bureau) as site:
        product = opened(imported(site), CITY, product_id="switch")
        newest, stop, wrong, answered = [product], threading.Event(), [], []

        def ask() -> None:
            while not stop.is_set():
                mine = newest[-1]
                try:
                    reply = mine.ask(plain((f"p{secrets.randbelow(200)}", "西城")), f"caller-{secrets.token_hex(4)}")
                except (Refused, Failed) as error:
                    wrong.append(error)
                    continue
                if reply.answer is not None:
                    answered.append(mine.offer.version)
                elif reply.rule != "call.stale-version":
                    wrong.append(Failed(str(reply.rule)))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(4):
            site.import_csv(PEOPLE, PEOPLE_CSV.replace("p198,", f"new{number},"))
            newest.append(opened(site, CITY, product_id="switch"))
        stop.set()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert len(set(answered)) >= 4
        assert newest[-1].verdicts(("new3", "西城"), ("new2", "西城"), caller="caller-x") == ("yes", "no")
        assert site.enclave.verification.tables.versions() == {newest[-1].offer.version}


def second_move(product: Product) -> Ask:
    """What follows an evaluation."""
    product.answer(EvaluationAsk(mode=P3, blinded=(oprf.blind(keyword("p3")).element,)))
    return BucketAsk(bucket=0)


def test_what_was_begun_in_a_version_is_ended_in_it_and_nothing_else(bureau: Bureau) -> None:
    with running_site(bureau) as site:
        first = opened(imported(site), WEST, product_id="begun")
        move = second_move(first)
        second = opened(site, WEST, product_id="begun")
        reply = first.ask(move)
        assert reply.answer is not None
        assert first.receipt(reply).version == first.offer.version
        for fresh in (plain(("p3", "")), EvaluationAsk(mode=P3, blinded=(oprf.blind(b"x").element,))):
            assert first.ask(fresh).rule == "call.stale-version"
        assert second.verdicts(("p3", "")) == ("yes",)
        opened(site, WEST, product_id="begun")  # two versions later it is over
        assert first.ask(move).rule == "call.stale-version"


def test_closing_a_product_ends_what_was_begun_in_an_earlier_version(bureau: Bureau) -> None:
    with running_site(bureau) as site:
        first = opened(imported(site), WEST, product_id="ended")
        move = second_move(first)
        second = opened(site, WEST, product_id="ended")
        door(site.enclave, CloseProduct(ticket_id=second.ticket.ticket_id), None)
        with pytest.raises(Refused, match=r"product\.not-open"):
            first.ask(move)


def test_what_was_begun_is_answered_for_a_while_only(bureau: Bureau, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "GRACE_SECONDS", 0.01)
    with running_site(bureau) as site:
        first = opened(imported(site), WEST, product_id="grace")
        move = second_move(first)
        opened(site, WEST, product_id="grace")
        while first.ask(move, f"caller-{secrets.token_hex(4)}").rule == "verification.moves":
            threading.Event().wait(0.01)
        assert first.ask(move).rule == "call.stale-version"


def test_a_new_version_of_the_data_does_not_change_what_an_open_product_answers(bureau: Bureau) -> None:
    with running_site(bureau) as site:
        product = opened(imported(site), CITY, product_id="pinned")
        site.import_csv(PEOPLE, PEOPLE_CSV.replace("p3,", "gone,"))
        assert product.verdicts(("p3", "西城"), ("gone", "西城")) == ("yes", "no")
        assert refusal(site, standing_ticket(site, CITY, data_versions=product.ticket.data_versions)) == (
            "ticket.data-version"
        )


def test_guesses_begin_anew_with_the_data_and_not_with_the_ticket(bureau: Bureau) -> None:
    with running_site(bureau) as site:
        product = opened(imported(site), CITY, product_id="anew")
        asked = [("p3", f"{number}城") for number in range(10)]
        product.verdicts(*asked)
        reopened = opened(site, CITY, product_id="anew")
        assert reopened.ask(plain(("p3", "西城"))).rule == "verification.exhausted"
        other = opened(site, check_of("city", CheckKind.EXISTS), product_id="other")
        assert other.ask(plain(("p3", ""))).rule == "verification.exhausted"  # the same attribute, another product
        site.import_csv(PEOPLE, PEOPLE_CSV + "extra,男,20,1,西城,2001-01-01,true\n")
        assert opened(site, CITY, product_id="anew").verdicts(("p3", "西城")) == ("yes",)
