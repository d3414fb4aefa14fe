from __future__ import annotations

import csv
import io
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.receipt import Clip, DPTable
from sandbox.cli.exports import chart_of, check_target, csv_of, inert, variances_of, write_file
from tests.support.released_tables import by_district, receipt, table


def read_back(release: DPTable) -> list[list[str]]:
    content = csv_of(release)
    assert content.startswith(b"\xef\xbb\xbf")
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def test_a_csv_file_has_every_value_beside_its_half_width() -> None:
    assert read_back(by_district()) == [
        ["district", "people", "people_half_width", "mean_income", "mean_income_half_width"],
        ["[north]", "40", "3.5", "1000.5", "12.25"],
        ["south", "-2", "3.5", "", ""],
        ["", "38", "3.5", "990.25", ""],
    ]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-cmd|' /C calc'!A0", "@SUM(1)", " =1", "＝1"])
def test_a_spreadsheet_computes_no_key_and_no_name(text: str) -> None:
    name, key = (row[0] for row in read_back(table((text,), {(text,): ("1", "1")})))
    assert name.startswith("'")
    assert key.startswith("'")


@pytest.mark.parametrize("text", ["\t=1", "\r=1", "\n=1"])
def test_nor_what_stands_behind_a_blank_that_nobody_sees(text: str) -> None:
    assert inert(text) == f"'{text}"
    assert read_back(table(("k",), {(text,): ("1", "1")}))[1][0] == "�=1"


def test_numbers_below_zero_stay_numbers_and_a_number_that_is_none_does_not() -> None:
    rows = read_back(table(("k",), {("a",): ("-2.50", "1"), ("b",): ("-2+cmd", "=1")}))
    assert [row[1:] for row in rows[1:]] == [["-2.50", "1"], ["'-2+cmd", "'=1"]]


@given(st.text())
def test_whatever_a_key_is_it_comes_back_and_is_no_formula(key: str) -> None:
    written = read_back(table(("k",), {(key,): ("1", "1")}))[1][0]
    assert not written.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r"))
    if key.isprintable() and not key.lstrip(" ").startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠")):
        assert written == key == inert(key)


def test_a_variance_is_read_back_from_the_half_width() -> None:
    gauss = table(("k",), {("a",): ("1", "1.959964"), ("b",): ("2", "3.919928"), ("c",): (None, None)})
    assert [cell if cell is None else float(cell) for (cell,) in variances_of(gauss)] == pytest.approx([1, 4, None])
    laplace = table(("k",), {("a",): ("1", "2.995732")}, noise="laplace")
    assert float(str(variances_of(laplace)[0][0])) == pytest.approx(2)


@given(st.decimals(0, 10**15, places=6))
def test_a_variance_is_plain_decimal_text(width: Decimal) -> None:
    ((text,),) = variances_of(table(("k",), {("a",): ("1", str(width))}))
    assert text is not None
    assert float(text) == pytest.approx((float(width) / 1.959964) ** 2, rel=1e-6)
    assert text.lower() == text


def test_a_chart_names_loss_clip_and_receipt() -> None:
    root = ElementTree.fromstring(chart_of(by_district(Clip(bound="32", learned=True)), receipt(), None, "人数"))
    words = " ".join(element.text or "" for element in root.iter())
    for part in ("人数", "rcpt-1", "ε = 1.0000", "δ = 1e-6", "learned privately", "not known", "95 %"):
        assert part in words
    titled = ElementTree.fromstring(chart_of(by_district(), receipt(), "mean_income"))
    assert (titled[0].text, titled[0].tag[-5:]) == ("mean_income · district", "title")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "chart.svg"
    write_file(target, b"one")
    write_file(target, b"two")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("chart.svg", b"two")]


@pytest.mark.parametrize("place", [".", "missing/chart.svg"])
def test_a_place_that_takes_no_file_is_noticed_first(tmp_path: Path, place: str) -> None:
    with pytest.raises(Failed, match=r"file\.unwritable"):
        check_target(tmp_path / place)
    with pytest.raises(Failed, match=r"file\.unwritable"):
        write_file(tmp_path / place, b"")
    assert list(tmp_path.iterdir()) == []
