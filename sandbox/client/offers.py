"""The signed offer of a product, verified before anything of it is used, and what lengths follow from it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from enclave_runner.contract.call import (
    OFFER_PURPOSE,
    Ask,
    BucketAsk,
    EvaluationAsk,
    LookupAsk,
    Offer,
    PlainAsk,
    ScoreAsk,
    Table,
    ThresholdAsk,
)
from enclave_runner.contract.check import Check, VerificationMode
from enclave_runner.contract.codec import decode
from enclave_runner.contract.dataset import SLUG, ColumnType, KeyKind
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.protocols import cell, group, lattice, threshold
from enclave_runner.contract.scoring import ScoreCheck
from enclave_runner.contract.signing import PublicKey, unseal
from enclave_runner.contract.wire import OfferReply
from sandbox.client.exchange import JSON, Exchange, Flow, Reply
from sandbox.client.problems import require_answered

MAX_OFFER_BYTES = 4 << 20
MAX_HEIGHT = 1 << 14
MAX_BUCKET_BYTES = 8 << 20
MAX_SCALE = 6
# Everything in a reply beside the answer proper: the receipt, its path, the signed batch, the facts of a refusal.
FRAME_BYTES = 64 << 10
VERDICT_BYTES = 20
FLAG_BYTES = 8
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Terms:
    """A verified offer as the client uses it: one question, or a score, over subjects of a known spelling."""

    offer: Offer
    key_kind: KeyKind
    column_type: ColumnType

    @property
    def check(self) -> Check:
        """The question.

        Raises:
            Refused: `client.mode` when the product scores instead.
        """
        if not isinstance(self.offer.check, Check):
            raise Refused("client.mode", mode="P0", offered="P5")
        return self.offer.check

    @property
    def table(self) -> Table:
        """The table of P3 and P4, which an offer of these modes has."""
        if self.offer.table is None:
            raise Refused("client.offer", what="a hidden mode without a table")
        return self.offer.table


def fetch_offer(product_id: str, trusted: tuple[PublicKey, ...], now: datetime) -> Flow[Terms]:
    """Ask for the offer and verify it.

    Raises:
        Refused: as `open_offer`; `Declined` when the platform says no.
    """
    reply = yield Exchange("GET", f"/v1/products/{product_id}/offer", MAX_OFFER_BYTES)
    return open_offer(reply, product_id, trusted, now)


def open_offer(reply: Reply, product_id: str, trusted: tuple[PublicKey, ...], now: datetime) -> Terms:
    """The terms in a reply.

    Raises:
        Refused: `signature.invalid` when no trusted enclave signed it, `wire.malformed`, `client.offer` when it is
            another product's, expired, or not usable as it stands.
    """
    require_answered(reply, JSON)
    offer = unseal(decode(reply.body, OfferReply).offer, OFFER_PURPOSE, trusted, Offer)
    _require(offer.product_id == product_id, "of another product")
    _require(offer.expires_at.tzinfo is not None and offer.source_at.tzinfo is not None, "a time without its zone")
    _require(now < offer.expires_at, "expired")
    _require(0 < len(offer.version) <= 64 and 0 <= offer.scale <= MAX_SCALE, "version or scale")
    hidden = isinstance(offer.check, Check) and any(mode.hides_subject for mode in offer.check.modes)
    _require((offer.table is not None) == hidden, "a table for hidden modes, and only for them")
    if offer.table is not None:
        _check_table(offer.table)
    try:
        return Terms(offer, KeyKind(offer.key_kind), ColumnType(offer.column_type))
    except ValueError:
        raise Refused("client.offer", what="key kind or column type") from None


def _check_table(table: Table) -> None:
    """Sizes that memory bears, and that fit together: the enclave's signature says who made it, not that it is sane."""
    _require(0 < table.height <= MAX_HEIGHT and table.height % cell.ENTRY_BYTES == 0, "height")
    _require(0 < table.bucket_columns <= table.columns <= lattice.MAX_COLUMNS, "columns")
    _require(table.columns % table.bucket_columns == 0, "columns are whole buckets")
    _require(table.height * table.bucket_columns <= MAX_BUCKET_BYTES, "bucket size")
    _require(table.k > 0, "k")
    _require(table.hint_bytes == lattice.hint_bytes(table.height), "hint length")
    _require(SHA256.fullmatch(table.hint_sha256) is not None, "hint digest")
    group.checked(table.public_key)


def max_reply(terms: Terms, ask: Ask) -> int:
    """The most bytes that the reply to that question can have, base64 included."""
    return FRAME_BYTES + (_answer_bytes(terms, ask) + 2) * 4 // 3


def _answer_bytes(terms: Terms, ask: Ask) -> int:
    match ask:
        case PlainAsk():
            return VERDICT_BYTES * len(ask.asked)
        case ThresholdAsk():
            return threshold.CELL_BYTES * len(terms.check.edges)
        case EvaluationAsk():
            return 2 * group.POINT_BYTES * len(ask.blinded)
        case BucketAsk():
            return terms.table.height * terms.table.bucket_columns
        case LookupAsk():
            return lattice.reply_bytes(terms.table.height)
        case ScoreAsk():
            return _score_bytes(terms, len(ask.subjects))
        case _:
            return 0


def _score_bytes(terms: Terms, subjects: int) -> int:
    if not isinstance(terms.offer.check, ScoreCheck):
        return 0
    parameters = terms.offer.check.model.parameters
    return parameters.batches(subjects) * parameters.answer_bytes + FLAG_BYTES * subjects


def checked_product(product_id: str) -> str:
    """A product's id, which stands in paths; ValueError when it is none."""
    if not SLUG.fullmatch(product_id):
        raise ValueError("a product id is made of a-z, 0-9, - and _")
    return product_id


def offers(terms: Terms, mode: VerificationMode) -> bool:
    """Whether the product answers in that mode."""
    return mode in terms.offer.check.modes


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise Refused("client.offer", what=what)
