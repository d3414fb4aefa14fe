"""The policy pack: rules and limits as data. The same bytes on both sides; their digest stands in every receipt."""

from __future__ import annotations

import hashlib
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Any

from enclave_runner.contract.codec import Value
from enclave_runner.contract.errors import Failed, Refused


class Rule(Value, frozen=True):
    """One rule: its article, why it refuses and what would make it pass, in both languages.

    Texts may name facts in braces ("{column}"); an unknown fact stays as it is.
    """

    rule_id: str
    article: str
    status: int
    reason: str
    remedy: str
    reason_zh: str
    remedy_zh: str


class Refusal(Value, frozen=True):
    """A refusal as people see it."""

    rule: str
    article: str
    status: int
    reason: str
    remedy: str
    reason_zh: str
    remedy_zh: str


class _Facts(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "{" + key + "}"


class PolicyPack:
    """A folder of *.toml and *.cedar files, read once."""

    def __init__(self, folder: Path) -> None:
        try:
            names = sorted(path for path in folder.iterdir() if path.suffix in {".toml", ".cedar", ".cedarschema"})
            self.files = {path.name: path.read_bytes() for path in names}
            self._toml = {
                name: tomllib.loads(data.decode()) for name, data in self.files.items() if name.endswith(".toml")
            }
            self.rules = {
                rule_id: Rule(rule_id=rule_id, **fields) for rule_id, fields in self._toml["rules.toml"].items()
            }
        except (OSError, ValueError, KeyError, TypeError):
            raise Failed("policy.unreadable") from None

    @cached_property
    def sha256(self) -> str:
        """Digest over every file's name and content, in name order."""
        total = hashlib.sha256()
        for name, data in self.files.items():
            total.update(name.encode() + b"\0" + hashlib.sha256(data).digest())
        return total.hexdigest()

    def table(self, name: str) -> dict[str, Any]:
        """The parsed content of one TOML file."""
        return self._toml[name]

    def explain(self, refused: Refused) -> Refusal:
        """The full text of a refusal. An unlisted rule is explained as such: a refusal is never lost."""
        rule = self.rules.get(refused.rule) or self.rules["rule.unlisted"]
        facts = _Facts(refused.facts)
        return Refusal(
            rule=refused.rule,
            article=rule.article,
            status=rule.status,
            reason=rule.reason.format_map(facts),
            remedy=rule.remedy.format_map(facts),
            reason_zh=rule.reason_zh.format_map(facts),
            remedy_zh=rule.remedy_zh.format_map(facts),
        )
