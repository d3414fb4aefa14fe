"""One call, answered: in every mode, with its receipt; and what a fault leaves."""

from __future__ import annotations

import secrets
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import msgspec
import pytest

from enclave_runner.contract.call import (
    Ask,
    BucketAnswer,
    BucketAsk,
    EvaluationAnswer,
    EvaluationAsk,
    LookupAnswer,
    LookupAsk,
    OpeningAnswer,
    OpeningAsk,
    ScoreAnswer,
    ThresholdAnswer,
    ThresholdAsk,
    commitment,
)
from enclave_runner.contract.check import CheckKind, VerificationMode
from enclave_runner.contract.errors import Failed
from enclave_runner.contract.protocols import cell, equality, oprf, threshold
from enclave_runner.contract.protocols.canonical import keyword
from enclave_runner.contract.receipt import Outcome
from enclave_runner.contract.scoring import Feature, Scorecard, ScoreCheck, Term
from enclave_runner.contract.wire import AskHint, HintPart
from enclave_runner.private.worker import ServingWorker
from enclave_runner.supervisor.guesses import milli_bits
from enclave_runner.supervisor.ledger import utc_now
from enclave_runner.supervisor.service import answer as door
from sandbox.client import lookup
from sandbox.client.scoring import ScoreQuestion
from tests.support.enclave_home import PEOPLE, PEOPLE_CSV, Site, make_bureau, make_grant, running_site
from tests.support.open_products import Product, caller, equal, opened, plain, product_of, refused, table_of

P0, P1, P2 = VerificationMode.PLAIN, VerificationMode.EQUALITY, VerificationMode.THRESHOLD
P3, P4, P5 = VerificationMode.BUCKET, VerificationMode.LOOKUP, VerificationMode.SCORE
EDGES = (18, 24, 60)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An enclave whose tables may be small; 4 bits for each subject."""
    limits = {"k_min": "64", "bits_per_subject": '"4"', "alarm_bits": '"6"', "evaluations_per_caller": "8"}
    with running_site(make_bureau(tmp_path_factory.mktemp("calls"), **limits)) as running:  # type: ignore[arg-type]
        running.import_csv(PEOPLE, PEOPLE_CSV)
        yield running


@pytest.fixture(scope="module")
def city(site: Site) -> Product:
    """Is the city y? P0, P1."""
    return product_of(site, "city", CheckKind.EQUALS, "city", P0, P1)


@pytest.fixture(scope="module")
def age(site: Site) -> Product:
    """Is the age at least T? P0, P2."""
    return product_of(site, "age", CheckKind.AT_LEAST, "age", P0, P2, edges=EDGES)


@pytest.fixture(scope="module")
def west(site: Site) -> Product:
    """Is the city in the west? P0, P3, P4."""
    return product_of(site, "west", CheckKind.MEMBER, "city", P0, P3, P4, members=("西城",))


# Answered


def test_a_plain_batch_is_answered_in_order(age: Product) -> None:
    assert age.verdicts(("p1", "21"), ("p1", "22"), ("nobody", "0"), (" p2 ", "22")) == ("yes", "no", "no", "yes")


@pytest.mark.parametrize(
    ("kind", "attribute", "fields", "asked", "verdicts"),
    [
        (CheckKind.EQUALS, "income", {}, (("p3", "3.5"), ("p3", "3.50"), ("p3", "3.51")), ("yes", "yes", "no")),
        (CheckKind.EQUALS, "active", {}, (("p5", "true"), ("p5", "false")), ("no", "yes")),
        (CheckKind.EQUALS, "joined", {}, (("p1", "2001-01-02"), ("p1", "2001-01-03")), ("yes", "no")),
        (CheckKind.AT_LEAST, "joined", {}, (("p1", "2001-01-02"), ("p1", "2001-01-03")), ("yes", "no")),
        (CheckKind.MEMBER, "city", {"members": ("西城",)}, (("p3", ""), ("p4", "")), ("yes", "no")),
        (CheckKind.LEVEL, "age", {"edges": (21, 60)}, (("p0", ""), ("p1", ""), ("p45", "")), ("0", "1", "2")),
        (CheckKind.EXISTS, "city", {}, (("p1", ""), ("nobody", "")), ("yes", "no")),
        (CheckKind.EXISTS, "city", {"says_unknown": True}, (("nobody", ""),), ("cannot-say",)),
    ],
)
def test_every_kind_of_question_is_answered(
    site: Site,
    kind: CheckKind,
    attribute: str,
    fields: dict[str, object],
    asked: tuple[tuple[str, str], ...],
    verdicts: tuple[str, ...],
) -> None:
    product = product_of(site, "kinds", kind, attribute, P0, **fields)
    assert product.verdicts(*asked, caller=caller()) == verdicts


def test_a_hidden_value_is_compared(city: Product) -> None:
    who = caller()
    assert equal(city, "p3", "西城", who) == (True, True)
    assert equal(city, "p3", "东城", who) == (False, True)
    assert equal(city, "nobody", "西城", who) == (False, True)  # in the same form as a no


@pytest.mark.parametrize(("index", "expected"), [(0, cell.YES), (1, cell.NO), (2, cell.NO)])
def test_a_hidden_threshold_is_compared(age: Product, index: int, expected: int) -> None:
    who = caller()
    opening = age.answer(OpeningAsk(), who)
    assert isinstance(opening, OpeningAnswer)
    call_id = secrets.token_bytes(16)
    context = equality.context(age.offer.product_id, age.offer.version, call_id)
    choice, pad = threshold.choose(opening.point, index, context)
    ask = ThresholdAsk(subject="p3", opening=opening.opening, choice=choice)
    reply = age.send(age.call(ask, call_id=call_id), who)
    assert isinstance(reply.answer, ThresholdAnswer)
    assert threshold.read(pad, index, reply.answer.cells) == expected
    assert age.receipt(reply).units == 1


def evaluated(product: Product, subject: str, who: str, mode: VerificationMode) -> bytes:
    blinded = oprf.blind(keyword(subject))
    found = product.answer(EvaluationAsk(mode=mode, blinded=(blinded.element,)), who)
    assert isinstance(found, EvaluationAnswer)
    (output,) = oprf.finalize([blinded], found.evaluated, found.proof, table_of(product).public_key)
    return output


def hint_of(product: Product) -> bytes:
    parts = bytearray()
    while True:
        ask = AskHint(product_id=product.offer.product_id, version=product.offer.version, offset=len(parts))
        part = door(product.site.enclave, ask, None)
        assert isinstance(part, HintPart)
        if not part.data:
            return bytes(parts)
        parts += part.data


@pytest.mark.parametrize(("subject", "is_there"), [("p3", True), ("p4", False), ("nobody", False)])
def test_a_hidden_subject_is_found_in_its_bucket_and_by_a_lookup(west: Product, subject: str, is_there: bool) -> None:
    who, table = caller(), table_of(west)
    output = evaluated(west, subject, who, P3)
    column = cell.entry(output, west.offer.version).column(table.columns)
    bucket = west.answer(BucketAsk(bucket=column // table.bucket_columns), who)
    assert isinstance(bucket, BucketAnswer)
    start = column % table.bucket_columns * table.height
    cells = bucket.cells[start : start + table.height]
    label = cell.find(cells, output, west.offer.version)
    assert label == (cell.label(cell.YES) if is_there else None)

    secret, question = lookup.ask(table.seed, table.columns, column)
    found = west.answer(LookupAsk(question=question), who)
    assert isinstance(found, LookupAnswer)
    assert lookup.decode(found.reply, hint_of(west), secret) == cells


def test_a_table_says_how_many_are_hidden_together(west: Product) -> None:
    table = table_of(west)
    assert 64 <= table.k <= 200
    assert len(hint_of(west)) == table.hint_bytes


@pytest.fixture(scope="module")
def credit(site: Site) -> Product:
    """A scorecard over encrypted features, with points of the platform's own. P5."""
    features = (Feature(name="loans", weight=-7, low=0, high=20), Feature(name="years", weight=3, low=0, high=100))
    terms = (Term(column="age", weight=2, low=0, high=120), Term(column="active", weight=10, low=0, high=1))
    check = ScoreCheck(dataset_id="people", model=Scorecard(features=features, intercept=5), terms=terms)
    grant = make_grant(max_uses=1_000_000, deadline=utc_now() + timedelta(days=30))
    return opened(site, check, grant, product_id="credit", expires_at=grant.deadline)


def test_encrypted_features_are_scored_with_the_platform_s_points(site: Site, credit: Product) -> None:
    check, who = credit.ticket.check, caller()
    assert isinstance(check, ScoreCheck)
    for _ in range(3):  # the points are the same each time, so they are counted once
        question = ScoreQuestion(check, ["p1", "p5", "nobody"], {"loans": [1, 2, 3], "years": [10, 20, 30]})
        reply = credit.ask(question.ask, who)
        assert isinstance(reply.answer, ScoreAnswer), reply.rule
        assert reply.answer.known == (True, True, False)
        scores = question.read(reply.answer)
        assert [item.score for item in scores][:2] == [5 - 7 + 30 + 42 + 10, 5 - 14 + 60 + 50]
        assert (credit.receipt(reply).units, credit.receipt(reply).mode) == (3, P5)
    with closing(sqlite3.connect(site.bureau.home.ledger)) as raw:
        rows = raw.execute("SELECT amount FROM tallies WHERE caller_id = ?", (who,)).fetchall()
    assert rows == [(milli_bits(check.outcomes),)] * 3


@pytest.mark.parametrize("part", ["key", "features"])
def test_a_ciphertext_that_is_none_is_refused_with_a_receipt(credit: Product, part: str) -> None:
    check = credit.ticket.check
    assert isinstance(check, ScoreCheck)
    ask = ScoreQuestion(check, ["p1"], {"loans": [1], "years": [10]}).ask
    short = b"" if part == "key" else (ask.features[0][:-1], ask.features[1])
    assert refused(credit, credit.ask(msgspec.structs.replace(ask, **{part: short}))) == "scoring.length"
    noise = secrets.token_bytes(len(ask.key)) if part == "key" else (secrets.token_bytes(len(ask.features[0])),) * 2
    assert refused(credit, credit.ask(msgspec.structs.replace(ask, **{part: noise}))) == "scoring.ciphertext"


# Receipts and commitments


def test_a_receipt_names_no_subject_no_claim_and_no_answer(city: Product) -> None:
    call = city.call(plain(("p7", "西城")))
    reply = city.send(call)
    receipt = city.receipt(reply)
    assert reply.answer is not None
    assert receipt.commitment == commitment(call.salt, call.ask, reply.answer)
    assert (receipt.units, receipt.mode, receipt.outcome) == (1, P0, Outcome.RELEASED)
    assert (receipt.call_id, receipt.version) == (call.call_id.hex(), city.offer.version)
    for text in (b"p7", "西城".encode(), b"yes"):
        assert text not in reply.settled.receipt


def test_the_ledger_holds_no_subject_and_no_claim(site: Site, city: Product) -> None:
    city.verdicts(("p-that-nobody-has", "claim-that-nobody-made"), caller=caller())
    for path in site.bureau.home.folder.glob("ledger.db*"):
        content = path.read_bytes()
        assert b"p-that-nobody-has" not in content
        assert b"claim-that-nobody-made" not in content


@pytest.mark.parametrize(
    ("ask", "units"),
    [
        (plain(("p1", "1"), ("p2", "2"), ("p3", "3")), 3),
        (OpeningAsk(), 0),
    ],
)
def test_units_are_the_answered_questions(age: Product, ask: Ask, units: int) -> None:
    assert age.receipt(age.ask(ask, caller())).units == units


def test_hidden_questions_are_priced_by_the_evaluation_and_not_by_the_second_move(west: Product) -> None:
    who = caller()
    blinded = tuple(oprf.blind(keyword(name)).element for name in ("p1", "p2"))
    assert west.receipt(west.ask(EvaluationAsk(mode=P4, blinded=blinded), who)).units == 2
    receipt = west.receipt(west.ask(BucketAsk(bucket=0), who))
    assert (receipt.units, receipt.mode, receipt.outcome) == (0, P3, Outcome.RELEASED)


# Faults


def worker_of(product: Product) -> ServingWorker:
    """The product's serving worker."""
    enclave = product.site.enclave
    with enclave.verification.products.use(product.offer.product_id, lambda: None, utc_now()) as found:
        return found.ask(enclave.verification.zygote, lambda worker: worker)


def kill(worker: ServingWorker) -> None:
    """kill -9 of its outer process, which takes the worker with it."""
    signal.pidfd_send_signal(worker._held._pidfd, signal.SIGKILL)
    while worker.is_alive:
        threading.Event().wait(0.01)


def test_a_worker_that_died_is_replaced_and_costs_no_call(site: Site) -> None:
    product = product_of(site, "dies", CheckKind.AT_LEAST, "age", P0)
    worker = worker_of(product)
    kill(worker)
    assert product.verdicts(("p1", "21"), caller=caller()) == ("yes",)
    assert worker_of(product) is not worker


def test_a_fault_has_a_receipt_no_price_and_counts_no_guess(
    site: Site, age: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = caller()

    def broken(self: ServingWorker, asked: object, is_stale: bool = False) -> tuple[int, ...]:
        raise Failed("serving.deadline")

    with monkeypatch.context() as patched:
        patched.setattr(ServingWorker, "judge", broken)
        for _ in range(9):
            reply = age.ask(plain(("p15", "21")), who)
            receipt = age.receipt(reply)
            assert (reply.answer, reply.rule, receipt.outcome, receipt.units) == (None, None, Outcome.FAILED, 0)
            assert receipt.fault is not None
            assert receipt.fault in site.bureau.home.log.read_text(encoding="utf-8")
    for _ in range(4):
        age.verdicts(("p15", "21"), caller=who)


def test_what_cannot_be_made_durable_does_not_leave(site: Site, age: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    who, call = caller(), age.call(plain(("p16", "21")))
    with monkeypatch.context() as patched:

        def full(*arguments: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        patched.setattr("enclave_runner.supervisor.call_log._insert", full)
        with pytest.raises(Failed, match=r"ledger\.write"):
            age.send(call, who)
    assert age.send(call, who).answer is not None  # the same call, once there is room again
    for _ in range(3):
        age.verdicts(("p16", "21"), caller=who)


def test_every_call_stands_in_the_log_once(site: Site, age: Product) -> None:
    age.verdicts(("p17", "21"), caller=caller())
    with closing(sqlite3.connect(site.bureau.home.ledger)) as raw:
        (calls,) = raw.execute("SELECT count(*) FROM calls").fetchone()
        (counted,) = raw.execute("SELECT sum(count) FROM call_batches").fetchone()
        (of_tickets,) = raw.execute("SELECT sum(calls) FROM standing").fetchone()
    assert calls == counted == of_tickets
