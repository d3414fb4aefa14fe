"""The serving zygote in its jail: it proves itself, builds a whole product through the gate, and keeps nothing back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import msgspec
import pytest

from enclave_runner.contract.check import CheckKind
from enclave_runner.contract.dataset import Column, ColumnType
from enclave_runner.contract.errors import Failed
from enclave_runner.contract.protocols import oprf
from enclave_runner.contract.protocols.cell import NO, YES
from enclave_runner.jail.confine import EXTRACT_NAME
from enclave_runner.jail.launcher import Zygote, seal_memory
from enclave_runner.jail.profile import JailProfile
from enclave_runner.kinds.probe import ATTEMPTS
from enclave_runner.kinds.probes.engines import STATEMENTS
from enclave_runner.kinds.probes.excess import EXCESSES
from enclave_runner.kinds.tasks import Declined, Done, Outcome
from enclave_runner.private.build import build_profile, serving_profile
from enclave_runner.private.order import order
from enclave_runner.private.plain import PlainTable
from enclave_runner.private.tasks import Assembled, Assembling, Evaluating, Hinting, Serving, Tabulated, Tabulating
from enclave_runner.private.worker import ServingWorker
from enclave_runner.supervisor.selftest import probe_excesses, probe_jail, require_jail
from tests.support.private_tables import HIDDEN, KEY, check_of, column_of, content, memory, subject_of
from tests.support.worker_files import Row, stored

BASE = JailProfile(wall_seconds=60)
INTEGER = column_of(ColumnType.INTEGER)
SUBJECT = subject_of(check_of(CheckKind.LEVEL, HIDDEN, edges=(1, 2)), INTEGER)


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    """The enclave's own."""
    with Zygote("enclave_runner.private") as started:
        yield started


def extract_of(owner: ExitStack, rows: list[Row], column: Column = INTEGER) -> int:
    """An extract as the enclave hands it over: sealed memory of that name."""
    source = owner.enter_context(stored((KEY, column), rows))
    descriptor = os.memfd_create(EXTRACT_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    owner.callback(os.close, descriptor)
    os.write(descriptor, content(source))
    seal_memory(descriptor)
    return descriptor


def test_a_product_is_built_in_jails(zygote: Zygote) -> None:
    with ExitStack() as owner:
        extract = extract_of(owner, [(f"id{number}", number % 3) for number in range(900)])
        plain, records, cells, matrix, hint = (memory(owner) for _ in range(5))

        def run(task: object, handed: list[int]) -> object:
            return order(zygote, task, handed, build_profile(BASE, 1 << 20), BASE)  # type: ignore[arg-type]

        assert run(Tabulating(subject=SUBJECT, entity_column="uid"), [extract, plain, records]) == Tabulated(
            rows=900, records=600
        )
        key = oprf.new_key()
        for first in (0, 300):
            task = Evaluating(key=key, version="v", first=first, count=300)
            assert run(task, [records, cells]) == Done()
        shape = run(Assembling(k_min=50), [cells, matrix])
        assert isinstance(shape, Assembled)
        assert os.fstat(matrix).st_size == shape.height * shape.columns
        task = Hinting(seed=bytes(16), height=shape.height, columns=shape.columns, first=0, count=16)
        assert run(task, [matrix, hint]) == Done()
        for descriptor in (plain, records, cells, matrix, hint):  # at once: an honest worker leaves nothing mapped
            seal_memory(descriptor)
        cell = PlainTable(plain, SUBJECT).find("id5")
        assert cell is not None


@pytest.mark.parametrize(
    ("kind", "value", "claim"),
    [
        (ColumnType.TEXT, "已婚", "已婚"), (ColumnType.DATE, date(1960, 2, 29), "1960-02-29"),
        (ColumnType.BOOLEAN, True, "true"), (ColumnType.DECIMAL, 150, "1.5"),
    ],
)  # fmt: skip
def test_every_type_is_tabulated_and_served_in_jails(
    zygote: Zygote, kind: ColumnType, value: object, claim: str
) -> None:
    """Nothing of what a type takes is missing where no module can be imported any more."""
    column = column_of(kind, scale=2 if kind is ColumnType.DECIMAL else 0)
    subject = subject_of(check_of(CheckKind.EQUALS), column)
    with ExitStack() as owner:
        extract, plain = extract_of(owner, [("a", value), ("b", None)], column), memory(owner)
        task = Tabulating(subject=subject, entity_column="uid")
        assert order(zygote, task, [extract, plain], BASE, BASE) == Tabulated(rows=2, records=0)
        seal_memory(plain)
        serving = Serving(subject=subject, opening_secret=bytes(32))
        worker = ServingWorker.start(zygote, serving_profile(BASE, 1 << 20), serving, [plain])
        assert worker.judge([("a", claim), ("b", claim), ("c", claim)]) == (YES, NO, NO)
        worker.close()


def test_two_rows_of_one_subject_are_declined_through_the_gate(zygote: Zygote) -> None:
    with ExitStack() as owner:
        extract = extract_of(owner, [("a", 1), ("a", 2)])
        task, tables = Tabulating(subject=SUBJECT, entity_column="uid"), [memory(owner), memory(owner)]
        answer = order(zygote, task, [extract, *tables], BASE, BASE)
        assert answer == Declined(rule="verification.many-rows", facts={})


def test_a_table_beyond_what_a_worker_may_write_is_a_limit_and_leaves_the_zygote_alive(zygote: Zygote) -> None:
    with ExitStack() as owner:
        extract = extract_of(owner, [(f"id{number}", 1) for number in range(60_000)])
        small = msgspec.structs.replace(BASE, file_mb=1)
        with pytest.raises(Failed) as caught:
            order(zygote, Tabulating(subject=SUBJECT, entity_column="uid"), [extract, memory(owner)], small, BASE)
        assert caught.value.code in ("job.broken", "job.limit")
        assert zygote.is_alive


def test_what_is_no_task_of_this_zygote_breaks_its_worker(zygote: Zygote) -> None:
    for task in (b"", b'{"type":"lookup"}', b'{"type":"evaluating"}'):
        with pytest.raises(Failed) as caught:
            zygote.run(task, [], BASE)
        assert caught.value.code == "job.broken"


def test_the_probes_find_this_jail_closed_as_well(zygote: Zygote) -> None:
    for profile in (BASE, serving_profile(BASE, 1 << 20)):
        result = require_jail(zygote, profile)
        assert len(result.findings) == len(ATTEMPTS) + len(STATEMENTS) >= 80
        assert set(result.outcomes.values()) == {"BLOCKED"}


@pytest.mark.slow
def test_every_excess_ends_its_worker_here_too(zygote: Zygote) -> None:
    result = probe_excesses(zygote, BASE)
    assert {item.name: item.outcome for item in result.findings} == dict.fromkeys(EXCESSES, Outcome.BLOCKED)
    assert probe_jail(zygote, BASE).is_closed


def test_the_zygote_has_one_thread_and_no_network(zygote: Zygote) -> None:
    """One thread, so that a fork copies no lock in use."""
    assert require_jail(zygote, BASE).is_closed  # it has come up
    assert os.listdir(f"/proc/{zygote.pid}/task") == [str(zygote.pid)]  # noqa: PTH208
    interfaces = Path(f"/proc/{zygote.pid}/net/dev").read_text(encoding="ascii").splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
