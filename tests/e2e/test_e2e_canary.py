"""Invariant 1: plant unique strings in every column, use and break everything, then grep all that was written."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from enclave_runner.contract.errors import YuneiError
from enclave_runner.contract.job import ModelJob, QueryJob
from enclave_runner.contract.privacy import Budget
from enclave_runner.supervisor.database import Database
from enclave_runner.supervisor.holdings import Holdings
from enclave_runner.supervisor.home import EnclaveHome
from sandbox.workflow.audit import verify_audit
from sandbox.workflow.consents import file_consent
from sandbox.workflow.dispatch import dispatch
from sandbox.workflow.submit import submit
from sandbox.workflow.verify import verify
from tests.support.deployment import (
    BANK,
    FREE,
    HEADER,
    OPERATOR,
    PAID,
    PRODUCT,
    furnish,
    import_text,
    make_deployment,
    open_world,
    rows,
    spec,
)

pytestmark = pytest.mark.slow
PERSON, NOTE, INCOME, DISTRICT, FLAG = "CANARYPERSON77", "CANARYNOTE77", "73737.37", "CANARYDISTRICT77", "CANARYFLAG77"
CANARIES = (PERSON, NOTE, INCOME, "7373737", DISTRICT, FLAG)
BAD_SQL = (
    f"SELECT note, COUNT(*) FROM people WHERE note = '{NOTE}x' GROUP BY note",
    "SELECT CAST(person AS INTEGER), COUNT(*) FROM people GROUP BY person",
    "SELECT error(string_agg(note, ',')), COUNT(*) FROM people",
    "SELECT district, SUM(note) FROM people GROUP BY district",
    "SELECT * FROM people",
    "SELECT COUNT(*) FROM read_csv('/etc/passwd')",
    "COPY people TO '/tmp/x'",
)


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[str]]]:
    """A deployment through which everything has gone, and all that was answered."""
    home = make_deployment(tmp_path_factory.mktemp("canary") / "home")
    said: list[str] = []
    with open_world(home) as world:
        furnish(world)
        good = f"{PERSON},north,{INCOME},{NOTE},true\n"
        bad = (
            f"{PERSON}b,{DISTRICT},1.00,x,true\n{PERSON}c,north,{NOTE},x,true\n{PERSON}d,north,1.00,x,{FLAG}\n"
            f"{PERSON}f\n{PERSON},south,2.00,{NOTE},false\n"
        )
        unclosed = rows(3) + f'{PERSON}e,north,"{NOTE}\n'
        for text in (
            rows(300) + good + bad,
            HEADER + good * 3,
            good + rows(3),
            f"{NOTE},{PERSON}\n1,2\n",
            unclosed,
            NOTE.encode() * 9,
        ):
            _record(said, lambda text=text: import_text(world, text, spec(permille=900)))
        for sql in ("SELECT district, COUNT(*) AS n, SUM(income) AS total FROM people GROUP BY district", *BAD_SQL):
            job = QueryJob(sql=sql, budget=Budget(epsilon="0.3"))
            _record(
                said,
                lambda job=job: dispatch(
                    world.office, submit(world.office, world.actor(OPERATOR), FREE, job).submission_id
                ),
            )
        model = NOTE.encode() * 40
        job = ModelJob(
            sql="SELECT income FROM people",
            budget=Budget(epsilon="0.3"),
            model_sha256=hashlib.sha256(b"not a model").hexdigest(),
            output="y",
        )
        del model
        _record(said, lambda: submit(world.office, world.actor(OPERATOR), PAID, job, b"not a model"))
        for subject, claim in ((PERSON, "true"), (PERSON, FLAG), (f"{PERSON}-unknown", "false"), ("x" * 90, "true")):
            _record(said, lambda s=subject, c=claim: verify(world.office, world.actor(BANK), PRODUCT, s, c))
        expires = world.office.clock() + timedelta(days=1)
        _record(said, lambda: file_consent(world.office, world.actor(), PRODUCT, BANK, PERSON, expires))
        _record(said, lambda: verify_audit(world.office))
    for command in (["job", "list"], ["meter"], ["budget"], ["dataset", "show", "people"], ["audit", "verify"]):
        for flags in ([], ["--json"]):
            line = [sys.executable, "-m", "sandbox.cli", "--home", str(home.folder), *command, *flags]
            done = subprocess.run(line, capture_output=True, text=True, check=False)
            said.append(done.stdout + done.stderr)
    yield home.folder, said


def _record(said: list[str], act: object) -> None:
    try:
        value = act()  # type: ignore[operator]
        said.append(msgspec.json.encode(value).decode())
    except YuneiError as error:
        said.append(f"{error!r} {error} {getattr(error, 'facts', '')}")
    with contextlib.suppress(AttributeError):
        said.append(repr(act.__name__))  # type: ignore[attr-defined]


def test_the_canaries_are_in_the_raw_store(used: tuple[Path, list[str]]) -> None:
    """Positive control: what is searched for was really imported."""
    home = EnclaveHome(used[0] / "enclave")
    with closing(Database(home.ledger)) as database:
        files = [name for name in Holdings(database).files() if name.startswith("people@")]
    store, found = home.open_store(), set()
    for name in files:
        for descriptor in store.open_columns(name, ("person", "note")):
            with os.fdopen(descriptor, "rb") as plain:
                found |= set(pq.read_table(plain).column(0).to_pylist())
    assert {PERSON, NOTE} <= found


def test_something_was_answered_and_something_refused(used: tuple[Path, list[str]]) -> None:
    text = "\n".join(used[1])
    assert '"released"' in text
    assert "Refused" in text
    assert "row.domain" in text


@pytest.mark.parametrize("canary", CANARIES)
def test_no_file_holds_a_canary_nor_does_the_raw_store(used: tuple[Path, list[str]], canary: str) -> None:
    home = used[0]
    found = [
        str(path.relative_to(home))
        for path in home.rglob("*")
        if path.is_file() and canary.encode() in path.read_bytes()
    ]
    # The operator typed NOTE + "x" into its own SQL, and the platform keeps what was submitted.
    allowed = {"bureau/control.db", "bureau/control.db-wal", "enclave/ledger.db", "enclave/ledger.db-wal"}
    if canary == NOTE:
        for name in set(found) & allowed:
            content = (home / name).read_bytes()
            assert content.count(NOTE.encode()) == content.count(f"{NOTE}x".encode())
        found = [name for name in found if name not in allowed]
    assert found == []


@pytest.mark.parametrize("canary", CANARIES)
def test_no_answer_holds_a_canary(used: tuple[Path, list[str]], canary: str) -> None:
    text = "\n".join(used[1]).replace(f"{NOTE}x", "")
    assert canary not in text
