"""The memory of the running platform after a P4 question: no function of the identifier stands in any of its processes.

Enclave (supervisor, zygotes, jailed workers) and API run as programs of their own, and their whole writable memory is
read, as the host's root could do. The control is a question in the clear, which is found.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from enclave_runner.contract.call import (
    Asked,
    EvaluationAnswer,
    EvaluationAsk,
    LookupAnswer,
    LookupAsk,
    PlainAnswer,
    PlainAsk,
)
from enclave_runner.contract.check import VerificationMode
from enclave_runner.contract.protocols import cell, group, oprf
from enclave_runner.contract.protocols.canonical import claim_digest, keyword
from sandbox.client import lookup
from sandbox.settings import Home
from tests.support.deployment import BANK, make_deployment, open_world
from tests.support.enclave_process import EnclaveProcess
from tests.support.process_memory import family_of, found_in
from tests.support.verification_site import Caller, furnish

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may read the memory of the jailed workers"),
]
PRODUCT = "lives-in"
DST = b"HashToGroup-OPRFV1-\x01-ristretto255-SHA512"


@dataclass(frozen=True)
class Running:
    """A caller, and the processes of the platform."""

    caller: Caller
    processes: tuple[int, ...]

    def found(self, needles: dict[str, bytes]) -> set[str]:
        """Which of these stand anywhere."""
        return {name for pid in self.processes for name in found_in(pid, needles)}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Enclave and API as they run in service."""
    home = make_deployment(tmp_path_factory.mktemp("memory") / "home")
    with open_world(home) as world:
        token, key = furnish(world, PRODUCT)[BANK], world.office.enclave_key
        world.office.engine.dispose()
    with ExitStack() as stack:
        enclave = stack.enter_context(EnclaveProcess(home.enclave))
        enclave.wait_until_ready(60)
        base, api = stack.enter_context(_api(home))
        client = stack.enter_context(httpx.Client(base_url=base, timeout=60))
        caller = Caller(client, token, PRODUCT, key)
        caller.ask(PlainAsk(asked=(Asked(subject="p1", claim="south"),)), secrets.token_bytes(16))  # starts its worker
        yield Running(caller, (*family_of(enclave.pid), *family_of(api)))


@contextmanager
def _api(home: Home) -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    line = [sys.executable, "-m", "sandbox.api", "--home", str(home.folder), "--port", str(port)]
    process = subprocess.Popen(line, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/v1/health")
                break
            except httpx.TransportError:
                assert process.poll() is None, "the API ended"
                assert time.monotonic() < deadline, "the API did not come up"
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.kill()
        process.wait()


def test_a_question_by_p4_leaves_no_trace_of_whom_it_was_about(platform: Running) -> None:
    """What is searched for is hashed, blinded and opened in this process, which is the business's."""
    caller, subject, call_id = platform.caller, "p2222", secrets.token_bytes(16)
    offer = caller.offer
    assert offer.table is not None
    word = keyword(subject, claim_digest("north"))
    blinded = oprf.blind(word)
    answer = caller.ask(EvaluationAsk(mode=VerificationMode.LOOKUP, blinded=(blinded.element,)), call_id)
    assert isinstance(answer, EvaluationAnswer)
    (output,) = oprf.finalize([blinded], answer.evaluated, answer.proof, offer.table.public_key)
    entry = cell.entry(output, offer.version)
    secret, question = lookup.ask(offer.table.seed, offer.table.columns, entry.column(offer.table.columns))
    reply = caller.ask(LookupAsk(question=question), secrets.token_bytes(16))
    assert isinstance(reply, LookupAnswer)
    column = lookup.decode(reply.reply, _hint(platform), secret)
    assert cell.find(column, output, offer.version) == cell.label(cell.YES)  # it was a real question
    unblinded = group.multiply(group.invert(blinded.scalar), answer.evaluated[0])
    needles = {
        "the keyword": word,
        "its hash to the group": group.hash_to_ristretto255(word, DST),
        "the unblinded point": unblinded,
        "the OPRF output": output,
        "the pad": entry.pad,
        "the secret of the question": secret.words.tobytes(),
        "the blinding scalar": blinded.scalar,
        "SHA-256 of the identifier": hashlib.sha256(subject.encode()).digest(),
    }
    control = {"the call's id": call_id.hex().encode()}
    assert platform.found(needles) == set()
    assert platform.found(control) == set(control)  # the reply is kept for a retry: the search finds what is there


def test_a_question_in_the_clear_is_found(platform: Running) -> None:
    """The control of the control: P0 hides nothing from the platform, and a repeated question stands in its memory."""
    subject = f"clear-{secrets.token_hex(16)}"
    found = set[str]()
    for _ in range(10):
        answer = platform.caller.ask(PlainAsk(asked=(Asked(subject=subject, claim="north"),)), secrets.token_bytes(16))
        assert isinstance(answer, PlainAnswer)
        found |= platform.found({"the identifier": subject.encode()})
        if found:
            break
    assert found == {"the identifier"}


def _hint(platform: Running) -> bytes:
    caller, parts = platform.caller, list[bytes]()
    while not parts or parts[-1]:
        options = {"version": caller.version, "offset": str(sum(map(len, parts)))}
        answer = caller.client.get(f"/v1/products/{PRODUCT}/hint", params=options, headers=caller.headers)
        assert answer.status_code == 200, answer.text
        parts.append(answer.content)
    return b"".join(parts)
