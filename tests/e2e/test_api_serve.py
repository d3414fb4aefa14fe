"""The served process leaves no trace of what it was asked: not in its output, its tracer, or the deployment's files."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from sandbox.workflow.keys import create_api_key
from tests.support.api_world import fresh_key
from tests.support.deployment import BANK, PRODUCT, furnish, make_deployment, open_world

CANARY = "CANARY11010519491231002X"


@contextmanager
def served(home: Path, output: Path) -> Iterator[httpx.Client]:
    """The process of tests.support.api_server, interrupted at the end."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tests.support.api_server", str(home), str(port)]
    with output.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT) as process:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_until_it_answers(client, process)
            yield client
        process.send_signal(signal.SIGINT)
        process.wait(30)


def wait_until_it_answers(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.get("/v1/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise TimeoutError("the API did not come up")


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A deployment after calls that carry the canary, and the whole output of the process that answered them."""
    home, output = make_deployment(tmp_path_factory.mktemp("served") / "home"), tmp_path_factory.mktemp("out") / "out"
    with open_world(home) as world:
        furnish(world)
        token = create_api_key(world.office, world.actor(), BANK, "clerk")
        world.office.engine.dispose()
    with served(home.folder, output) as client:
        client.headers["Authorization"] = f"Bearer {token}"
        for subject in (CANARY, "p1"):
            for product in (PRODUCT, "no-such-product"):
                asked = {"product_id": product, "subject": subject, "claim": CANARY}
                answer = client.post("/v1/verifications", json=asked, headers={"Idempotency-Key": fresh_key()})
                assert answer.status_code < 500
                assert CANARY not in answer.text
        assert client.get(f"/v1/parties/{CANARY}?q={CANARY}").status_code == 422
        assert client.get(f"/{CANARY}").status_code == 404
        assert client.post("/v1/verifications", content=CANARY).status_code == 422
    return home.folder, output.read_text()


def test_the_process_ends_in_good_order_and_says_nothing_of_it(used: tuple[Path, str]) -> None:
    _, output = used
    assert "kept:" in output
    assert CANARY not in output
    assert "Traceback" not in output


def test_no_tracer_is_given_anything(used: tuple[Path, str]) -> None:
    _, output = used
    assert output.split("kept:\n", 1)[1].strip() == ""


def test_no_file_of_the_deployment_holds_the_canary(used: tuple[Path, str]) -> None:
    folder, _ = used
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path.name for path in files if CANARY.encode() in path.read_bytes()] == []
