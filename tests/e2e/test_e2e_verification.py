"""Open products end to end: published, opened, called in every mode by the client library, metered, renewed, closed."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from enclave_runner.contract.call import Asked, PlainAnswer, PlainAsk
from enclave_runner.contract.check import CheckKind
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.wire import AskCalls, CallLog
from sandbox.client import Declined, Unanswered, VerificationClient, Verified, format_key, verify_receipt
from sandbox.workflow.audit import verify_audit
from sandbox.workflow.consents import file_consent, withdraw_consent
from sandbox.workflow.meter import list_events
from sandbox.workflow.products import suspend_product
from sandbox.workflow.standing import close_product
from tests.support.deployment import BANK, HEADER, OPERATOR, import_text
from tests.support.verification_site import CHECKS, DISTRICT, INCOME, ROWS, Site, check, verification_site

pytestmark = pytest.mark.slow
PEOPLE = ("p0", "p7", f"p{ROWS - 1}", "nobody")
MODES = [(product, mode.value) for product, asked in CHECKS.items() if product != "credit" for mode in asked.modes]
Ask = Callable[..., Verified]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Every product open."""
    with verification_site(tmp_path_factory.mktemp("verification") / "home", more=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def clients(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, VerificationClient]]:
    """The bank's client of each product."""
    with ExitStack() as stack:
        cache = tmp_path_factory.mktemp("hints")
        yield {product: stack.enter_context(client_of(site, product, cache)) for product in CHECKS}


def client_of(site: Site, product: str, cache: Path, party: str = BANK) -> VerificationClient:
    """A client that trusts the enclave of that site."""
    trusted = site.world.office.enclave_key
    return VerificationClient(site.base, site.tokens[party], product, trusted=trusted, cache=cache)


def income(subject: str) -> int | None:
    """In fen, as `tests.support.deployment.rows` makes it."""
    return None if subject == "nobody" else (1000 + int(subject[1:])) * 100 + 50


def truth(product: str, subject: str) -> tuple[str, dict[str, object]]:
    """What is so, and how it is asked."""
    number = None if subject == "nobody" else int(subject[1:])
    paid = income(subject)
    match product:
        case "lives-in":
            return "yes" if number is not None and number % 2 == 0 else "no", {"claim": "north"}
        case "earns-at-least":
            return "yes" if paid is not None and paid >= 3500_00 else "no", {"at_least": "3500"}
        case "is-northern":
            return "yes" if number is not None and number % 2 == 0 else "no", {}
        case "income-level":
            return "cannot-say" if paid is None else str(sum(paid >= edge for edge in (1500_00, 2500_00))), {}
        case _:
            return "no" if number is None else "yes", {}


def said(answer: Verified) -> str:
    """The verdict, or the band."""
    return str(answer.level) if answer.verdict is None else answer.verdict.value


@pytest.mark.parametrize(("product", "mode"), MODES)
def test_every_mode_says_what_is_so(clients: dict[str, VerificationClient], product: str, mode: str) -> None:
    for subject in PEOPLE:
        expected, asked = truth(product, subject)
        answer = clients[product].verify(subject, mode=mode, **asked)  # type: ignore[arg-type]
        assert (said(answer), answer.mode.value) == (expected, mode), subject
        assert answer.price_fen == 50
        assert (answer.k is not None and answer.k >= 1024) == (mode == "P3")


def test_a_score_is_the_model_plus_the_platforms_points(clients: dict[str, VerificationClient]) -> None:
    subjects = ("p0", "p7", "p900", "nobody")
    ages, loans = (30, 45, 60, 20), (0, 2, 5, 1)
    scores = clients["credit"].score(subjects, {"age": ages, "loans": loans})
    for subject, age, loan, scored in zip(subjects, ages, loans, scores, strict=True):
        assert not isinstance(scored, Unanswered), scored
        paid = income(subject)
        points = 0 if paid is None else min(max(paid, 1000_00), 1500_00) // 50
        assert (scored.score, scored.points, scored.known) == (
            50 + 3 * age - 7 * loan + points,
            points,
            paid is not None,
        )
        assert scored.price_fen == 50


def test_a_batch_of_many_is_one_call(site: Site, clients: dict[str, VerificationClient]) -> None:
    answers = clients["on-record"].verify_many([f"p{number}" for number in range(100, 1100)], mode="P0")
    assert {answer.verdict.value for answer in answers if isinstance(answer, Verified) and answer.verdict} == {"yes"}
    (receipt,) = {call.receipt.call_id for answer in answers for call in answer.receipt.verified}  # type: ignore[union-attr]
    events = [event for event in list_events(site.world.office, site.world.actor(BANK)) if event.units == 1000]
    assert len(events) == 1
    assert receipt


def test_a_receipt_verifies_offline_and_names_nobody(
    site: Site, clients: dict[str, VerificationClient], tmp_path: Path
) -> None:
    answer = clients["lives-in"].verify("p8", claim="north", mode="P1")
    whole, bare = tmp_path / "whole.json", tmp_path / "bare.json"
    answer.receipt.save(whole)
    answer.receipt.save(bare, with_question=False)
    trusted = (site.world.office.enclave_key,)
    assert [call.is_opened for call in verify_receipt(whole, trusted)] == [True]
    (call,) = verify_receipt(bare, trusted)
    assert (call.is_opened, call.receipt.caller_id, call.receipt.product_id) == (False, BANK, "lives-in")
    assert b"p8" not in bare.read_bytes()
    spoilt = bytearray(whole.read_bytes())
    place = spoilt.index(b'"salt":"') + 8
    spoilt[place] = ord("A") if spoilt[place] != ord("A") else ord("B")
    whole.write_bytes(bytes(spoilt))
    with pytest.raises(Refused):
        verify_receipt(whole, trusted)


def test_every_receipt_is_one_meter_event_and_the_audit_holds(site: Site) -> None:
    log = site.world.office.enclave.call(AskCalls())
    assert isinstance(log, CallLog)
    receipts = sum(len(batch.receipts) for batch in log.batches)  # few enough for one page
    events = [event for event in list_events(site.world.office, site.world.actor()) if event.is_call]
    assert len(events) == len({event.receipt_id for event in events}) == receipts > 0
    assert verify_audit(site.world.office).ok


def test_the_command_line_verifies_without_the_subject_on_it(site: Site, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(site.tokens[BANK])
    key.chmod(0o600)
    receipt = tmp_path / "receipt.json"
    trusted = format_key(site.world.office.enclave_key)
    line = [sys.executable, "-m", "sandbox.client", "verify", "lives-in", "-", "--claim", "north", "--mode", "P1"]
    line += ["--url", site.base, "--key-file", str(key), "--trusted", trusted, "--receipt", str(receipt), "--json"]
    done = subprocess.run(line, input="p10\n", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "yes"
    line = [sys.executable, "-m", "sandbox.client", "receipt", str(receipt), "--trusted", trusted, "--json"]
    assert subprocess.run(line, capture_output=True, check=False).returncode == 0


def test_a_withdrawn_consent_ends_at_the_next_call(site: Site, tmp_path: Path) -> None:
    world, now = site.world, site.world.office.clock()
    site.publish("with-consent", check(CheckKind.EQUALS, DISTRICT, "P0", "P1"), consent=True)
    site.open("with-consent")
    with client_of(site, "with-consent", tmp_path) as client:
        with pytest.raises(Declined) as refused:
            client.verify("p40", claim="north", mode="P0")
        assert refused.value.rule == "consent.missing"
        consent = file_consent(world.office, world.actor(), "with-consent", BANK, "p40", now + timedelta(days=1))
        for mode in ("P0", "P1"):
            answer = client.verify("p40", claim="north", mode=mode)
            assert [call.receipt.consents for call in answer.receipt.verified] == [consent.consent_id]
        batch = PlainAsk(asked=(Asked(subject="p40", claim="north"), Asked(subject="p41", claim="north")))
        with pytest.raises(Refused, match=r"consent\.missing"):
            site.caller("with-consent").ask(batch, secrets.token_bytes(16))
        withdraw_consent(world.office, world.actor(), consent.consent_id)
        for mode in ("P0", "P1"):
            with pytest.raises(Declined) as refused:
                client.verify("p40", claim="north", mode=mode)
            assert refused.value.rule == "consent.missing"


def test_hidden_questions_and_consent_do_not_go_together(site: Site) -> None:
    with pytest.raises(Refused, match=r"product\.hidden-consent"):
        site.publish("hidden-consent", check(CheckKind.EQUALS, DISTRICT, "P0", "P4"), consent=True)


@dataclass
class Load:
    """Clients that ask without a pause until they are stopped."""

    answers: list[str] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, client: VerificationClient, mode: str, first: int) -> None:
        """Ask about one after the other; what is not answered is an error."""
        number = first
        with client:
            while not self.stop.is_set():
                number += 1
                try:
                    answer = client.verify(f"p{number % ROWS}", mode=mode)
                except BaseException as error:
                    self.errors.append(error)
                    continue
                self.answers.append(said(answer))


def test_a_new_version_takes_over_without_a_gap(site: Site, tmp_path: Path) -> None:
    """New data come in and the product is opened anew, while callers in three modes go on asking."""
    before = site.caller("is-northern").version
    load = Load()
    threads = [
        threading.Thread(target=load.run, args=(client_of(site, "is-northern", tmp_path / mode), mode, 500 * place))
        for place, mode in enumerate(("P0", "P3", "P4"))
    ]
    for thread in threads:
        thread.start()
    try:
        lines = "".join(f"p{i},{('south', 'north')[i % 2]},{1000 + i}.50,moved,true\n" for i in range(ROWS))
        import_text(site.world, HEADER + lines)
        asked = len(load.answers)
        site.open("is-northern", refresh=True)
        during = len(load.answers) - asked
        with client_of(site, "is-northern", tmp_path / "after") as client:
            for mode in ("P0", "P3", "P4"):
                assert said(client.verify("p1700", mode=mode)) == "no"  # it was yes
                assert said(client.verify("p1701", mode=mode)) == "yes"  # it was no
    finally:
        load.stop.set()
        for thread in threads:
            thread.join()
    assert load.errors == []
    assert during > 0
    after = site.caller("is-northern")
    assert after.version != before
    with pytest.raises(Refused, match=r"call\.stale-version"):
        after.ask(PlainAsk(asked=(Asked(subject="p1"),)), secrets.token_bytes(16), version=before)


def test_a_suspended_or_closed_product_answers_no_more(site: Site) -> None:
    world = site.world
    for product in ("short-lived", "short-lived-too"):
        site.publish(product, check(CheckKind.EXISTS, INCOME, "P0"))
        site.open(product)
    ask = PlainAsk(asked=(Asked(subject="p1"),))
    first, second = site.caller("short-lived"), site.caller("short-lived-too")
    versions = {caller.product_id: caller.version for caller in (first, second)}
    for caller in (first, second):
        answer = caller.ask(ask, secrets.token_bytes(16))
        assert isinstance(answer, PlainAnswer)
    suspend_product(world.office, world.actor(OPERATOR), "short-lived")
    close_product(world.office, world.actor(OPERATOR), "short-lived-too")
    for caller, rule in ((first, "product.not-published"), (second, "product.not-open")):
        with pytest.raises(Refused, match=rule.replace(".", r"\.")):
            caller.ask(ask, secrets.token_bytes(16), version=versions[caller.product_id])
