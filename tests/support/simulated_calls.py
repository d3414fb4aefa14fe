"""The part of the simulated enclave that answers calls: real offers, receipts, batches, pseudonyms and refusals.

What it knows about subjects is a dictionary. It answers P0, and for the other modes only what the control plane looks
at: that there is an answer with a receipt.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from enclave_runner.contract import wire
from enclave_runner.contract.call import (
    BATCH_PURPOSE,
    NO_BATCH,
    OFFER_PURPOSE,
    Answer,
    Ask,
    Call,
    CallBatch,
    CallReceipt,
    EqualityAnswer,
    EqualityAsk,
    Offer,
    OpeningAnswer,
    OpeningAsk,
    PlainAnswer,
    PlainAsk,
    SettledCall,
    batch_digest,
    commitment,
)
from enclave_runner.contract.check import VerificationMode
from enclave_runner.contract.codec import encode
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import PURPOSE as GRANT_PURPOSE
from enclave_runner.contract.grant import Grant
from enclave_runner.contract.merkle import frontier_of, inclusion_proof
from enclave_runner.contract.receipt import Outcome
from enclave_runner.contract.signing import KeyFile, Signed, seal, unseal
from enclave_runner.contract.standing import PURPOSE, StandingTicket
from enclave_runner.contract.trust import Trust

HINT = secrets.token_bytes(5 << 20)
PART = 4 << 20


@dataclass
class Open:
    """A product that answers."""

    ticket: StandingTicket
    grant: Grant
    offer: Signed
    version: str


@dataclass
class SimulatedCalls:
    """Everything about open products. `refuse_next` refuses the next call of the cryptography; `refuse_opening` the
    next opening; `batch_size` calls share a signature."""

    key: KeyFile
    trust: Trust
    policy_sha256: str
    clock: Callable[[], datetime]
    pseudonym: Callable[[str, str], str]
    values: dict[str, str] = field(default_factory=dict)
    refuse_next: Refused | None = None
    refuse_opening: Refused | None = None
    stage: str = "reading"
    alarms: tuple[wire.Alarm, ...] = ()
    restores: int = 0
    asked: list[wire.RunCall] = field(default_factory=list)
    opened: dict[str, Open] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)
    log: list[wire.BatchRecord] = field(default_factory=list)
    heads: list[CallBatch] = field(default_factory=list)
    answered: dict[tuple[str, bytes], tuple[bytes, wire.CallReply]] = field(default_factory=dict)

    def answer(self, request: wire.Request) -> wire.Reply:
        """One request about open products."""
        match request:
            case wire.OpenProduct():
                return self._open(request.ticket)
            case wire.AskProgress():
                return wire.Progress(stage=self.stage, done=1, total=2)
            case wire.CloseProduct():
                self.closed.append(request.ticket_id)
                self.opened = {
                    name: item for name, item in self.opened.items() if item.ticket.ticket_id != request.ticket_id
                }
                return wire.Closed()
            case wire.AskOffer():
                return wire.OfferReply(offer=self._product(request.product_id).offer)
            case wire.AskHint():
                if request.version != self._product(request.product_id).version:
                    raise Refused("call.stale-version")
                return wire.HintPart(data=HINT[request.offset : request.offset + PART])
            case wire.RunCall():
                return self._call(request)
            case wire.AskCalls():
                known = (number for number, head in enumerate(self.heads) if head.number >= request.since)
                first = next(known, len(self.log))
                return wire.CallLog(batches=tuple(self.log[first : first + 3]))
            case wire.AskAlarms():
                return wire.Alarms(items=self.alarms)
            case wire.AskPseudonyms():
                made = (self.pseudonym(request.dataset_id, identifier) for identifier in request.identifiers)
                return wire.Pseudonyms(values=tuple(made))
        raise AssertionError(f"{type(request).__name__} is not simulated")

    def _product(self, product_id: str) -> Open:
        if product_id not in self.opened:
            raise Refused("product.not-open", product=product_id)
        return self.opened[product_id]

    def _open(self, signed: Signed) -> wire.Opened:
        ticket = unseal(signed, PURPOSE, self.trust.control, StandingTicket)
        grant = unseal(ticket.grant, GRANT_PURPOSE, self.trust.officers, Grant)
        refused, self.refuse_opening = self.refuse_opening, None
        if refused is not None:
            raise refused
        if ticket.ticket_id in self.closed:
            raise Refused("standing.closed")
        known = self.opened.get(ticket.product_id)
        if known is not None and known.ticket.ticket_id == ticket.ticket_id:
            return wire.Opened(offer=known.offer)
        version = secrets.token_hex(16)
        offer = Offer(
            product_id=ticket.product_id,
            ticket_id=ticket.ticket_id,
            version=version,
            check=ticket.check,
            key_kind="resident-id",
            scale=0,
            column_type="boolean",
            data_versions=ticket.data_versions,
            source_at=self.clock(),
            charge=ticket.charge,
            needs_consent=ticket.needs_consent,
            expires_at=ticket.expires_at,
        )
        opened = Open(ticket, grant, seal(offer, OFFER_PURPOSE, self.key), version)
        self.opened[ticket.product_id] = opened
        return wire.Opened(offer=opened.offer)

    def _call(self, request: wire.RunCall) -> wire.CallReply:
        product, call = self._product(request.product_id), request.call
        name, whole = (request.caller_id, call.call_id), encode(request)
        if name in self.answered:
            earlier, reply = self.answered[name]
            if earlier != whole:
                raise Refused("call.used")
            return reply
        self.asked.append(request)
        refused, self.refuse_next = self.refuse_next, None
        if call.version != product.version:
            refused = Refused("call.stale-version")
        answer = None if refused is not None else self.answer_to(call.ask)
        settled = self.settle(request.product_id, request.caller_id, request.consents, call, answer, refused)
        facts = {} if refused is None else refused.facts
        reply = wire.CallReply(answer=answer, settled=settled, rule=refused.rule if refused else None, facts=facts)
        self.answered[name] = whole, reply
        return reply

    def answer_to(self, ask: Ask) -> Answer:
        """The answer, whoever asks."""
        match ask:
            case PlainAsk():
                verdicts = ("yes" if self.values.get(one.subject) == one.claim else "no" for one in ask.asked)
                return PlainAnswer(verdicts=tuple(verdicts))
            case EqualityAsk():
                return EqualityAnswer(evaluated=ask.blinded, tag=bytes(16))
            case OpeningAsk():
                return OpeningAnswer(opening=b"o", point=bytes([1] * 32))
        raise AssertionError("not simulated")

    def settle(
        self,
        product_id: str,
        caller_id: str,
        consents: str | None,
        call: Call,
        answer: Answer | None,
        refused: Refused | None = None,
        /,
        **changes: object,
    ) -> SettledCall:
        """Sign a batch of one call; `changes` make a receipt that is not as its ticket says."""
        product, head = self._product(product_id), self._head()
        fields: dict[str, object] = {
            "call_id": call.call_id.hex(),
            "sequence": head[1],
            "ticket_id": product.ticket.ticket_id,
            "product_id": product_id,
            "grant_id": product.grant.grant_id,
            "operator_id": product.grant.operator_id,
            "caller_id": caller_id,
            "purpose": product.grant.purpose,
            "mode": _mode(call.ask),
            "outcome": Outcome.RELEASED if answer is not None else Outcome.REFUSED,
            "units": _units(answer),
            "commitment": commitment(call.salt, call.ask, answer),
            "version": product.version,
            "data_versions": product.ticket.data_versions,
            "policy_sha256": self.policy_sha256,
            "charge": product.ticket.charge,
            "finished_at": self.clock(),
            "rule": refused.rule if refused is not None else None,
            "consents": consents,
        }
        receipt = CallReceipt(**{**fields, **changes})  # type: ignore[arg-type]
        (settled,) = self.sign((encode(receipt),))
        return settled

    def sign(self, receipts: Sequence[bytes], **changes: object) -> tuple[SettledCall, ...]:
        """Sign a batch and put it into the log."""
        number, first, previous = self._head()
        fields: dict[str, object] = {
            "number": number,
            "first": first,
            "count": len(receipts),
            "root": frontier_of(receipts).root.hex(),
            "previous": previous,
            "measurement_sha256": "0" * 64,
            "finished_at": self.clock(),
        }
        batch = CallBatch(**{**fields, **changes})  # type: ignore[arg-type]
        signed = seal(batch, BATCH_PURPOSE, self.key)
        self.log.append(wire.BatchRecord(batch=signed, receipts=tuple(receipts)))
        self.heads.append(batch)
        return tuple(
            SettledCall(receipt=receipt, path=inclusion_proof(receipts, index), batch=signed)
            for index, receipt in enumerate(receipts)
        )

    def _head(self) -> tuple[int, int, str]:
        floor = self.restores << 40
        if not self.log:
            return floor, floor, NO_BATCH
        last = self.heads[-1]
        return (
            max(last.number + 1, floor),
            max(last.first + last.count, floor),
            batch_digest(self.log[-1].batch),
        )

    def forget(self, count: int) -> None:
        """As if an older copy of the home had been put back: the newest batches are gone."""
        self.log, self.heads = self.log[: len(self.log) - count], self.heads[: len(self.heads) - count]


def _mode(ask: Ask) -> VerificationMode:
    match ask:
        case EqualityAsk():
            return VerificationMode.EQUALITY
        case _:
            return VerificationMode.PLAIN


def _units(answer: Answer | None) -> int:
    match answer:
        case PlainAnswer():
            return len(answer.verdicts)
        case EqualityAnswer():
            return 1
        case _:
            return 0
