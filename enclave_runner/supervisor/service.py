"""The enclave's door: a unix socket in its own home, one request per connection, no network."""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from enclave_runner.contract import wire
from enclave_runner.contract.codec import decode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.ticket import Ticket
from enclave_runner.supervisor.attestation import attest
from enclave_runner.supervisor.calls import run_call, used_product
from enclave_runner.supervisor.enclave import Enclave
from enclave_runner.supervisor.intake import import_data
from enclave_runner.supervisor.ledger import RECEIPT_ORIGIN
from enclave_runner.supervisor.opening import close_product, open_product, progress_of
from enclave_runner.supervisor.pseudonyms import pseudonym_of
from enclave_runner.supervisor.quote import quote_job
from enclave_runner.supervisor.run import run_ticket

# Far more conversations than cores: one that waits for its caller must not keep others from the door.
WORKERS = 64
# Accepted at once; others wait at the door. Far below the descriptors that a process may have: jobs need some.
CONNECTIONS = 128
ACCEPT_PAUSE_SECONDS = 0.1
LOG_PAGE = 1000
MAX_SEQUENCE = (1 << 63) - 1
PATIENCE_SECONDS = 10.0


class Conversations:
    """How many requests are being answered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count one while it lasts."""
        with self._lock:
            self._open += 1
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1

    def are_over(self) -> bool:
        """Whether none is open."""
        with self._lock:
            return self._open == 0


def serve(enclave: Enclave, listener: socket.socket, conversations: Conversations) -> None:
    """Answer until the listener is closed."""
    places = threading.BoundedSemaphore(CONNECTIONS)
    with ThreadPoolExecutor(WORKERS) as pool:
        while True:
            places.acquire()
            try:
                connection, _ = listener.accept()
            except OSError as error:
                places.release()
                if listener.fileno() < 0 or error.errno in (errno.EBADF, errno.EINVAL):
                    return
                time.sleep(ACCEPT_PAUSE_SECONDS)  # out of descriptors, most likely: callers that leave bring them back
                continue
            pool.submit(_converse, enclave, connection, conversations).add_done_callback(lambda _: places.release())


def listen(folder: Path) -> socket.socket:
    """The listening socket, by a relative name: the length of the home's path does not matter. Changes the cwd."""
    os.chdir(folder)
    Path(wire.SOCKET_NAME).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(wire.SOCKET_NAME)
    Path(wire.SOCKET_NAME).chmod(0o600)
    listener.listen(128)
    return listener


def _converse(enclave: Enclave, connection: socket.socket, conversations: Conversations) -> None:
    with conversations.one(), connection:
        connection.settimeout(PATIENCE_SECONDS)  # for reading the request; a job may take longer
        try:
            request, descriptor = wire.receive_request(connection)
            connection.settimeout(None)
            try:
                reply = answer(enclave, request, descriptor)
            finally:
                if descriptor is not None:
                    os.close(descriptor)
        except Refused as refused:
            reply = wire.RefusedReply(rule=refused.rule, facts=refused.facts)
        except Exception as error:  # a fault: its text stays here
            failed = error if isinstance(error, Failed) else Failed(f"enclave.{type(error).__name__.lower()}")
            enclave.note_fault(failed, "request")
            reply = wire.FailedReply(code=failed.code, fault=failed.fault)
        try:
            wire.send(connection, reply)
        except (OSError, Failed):
            return  # the caller is gone, or the reply too long to send; what happened is in the ledger


def answer(enclave: Enclave, request: wire.Request, descriptor: int | None) -> wire.Reply:
    """One request's reply; raises Refused or Failed."""
    match request:
        case wire.Hello():
            return _identity(enclave)
        case wire.RunJob():
            return _run(enclave, request, descriptor)
        case wire.ImportData():
            if descriptor is None or not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Refused("import.format")  # a pipe could keep us waiting for ever
            return import_data(enclave, request, descriptor)
        case wire.AskQuote():
            with enclave.quotes:  # not a job's place: how long one waits for it would tell when a job ended
                return quote_job(enclave, request)
        case wire.FetchSettlement():
            return _settlement(enclave, request.ticket_id)
        case wire.AskPseudonym():
            return wire.Pseudonym(value=_pseudonyms(enclave, request.dataset_id, (request.identifier,))[0])
        case wire.AskOdometer():
            held = enclave.schedule.held()
            readings = enclave.ledger.readings(held)
            return wire.Odometer(readings=readings, grants=enclave.ledger.grant_readings(held))
        case wire.AskLog():
            receipts = enclave.ledger.receipts(min(max(request.since, 0), MAX_SEQUENCE), LOG_PAGE)
            return wire.ReceiptLog(
                receipts=receipts,
                checkpoint=enclave.ledger.checkpoint(),
                restorations=enclave.ledger.restorations(),
            )
        case wire.AskAttestation():
            return wire.AttestationReply(attestation=attest(enclave, request))
        case wire.AskHoldings():
            return wire.Holdings(items=enclave.holdings.listed())
        case _:
            return _verification_answer(enclave, request)


def _verification_answer(enclave: Enclave, request: wire.VerificationRequest) -> wire.Reply:
    """The reply to what concerns an open product."""
    match request:
        case wire.RunCall():
            return run_call(enclave, request)
        case wire.OpenProduct():
            return open_product(enclave, request.ticket)
        case wire.AskProgress():
            return progress_of(enclave, request.ticket_id)
        case wire.CloseProduct():
            return close_product(enclave, request.ticket_id)
        case wire.AskOffer():
            with used_product(enclave, request.product_id) as product:
                return wire.OfferReply(offer=product.signed_offer)
        case wire.AskHint():
            with used_product(enclave, request.product_id) as product:
                return wire.HintPart(data=product.hint_part(request.version, request.offset))
        case wire.AskCalls():
            return enclave.verification.commits.batches(min(max(request.since, 0), MAX_SEQUENCE))
        case wire.AskAlarms():
            alarms = enclave.verification.tallies.alarms(enclave.limits.verification.alarm_milli_bits)
            return wire.Alarms(items=alarms)
        case wire.AskPseudonyms():
            return wire.Pseudonyms(values=_pseudonyms(enclave, request.dataset_id, request.identifiers))


def _run(enclave: Enclave, request: wire.RunJob, descriptor: int | None) -> wire.Settlement:
    """One ticket, answered on schedule: the receipt is durable before, and the place for the next job is free."""
    began = time.monotonic()
    with enclave.jobs:
        settlement = run_ticket(enclave, request.ticket, descriptor, began)
    enclave.schedule.wait(decode(request.ticket.payload, Ticket).ticket_id)
    return settlement


def _settlement(enclave: Enclave, ticket_id: str) -> wire.Settlement:
    """How a ticket ended; while it is held it is told like one that runs."""
    settlement = enclave.ledger.settlement(ticket_id)
    if ticket_id in enclave.schedule.held():
        return wire.Settlement(receipt=None, release=None, checkpoint=enclave.ledger.checkpoint())
    return settlement


def _pseudonyms(enclave: Enclave, dataset_id: str, identifiers: tuple[str, ...]) -> tuple[str, ...]:
    held = enclave.holdings.find(dataset_id)
    if held is None:
        raise Refused("dataset.unknown", dataset=dataset_id[:64])
    key, spec = enclave.pseudonym_key, held.spec
    return tuple(pseudonym_of(key, identifier, spec).hex() for identifier in identifiers)


def _identity(enclave: Enclave) -> wire.Identity:
    return wire.Identity(
        key=enclave.key.public_key,
        origin=RECEIPT_ORIGIN,
        measurement=enclave.measurement,
        policy_sha256=enclave.pack.sha256,
        checkpoint=enclave.ledger.checkpoint(),
    )
