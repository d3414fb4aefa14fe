"""The door: every request over a real unix socket; garbage is answered or hung up on, and the next is served."""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from enclave_runner.contract.codec import encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.grant import PURPOSE as GRANT_PURPOSE
from enclave_runner.contract.merkle import open_checkpoint
from enclave_runner.contract.receipt import Assurance, Outcome
from enclave_runner.contract.signing import seal
from enclave_runner.contract.ticket import PURPOSE as TICKET_PURPOSE
from enclave_runner.contract.wire import (
    SOCKET_NAME,
    AskHoldings,
    AskLog,
    AskOdometer,
    AskPseudonym,
    AskQuote,
    FetchSettlement,
    FileFormat,
    Hello,
    Holdings,
    Identity,
    ImportData,
    ImportReport,
    Odometer,
    Pseudonym,
    Quote,
    ReceiptLog,
    RunJob,
    Settlement,
    receive_reply,
)
from enclave_runner.supervisor import service
from enclave_runner.supervisor.ledger import Ledger
from enclave_runner.supervisor.service import Conversations, listen, serve
from tests.support.enclave_home import (
    PEOPLE,
    Site,
    changed,
    make_grant,
    query,
    question,
    rewound,
    sign_spec,
    verification,
)
from tests.support.enclave_process import ask, connected

SLOW_SQL = "SELECT " + "INT(" * 30 + "1" + ")" * 30


@pytest.fixture(scope="module")
def door(site: Site) -> Iterator[Path]:
    """The folder with the socket of the running enclave, served by a thread."""
    folder, cwd = site.bureau.home.folder, Path.cwd()
    listener = listen(folder)
    os.chdir(cwd)
    thread = threading.Thread(target=serve, args=(site.enclave, listener, Conversations()), daemon=True)
    thread.start()
    yield folder
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(timeout=30)
    assert not thread.is_alive()


def test_the_socket_is_for_the_owner_alone(door: Path) -> None:
    assert (door / SOCKET_NAME).stat().st_mode & 0o777 == 0o600


def test_it_says_who_it_is(site: Site, door: Path) -> None:
    identity = ask(door, Hello())
    assert isinstance(identity, Identity)
    assert identity.key == site.enclave.key.public_key
    assert identity.policy_sha256 == site.bureau.policy_sha256
    assert open_checkpoint(identity.checkpoint, identity.origin, identity.key).size >= 0
    assert identity.measurement.assurance is Assurance.SOFTWARE_ONLY


def test_a_job_a_replay_and_its_settlement(site: Site, door: Path) -> None:
    ticket = site.ticket(query())
    signed = seal(ticket, TICKET_PURPOSE, site.bureau.control)
    settled = ask(door, RunJob(ticket=signed))
    assert isinstance(settled, Settlement)
    assert site.receipt(settled).outcome is Outcome.RELEASED
    assert ask(door, FetchSettlement(ticket_id=ticket.ticket_id)) == settled
    with pytest.raises(Refused) as caught:
        ask(door, RunJob(ticket=signed))
    assert caught.value.rule == "ticket.replayed"
    unknown = ask(door, FetchSettlement(ticket_id="never"))
    assert isinstance(unknown, Settlement)
    assert (unknown.receipt, unknown.release) == (None, None)


def test_a_question_travels_as_an_open_file(site: Site, door: Path) -> None:
    asked = question("p1", "男")
    signed = seal(site.ticket(verification("sex"), attached=asked), TICKET_PURPOSE, site.bureau.control)
    with rewound(asked) as file:
        settled = ask(door, RunJob(ticket=signed), file)
    assert isinstance(settled, Settlement)
    assert site.receipt(settled).outcome is Outcome.RELEASED


def test_an_import_needs_its_file(site: Site, door: Path) -> None:
    spec = changed(PEOPLE, dataset_id="second")
    order = ImportData(spec=sign_spec(site.bureau, spec), format=FileFormat.CSV)
    with pytest.raises(Refused) as caught:
        ask(door, order)
    assert caught.value.rule == "import.format"
    with rewound(b"id,sex,age,income,city,joined,active\np1,,,,,,\n") as file:
        report = ask(door, order, file)
    assert isinstance(report, ImportReport)
    assert (report.accepted, report.dataset_id) == (1, "second")
    holdings = ask(door, AskHoldings())
    assert isinstance(holdings, Holdings)
    assert {item.dataset_id for item in holdings.items} >= {"people", "second"}


def test_an_import_over_a_pipe_a_socket_or_a_folder_is_refused_at_once(site: Site, door: Path, tmp_path: Path) -> None:
    """A pipe whose writer stays silent would keep a conversation for ever."""
    order = ImportData(spec=sign_spec(site.bureau, changed(PEOPLE, dataset_id="piped")), format=FileFormat.CSV)
    read, write = os.pipe()
    ours, theirs = socket.socketpair()
    folder = os.open(tmp_path, os.O_RDONLY)
    started = time.monotonic()
    with ours, theirs:
        for descriptor in (read, write, ours.fileno(), folder):
            with pytest.raises(Refused) as caught:
                ask(door, order, descriptor)
            assert caught.value.rule == "import.format"
    assert time.monotonic() - started < 5
    for descriptor in (read, write, folder):
        os.close(descriptor)


def test_a_text_that_is_slow_to_read_keeps_nobody_waiting(site: Site, door: Path) -> None:
    """158 bytes on which a parser doubles its work with every level."""
    assert len(SLOW_SQL) < 160
    before, replies, refusals = site.spent(), [], []
    signed = seal(site.ticket(query(SLOW_SQL)), TICKET_PURPOSE, site.bureau.control)
    grant = seal(make_grant(), GRANT_PURPOSE, site.bureau.officer)

    def ask_a_quote() -> None:
        with pytest.raises(Refused) as caught:
            ask(door, AskQuote(grant=grant, job=query(SLOW_SQL)))
        refusals.append(caught.value.rule)

    caller = threading.Thread(target=lambda: replies.append(ask(door, RunJob(ticket=signed))))
    quoting = threading.Thread(target=ask_a_quote)
    started = time.monotonic()
    caller.start()
    quoting.start()
    waits = []
    while caller.is_alive():
        asked = time.monotonic()
        assert isinstance(ask(door, Hello()), Identity)
        waits.append(time.monotonic() - asked)
        caller.join(timeout=0.1)
    assert time.monotonic() - started < site.enclave.limits.parse_profile.wall_seconds + 10
    quoting.join(timeout=30)
    (settled,) = replies
    assert isinstance(settled, Settlement)
    receipt = site.receipt(settled)
    assert refusals == ["sql.slow"]
    assert (receipt.outcome, receipt.rule, receipt.losses) == (Outcome.REFUSED, "sql.slow", ())
    assert site.spent() == before
    assert len(waits) > 5
    assert max(waits) < 2
    assert isinstance(ask(door, Hello()), Identity)


def test_a_quote_an_odometer_and_the_log(site: Site, door: Path) -> None:
    grant = seal(make_grant(), GRANT_PURPOSE, site.bureau.officer)
    before = ask(door, AskOdometer())
    quote = ask(door, AskQuote(grant=grant, job=query()))
    assert isinstance(quote, Quote)
    assert quote.cells == 3
    assert ask(door, AskOdometer()) == before
    assert isinstance(before, Odometer)
    log = ask(door, AskLog(since=0))
    assert isinstance(log, ReceiptLog)
    size = open_checkpoint(log.checkpoint, "yunei.enclave/receipts", site.enclave.key.public_key).size
    assert len(log.receipts) == size
    tail = ask(door, AskLog(since=size - 1))
    assert isinstance(tail, ReceiptLog)
    assert tail.receipts == log.receipts[-1:]


@pytest.mark.parametrize(("since", "count"), [(-1, None), (-(10**30), None), (10**9, 0), (10**30, 0)])
def test_any_index_into_the_log_is_answered(door: Path, since: int, count: int | None) -> None:
    try:
        log = ask(door, AskLog(since=since))
    except Refused as refused:
        assert refused.rule == "wire.malformed"
        return
    assert isinstance(log, ReceiptLog)
    assert count is None or len(log.receipts) == count


def test_quotes_are_held_to_the_grant(site: Site, door: Path) -> None:
    grant = seal(make_grant(), GRANT_PURPOSE, site.bureau.officer)
    forged = seal(make_grant(), GRANT_PURPOSE, site.bureau.control)
    for signed, job, rule in (
        (forged, query(), "signature.invalid"),
        (grant, query("SELECT id, COUNT(*) FROM people GROUP BY id"), "grant.column"),
        (grant, query(epsilon="5"), "budget.cap"),
        (seal(make_grant(modes=(make_grant().modes[1],)), GRANT_PURPOSE, site.bureau.officer), query(), "grant.mode"),
        (grant, changed_dataset("elsewhere"), "grant.dataset"),
    ):
        with pytest.raises(Refused) as caught:
            ask(door, AskQuote(grant=signed, job=job))
        assert caught.value.rule == rule
    free = ask(door, AskQuote(grant=grant, job=verification("age")))
    assert isinstance(free, Quote)
    assert (free.losses, free.measures) == ((), ())


def changed_dataset(name: str) -> object:
    job = verification("age")
    return type(job)(dataset_id=name, attribute=job.attribute, predicate=job.predicate)


def test_a_pseudonym_is_keyed_by_set_and_person(site: Site, door: Path) -> None:
    def of(identifier: str) -> str:
        reply = ask(door, AskPseudonym(dataset_id="people", identifier=identifier))
        assert isinstance(reply, Pseudonym)
        return reply.value

    key = site.bureau.home.pseudonym_key.read_bytes()
    assert of("p1") == hmac.new(key, b"resident\np1", hashlib.sha256).hexdigest() == of(" p1 ")
    assert len({of("p1"), of("p2"), of("P1")}) == 3  # an opaque key's case is its own
    with pytest.raises(Refused, match=r"dataset\.unknown"):
        ask(door, AskPseudonym(dataset_id="elsewhere", identifier="p1"))


GARBAGE = [
    b"",
    b"\0",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"GET / HTTP/1.1\r\n\r\n",
    struct.pack(">I", 10) + b"short",
    struct.pack(">I", 2) + b"{}",
    struct.pack(">I", 4) + b"null",
    struct.pack(">I", 3) + b"\xff\xfe\xfd",
    struct.pack(">I", 100_000) + b"[" * 100_000,
    struct.pack(">I", 20) + b'{"type":"shutdown"}\n',
    struct.pack(">I", 40) + b'{"type":"log","since":"DROP TABLE x;"}  ',
]


@pytest.mark.parametrize("data", GARBAGE)
def test_garbage_is_answered_or_hung_up_on_and_the_next_caller_is_served(door: Path, data: bytes) -> None:
    with connected(door, timeout=10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        with pytest.raises((Refused, Failed, ConnectionResetError)):
            receive_reply(connection)
    assert isinstance(ask(door, Hello()), Identity)


def test_a_caller_that_leaves_at_once_harms_nobody(door: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(50):
        with connected(door) as connection:
            connection.sendall(struct.pack(">I", 16) + encode(Hello()))
    assert isinstance(ask(door, Hello()), Identity)
    assert len(os.listdir("/proc/self/fd")) <= before + service.WORKERS  # noqa: PTH208


def test_the_text_of_a_fault_stays_inside(site: Site, door: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Ledger, held: frozenset[str]) -> None:
        raise ValueError("a-raw-cell-7f3a")

    monkeypatch.setattr(Ledger, "readings", broken)
    with pytest.raises(Failed) as caught:
        ask(door, AskOdometer())
    assert caught.value.code == "enclave.valueerror"
    log = site.bureau.home.log.read_text(encoding="utf-8")
    assert caught.value.fault in log
    assert "7f3a" not in log


def test_conversations_are_over_when_the_last_one_is() -> None:
    conversations = Conversations()
    assert conversations.are_over()
    with conversations.one():
        with pytest.raises(KeyError), conversations.one():
            raise KeyError
        assert not conversations.are_over()
    assert conversations.are_over()


def test_no_conversation_stays_open(site: Site) -> None:
    """Garbage, a caller that left and an honest one are all counted off: `--while-used` waits for them."""
    conversations = Conversations()
    for data in (b"", b"garbage", struct.pack(">I", 16) + encode(Hello())):
        ours, theirs = socket.socketpair()
        ours.sendall(data)
        ours.close()
        service._converse(site.enclave, theirs, conversations)
        assert conversations.are_over()


def test_many_callers_at_once(site: Site, door: Path) -> None:
    outcomes: list[Outcome] = []

    def run_one() -> None:
        signed = seal(site.ticket(query()), TICKET_PURPOSE, site.bureau.control)
        settled = ask(door, RunJob(ticket=signed))
        assert isinstance(settled, Settlement)
        outcomes.append(site.receipt(settled).outcome)

    threads = [threading.Thread(target=run_one) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert outcomes == [Outcome.RELEASED] * 10
