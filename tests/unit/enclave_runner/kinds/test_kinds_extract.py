"""The extract: granted columns, numbers in place of people, exact counts and norms, and no byte of anything else."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from enclave_runner.contract.dataset import ColumnType, DatasetSpec, KeyKind
from enclave_runner.kinds import extract
from enclave_runner.kinds.extract import ForeignColumnError
from enclave_runner.kinds.tasks import Extraction, Part
from enclave_runner.plan.scalar import SAFE
from tests.support.bound_plans import DIVISIONS
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
HOMES = changed(EVENTS, dataset_id="homes", unique=True, rows_per_entity=1)
NUMBER = 8_877_665_544_332_211
# As DuckDB writes numbers in tables and in its metadata, where statistics and constants stand.
NUMBERS = (NUMBER.to_bytes(8, "little"), bytes(b | 0x80 for b in (NUMBER >> 7 * n & 0x7F for n in range(7))))
Rows = list[tuple[object, ...]]


def rows_of(counts: dict[str, int]) -> Rows:
    return [
        (holder, number, f"canary-{holder}-{number}", NUMBER)
        for holder, count in counts.items()
        for number in range(count)
    ]


def part(rows: Rows, columns: tuple[str, ...] = ("amount",), spec: DatasetSpec = EVENTS, **asked: object) -> Part:
    return Part(spec=spec, rows=len(rows), columns=columns, **asked)  # type: ignore[arg-type]


def single(rows: Rows, columns: tuple[str, ...] = ("amount",), subject: str | None = None, **asked: object) -> Rows:
    """The rows of an extract of one part."""
    with extracted(Extraction(parts=(part(rows, columns, **asked),), subject=subject), rows) as file:  # type: ignore[arg-type]
        return read_extract(file)


def test_nothing_that_is_not_granted_is_in_the_bytes() -> None:
    rows = rows_of({"holder-one": 4, "holder-two": 1})
    order = Extraction(parts=(part(rows, unit=True, counted=True, norm='abs(t0."amount")'),), spread=True)
    with extracted(order, rows) as file:
        content = os.pread(file, 1 << 20, 0)
        kept = read_extract(file)
    assert len(kept) == 5
    assert b"amount" in content
    for canary in (b"secret", b"canary", b"holder", b"note", *NUMBERS):
        assert canary not in content


def test_the_control_finds_the_same_canaries_when_they_are_granted() -> None:
    rows = rows_of({"holder-one": 1})
    order = Extraction(parts=(part(rows, ("holder", "secret_note", "secret_number")),))
    with extracted(order, rows) as file:
        content = os.pread(file, 1 << 20, 0)
    for canary in (b"secret", b"canary", b"holder"):
        assert canary in content
    assert any(number in content for number in NUMBERS)


def test_a_subject_is_compared_as_text_whatever_the_type_of_the_key() -> None:
    """`01` is not the person `1`: nothing was ever agreed or asked under that name."""
    spec = changed(EVENTS, columns=(column("holder", ColumnType.INTEGER), *EVENTS.columns[1:]))
    rows: Rows = [(1, 7, "a", 1), (10, 8, "b", 2)]
    assert single(rows, spec=spec, subject="1") == [(7,)]
    for other in ("01", " 1", "1 ", "+1", "1e0", "1.0", "0x1", "１", "", "1 OR 1=1", "1' OR '1'='1"):
        assert single(rows, spec=spec, subject=other) == []


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 12))
@settings(max_examples=15, deadline=None)
def test_rows_are_counted_exactly_or_shown_as_one_where_no_clip_asks(counts: list[int], above: int) -> None:
    people = {f"p{number}": count for number, count in enumerate(counts)}
    rows = rows_of(people)
    every = [(holder, count) for holder, count in people.items() for _ in range(count)]
    assert sorted(single(rows, ("holder",), counted=True)) == sorted(every)
    shown = [(holder, count if count > above else 1) for holder, count in every]
    assert sorted(single(rows, ("holder",), counted=True, above=above)) == sorted(shown)


def test_a_condition_holds_for_what_is_counted_measured_and_kept() -> None:
    rows = rows_of({"a": 4, "b": 1})
    kept = single(rows, ("holder", "amount"), counted=True, norm='abs(t0."amount")', condition='t0."amount" >= 2')
    assert sorted(kept) == [("a", 2, 2, 5), ("a", 3, 2, 5)]


def test_a_norm_is_the_sum_over_the_units_rows_and_what_leaves_62_bits_is_left_out() -> None:
    rows = rows_of({"a": 3, "b": 2})
    measured = single(rows, ("holder", "amount"), norm='abs(t0."amount")')
    assert sorted(measured) == [("a", 0, 3), ("a", 1, 3), ("a", 2, 3), ("b", 0, 1), ("b", 1, 1)]
    huge = f"CAST({SAFE // 2} AS BIGINT)"
    assert single(rows, ("holder",), norm=huge) == []
    assert sorted(single(rows, ("holder",), norm=f"{huge} - CAST(1 AS BIGINT)")) == [("b", SAFE - 2)] * 2


def test_units_have_one_number_in_all_tables_and_the_root_decides_which_are_there() -> None:
    events, homes = rows_of({"a": 2, "b": 1}), rows_of({"c": 1, "b": 1, "a": 1})
    order = Extraction(
        parts=(part(homes, ("holder",), HOMES, unit=True), part(events, ("holder",), unit=True)),
        root=1,
    )
    with extracted(order, homes, events) as file:
        first, second = read_extract(file, "stored0"), read_extract(file, "stored1")
    assert {name for name, _ in first} == {"a", "b"}  # c has no event: nothing could join it
    assert Counter(name for name, _ in second) == {"a": 2, "b": 1}
    assert {*first} == {*second}
    assert len({number for _, number in first}) == 2


def test_the_spread_has_one_row_for_each_unit_of_the_root() -> None:
    rows = rows_of({"a": 3, "b": 1})
    order = Extraction(parts=(part(rows, counted=True, norm='abs(t0."amount")'),), spread=True)
    with extracted(order, rows) as file:
        assert sorted(read_extract(file, "spread")) == [(1, 0), (3, 3)]


@pytest.mark.parametrize("partitions", [2, 3, 7])
def test_partitions_split_the_units_and_keep_public_rows_whole(partitions: int) -> None:
    events, homes = rows_of({f"p{n}": 1 + n % 4 for n in range(12)}), rows_of({f"p{n}": 1 for n in range(12)})
    public: Rows = [("d0", "X"), ("d1", "Y")]
    order = Extraction(
        parts=(
            part(events, ("holder",), counted=True, unit=True),
            part(homes, ("holder",), HOMES, unit=True),
            part(public, ("code",), DIVISIONS),
        ),
        partitions=partitions,
    )
    seen: list[Rows] = []
    for number in range(partitions):
        with extracted(replace(order, partition=number), events, homes, public) as file:
            rows = read_extract(file)
            assert {row[0] for row in rows} == {row[0] for row in read_extract(file, "stored1")}
            assert sorted(read_extract(file, "stored2")) == [("d0",), ("d1",)]
            seen.append(rows)
    people = [{row[0] for row in rows} for rows in seen]
    assert sum(len(found) for found in people) == len(set().union(*people)) == 12
    with extracted(replace(order, partitions=1), events, homes, public) as file:
        whole = read_extract(file)
    assert sorted((row[0], row[2]) for rows in seen for row in rows) == sorted((row[0], row[2]) for row in whole)


@pytest.mark.parametrize("subject", ["holder-one", "holder' OR '1'='1", "", "holder-none"])
def test_only_the_subjects_rows_go_in(subject: str) -> None:
    people = {"holder-one": 2, "holder-two": 3}
    rows = rows_of(people)
    order = Extraction(parts=(part(rows, ("secret_note",)),), subject=subject)
    with extracted(order, rows) as file:
        kept = read_extract(file)
        content = os.pread(file, 1 << 20, 0)
    assert len(kept) == people.get(subject, 0)
    assert b"canary-holder-two" not in content


def test_no_key_is_left_in_the_file_of_a_large_extract() -> None:
    """Buffers that held keys are used again for what is written: none of it may stay in between."""
    rows = rows_of({f"holder-{number:07d}": 1 + number % 5 for number in range(60_000)})
    order = Extraction(parts=(part(rows, unit=True, counted=True),), spread=True)
    with extracted(order, rows) as file:
        content = os.pread(file, os.fstat(file).st_size, 0)
    assert b"holder" not in content
    assert b"canary" not in content


def test_the_key_is_needed_only_where_it_is_worked_with() -> None:
    plain, public = part([]), part([], ("city",), DIVISIONS)
    for asked in ({"unit": True}, {"counted": True}, {"norm": "CAST(1 AS BIGINT)"}):
        keyed = part([], **asked)
        assert Extraction(parts=(keyed,)).needed(keyed) == ("holder", "amount")
    assert Extraction(parts=(plain,)).needed(plain) == ("amount",)
    assert Extraction(parts=(plain,), subject="someone").needed(plain) == ("holder", "amount")
    split = Extraction(parts=(plain, public), partitions=2)
    assert (split.needed(plain), split.needed(public)) == (("holder", "amount"), ("city",))


def test_columns_that_do_not_belong_together_are_no_extract() -> None:
    rows = rows_of({"a": 3})
    order = Extraction(parts=(part(rows, counted=True),))
    for names, count in ((("holder", "secret_number"), 3), (("amount", "holder"), 3), (("holder", "amount"), 2)):
        with column_files(EVENTS, rows_of({"a": count}), names) as files, pytest.raises(ForeignColumnError):
            build(order, files).__enter__()


def test_a_table_of_which_no_column_is_asked_still_has_its_rows() -> None:
    assert len(single(rows_of({"a": 2, "b": 1}), ())) == 3


def test_an_extract_longer_than_a_piece_is_moved_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "PIECE", 100_003)
    assert len(single(rows_of({"a": 3, "b": 700}), ("secret_note",))) == 703
