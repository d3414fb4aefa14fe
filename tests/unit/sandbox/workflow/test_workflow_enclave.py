"""The real socket, and the real enclave as a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from enclave_runner.contract.codec import encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.signing import KeyFile, seal
from enclave_runner.contract.trust import Trust
from enclave_runner.contract.wire import (
    DATASET_PURPOSE,
    SOCKET_NAME,
    AskOdometer,
    FailedReply,
    FileFormat,
    Hello,
    Identity,
    ImportData,
    Odometer,
    RefusedReply,
    Reply,
    Request,
    receive_request,
    send,
)
from sandbox.api import __main__ as api
from sandbox.settings import Home, pack_folder
from sandbox.workflow.enclave import SocketDoor, start_enclave
from tests.support.bureau import Bureau, dataset
from tests.support.refusals import failed_at, refused_by


@contextmanager
def listening(folder: Path, reply: Reply | None) -> Iterator[list[tuple[Request, bytes | None]]]:
    """A socket in that folder which answers one request, or hangs up."""
    heard: list[tuple[Request, bytes | None]] = []
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"/proc/self/fd/{descriptor}/{SOCKET_NAME}")
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            request, file = receive_request(connection)
            heard.append((request, None if file is None else os.pread(file, 100, 0)))
            if file is not None:
                os.close(file)
            if reply is not None:
                send(connection, reply)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield heard
    finally:
        thread.join()
        listener.close()
        os.close(descriptor)


def test_a_request_and_its_file_arrive_and_the_reply_comes_back(tmp_path: Path, bureau: Bureau) -> None:
    signed = bureau.office.enclave.call(Hello())
    assert isinstance(signed, Identity)
    file = os.memfd_create("rows")
    os.write(file, b"rows")
    with listening(tmp_path, signed) as heard:
        assert SocketDoor(tmp_path).call(AskOdometer(), file) == signed
    os.close(file)
    assert heard == [(AskOdometer(), b"rows")]


def test_a_path_longer_than_a_socket_address_is_no_obstacle(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    with listening(deep, Odometer(readings=(), grants=())):
        assert SocketDoor(deep).call(AskOdometer()) == Odometer(readings=(), grants=())


def test_refusals_and_faults_of_the_enclave_are_raised_here(tmp_path: Path) -> None:
    with listening(tmp_path, RefusedReply(rule="grant.uses", facts={"max": "3"})), refused_by("grant.uses", max="3"):
        SocketDoor(tmp_path).call(Hello())
    (tmp_path / SOCKET_NAME).unlink()
    with listening(tmp_path, FailedReply(code="job.limit", fault="fault-1")), pytest.raises(Failed) as failed:
        SocketDoor(tmp_path).call(Hello())
    assert (failed.value.code, failed.value.fault) == ("job.limit", "fault-1")


def test_nobody_listens(tmp_path: Path) -> None:
    with failed_at("enclave.absent"):
        SocketDoor(tmp_path).call(Hello())
    with failed_at("enclave.absent"):
        SocketDoor(tmp_path / "nothing").call(Hello())
    with listening(tmp_path, Odometer(readings=(), grants=())):
        SocketDoor(tmp_path).call(Hello())
    with failed_at("enclave.absent"):  # the socket's file is still there, and nobody behind it
        SocketDoor(tmp_path).call(Hello())


def test_a_connection_that_breaks_is_a_fault(tmp_path: Path) -> None:
    with listening(tmp_path, None), failed_at("wire.closed"):
        SocketDoor(tmp_path).call(Hello())


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        with pytest.raises(Failed):
            SocketDoor(tmp_path).call(Hello())
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A deployment whose enclave has a home of its own."""
    folder = tmp_path_factory.mktemp("deployment")
    home = Home(folder)
    control, officer = KeyFile.create(folder / "control.key"), KeyFile.create(folder / "officer.key")
    trust = Trust(control=(control.public_key,), officers=(officer.public_key,))
    command = [sys.executable, "-m", "enclave_runner", "init", "--home", str(home.enclave)]
    subprocess.run([*command, "--policies", str(pack_folder())], input=encode(trust), check=True)
    return home


def test_an_enclave_is_started_reused_and_ended(home: Home) -> None:
    with start_enclave(home) as first:
        assert first.process is not None
        assert isinstance(first.door.call(Hello()), Identity)
        with start_enclave(home) as second:
            assert second.process is None
            assert second.door.call(AskOdometer()) == Odometer(readings=(), grants=())
        assert first.process.poll() is None
    assert first.process.poll() is not None
    with failed_at("enclave.absent"):
        first.door.call(Hello())


def test_the_enclave_ends_when_the_caller_fails(home: Home) -> None:
    with pytest.raises(RuntimeError), start_enclave(home) as started:
        raise RuntimeError
    assert started.process is not None
    assert started.process.poll() is not None


def test_the_real_enclave_refuses_over_its_socket(home: Home, tmp_path: Path) -> None:
    file = os.memfd_create("rows")
    with start_enclave(home) as started, pytest.raises(Refused) as refused:
        signed = KeyFile.create(tmp_path / "stranger.key")
        started.door.call(_import(signed), file)
    os.close(file)
    assert refused.value.rule == "signature.invalid"


def _import(key: KeyFile) -> ImportData:
    return ImportData(spec=seal(dataset().spec, DATASET_PURPOSE, key), format=FileFormat.CSV)


@pytest.fixture
def jailless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home whose enclave's program ends as it does on a host where the jail does not hold."""
    program = tmp_path / "python"
    said = "yunei enclave: jail.open: see-canary, fork; see `yunei enclave doctor`"
    program.write_text(f"#!/bin/sh\necho 'a warning of a library' >&2\necho '{said}' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    return Home(tmp_path)


def test_of_a_jail_that_does_not_hold_the_code_comes_through(jailless: Home) -> None:
    with failed_at("jail.open"), start_enclave(jailless):
        pass


def test_the_api_that_does_not_start_for_it_names_the_doctor(
    jailless: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sandbox.api", "--home", str(jailless.folder)])
    assert api.main() == 4
    assert capsys.readouterr().err == "yunei serve: jail.open; see `yunei enclave doctor`\n"


def test_a_home_that_is_none_gives_the_enclaves_own_code(tmp_path: Path) -> None:
    with pytest.raises(Failed) as failed, start_enclave(Home(tmp_path)):
        pass
    assert failed.value.code.startswith(("home.", "key."))
