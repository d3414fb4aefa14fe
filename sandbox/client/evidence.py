"""What a business keeps of its calls: signed receipts, and beside them what opens their commitments.

A receipt alone tells nobody who was asked about. With its salt, question and answer it proves which messages went each
way (in P0 the question and answer in the clear): such a file is kept like the data themselves.
"""

from __future__ import annotations

import hmac
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from enclave_runner.contract.call import (
    SALT_BYTES,
    Answer,
    Ask,
    CallBatch,
    CallReceipt,
    SettledCall,
    commitment,
    open_settled,
)
from enclave_runner.contract.codec import Value, encode
from enclave_runner.contract.errors import Failed, Refused, YuneiError
from enclave_runner.contract.signing import PublicKey
from sandbox.client.trust import Trusted, trusted_keys

FORM = "yunei-receipt/1"
MAX_CALLS = 1_000_000
# A file of many calls is longer than any message; the caller's own file may be, a stranger's reply may not.
MAX_FILE_BYTES = 1 << 30


class Opening(Value, frozen=True):
    """What opens a commitment: the caller's salt, the question, and the answer (None when it was refused)."""

    salt: bytes
    ask: Ask
    answer: Answer | None

    def __repr__(self) -> str:
        """Without what it opens: it says who was asked about."""
        return f"Opening({type(self.ask).__name__})"


class Evidence(Value, frozen=True, omit_defaults=True):
    """One call: its receipt with its way to the signature, and what opens it, unless that was left out."""

    settled: SettledCall
    opening: Opening | None = None


class ReceiptFile(Value, frozen=True):
    """What stands in a file."""

    form: str
    calls: tuple[Evidence, ...]


@dataclass(frozen=True)
class VerifiedCall:
    """A receipt that the enclave signed. `is_opened`: question and answer were there and are what it commits to."""

    receipt: CallReceipt
    batch: CallBatch
    is_opened: bool

    @property
    def price_fen(self) -> int:
        """What the call costs."""
        return self.receipt.units * self.receipt.charge.unit_price_fen


@dataclass(frozen=True)
class Receipt:
    """The calls that one answer took, in order, already verified."""

    calls: tuple[Evidence, ...]
    verified: tuple[VerifiedCall, ...]

    def __repr__(self) -> str:
        """Without question and answer: a receipt may be logged."""
        return f"Receipt({', '.join(call.receipt.call_id for call in self.verified)})"

    @property
    def price_fen(self) -> int:
        """What they cost together."""
        return sum(call.price_fen for call in self.verified)

    def save(self, path: Path, *, with_question: bool = True) -> None:
        """Write it for `verify_receipt`, readable by its owner only, whole or not at all.

        Without the question the file can be shown to anybody: it names product, mode, time and price, and nobody.

        Raises:
            Failed: `file.unwritable`.
        """
        calls = self.calls if with_question else tuple(Evidence(settled=call.settled) for call in self.calls)
        write_private(path, encode(ReceiptFile(form=FORM, calls=calls)))


def joined(*receipts: Receipt) -> Receipt:
    """Several receipts as one, each call once."""
    found = {
        verified.receipt.call_id: (evidence, verified)
        for receipt in receipts
        for evidence, verified in zip(receipt.calls, receipt.verified, strict=True)
    }
    return Receipt(tuple(evidence for evidence, _ in found.values()), tuple(one for _, one in found.values()))


KEPT = "_receipt"


def receipt_in(error: YuneiError) -> Receipt | None:
    """The verified receipts of the calls that ended in this error: what may have cost, and what proves a breach."""
    found = vars(error).get(KEPT)
    return found if isinstance(found, Receipt) else None


def with_receipt(error: YuneiError, receipt: Receipt | None) -> YuneiError:
    """The error, with these receipts beside those that it has."""
    found = [one for one in (receipt, receipt_in(error)) if one is not None]
    if found:
        vars(error)[KEPT] = joined(*found)
    return error


@contextmanager
def keeping(receipt: Receipt) -> Iterator[None]:
    """What goes wrong inside carries this receipt."""
    try:
        yield
    except YuneiError as error:
        with_receipt(error, receipt)
        raise


def verify_receipt(path: Path, trusted: Trusted) -> tuple[VerifiedCall, ...]:
    """Verify a receipt file offline: signatures, Merkle paths, and every commitment whose opening is in the file.

    `trusted` is what `VerificationClient` takes: `algorithm:hex`, or values.

    Raises:
        ValueError: nobody trusted, or a malformed key.
        Failed: `file.unreadable`.
        Refused: `wire.malformed`, `signature.invalid`, `call.not-in-batch`, `client.receipt` when question or answer
            are not what the receipt commits to.
    """
    keys = trusted_keys(trusted)
    try:
        with path.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
    except OSError:
        raise Failed("file.unreadable") from None
    file = _decoded(data)
    if file.form != FORM or not 0 < len(file.calls) <= MAX_CALLS:
        raise Refused("client.receipt", what="the form of the file")
    return tuple(open_evidence(call, keys) for call in file.calls)


def _decoded(data: bytes) -> ReceiptFile:
    """As `codec.decode`, with the longer cap of a file."""
    try:
        if len(data) <= MAX_FILE_BYTES:
            return msgspec.json.decode(data, type=ReceiptFile)
    except (msgspec.DecodeError, ValueError, RecursionError):
        pass
    raise Refused("wire.malformed", what="receipt file")


def open_evidence(evidence: Evidence, trusted: tuple[PublicKey, ...]) -> VerifiedCall:
    """Verify one call's evidence; errors as `verify_receipt`."""
    receipt, batch = open_settled(evidence.settled, trusted)
    opening = evidence.opening
    if opening is not None:
        made = commitment(opening.salt, opening.ask, opening.answer)
        if len(opening.salt) != SALT_BYTES or not hmac.compare_digest(made.encode(), receipt.commitment.encode()):
            raise Refused("client.receipt", what="question and answer are not what it commits to")
    return VerifiedCall(receipt, batch, opening is not None)


def require_writable(path: Path) -> None:
    """Pass where a file can be put there, as far as can be told without doing it.

    Raises:
        Failed: `file.unwritable`.
    """
    folder = path.parent
    if not folder.is_dir() or path.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise Failed("file.unwritable")


def write_private(path: Path, data: bytes) -> None:
    """Put a file in its place with mode 0600, whole or not at all; a link of that name is replaced, not followed.

    Raises:
        Failed: `file.unwritable`.
    """
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".yunei-")  # made 0600, with O_EXCL
        draft = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    except OSError:
        raise Failed("file.unwritable") from None
