"""The door of the enclave: requests and replies over one unix socket, at most one open file beside a request.

A frame is a 4-byte big-endian length and canonical JSON. One request per connection.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from enum import Enum
from typing import Annotated

import msgspec

from enclave_runner.contract.call import MAX_ASKED, Answer, Call, SettledCall
from enclave_runner.contract.codec import MAX_MESSAGE_BYTES, Value, decode, encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.job import Job
from enclave_runner.contract.privacy import Budget, PrivacyLoss
from enclave_runner.contract.receipt import Measure, Measurement
from enclave_runner.contract.signing import PublicKey, Signed

DATASET_PURPOSE = "dataset"
SOCKET_NAME = "enclave.sock"
# Whoever uses an enclave holds a shared lock on this file of its home.
USERS_NAME = "users.lock"


class Hello(Value, frozen=True, tag="hello"):
    """Who are you? Answered by `Identity`."""


class FileFormat(Enum):
    """How an imported file is written."""

    CSV = "csv"
    PARQUET = "parquet"


class ImportData(Value, frozen=True, tag="import"):
    """Import the open file beside this request under a signed `DatasetSpec`. Answered by `ImportReport`."""

    spec: Signed
    format: FileFormat
    header: bool = True


class AskQuote(Value, frozen=True, tag="quote"):
    """What would this job cost and how exact would it be? Touches no data. Answered by `Quote`.

    `receipts_seen` as in `Ticket`.
    """

    grant: Signed
    job: Job
    receipts_seen: str | None = None


class RunJob(Value, frozen=True, tag="run"):
    """Run the ticket, with its input (if it has one) as the open file beside it. Answered by `Settlement`."""

    ticket: Signed


class FetchSettlement(Value, frozen=True, tag="fetch"):
    """How did that ticket end? Answered by `Settlement`, with no receipt when the ticket was never seen."""

    ticket_id: str


class AskPseudonym(Value, frozen=True, tag="pseudonym"):
    """The keyed pseudonym of a subject of a dataset, so that a consent can be filed without storing an identifier.

    One subject has one pseudonym in all datasets of its entity set, however its identifier is typed.
    """

    dataset_id: str
    identifier: str


class AskOdometer(Value, frozen=True, tag="odometer"):
    """What was spent, per entity set? Answered by `Odometer`."""


class AskLog(Value, frozen=True, tag="log"):
    """Receipts from an index on. Answered by `ReceiptLog`."""

    since: int = 0


class AskHoldings(Value, frozen=True, tag="holdings"):
    """Which datasets and versions do you hold? Answered by `Holdings`."""


class AskAttestation(Value, frozen=True, tag="attest"):
    """What are you, at this moment? `nonce` is the asker's own. Answered by `AttestationReply`."""

    nonce: bytes


class OpenProduct(Value, frozen=True, tag="open"):
    """Build the tables of a signed `StandingTicket` and answer calls under it, in place of an earlier version of the
    same product. Answered by `Opened`, when calls are answered; asking again tells the same.
    """

    ticket: Signed


class AskProgress(Value, frozen=True, tag="progress"):
    """How far is the opening under that standing ticket? Answered by `Progress`."""

    ticket_id: str


class CloseProduct(Value, frozen=True, tag="close"):
    """Answer no more calls under that standing ticket, from now on and for good. Answered by `Closed`."""

    ticket_id: str


class AskOffer(Value, frozen=True, tag="offer"):
    """What does that product answer now? Answered by `OfferReply`."""

    product_id: str


class AskHint(Value, frozen=True, tag="hint"):
    """A part (at most 4 MiB) of the hint of that table version. Answered by `HintPart`."""

    product_id: str
    version: str
    offset: int


class RunCall(Value, frozen=True, tag="call"):
    """One call of an open product by that business. Answered by `CallReply`; a refusal has its receipt as well.

    `consents` is what covers it, where the product needs consent: the reference of one, or the digest of several.
    `calls_seen` is the number of the batch after the newest that the control plane has recorded: an enclave that does
    not have as many answers nothing.
    """

    product_id: str
    caller_id: str
    consents: str | None
    call: Call
    calls_seen: int = 0


class AskCalls(Value, frozen=True, tag="calls"):
    """Batches of call receipts from that number on. Answered by `CallLog`."""

    since: int = 0


class AskAlarms(Value, frozen=True, tag="alarms"):
    """About whom is too much asked, over all businesses? Answered by `Alarms`."""


class AskPseudonyms(Value, frozen=True, tag="pseudonyms"):
    """As `AskPseudonym`, for up to 10 000 identifiers. Answered by `Pseudonyms`, in the same order."""

    dataset_id: str
    identifiers: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_ASKED)]


VerificationRequest = (
    OpenProduct | AskProgress | CloseProduct | AskOffer | AskHint | RunCall | AskCalls | AskAlarms | AskPseudonyms
)
Request = (
    Hello
    | ImportData
    | AskQuote
    | RunJob
    | FetchSettlement
    | AskPseudonym
    | AskOdometer
    | AskLog
    | AskHoldings
    | AskAttestation
    | VerificationRequest
)


class Identity(Value, frozen=True, tag="identity"):
    """The enclave's public key, what it runs, and its newest checkpoint."""

    key: PublicKey
    origin: str
    measurement: Measurement
    policy_sha256: str
    checkpoint: str


class Rejection(Value, frozen=True):
    """One rejected row: its number in the file (from 1), the column and the rule that it broke. Never a value."""

    row: int
    column: str
    rule: str


class ImportReport(Value, frozen=True, tag="import-report"):
    """A finished import. `rejections` lists the first thousand of `rejected` rows."""

    dataset_id: str
    version: str
    accepted: int
    rejected: int
    rejections: tuple[Rejection, ...]
    source_sha256: str


class Quote(Value, frozen=True, tag="quote-reply"):
    """What the job would read (columns by dataset), spend and give. Computed from bounds and noise alone.

    `budget` is the (ε, δ) that the losses stay within, and `noise` the law (`DPTable`); None and empty without noise.
    `seconds` is the fixed time that a script's blocks take, 0 for every other job.
    """

    datasets: dict[str, tuple[str, ...]]
    losses: tuple[PrivacyLoss, ...]
    cells: int
    measures: tuple[Measure, ...]
    budget: Budget | None = None
    noise: str = ""
    seconds: int = 0


class Settlement(Value, frozen=True, tag="settlement"):
    """The signed receipt, the released bytes if there are any, and the log's checkpoint after the receipt."""

    receipt: Signed | None
    release: bytes | None
    checkpoint: str


class Pseudonym(Value, frozen=True, tag="pseudonym-reply"):
    """HMAC-SHA-256 of the identifier under a key that only the enclave holds, in hex."""

    value: str


class Reading(Value, frozen=True):
    """One entity set's odometer: ρ·10¹² spent for good, reserved by running jobs, and its lifetime cap.

    δ·10¹⁸ likewise. `epsilon` is the ε of all that was spent and reserved, at the δ of `at_delta`: decimal texts,
    rounded up.
    """

    entity_set: str
    spent: int
    reserved: int
    lifetime: int
    spent_delta: int = 0
    reserved_delta: int = 0
    lifetime_delta: int = 0
    epsilon: str = ""
    at_delta: str = ""


class GrantReading(Value, frozen=True):
    """What one grant has used: uses, and ρ and δ per entity set (running jobs included)."""

    grant_id: str
    uses: int
    losses: tuple[PrivacyLoss, ...]


class Odometer(Value, frozen=True, tag="odometer-reply"):
    """All odometers."""

    readings: tuple[Reading, ...]
    grants: tuple[GrantReading, ...]


class ReceiptLog(Value, frozen=True, tag="log-reply"):
    """Signed receipts in log order, the newest checkpoint, and the statement of every restore (`Restoration`)."""

    receipts: tuple[Signed, ...]
    checkpoint: str
    restorations: tuple[Signed, ...] = ()


class Holding(Value, frozen=True):
    """One dataset version held by the enclave, and which of its columns were dropped since."""

    dataset_id: str
    version: str
    rows: int
    imported_at: str
    dropped: tuple[str, ...] = ()


class Holdings(Value, frozen=True, tag="holdings-reply"):
    """Every held dataset, newest version of each."""

    items: tuple[Holding, ...]


class AttestationReply(Value, frozen=True, tag="attest-reply"):
    """The signed `Attestation`; it stands in the enclave's own log already."""

    attestation: Signed


class Opened(Value, frozen=True, tag="opened"):
    """The signed `Offer` under which calls are answered from now on."""

    offer: Signed


class Progress(Value, frozen=True, tag="progress-reply"):
    """What an opening is doing: a stage (`waiting`, `reading`, `evaluating`, `assembling`, `hint`, `open`) and its
    done and total parts."""

    stage: str
    done: int
    total: int


class Closed(Value, frozen=True, tag="closed"):
    """No call is answered under that ticket any more."""


class OfferReply(Value, frozen=True, tag="offer-reply"):
    """The signed `Offer`."""

    offer: Signed


class HintPart(Value, frozen=True, tag="hint-part"):
    """Bytes of the hint from the offset that was asked for; none past its end."""

    data: bytes


class CallReply(Value, frozen=True, tag="call-reply"):
    """The answer, and its receipt. A call that a rule refused has the rule and its facts in place of an answer; one
    that failed has neither, and its receipt names the fault."""

    answer: Answer | None
    settled: SettledCall
    rule: str | None = None
    facts: dict[str, str] = msgspec.field(default_factory=dict)


class BatchRecord(Value, frozen=True):
    """A signed `CallBatch` and its encoded receipts, in order."""

    batch: Signed
    receipts: tuple[bytes, ...]


class CallLog(Value, frozen=True, tag="call-log"):
    """Batches in order."""

    batches: tuple[BatchRecord, ...]


class Alarm(Value, frozen=True):
    """One subject (by its pseudonym) about whose attribute all businesses together have asked more than the limit."""

    pseudonym: str
    dataset_id: str
    attribute: str
    data_version: str
    milli_bits: int
    callers: int


class Alarms(Value, frozen=True, tag="alarms-reply"):
    """The newest alarms first, at most a thousand."""

    items: tuple[Alarm, ...]


class Pseudonyms(Value, frozen=True, tag="pseudonyms-reply"):
    """One pseudonym for each identifier."""

    values: tuple[str, ...]


class RefusedReply(Value, frozen=True, tag="refused"):
    """A rule of the enclave said no."""

    rule: str
    facts: dict[str, str]


class FailedReply(Value, frozen=True, tag="failed"):
    """The enclave broke; the fault id is in its own log."""

    code: str
    fault: str


Reply = (
    Identity
    | ImportReport
    | Quote
    | Settlement
    | Pseudonym
    | Odometer
    | ReceiptLog
    | Holdings
    | AttestationReply
    | Opened
    | Progress
    | Closed
    | OfferReply
    | HintPart
    | CallReply
    | CallLog
    | Alarms
    | Pseudonyms
    | RefusedReply
    | FailedReply
)


def send(connection: socket.socket, message: Request | Reply, descriptor: int | None = None) -> None:
    """Write one frame, with at most one open file beside it."""
    body = encode(message)
    if len(body) > MAX_MESSAGE_BYTES:
        raise Failed("wire.too-long")
    head = struct.pack(">I", len(body))
    if descriptor is None:
        connection.sendall(head + body)
        return
    socket.send_fds(connection, [head], [descriptor])
    connection.sendall(body)


def receive_request(connection: socket.socket) -> tuple[Request, int | None]:
    """Read one request and the open file beside it (the caller closes it)."""
    head, descriptor = _receive_head(connection)
    try:
        return decode(_receive_body(connection, head), Request), descriptor  # type: ignore[arg-type]
    except BaseException:
        if descriptor is not None:
            os.close(descriptor)
        raise


def receive_reply(connection: socket.socket) -> Reply:
    """Read one reply; a refusal or a fault of the enclave is raised here as such."""
    try:
        head, _ = _receive_head(connection)
        reply: Reply = decode(_receive_body(connection, head), Reply)  # type: ignore[arg-type]
    except Refused:
        raise Failed("wire.reply") from None  # not a refusal by the enclave: nobody knows what it did
    if isinstance(reply, RefusedReply):
        raise Refused(reply.rule, **reply.facts)
    if isinstance(reply, FailedReply):
        raise Failed(reply.code, reply.fault)
    return reply


def _receive_head(connection: socket.socket) -> tuple[bytes, int | None]:
    space = socket.CMSG_SPACE(array.array("i").itemsize)
    head, ancillary, flags, _ = connection.recvmsg(4, space)
    received = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received.frombytes(data[: len(data) - len(data) % received.itemsize])
    try:
        if len(received) > 1 or flags & socket.MSG_CTRUNC:
            raise Refused("wire.malformed", what="files")
        return head + _receive_exactly(connection, 4 - len(head)), (received[0] if received else None)
    except BaseException:
        for descriptor in received:
            os.close(descriptor)
        raise


def _receive_body(connection: socket.socket, head: bytes) -> bytes:
    (length,) = struct.unpack(">I", head)
    if length > MAX_MESSAGE_BYTES:
        raise Refused("wire.malformed", what="length")
    return _receive_exactly(connection, length)


def _receive_exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(min(count - len(parts), 1 << 20))
        if not part:
            raise Failed("wire.closed")
        parts += part
    return bytes(parts)
