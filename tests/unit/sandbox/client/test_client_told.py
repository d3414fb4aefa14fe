"""What a command says when something goes wrong: nothing that was paid for is lost, and scripts can tell why."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest

from enclave_runner.contract.check import Check, CheckKind, VerificationMode
from enclave_runner.contract.dataset import ColumnType
from enclave_runner.contract.scoring import Feature, Scorecard, ScoreCheck, Term
from sandbox.client import evidence, transport
from sandbox.client.__main__ import main
from sandbox.client.told import FAILED, NOT_VERIFIED, REFUSED, USAGE, VERIFIED
from tests.support.platform_half import KEY, PRODUCT, Platform, altered, problem

P0, P1, P2, P3, P4 = (VerificationMode(f"P{n}") for n in range(5))
ROWS = {f"S{n}": f"{n}" for n in range(40)}
LINE = ("verify", PRODUCT, "S7", "--claim", "7", "--mode")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def platform() -> Platform:
    check = Check(dataset_id="licences", attribute="level", kind=CheckKind.EQUALS, modes=(P0, P1, P3, P4))
    return Platform(check, ROWS, ColumnType.INTEGER)


@pytest.fixture
def run(
    platform: Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Run]:
    def run(*line: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        code = main(list(line))
        out, err = capsys.readouterr()
        return code, out, err

    with platform.serving() as url:
        monkeypatch.setenv("YUNEI_URL", url)
        monkeypatch.setenv("YUNEI_KEY", KEY)
        monkeypatch.setenv("YUNEI_TRUSTED", platform.trusted)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.delenv("YUNEI_KEY_FILE", raising=False)
        yield run


def test_where_no_receipt_can_be_saved_nothing_is_asked(run: Run, platform: Platform, tmp_path: Path) -> None:
    for path in (tmp_path / "none" / "r.json", tmp_path):
        code, out, err = run(*LINE, "P0", "--receipt", str(path))
        assert (code, out, "file.unwritable" in err) == (FAILED, "", True)
        code, out, err = run("batch", PRODUCT, "-", "--receipt", str(path), stdin="subject,claim\nS1,1\n")
        assert (code, out, "file.unwritable" in err) == (FAILED, "", True)
    assert platform.requests == []


def test_an_answer_is_told_though_its_receipt_could_not_be_saved(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: object) -> None:
        raise OSError

    monkeypatch.setattr(evidence.tempfile, "mkstemp", full)
    path = tmp_path / "r.json"
    code, out, err = run(*LINE, "P0", "--receipt", str(path))
    assert (code, "是 / yes" in out, "file.unwritable" in err) == (FAILED, True, True)
    code, out, err = run("batch", PRODUCT, "-", "--mode", "P0", "--receipt", str(path), stdin="subject,claim\nS1,1\n")
    assert (code, out, "file.unwritable" in err) == (FAILED, "yes\n", True)


@pytest.mark.parametrize("mode", ["P0", "P1", "P3", "P4"])
def test_a_charged_call_leaves_its_receipt_when_the_answer_is_a_lie(
    run: Run, platform: Platform, tmp_path: Path, mode: str
) -> None:
    lies: dict[str, Callable[[object], object]] = {
        "P0": lambda a: altered(a, verdicts=()),
        "P1": lambda a: altered(a, evaluated=bytes(32)),
    }
    platform.lies.answer = lies.get(mode, lambda a: altered(a, proof=bytes(64)))
    path = tmp_path / "r.json"
    code, _, err = run(*LINE, mode, "--receipt", str(path))
    assert (code, len(err.splitlines())) == (NOT_VERIFIED, 2)
    (call,) = json.loads(run("receipt", str(path), "--json")[1])["calls"]
    assert (call["price_fen"], call["opened"]) == (25, True)


def test_a_signed_breach_leaves_its_receipt(run: Run, platform: Platform, tmp_path: Path) -> None:
    platform.lies.receipt = lambda r: altered(r, call_id="0" * 32)
    path = tmp_path / "r.json"
    code, _, err = run(*LINE, "P0", "--receipt", str(path))
    assert (code, "client.receipt" in err) == (NOT_VERIFIED, True)
    assert run("receipt", str(path))[0] == VERIFIED


def test_what_was_never_asked_has_no_receipt(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    code, out, err = run("batch", PRODUCT, "-", "--receipt", str(path), stdin="subject,claim\nS3,three\nS4,four\n")
    assert (code, err, path.exists()) == (REFUSED, "", False)
    assert ["verification.claim-form" in line for line in out.splitlines()] == [True, True]


def test_rows_that_the_platform_did_not_answer_make_a_failure(
    run: Run, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport.time, "sleep", lambda seconds: None)
    platform.lies.problem = lambda _: altered_problem()
    code, out, _ = run("batch", PRODUCT, "-", "--mode", "P0", "--json", stdin="subject,claim\nS1,1\nS2,two\n")
    first, second = json.loads(out)
    assert code == FAILED
    assert first["failed"]["code"] == "client.platform"
    assert set(second["refused"]) == {"rule", "facts", "reason", "reason_zh"}


def altered_problem() -> object:
    sent = problem("x", 500)
    sent.body = b'{"fault":"fault-1"}'
    return sent


def test_scripts_are_told_of_a_refusal_and_of_a_fault(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = run("verify", PRODUCT, "S7", "--json")
    told = json.loads(out)["refused"]
    assert (code, told["rule"], told["facts"]) == (REFUSED, "client.question", {"kind": "equals"})
    assert "equals" in told["reason"]
    assert "equals" in told["reason_zh"]
    monkeypatch.setattr(transport.time, "sleep", lambda seconds: None)
    code, out, err = run("offer", PRODUCT, "--json", "--url", "http://127.0.0.1:9", "--timeout", "1")
    assert (code, json.loads(out)["failed"]["code"]) == (FAILED, "client.unreachable")
    assert "both are paid" in err


def test_the_platform_s_own_words_have_their_facts(run: Run, platform: Platform) -> None:
    platform.lies.problem = lambda _: problem("signature.invalid", 403, reason="The seal.", reason_zh="印。")
    code, _, err = run(*LINE, "P0")
    assert (code, "The seal." in err, "{" in err) == (REFUSED, True, False)


def test_a_wrong_pin_is_not_verified_and_a_malformed_one_is_wrong_usage(run: Run) -> None:
    code, _, err = run("offer", PRODUCT, "--trusted", "ed25519:" + "0" * 64)
    assert (code, "Check the pinned key" in err, "请核对所固定的域内公钥" in err) == (NOT_VERIFIED, True, True)
    for key in ("ed25519:00", "ed25519:zz"):
        assert run("offer", PRODUCT, "--trusted", key)[0] == USAGE


@pytest.mark.parametrize(
    "option",
    [
        ("--proxy", "http://[::"),
        ("--proxy", "ftp://x"),
        ("--proxy", "http://"),
        ("--timeout", "nan"),
        ("--timeout", "0"),
        ("--timeout", "inf"),
    ],
)
def test_a_proxy_or_a_timeout_that_is_none_is_wrong_usage(run: Run, option: tuple[str, str]) -> None:
    code, out, err = run("offer", PRODUCT, *option)
    assert (code, out, err.startswith("yunei: the ")) == (USAGE, "", True)


def test_a_file_in_another_encoding_is_told_as_such(run: Run, tmp_path: Path) -> None:
    table = tmp_path / "gbk.csv"
    table.write_bytes("subject,claim\n域内,1\n".encode("gbk"))
    code, _, err = run("batch", PRODUCT, str(table))
    assert (code, "UTF-8" in err, "file.encoding" in err) == (FAILED, True, True)


def test_a_console_without_chinese_still_gets_the_answer(
    run: Run, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        assert main([*LINE, "P0"]) == VERIFIED
        out.flush()
    assert b" / yes" in out.buffer.read1() or b" / yes" in out.buffer.getvalue()  # type: ignore[attr-defined]


def test_edges_are_shown_as_one_would_claim_them(run: Run, platform: Platform) -> None:
    days = (date(2026, 1, 31) - date(1970, 1, 1)).days
    platform.rows = {"S1": str(days)}
    platform.check = Check(
        dataset_id="licences", attribute="until", kind=CheckKind.AT_LEAST, modes=(P0, P2), edges=(0, days)
    )
    platform.column_type = ColumnType.DATE
    platform.renew()
    assert "1970-01-01, 2026-01-31" in run("offer", PRODUCT)[1]
    assert "1970-01-01, 2026-01-31." in run("verify", PRODUCT, "S1", "--at-least", "2026-01-30", "--mode", "P2")[2]
    platform.column_type, platform.scale = ColumnType.DECIMAL, 2
    assert f"0.00, {days / 100:.2f}" in run("offer", PRODUCT)[1]
    platform.check = Check(dataset_id="licences", attribute="l", kind=CheckKind.LEVEL, modes=(P0,), edges=(-150, 20))
    platform.renew()
    assert "0: < -1.50, 1: >= -1.50, 2: >= 0.20" in run("offer", PRODUCT)[1]
    platform.check = Check(dataset_id="licences", attribute="l", kind=CheckKind.MEMBER, modes=(P0,), members=("a", "b"))
    platform.renew()
    assert "a, b" in run("offer", PRODUCT)[1]


def test_scores_are_kept_with_their_receipt(run: Run, platform: Platform, tmp_path: Path) -> None:
    platform.check = ScoreCheck(
        dataset_id="tax",
        model=Scorecard(features=(Feature(name="age", weight=2, low=18, high=99),), intercept=1),
        terms=(Term(column="paid", weight=3, low=0, high=20),),
    )
    platform.rows = {"S1": "60"}
    platform.renew()
    path = tmp_path / "r.json"
    code, out, _ = run("score", PRODUCT, "-", "--receipt", str(path), stdin="subject,age\nS1,20\n")
    assert (code, out) == (VERIFIED, "101\n")
    assert [call["opened"] for call in json.loads(run("receipt", str(path), "--json")[1])["calls"]] == [True]
    assert "age" in run("offer", PRODUCT)[1]
