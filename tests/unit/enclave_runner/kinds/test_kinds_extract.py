"""The extract: granted columns, exact integer weights, and no byte of anything else."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_runner.contract.dataset import ColumnType, DatasetSpec, KeyKind
from enclave_runner.kinds import extract
from enclave_runner.kinds.extract import ForeignColumnError
from enclave_runner.kinds.tasks import Extraction
from enclave_runner.plan.bind import WEIGHT_SCALE
from tests.support.enclave_home import changed, column
from tests.support.worker_files import build, column_files, extracted, read_extract

EVENTS = DatasetSpec(
    dataset_id="events",
    columns=(
        column("holder", ColumnType.TEXT, grade=3),
        column("amount", ColumnType.INTEGER, bounds=(-10, 10)),
        column("secret_note", ColumnType.TEXT, nullable=True),
        column("secret_number", ColumnType.INTEGER, nullable=True),
    ),
    entity_set="resident",
    entity_column="holder",
    key_kind=KeyKind.OPAQUE,
    population_cap=1000,
    rows_per_entity=3,
)


NUMBER = 8_877_665_544_332_211
# As DuckDB writes numbers in tables and in its metadata, where statistics and constants stand.
NUMBERS = (NUMBER.to_bytes(8, "little"), bytes(b | 0x80 for b in (NUMBER >> 7 * n & 0x7F for n in range(7))))


def rows_of(counts: dict[str, int]) -> list[tuple[object, ...]]:
    return [
        (holder, number, f"canary-{holder}-{number}", NUMBER)
        for holder, count in counts.items()
        for number in range(count)
    ]


def test_nothing_that_is_not_granted_is_in_the_bytes() -> None:
    with extracted(EVENTS, rows_of({"holder-one": 4, "holder-two": 1}), ("amount",), WEIGHT_SCALE) as file:
        content = os.pread(file, 1 << 20, 0)
        rows = read_extract(file)
    assert len(rows) == 5
    assert b"amount" in content
    for canary in (b"secret", b"canary", b"holder", b"note", *NUMBERS):
        assert canary not in content


def test_the_control_finds_the_same_canaries_when_they_are_granted() -> None:
    columns = ("holder", "secret_note", "secret_number")
    with extracted(EVENTS, rows_of({"holder-one": 1}), columns, WEIGHT_SCALE) as file:
        content = os.pread(file, 1 << 20, 0)
    for canary in (b"secret", b"canary", b"holder"):
        assert canary in content
    assert any(number in content for number in NUMBERS)


def test_a_subject_is_compared_as_text_whatever_the_type_of_the_key() -> None:
    """`01` is not the person `1`: nothing was ever agreed or asked under that name."""
    spec = changed(EVENTS, columns=(column("holder", ColumnType.INTEGER), *EVENTS.columns[1:]))
    rows = [(1, 7, "a", 1), (10, 8, "b", 2)]
    with extracted(spec, rows, ("amount",), 1, subject="1") as file:
        assert read_extract(file) == [(7,)]
    for other in ("01", " 1", "1 ", "+1", "1e0", "1.0", "0x1", "１", "", "1 OR 1=1", "1' OR '1'='1"):
        with extracted(spec, rows, ("amount",), 1, subject=other) as file:
            assert read_extract(file) == []


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_weights_are_floor_of_scale_times_min_1_bound_over_rows(counts: list[int], bound: int) -> None:
    spec = changed(EVENTS, rows_per_entity=bound)
    people = {f"p{number}": count for number, count in enumerate(counts)}
    with extracted(spec, rows_of(people), ("holder",), WEIGHT_SCALE) as file:
        weights = read_extract(file)
    expected = [
        (holder, min(WEIGHT_SCALE, WEIGHT_SCALE * bound // count))
        for holder, count in people.items()
        for _ in range(count)
    ]
    assert sorted(weights) == sorted(expected)
    for holder in people:
        assert sum(int(str(weight)) for name, weight in weights if name == holder) <= bound * WEIGHT_SCALE


def test_the_largest_bound_does_not_overflow() -> None:
    spec = changed(EVENTS, rows_per_entity=10**6)
    with extracted(spec, rows_of({"a": 2}), (), WEIGHT_SCALE) as file:
        assert read_extract(file) == [(WEIGHT_SCALE,), (WEIGHT_SCALE,)]


def test_a_unique_entity_has_the_plain_weight() -> None:
    spec = changed(EVENTS, unique=True, rows_per_entity=1)
    with extracted(spec, rows_of({"a": 1, "b": 1}), (), 1) as file:
        assert read_extract(file) == [(1,), (1,)]


@pytest.mark.parametrize("subject", ["holder-one", "holder' OR '1'='1", "", "holder-none"])
def test_only_the_subjects_rows_go_in(subject: str) -> None:
    people = {"holder-one": 2, "holder-two": 3}
    with extracted(EVENTS, rows_of(people), ("secret_note",), 1, subject=subject) as file:
        rows = read_extract(file)
        content = os.pread(file, 1 << 20, 0)
    assert len(rows) == people.get(subject, 0)
    assert b"canary-holder-two" not in content


def test_no_key_is_left_in_the_file_of_a_large_weighted_extract() -> None:
    """Buffers that held keys are used again for what is written: none of it may stay in between."""
    people = {f"holder-{number:07d}": 1 + number % 5 for number in range(60_000)}
    with extracted(EVENTS, rows_of(people), ("amount",), WEIGHT_SCALE) as file:
        content = os.pread(file, os.fstat(file).st_size, 0)
    assert b"holder" not in content
    assert b"canary" not in content


def test_the_key_is_needed_only_where_it_is_worked_with() -> None:
    def needed(spec: DatasetSpec, subject: str | None = None) -> tuple[str, ...]:
        order = Extraction(
            spec=spec, rows=1, columns=("amount",), weight_scale=1, weighted=subject is None, subject=subject
        )
        return order.needed

    single = changed(EVENTS, unique=True, rows_per_entity=1)
    assert needed(EVENTS) == needed(single, "someone") == ("holder", "amount")
    assert needed(single) == ("amount",)


def test_columns_that_do_not_belong_together_are_no_extract() -> None:
    order = Extraction(spec=EVENTS, rows=3, columns=("amount",), weight_scale=1, weighted=True)
    for names, count in ((("holder", "secret_number"), 3), (("amount", "holder"), 3), (order.needed, 2)):
        with column_files(EVENTS, rows_of({"a": count}), names) as files, pytest.raises(ForeignColumnError):
            build(order, files).__enter__()


def test_an_extract_longer_than_a_piece_is_moved_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "PIECE", 100_003)
    with extracted(EVENTS, rows_of({"a": 3, "b": 700}), ("secret_note",), WEIGHT_SCALE) as file:
        assert len(read_extract(file)) == 703
