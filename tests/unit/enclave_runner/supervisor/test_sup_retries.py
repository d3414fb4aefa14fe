"""A retry of the very same call is answered again; anything else under its id is refused."""

from __future__ import annotations

import secrets
import threading

import msgspec
import pytest

from enclave_runner.contract.call import Call, OpeningAsk, PlainAnswer, SettledCall
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.signing import Signed
from enclave_runner.contract.wire import CallReply, RunCall
from enclave_runner.supervisor.retries import OVERHEAD, Retries

BATCH = Signed(purpose="call-batch", key_id="", algorithm="ed25519", payload=b"", signature=b"")


def request(**fields: object) -> RunCall:
    call = Call(call_id=secrets.token_bytes(16), salt=bytes(32), version="v", ask=OpeningAsk())
    return RunCall(**{"product_id": "p", "caller_id": "c", "consents": None, "call": call, **fields})  # type: ignore[arg-type]


def reply(text: str = "yes") -> CallReply:
    return CallReply(answer=PlainAnswer(verdicts=(text,)), settled=SettledCall(receipt=b"", path=(), batch=BATCH))


def never() -> CallReply:
    raise AssertionError


def test_the_same_call_gets_the_same_reply_and_is_made_once() -> None:
    retries, order = Retries(), request()
    assert retries.once(order, reply) is retries.once(order, never)


def test_a_consent_that_was_filed_again_does_not_make_another_call() -> None:
    retries, order = Retries(), request(consents="consent-1")
    assert retries.once(order, reply) is retries.once(msgspec.structs.replace(order, consents="consent-2"), never)


def test_the_same_id_for_another_product_is_refused() -> None:
    retries, order = Retries(), request()
    retries.once(order, reply)
    with pytest.raises(Refused, match=r"call\.used"):
        retries.once(msgspec.structs.replace(order, product_id="other"), never)


def test_another_caller_s_id_is_its_own() -> None:
    retries, order = Retries(), request()
    retries.once(order, reply)
    other = retries.once(msgspec.structs.replace(order, caller_id="other"), lambda: reply("no"))
    assert other.answer == PlainAnswer(verdicts=("no",))


@pytest.mark.parametrize("fields", [{"salt": b"x" * 32}, {"version": "w"}])
def test_the_same_id_with_another_content_is_refused(fields: dict[str, object]) -> None:
    retries, order = Retries(), request()
    retries.once(order, reply)
    changed = msgspec.structs.replace(order, call=msgspec.structs.replace(order.call, **fields))
    with pytest.raises(Refused, match=r"call\.used"):
        retries.once(changed, never)


def test_what_did_not_come_to_a_reply_is_not_kept() -> None:
    retries, order = Retries(), request()
    with pytest.raises(Failed):
        retries.once(order, lambda: (_ for _ in ()).throw(Failed("ledger.write")))
    assert retries.once(order, reply).answer == reply().answer


def test_the_same_call_at_once_is_made_once() -> None:
    retries, order, started, go = Retries(), request(), threading.Event(), threading.Event()
    replies: list[CallReply] = []

    def slow() -> CallReply:
        started.set()
        assert go.wait(30)
        return reply()

    first = threading.Thread(target=lambda: replies.append(retries.once(order, slow)))
    first.start()
    assert started.wait(30)
    second = threading.Thread(target=lambda: replies.append(retries.once(order, never)))
    second.start()
    with pytest.raises(Refused, match=r"call\.used"):  # another call under the id of one that is under way
        retries.once(msgspec.structs.replace(order, product_id="other"), never)
    (running,) = retries._running.values()
    while running.has_place._value:  # until the second waits
        threading.Event().wait(0.01)
    with pytest.raises(Refused, match=r"call\.under-way"):  # a third is sent away
        retries.once(order, never)
    go.set()
    first.join()
    second.join()
    assert len(replies) == 2
    assert replies[0] is replies[1]


def test_memory_is_bounded_and_the_oldest_go_first() -> None:
    retries, orders = Retries(capacity=4 * (OVERHEAD + 400)), [request() for _ in range(10)]
    for order in orders:
        retries.once(order, reply)
    assert retries.once(orders[-1], never).answer == reply().answer
    again = retries.once(orders[0], lambda: reply("made again"))  # in the enclave the call log refuses it
    assert again.answer == PlainAnswer(verdicts=("made again",))


def test_a_reply_that_is_too_large_to_keep_is_still_given() -> None:
    retries, order = Retries(capacity=10), request()
    assert retries.once(order, reply).answer == reply().answer
