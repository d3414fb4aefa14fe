"""How an escape attempt is judged: only the layer's own answer counts as blocked, and no answer is quoted."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from enclave_runner.jail.profile import JailProfile
from enclave_runner.kinds import probe
from enclave_runner.kinds.probes import attempt, engines
from enclave_runner.kinds.probes.attempt import Attempt, Hidden, call, hide
from enclave_runner.kinds.probes.engines import STATEMENTS, try_engine
from enclave_runner.kinds.probes.excess import EXCESSES, SURVIVED, TRIED, exceed
from enclave_runner.kinds.tasks import Outcome, Probe

PROBE = Probe(canary="/x", port=1, abstract_name="x", host_pid=2, secret="secret", profile=JailProfile())
CANARY = "raw-cell-7391"


def raising(error: Exception) -> Callable[[Probe], object]:
    def run(task: Probe) -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("run", "outcome", "detail"),
    [
        (raising(OSError(errno.EPERM, CANARY)), Outcome.BLOCKED, "EPERM"),
        (raising(OSError(errno.EACCES, CANARY)), Outcome.BLOCKED, "EACCES"),
        (raising(OSError(errno.ENOENT, CANARY)), Outcome.MISSING, "ENOENT where EPERM|EACCES was expected"),
        (raising(OSError(CANARY)), Outcome.MISSING, "no errno where EPERM|EACCES was expected"),
        (raising(ValueError(CANARY)), Outcome.MISSING, "not tried: ValueError"),
        (raising(MemoryError(CANARY)), Outcome.MISSING, "not tried: MemoryError"),
        (raising(Hidden("an empty root")), Outcome.BLOCKED, "an empty root"),
        (lambda task: CANARY, Outcome.ALLOWED, "it went through"),
    ],
)
def test_only_the_layers_own_answer_is_blocked(run: Callable[[Probe], object], outcome: Outcome, detail: str) -> None:
    finding = Attempt("name", "layer", run, (errno.EPERM, errno.EACCES)).judge(PROBE)
    assert (finding.name, finding.layer, finding.outcome, finding.detail) == ("name", "layer", outcome, detail)


def test_calls_go_to_the_kernel_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("getpid") == os.getpid()
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        call("setns", -1, 0)
    assert caught.value.errno == errno.EBADF
    monkeypatch.setattr(attempt.platform, "machine", lambda: "riscv64")
    with pytest.raises(KeyError):
        call("getpid")


def test_hide_raises_only_where_it_holds() -> None:
    hide(False, "x")
    with pytest.raises(Hidden):
        hide(True, "x")


def test_names_are_one_set_over_all_attempts() -> None:
    names = [item.name for item in probe.ATTEMPTS] + list(STATEMENTS) + list(EXCESSES)
    assert len(names) == len(set(names))
    assert all(
        item.expected or item.layer in {"root", "namespaces", "limits", "privileges", "seccomp"}
        for item in probe.ATTEMPTS
    )


def test_the_locked_engine_refuses_every_statement_and_an_open_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {item.outcome for item in try_engine()} == {Outcome.BLOCKED}
    monkeypatch.setattr(engines, "lock_job", lambda connection: None)
    monkeypatch.setattr(engines, "STATEMENTS", {"sql-unlock": STATEMENTS["sql-unlock"], "bad": "SELECT 1/0::ENUM"})
    open_engine = {item.name: item.outcome for item in try_engine()}
    assert open_engine == {"sql-unlock": Outcome.ALLOWED, "bad": Outcome.MISSING}


@pytest.mark.parametrize(
    ("attempted", "said"),
    [
        (lambda task: None, TRIED + SURVIVED),
        (raising(OSError(errno.ENOSPC, CANARY)), TRIED + bytes([errno.ENOSPC])),
        (raising(ValueError(CANARY)), TRIED),
    ],
)
def test_an_excess_leaves_a_mark_of_how_far_it_came(
    monkeypatch: pytest.MonkeyPatch, attempted: Callable[[Probe], object], said: bytes
) -> None:
    monkeypatch.setitem(EXCESSES, "mine", ("limits", "job.broken", attempted))
    mark = os.memfd_create("mark")
    try:
        exceed("mine", PROBE, mark)
    except (OSError, ValueError):
        assert said != TRIED + SURVIVED
    assert os.pread(mark, 8, 0) == said
    os.close(mark)
