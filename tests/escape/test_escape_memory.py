"""P4 from within: the server's whole memory log of a question holds no function of whom it was about.

A test build of the server logs every value that a name of its code ever holds, what every function returns, and what
libsodium takes and gives (`tests.support.memory_log`). With the same randomness of the client and of the server, two
questions about different people differ in what the OPRF transcript and the LWE question are made of, and in nothing
else; a simulator that asks about nobody leaves a log of the same shape; nothing that can be made from an identifier
alone, or from the OPRF output that only the client has, stands in it. P0 and P3 are the controls: their logs tell.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import rbcl

from enclave_runner.contract.check import CheckKind
from enclave_runner.contract.protocols import cell, group, oprf
from enclave_runner.contract.protocols.canonical import claim_digest, keyword
from enclave_runner.private.asks import LENGTH_BYTES, Ask, Bucket, Evaluate, Judge, Lookup, frame
from enclave_runner.private.plain import digest_of
from enclave_runner.private.serve import Server, reply_to
from sandbox.client import lookup
from tests.support.lookups import Tape
from tests.support.memory_log import MemoryLog
from tests.support.served import Served, a_check, people, served

ROWS = 20_000
PRESENT, OTHER, ABSENT = "p13415", "p17182", "nobody-8675309"
# Where the transcripts of two people may differ: the blinded element, what is made of it under the platform's key and
# nonce, the question, and the product of the table with it.
TRANSCRIPT = {
    "enclave_runner.private.asks:frame": {"ask", "body", "return"},
    "enclave_runner.private.asks:unframe": {"body", "return"},
    "enclave_runner.private.serve:reply_to": {"body", "return"},
    "enclave_runner.private.serve:Server.answer": {"ask", "evaluated", "proof", "return"},
    "enclave_runner.private.kernel:answer": {"question", "return"},
    "enclave_runner.private.kernel:times": {"question", "out", "return"},
}
PROTOCOLS = ("enclave_runner.contract.protocols.oprf:", "enclave_runner.contract.protocols.group:", "rbcl:")


@dataclass(frozen=True)
class Run:
    """One whole question: the log of it, and what the client alone knows of it at its end."""

    log: MemoryLog
    output: bytes
    column: int
    label: bytes | None


@pytest.fixture(scope="module")
def site() -> Iterator[Served]:
    """Everybody's district, as somebody would look up whether they live in the north."""
    rows = people(ROWS)
    check = a_check(CheckKind.MEMBER, says_unknown=True)
    with served(check, rows) as built:
        yield built


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> Tape:
    """The server's own randomness: the nonce of the proof is the same in each run."""
    nonce = group.random_scalar()
    monkeypatch.setattr(rbcl, "crypto_core_ristretto255_scalar_random", lambda: nonce)
    return Tape(monkeypatch)


def ask_server(server: Server, ask: Ask) -> bytes:
    """From the supervisor's frame to the worker's reply, without the state byte."""
    said = reply_to(server, frame(ask)[LENGTH_BYTES:])
    assert said[:1] == b"A"
    return said[1:]


def ask_about(site: Served, subject: str, scalar: bytes, tape: Tape) -> Run:
    """P4 as an honest client asks it, with fixed randomness; only the server's half is logged."""
    assert site.public is not None
    server, log, public = site.server(), MemoryLog(), site.public
    blinded = oprf.blind(keyword(subject), scalar=scalar)
    with log.recording():
        said = ask_server(server, Evaluate(elements=(blinded.element,)))
    (output,) = oprf.finalize([blinded], [said[:32]], said[32:], public.public_key)
    column = cell.entry(output, site.version).column(public.columns)
    tape.play(seed=7)
    secret, question = lookup.ask(public.seed, public.columns, column)
    tape.stop()
    with log.recording():
        reply = ask_server(server, Lookup(question=question))
    found = cell.find(lookup.decode(reply, site.hint, secret), output, site.version)
    return Run(log, output, column, found)


def simulated(site: Served) -> MemoryLog:
    """The same steps by somebody who knows of nobody: a random point and a uniform question."""
    assert site.public is not None
    server, log = site.server(), MemoryLog()
    element = group.base(group.reduce(secrets.token_bytes(64)))
    with log.recording():
        ask_server(server, Evaluate(elements=(element,)))
        ask_server(server, Lookup(question=os.urandom(4 * site.public.columns)))
    return log


def functions_of(site: Served, subject: str, run: Run) -> dict[str, bytes]:
    """What can be made from the identifier alone, and from the OPRF output, which only the client has."""
    name = subject.encode()
    entry = cell.entry(run.output, site.version)
    made = {
        "the identifier": name,
        "its SHA-256": hashlib.sha256(name).digest(),
        "its SHA-512": hashlib.sha512(name).digest(),
        "its digest in the plain table": digest_of(subject, site.task.subject.secret),
        "its keyword": keyword(subject),
        "its keyword with a claim": keyword(subject, claim_digest("north")),
        "its point": group.hash_to_ristretto255(keyword(subject), b"HashToGroup-OPRFV1-\x01-ristretto255-SHA512"),
        "the OPRF output": run.output,
        "the first half of the output": run.output[:32],
        "the tag": entry.tag,
        "the pad": entry.pad,
        "the word of its column": entry.word.to_bytes(8, "little"),
        "its entry": entry.seal(run.label or bytes(8)),
    }
    hidden = site.task.hidden
    assert hidden is not None
    made["the unblinded point"] = group.multiply(hidden.key, made["its point"])
    return made


def test_the_client_learns_what_the_table_says(site: Served, fixed: Tape) -> None:
    """Positive control: the logged questions are real ones."""
    labels = [ask_about(site, name, group.small_scalar(5), fixed).label for name in (PRESENT, OTHER, ABSENT)]
    assert labels == [cell.label(cell.NO), cell.label(cell.YES), None]


@pytest.mark.parametrize("subject", [PRESENT, OTHER, ABSENT])
def test_nothing_made_from_the_identifier_stands_in_the_log(site: Served, fixed: Tape, subject: str) -> None:
    run = ask_about(site, subject, group.reduce(secrets.token_bytes(64)), fixed)
    found = [what for what, needle in functions_of(site, subject, run).items() if run.log.holds(needle)]
    assert found == []
    assert len(run.log.entries) > 100


def test_two_people_differ_in_the_transcript_alone(site: Served, fixed: Tape) -> None:
    scalar = group.reduce(secrets.token_bytes(64))
    runs = [ask_about(site, subject, scalar, fixed) for subject in (PRESENT, OTHER, ABSENT)]
    for run in runs[1:]:
        assert run.log.shape() == runs[0].log.shape()
        differing = run.log.differing(runs[0].log)
        beyond = {
            (where, name)
            for where, name in differing
            if not where.startswith(PROTOCOLS) and name not in TRANSCRIPT.get(where, ())
        }
        assert beyond == set()
        assert run.log.numbers() == runs[0].log.numbers()  # no column number, no length, no count


def test_equal_elements_leave_equal_logs(site: Served, fixed: Tape) -> None:
    """r·H(a) = r'·H(b) for some r': the first move of a question about a is one about b, byte for byte.

    With a hash whose logarithms are known, r' can be computed: what the two clients send is the same point.
    """
    logarithms = [group.reduce(secrets.token_bytes(64)) for _ in range(2)]
    scalar = group.reduce(secrets.token_bytes(64))
    other = group.scalar_product(scalar, group.scalar_product(logarithms[0], group.invert(logarithms[1])))
    first, second = (group.multiply(by, group.base(of)) for by, of in zip((scalar, other), logarithms, strict=True))
    assert first == second
    logs = []
    for element in (first, second):
        log, server = MemoryLog(), site.server()
        with log.recording():
            ask_server(server, Evaluate(elements=(element,)))
        logs.append(log)
    assert logs[0].differing(logs[1]) == set()


def test_a_simulator_that_knows_nobody_leaves_a_log_of_the_same_shape(site: Served, fixed: Tape) -> None:
    real = ask_about(site, PRESENT, group.reduce(secrets.token_bytes(64)), fixed)
    assert simulated(site).shape() == real.log.shape()


def test_the_log_of_a_plain_question_tells_whom_it_was_about(site: Served) -> None:
    """Control: the log sees what there is to see."""
    log, server = MemoryLog(), site.server()
    with log.recording():
        ask_server(server, Judge(asked=((PRESENT, ""),)))
    assert log.holds(PRESENT.encode())
    assert log.holds(digest_of(PRESENT, site.task.subject.secret))


def test_the_log_of_a_bucket_tells_which(site: Served, fixed: Tape) -> None:
    """Control: numbers are seen. P3 names the bucket, and so k candidates; its last column is not named."""
    assert site.public is not None
    run = ask_about(site, PRESENT, group.reduce(secrets.token_bytes(64)), fixed)
    wanted = run.column // site.public.bucket_columns
    log, server = MemoryLog(), site.server()
    with log.recording():
        ask_server(server, Bucket(number=wanted))
    assert (str(wanted).encode()) in {value for _, _, value in log.numbers()}
    assert site.public.k >= 1024
