"""The client against an honest platform: every mode, every kind of question, over real HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from enclave_runner.contract import sm2
from enclave_runner.contract.call import BucketAsk, EvaluationAsk, LookupAsk, OpeningAsk, PlainAsk, ThresholdAsk
from enclave_runner.contract.check import Check, CheckKind, VerificationMode
from enclave_runner.contract.codec import MAX_MESSAGE_BYTES
from enclave_runner.contract.dataset import ColumnType, KeyKind
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.signing import KeyFile, Sm2Key
from sandbox.client import evidence, modes
from sandbox.client.answers import Verified
from sandbox.client.evidence import verify_receipt
from sandbox.client.questions import Question
from sandbox.client.verification import AsyncVerificationClient, VerificationClient
from tests.support.platform_half import CALLER, CHARGE, KEY, MEASUREMENT, NO, PRODUCT, YES, Platform, Sent

P0, P1, P2, P3, P4 = (VerificationMode(f"P{n}") for n in range(5))
ROWS = {f"S{n}": f"{n}" for n in range(40)}


def make_check(kind: CheckKind, *modes: VerificationMode, **fields: object) -> Check:
    given = {"dataset_id": "licences", "attribute": "level", "kind": kind, "modes": modes}
    return Check(**{**given, **fields})  # type: ignore[arg-type]


@contextmanager
def client_of(platform: Platform, **wishes: object) -> Iterator[VerificationClient]:
    given: dict[str, object] = {"trusted": platform.trusted, "keep_hints": False, **wishes}
    with platform.serving() as url, VerificationClient(url, KEY, PRODUCT, **given) as client:  # type: ignore[arg-type]
        yield client


@pytest.mark.parametrize("mode", [P0, P1, P3, P4])
def test_a_claimed_value_is_compared_in_each_mode_that_can(mode: VerificationMode) -> None:
    platform = Platform(make_check(CheckKind.EQUALS, mode), ROWS)
    with client_of(platform) as client:
        yes, no = client.verify("S7", claim="7"), client.verify("S7", claim="8")
        nobody = client.verify("S777", claim="7")
    assert [answer.verdict for answer in (yes, no, nobody)] == [YES, NO, NO]
    assert (yes.mode, yes.price_fen, yes.source_at) == (mode, CHARGE.unit_price_fen, platform.source_at)
    assert yes.k == (40 if mode is P3 else None)
    assert yes.is_yes
    assert not no.is_yes


@pytest.mark.parametrize("mode", [P0, P2])
def test_a_threshold_is_compared_in_each_mode_that_can(mode: VerificationMode) -> None:
    platform = Platform(make_check(CheckKind.AT_LEAST, P0, P2, edges=(0, 10, 20)), ROWS, ColumnType.INTEGER)
    with client_of(platform) as client:
        answers = [client.verify(f"S{n}", at_least=10, mode=mode) for n in (9, 10, 30)]
    assert [answer.verdict for answer in answers] == [NO, YES, YES]
    assert {answer.mode for answer in answers} == {mode}


@pytest.mark.parametrize("mode", [P0, P3, P4])
@pytest.mark.parametrize("says_unknown", [False, True])
def test_membership_levels_and_existence_are_told_in_each_mode(mode: VerificationMode, says_unknown: bool) -> None:
    told: dict[CheckKind, list[str]] = {}
    expected: dict[CheckKind, list[str]] = {}
    for kind, fields in (
        (CheckKind.MEMBER, {"members": ("1", "3")}),
        (CheckKind.LEVEL, {"edges": (10, 20)}),
        (CheckKind.EXISTS, {}),
    ):
        platform = Platform(make_check(kind, mode, says_unknown=says_unknown, **fields), ROWS, ColumnType.INTEGER)
        with client_of(platform) as client:
            answers = client.verify_many(["S1", "S2", "S15", "S39", "S999"])
        assert all(isinstance(answer, Verified) for answer in answers)
        told[kind] = [a.verdict.value if a.verdict else str(a.level) for a in answers if isinstance(a, Verified)]
        last = "cannot-say" if says_unknown else ("0" if kind is CheckKind.LEVEL else "no")
        expected[kind] = {
            CheckKind.MEMBER: ["yes", "no", "no", "no", last],
            CheckKind.LEVEL: ["0", "0", "1", "2", last],
            CheckKind.EXISTS: ["yes", "yes", "yes", "yes", last],
        }[kind]
    assert told == expected


def test_the_most_private_mode_is_taken_unless_another_is_told() -> None:
    platform = Platform(make_check(CheckKind.EQUALS, P0, P1, P3, P4), ROWS)
    with client_of(platform) as client:
        assert client.verify("S1", claim="1").mode is P4
        assert [client.verify("S1", claim="1", mode=mode).mode for mode in ("P0", "P1", "P3")] == [P0, P1, P3]


def test_a_missing_extra_never_opens_a_question_that_could_be_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modes, "find_spec", lambda name: None)
    platform = Platform(make_check(CheckKind.EQUALS, P0, P1, P4), ROWS)
    with client_of(platform) as client, pytest.raises(Failed, match=r"client\.extra"):
        client.verify("S1", claim="1")
    assert platform.calls == []
    with client_of(platform, weakest=P0) as client:
        assert client.verify("S1", claim="1").mode is P1
    with client_of(Platform(make_check(CheckKind.EQUALS, P0, P3, P4), ROWS)) as client:
        assert client.verify("S1", claim="1").mode is P3
        with pytest.raises(Failed, match=r"client\.extra"):
            client.verify("S1", claim="1", mode=P4)


def test_two_calls_have_nothing_in_common_that_the_platform_sees() -> None:
    """Fresh id, salt, blinding and secret for each: the same question twice looks like two questions."""
    platform = Platform(make_check(CheckKind.EXISTS, P4), ROWS)
    with client_of(platform) as client:
        client.verify("S1")
        client.verify_many(["S1", "S1"])
    asks = [call.ask for call in platform.calls]
    kinds = [EvaluationAsk, LookupAsk, EvaluationAsk, LookupAsk, LookupAsk]
    assert [type(ask) for ask in asks] == kinds
    blinded = [point for ask in asks if isinstance(ask, EvaluationAsk) for point in ask.blinded]
    questions = [ask.question for ask in asks if isinstance(ask, LookupAsk)]
    assert len(set(blinded)) == len(set(questions)) == 3
    assert len({call.call_id for call in platform.calls}) == len({call.salt for call in platform.calls}) == 5


def test_a_receipt_is_saved_verified_offline_and_bare_where_it_is_shown(tmp_path: Path) -> None:
    platform = Platform(make_check(CheckKind.EXISTS, P3), ROWS)
    with client_of(platform, caller=CALLER, measurement=MEASUREMENT) as client:
        answer = client.verify("S1")
    whole, bare = tmp_path / "whole.json", tmp_path / "bare.json"
    answer.receipt.save(whole)
    answer.receipt.save(bare, with_question=False)
    trusted = (platform.signer.public_key,)
    assert [call.is_opened for call in verify_receipt(whole, trusted)] == [True, True]
    assert [call.is_opened for call in verify_receipt(bare, trusted)] == [False, False]
    assert sum(call.price_fen for call in verify_receipt(bare, trusted)) == answer.price_fen == CHARGE.unit_price_fen
    assert len(verify_receipt(whole, platform.trusted)) == 2  # as VerificationClient takes it
    with pytest.raises(ValueError, match="32 bytes"):
        verify_receipt(whole, "ed25519:00")
    assert whole.stat().st_mode & 0o777 == bare.stat().st_mode & 0o777 == 0o600
    assert '"S1"' not in bare.read_text()
    assert "S1" not in repr(answer)


def test_a_batch_is_one_call_with_one_receipt() -> None:
    platform = Platform(make_check(CheckKind.EXISTS, P0), ROWS)
    with client_of(platform) as client:
        answers = client.verify_many([f"S{n}" for n in range(50)])
    (call,) = platform.calls
    assert isinstance(call.ask, PlainAsk)
    assert len(call.ask.asked) == len(answers) == 50
    assert {a.price_fen for a in answers if isinstance(a, Verified)} == {CHARGE.unit_price_fen}
    assert all(a.receipt == answers[0].receipt for a in answers)


def test_what_one_question_lacks_does_not_take_the_answers_of_the_others() -> None:
    platform = Platform(make_check(CheckKind.EQUALS, P1), {"1": "2026-01-31"}, ColumnType.DATE)
    with client_of(platform) as client:
        first, malformed, none, last = client.verify_many(
            [Question("1", "2026-01-31"), Question("1", "31.1.2026"), Question("1"), Question("1", "2026-01-30")]
        )
    assert isinstance(first, Verified)
    assert first.verdict is YES
    assert isinstance(last, Verified)
    assert last.verdict is NO
    rules = [
        item.error.rule
        for item in (malformed, none)
        if not isinstance(item, Verified) and isinstance(item.error, Refused)
    ]
    assert rules == ["verification.claim-form", "client.question"]
    assert len(platform.calls) == 2


def test_identifiers_and_claims_are_spelled_as_the_platform_spells_them() -> None:
    rows = {"33010619900101001X": "1250"}
    platform = Platform(make_check(CheckKind.EQUALS, P1, P4), rows, ColumnType.DECIMAL, KeyKind.RESIDENT_ID, scale=2)
    with client_of(platform) as client:
        for mode in ("P1", "P4"):
            assert client.verify(" 33010619900101001x ", claim="+012.5", mode=mode).is_yes


def test_p2_opens_and_chooses_in_two_calls_of_which_one_is_paid() -> None:
    platform = Platform(make_check(CheckKind.AT_LEAST, P2, edges=(5, 6)), ROWS, ColumnType.INTEGER)
    with client_of(platform) as client:
        answer = client.verify("S5", at_least="6")
    assert [type(call.ask) for call in platform.calls] == [OpeningAsk, ThresholdAsk]
    assert [call.receipt.units for call in answer.receipt.verified] == [0, 1]


def test_p3_names_the_bucket_and_nothing_else() -> None:
    platform = Platform(make_check(CheckKind.EXISTS, P3), ROWS)
    with client_of(platform) as client:
        client.verify("S1")
    evaluation, bucket = (call.ask for call in platform.calls)
    assert isinstance(evaluation, EvaluationAsk)
    assert isinstance(bucket, BucketAsk)
    assert bucket.bucket < 4


def test_the_asynchronous_client_answers_the_same() -> None:
    platform = Platform(make_check(CheckKind.EXISTS, P0, P4), ROWS)

    async def ask(url: str) -> list[Verified]:
        async with AsyncVerificationClient(url, KEY, PRODUCT, trusted=platform.trusted, keep_hints=False) as client:
            await client.offer()
            single = await client.verify("S1")
            many = await client.verify_many(["S999"], mode="P0")
            return [single, *(one for one in many if isinstance(one, Verified))]

    with platform.serving() as url:
        answers = anyio.run(ask, url)
    assert [(answer.verdict, answer.mode) for answer in answers] == [(YES, P4), (NO, P0)]


def test_an_answer_is_no_truth_value() -> None:
    platform = Platform(make_check(CheckKind.EXISTS, P0), ROWS)
    with client_of(platform) as client:
        answer = client.verify("S999")
    with pytest.raises(TypeError, match="is_yes"):
        assert answer


def test_an_enclave_that_signs_with_sm2_is_believed_as_well() -> None:
    platform = Platform(make_check(CheckKind.EXISTS, P0), ROWS)
    platform.signer = KeyFile(Sm2Key(*sm2.new_key()))
    with client_of(platform) as client:
        assert client.verify("S1").is_yes
        assert client.verify("S999").verdict is NO
    assert platform.trusted.startswith("sm2")


def test_an_asynchronous_question_can_be_given_up() -> None:
    """Nothing of it lingers: the client answers the next one."""
    platform = Platform(make_check(CheckKind.EXISTS, P0), ROWS)
    held = threading.Event()

    def hold(sent: Sent) -> Sent:
        held.wait(5)
        return sent

    async def ask(url: str) -> list[object]:
        async with AsyncVerificationClient(url, KEY, PRODUCT, trusted=platform.trusted, keep_hints=False) as client:
            await client.offer()
            platform.lies.sent = hold
            with anyio.move_on_after(0.2) as scope:
                await client.verify("S1")
            platform.lies.sent = lambda sent: sent
            held.set()
            return [scope.cancelled_caught, (await client.verify("S1")).verdict]

    with platform.serving() as url:
        assert anyio.run(ask, url) == [True, YES]


def test_a_receipt_longer_than_a_message_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    platform = Platform(make_check(CheckKind.EXISTS, P0), ROWS)
    with client_of(platform) as client:
        answer = client.verify("S1")
    path = tmp_path / "receipt.json"
    answer.receipt.save(path)
    data = path.read_bytes()
    path.write_bytes(b" " * MAX_MESSAGE_BYTES + data)
    assert len(verify_receipt(path, platform.trusted)) == 1
    monkeypatch.setattr(evidence, "MAX_FILE_BYTES", len(data))
    with pytest.raises(Refused) as caught:
        verify_receipt(path, platform.trusted)
    assert caught.value.rule == "wire.malformed"
    path.write_bytes(data)
    assert len(verify_receipt(path, platform.trusted)) == 1
