"""What an attacker of open products tried, and what comes of it now."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from enclave_runner.contract.call import EvaluationAsk, LookupAsk, OpeningAnswer, OpeningAsk, ThresholdAsk
from enclave_runner.contract.check import CheckKind, VerificationMode
from enclave_runner.contract.codec import encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.protocols import equality, oprf, threshold
from enclave_runner.contract.signing import KeyFile
from enclave_runner.contract.trust import Trust
from enclave_runner.contract.wire import RunCall
from enclave_runner.supervisor.calls import run_call
from enclave_runner.supervisor.opening import close_product, open_product
from enclave_runner.supervisor.retries import Retries
from tests.support.enclave_home import PEOPLE, PEOPLE_CSV, Site, make_bureau, make_grant, running_site
from tests.support.open_products import (
    Product,
    caller,
    check_of,
    opened,
    plain,
    product_of,
    refused,
    sign_standing,
    standing_ticket,
    table_of,
)

P0, P2, P4 = VerificationMode.PLAIN, VerificationMode.THRESHOLD, VerificationMode.LOOKUP
MEMBERS = ("西城",)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(make_bureau(tmp_path_factory.mktemp("attacks"), k_min="64")) as running:
        running.import_csv(PEOPLE, PEOPLE_CSV)
        yield running


def test_a_used_call_that_is_sent_again_and_again_shuts_out_its_sender_alone(site: Site) -> None:
    product = product_of(site, "replayed", CheckKind.EQUALS, "city", P0, calls=100)
    call = product.call(plain(("p1", "x")))
    assert product.send(call, "biz-a").answer is not None
    object.__setattr__(site.enclave.verification, "retries", Retries())  # as after a restart
    rules = Counter[str]()
    for _ in range(150):
        with pytest.raises(Refused) as raised:
            product.send(call, "biz-a")
        rules[raised.value.rule] += 1
    assert set(rules) == {"call.used", "call.unpaid"}
    assert rules["call.used"] < 50
    assert product.verdicts(("p2", "x"), caller="biz-b") == ("no",)


def test_the_first_move_of_a_threshold_needs_no_consent_and_the_second_does(site: Site) -> None:
    product = product_of(site, "consented", CheckKind.AT_LEAST, "age", P2, edges=(18, 60), needs_consent=True)
    who, call_id = caller(), secrets.token_bytes(16)
    opening = product.answer(OpeningAsk(), who)
    assert isinstance(opening, OpeningAnswer)
    context = equality.context(product.offer.product_id, product.offer.version, call_id)
    choice, _ = threshold.choose(opening.point, 0, context)
    ask = ThresholdAsk(subject="p1", opening=opening.opening, choice=choice)
    assert refused(product, product.send(product.call(ask), who)) == "call.consent"
    assert product.send(product.call(ask, call_id=call_id), who, consents="consent-1").answer is not None


def test_a_question_that_the_ledger_refuses_uses_no_guess(site: Site) -> None:
    product = product_of(site, "spent", CheckKind.EQUALS, "age", P0, grant=make_grant(grant_id="g-spent", max_uses=1))
    who = caller()
    assert product.ask(plain(("p5", "1")), who).answer is not None
    site.enclave.verification.commits._used.clear()  # what is remembered of it; the file decides
    assert refused(product, product.ask(plain(("p6", "1")), who)) == "grant.uses"
    other = product_of(site, "not-spent", CheckKind.EQUALS, "age", P0)
    assert all(other.ask(plain(("p6", str(guess))), who).answer is not None for guess in range(10))


def test_what_was_begun_is_ended_though_the_replaced_ticket_is_closed(site: Site) -> None:
    check, who = check_of("city", CheckKind.MEMBER, (P0, P4), members=MEMBERS), caller()
    before = opened(site, check, product_id="switched")
    before.answer(EvaluationAsk(mode=P4, blinded=(oprf.blind(bytes(32)).element,)), who)
    after = opened(site, check, product_id="switched")
    close_product(site.enclave, before.ticket.ticket_id)  # what the control plane sends right after the switch
    ask = LookupAsk(question=bytes(4 * table_of(before).columns))
    assert before.ask(ask, who).answer is not None
    assert refused(before, before.ask(plain(("p1", "")), who)) == "call.stale-version"
    close_product(site.enclave, after.ticket.ticket_id)
    with pytest.raises(Refused, match=r"product\.not-open"):
        before.ask(ask, who)


def test_a_priced_threshold_is_no_second_move(site: Site) -> None:
    check, who = check_of("age", CheckKind.AT_LEAST, (P2,), edges=(18, 60)), caller()
    before = opened(site, check, product_id="tightened")
    opening = before.answer(OpeningAsk(), who)
    assert isinstance(opening, OpeningAnswer)
    opened(site, check, product_id="tightened", needs_consent=True)
    ask = ThresholdAsk(subject="p1", opening=opening.opening, choice=opening.point)
    assert refused(before, before.ask(ask, who)) in ("call.consent", "call.stale-version")


def test_an_enclave_that_has_forgotten_calls_answers_none(site: Site) -> None:
    product = product_of(site, "seen", CheckKind.EXISTS, "city", P0)
    ahead = site.enclave.verification.commits.next_number() + 1
    request = RunCall(
        product_id="seen", caller_id=caller(), consents=None, call=product.call(plain(("p1", ""))), calls_seen=ahead
    )
    with pytest.raises(Refused, match=r"enclave\.rolled-back"):
        run_call(site.enclave, request)


def test_openings_that_wait_leave_the_door_to_others(site: Site) -> None:
    places = site.enclave.verification.openings.places
    taken = 0
    while places.acquire(blocking=False):
        taken += 1
    try:
        with pytest.raises(Failed, match=r"standing\.busy"):
            open_product(site.enclave, sign_standing(site, standing_ticket(site, check_of(), product_id="waiting")))
    finally:
        for _ in range(taken):
            places.release()
    assert taken == 4
    assert opened(site, check_of(), product_id="waiting").ask(plain(("p1", "x")), caller()).answer is not None


def test_keys_that_were_replaced_end_what_they_had_opened(tmp_path: Path) -> None:
    bureau = make_bureau(tmp_path)
    with running_site(bureau) as first:
        first.import_csv(PEOPLE, PEOPLE_CSV)
        product = product_of(first, "stolen", CheckKind.EQUALS, "city", P0)
    officer, control = KeyFile.create(tmp_path / "officer2.key"), KeyFile.create(tmp_path / "control2.key")
    bureau.home.trust.write_bytes(encode(Trust(control=(control.public_key,), officers=(officer.public_key,))))
    with (
        running_site(bureau) as second,
        pytest.raises(Refused, match=r"product\.not-open"),
    ):
        Product(second, product.ticket, product.offer).ask(plain(("p1", "x")), caller())
