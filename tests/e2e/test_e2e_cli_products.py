"""Open products from the command line: published, opened, called, refreshed, billed, audited, closed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sandbox.cli.times import month_of
from tests.support.command_line import Answer, call_main
from tests.support.deployment import BANK, OPERATOR, PAID, furnish, make_deployment, open_world

Ask = Callable[..., Answer]
ABOUT = ("--grant", PAID, "--title", "核验", "--no-consent")


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """The program over a furnished deployment with a running enclave."""
    home = make_deployment(tmp_path_factory.mktemp("products") / "home")
    with open_world(home) as world:
        furnish(world)
        world.office.engine.dispose()

        def run(*line: str, stdin: str = "", json: bool = True) -> Answer:
            return call_main("--home", str(home.folder), *(("--json",) if json else ()), *line, stdin=stdin)

        yield run


def publish(ask: Ask, name: str, *line: str) -> Answer:
    return ask("product", "publish", name, *ABOUT, *line, "--as", OPERATOR)


def published(ask: Ask, name: str, *line: str) -> dict[str, Any]:
    answer = publish(ask, name, *line)
    assert answer.code == 0, answer.out
    job: dict[str, Any] = answer.document[0]["job"]
    return job


def test_edges_and_members_are_written_as_the_values_of_their_column(ask: Ask) -> None:
    line = ("--attribute", "people.income", "--check", "at-least", "--modes", "P0,p2", "--edges", "1000, 2000.5")
    assert published(ask, "income-at-least", *line)["edges"] == [100_000, 200_050]
    line = ("--attribute", "people.income", "--check", "level", "--edges", "-1,0.01", "--unknown")
    job = published(ask, "income-level", *line)
    assert (job["edges"], job["says_unknown"], job["modes"]) == ([-100, 1], True, ["P0"])
    line = ("--attribute", "people.district", "--check", "member", "--members", "north, south", "--max-age-days", "90")
    job = published(ask, "district-member", *line)
    assert (job["members"], job["max_age_days"]) == (["north", "south"], 90)
    assert published(ask, "exists", "--attribute", "people.active", "--check", "exists")["kind"] == "exists"
    assert published(ask, "by-ticket", "--attribute", "people.active")["predicate"] == "equals"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ((), "--attribute"),
        (("--attribute", "people.active", "--score", "/nowhere.json"), "--attribute"),
        (("--attribute", "people.active", "--check", "equals", "--modes", "P9"), "P9"),
        (("--attribute", "people.active", "--check", "equals", "--modes", "P2"), "modes"),
        (("--attribute", "people.active", "--check", "equals", "--modes", ""), "VerificationMode"),
        (("--attribute", "people.active", "--check", "nothing"), "check"),
        (("--attribute", "people.nothing", "--check", "equals"), "column"),
        (("--attribute", "people.income", "--check", "level"), "edges"),
        (("--attribute", "people.income", "--check", "level", "--edges", "2,1"), "increase"),
        (("--attribute", "people.district", "--check", "member"), "members"),
    ],
)
def test_what_is_no_check_is_wrong_usage(ask: Ask, line: tuple[str, ...], said: str) -> None:
    assert said.lower() in publish(ask, "wrong", *line).usage.lower()


OF_A_CHECK = (
    ("--modes", "P0,P4"),
    ("--modes", "P0"),
    ("--edges", "1,2"),
    ("--members", "north"),
    ("--unknown",),
    ("--max-age-days", "0"),
)


@pytest.mark.parametrize("option", OF_A_CHECK)
def test_nothing_is_published_that_drops_an_option(ask: Ask, option: tuple[str, ...]) -> None:
    before = ask("product", "list").document
    said = publish(ask, "dropped", "--attribute", "people.active", *option).usage
    assert option[0] in said
    assert "only with --check" in said
    score = publish(ask, "dropped", "--score", "/nowhere.json", *option).usage
    assert option[0] in score
    assert "not with --score" in score
    assert ask("product", "list").document == before


def test_a_predicate_and_a_check_exclude_each_other_and_a_score_both(ask: Ask) -> None:
    both = ("--attribute", "people.active", "--check", "equals", "--predicate", "equals")
    assert "--predicate: " in publish(ask, "dropped", *both).usage
    for option in (("--predicate", "equals"), ("--check", "equals")):
        assert f"{option[0]}: " in publish(ask, "dropped", "--score", "/nowhere.json", *option).usage


def test_what_the_rules_refuse_is_told_with_its_remedy(ask: Ask) -> None:
    line = ("--attribute", "people.income", "--check", "level", "--edges", "much")
    assert publish(ask, "wrong", *line).rule == (3, "verification.claim-form", "-")
    line = ("--attribute", "people.district", "--check", "at-least")
    assert publish(ask, "wrong", *line).rule[:2] == (3, "verification.claim")
    assert publish(ask, "wrong", "--attribute", "elsewhere.x", "--check", "exists").rule[1] == "record.unknown"
    consent = ("--attribute", "people.district", "--check", "equals", "--modes", "P0,P3", "--consent")
    assert publish(ask, "wrong", *consent).rule == (3, "product.hidden-consent", "43")


def test_a_score_is_read_from_its_file(ask: Ask, tmp_path: Path) -> None:
    assert publish(ask, "score", "--score", str(tmp_path / "missing.json")).fault == (4, "file.unreadable")
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"type":"score"}')
    assert publish(ask, "score", "--score", str(wrong)).rule[1] == "wire.malformed"


def test_a_product_from_its_opening_to_its_close(ask: Ask) -> None:
    published(ask, "active", "--attribute", "people.active", "--check", "equals", "--unknown")
    assert ask("product", "open", "active", "--as", BANK).rule[:2] == (3, "access.foreign")
    opened = ask("product", "open", "active", "--days", "7", "--calls", "50", "--as", OPERATOR)
    assert opened.code == 0, opened.out
    (order,) = opened.document["orders"]
    assert (order["status"], order["max_calls"], order["calls"]) == ("open", 50, 0)
    assert ask("product", "open", "active", "--as", OPERATOR).rule[1] == "product.is-open"

    told = ask("call", "ask", "active", "--claim", "true", "--as", BANK, stdin="p1\n").document
    assert (told["verdict"], told["receipt"]["units"], told["receipt"]["caller_id"]) == ("yes", 1, BANK)
    assert ask("call", "ask", "active", "--claim", "true", "--as", BANK, stdin="p0").document["verdict"] == "no"
    assert ask("call", "ask", "active", "--as", BANK, stdin="nobody").rule[1] == "call.claim"
    assert ask("call", "ask", "active", "--as", BANK, stdin="\x01").rule[1] == "subject.malformed"
    assert ask("call", "ask", "active", "--as", "biz-insurer", stdin="p1").rule[1] == "scenario.recipient"
    assert ask("call", "ask", "is-active", "--as", BANK, stdin="p1").rule[1] == "product.one-by-one"

    status = ask("product", "status", "active", "--as", OPERATOR).document
    assert (status["orders"][0]["calls"], status["orders"][0]["units"]) == (3, 2)
    listed = ask("call", "list", "--as", BANK).document["receipts"]
    assert [receipt["units"] for receipt in listed] == [1, 1, 0]
    assert ask("call", "list", "--since", str(listed[1]["sequence"]), "--as", BANK).document["receipts"] == listed[1:]

    refreshed = ask("product", "refresh", "active", "--as", OPERATOR).document
    assert [order["status"] for order in refreshed["orders"]] == ["open", "closed"]
    assert refreshed["offer"]["version"] != status["offer"]["version"]
    assert ask("call", "ask", "active", "--claim", "true", "--as", BANK, stdin="p2").document["verdict"] == "yes"

    closed = ask("product", "close", "active", "--as", OPERATOR).document
    assert {order["status"] for order in closed["orders"]} == {"closed"}
    assert ask("call", "ask", "active", "--as", BANK, stdin="p1").rule[1] == "product.not-open"
    assert ask("product", "open", "is-active", "--as", OPERATOR).rule[1] == "product.one-by-one"


def test_calls_are_metered_billed_and_audited(ask: Ask) -> None:
    calls = [event for event in ask("meter").document if event["submission_id"] is None]
    assert sorted(event["units"] for event in calls) == [0, 1, 1, 1]
    month = month_of(datetime.now(UTC))
    draft = ask("invoice", BANK, "--month", month).document
    (line,) = draft["invoice"]["call_lines"]
    assert (line["product_id"], line["calls"], line["units"], draft["total_fen"]) == ("active", 3, 3, 150)
    shown = ask("invoice", BANK, "--month", month, json=False)
    assert "active" in shown.out
    assert "3 ×" in shown.out
    report = ask("audit", "verify")
    assert report.code == 0
    assert ["calls", 4] in [[check["name"], check["entries"]] for check in report.document["checks"]]


def test_people_see_tables(ask: Ask) -> None:
    for line, said in (
        (("product", "list"), "at-least"),
        (("product", "status", "active", "--as", OPERATOR), "stand-"),
        (("call", "list", "--as", BANK), "call.claim"),
    ):
        answer = ask(*line, json=False)
        assert answer.code == 0
        assert said in answer.out


def test_an_open_product_is_shown_with_its_offer(ask: Ask) -> None:
    answer = ask("product", "open", "exists", "--as", OPERATOR, json=False)
    assert answer.code == 0
    assert "P0 · ¥0.50" in answer.out
    told = ask("call", "ask", "exists", "--as", BANK, stdin="p7", json=False)
    assert "verdict: 是 / yes" in told.out
    assert "¥0.50" in told.out
    assert "p7" not in told.out


def test_products_that_are_open_answer_again_in_a_new_process(ask: Ask) -> None:
    """Each command here opens the deployment anew; the enclave, which goes on, knows what is open."""
    assert ask("call", "ask", "exists", "--as", BANK, stdin="nobody").document["verdict"] == "no"


@pytest.mark.parametrize("command", ["open", "refresh", "close", "status"])
def test_every_command_speaks_both_languages(command: str) -> None:
    shown = call_main("product", command, "--help")
    assert shown.code == 0
    assert "产品" in shown.out
