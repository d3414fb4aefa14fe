"""`yunei-client` from a command line: answers, offers and receipts, with secrets on standard input or in files."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from enclave_runner.contract.check import Check, CheckKind, VerificationMode
from enclave_runner.contract.dataset import ColumnType
from enclave_runner.contract.rulebook import PolicyPack
from enclave_runner.contract.scoring import Feature, Scorecard, ScoreCheck, Term
from sandbox.client import transport
from sandbox.client.__main__ import main
from sandbox.client.connection import show_progress
from sandbox.client.explain import ADVICE, words
from sandbox.client.problems import Declined, Texts
from sandbox.client.told import FAILED, NOT_VERIFIED, REFUSED, USAGE, VERIFIED
from tests.support.platform_half import KEY, PRODUCT, Platform, problem

P0, P1, P2, P3, P4 = (VerificationMode(f"P{n}") for n in range(5))
ROWS = {f"S{n}": f"{n}" for n in range(40)}


@dataclass
class Shell:
    """A command line with a platform behind it."""

    platform: Platform
    folder: Path
    capture: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch

    def run(self, *line: str, stdin: str = "") -> tuple[int, str, str]:
        self.patch.setattr("sys.stdin", io.StringIO(stdin))
        code = main(list(line))
        out, err = self.capture.readouterr()
        return code, out, err


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    check = Check(dataset_id="licences", attribute="level", kind=CheckKind.EQUALS, modes=(P0, P1, P3, P4))
    platform = Platform(check, ROWS, ColumnType.INTEGER)
    key = tmp_path / "key"
    key.write_text(f"{KEY}\n")
    with platform.serving() as url:
        for name, value in {
            "YUNEI_URL": url,
            "YUNEI_KEY_FILE": str(key),
            "YUNEI_TRUSTED": platform.trusted,
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("YUNEI_KEY", raising=False)
        yield Shell(platform, tmp_path, capsys, monkeypatch)


def test_an_answer_in_both_languages_with_mode_price_and_receipt(shell: Shell) -> None:
    code, out, err = shell.run("verify", PRODUCT, "S7", "--claim", "7")
    assert (code, err) == (VERIFIED, "")
    for said in ("是 / yes", "P4", "隐藏对象 / hides the subject", "0.25 元", "回执 / receipts"):
        assert said in out
    code, out, _ = shell.run("verify", PRODUCT, "S7", "--claim", "8", "--mode", "P3")
    assert (code, "否 / no" in out, "(k = 40)" in out) == (VERIFIED, True, True)


def test_one_json_document_for_scripts(shell: Shell) -> None:
    code, out, err = shell.run("verify", PRODUCT, "S7", "--claim", "7", "--json", "--mode", "P1")
    document = json.loads(out)
    assert (code, err) == (VERIFIED, "")
    assert (document["verdict"], document["mode"], document["price_fen"]) == ("yes", "P1", 25)
    assert len(document["calls"]) == 1


def test_key_subject_and_claim_come_from_standard_input_in_that_order(shell: Shell) -> None:
    code, out, err = shell.run("verify", PRODUCT, "-", "--claim", "-", "--key-file", "-", stdin=f"{KEY}\n S7 \n7\n")
    assert (code, err) == (VERIFIED, "")
    assert "是 / yes" in out
    code, out, err = shell.run("verify", PRODUCT, "-", "--claim", "-", stdin="S7\n")
    assert (code, out, err) == (USAGE, "", "yunei: standard input has no more lines\n")


def test_the_subject_is_in_no_output_and_in_no_address(shell: Shell) -> None:
    for mode in ("P0", "P1", "P3", "P4"):
        _, out, err = shell.run("verify", PRODUCT, "S7", "--claim", "7777", "--mode", mode)
        assert "S7" not in out + err
        assert "7777" not in out + err
    assert not any("S7" in path for _, path, _ in shell.platform.requests)


def test_a_receipt_is_saved_and_verified_offline(shell: Shell) -> None:
    path = shell.folder / "receipt.json"
    assert shell.run("verify", PRODUCT, "S7", "--claim", "7", "--receipt", str(path))[0] == VERIFIED
    code, out, err = shell.run("receipt", str(path))
    assert (code, err) == (VERIFIED, "")
    assert "签名有效 / signed" in out
    assert "question and answer fit" in out
    code, out, _ = shell.run("receipt", str(path), "--json")
    assert [call["opened"] for call in json.loads(out)["calls"]] == [True, True]
    path.write_bytes(path.read_bytes().replace(b'"answer":{"', b'"answer":{ "'))
    assert shell.run("receipt", str(path))[0] == VERIFIED  # only the spelling changed
    path.write_bytes(path.read_bytes().replace(b'"salt":"', b'"salt":"AAAA')[:-8])
    code, _, err = shell.run("receipt", str(path))
    assert (code, "wire.malformed" in err) == (NOT_VERIFIED, True)
    bare = shell.folder / "bare.json"
    shell.run("verify", PRODUCT, "S7", "--claim", "7", "--receipt", str(bare), "--bare")
    code, out, _ = shell.run("receipt", str(bare), "--trusted", shell.platform.trusted)
    assert (code, "without question and answer" in out) == (VERIFIED, True)


def test_a_receipt_under_a_key_that_is_not_pinned_is_not_verified(shell: Shell) -> None:
    path = shell.folder / "receipt.json"
    shell.run("verify", PRODUCT, "S7", "--claim", "7", "--receipt", str(path))
    code, out, err = shell.run("receipt", str(path), "--trusted", "ed25519:" + "0" * 64)
    assert (code, out) == (NOT_VERIFIED, "")
    assert "signature.invalid" in err
    assert shell.run("receipt", str(shell.folder / "none.json"))[0] == FAILED


def test_pinned_keys_may_stand_in_a_file(shell: Shell) -> None:
    keys = shell.folder / "keys"
    keys.write_text(f"ed25519:{'0' * 64}\n{shell.platform.trusted}\n")
    assert shell.run("offer", PRODUCT, "--trusted", str(keys))[0] == VERIFIED
    assert shell.run("offer", PRODUCT, "--trusted", str(shell.folder / "none"))[0] == FAILED


def test_an_offer_says_what_may_be_asked_how_and_for_how_much(shell: Shell) -> None:
    code, out, err = shell.run("offer", PRODUCT)
    assert (code, err) == (VERIFIED, "")
    for said in ("equals level (licences)", "P1 隐藏所核验的值", "P4 隐藏对象", "0.25 元", "k = 40"):
        assert said in out
    assert json.loads(shell.run("offer", PRODUCT, "--json")[1])["product_id"] == PRODUCT


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (("verify", PRODUCT, "S7"), "client.question"),
        (("verify", PRODUCT, "S7", "--at-least", "7"), "client.question"),
        (("verify", PRODUCT, "S7", "--claim", "seven"), "verification.claim-form"),
        (("verify", PRODUCT, "S7", "--claim", "7", "--mode", "P2"), "client.mode"),
        (("verify", PRODUCT, "S\n7", "--claim", "7"), "client.subject"),
        (("verify", PRODUCT, "S" * 65, "--claim", "7"), "client.subject"),
        (("verify", PRODUCT, "S\udcff", "--claim", "7"), "client.subject"),
        (("verify", PRODUCT, "", "--claim", "7"), "client.subject"),
        (("verify", PRODUCT, "S7", "--claim", "7", "--mode", "P3", "--k-min", "41"), "client.bucket"),
        (("verify", "no-such-product", "S7", "--claim", "7"), "record.unknown"),
    ],
)
def test_a_refusal_is_told_in_both_languages_and_has_its_exit_code(
    shell: Shell, line: tuple[str, ...], said: str
) -> None:
    code, out, err = shell.run(*line)
    assert (code, out) == (REFUSED, "")
    assert said in err
    assert len(err.splitlines()) == 2
    assert shell.platform.calls == []


@pytest.mark.parametrize(
    "changed",
    [
        {"YUNEI_URL": ""},
        {"YUNEI_URL": "http://platform.example"},
        {"YUNEI_KEY_FILE": ""},
        {"YUNEI_TRUSTED": ""},
        {"YUNEI_TRUSTED": "ed25519:zz"},
    ],
)
def test_what_is_missing_is_told_as_wrong_usage(shell: Shell, changed: dict[str, str]) -> None:
    for name, value in changed.items():
        shell.patch.setenv(name, value)
    code, out, err = shell.run("verify", PRODUCT, "S7", "--claim", "7")
    assert (code, out) == (USAGE, "")
    assert err.startswith("yunei: ")


def test_a_key_in_the_environment_or_a_wrong_one(shell: Shell) -> None:
    shell.patch.setenv("YUNEI_KEY_FILE", "")
    shell.patch.setenv("YUNEI_KEY", KEY)
    assert shell.run("offer", PRODUCT)[0] == VERIFIED
    shell.patch.setenv("YUNEI_KEY", "yunei_another_key")
    code, _, err = shell.run("offer", PRODUCT)
    assert (code, "key.unknown" in err) == (REFUSED, True)
    assert KEY not in err


def test_a_platform_that_is_away_is_a_failure(shell: Shell) -> None:
    shell.patch.setattr(transport.time, "sleep", lambda seconds: None)
    code, _, err = shell.run("offer", PRODUCT, "--url", "http://127.0.0.1:9", "--timeout", "1")
    assert (code, "client.unreachable" in err) == (FAILED, True)


def test_a_threshold_and_a_level(shell: Shell) -> None:
    shell.platform.check = Check(
        dataset_id="licences", attribute="level", kind=CheckKind.AT_LEAST, modes=(P0, P2), edges=(10, 20)
    )
    shell.platform.renew()
    assert "是 / yes" in shell.run("verify", PRODUCT, "S15", "--at-least", "10")[1]
    assert "否 / no" in shell.run("verify", PRODUCT, "S15", "--at-least", "-", stdin="20\n")[1]
    code, _, err = shell.run("verify", PRODUCT, "S15", "--at-least", "11")
    assert (code, "client.edge" in err, "10, 20" in err) == (REFUSED, True, True)
    assert "是 / yes" in shell.run("verify", PRODUCT, "S15", "--at-least", "11", "--mode", "P0")[1]
    shell.platform.check = Check(
        dataset_id="licences", attribute="level", kind=CheckKind.LEVEL, modes=(P4,), edges=(10, 20)
    )
    shell.platform.renew()
    assert "等级 / level 1" in shell.run("verify", PRODUCT, "S15", "--weakest", "P4")[1]


def test_hints_are_kept_unless_told_otherwise(shell: Shell) -> None:
    shell.run("verify", PRODUCT, "S7", "--claim", "7", "--no-cache")
    assert not (shell.folder / "cache").exists()
    shell.run("verify", PRODUCT, "S7", "--claim", "7")
    assert len(list((shell.folder / "cache" / "yunei").iterdir())) == 1


def test_a_bar_shows_the_download(capsys: pytest.CaptureFixture[str]) -> None:
    show_progress(0, 8_000_000)
    show_progress(4_000_000, 8_000_000)
    show_progress(8_000_000, 8_000_000)
    first, second, third = capsys.readouterr().err.split("\r")[1:]
    assert (first.count("█"), second.count("█"), third.count("█")) == (0, 15, 30)
    assert third.endswith("8.0/8.0 MB\n")


def test_words_are_ours_where_the_rule_is_and_the_platform_s_where_it_is_not(shell: Shell) -> None:
    shell.platform.lies.problem = lambda _: problem("new.rule", 403, reason="Why.", remedy="Do.", reason_zh="因。")
    err = shell.run("verify", PRODUCT, "S7", "--claim", "7", "--mode", "P0")[2]
    assert "Why. Do. (new.rule)" in err
    assert "因。（new.rule）" in err
    listed = PolicyPack(Path(__file__).parents[4] / "policies").rules["consent.missing"]
    chinese, _ = words(Declined("consent.missing", {}, Texts()))
    assert listed.reason_zh.partition("{")[0] in chinese
    assert words(Declined("consent.missing", {}, Texts(reason="Own.")))[1] == "Own.  (consent.missing)"
    assert all(len(pair) == 2 and all(pair) for pair in ADVICE.values())


def test_a_file_of_features_is_scored_line_by_line(shell: Shell) -> None:
    shell.platform.check = ScoreCheck(
        dataset_id="tax",
        model=Scorecard(features=(Feature(name="age", weight=2, low=18, high=99),), intercept=1),
        terms=(Term(column="paid", weight=3, low=0, high=20),),
    )
    shell.platform.rows = {"S1": "60"}
    shell.platform.renew()
    table = shell.folder / "features.csv"
    table.write_text("\ufeffsubject,age\nS1,20\nS2,30\n", encoding="utf-8")
    code, out, err = shell.run("score", PRODUCT, str(table))
    assert (code, out, err) == (VERIFIED, "101\n61  （无记录 / not on record）\n", "")
    code, out, _ = shell.run("score", PRODUCT, "-", "--json", stdin="age,subject\n20,S1\n")
    (document,) = json.loads(out)
    assert (code, document["score"], document["points"], document["known"]) == (VERIFIED, 101, 60, True)
    for wrong in (
        "",
        "age\n1\n",
        "subject,age\nS1\n",
        "subject,age\nS1,2,3\n",
        "subject,age\nS1,old\n",
        "subject,age\n" + "x" * 200_000,
    ):
        code, out, err = shell.run("score", PRODUCT, "-", stdin=wrong)
        assert (code, out) == (USAGE, "")
        assert "CSV" in err
    code, _, err = shell.run("score", PRODUCT, "-", stdin="subject,age\nS1,17\n")
    assert (code, "scoring.range" in err) == (REFUSED, True)


def test_a_file_of_questions_is_answered_line_by_line(shell: Shell) -> None:
    table = shell.folder / "questions.csv"
    table.write_text("subject,claim\nS1,1\nS2,1\nS3,three\nS4,\n", encoding="utf-8")
    receipt = shell.folder / "receipt.json"
    code, out, err = shell.run("batch", PRODUCT, str(table), "--mode", "P0", "--receipt", str(receipt))
    first, second, malformed, none = out.splitlines()
    assert (code, err, first, second) == (REFUSED, "", "yes", "no")
    assert "verification.claim-form" in malformed
    assert "client.question" in none
    assert len(shell.platform.calls) == 1
    assert shell.run("receipt", str(receipt))[1].count("签名有效") == 1
    code, out, _ = shell.run("batch", PRODUCT, "-", "--json", stdin="subject,claim\nS1,1\nS999,1\n")
    documents = json.loads(out)
    assert [(one["verdict"], one["mode"], one["price_fen"]) for one in documents] == [
        ("yes", "P4", 25),
        ("no", "P4", 25),
    ]
    for wrong in ("", "subject\n", "claim\n1\n", "subject,claim,name\nS1,1,x\n"):
        code, out, err = shell.run("batch", PRODUCT, "-", stdin=wrong)
        assert (code, out, "CSV" in err) == (USAGE, "", True)


def test_a_key_and_a_file_may_both_come_from_standard_input(shell: Shell) -> None:
    code, out, err = shell.run("batch", PRODUCT, "-", "--key-file", "-", stdin=f"{KEY}\nsubject,claim\nS1,1\n")
    assert (code, out, err) == (VERIFIED, "yes\n", "")
