"""The platform's half of a verification product, in one small class: real protocols, real signatures, real HTTP.

It answers what the enclave and the API would, from a dictionary, and lets a test bend what leaves: before it is signed
(a lying enclave) or after (a lying control plane).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from starlette.types import ASGIApp, Receive, Scope, Send

from enclave_runner.contract.call import (
    BATCH_PURPOSE,
    NO_BATCH,
    OFFER_PURPOSE,
    Answer,
    Ask,
    BucketAnswer,
    BucketAsk,
    Call,
    CallBatch,
    CallReceipt,
    EqualityAnswer,
    EqualityAsk,
    EvaluationAnswer,
    EvaluationAsk,
    LookupAnswer,
    LookupAsk,
    Offer,
    OpeningAnswer,
    OpeningAsk,
    PlainAnswer,
    PlainAsk,
    ScoreAnswer,
    ScoreAsk,
    SettledCall,
    Table,
    ThresholdAnswer,
    ThresholdAsk,
    commitment,
)
from enclave_runner.contract.check import Check, CheckKind, Verdict, VerificationMode
from enclave_runner.contract.ciphertext import Workbench
from enclave_runner.contract.codec import decode, digest, encode
from enclave_runner.contract.dataset import ColumnType, KeyKind
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import Purpose
from enclave_runner.contract.merkle import frontier_of, inclusion_proof
from enclave_runner.contract.protocols import cell, equality, lattice, oprf, threshold
from enclave_runner.contract.protocols.canonical import claim_digest, claim_number, claim_text, keyword, subject_text
from enclave_runner.contract.receipt import Outcome
from enclave_runner.contract.scoring import ScoreCheck
from enclave_runner.contract.signing import KeyFile, seal
from enclave_runner.contract.ticket import Charge
from enclave_runner.contract.wire import CallReply, OfferReply
from enclave_runner.he.scoring import score
from tests.support.http_server import serving

PRODUCT = "licence-level"
KEY = "yunei_test_key_0123456789"
CALLER = "pty-business"
MEASUREMENT = "5" * 64
CHARGE = Charge(tariff_id="t1", unit_price_fen=25, legal_basis="article 35")
HEIGHT = 256  # 16 entries a column: 40 rows in 32 columns never overflow one
COLUMNS = 32
BUCKET_COLUMNS = 8
NEIGHBOURS = 2  # receipts of others in the same batch, on either side


@dataclass
class Sent:
    """What leaves for one request."""

    status: int
    body: bytes
    media_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


def same(value: object) -> object:
    """No lie."""
    return value


@dataclass
class Lies:
    """What is bent: `offer`, `answer` and `receipt` before they are signed, `sent` after all else; `rule` refuses."""

    offer: Callable[[Offer], object] = same
    answer: Callable[[Answer], object] = same
    receipt: Callable[[CallReceipt], object] = same
    hint: Callable[[bytes], bytes] = lambda data: data
    sent: Callable[[Sent], Sent] = lambda sent: sent
    rule: Callable[[Ask], str | None] = lambda ask: None
    problem: Callable[[Ask], Sent | None] = lambda ask: None


def altered(value: object, **fields: object) -> object:
    """A contract value with other fields."""
    return msgspec.structs.replace(value, **fields)  # type: ignore[type-var]


class Hidden:
    """One version of the table of P3 and P4."""

    def __init__(self, keywords: dict[bytes, int], version: str, k: int, bucket_columns: int) -> None:
        self.key = oprf.new_key()
        self.seed = secrets.token_bytes(16)
        self.matrix = np.frombuffer(secrets.token_bytes(HEIGHT * COLUMNS), np.uint8).reshape(HEIGHT, COLUMNS).copy()
        filled = [0] * COLUMNS
        for word, code in keywords.items():
            entry = cell.entry(oprf.evaluate_directly(self.key, word), version)
            column = entry.column(COLUMNS)
            top = filled[column] * cell.ENTRY_BYTES
            filled[column] += 1
            sealed = np.frombuffer(entry.seal(cell.label(code)), np.uint8)
            self.matrix[top : top + cell.ENTRY_BYTES, column] = sealed
        public = np.frombuffer(lattice.public_rows(self.seed, 0, COLUMNS), "<u4").reshape(COLUMNS, lattice.DIMENSION)
        self.hint = self._times(public).astype("<u4").tobytes()
        self.table = Table(
            public_key=oprf.public_key(self.key),
            seed=self.seed,
            height=HEIGHT,
            columns=COLUMNS,
            bucket_columns=bucket_columns,
            k=k,
            hint_sha256=digest(self.hint),
            hint_bytes=len(self.hint),
        )

    def _times(self, right: NDArray[np.uint32]) -> NDArray[np.uint32]:
        return self.matrix.astype(np.uint32) @ right

    def bucket(self, number: int) -> bytes:
        """The columns of a bucket, one after another."""
        first = number * self.table.bucket_columns
        return self.matrix[:, first : first + self.table.bucket_columns].T.tobytes()

    def reply(self, question: bytes) -> bytes:
        """Table times question."""
        return self._times(np.frombuffer(question, "<u4")).astype("<u4").tobytes()


class Platform:
    """One product over `rows` (canonical subject → canonical value; of a score, its points)."""

    def __init__(
        self,
        check: Check | ScoreCheck,
        rows: dict[str, str],
        column_type: ColumnType = ColumnType.TEXT,
        key_kind: KeyKind = KeyKind.OPAQUE,
        scale: int = 0,
    ) -> None:
        self.check: Check | ScoreCheck = check
        self.rows = rows
        self.column_type, self.key_kind, self.scale = column_type, key_kind, scale
        self.signer = KeyFile(Ed25519PrivateKey.generate())
        self.lies = Lies()
        self.source_at = datetime.now(UTC) - timedelta(days=3)
        self.calls: list[Call] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.charged = 0
        self._kept: dict[bytes, tuple[Call, bytes]] = {}
        self._secret = secrets.token_bytes(32)
        self._sequence = 0
        self.bucket_columns = BUCKET_COLUMNS
        self.renew()

    @property
    def trusted(self) -> str:
        """The pin of its signing key."""
        public = self.signer.public_key
        return f"{public.algorithm}:{public.raw.hex()}"

    def renew(self) -> None:
        """A new table version, of the check as it is now."""
        self.version = secrets.token_hex(16)
        self.ticket_id = f"tkt-{secrets.token_hex(4)}"
        is_hidden = any(mode.hides_subject for mode in self.check.modes)
        words = dict(self._keywords()) if is_hidden else {}
        self.hidden = Hidden(words, self.version, len(self.rows), self.bucket_columns) if is_hidden else None

    def _keywords(self) -> Iterator[tuple[bytes, int]]:
        assert isinstance(self.check, Check)
        for subject, value in self.rows.items():
            code = self.code(subject, "")
            if self.check.kind is CheckKind.EQUALS:
                yield keyword(subject, claim_digest(value)), cell.YES
            elif code != cell.NO or self.check.says_unknown:
                yield keyword(subject), code

    def code(self, subject: str, claim: str) -> int:
        """What is so."""
        assert isinstance(self.check, Check)
        value = self.rows.get(subject)
        if value is None:
            return cell.absent_code(self.check)
        match self.check.kind:
            case CheckKind.EXISTS:
                return cell.YES
            case CheckKind.MEMBER:
                return cell.YES if value in self.check.members else cell.NO
            case CheckKind.LEVEL:
                return cell.LEVEL + sum(int(value) >= edge for edge in self.check.edges)
            case CheckKind.EQUALS:
                is_same = claim != "" and claim_text(claim, self.column_type, self.scale) == value
                return cell.YES if is_same else cell.NO
            case CheckKind.AT_LEAST:
                return cell.YES if int(value) >= claim_number(claim, self.column_type, self.scale) else cell.NO

    def offer(self) -> Offer:
        """What it offers."""
        return Offer(
            product_id=PRODUCT,
            ticket_id=self.ticket_id,
            version=self.version,
            check=self.check,
            key_kind=self.key_kind.value,
            scale=self.scale,
            column_type=self.column_type.value,
            data_versions={self.check.dataset_id: "20261120-1"},
            source_at=self.source_at,
            charge=CHARGE,
            needs_consent=False,
            expires_at=datetime.now(UTC) + timedelta(days=30),
            table=self.hidden.table if self.hidden is not None else None,
        )

    def answer(self, call: Call) -> tuple[Answer, int, VerificationMode]:
        """The answer to a call, its units and its mode; Refused as the protocols do."""
        context = equality.context(PRODUCT, self.version, call.call_id)
        match call.ask:
            case PlainAsk(asked=asked):
                codes = [self.code(subject_text(one.subject, self.key_kind), one.claim) for one in asked]
                verdicts = tuple(map(cell.verdict_text, codes))
                return PlainAnswer(verdicts=verdicts), len(asked), VerificationMode.PLAIN
            case EqualityAsk(subject=subject, blinded=blinded):
                assert isinstance(self.check, Check)
                value = self.rows.get(subject)
                y = secrets.token_bytes(32) if value is None else claim_digest(value)
                evaluated, tag = equality.answer(context, y, blinded)
                known = value is not None or not self.check.says_unknown
                return EqualityAnswer(evaluated=evaluated, tag=tag, known=known), 1, VerificationMode.EQUALITY
            case OpeningAsk():
                opening, point = threshold.open(self._secret, CALLER, time.time())
                return OpeningAnswer(opening=opening, point=point), 0, VerificationMode.THRESHOLD
            case ThresholdAsk():
                return self._threshold(call.ask, context), 1, VerificationMode.THRESHOLD
            case ScoreAsk():
                return self._score(call.ask), len(call.ask.subjects), VerificationMode.SCORE
            case _:
                return self._hidden(call.ask)

    def _score(self, ask: ScoreAsk) -> ScoreAnswer:
        assert isinstance(self.check, ScoreCheck)
        known = tuple(subject in self.rows for subject in ask.subjects)
        points = b"".join(int(self.rows.get(name, 0)).to_bytes(8, "little", signed=True) for name in ask.subjects)
        bench = Workbench()
        request = b"".join((ask.key, *ask.features, points))
        scores = score(self.check.model, len(ask.subjects), request, bench)
        bench.close()
        return ScoreAnswer(scores=scores, known=known)

    def _threshold(self, ask: ThresholdAsk, context: bytes) -> ThresholdAnswer:
        assert isinstance(self.check, Check)
        value = self.rows.get(ask.subject)
        absent = cell.absent_code(self.check)
        cells = [absent if value is None else int(int(value) >= edge) for edge in self.check.edges]
        return ThresholdAnswer(
            cells=threshold.table(self._secret, CALLER, time.time(), ask.opening, ask.choice, context, cells)
        )

    def _hidden(self, ask: Ask) -> tuple[Answer, int, VerificationMode]:
        assert self.hidden is not None
        match ask:
            case EvaluationAsk(mode=mode, blinded=blinded):
                evaluated, proof = oprf.evaluate(self.hidden.key, blinded)
                return EvaluationAnswer(evaluated=evaluated, proof=proof), len(blinded), mode
            case BucketAsk(bucket=bucket):
                return BucketAnswer(cells=self.hidden.bucket(bucket)), 0, VerificationMode.BUCKET
            case LookupAsk(question=question):
                return LookupAnswer(reply=self.hidden.reply(question)), 0, VerificationMode.LOOKUP
            case _:
                raise Refused("call.mode", mode="P5")

    def reply(self, call: Call) -> bytes:
        """The encoded reply, with a receipt between the receipts of others."""
        kept = self._kept.get(call.call_id)
        if kept is not None:
            assert kept[0] == call, "a call id used twice"
            return kept[1]
        self.calls.append(call)
        rule = self.lies.rule(call.ask)
        if rule is None and call.version != self.version:
            rule = "call.stale-version"
        if rule is None:
            answer, units, mode = self.answer(call)
            bent: Answer | None = self.lies.answer(answer)  # type: ignore[assignment]
        else:
            bent, units, mode = None, 0, VerificationMode.PLAIN
        self.charged += units
        receipt = self._receipt(call, bent, units, mode, rule)
        told = CallReply(answer=bent, settled=self._settle(self.lies.receipt(receipt)), rule=rule)
        self._kept[call.call_id] = (call, encode(told))
        return encode(told)

    def _receipt(
        self, call: Call, answer: Answer | None, units: int, mode: VerificationMode, rule: str | None
    ) -> CallReceipt:
        return CallReceipt(
            call_id=call.call_id.hex(),
            sequence=self._sequence + NEIGHBOURS,
            ticket_id=self.ticket_id,
            product_id=PRODUCT,
            grant_id="grt-1",
            operator_id="pty-operator",
            caller_id=CALLER,
            purpose=Purpose.INDUSTRY,
            mode=mode,
            outcome=Outcome.RELEASED if rule is None else Outcome.REFUSED,
            units=units,
            commitment=commitment(call.salt, call.ask, answer),
            version=self.version,
            data_versions={self.check.dataset_id: "20261120-1"},
            policy_sha256="4" * 64,
            charge=CHARGE,
            finished_at=datetime.now(UTC),
            rule=rule,
        )

    def _settle(self, receipt: object) -> SettledCall:
        entries = [b"another's"] * NEIGHBOURS + [encode(receipt)] + [b"another's"] * NEIGHBOURS
        batch = CallBatch(
            number=self._sequence,
            first=self._sequence,
            count=len(entries),
            root=frontier_of(entries).root.hex(),
            previous=NO_BATCH,
            measurement_sha256=MEASUREMENT,
            finished_at=datetime.now(UTC),
        )
        self._sequence += len(entries)
        path = inclusion_proof(entries, NEIGHBOURS)
        return SettledCall(receipt=entries[NEIGHBOURS], path=path, batch=seal(batch, BATCH_PURPOSE, self.signer))

    def handle(self, method: str, path: str, query: str, body: bytes) -> Sent:
        """One request."""
        base = f"/v1/products/{PRODUCT}"
        if (method, path) == ("GET", f"{base}/offer"):
            offer = seal(self.lies.offer(self.offer()), OFFER_PURPOSE, self.signer)
            return Sent(200, encode(OfferReply(offer=offer)))
        if (method, path) == ("GET", f"{base}/hint") and self.hidden is not None:
            asked = parse_qs(query)
            assert asked["version"] == [self.version]
            at = int(asked["offset"][0])
            return Sent(200, self.lies.hint(self.hidden.hint)[at : at + 300_000], "application/octet-stream")
        if (method, path) == ("POST", f"{base}/calls"):
            call = decode(body, Call)
            return self.lies.problem(call.ask) or Sent(200, self.reply(call))
        return problem("record.unknown", 404)

    def app(self) -> ASGIApp:
        """The whole of it as an application."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            body, more = b"", True
            while more:
                message = await receive()
                body, more = body + message.get("body", b""), message.get("more_body", False)
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            self.requests.append((scope["method"], scope["path"], headers))
            sent = problem("key.unknown", 401)
            if headers.get("authorization") == f"Bearer {KEY}":
                sent = self.handle(scope["method"], scope["path"], scope["query_string"].decode(), body)
            sent = self.lies.sent(sent)
            named = {"content-type": sent.media_type, "content-length": str(len(sent.body)), **sent.headers}
            raw = [(name.encode(), value.encode()) for name, value in named.items() if value]
            await send({"type": "http.response.start", "status": sent.status, "headers": raw})
            await send({"type": "http.response.body", "body": sent.body})

        return app

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Its address, while the block runs."""
        with serving(self.app()) as url:
            yield url


def problem(rule: str, status: int, **texts: str) -> Sent:
    """A refusal of the control plane."""
    body = {"type": f"urn:yunei:rule:{rule}", "title": "no", "status": status, "rule": rule, **texts}
    return Sent(status, msgspec.json.encode(body), "application/problem+json")


def bent(sent: Sent, **fields: object) -> Sent:
    """What leaves, with other parts."""
    return replace(sent, **fields)  # type: ignore[arg-type]


YES, NO, CANNOT_SAY = Verdict.YES, Verdict.NO, Verdict.CANNOT_SAY
