"""Encrypted scoring over HTTP: exact scores, batches, strangers, and a platform that lies about its ciphertexts."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from enclave_runner.contract.call import BucketAnswer, ScoreAnswer, ScoreAsk
from enclave_runner.contract.check import Check, CheckKind, VerificationMode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.scoring import Feature, Scorecard, ScoreCheck, Term
from sandbox.client import modes, scoring
from sandbox.client.answers import Unanswered
from sandbox.client.evidence import verify_receipt
from sandbox.client.scores import Scored
from sandbox.client.verification import AsyncVerificationClient, VerificationClient
from tests.support.platform_half import CHARGE, KEY, PRODUCT, Platform, Sent, altered, bent

CARD = Scorecard(
    features=(Feature(name="age", weight=2, low=18, high=99), Feature(name="staff", weight=-1, low=0, high=5000)),
    intercept=40,
)
CHECK = ScoreCheck(dataset_id="tax", model=CARD, terms=(Term(column="paid", weight=3, low=0, high=20),))
FEATURES = {"age": [18, 50, 99], "staff": [10, 0, 5000]}
SUBJECTS = ["A", "B", "C"]
SCORES = [40 + 36 - 10 + 60, 40 + 100 + 3, 40 + 198 - 5000]


@pytest.fixture
def platform() -> Platform:
    return Platform(CHECK, {"A": "60", "B": "3"})


@contextmanager
def client_of(platform: Platform) -> Iterator[VerificationClient]:
    with platform.serving() as url, VerificationClient(url, KEY, PRODUCT, trusted=platform.trusted) as client:
        yield client


def scores_of(outcomes: tuple[Scored | Unanswered, ...]) -> list[float]:
    return [outcome.score for outcome in outcomes if isinstance(outcome, Scored)]


def test_scores_are_exact_and_carry_price_and_receipt(platform: Platform, tmp_path: Path) -> None:
    with client_of(platform) as client:
        outcomes = client.score(SUBJECTS, FEATURES)
    assert scores_of(outcomes) == SCORES
    first, _, last = outcomes
    assert isinstance(first, Scored)
    assert isinstance(last, Scored)
    assert (first.mode, first.price_fen, first.points, first.known) == (
        VerificationMode.SCORE,
        CHARGE.unit_price_fen,
        60,
        True,
    )
    assert (last.points, last.known) == (0, False)
    path = tmp_path / "receipt.json"
    first.receipt.save(path)
    (call,) = verify_receipt(path, (platform.signer.public_key,))
    assert (call.is_opened, call.receipt.units, call.price_fen) == (True, 3, 3 * CHARGE.unit_price_fen)


def test_the_asynchronous_client_scores_the_same(platform: Platform) -> None:
    async def ask(url: str) -> tuple[Scored | Unanswered, ...]:
        async with AsyncVerificationClient(url, KEY, PRODUCT, trusted=platform.trusted) as client:
            return await client.score(SUBJECTS, FEATURES)

    with platform.serving() as url:
        assert scores_of(anyio.run(ask, url)) == SCORES


def test_more_subjects_than_fit_go_in_several_calls_each_under_a_key_of_its_own(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "most_subjects", lambda check: 2)
    with client_of(platform) as client:
        assert scores_of(client.score(SUBJECTS, FEATURES)) == SCORES
    asks = [call.ask for call in platform.calls if isinstance(call.ask, ScoreAsk)]
    assert [len(ask.subjects) for ask in asks] == [2, 1]
    assert asks[0].key != asks[1].key


def test_one_refused_part_does_not_take_the_scores_of_the_others(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "most_subjects", lambda check: 1)
    platform.lies.rule = lambda ask: "verification.exhausted" if "B" in ask.subjects else None  # type: ignore[union-attr]
    with client_of(platform) as client:
        first, second, third = client.score(SUBJECTS, FEATURES)
    assert isinstance(second, Unanswered)
    assert isinstance(second.error, Refused)
    assert second.error.rule == "verification.exhausted"
    assert scores_of((first, third)) == [SCORES[0], SCORES[2]]


def test_a_new_version_is_taken_up_once(platform: Platform) -> None:
    with client_of(platform) as client:
        client.offer()
        platform.renew()
        assert scores_of(client.score(SUBJECTS, FEATURES)) == SCORES
        platform.check = ScoreCheck(dataset_id="tax", model=altered(CARD, intercept=41), terms=CHECK.terms)  # type: ignore[arg-type]
        platform.renew()
        with pytest.raises(Refused) as caught:
            client.score(SUBJECTS, FEATURES)
    assert caught.value.rule == "client.changed"


LIES: dict[str, Callable[[ScoreAnswer], object]] = {
    "shorter": lambda a: altered(a, scores=a.scores[:-1]),
    "nothing": lambda a: altered(a, scores=b""),
    "noise": lambda a: altered(a, scores=secrets.token_bytes(len(a.scores))),
    "one subject less": lambda a: altered(a, known=a.known[:-1]),
    "one subject more": lambda a: altered(a, known=(*a.known, True)),
    "strangers": lambda a: altered(a, known=(False, False, False)),
    "another answer": lambda a: BucketAnswer(cells=a.scores),
}


@pytest.mark.parametrize("lie", LIES)
def test_ciphertexts_that_no_honest_platform_sends_are_no_scores(platform: Platform, lie: str) -> None:
    platform.lies.answer = LIES[lie]  # type: ignore[assignment]
    with client_of(platform) as client:
        outcomes = client.score(SUBJECTS, FEATURES)
    rules = [o.error.rule for o in outcomes if isinstance(o, Unanswered) and isinstance(o.error, Refused)]
    assert rules == ["client.answer" if lie == "another answer" else "scoring.answer"] * 3
    assert len(platform.calls) == 1


def test_a_bit_that_turned_on_the_way_is_refused_though_the_noise_would_have_swallowed_it(platform: Platform) -> None:
    def flip(sent: Sent) -> Sent:
        at = sent.body.find(b'"scores":"')
        if at < 0:
            return sent
        turned = b"B" if sent.body[at + 10 : at + 11] != b"B" else b"C"
        return bent(sent, body=sent.body[: at + 10] + turned + sent.body[at + 11 :])

    platform.lies.sent = flip
    with client_of(platform) as client:
        outcomes = client.score(SUBJECTS, FEATURES)
    rules = [o.error.rule for o in outcomes if isinstance(o, Unanswered) and isinstance(o.error, Refused)]
    assert rules == ["client.receipt"] * 3


@pytest.mark.parametrize(
    ("subjects", "features", "rule"),
    [
        (["A"], {"age": [18]}, "scoring.features"),
        (["A"], {"age": [18], "staff": [1], "more": [1]}, "scoring.features"),
        (["A"], {"age": [17], "staff": [1]}, "scoring.range"),
        (["A"], {"age": [18.5], "staff": [1]}, "scoring.range"),
        (["A"], {"age": [18, 19], "staff": [1]}, "client.features"),
        (["A", "B\n\x00"], {"age": [18, 19], "staff": [1, 2]}, "client.subject"),
    ],
)
def test_features_that_do_not_fit_are_refused_before_anything_is_sent(
    platform: Platform, subjects: list[str], features: dict[str, list[float]], rule: str
) -> None:
    with client_of(platform) as client, pytest.raises(Refused) as caught:
        client.score(subjects, features)
    assert caught.value.rule == rule
    assert platform.calls == []


def test_a_question_is_no_score_and_a_score_no_question(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    with client_of(platform) as client:
        for wrong in (lambda: client.verify("A"), lambda: client.verify("A", mode="P0")):
            with pytest.raises(Refused) as caught:
                wrong()
            assert caught.value.rule == "client.mode"
        monkeypatch.setattr(modes, "find_spec", lambda name: None)
        with pytest.raises(Failed, match=r"client\.extra"):
            client.score(SUBJECTS, FEATURES)
    asking = Check(dataset_id="tax", attribute="x", kind=CheckKind.EXISTS, modes=(VerificationMode.PLAIN,))
    with client_of(Platform(asking, {})) as client, pytest.raises(Refused) as caught:
        client.score(SUBJECTS, FEATURES)
    assert caught.value.rule == "client.mode"


def test_features_are_all_judged_before_the_first_is_paid(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "most_subjects", lambda check: 1)
    with client_of(platform) as client, pytest.raises(Refused) as caught:
        client.score(SUBJECTS, {"age": [18, 50, 17], "staff": [10, 0, 1]})
    assert (caught.value.rule, platform.calls) == ("scoring.range", [])


def test_scores_that_were_paid_outlive_an_offer_that_changed(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "most_subjects", lambda check: 1)

    def rule(ask: object) -> str | None:
        if isinstance(ask, ScoreAsk) and "B" in ask.subjects:
            platform.check = ScoreCheck(dataset_id="tax", model=altered(CARD, intercept=41), terms=CHECK.terms)  # type: ignore[arg-type]
            platform.renew()
        return None

    platform.lies.rule = rule
    with client_of(platform) as client:
        first, *others = client.score(SUBJECTS, FEATURES)
    assert scores_of((first,)) == SCORES[:1]
    rules = [one.error.rule for one in others if isinstance(one, Unanswered) and isinstance(one.error, Refused)]
    assert rules == ["client.changed"] * 2
