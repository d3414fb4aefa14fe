"""The claim of a verification in its attribute's own representation."""

from __future__ import annotations

import re
from datetime import date

from enclave_runner.contract.dataset import Column, ColumnType

ORDERED = (ColumnType.INTEGER, ColumnType.DECIMAL, ColumnType.DATE)


def typed_claim(text: str, column: Column) -> int | str:
    """A claim as the column stores it: numbers in units of 10^-scale, dates in ISO form; ValueError when it is none."""
    if column.type is ColumnType.INTEGER or column.type is ColumnType.DECIMAL:
        match = re.fullmatch(r"([+-]?)([0-9]{1,15})(?:\.([0-9]{1,6}))?", text)
        if match is None or len(match[3] or "") > column.scale:
            raise ValueError("not a number of this column")
        scaled = int(match[2] + (match[3] or "").ljust(column.scale, "0"))
        if scaled >= 1 << 63:
            raise ValueError("outside 64 bits")
        return -scaled if match[1] == "-" else scaled
    if column.type is ColumnType.DATE:
        return date.fromisoformat(text).isoformat()
    if column.type is ColumnType.BOOLEAN and text not in ("true", "false"):
        raise ValueError("not a truth value")
    if len(text) > 1000 or "\0" in text:
        raise ValueError("too long")
    return text
