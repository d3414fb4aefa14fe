"""Models that are attacks, state that must not pass from job to job, and a jail that lacks something: nothing runs."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import onnxruntime
import pytest

from enclave_runner.contract.errors import Failed
from enclave_runner.jail import confine
from enclave_runner.jail.launcher import MemoryFile, Zygote, seal_memory
from enclave_runner.kinds.tasks import Extraction, Part
from enclave_runner.supervisor.selftest import require_jail
from tests.support import hostile_attempts, onnx_models
from tests.support.enclave_home import PEOPLE
from tests.support.hostile_attempts import Targets
from tests.support.hostile_models import ATTACKS
from tests.support.hostile_program import LEFT, AttemptZygote, bounded, leave_and_find
from tests.support.tally import TALLY
from tests.support.worker_files import extracted, on_a_thread

PROFILE = bounded(memory_mb=1024)
# Steps whose absence the jail itself must notice, whatever else is there.
NOTICED = (
    "take_descriptors",
    "enter_namespaces",
    "build_root",
    "set_limits",
    "drop_privileges",
    "restrict_paths",
    "filter_calls",
    *(("drop_identity",) if os.geteuid() == 0 else ()),
)


def loads(model: bytes) -> bool:
    """Whether ONNX Runtime takes it, with nobody looking first."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4

    def load() -> bool:
        try:
            onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception:
            return False
        return True

    return on_a_thread(load)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_model_is_refused_by_what_it_is(name: str, zygote_of: Callable[[str], AttemptZygote]) -> None:
    make, what = ATTACKS[name]
    model = make()
    with MemoryFile(model) as file:
        assert zygote_of("jail").run(b"model ", [file.descriptor], PROFILE).decode() == what
    if loads(model):
        TALLY.count("ONNX")
    else:
        TALLY.uncounted.append(f"ONNX {name}: ONNX Runtime does not load it either")


def test_an_honest_model_is_not(zygote_of: Callable[[str], AttemptZygote]) -> None:
    """Control of the test above."""
    with MemoryFile(onnx_models.identity()) as file:
        assert zygote_of("jail").run(b"model ", [file.descriptor], PROFILE) == b"ok"
    assert loads(onnx_models.identity())


def test_the_libraries_say_nothing_home(tmp_path: Path) -> None:
    """ONNX Runtime's telemetry keeps a folder below the home of whoever imports it; the zygote has no home to write."""
    assert not _telemetry_left(
        tmp_path / "with", {"ORT_DISABLE_TELEMETRY": confine.ENVIRONMENT["ORT_DISABLE_TELEMETRY"]}
    )
    assert _telemetry_left(tmp_path / "without", {})  # control: the variable is what keeps it from being made
    with Zygote() as zygote:
        sockets = {os.readlink(path) for path in Path(f"/proc/{zygote.pid}/fd").iterdir()}  # noqa: PTH115
        assert len([name for name in sockets if name.startswith("socket:")]) == 1
        assert not Path(f"/proc/{zygote.pid}/root/.cache/Microsoft").exists()


def _telemetry_left(home: Path, environment: dict[str, str]) -> bool:
    """Whether importing ONNX Runtime makes its telemetry's folder in that new home."""
    home.mkdir()
    subprocess.run(
        [sys.executable, "-c", "import onnxruntime"], env={"HOME": str(home), **environment}, cwd=home, check=True
    )
    return (home / ".cache" / "Microsoft").exists()


def test_a_second_job_sees_nothing_of_the_first(zygote_of: Callable[[str], AttemptZygote]) -> None:
    for mark in ("first", "second", "third"):
        assert zygote_of("jail").run(f"trace {mark}".encode(), [], PROFILE) == b""
    TALLY.count("DATA")


def test_within_one_process_they_are_found(tmp_path: Path) -> None:
    """Control of the test above: everything that was left would be seen."""
    assert leave_and_find("first", tmp_path) == b""
    assert leave_and_find("second", tmp_path) == b"first first first first"
    LEFT.clear()
    del os.environ["LEFT"]


@pytest.fixture
def sealed() -> Iterator[int]:
    """Granted rows."""
    with MemoryFile(b"granted rows") as file:
        yield file.descriptor


@pytest.mark.parametrize("seal", [fcntl.F_SEAL_WRITE, fcntl.F_SEAL_GROW, fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_SEAL])
def test_every_seal_is_on_what_a_worker_gets(sealed: int, seal: int) -> None:
    assert fcntl.fcntl(sealed, fcntl.F_GET_SEALS) & seal
    with pytest.raises(PermissionError):
        fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    open_file = os.memfd_create("open", os.MFD_ALLOW_SEALING)
    assert not fcntl.fcntl(open_file, fcntl.F_GET_SEALS) & seal
    assert os.write(open_file, b"x") == 1
    seal_memory(open_file)
    with pytest.raises(PermissionError):
        os.write(open_file, b"x")
    os.close(open_file)
    TALLY.count("DATA")


@pytest.mark.parametrize("ungranted", ["id", "city"])
def test_an_extract_holds_no_byte_of_another_column(ungranted: str) -> None:
    rows = [(f"canary-id-{n}", "男", n % 90, n, f"canary-city-{n}", None, True) for n in range(50)]
    needle = f"canary-{ungranted}-".encode()
    others = tuple(item.name for item in PEOPLE.columns if item.name != ungranted)
    for columns, is_there in ((others, False), ((*others, ungranted), True)):
        order = Extraction(parts=(Part(spec=PEOPLE, rows=50, columns=columns),))
        with extracted(order, rows) as file:
            assert (needle in os.pread(file, os.fstat(file).st_size, 0)) is is_there
    TALLY.count("DATA")


@pytest.mark.parametrize("step", NOTICED)
def test_a_step_that_did_nothing_is_noticed(step: str, targets: Targets, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a step that fails: one that says it worked. What the kernel shows must give it away."""
    monkeypatch.setitem(hostile_attempts.CONTROLS, "one-left-out", (step,))
    with AttemptZygote("one-left-out") as zygote:
        assert zygote.attempt("FS see-canary", targets, PROFILE, []) == "jail.absent"
    TALLY.count("FAIL-CLOSED")


def test_without_leaving_anything_out_the_same_program_runs(
    targets: Targets, zygote_of: Callable[[str], AttemptZygote]
) -> None:
    """Control of the test above."""
    assert zygote_of("jail").attempt("FS see-canary", targets, PROFILE, []) == "ENOENT"


def test_a_profile_that_names_another_filter_runs_nothing(
    targets: Targets, zygote_of: Callable[[str], AttemptZygote]
) -> None:
    for changed in ({"calls_sha256": "00" * 32}, {"landlock_floor": 99}):
        profile = bounded(**changed)  # type: ignore[arg-type]
        assert zygote_of("jail").attempt("FS see-canary", targets, profile, []) == "jail.absent"
        with Zygote() as zygote, pytest.raises(Failed) as caught:
            require_jail(zygote, profile)
        assert caught.value.code == "jail.absent"
        TALLY.count("FAIL-CLOSED")
