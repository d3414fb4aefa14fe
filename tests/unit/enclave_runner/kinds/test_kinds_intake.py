"""Import: every row rule, every malformed file; a rejection names row and rule, and nothing quotes a value."""

from __future__ import annotations

import gzip

import pytest

from enclave_runner.contract.dataset import ColumnType, DatasetSpec, KeyKind
from enclave_runner.contract.wire import FileFormat
from enclave_runner.kinds.intake import LISTED
from enclave_runner.kinds.tasks import Declined, IntakeAnswer
from tests.support.enclave_home import PEOPLE, changed, column
from tests.support.worker_files import parquet_of, take_in

HEAD = "id,sex,age,income,city,joined,active\n"
GOOD = "p1,男,30,12.50,东城,2020-02-29,true\n"
LOOSE = changed(PEOPLE, unique=False, rows_per_entity=3)
NARROW = DatasetSpec(
    dataset_id="narrow",
    columns=(column("id", ColumnType.TEXT), column("note", ColumnType.TEXT, nullable=True)),
    entity_set="resident",
    entity_column="id",
    key_kind=KeyKind.OPAQUE,
    population_cap=100,
    rows_per_entity=5,
)
NUMBERED = DatasetSpec(
    dataset_id="numbered",
    columns=(column("note", ColumnType.TEXT, nullable=True), column("value", ColumnType.INTEGER, nullable=True)),
    entity_set="resident",
    entity_column="row_id",
    key_kind=KeyKind.ROW,
    population_cap=100,
    unique=True,
    rows_per_entity=1,
)


def marks_of(spec: DatasetSpec, text: str | bytes) -> list[tuple[int, str, str]]:
    return take_in(spec, text).marks


def declined(spec: DatasetSpec, data: str | bytes, kind: FileFormat = FileFormat.CSV, header: bool = True) -> Declined:
    answer = take_in(spec, data, kind, header).answer
    assert isinstance(answer, Declined)
    return answer


def test_a_good_row_is_stored_typed() -> None:
    taken = take_in(PEOPLE, HEAD + GOOD)
    assert taken.marks == []
    ((key, sex, age, income, city, joined, active),) = taken.rows
    assert (key, sex, age, income, city, str(joined), active) == ("p1", "男", 30, 1250, "东城", "2020-02-29", True)


def test_empty_cells_are_null_where_that_is_allowed() -> None:
    assert take_in(PEOPLE, HEAD + "p1,,,,,,\n").rows == [("p1", None, None, None, None, None, None)]


@pytest.mark.parametrize(
    ("cell", "column_name", "rule"),
    [
        (",男,30,1,城,2020-01-01,true", "id", "row.missing"),
        ("p,男,1.5,1,城,2020-01-01,true", "age", "row.type"),
        ("p,男,1e1,1,城,2020-01-01,true", "age", "row.type"),
        ("p,男,0x1F,1,城,2020-01-01,true", "age", "row.type"),
        ("p,男,１２,1,城,2020-01-01,true", "age", "row.type"),
        ("p,男, 30,1,城,2020-01-01,true", "age", "row.type"),
        ("p,男,99999999999999999999,1,城,2020-01-01,true", "age", "row.type"),
        ("p,男,NaN,1,城,2020-01-01,true", "age", "row.type"),
        ("p,男,121,1,城,2020-01-01,true", "age", "row.bounds"),
        ("p,男,-1,1,城,2020-01-01,true", "age", "row.bounds"),
        ("p,男,30,1.234,城,2020-01-01,true", "income", "row.type"),
        ("p,男,30,1.,城,2020-01-01,true", "income", "row.type"),
        ("p,男,30,.5,城,2020-01-01,true", "income", "row.type"),
        ("p,男,30,inf,城,2020-01-01,true", "income", "row.type"),
        ("p,男,30,1000.01,城,2020-01-01,true", "income", "row.bounds"),
        ("p,X,30,1,城,2020-01-01,true", "sex", "row.domain"),
        ("p,男 ,30,1,城,2020-01-01,true", "sex", "row.domain"),
        ("p,男,30,1,城,2023-02-30,true", "joined", "row.type"),
        ("p,男,30,1,城,2023-13-01,true", "joined", "row.type"),
        ("p,男,30,1,城,2023-1-1,true", "joined", "row.type"),
        ("p,男,30,1,城,20230101,true", "joined", "row.type"),
        ("p,男,30,1,城,2023-01-01 00:00:00,true", "joined", "row.type"),
        ("p,男,30,1,城,infinity,true", "joined", "row.type"),
        ("p,男,30,1,城,2020-01-01,yes", "active", "row.type"),
        (f"p,男,30,1,{'城' * 10_001},2020-01-01,true", "city", "row.type"),
    ],
)
def test_each_row_rule_names_row_and_column(cell: str, column_name: str, rule: str) -> None:
    taken = take_in(PEOPLE, f"{HEAD}{GOOD}{cell}\n")
    assert taken.marks == [(2, column_name, rule)]
    assert len(taken.rows) == 1


@pytest.mark.parametrize(
    ("text", "stored"),
    [("+7", 7), ("007", 7), ("-0", 0), ("120", 120), ("0", 0)],
)
def test_integers_as_written(text: str, stored: int) -> None:
    assert take_in(PEOPLE, f"{HEAD}p,,{text},,,,\n").rows[0][2] == stored


@pytest.mark.parametrize(("text", "stored"), [("1", 100), ("1.5", 150), ("1.05", 105), ("0.01", 1), ("-0.00", 0)])
def test_decimals_are_exact_in_their_unit(text: str, stored: int) -> None:
    assert take_in(PEOPLE, f"{HEAD}p,,,{text},,,\n").rows[0][3] == stored


def test_the_largest_decimal_of_the_finest_scale_is_exact() -> None:
    fine = changed(
        NARROW,
        columns=(column("id", ColumnType.TEXT), column("x", ColumnType.DECIMAL, scale=6)),
    )
    rows = take_in(fine, "id,x\na,999999999999.999999\nb,-999999999999.999999\n").rows
    assert [row[1] for row in rows] == [999_999_999_999_999_999, -999_999_999_999_999_999]


def test_of_rows_with_one_key_the_first_is_kept() -> None:
    spec = changed(PEOPLE, max_rejected_permille=500)
    taken = take_in(spec, HEAD + "a,,1,,,,\nb,,2,,,,\na,,3,,,,\na,,4,,,,\n")
    assert [row[2] for row in taken.rows] == [1, 2]
    assert taken.marks == [(3, "", "row.duplicate"), (4, "", "row.duplicate")]


def test_a_broken_row_does_not_displace_a_good_one_of_its_key() -> None:
    taken = take_in(PEOPLE, HEAD + "a,,999,,,,\na,,3,,,,\n")
    assert [row[2] for row in taken.rows] == [3]
    assert taken.marks == [(1, "age", "row.bounds")]


def test_many_rows_of_an_entity_are_kept_where_the_key_is_not_unique() -> None:
    taken = take_in(LOOSE, HEAD + "a,,1,,,,\na,,1,,,,\n")
    assert len(taken.rows) == 2
    assert isinstance(taken.answer, IntakeAnswer)
    assert (taken.answer.accepted, taken.answer.entities) == (2, 1)


def test_generated_keys_number_the_rows() -> None:
    taken = take_in(NUMBERED, "note,value\na,1\nb,x\nc,3\n")
    assert taken.rows == [("a", 1, 1), ("c", 3, 3)]
    assert taken.marks == [(2, "value", "row.type")]


def test_columns_may_stand_in_any_order() -> None:
    assert take_in(NARROW, "note,id\nn,k\n").rows == [("k", "n")]


def test_quoted_newlines_commas_and_quotes_are_content() -> None:
    assert take_in(NARROW, 'id,note\nk,"a, ""b""\nc"\n').rows == [("k", 'a, "b"\nc')]


def test_a_rejection_after_a_quoted_newline_still_has_the_number_of_its_row() -> None:
    text = 'id,note\nk,"line\nline\nline"\nk,good,extra\nk,good\n,bad\n'
    taken = take_in(NARROW, text)
    assert taken.marks == [(2, "", "row.malformed"), (4, "id", "row.missing")]
    assert len(taken.rows) == 2


@pytest.mark.parametrize("text", ["k,a,b\n", "k\n", 'k,"a"b\n'])
def test_a_row_that_is_no_csv_row_is_rejected_by_its_number(text: str) -> None:
    taken = take_in(NARROW, f"id,note\nk,1\n{text}k,2\n")
    assert taken.marks == [(2, "", "row.malformed")]
    assert [row[1] for row in taken.rows] == ["1", "2"]


def test_line_endings_of_windows_and_a_missing_last_one() -> None:
    assert take_in(NARROW, "id,note\r\na,1\r\nb,2").rows == [("a", "1"), ("b", "2")]


def test_a_byte_order_mark_is_no_part_of_the_first_name_or_value() -> None:
    assert take_in(NARROW, b"\xef\xbb\xbfid,note\na,1\n").rows == [("a", "1")]
    assert take_in(NARROW, b"\xef\xbb\xbfa,1\n", header=False).rows == [("a", "1")]


def test_a_file_without_header_takes_the_declared_order() -> None:
    assert take_in(NARROW, "a,1\nb,2\n", header=False).rows == [("a", "1"), ("b", "2")]


def test_rejections_without_header_are_numbered_from_the_first_row() -> None:
    assert take_in(NARROW, "a,1,9\n,2\n", header=False).marks == [(1, "", "row.malformed"), (2, "id", "row.missing")]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("id\nk\n", "note"),
        ("id,note,more\nk,1,2\n", "#3"),
        ("id,note,note\nk,1,2\n", "#3"),
        ("ID,note\nk,1\n", "#1"),
        ("", "id"),
        ("\n", "id"),
    ],
)
def test_a_wrong_header_is_refused_by_position_or_declared_name(text: str, what: str) -> None:
    answer = declined(NARROW, text)
    assert (answer.rule, answer.facts) == ("import.header", {"column": what})


def test_a_header_that_is_a_row_of_data_is_not_echoed() -> None:
    answer = declined(PEOPLE, "350102199003078888,男,30,1,城,2020-01-01,true\n")
    assert "350102199003078888" not in f"{answer.rule}{answer.facts}"


def test_a_gzip_file_is_read_and_a_cut_one_refused() -> None:
    packed = gzip.compress(b"id,note\na,1\nb,2\n")
    assert take_in(NARROW, packed).rows == [("a", "1"), ("b", "2")]
    many = gzip.compress(b"id,note\n" + b"".join(b"k%d,%d\n" % (n, n * n) for n in range(5000)))
    assert declined(NARROW, many[: len(many) // 2]).rule == "import.format"
    assert declined(NARROW, b"\x1f\x8bnot gzip at all").rule == "import.format"


def test_bytes_of_another_encoding_reject_the_row_without_quoting_it() -> None:
    taken = take_in(NARROW, b"id,note\na,1\nb," + "张三".encode("gbk") + b"\nc,3\n")
    assert taken.marks == [(2, "", "row.malformed")]
    assert [row[0] for row in taken.rows] == ["a", "c"]


def test_a_nul_byte_neither_splits_nor_ends_a_value() -> None:
    assert take_in(NARROW, b"id,note\na,x\x00y\nb,2\n").rows == [("a", "x\x00y"), ("b", "2")]


@pytest.mark.parametrize("value", ['"open', '"open' + "x" * 20_000, '"a\nb"c'])
def test_an_open_quote_that_swallows_other_rows_refuses_the_file(value: str) -> None:
    """One rejection would stand for any number of lost rows: nothing is ever half imported."""
    rows = "".join(f"k{number},{number}\n" for number in range(1000))
    assert declined(NARROW, f"id,note\n{rows}a,{value}\n{rows}").rule == "import.format"


def test_an_open_quote_in_the_last_row_is_that_rows_fault() -> None:
    taken = take_in(NARROW, 'id,note\na,1\nb,"open\n')
    assert (taken.marks, taken.rows) == ([(2, "", "row.malformed")], [("a", "1")])


def test_a_line_over_a_mebibyte_is_one_malformed_row() -> None:
    taken = take_in(NARROW, "id,note\na," + "x" * 2_000_000 + "\nb,2\n")
    assert (taken.marks, taken.rows) == ([(1, "", "row.malformed")], [("b", "2")])


def test_the_list_of_rejections_is_capped_and_their_count_is_not() -> None:
    taken = take_in(NARROW, "id,note\n" + ",x\n" * (LISTED + 500))
    assert isinstance(taken.answer, IntakeAnswer)
    assert taken.answer.rejected == LISTED + 500
    assert len(taken.answer.rejections) == LISTED


def test_a_header_alone_is_an_empty_import() -> None:
    answer = take_in(NARROW, "id,note\n").answer
    assert isinstance(answer, IntakeAnswer)
    assert (answer.accepted, answer.rejected, answer.entities) == (0, 0, 0)


def test_parquet_is_checked_by_the_same_rules() -> None:
    data = parquet_of(
        "SELECT * FROM (VALUES ('a', '男', 30::SMALLINT, 12.5::DECIMAL(9,2), NULL, DATE '2020-01-01', true), "
        "('b', 'X', 200, NULL, NULL, NULL, NULL)) AS t(id, sex, age, income, city, joined, active)"
    )
    taken = take_in(PEOPLE, data, FileFormat.PARQUET)
    assert taken.marks == [(2, "sex", "row.domain")]
    assert taken.rows[0][:4] == ("a", "男", 30, 1250)


def test_parquet_that_is_none_or_has_other_columns_is_refused() -> None:
    assert declined(NARROW, b"id,note\na,1\n", FileFormat.PARQUET).rule == "import.format"
    assert declined(NARROW, b"", FileFormat.PARQUET).rule == "import.format"
    wrong = declined(NARROW, parquet_of("SELECT 'a' AS id, 'x' AS secret"), FileFormat.PARQUET)
    assert (wrong.rule, wrong.facts) == ("import.header", {"column": "#2"})
    good = parquet_of("SELECT 'a' AS id, repeat('x', 1000) || range AS note FROM range(5000)")
    damaged = good[: len(good) // 3] + bytes(64) + good[len(good) // 3 + 64 :]
    assert declined(NARROW, damaged, FileFormat.PARQUET).rule == "import.format"
    assert declined(NARROW, good[:-100], FileFormat.PARQUET).rule == "import.format"


def test_row_numbers_hold_over_many_blocks() -> None:
    rows = [f"k{n},{n}" for n in range(1, 200_001)]
    for number in (1, 65_537, 199_999):
        rows[number - 1] = f",{number}"
    rows[150_000 - 1] = "k,too,many"
    assert [mark[0] for mark in marks_of(NARROW, "id,note\n" + "\n".join(rows) + "\n")] == [1, 65_537, 150_000, 199_999]
