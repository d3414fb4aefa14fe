from __future__ import annotations

import re
from decimal import Decimal
from xml.etree import ElementTree

import pytest

from enclave_runner.contract.receipt import DPTable
from sandbox.client.figures import figure_of
from sandbox.client.svg import MAX_ROWS, Caption, svg_of
from tests.support.released_tables import MARKUP, STEERING, by_district, days, field, table

SVG = "{http://www.w3.org/2000/svg}"
ELEMENTS = {"svg", "title", "desc", "style", "g", "text", "path", "rect", "circle"}
ATTRIBUTES = {
    "role", "aria-labelledby", "viewBox", "width", "height", "id", "x", "y", "class", "d", "cx", "cy", "r", "opacity",
}  # fmt: skip
CAPTION = Caption("人数 people", "what it shows", ("ε = 1", "receipt"))
TABLES = {
    "bars": by_district(),
    "line": days(),
    "heat": field(),
    "one": table((), {(): ("7", "2")}),
    "none": table(("k",), {}),
}


def drawn(release: DPTable, caption: Caption = CAPTION) -> ElementTree.Element:
    return ElementTree.fromstring(svg_of(figure_of(release), caption))


def texts(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def mark_titles(root: ElementTree.Element) -> list[str]:
    return [title.text or "" for group in root.iter(f"{SVG}g") for title in group.findall(f"{SVG}title")]


@pytest.mark.parametrize("release", TABLES.values(), ids=TABLES)
def test_it_is_one_file_with_nothing_that_runs_or_is_fetched(release: DPTable) -> None:
    root = drawn(release)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= ELEMENTS
    assert {name for element in root.iter() for name in element.attrib} <= ATTRIBUTES
    style = root.findtext(f"{SVG}style") or ""
    assert not re.search(r"url|@import|@font-face|expression", style)


@pytest.mark.parametrize("place", ["key", "name", "title", "note"])
@pytest.mark.parametrize("release", TABLES.values(), ids=TABLES)
def test_markup_in_any_text_stays_text(place: str, release: DPTable) -> None:
    hostile = MARKUP + STEERING
    rows: dict[tuple[str | None, ...], tuple[str | None, str | None]] = {(hostile,): ("3", "1"), ("b",): ("2", "1")}
    if place == "key":
        root = drawn(table(("k",), rows))
        assert any(title.startswith(MARKUP) for title in mark_titles(root))
    elif place == "name":
        root = drawn(table((hostile,), {("a",): ("3", "1"), ("b",): ("2", "1")}, unit=hostile))
        assert any(MARKUP in text for text in texts(root))
    else:
        words = Caption(hostile, hostile, ()) if place == "title" else Caption("t", "d", (hostile,))
        root = drawn(release, words)
        assert any(text.startswith(MARKUP) for text in texts(root))
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= ELEMENTS
    assert {name for element in root.iter() for name in element.attrib} <= ATTRIBUTES
    assert "\x1b" not in ElementTree.tostring(root, encoding="unicode")


@pytest.mark.parametrize("release", TABLES.values(), ids=TABLES)
def test_it_is_read_aloud_and_needs_no_colour(release: DPTable) -> None:
    root = drawn(release)
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "title desc"
    assert (root.findtext(f"{SVG}title"), root.findtext(f"{SVG}desc")) == ("人数 people", "what it shows")
    known = [mark for mark in figure_of(release).marks if mark.value is not None]
    assert len(mark_titles(root)) == len(known)
    assert "prefers-color-scheme: dark" in (root.findtext(f"{SVG}style") or "")
    assert "currentColor" in (root.findtext(f"{SVG}style") or "")
    assert {"ε = 1", "receipt"} <= set(texts(root))


def test_bars_have_their_numbers_intervals_and_unit_beside_them() -> None:
    root = drawn(by_district())
    assert mark_titles(root) == ["[north]: 40 ± 3.5", "south: -2 ± 3.5"]
    assert {"40 ± 3.5", "-2 ± 3.5", "people (rows)"} <= set(texts(root))
    assert sum(element.get("class") == "error" for element in root.iter(f"{SVG}path")) == 2 * 3


def test_a_bar_is_as_long_as_its_value_and_starts_at_zero() -> None:
    root = drawn(table(("k",), {("a",): ("100", None), ("b",): ("-25", None)}))
    first, second = (
        {name: Decimal(str(box.get(name))) for name in ("x", "width")}
        for box in root.iter(f"{SVG}rect")
    )  # fmt: skip
    assert abs(first["width"] - 4 * second["width"]) <= 1
    assert abs(first["x"] - (second["x"] + second["width"])) <= Decimal("0.2")


def test_a_line_is_broken_where_noise_left_no_value() -> None:
    root = drawn(days())
    kinds = [element.get("class") for element in root.iter(f"{SVG}path")]
    assert (kinds.count("line"), kinds.count("band")) == (2, 2)
    assert len(list(root.iter(f"{SVG}circle"))) == 9


def test_a_field_has_a_cell_and_a_number_for_every_pair() -> None:
    root = drawn(field())
    assert len(list(root.iter(f"{SVG}rect"))) == 30
    assert "54 ± 2" in texts(root)
    assert mark_titles(root)[-1] == "d5 · a4: 54 ± 2"


def test_a_long_table_is_cut_and_says_so() -> None:
    root = drawn(table(("k",), {(str(number),): ("1", "1") for number in range(MAX_ROWS + 5)}))
    assert len(mark_titles(root)) == MAX_ROWS
    assert any(f"first {MAX_ROWS} of {MAX_ROWS + 5} rows" in text for text in texts(root))


def test_everything_lies_within_the_page() -> None:
    root = drawn(table(("k",), {("很长的键名" * 30,): ("123456789012345", "99999999"), ("b",): ("-5", None)}))
    width, height = (float(str(root.get(name))) for name in ("width", "height"))
    for element in root.iter(f"{SVG}text"):
        assert 0 <= float(str(element.get("x"))) <= width
        assert 0 <= float(str(element.get("y"))) <= height
