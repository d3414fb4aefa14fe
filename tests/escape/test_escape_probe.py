"""The self-test itself: every attempt is blocked in the real jail, and notices when its layer is not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Failed
from enclave_runner.jail.launcher import Zygote
from enclave_runner.jail.profile import JailProfile
from enclave_runner.kinds.probe import ATTEMPTS
from enclave_runner.kinds.probes.engines import STATEMENTS
from enclave_runner.kinds.probes.excess import EXCESSES
from enclave_runner.kinds.tasks import Finding, Outcome, Probe
from enclave_runner.supervisor import selftest
from enclave_runner.supervisor.selftest import SelfTest, probe_excesses, probe_jail, require_jail
from tests.support.hostile_attempts import Targets
from tests.support.hostile_program import AttemptZygote, bounded
from tests.support.tally import TALLY

ROOT = Path(__file__).parents[2]
PROFILE = bounded()
CONTROLS = {
    "namespaces": ("outside",),
    "root": ("outside",),
    "limits": ("no-limits", "outside"),
    "privileges": ("captive-root", "no-filter"),
    "landlock": ("no-landlock", "outside"),
    "seccomp": ("no-filter", "captive-root"),
    "network": ("no-filter", "outside", "captive-root"),
}
# No control without harm to this host; the last three have tests of their own below.
WITHOUT_CONTROL = {"write-root", "write-host-switch", "leaked-descriptor", "environment-secret", "root-identity"}


@pytest.fixture
def probe(targets: Targets) -> Probe:
    """The suite's own targets, as the self-test names them."""
    return Probe(
        canary=targets.canary,
        port=targets.port,
        abstract_name=targets.abstract,
        host_pid=targets.neighbour,
        secret=targets.secret,
        profile=PROFILE,
    )


def judged(zygote: Zygote, name: str, probe: Probe, descriptors: list[int] | None = None) -> Finding:
    """One attempt of the self-test, in a worker of its own."""
    return decode(zygote.run(b"probe " + name.encode() + b" " + encode(probe), descriptors or [], PROFILE), Finding)


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda item: item.name)
def test_an_attempt_is_blocked_and_notices_a_missing_layer(
    attempt: object, probe: Probe, zygote_of: Callable[[str], AttemptZygote]
) -> None:
    name, layer = attempt.name, attempt.layer  # type: ignore[attr-defined]
    assert judged(zygote_of("jail"), name, probe).outcome is Outcome.BLOCKED
    if name in WITHOUT_CONTROL:
        return
    noticed = {judged(zygote_of(control), name, probe).outcome for control in CONTROLS[layer]}
    assert noticed & {Outcome.ALLOWED, Outcome.MISSING}
    if Outcome.ALLOWED in noticed:
        TALLY.count("SELF-TEST")


def test_a_leaked_descriptor_is_found(probe: Probe, zygote_of: Callable[[str], AttemptZygote], program: int) -> None:
    agreed = msgspec.structs.replace(probe, handed=1)
    assert judged(zygote_of("jail"), "leaked-descriptor", agreed, [program]).outcome is Outcome.BLOCKED
    assert judged(zygote_of("jail"), "leaked-descriptor", probe, [program]).outcome is Outcome.ALLOWED


def test_an_inherited_secret_and_root_are_found(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here, without a jail: this process has the secret, and is root where the tests are."""
    found = {item.name: item for item in ATTEMPTS}
    assert found["environment-secret"].judge(probe).outcome is Outcome.BLOCKED
    monkeypatch.setenv("INHERITED", probe.secret)
    assert found["environment-secret"].judge(probe).outcome is Outcome.ALLOWED
    outcome = found["root-identity"].judge(probe).outcome
    assert outcome is (Outcome.ALLOWED if os.geteuid() == 0 else Outcome.BLOCKED)


def test_the_whole_self_test_in_the_enclaves_own_zygote() -> None:
    with Zygote() as zygote:
        result = require_jail(zygote, JailProfile())
        assert zygote.pid > 1
    assert result.allowed == ()
    assert len(result.findings) == len(result.outcomes) == len(ATTEMPTS) + len(STATEMENTS) >= 80
    assert set(result.outcomes.values()) == {"BLOCKED"}


def test_every_excess_ends_its_worker_and_the_next_job_runs() -> None:
    with Zygote() as zygote:
        result = probe_excesses(zygote, JailProfile())
        assert {item.name: item.outcome for item in result.findings} == dict.fromkeys(EXCESSES, Outcome.BLOCKED)
        assert require_jail(zygote, JailProfile()).is_closed


@pytest.mark.parametrize("control", ["no-filter", "no-landlock", "no-limits", "outside"])
def test_without_a_layer_the_self_test_stops_everything(
    control: str, probe: Probe, zygote_of: Callable[[str], AttemptZygote], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real attempts against a jail that really lacks something, and the real gate over what they found."""
    zygote, layers = zygote_of(control), {"limits", "landlock", "root", "privileges"}
    found = tuple(judged(zygote, item.name, probe) for item in ATTEMPTS if item.layer in layers)
    found += (judged(zygote, "new-code", probe),)
    monkeypatch.setattr(selftest, "probe_jail", lambda zygote, profile: SelfTest(findings=found))
    with pytest.raises(Failed) as caught:
        require_jail(zygote, PROFILE)
    assert caught.value.code == "jail.open"
    TALLY.count("FAIL-CLOSED")


@pytest.mark.parametrize("outcome", [Outcome.ALLOWED, Outcome.MISSING, None])
def test_one_row_that_is_not_blocked_stops_everything(monkeypatch: pytest.MonkeyPatch, outcome: Outcome | None) -> None:
    blocked = Finding(name="a", layer="root", outcome=Outcome.BLOCKED, detail="ENOENT")
    rows = (blocked, msgspec.structs.replace(blocked, name="b", outcome=outcome)) if outcome else ()
    monkeypatch.setattr(selftest, "probe_jail", lambda zygote, profile: SelfTest(findings=rows))
    with Zygote() as zygote, pytest.raises(Failed) as caught:
        require_jail(zygote, JailProfile())
    assert caught.value.code == "jail.open"
    monkeypatch.setattr(selftest, "probe_jail", lambda zygote, profile: SelfTest(findings=(blocked,)))
    with Zygote() as zygote:
        assert require_jail(zygote, JailProfile()).is_closed


def test_a_probe_that_answers_something_else_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Zygote, "run", lambda self, task, descriptors, profile: b'{"type":"done"}')
    with Zygote() as zygote, pytest.raises(Failed) as caught:
        probe_jail(zygote, JailProfile())
    assert caught.value.code == "jail.probe"


def test_an_enclave_that_was_started_by_pid_1_still_finds_its_jail_closed() -> None:
    """The worker is pid 1 of its own space: a target of that number would be the worker itself."""
    code = (
        "import os, sys, time\n"
        "if os.fork(): os._exit(0)\n"
        "while os.getppid() == int(sys.argv[1]): time.sleep(0.01)\n"
        "from enclave_runner.__main__ import main\n"
        "sys.argv[1:] = ['doctor', '--json']\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import os, sys\nsys.argv.append(str(os.getpid()))\n{code}"],
        capture_output=True,
        env={"PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert json.loads(done.stdout)["ok"] is True
