"""The two ways of not succeeding.

YuneiError
├── Refused   a rule said no: rule id, article, reason, and what would make it pass
└── Failed    a fault: an opaque id, and no data in the text
"""

from __future__ import annotations

import secrets


class YuneiError(Exception):
    """Base of every error that may be shown to a caller."""


class Refused(YuneiError):
    """A rule said no. `facts` are public numbers and names that fill the rule's text; never raw values."""

    def __init__(self, rule: str, **facts: str | int) -> None:
        self.rule = rule
        self.facts: dict[str, str] = {name: str(value) for name, value in facts.items()}
        details = ", ".join(f"{name}={value}" for name, value in self.facts.items())
        super().__init__(f"refused by {rule}" + (f" ({details})" if details else ""))


class Failed(YuneiError):
    """Something broke. The code names the stage, the fault id finds the entry in the operator-invisible log."""

    def __init__(self, code: str, fault: str | None = None) -> None:
        self.code = code
        self.fault = fault or new_fault_id()
        super().__init__(f"failed at {code}, fault {self.fault}")


def new_fault_id() -> str:
    """An opaque id: random, so that it carries nothing about the fault."""
    return f"fault-{secrets.token_hex(6)}"
