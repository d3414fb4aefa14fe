"""State machines as tables: every legal move is written once, checked here, and drawn into the docs from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from enclave_runner.contract.errors import Refused

S = TypeVar("S", bound=Enum)


@dataclass(frozen=True)
class Lifecycle(Generic[S]):
    """A total table: every state stands as a key, final states with no arrows."""

    name: str
    initial: S
    arrows: Mapping[S, frozenset[S]]

    def __post_init__(self) -> None:
        if set(self.arrows) != set(type(self.initial)):
            raise ValueError(f"{self.name}: the table does not name every state")

    def check(self, current: S, target: S) -> S:
        """Return `target`.

        Raises:
            Refused: `lifecycle.illegal` when there is no such arrow.
        """
        if target not in self.arrows[current]:
            raise Refused("lifecycle.illegal", what=self.name, current=current.value, target=target.value)
        return target

    def mermaid(self) -> str:
        """The diagram of docs/reference/lifecycles.md."""
        lines = ["stateDiagram-v2", f"    [*] --> {_label(self.initial)}"]
        for state, targets in self.arrows.items():
            lines += [
                f"    {_label(state)} --> {_label(target)}" for target in sorted(targets, key=lambda t: str(t.value))
            ]
            if not targets:
                lines.append(f"    {_label(state)} --> [*]")
        return "\n".join(lines)


def _label(state: Enum) -> str:
    return str(state.value).replace("-", "_")
