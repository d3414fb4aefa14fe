"""How many escape attempts were made with a control that went through, over all modules of the suite."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """By family; and what did not count, with the reason."""

    counted: Counter[str] = field(default_factory=Counter)
    uncounted: list[str] = field(default_factory=list)

    def count(self, family: str) -> None:
        """One more attempt that was blocked and whose control went through."""
        self.counted[family] += 1


TALLY = Tally()
