"""The four numbers that the demo's model scores, in the order of its input."""

from __future__ import annotations

from typing import Final

FEATURES: Final = ("age", "education_num", "capital_gain", "hours_per_week")
