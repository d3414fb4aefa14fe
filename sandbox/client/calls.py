"""One call: a fresh id and salt, one question, and a reply that counts only with the enclave's receipt of it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from enclave_runner.contract.call import (
    CALL_ID_BYTES,
    SALT_BYTES,
    Answer,
    Ask,
    Call,
    CallReceipt,
)
from enclave_runner.contract.check import VerificationMode
from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.receipt import Outcome
from enclave_runner.contract.signing import PublicKey
from enclave_runner.contract.wire import CallReply
from sandbox.client.evidence import Evidence, Opening, Receipt, VerifiedCall, keeping, open_evidence
from sandbox.client.exchange import JSON, Exchange, Flow, Reply
from sandbox.client.offers import Terms, max_reply
from sandbox.client.problems import declined, require_answered


@dataclass(frozen=True)
class Pins:
    """What the caller knows for itself: the enclave's keys, and where it likes, who it is and what code must answer.

    `caller_id` is the business's own party; `measurement_sha256` the digest of the measurement that it expects.
    """

    trusted: tuple[PublicKey, ...]
    caller_id: str | None = None
    measurement_sha256: str | None = None


@dataclass(frozen=True)
class Asking:
    """What stands around each call of one question: the terms that it is made under and the mode that it is made in."""

    terms: Terms
    pins: Pins
    mode: VerificationMode


@dataclass(frozen=True)
class Answered:
    """An answer with its verified evidence."""

    answer: Answer
    evidence: Evidence
    verified: VerifiedCall


def make_call(asking: Asking, ask_of: Callable[[bytes], Ask], units: int) -> Flow[Answered]:
    """Ask once. `ask_of` makes the question from the call's id; `units` is the most that may be charged.

    A lost answer is asked for again under the same id, byte for byte: it is neither paid nor counted twice.

    Raises:
        Declined: a rule of the platform said no.
        Failed: `client.unreachable`, `client.platform`.
        Refused: `client.answer`, `client.receipt`, `signature.invalid`, `call.not-in-batch`, `wire.malformed`: the
            platform did not keep to the protocol. Nothing of the answer was looked at then.
    """
    call_id = secrets.token_bytes(CALL_ID_BYTES)
    call = Call(
        call_id=call_id, salt=secrets.token_bytes(SALT_BYTES), version=asking.terms.offer.version, ask=ask_of(call_id)
    )
    path = f"/v1/products/{asking.terms.offer.product_id}/calls"
    reply = yield Exchange("POST", path, max_reply(asking.terms, call.ask), encode(call))
    return settle(asking, call, units, reply)


def settle(asking: Asking, call: Call, units: int, reply: Reply) -> Answered:
    """Verify a reply against the call that was made; errors as `make_call`, with the receipt once it is verified."""
    require_answered(reply, JSON)
    told = decode(reply.body, CallReply)
    opening = Opening(salt=call.salt, ask=call.ask, answer=told.answer)
    evidence = Evidence(settled=told.settled, opening=opening)
    verified = open_evidence(evidence, asking.pins.trusted)
    with keeping(Receipt((evidence,), (verified,))):
        return _answered(asking, call, units, told, evidence, verified)


def _answered(
    asking: Asking, call: Call, units: int, told: CallReply, evidence: Evidence, verified: VerifiedCall
) -> Answered:
    """What a reply says, once its signature and its opening are verified."""
    receipt = verified.receipt
    _check_whose(receipt, asking, call)
    measured = asking.pins.measurement_sha256
    _require(measured is None or verified.batch.measurement_sha256 == measured, "other code than was expected")
    if receipt.outcome is Outcome.FAILED:
        raise Failed("client.platform", receipt.fault)
    if receipt.outcome is Outcome.REFUSED:
        _require(told.answer is None and told.rule == receipt.rule and receipt.units == 0, "a refusal that it is not")
        raise declined(receipt.rule, told.facts, evidence)
    _check_what(receipt, asking, units)
    if told.answer is None or told.rule is not None:
        raise Refused("client.receipt", what="an answer that is not there")
    return Answered(told.answer, evidence, verified)


def _check_whose(receipt: CallReceipt, asking: Asking, call: Call) -> None:
    """The receipt is of this call and of no other."""
    _require(receipt.call_id == call.call_id.hex(), "of another call")
    _require(receipt.product_id == asking.terms.offer.product_id, "of another product")
    _require(asking.pins.caller_id in (None, receipt.caller_id), "of another caller")


def _check_what(receipt: CallReceipt, asking: Asking, units: int) -> None:
    """It says what the offer said: version, data, mode, and no more money."""
    offer = asking.terms.offer
    _require(receipt.version == offer.version and receipt.ticket_id == offer.ticket_id, "of another version")
    _require(receipt.data_versions == offer.data_versions, "over other data")
    _require(receipt.mode is asking.mode, "of another mode")
    _require(receipt.charge == offer.charge and 0 <= receipt.units <= units, "at another price")


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise Refused("client.receipt", what=what)
