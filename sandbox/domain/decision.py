"""The outcome of rules: allowed, or refused by a rule with facts. Pure values; `enforce` turns a no into an error."""

from __future__ import annotations

from dataclasses import dataclass, field

from enclave_runner.contract.errors import Refused


@dataclass(frozen=True)
class Decision:
    """Allowed, or refused by `rule`. `facts` fill the rule's text."""

    allowed: bool
    rule: str | None = None
    facts: dict[str, str | int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.allowed == (self.rule is not None):
            raise ValueError("a refusal names its rule, an admission does not")

    def enforce(self) -> None:
        """Raise Refused unless allowed."""
        if self.rule is not None:
            raise Refused(self.rule, **self.facts)


ALLOWED = Decision(True)


def refuse(rule: str, **facts: str | int) -> Decision:
    """A refusal by that rule."""
    return Decision(False, rule, facts)
