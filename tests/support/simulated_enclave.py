"""A small enclave behind the real contract: real signatures, receipts, Merkle log, nonces and odometer; no data at all.

What it releases is made up. Everything that the control plane may rely on is as in the real one, so that workflow tests
exercise the contract and not a mock of it.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import threading
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from enclave_runner.contract import wire
from enclave_runner.contract.codec import decode, digest, encode
from enclave_runner.contract.dataset import DatasetSpec
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import PURPOSE as GRANT_PURPOSE
from enclave_runner.contract.grant import Grant
from enclave_runner.contract.job import Answer, Job, Question, VerificationJob
from enclave_runner.contract.merkle import Checkpoint, Frontier, frontier_of, open_checkpoint, sign_checkpoint
from enclave_runner.contract.privacy import PrivacyLoss, number, to_pico_rho
from enclave_runner.contract.receipt import PURPOSE as RECEIPT_PURPOSE
from enclave_runner.contract.receipt import DPTable, Measure, Outcome, Receipt, VerificationAnswer
from enclave_runner.contract.signing import KeyFile, Signed, seal, unseal
from enclave_runner.contract.ticket import PURPOSE as TICKET_PURPOSE
from enclave_runner.contract.ticket import Ticket
from enclave_runner.contract.trust import Trust
from tests.support.attestations import make_measurement
from tests.support.simulated_calls import SimulatedCalls

ORIGIN = "yunei.enclave/receipts"
WORDS = re.compile(r"[a-z_][a-z0-9_]*", re.IGNORECASE)
KEYWORDS = {"select", "from", "where", "group", "by", "and", "or", "as", "count", "sum"}
MEASUREMENT = make_measurement()


class SimulatedEnclave:
    """An `EnclaveDoor`. `refuse_next` and `fail_next` make the next job end that way, with a receipt.

    With `repeats` it answers the same question of the same grant again from what it answered before; the next release
    claims to repeat the receipt `claim_repeat`, whatever that is.
    """

    def __init__(self, folder: Path, trust: Trust, policy_sha256: str, clock: Callable[[], datetime]) -> None:
        self.key = KeyFile.create(folder / "receipt.key")
        self.trust, self.policy_sha256, self.clock = trust, policy_sha256, clock
        self.lifetime = 10**12
        self.refuse_next: Refused | None = None
        self.fail_next = False
        self.repeats = False
        self.claim_repeat: str | None = None
        self.questions: list[Question] = []
        self.restorations: list[Signed] = []
        self._secret = secrets.token_bytes(32)
        self._lock = threading.RLock()
        self._specs: dict[str, DatasetSpec] = {}
        self._versions: dict[str, str] = {}
        self._log: list[Signed] = []
        self._frontier = Frontier()
        self._settled: dict[str, wire.Settlement] = {}
        self._losses: list[tuple[str, PrivacyLoss]] = []
        self._uses: list[str] = []
        self._answers: dict[tuple[str, bytes], wire.Settlement] = {}
        self.calls = SimulatedCalls(self.key, trust, policy_sha256, clock, self._pseudonym)

    def call(self, request: wire.Request, descriptor: int | None = None) -> wire.Reply:
        """Answer one request, one at a time."""
        with self._lock:
            match request:
                case wire.Hello():
                    return self.identity()
                case wire.ImportData():
                    return self._import(request, descriptor)
                case wire.AskQuote():
                    return self._quote(request)
                case wire.RunJob():
                    return self._run(request.ticket, descriptor)
                case wire.FetchSettlement():
                    empty = wire.Settlement(receipt=None, release=None, checkpoint=self._note())
                    return self._settled.get(request.ticket_id, empty)
                case wire.AskPseudonym():
                    return wire.Pseudonym(value=self._pseudonym(request.dataset_id, request.identifier))
                case wire.AskOdometer():
                    return self._odometer()
                case wire.AskLog():
                    page = tuple(self._log[request.since : request.since + 1000])
                    return wire.ReceiptLog(
                        receipts=page, checkpoint=self._note(), restorations=tuple(self.restorations)
                    )
                case wire.AskHoldings():
                    return wire.Holdings(items=tuple(self._holding(name) for name in sorted(self._versions)))
                case _:
                    return self.calls.answer(request)

    def _pseudonym(self, dataset_id: str, identifier: str) -> str:
        text = f"{self._specs[dataset_id].entity_set}\n{identifier.strip()}".encode()
        return hmac.digest(self._secret, text, "sha256").hex()

    def identity(self) -> wire.Identity:
        """Who this is."""
        return wire.Identity(
            key=self.key.public_key,
            origin=ORIGIN,
            measurement=MEASUREMENT,
            policy_sha256=self.policy_sha256,
            checkpoint=self._note(),
        )

    def _import(self, request: wire.ImportData, descriptor: int | None) -> wire.ImportReport:
        spec = unseal(request.spec, wire.DATASET_PURPOSE, self.trust.officers, DatasetSpec)
        if descriptor is None:
            raise Refused("import.format")
        content = os.pread(descriptor, 1 << 20, 0)
        rows = content.count(b"\n") - int(request.header)
        if rows < 1:
            raise Refused("import.empty", dataset=spec.dataset_id)
        version = f"v-{digest(content)[:12]}"
        self._specs[spec.dataset_id], self._versions[spec.dataset_id] = spec, version
        return wire.ImportReport(
            dataset_id=spec.dataset_id,
            version=version,
            accepted=rows,
            rejected=0,
            rejections=(),
            source_sha256=digest(content),
        )

    def _holding(self, dataset_id: str) -> wire.Holding:
        version = self._versions[dataset_id]
        return wire.Holding(dataset_id=dataset_id, version=version, rows=1, imported_at=self.clock().isoformat())

    def forget(self, count: int) -> None:
        """As if an older copy of the home had been put back: the newest receipts and their nonces are gone."""
        gone = {decode(signed.payload, Receipt).ticket_id for signed in self._log[len(self._log) - count :]}
        self._log = self._log[: len(self._log) - count]
        self._frontier = frontier_of(encode(signed) for signed in self._log)
        self._settled = {name: settled for name, settled in self._settled.items() if name not in gone}

    def _check_seen(self, note: str | None) -> None:
        if note is None:
            return
        seen, size = open_checkpoint(note, ORIGIN, self.key.public_key), self._frontier.size
        known = frontier_of(encode(signed) for signed in self._log[: seen.size])
        if (known.size, known.root) != (seen.size, seen.root):
            raise Refused("enclave.rolled-back", have=size, seen=seen.size)

    def _quote(self, ask: wire.AskQuote) -> wire.Quote:
        self._check_seen(ask.receipts_seen)
        grant = unseal(ask.grant, GRANT_PURPOSE, self.trust.officers, Grant)
        dataset_id, columns, losses = self._plan(grant, ask.job)
        measure = Measure(name="people", unit="rows", half_width="3")
        return wire.Quote(datasets={dataset_id: columns}, losses=losses, cells=1, measures=(measure,))

    def _plan(self, grant: Grant, job: Job) -> tuple[str, tuple[str, ...], tuple[PrivacyLoss, ...]]:
        if isinstance(job, VerificationJob):
            return job.dataset_id, (job.attribute,), ()
        words = [word.lower() for word in WORDS.findall(job.sql) if word.lower() not in KEYWORDS]
        dataset_id = next((word for word in words if word in self._specs), "nothing")
        scope = grant.scope(dataset_id)
        if scope is None:
            raise Refused("grant.dataset", dataset=dataset_id)
        spec = self._specs[dataset_id]
        columns = tuple(dict.fromkeys(word for word in words if word not in (dataset_id, "n")))
        for name in columns:
            if spec.column(name) is None:
                raise Refused("sql.column", column=name, position=0)
            if name not in scope.columns:
                raise Refused("grant.column", column=name)
        rho = to_pico_rho(number(job.budget.epsilon) ** 2 / Decimal(20))
        return dataset_id, columns, (PrivacyLoss(entity_set=spec.entity_set, pico_rho=rho),)

    def _run(self, signed: Signed, descriptor: int | None) -> wire.Settlement:
        ticket = unseal(signed, TICKET_PURPOSE, self.trust.control, Ticket)
        grant = unseal(ticket.grant, GRANT_PURPOSE, self.trust.officers, Grant)
        self._check_seen(ticket.receipts_seen)
        if ticket.ticket_id in self._settled:
            raise Refused("ticket.replayed")
        losses: tuple[PrivacyLoss, ...] = ()
        question = grant.grant_id, encode((ticket.job, ticket.data_versions))
        first = self._answers.get(question) if self.repeats else None
        try:
            content = self._admit(ticket, grant, descriptor)
            _, _, losses = self._plan(grant, ticket.job)
            losses = losses if first is None else ()
            self._reserve(grant, losses)
        except Refused as refused:
            return self._settle(ticket, grant, (), refused)
        if self.fail_next:
            self.fail_next = False
            return self._settle(ticket, grant, losses, None)
        if first is not None and first.receipt is not None:
            repeated = decode(first.receipt.payload, Receipt).receipt_id
            return self._settle(ticket, grant, losses, first.release, repeated)
        release, claimed = self._release(ticket, losses, content), self.claim_repeat
        self.claim_repeat = None
        settled = self._settle(ticket, grant, () if claimed else losses, release, claimed)
        self._answers.setdefault(question, settled)
        return settled

    def _admit(self, ticket: Ticket, grant: Grant, descriptor: int | None) -> bytes | None:
        now, refused = self.clock(), self.refuse_next
        self.refuse_next = None
        if refused is not None:
            raise refused
        if ticket.policy_sha256 != self.policy_sha256:
            raise Refused("ticket.policy")
        if not ticket.issued_at <= now < ticket.expires_at:
            raise Refused("ticket.expired")
        if now >= grant.deadline:
            raise Refused("grant.expired", deadline=grant.deadline.date().isoformat())
        if ticket.job.mode not in grant.modes:
            raise Refused("grant.mode", mode=ticket.job.mode.value)
        if any(self._versions.get(name) != version for name, version in ticket.data_versions.items()):
            raise Refused("ticket.data-version", dataset=next(iter(ticket.data_versions)))
        if (descriptor is None) != (ticket.input_sha256 is None):
            raise Refused("ticket.input")
        if descriptor is None:
            return None
        content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        if digest(content) != ticket.input_sha256:
            raise Refused("ticket.input")
        return content

    def _reserve(self, grant: Grant, losses: tuple[PrivacyLoss, ...]) -> None:
        if self._uses.count(grant.grant_id) >= grant.max_uses:
            raise Refused("grant.uses", max=grant.max_uses)
        for loss in losses:
            granted = grant.budget(loss.entity_set) - self.spent(loss.entity_set, grant.grant_id)
            if loss.pico_rho > granted:
                raise Refused("grant.budget", entity_set=loss.entity_set, what="ρ", asked=loss.pico_rho, left=granted)
            left = self.lifetime - self.spent(loss.entity_set)
            if loss.pico_rho > left:
                raise Refused("odometer.spent", entity_set=loss.entity_set, what="ρ", asked=loss.pico_rho, left=left)
        self._uses.append(grant.grant_id)
        self._losses += [(grant.grant_id, loss) for loss in losses]

    def spent(self, entity_set: str, grant_id: str | None = None) -> int:
        """ρ·10¹² spent, by one grant or by all."""
        return sum(
            loss.pico_rho for owner, loss in self._losses if loss.entity_set == entity_set and grant_id in (None, owner)
        )

    def _release(self, ticket: Ticket, losses: tuple[PrivacyLoss, ...], content: bytes | None) -> bytes:
        if isinstance(ticket.job, VerificationJob):
            question = decode(content or b"", Question)
            self.questions.append(question)
            answer = Answer.YES if question.claim == "true" else Answer.NO
            version = next(iter(ticket.data_versions.values()))
            return encode(
                VerificationAnswer(answer=answer, question_sha256=str(ticket.input_sha256), data_version=version)
            )
        return encode(
            DPTable(
                keys=(),
                measures=(Measure(name="people", unit="rows", half_width="3"),),
                rows=(("42",),),
                half_widths=(("3",),),
                loss=losses[0],
                epsilon=ticket.job.budget.epsilon,
                delta=ticket.job.budget.delta,
            )
        )

    def _settle(
        self,
        ticket: Ticket,
        grant: Grant,
        losses: tuple[PrivacyLoss, ...],
        result: bytes | Refused | None,
        repeats: str | None = None,
    ) -> wire.Settlement:
        refused = result if isinstance(result, Refused) else None
        release = result if isinstance(result, bytes) else None
        outcome = Outcome.REFUSED if refused else Outcome.RELEASED if release is not None else Outcome.FAILED
        receipt = Receipt(
            receipt_id=f"rcpt-{secrets.token_hex(12)}",
            sequence=self._frontier.size,
            ticket_id=ticket.ticket_id,
            submission_id=ticket.submission_id,
            grant_id=grant.grant_id,
            operator_id=grant.operator_id,
            purpose=grant.purpose,
            mode=ticket.job.mode,
            outcome=outcome,
            rule=refused.rule if refused else None,
            facts=refused.facts if refused else {},
            fault="fault-0" if outcome is Outcome.FAILED else None,
            losses=losses,
            data_versions=ticket.data_versions,
            input_sha256=ticket.input_sha256,
            release_sha256=None if release is None else digest(release),
            policy_sha256=self.policy_sha256,
            charge=ticket.charge,
            measurement=MEASUREMENT,
            audit_size=ticket.audit_size,
            audit_root=ticket.audit_root,
            finished_at=self.clock(),
            repeats=repeats,
        )
        signed = seal(receipt, RECEIPT_PURPOSE, self.key)
        self._log.append(signed)
        self._frontier = self._frontier.append(encode(signed))
        settlement = wire.Settlement(receipt=signed, release=release, checkpoint=self._note())
        self._settled[ticket.ticket_id] = settlement
        return settlement

    def _note(self) -> str:
        checkpoint = Checkpoint(origin=ORIGIN, size=self._frontier.size, root=self._frontier.root)
        return sign_checkpoint(checkpoint, self.key)

    def _odometer(self) -> wire.Odometer:
        sets = sorted({loss.entity_set for _, loss in self._losses})
        readings = tuple(
            wire.Reading(entity_set=name, spent=self.spent(name), reserved=0, lifetime=self.lifetime) for name in sets
        )
        grants = tuple(
            wire.GrantReading(
                grant_id=grant_id,
                uses=self._uses.count(grant_id),
                losses=tuple(
                    PrivacyLoss(entity_set=name, pico_rho=self.spent(name, grant_id))
                    for name in sets
                    if self.spent(name, grant_id)
                ),
            )
            for grant_id in sorted(set(self._uses))
        )
        return wire.Odometer(readings=readings, grants=grants)
