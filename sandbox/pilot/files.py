"""CSV files that are either whole or absent."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from sandbox.pilot.columns import Rows


class TableFile(AbstractContextManager["TableFile"]):
    """One table being written; it gets its name when it is complete, and leaves nothing behind when it is not."""

    def __init__(self, folder: Path, table: str) -> None:
        self.table = table
        self.path = folder / f"{table}.csv"
        self.rows = 0
        self.defects: Counter[str] = Counter()
        self._columns: list[str] | None = None
        self._part = folder / f"{table}.csv.part"
        self._file = self._part.open("w", encoding="utf-8", newline="")

    def write(self, rows: Rows, defects: dict[str, int]) -> None:
        """Append rows; the first call writes the header, and later ones must bring the same columns."""
        columns = list(rows)
        if self._columns is None:
            self._columns = columns
            self._file.write(",".join(columns) + "\n")
        if columns != self._columns:
            raise ValueError(f"{self.table}: other columns than before")
        # No value of the pilot city holds a comma, a quote or a line break.
        lines = list(map(",".join, zip(*(values.tolist() for values in rows.values()), strict=True)))
        self._file.writelines(line + "\n" for line in lines)
        self.rows += len(lines)
        self.defects.update(defects)

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self._file.close()
        if kind is None:
            self._part.replace(self.path)
        else:
            self._part.unlink()
