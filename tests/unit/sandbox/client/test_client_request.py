"""The auditor's command line: real files, aligned lines or one JSON document, and an exit code for each outcome."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from enclave_runner.contract.attestation import Expectation
from enclave_runner.contract.codec import encode
from enclave_runner.contract.signing import PublicKey
from sandbox.client import tee
from sandbox.client.__main__ import main
from sandbox.client.request import format_key, parse_key, parse_time
from sandbox.client.told import FAILED, NOT_VERIFIED, USAGE, VERIFIED
from tests.support.attestations import KEY, NONCE, NOW, checkpoint_note, sealed
from tests.support.tee_samples import FOLDER, TDX

ROOT = Path(__file__).parents[4]


@dataclass(frozen=True)
class Desk:
    """An auditor's folder with one good attestation in it."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    def run(self, *extra: str, **replaced: str) -> tuple[int, str, str]:
        named = {"key": format_key(KEY.public_key), "nonce": NONCE.hex(), "at": NOW.isoformat(), **replaced}
        options = [part for name, value in named.items() for part in (f"--{name.replace('_', '-')}", value)]
        code = main(["verify-attestation", str(self.folder / "a.json"), *options, *extra])
        out, err = self.capture.readouterr()
        return code, out, err

    def write(self, name: str, content: bytes) -> str:
        (self.folder / name).write_bytes(content)
        return str(self.folder / name)


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    (tmp_path / "a.json").write_bytes(encode(sealed()))
    return Desk(tmp_path, capsys)


def test_a_good_one_is_shown_line_by_line_and_says_what_it_does_not_prove(desk: Desk) -> None:
    code, out, err = desk.run(since=desk.write("since", checkpoint_note().encode()))
    assert (code, err) == (VERIFIED, "")
    assert "people 20261124-1" in out
    lines = out.splitlines()
    assert {line.split()[0] for line in lines[: lines.index("")]} == {"OK", "UNCHECKED"}
    assert "software-only" in out
    assert "仅软件度量" in out
    assert "not compared: 9" in out


def test_the_word_attested_never_stands_alone(desk: Desk) -> None:
    _, out, _ = desk.run()
    for line in out.splitlines():
        assert "attested" not in line or "software-only" in line


def test_a_bad_one_says_so_and_ends_with_its_code(desk: Desk) -> None:
    code, out, _ = desk.run(nonce="00")
    assert code == NOT_VERIFIED
    assert "NOT VERIFIED" in out
    assert [line.split()[1] for line in out.splitlines() if line.startswith("FAILED")] == ["nonce"]


def test_one_json_document_for_scripts(desk: Desk) -> None:
    good = json.loads(desk.run("--json")[1])
    assert (good["ok"], good["assurance"]) == (True, "software-only")
    assert good["claims"]["data_versions"] == {"people": "20261124-1"}
    desk.write("a.json", b"{}")
    bad = json.loads(desk.run("--json")[1])
    assert (bad["ok"], bad["claims"], bad["checks"][0]["name"]) == (False, None, "form")


def test_expectations_come_from_a_file(desk: Desk) -> None:
    right = desk.write("e.json", encode(Expectation(runner_sha256="1" * 64)))
    assert desk.run(expect=right)[0] == VERIFIED
    wrong = desk.write("e.json", encode(Expectation(runner_sha256="2" * 64)))
    assert desk.run(expect=wrong)[0] == NOT_VERIFIED
    assert desk.run(expect=desk.write("e.json", b'{"runner":"1"}'))[0] == USAGE


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": "ed25519"},
        {"key": "ed25519:zz"},
        {"nonce": "xyz"},
        {"at": "yesterday"},
        {"at": "2026-11-24T12:00:00"},
        {"quote": "only-the-quote"},
    ],
)
def test_wrong_usage_is_told_from_a_bad_attestation(desk: Desk, wrong: dict[str, str]) -> None:
    code, out, err = desk.run(**wrong)
    assert (code, out) == (USAGE, "")
    assert err.startswith("yunei: ")


def test_a_missing_file_is_a_failure_and_no_verdict(desk: Desk) -> None:
    code, out, err = desk.run(expect=str(desk.folder / "none.json"))
    assert (code, out, err) == (FAILED, "", "yunei: file.unreadable\n")


def test_a_quote_is_read_with_its_collateral_and_policy(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "quote": str(FOLDER / "tdx_quote"),
        "collateral": str(FOLDER / "tdx_quote_collateral.json"),
        "quote_policy": desk.write("policy.json", encode(TDX.policy)),
    }
    code, out, _ = desk.run(**files, at="2025-06-20T00:00:00+00:00")
    assert code == NOT_VERIFIED
    assert "names another key" in next(line for line in out.splitlines() if " quote " in line)
    monkeypatch.setattr(tee, "AVAILABLE", False)
    code, _, err = desk.run(**files)
    assert (code, err) == (FAILED, "yunei: quote.support\n")


def test_keys_and_times_come_back_as_they_were_written() -> None:
    for key in (KEY.public_key, PublicKey(algorithm="sm2", raw=b"\1" * 64)):
        assert parse_key(format_key(key)) == key
    assert parse_time(NOW.isoformat()) == NOW


def test_it_needs_nothing_of_the_server_or_the_enclave(desk: Desk) -> None:
    """With every other part of the platform and its libraries hidden, it still verifies."""
    hidden = ["typer", "rich", "fastapi", "sqlalchemy", "duckdb", "onnxruntime", "opendp", "sqlglot", "pyarrow"]
    hidden += ["gmssl_pyx", "dcap_qvl", "sandbox.workflow", "sandbox.cli", "enclave_runner.supervisor"]
    line = ["verify-attestation", str(desk.folder / "a.json"), "--key", format_key(KEY.public_key)]
    line += ["--nonce", NONCE.hex(), "--at", NOW.isoformat()]
    program = f"import sys\nfor name in {hidden}: sys.modules[name] = None\n"
    program += f"from sandbox.client.__main__ import main\nsys.exit(main({line}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
