"""A lying platform: whatever it bends, the client refuses with a clear error, takes nothing for an answer, and says
nothing of what it would have read."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from enclave_runner.contract.call import (
    Ask,
    BucketAnswer,
    BucketAsk,
    EvaluationAnswer,
    EvaluationAsk,
    LookupAnswer,
    LookupAsk,
    OpeningAnswer,
    PlainAnswer,
    PlainAsk,
    SettledCall,
    ThresholdAnswer,
)
from enclave_runner.contract.check import Check, CheckKind, VerificationMode
from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.dataset import ColumnType
from enclave_runner.contract.errors import Refused, YuneiError
from enclave_runner.contract.protocols import oprf
from enclave_runner.contract.receipt import Outcome
from enclave_runner.contract.signing import KeyFile
from enclave_runner.contract.ticket import Charge
from enclave_runner.contract.wire import CallReply
from sandbox.client.answers import Unanswered, Verified
from sandbox.client.evidence import receipt_in
from sandbox.client.problems import Declined
from sandbox.client.questions import Question
from sandbox.client.verification import VerificationClient
from tests.support.platform_half import (
    COLUMNS,
    KEY,
    PRODUCT,
    Lies,
    Platform,
    Sent,
    altered,
    bent,
    problem,
)

P0, P1, P2, P3, P4 = (VerificationMode(f"P{n}") for n in range(5))
ROWS = {f"S{n}": f"{n}" for n in range(40)}
IDENTITY = bytes(32)
NOT_CANONICAL = b"\xff" * 32


def make_platform(mode: VerificationMode, **fields: object) -> Platform:
    if mode is P2:
        kind, more = CheckKind.AT_LEAST, {"edges": (10, 20, 30)}
    else:
        kind, more = CheckKind.EQUALS, {}
    given = {"dataset_id": "licences", "attribute": "level", "kind": kind, "modes": (mode,), **more, **fields}
    return Platform(Check(**given), ROWS, ColumnType.INTEGER)  # type: ignore[arg-type]


@contextmanager
def client_of(platform: Platform, **wishes: object) -> Iterator[VerificationClient]:
    given: dict[str, object] = {"trusted": platform.trusted, "keep_hints": False, **wishes}
    with platform.serving() as url, VerificationClient(url, KEY, PRODUCT, **given) as client:  # type: ignore[arg-type]
        yield client


def ask(client: VerificationClient, mode: VerificationMode, subject: str = "S25") -> Verified:
    return client.verify(subject, at_least=20) if mode is P2 else client.verify(subject, claim="25")


def rule_of(platform: Platform, mode: VerificationMode, **wishes: object) -> str:
    """The rule by which the client refuses."""
    with client_of(platform, **wishes) as client, pytest.raises(Refused) as caught:
        ask(client, mode)
    return caught.value.rule


MODES = [P0, P1, P2, P3, P4]


@pytest.mark.parametrize("mode", MODES)
def test_the_honest_platform_is_believed(mode: VerificationMode) -> None:
    """Guards the tests below: without a lie there is an answer."""
    with client_of(make_platform(mode)) as client:
        assert ask(client, mode).is_yes


# What an enclave would say of the wrong call, at the wrong price, of the wrong data: all of it signed.
RECEIPTS: dict[str, Callable[[object], object]] = {
    "another call": lambda r: altered(r, call_id="0" * 32),
    "another product": lambda r: altered(r, product_id="other"),
    "another caller": lambda r: altered(r, caller_id="pty-other"),
    "another version": lambda r: altered(r, version="0" * 32),
    "another ticket": lambda r: altered(r, ticket_id="tkt-0"),
    "other data": lambda r: altered(r, data_versions={"licences": "19990101-1"}),
    "another mode": lambda r: altered(r, mode=VerificationMode.SCORE),
    "more units": lambda r: altered(r, units=r.units + 1),  # type: ignore[attr-defined]
    "negative units": lambda r: altered(r, units=-1),
    "a dearer price": lambda r: altered(r, charge=Charge(tariff_id="t1", unit_price_fen=26, legal_basis="x")),
    "another commitment": lambda r: altered(r, commitment="0" * 64),
    "an odd commitment": lambda r: altered(r, commitment="é"),
    "a refusal with an answer": lambda r: altered(r, outcome=Outcome.REFUSED, rule="call.cap"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lie", RECEIPTS)
def test_a_receipt_of_anything_else_is_refused(mode: VerificationMode, lie: str) -> None:
    platform = make_platform(mode)
    platform.lies.receipt = RECEIPTS[lie]
    assert rule_of(platform, mode, caller="pty-business") == "client.receipt"


def test_other_code_than_the_caller_pinned_is_refused() -> None:
    assert rule_of(make_platform(P0), P0, measurement="6" * 64) == "client.receipt"


def test_a_failed_call_is_a_fault_and_no_answer() -> None:
    platform = make_platform(P0)
    platform.lies.receipt = lambda r: altered(r, outcome=Outcome.FAILED, fault="fault-0123")
    with client_of(platform) as client, pytest.raises(YuneiError, match=r"client\.platform, fault fault-0123"):
        ask(client, P0)


# Wrong lengths, shapes and points, signed as if they were right.
ANSWERS: dict[str, tuple[VerificationMode, Callable[[object], object], set[str]]] = {
    "no verdict": (P0, lambda a: PlainAnswer(verdicts=()), {"client.answer"}),
    "two verdicts": (P0, lambda a: PlainAnswer(verdicts=("yes", "yes")), {"client.answer"}),
    "a word of its own": (P0, lambda a: PlainAnswer(verdicts=("maybe",)), {"client.answer"}),
    "a band": (P0, lambda a: PlainAnswer(verdicts=("1",)), {"client.answer"}),
    "cannot say, unasked": (P0, lambda a: PlainAnswer(verdicts=("cannot-say",)), {"client.answer"}),
    "another type": (P0, lambda a: BucketAnswer(cells=b""), {"client.answer"}),
    "identity": (P1, lambda a: altered(a, evaluated=IDENTITY), {"verification.point"}),
    "not canonical": (P1, lambda a: altered(a, evaluated=NOT_CANONICAL), {"verification.point"}),
    "unknown, unasked": (P1, lambda a: altered(a, known=False), {"client.answer"}),
    "a table of other size": (P2, lambda a: _shorter(a, ThresholdAnswer, "cells"), {"client.answer"}),
    "an opening at the identity": (P2, lambda a: _points(a, IDENTITY), {"verification.point"}),
    "an opening that is no point": (P2, lambda a: _points(a, NOT_CANONICAL), {"verification.point"}),
    "too few evaluations": (P3, lambda a: _evaluated(a, lambda _: ()), {"verification.answer"}),
    "too many evaluations": (P4, lambda a: _evaluated(a, lambda e: e * 2), {"verification.answer"}),
    "an evaluation at the identity": (P4, lambda a: _evaluated(a, lambda e: (IDENTITY,)), {"verification.point"}),
    "an evaluation that is no point": (
        P3,
        lambda a: _evaluated(a, lambda e: (NOT_CANONICAL,)),
        {"verification.point"},
    ),
    "a proof of nothing": (P4, lambda a: _proof(a, bytes(64)), {"verification.proof"}),
    "a proof out of range": (P3, lambda a: _proof(a, b"\xff" * 64), {"verification.proof"}),
    "a bucket of other size": (P3, lambda a: _shorter(a, BucketAnswer, "cells"), {"client.answer"}),
    "a reply of other size": (P4, lambda a: _shorter(a, LookupAnswer, "reply"), {"client.answer"}),
    "an empty reply": (P4, lambda a: LookupAnswer(reply=b"") if isinstance(a, LookupAnswer) else a, {"client.answer"}),
    "noise for a reply": (P4, lambda a: _noise(a), {"verification.noise"}),
}


def _shorter(answer: object, kind: type, name: str) -> object:
    return altered(answer, **{name: getattr(answer, name)[:-1]}) if isinstance(answer, kind) else answer


def _points(answer: object, point: bytes) -> object:
    return altered(answer, point=point) if isinstance(answer, OpeningAnswer) else answer


def _evaluated(answer: object, bend: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]) -> object:
    return altered(answer, evaluated=bend(answer.evaluated)) if isinstance(answer, EvaluationAnswer) else answer


def _proof(answer: object, proof: bytes) -> object:
    return altered(answer, proof=proof) if isinstance(answer, EvaluationAnswer) else answer


def _noise(answer: object) -> object:
    return LookupAnswer(reply=secrets.token_bytes(len(answer.reply))) if isinstance(answer, LookupAnswer) else answer


@pytest.mark.parametrize("lie", ANSWERS)
def test_an_answer_of_another_shape_is_refused(lie: str) -> None:
    mode, bend, rules = ANSWERS[lie]
    platform = make_platform(mode)
    platform.lies.answer = bend
    assert rule_of(platform, mode) in rules


@pytest.mark.parametrize("mode", [P3, P4])
def test_an_evaluation_under_another_key_than_the_offer_s_is_refused_and_nothing_more_is_sent(
    mode: VerificationMode,
) -> None:
    """A key of its own for each caller would mark them: the proof shows it, and the bucket is never named."""
    platform = make_platform(mode)
    assert platform.hidden is not None
    platform.hidden.key = oprf.new_key()
    assert rule_of(platform, mode) == "verification.proof"
    assert [type(call.ask) for call in platform.calls] == [EvaluationAsk]


# What stands in a signed offer and cannot be used.
OFFERS: dict[str, tuple[Callable[[object], object], str]] = {
    "another product": (lambda o: altered(o, product_id="other"), "client.offer"),
    "expired": (lambda o: altered(o, expires_at=datetime.now(UTC) - timedelta(seconds=1)), "client.offer"),
    "no zone": (lambda o: altered(o, expires_at=datetime(2999, 1, 1)), "client.offer"),
    "no version": (lambda o: altered(o, version=""), "client.offer"),
    "a long version": (lambda o: altered(o, version="v" * 65), "client.offer"),
    "scale": (lambda o: altered(o, scale=7), "client.offer"),
    "key kind": (lambda o: altered(o, key_kind="passport"), "client.offer"),
    "column type": (lambda o: altered(o, column_type="blob"), "client.offer"),
    "no table": (lambda o: altered(o, table=None), "client.offer"),
    "no height": (lambda o: _table(o, height=0, hint_bytes=0), "client.offer"),
    "odd height": (lambda o: _table(o, height=100, hint_bytes=100 * 4096), "client.offer"),
    "a height that no memory has": (lambda o: _table(o, height=1 << 40, hint_bytes=1 << 52), "client.offer"),
    "negative columns": (lambda o: _table(o, columns=-COLUMNS), "client.offer"),
    "columns beyond the parameters": (lambda o: _table(o, columns=1 << 21), "client.offer"),
    "no bucket": (lambda o: _table(o, bucket_columns=0), "client.offer"),
    "half a bucket": (lambda o: _table(o, bucket_columns=COLUMNS - 1), "client.offer"),
    "nobody in a bucket": (lambda o: _table(o, k=0), "client.offer"),
    "a long hint": (lambda o: _table(o, hint_bytes=1 << 40), "client.offer"),
    "a path for a digest": (lambda o: _table(o, hint_sha256="../../../../tmp/" + "0" * 48), "client.offer"),
    "a key at the identity": (lambda o: _table(o, public_key=IDENTITY), "verification.point"),
    "a key that is no point": (lambda o: _table(o, public_key=NOT_CANONICAL), "verification.point"),
}


def _table(offer: object, **fields: object) -> object:
    return altered(offer, table=altered(offer.table, **fields))  # type: ignore[attr-defined]


@pytest.mark.parametrize("lie", OFFERS)
def test_an_offer_that_cannot_be_used_is_refused_before_anything_is_asked(lie: str) -> None:
    bend, rule = OFFERS[lie]
    platform = make_platform(P4)
    platform.lies.offer = bend
    assert rule_of(platform, P4) == rule
    assert platform.calls == []


def test_an_offer_or_a_receipt_under_another_enclave_s_key_is_refused() -> None:
    stranger = KeyFile(Ed25519PrivateKey.generate())
    platform = make_platform(P0)
    pinned = platform.trusted
    with client_of(platform, trusted=pinned) as client:
        ask(client, P0)
        platform.signer = stranger
        with pytest.raises(Refused) as of_receipt:
            ask(client, P0)
        with pytest.raises(Refused) as of_offer:
            client.offer()
    assert (of_receipt.value.rule, of_offer.value.rule) == ("signature.invalid", "signature.invalid")


HINTS: dict[str, Callable[[bytes], bytes]] = {
    "one bit": lambda h: bytes([h[0] ^ 1]) + h[1:],
    "shorter": lambda h: h[:-1],
    "nothing": lambda h: b"",
    "of another table": lambda h: secrets.token_bytes(len(h)),
}


@pytest.mark.parametrize("lie", HINTS)
def test_a_hint_that_the_offer_does_not_name_is_refused_before_anything_is_asked(lie: str) -> None:
    platform = make_platform(P4)
    platform.lies.hint = HINTS[lie]
    assert rule_of(platform, P4) == "client.hint"
    assert platform.calls == []


def spoilt(platform: Platform, spoil: Callable[[CallReply], CallReply]) -> None:
    """From now on a control plane that bends signed replies."""

    def bend(sent: Sent) -> Sent:
        try:
            return bent(sent, body=encode(spoil(decode(sent.body, CallReply))))
        except Refused:
            return sent

    platform.lies.sent = bend


@pytest.mark.parametrize("mode", MODES)
def test_a_flipped_bit_is_an_error_and_never_a_no(mode: VerificationMode) -> None:
    """Answer and receipt, byte by byte over all of the reply: an error, or (a bit that base64 passes over, the place
    of a message in the log) the very answer that was signed."""
    platform = make_platform(mode)
    state = {"at": 0}

    def flip(sent: Sent) -> Sent:
        if b"call-reply" not in sent.body:
            return sent
        at = state["at"] % len(sent.body)
        return bent(sent, body=sent.body[:at] + bytes([sent.body[at] ^ 1]) + sent.body[at + 1 :])

    with client_of(platform) as client:
        client.verify_many([])
        platform.lies.sent = flip
        refused = 0
        for at in range(0, 4000, 97):
            state["at"] = at
            try:
                assert ask(client, mode).is_yes
            except YuneiError:
                refused += 1
    assert refused > 30


def test_a_verdict_turned_after_it_was_signed_is_refused() -> None:
    platform = make_platform(P0)
    spoilt(platform, lambda reply: altered(reply, answer=PlainAnswer(verdicts=("no",))))  # type: ignore[arg-type, return-value]
    assert rule_of(platform, P0) == "client.receipt"


def test_the_answer_and_receipt_of_an_earlier_call_are_refused() -> None:
    platform = make_platform(P0)
    earlier: list[CallReply] = []

    def replay(reply: CallReply) -> CallReply:
        earlier.append(reply)
        return earlier[0]

    spoilt(platform, replay)
    with client_of(platform) as client:
        assert ask(client, P0, "S25").is_yes
        with pytest.raises(Refused) as caught:
            ask(client, P0, "S26")
    assert caught.value.rule == "client.receipt"


def test_a_receipt_that_stands_in_no_signed_batch_is_refused() -> None:
    platform = make_platform(P0)
    spoilt(platform, lambda reply: altered(reply, settled=_without_path(reply.settled)))  # type: ignore[arg-type, return-value]
    assert rule_of(platform, P0) == "call.not-in-batch"


def _without_path(settled: SettledCall) -> object:
    return altered(settled, path=settled.path[:-1])


def test_an_answer_without_its_body_is_refused() -> None:
    platform = make_platform(P0)
    spoilt(platform, lambda reply: altered(reply, answer=None))  # type: ignore[arg-type, return-value]
    assert rule_of(platform, P0) == "client.receipt"


SENT: dict[str, tuple[Callable[[Sent], Sent], set[str]]] = {
    "not JSON": (lambda s: bent(s, body=b"<html>"), {"wire.malformed"}),
    "nothing": (lambda s: bent(s, body=b""), {"wire.malformed"}),
    "another message": (lambda s: bent(s, body=b'{"type":"hello"}'), {"wire.malformed"}),
    "deep": (lambda s: bent(s, body=b"[" * 60_000), {"wire.malformed"}),
    "not UTF-8": (lambda s: bent(s, body=b'{"type":"\xff"}'), {"wire.malformed"}),
    "too long": (lambda s: bent(s, body=s.body + b" " * (5 << 20)), {"client.answer"}),
    "a page": (lambda s: bent(s, media_type="text/html"), {"client.answer"}),
    "no type": (lambda s: bent(s, media_type=""), {"client.answer"}),
    "created": (lambda s: bent(s, status=201), {"client.answer"}),
    "partial": (lambda s: bent(s, status=206), {"client.answer"}),
    "a failure with a page": (lambda s: bent(s, status=500, media_type="text/html"), {"client.answer"}),
    "compressed": (lambda s: bent(s, headers={"content-encoding": "gzip"}), {"client.answer"}),
    "a redirect": (lambda s: bent(s, status=307, headers={"location": "/v1/else"}), {"client.answer"}),
}


@pytest.mark.parametrize("lie", SENT)
def test_a_reply_that_is_none_is_refused(lie: str) -> None:
    bend, rules = SENT[lie]
    platform = make_platform(P0)
    platform.lies.sent = bend
    assert rule_of(platform, P0) in rules


def test_a_refusal_is_told_with_its_receipt_and_its_rule_is_the_signed_one() -> None:
    platform = make_platform(P0)
    platform.lies.rule = lambda _: "verification.guesses"
    with client_of(platform) as client:
        with pytest.raises(Declined) as caught:
            ask(client, P0)
        assert caught.value.rule == "verification.guesses"
        assert caught.value.evidence is not None
        spoilt(platform, lambda reply: altered(reply, rule="call.cap"))  # type: ignore[arg-type, return-value]
        with pytest.raises(Refused) as bent_rule:
            ask(client, P0)
    assert bent_rule.value.rule == "client.receipt"


def test_what_a_platform_writes_cannot_steer_a_terminal() -> None:
    platform = make_platform(P0)
    escape = "\x1b]0;owned\x07\u202e\x00" + "x" * 5000
    platform.lies.problem = lambda _: problem("product.suspended", 403, reason=escape, remedy_zh=escape)
    with client_of(platform) as client:
        with pytest.raises(Declined) as by_problem:
            ask(client, P0)
        platform.lies = Lies(rule=lambda _: "call.cap")
        spoilt(platform, lambda r: altered(r, facts={escape: escape, "max": escape, "rule": "x", "self": "y"}))  # type: ignore[arg-type, return-value]
        with pytest.raises(Declined) as by_reply:
            ask(client, P0)
    texts = by_problem.value.texts
    for text in (texts.reason, texts.remedy_zh, by_reply.value.facts["max"], str(by_reply.value)):
        assert text is not None
        assert text.isprintable()
        assert len(text) < 1000
    assert set(by_reply.value.facts) == {"max"}


def test_a_problem_that_names_no_rule_is_a_fault() -> None:
    platform = make_platform(P0)
    with client_of(platform) as client:
        for body in (b"{}", b"[]", b'{"rule":7}', b'{"rule":"\x1b[2J"}', b'{"fault":"../x"}'):
            platform.lies.problem = lambda _, body=body: Sent(500, body, "application/problem+json")
            with pytest.raises(YuneiError, match=r"^failed at client\.platform, fault fault-[0-9a-f]{12}$"):
                ask(client, P0)


# The oracle tests: what is sent must not depend on what an answer says.


def requests_of(platform: Platform, spoil_index: int | None) -> tuple[list[str], list[str]]:
    """The kinds of calls for three thresholds at edge 1, with one cell of the first table spoilt; and the outcomes."""
    tables: list[object] = []

    def spoil(answer: object) -> object:
        if not isinstance(answer, ThresholdAnswer):
            return answer
        tables.append(answer)
        if spoil_index is None or len(tables) > 1:
            return answer
        cells = bytearray(answer.cells)
        cells[8 * spoil_index] ^= 1
        return altered(answer, cells=bytes(cells))

    platform.lies.answer = spoil
    with client_of(platform) as client:
        from_client = client.verify_many([Question(f"S{n}", at_least=20) for n in (1, 2, 3)])
    kinds = [type(call.ask).__name__ for call in platform.calls]
    return kinds, [type(outcome).__name__ for outcome in from_client]


@pytest.mark.parametrize("spoil_index", [0, 1, 2])
def test_a_table_spoilt_in_one_cell_does_not_tell_which_cell_was_chosen(spoil_index: int) -> None:
    honest, _ = requests_of(make_platform(P2), None)
    kinds, outcomes = requests_of(make_platform(P2), spoil_index)
    assert kinds == honest
    assert outcomes == (["Unanswered", "Verified", "Verified"] if spoil_index == 1 else ["Verified"] * 3)


def lookups_of(spoil: bool) -> tuple[list[str], list[str]]:
    """The kinds of calls for three hidden subjects, the first reply replaced by noise or not; and the outcomes."""
    platform = make_platform(P4)
    replies: list[object] = []

    def bend(answer: object) -> object:
        replies.extend([answer] if isinstance(answer, LookupAnswer) else [])
        return _noise(answer) if spoil and len(replies) == 1 else answer

    platform.lies.answer = bend
    with client_of(platform) as client:
        outcomes = client.verify_many([Question("S1", "1"), Question("S2", "1"), Question("S2", "1")])
    return [type(call.ask).__name__ for call in platform.calls], [type(outcome).__name__ for outcome in outcomes]


def test_a_reply_of_noise_changes_nothing_of_what_is_sent() -> None:
    """Nor does a match, nor a question that was asked before."""
    honest, _ = lookups_of(False)
    kinds, outcomes = lookups_of(True)
    assert kinds == honest == ["EvaluationAsk", "LookupAsk", "LookupAsk", "LookupAsk"]
    assert outcomes == ["Unanswered", "Verified", "Verified"]


def once(platform: Platform, kind: type, then: Callable[[], object]) -> None:
    """The first question of that kind finds that the version has changed; `then` is what the platform changes."""
    seen: list[Ask] = []

    def rule(ask: Ask) -> str | None:
        if isinstance(ask, kind) and not seen:
            seen.append(ask)
            then()
            return "call.stale-version"
        return None

    platform.lies.rule = rule


@pytest.mark.parametrize("mode", MODES)
def test_a_new_version_is_taken_up_and_the_question_asked_again(mode: VerificationMode) -> None:
    platform = make_platform(mode)
    with client_of(platform) as client:
        assert ask(client, mode).is_yes
        platform.renew()
        assert ask(client, mode).is_yes
        assert client._session._terms is not None
        assert client._session._terms.offer.version == platform.version


def test_a_version_that_changes_forever_is_given_up_after_one_new_offer() -> None:
    platform = make_platform(P0)
    platform.lies.rule = lambda _: "call.stale-version"
    assert rule_of(platform, P0) == "call.stale-version"
    assert len(platform.calls) == 2


def test_a_lookup_that_finds_a_new_version_is_made_again_and_its_price_is_told() -> None:
    platform = make_platform(P4)
    once(platform, LookupAsk, platform.renew)
    with client_of(platform) as client:
        answer = ask(client, P4)
    kinds = [EvaluationAsk, LookupAsk, EvaluationAsk, LookupAsk]
    assert [type(call.ask) for call in platform.calls] == kinds
    assert (answer.is_yes, answer.price_fen) == (True, 50)
    assert [call.receipt.units for call in answer.receipt.verified] == [1, 1, 0]


def test_a_bucket_named_in_one_version_is_not_named_again_in_the_next() -> None:
    """Two buckets of the same subject have few subjects in common: that is the caller's decision, not ours."""
    platform = make_platform(P3)
    once(platform, BucketAsk, platform.renew)
    assert rule_of(platform, P3) == "call.stale-version"
    assert [type(call.ask) for call in platform.calls] == [EvaluationAsk, BucketAsk]


def test_of_several_only_the_bucket_that_was_named_is_not_named_again() -> None:
    platform = make_platform(P3)
    once(platform, BucketAsk, platform.renew)
    with client_of(platform) as client:
        first, second, third = client.verify_many([Question("S1", "1"), Question("S2", "2"), Question("S3", "3")])
    kinds = [EvaluationAsk, BucketAsk, EvaluationAsk, BucketAsk, BucketAsk]
    assert [type(call.ask) for call in platform.calls] == kinds
    assert isinstance(first, Unanswered)
    assert first.receipt is not None
    assert first.receipt.price_fen == 3 * 25  # one evaluation of all three
    assert isinstance(second, Verified)
    assert isinstance(third, Verified)
    assert (second.is_yes, second.price_fen) == (True, 50)


def test_the_only_bucket_names_nobody_and_may_be_named_again() -> None:
    platform = make_platform(P3)
    platform.bucket_columns = COLUMNS
    platform.renew()
    once(platform, BucketAsk, platform.renew)
    with client_of(platform) as client:
        assert ask(client, P3).is_yes
    assert [type(call.ask) for call in platform.calls] == [EvaluationAsk, BucketAsk] * 2


def test_an_offer_that_changed_does_not_take_the_answers_that_came_before_it() -> None:
    given = {"dataset_id": "licences", "attribute": "level"}
    platform = Platform(Check(kind=CheckKind.EQUALS, modes=(P4,), **given), ROWS, ColumnType.INTEGER)  # type: ignore[arg-type]
    asked: list[Ask] = []

    def rule(ask: Ask) -> str | None:
        asked.extend([ask] if isinstance(ask, LookupAsk) else [])
        if len(asked) != 2:
            return None
        platform.check = Check(kind=CheckKind.EXISTS, modes=(P4,), **given)  # type: ignore[arg-type]
        platform.renew()
        return "call.stale-version"

    platform.lies.rule = rule
    with client_of(platform) as client:
        first, second = client.verify_many([Question("S1", "1"), Question("S2", "2")])
    assert isinstance(first, Verified)
    assert first.is_yes
    assert isinstance(second, Unanswered)
    assert isinstance(second.error, Refused)
    assert second.error.rule == "client.changed"


@pytest.mark.parametrize("told", [None, P4])
def test_a_new_offer_without_the_mode_is_no_reason_to_ask_in_the_open(told: VerificationMode | None) -> None:
    given = {"dataset_id": "licences", "attribute": "level", "kind": CheckKind.EQUALS}
    platform = Platform(Check(**given, modes=(P0, P4)), ROWS, ColumnType.INTEGER)  # type: ignore[arg-type]

    def weaken() -> None:
        platform.check = Check(**given, modes=(P0,))  # type: ignore[arg-type]
        platform.renew()

    once(platform, EvaluationAsk, weaken)
    with client_of(platform) as client, pytest.raises(Refused) as caught:
        client.verify("S1", "1", mode=told)
    assert caught.value.rule == "client.changed"
    assert not any(isinstance(call.ask, PlainAsk) for call in platform.calls)


@pytest.mark.parametrize("told", [None, P0])
def test_nothing_weaker_than_the_caller_allows_is_ever_used(told: VerificationMode | None) -> None:
    platform = make_platform(P0)
    with client_of(platform, weakest=P3) as client, pytest.raises(Refused) as caught:
        client.verify("S1", "1", mode=told)
    assert caught.value.rule == "client.mode"
    assert platform.calls == []


def test_a_bucket_of_too_few_is_refused_before_anything_is_asked() -> None:
    platform = make_platform(P3)
    assert rule_of(platform, P3, k_min=41) == "client.bucket"
    assert platform.calls == []


@pytest.mark.parametrize("change", ["price", "question"])
def test_an_offer_that_expired_is_renewed_for_the_same_question_at_no_higher_price(change: str) -> None:
    platform = make_platform(P0)
    expired = datetime.now(UTC) - timedelta(seconds=1)
    with client_of(platform) as client:
        assert ask(client, P0).is_yes
        known = client._session._terms
        assert known is not None
        client._session._terms = replace(known, offer=altered(known.offer, expires_at=expired))  # type: ignore[arg-type]
        assert ask(client, P0).is_yes  # the same offer, newer
        client._session._terms = replace(known, offer=altered(known.offer, expires_at=expired))  # type: ignore[arg-type]
        if change == "price":
            dearer = Charge(tariff_id="t1", unit_price_fen=50, legal_basis="x")
            platform.lies.offer = lambda offer: altered(offer, charge=dearer)
        else:
            platform.check = Check(dataset_id="licences", attribute="other", kind=CheckKind.EQUALS, modes=(P0,))
        for _ in range(2):  # asking again is no consent
            with pytest.raises(Refused) as caught:
                ask(client, P0)
            assert caught.value.rule == "client.changed"
        assert len(platform.calls) == 2
        client.offer()  # looked at, and so taken up
        assert client._session._terms.offer.expires_at > expired


@pytest.mark.parametrize("mode", [P3, P4])
def test_a_charged_evaluation_that_is_a_lie_carries_its_receipt(mode: VerificationMode) -> None:
    platform = make_platform(mode)
    platform.lies.answer = lambda answer: altered(answer, proof=bytes(64))
    with client_of(platform) as client, pytest.raises(Refused) as caught:
        ask(client, mode)
    found = receipt_in(caught.value)
    assert found is not None
    assert (found.price_fen, len(found.calls)) == (25, 1)


def test_a_lookup_that_is_a_lie_carries_the_receipt_of_both_calls() -> None:
    platform = make_platform(P4)
    platform.lies.answer = lambda answer: altered(answer, reply=b"") if hasattr(answer, "reply") else answer
    with client_of(platform) as client, pytest.raises(Refused) as caught:
        ask(client, P4)
    found = receipt_in(caught.value)
    assert found is not None
    assert [call.receipt.units for call in found.verified] == [1, 0]


def test_an_error_before_anything_was_asked_carries_none() -> None:
    with client_of(make_platform(P0)) as client, pytest.raises(Refused) as caught:
        client.verify("S1")
    assert receipt_in(caught.value) is None
