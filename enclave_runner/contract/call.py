"""One call of a verification product: what a business sends, what it gets, and the receipt of it.

Cryptographic payloads are raw bytes of a length that the offer fixes; nothing else of them is parsed outside the jail.
A receipt names no subject and no claim: its commitment hides them behind the caller's salt. Receipts are signed in
batches: the enclave signs the Merkle root of a batch (RFC 6962), and each receipt goes out with its path.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated

import msgspec

from enclave_runner.contract.check import Check, VerificationMode
from enclave_runner.contract.codec import Value, decode, digest, encode
from enclave_runner.contract.encryption import MAX_FEATURE_BYTES, MAX_KEY_BYTES
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import Purpose
from enclave_runner.contract.merkle import frontier_of, is_included
from enclave_runner.contract.privacy import PrivacyLoss
from enclave_runner.contract.receipt import Outcome
from enclave_runner.contract.scoring import ScoreCheck
from enclave_runner.contract.signing import PublicKey, Signed, unseal
from enclave_runner.contract.ticket import Charge

OFFER_PURPOSE = "offer"
BATCH_PURPOSE = "call-batch"
NO_BATCH = "0" * 64
MAX_ASKED = 10_000
POINT_BYTES, SALT_BYTES, CALL_ID_BYTES = 32, 32, 16
MAX_EVALUATIONS = 1000
MAX_QUESTION_BYTES = 4 << 20

Point = Annotated[bytes, msgspec.Meta(min_length=POINT_BYTES, max_length=POINT_BYTES)]
Subject = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Claim = Annotated[str, msgspec.Meta(max_length=200)]


class Asked(Value, frozen=True):
    """One question in the clear."""

    subject: Subject
    claim: Claim = ""


class PlainAsk(Value, frozen=True, tag="plain"):
    """P0: one question or a batch. Answered by `PlainAnswer`."""

    asked: Annotated[tuple[Asked, ...], msgspec.Meta(min_length=1, max_length=MAX_ASKED)]


class EqualityAsk(Value, frozen=True, tag="equality"):
    """P1: the claimed value, hashed to the group and blinded. Answered by `EqualityAnswer`."""

    subject: Subject
    blinded: Point


class OpeningAsk(Value, frozen=True, tag="opening"):
    """P2, first move: asks for the platform's point. Tells nothing and costs nothing. Answered by `OpeningAnswer`."""


class ThresholdAsk(Value, frozen=True, tag="threshold"):
    """P2, second move: the choice among the offered edges, hidden. Answered by `ThresholdAnswer`."""

    subject: Subject
    opening: Annotated[bytes, msgspec.Meta(max_length=64)]
    choice: Point


class EvaluationAsk(Value, frozen=True, tag="evaluation"):
    """P3 and P4, first move: blinded keywords; each one is a guess. Answered by `EvaluationAnswer`."""

    mode: VerificationMode
    blinded: Annotated[tuple[Point, ...], msgspec.Meta(min_length=1, max_length=MAX_EVALUATIONS)]


class BucketAsk(Value, frozen=True, tag="bucket"):
    """P3, second move: which bucket, in the clear. Answered by `BucketAnswer`."""

    bucket: Annotated[int, msgspec.Meta(ge=0, le=1 << 32)]


class LookupAsk(Value, frozen=True, tag="lookup"):
    """P4, second move: the encrypted choice of a column, 4 bytes for each. Answered by `LookupAnswer`."""

    question: Annotated[bytes, msgspec.Meta(max_length=MAX_QUESTION_BYTES)]


class ScoreAsk(Value, frozen=True, tag="score"):
    """P5: for each feature its ciphertexts, slot by slot for each subject; `key` is the public key of this call, under
    which the platform adds an encryption of nothing. Answered by `ScoreAnswer`.
    """

    subjects: Annotated[tuple[Subject, ...], msgspec.Meta(min_length=1, max_length=MAX_ASKED)]
    key: Annotated[bytes, msgspec.Meta(max_length=MAX_KEY_BYTES)]
    features: Annotated[tuple[bytes, ...], msgspec.Meta(min_length=1, max_length=64)]

    def __post_init__(self) -> None:
        if sum(map(len, self.features)) > MAX_FEATURE_BYTES:
            raise ValueError("features: at most 8 MiB")


Ask = PlainAsk | EqualityAsk | OpeningAsk | ThresholdAsk | EvaluationAsk | BucketAsk | LookupAsk | ScoreAsk


class Call(Value, frozen=True):
    """One call. `call_id` is the caller's own and used once: a retry of the very same call is answered again, unpaid.

    `salt` (32 bytes, kept by the caller) makes the receipt's commitment hide the question. `version` is the table
    version of the offer that the call was made for.
    """

    call_id: Annotated[bytes, msgspec.Meta(min_length=CALL_ID_BYTES, max_length=CALL_ID_BYTES)]
    salt: Annotated[bytes, msgspec.Meta(min_length=SALT_BYTES, max_length=SALT_BYTES)]
    version: Annotated[str, msgspec.Meta(max_length=64)]
    ask: Ask


class PlainAnswer(Value, frozen=True, tag="plain-answer"):
    """A `Verdict` for each question; of a level, the number of its band, or `cannot-say`."""

    verdicts: tuple[str, ...]


class EqualityAnswer(Value, frozen=True, tag="equality-answer"):
    """k·B and a 16-byte tag of k·H(y), k fresh. `known` is False where the check says unknown and nothing is known."""

    evaluated: Point
    tag: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    known: bool = True


class OpeningAnswer(Value, frozen=True, tag="opening-answer"):
    """The platform's point for one choice, and the name of it."""

    opening: Annotated[bytes, msgspec.Meta(max_length=64)]
    point: Point


class ThresholdAnswer(Value, frozen=True, tag="threshold-answer"):
    """One masked cell for each edge; the caller can open the one that it chose."""

    cells: bytes


class EvaluationAnswer(Value, frozen=True, tag="evaluation-answer"):
    """The evaluated points and one proof that all were made with the key of the offer (RFC 9497, VOPRF)."""

    evaluated: tuple[Point, ...]
    proof: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


class BucketAnswer(Value, frozen=True, tag="bucket-answer"):
    """The columns of one bucket, each of the table's height."""

    cells: bytes


class LookupAnswer(Value, frozen=True, tag="lookup-answer"):
    """The table times the question modulo 2³²: 4 bytes for each row of the table."""

    reply: bytes


class ScoreAnswer(Value, frozen=True, tag="score-answer"):
    """One ciphertext for every 4096 subjects: a score in each slot. `known`: whether the platform knew that subject."""

    scores: bytes
    known: tuple[bool, ...]


Answer = (
    PlainAnswer
    | EqualityAnswer
    | OpeningAnswer
    | ThresholdAnswer
    | EvaluationAnswer
    | BucketAnswer
    | LookupAnswer
    | ScoreAnswer
)


class Table(Value, frozen=True):
    """The public shape of a hidden-subject table (P3, P4): `height` × `columns` bytes, 16 to an entry.

    `public_key` is that of this version's OPRF key, `seed` makes the public matrix, `hint_sha256` is the digest of the
    hint. P3 hands out `bucket_columns` columns at a time, in which at least `k` entries are somebody's.
    """

    public_key: Point
    seed: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    height: int
    columns: int
    bucket_columns: int
    k: int
    hint_sha256: str
    hint_bytes: int


class Offer(Value, frozen=True):
    """What one version of a product answers, signed by the enclave. `source_at` is when its data came in."""

    product_id: str
    ticket_id: str
    version: str
    check: Check | ScoreCheck
    key_kind: str
    scale: int
    column_type: str
    data_versions: dict[str, str]
    source_at: datetime
    charge: Charge
    needs_consent: bool
    expires_at: datetime
    table: Table | None = None


class CallReceipt(Value, frozen=True, omit_defaults=True):
    """What one call was: no subject, no claim, no answer. `units` are the answered questions that `charge` prices.

    `sequence` counts all calls of this enclave. `consents` is the reference of the consent that covered the call, or
    the digest of several; it is the control plane's word.
    """

    call_id: str
    sequence: int
    ticket_id: str
    product_id: str
    grant_id: str
    operator_id: str
    caller_id: str
    purpose: Purpose
    mode: VerificationMode
    outcome: Outcome
    units: int
    commitment: str
    version: str
    data_versions: dict[str, str]
    policy_sha256: str
    charge: Charge
    finished_at: datetime
    rule: str | None = None
    fault: str | None = None
    consents: str | None = None
    losses: tuple[PrivacyLoss, ...] = ()


class CallBatch(Value, frozen=True):
    """The receipts of calls `first` to `first + count - 1`: their Merkle root, and the digest of the batch before.

    `previous` is the SHA-256 of the encoded `CallBatch` before, 64 zeros for the first. Numbers and sequences follow
    each other without a gap, but for a jump after a restore: what a restored enclave has forgotten is not used again.
    `measurement_sha256` is the digest of the enclave's `Measurement`.
    """

    number: int
    first: int
    count: int
    root: str
    previous: str
    measurement_sha256: str
    finished_at: datetime


class SettledCall(Value, frozen=True):
    """A receipt (encoded `CallReceipt`), its path in the batch, and the signed batch."""

    receipt: bytes
    path: tuple[bytes, ...]
    batch: Signed


def commitment(salt: bytes, ask: Ask, answer: Answer | None) -> str:
    """The hiding commitment to a transcript: SHA-256 over the salt and the lengths and bytes of question and answer.

    Hiding while the 32-byte salt is secret, binding because SHA-256 resists collisions. `answer` is None for a call
    that was refused.
    """
    parts = (salt, encode(ask), b"" if answer is None else encode(answer))
    framed = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return hashlib.sha256(b"yunei/v1/transcript\n" + framed).hexdigest()


def open_settled(settled: SettledCall, trusted: tuple[PublicKey, ...]) -> tuple[CallReceipt, CallBatch]:
    """Verify a call's receipt offline: the batch's signature, and that the receipt stands in it.

    Raises:
        Refused: `signature.invalid`, `wire.malformed`, `call.not-in-batch`.
    """
    batch = unseal(settled.batch, BATCH_PURPOSE, trusted, CallBatch)
    receipt = decode(settled.receipt, CallReceipt)
    index, root = receipt.sequence - batch.first, _root(batch.root)
    if not is_included(settled.receipt, index, batch.count, settled.path, root):
        raise Refused("call.not-in-batch")
    return receipt, batch


def open_batch(
    batch: Signed, receipts: tuple[bytes, ...], previous: str, trusted: tuple[PublicKey, ...]
) -> tuple[CallBatch, tuple[CallReceipt, ...]]:
    """Verify a batch of the call log as a whole: signature, root, sequences and its link to the batch before.

    Args:
        previous: `batch_digest` of the batch before, `NO_BATCH` for the first.

    Raises:
        Refused: `signature.invalid`, `wire.malformed`, `call.not-in-batch`, `call.chain` for another batch before.
    """
    opened = unseal(batch, BATCH_PURPOSE, trusted, CallBatch)
    calls = tuple(decode(receipt, CallReceipt) for receipt in receipts)
    numbered = all(call.sequence == opened.first + index for index, call in enumerate(calls))
    if not numbered or opened.count != len(calls) or frontier_of(receipts).root != _root(opened.root):
        raise Refused("call.not-in-batch")
    if opened.previous != previous:
        raise Refused("call.chain", number=opened.number)
    return opened, calls


def batch_digest(batch: Signed) -> str:
    """What the batch after this one names as `previous`."""
    return digest(batch.payload)


def _root(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
