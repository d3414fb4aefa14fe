"""A column file under any cutting of its bytes, and under any harm: whole, or damaged and said so."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_runner.contract.errors import Failed
from enclave_runner.rawdata.column import CHUNK, ColumnPlace, ColumnWriter, read_column
from enclave_runner.rawdata.suite import Suite

POOL = os.urandom(3 * CHUNK)
suites = st.sampled_from(Suite)
# Sizes around the edges of chunks, where mistakes are.
sizes = st.one_of(st.integers(0, 64), st.builds(lambda n, d: n * CHUNK + d, st.integers(1, 2), st.integers(-17, 17)))


def place_in(suite: Suite) -> tuple[ColumnPlace, bytes]:
    return ColumnPlace(suite=suite, dataset_id="people", column="age", file_id="00" * 16), b"k" * suite.key_bytes


def read(path: Path, suite: Suite) -> bytes:
    with os.fdopen(read_column(path, *place_in(suite)), "rb") as file:
        file.seek(0)
        return file.read()


@given(suites, st.lists(st.integers(0, CHUNK + 99), max_size=4), sizes)
@settings(max_examples=40, deadline=None)
def test_any_cutting_comes_back(suite: Suite, cuts: list[int], size: int) -> None:
    ends = sorted({min(sum(cuts[: number + 1]), size) for number in range(len(cuts))} | {size})
    with tempfile.TemporaryDirectory() as folder:
        writer = ColumnWriter(Path(folder) / "c", *place_in(suite))
        for start, end in zip([0, *ends], ends, strict=False):
            writer.write(POOL[start:end])
        writer.finish()
        assert read(Path(folder) / "c", suite) == POOL[:size]


@given(suites, sizes, st.data())
@settings(max_examples=80, deadline=None)
def test_any_harm_is_damage(suite: Suite, size: int, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c"
        writer = ColumnWriter(path, *place_in(suite))
        writer.write(POOL[:size])
        writer.finish()
        whole = path.read_bytes()
        at = data.draw(st.integers(0, len(whole) - 1))
        length = data.draw(st.integers(0, min(40, len(whole) - at)))
        harmed = whole[:at] + data.draw(st.binary(max_size=40)) + whole[at + length :]
        path.write_bytes(harmed)
        if harmed == whole:
            assert read(path, suite) == POOL[:size]
            return
        try:
            read(path, suite)
        except Failed as failed:
            assert failed.code == "rawdata.damaged"
        else:
            raise AssertionError("harm was not noticed")
