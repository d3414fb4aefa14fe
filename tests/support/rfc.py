"""Published test vectors, as they stand in tests/data/rfc."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "data" / "rfc"


def vectors(name: str) -> dict[str, Any]:
    """The document of that RFC; all values are hex, unless they are messages."""
    document: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return document
