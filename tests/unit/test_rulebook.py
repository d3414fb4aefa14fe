"""The policy pack and the code name the same rules, and every rule's text can be filled where the rule is raised."""

from __future__ import annotations

import ast
import re
import string
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.rulebook import PolicyPack, Rule

ROOT = Path(__file__).parents[2]
POLICIES = ROOT / "policies"
RULES = PolicyPack(POLICIES).rules
ARTICLES = tomllib.loads((POLICIES / "articles.toml").read_text())["article"]

RULE_ID = re.compile(r"[a-z]+(?:-[a-z]+)*\.[a-z]+(?:-[a-z]+)*")
# Calls whose first argument is a rule id and whose keywords are its facts, …
REFUSING = {"Refused", "refuse", "UnreadableSourceError"}
# … and names that lead to a rule id: as a keyword, or as a position in a call.
RULE_KEYWORD = "rule"
POSITION = {"Decision": 1, "_broken": 1}
UNLISTED = "rule.unlisted"
TEXTS = ("reason", "remedy", "reason_zh", "remedy_zh")


@dataclass(frozen=True)
class Raised:
    """A place in the code that refuses by a literal rule. `facts` is None when they are not literal there."""

    rule: str
    facts: frozenset[str] | None
    place: str


def sources() -> dict[str, ast.Module]:
    files = [path for package in ("enclave_runner", "sandbox") for path in sorted((ROOT / package).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in files}


SOURCES = sources()


def literals(node: ast.AST | None) -> Iterator[str]:
    """Rule ids in an argument: the literal itself, or the branches of a conditional."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and RULE_ID.fullmatch(node.value):
        yield node.value
    if isinstance(node, ast.IfExp):
        yield from literals(node.body)
        yield from literals(node.orelse)


def facts_of(call: ast.Call, keywords: list[ast.keyword]) -> frozenset[str] | None:
    named = {item.arg for item in keywords if item.arg and item.arg not in (RULE_KEYWORD, "facts")}
    if any(item.arg is None for item in keywords):
        return None
    tables = [item.value for item in call.keywords if item.arg == "facts"] + call.args[2:3]
    for table in tables:
        if not isinstance(table, ast.Dict):
            return None
        named |= {str(key.value) for key in table.keys if isinstance(key, ast.Constant)}
    return frozenset(named)


def raised_by(call: ast.Call, place: str) -> Iterator[Raised]:
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    if name in REFUSING and call.args:
        for rule in literals(call.args[0]):
            yield Raised(rule, facts_of(call, call.keywords), place)
    if name in POSITION and len(call.args) > POSITION[name]:
        for rule in literals(call.args[POSITION[name]]):
            yield Raised(rule, facts_of(call, call.keywords) if name == "Decision" else None, place)
    for item in call.keywords:
        if item.arg == RULE_KEYWORD:
            for rule in literals(item.value):
                has_facts = any(other.arg == "facts" for other in call.keywords)
                yield Raised(rule, facts_of(call, call.keywords) if has_facts else None, place)


RAISED = [
    found
    for path, tree in SOURCES.items()
    for node in ast.walk(tree)
    if isinstance(node, ast.Call)
    for found in raised_by(node, f"{path}:{node.lineno}")
]
# In a Cedar policy, the `@id` of a forbid is the rule that a refusal cites; a permit refuses nothing.
CEDAR_TEXT = "\n".join(path.read_text(encoding="utf-8") for path in sorted(POLICIES.glob("*.cedar")))
CEDAR_FORBIDS = re.findall(r"((?:@\w+\(\"[^\"]*\"\)\s*)+)forbid\b", CEDAR_TEXT)
CEDAR_IDS = {rule for notes in CEDAR_FORBIDS for rule in re.findall(r'@id\("([^"]+)"\)', notes)}


def code_strings(tree: ast.Module) -> Iterator[str]:
    """Every string of the code proper; docstrings mention rules, they do not use them."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


USED = {
    token for tree in SOURCES.values() for text in code_strings(tree) for token in RULE_ID.findall(text)
} | CEDAR_IDS


def fields_of(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def texts(rule: Rule) -> list[str]:
    return [getattr(rule, name) for name in TEXTS]


def test_the_search_finds_rules_where_they_are_raised() -> None:
    """Guards the other tests: a search that finds nothing passes everything."""
    assert {"grant.column", "import.header", "row.bounds", "model.malformed", "tariff.cap"} <= {r.rule for r in RAISED}


def _call(text: str) -> ast.Call:
    node = ast.parse(text, mode="eval").body
    assert isinstance(node, ast.Call)
    return node


@pytest.mark.parametrize(
    ("text", "rules", "facts"),
    [
        ("Refused('a.b', column=1)", ["a.b"], {"column"}),
        ("refuse('a.b' if x else 'a.c')", ["a.b", "a.c"], set()),
        ("Decision(False, 'a.b', {'max': 1})", ["a.b"], {"max"}),
        ("Declined(rule='a.b', facts={'what': 1})", ["a.b"], {"what"}),
        ("Refused('a.b', **facts)", ["a.b"], None),
        ("Failed('a.b')", [], set()),
    ],
)
def test_the_search_reads_each_way_of_refusing(text: str, rules: list[str], facts: set[str] | None) -> None:
    found = list(raised_by(_call(text), "here"))
    assert [item.rule for item in found] == rules
    assert all(item.facts == facts for item in found)


def test_every_raised_rule_is_listed() -> None:
    assert sorted({f"{item.rule} at {item.place}" for item in RAISED if item.rule not in RULES}) == []
    assert sorted(CEDAR_IDS - set(RULES)) == []


def test_every_forbid_of_cedar_names_its_rule_and_the_rule_s_article() -> None:
    assert len(CEDAR_FORBIDS) == len(re.findall(r"^forbid\b", CEDAR_TEXT, flags=re.MULTILINE)) == len(CEDAR_IDS)
    for notes in CEDAR_FORBIDS:
        named = dict(re.findall(r'@(\w+)\("([^"]*)"\)', notes))
        assert named.get("article", RULES[named["id"]].article) == RULES[named["id"]].article


def test_every_listed_rule_is_raised_somewhere() -> None:
    assert sorted(set(RULES) - USED) == []


def test_every_place_gives_the_facts_that_the_texts_name() -> None:
    wrong = [
        f"{item.rule} at {item.place} lacks {', '.join(sorted(missing))}"
        for item in RAISED
        if item.facts is not None and item.rule in RULES
        for missing in [set().union(*map(fields_of, texts(RULES[item.rule]))) - item.facts]
        if missing
    ]
    assert wrong == []


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_rule_is_told_in_both_languages(rule: Rule) -> None:
    assert all(text.strip() == text and text for text in texts(rule))
    assert all(text.endswith(".") for text in (rule.reason, rule.remedy))
    assert all(text.endswith("。") for text in (rule.reason_zh, rule.remedy_zh))
    assert fields_of(rule.reason) == fields_of(rule.reason_zh)
    assert fields_of(rule.remedy) == fields_of(rule.remedy_zh)
    assert 400 <= rule.status < 500


def test_every_cited_article_is_in_the_pack_and_knows_its_rules() -> None:
    cited: dict[str, set[str]] = {number: set() for number in ARTICLES}
    for rule in RULES.values():
        if rule.article != "-":
            cited.setdefault(rule.article, set()).add(rule.rule_id)
    assert cited == {number: set(article["rules"]) for number, article in ARTICLES.items()}


@pytest.mark.parametrize("number", ARTICLES)
def test_every_article_has_a_duty_a_quotation_and_a_test(number: str) -> None:
    article = ARTICLES[number]
    assert all(article[name].strip() for name in ("title", "text", "duty"))
    assert article["tests"]
    for name in article["tests"]:
        tree = ast.parse((ROOT / "tests/spec" / name).read_text())
        assert f"第{chinese(int(number))}条" in (ast.get_docstring(tree) or "")
        assert any(isinstance(node, ast.FunctionDef) and node.name.startswith("test_") for node in tree.body)


def test_every_spec_file_belongs_to_an_article() -> None:
    listed = {name for article in ARTICLES.values() for name in article["tests"]}
    assert {path.name for path in (ROOT / "tests/spec").glob("test_article_*.py")} == listed


def chinese(number: int) -> str:
    """10 to 99 in Chinese, as the articles are numbered."""
    digits = "〇一二三四五六七八九"
    tens, ones = divmod(number, 10)
    return ("" if tens == 1 else digits[tens]) + "十" + (digits[ones] if ones else "")


@pytest.mark.parametrize(("number", "text"), [(10, "十"), (12, "十二"), (20, "二十"), (35, "三十五")])
def test_articles_are_numbered_in_chinese(number: int, text: str) -> None:
    assert chinese(number) == text


def test_an_unlisted_rule_is_explained_and_keeps_its_name() -> None:
    explained = PolicyPack(POLICIES).explain(Refused("nobody.wrote-this", column="c"))
    assert explained.rule == "nobody.wrote-this"
    assert explained.reason == RULES[UNLISTED].reason


def test_a_refusal_shows_its_facts_in_both_languages() -> None:
    explained = PolicyPack(POLICIES).explain(Refused("grant.column", column="wage"))
    assert "wage" in explained.reason
    assert "wage" in explained.remedy_zh
    assert explained.article == "28"
