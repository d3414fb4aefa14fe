"""Global options may stand anywhere: moving them to the front loses nothing, keeps the order of the rest, and is done
once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sandbox.cli.main import FLAGS, WITH_VALUE, hoist

WORDS = st.sampled_from(
    ["party", "list", "--title", "x", "--json", "--home", "--as", "--person", "--home=h", "--", "-h"]
)
LINES = st.lists(WORDS | st.text(max_size=5), max_size=12)
PLAIN = st.lists(st.sampled_from(["party", "list", "--title", "x", "--uses=3"]), max_size=6)
GLOBALS = st.lists(st.sampled_from([("--json",), ("--home", "h"), ("--as", "op"), ("--person=li",)]), max_size=4)


@given(LINES)
def test_nothing_is_lost_and_nothing_is_moved_twice(line: list[str]) -> None:
    moved = hoist(line)
    assert sorted(moved) == sorted(line)
    assert hoist(moved) == moved


@given(st.data(), PLAIN, GLOBALS)
def test_where_an_option_stands_does_not_matter(
    data: st.DataObject, plain: list[str], options: list[tuple[str, ...]]
) -> None:
    places = sorted(data.draw(st.lists(st.integers(0, len(plain)), min_size=len(options), max_size=len(options))))
    line: list[str] = []
    for at in range(len(plain) + 1):
        line += [word for place, option in zip(places, options, strict=True) if place == at for word in option]
        line += plain[at : at + 1]
    assert hoist(line) == [word for option in options for word in option] + plain


@given(PLAIN, LINES)
def test_after_two_dashes_nothing_is_an_option(before: list[str], after: list[str]) -> None:
    assert hoist([*before, "--", *after]) == [*before, "--", *after]


def test_the_options_are_those_of_the_program() -> None:
    assert {*WITH_VALUE, *FLAGS} == {"--home", "--as", "--person", "--json"}
