"""A table file is whole or absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sandbox.pilot.files import TableFile


def test_chunks_are_appended_under_one_header(tmp_path: Path) -> None:
    with TableFile(tmp_path, "t") as table:
        table.write({"a": np.array(["1"]), "b": np.array(["值"])}, {"row.key": 1})
        table.write({"a": np.array(["2", "3"]), "b": np.array(["", "y"])}, {"row.key": 2})
        assert not table.path.exists()
    assert table.path.read_text(encoding="utf-8") == "a,b\n1,值\n2,\n3,y\n"
    assert (table.rows, dict(table.defects)) == (3, {"row.key": 3})


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), TableFile(tmp_path, "t") as table:
        table.write({"a": np.array(["1"])}, {})
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_file_of_before(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("old")
    with pytest.raises(KeyboardInterrupt), TableFile(tmp_path, "t"):
        raise KeyboardInterrupt
    assert (tmp_path / "t.csv").read_text() == "old"


def test_other_columns_are_not_appended(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="other columns"), TableFile(tmp_path, "t") as table:
        table.write({"a": np.array(["1"])}, {})
        table.write({"b": np.array(["1"])}, {})


def test_columns_of_unequal_length_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shorter"), TableFile(tmp_path, "t") as table:
        table.write({"a": np.array(["1", "2"]), "b": np.array(["1"])}, {})
