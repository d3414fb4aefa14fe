"""P2: the chosen cell and no other; openings that are someone else's, forged or late; choices made to learn more."""

from __future__ import annotations

import secrets

import pytest

from enclave_runner.contract.protocols import equality, group, threshold
from tests.support.refusals import refused_by

SECRET, CALLER, NOW = bytes(range(32)), "bank-1", 1_800_000_000.5
CONTEXT = equality.context("product-1", "0a" * 16, bytes(16))
CELLS = (1, 1, 1, 0, 0, 2)


def test_each_index_opens_its_own_cell() -> None:
    for index, expected in enumerate(CELLS):
        opening, point = threshold.open(SECRET, CALLER, NOW)
        choice, pad = threshold.choose(point, index, CONTEXT)
        cells = threshold.table(SECRET, CALLER, NOW, opening, choice, CONTEXT, CELLS)
        assert len(cells) == threshold.CELL_BYTES * len(CELLS)
        assert threshold.read(pad, index, cells) == expected


def test_no_other_cell_opens() -> None:
    opening, point = threshold.open(SECRET, CALLER, NOW)
    choice, pad = threshold.choose(point, 2, CONTEXT)
    cells = threshold.table(SECRET, CALLER, NOW, opening, choice, CONTEXT, CELLS)
    for index in (0, 1, 3, 4, 5):
        with refused_by("verification.answer"):
            threshold.read(pad, index, cells)


def test_the_widest_table_of_a_check() -> None:
    opening, point = threshold.open(SECRET, CALLER, NOW)
    choice, pad = threshold.choose(point, 249, CONTEXT)
    cells = threshold.table(SECRET, CALLER, NOW, opening, choice, CONTEXT, [index % 3 for index in range(250)])
    assert threshold.read(pad, 249, cells) == 249 % 3


def test_choices_are_fresh_points_whatever_is_chosen() -> None:
    _, point = threshold.open(SECRET, CALLER, NOW)
    choices = [threshold.choose(point, index % 2, CONTEXT)[0] for index in range(20)]
    assert len(set(choices)) == 20
    assert all(group.checked(choice) for choice in choices)


def test_an_opening_may_serve_several_calls_and_nothing_fits_into_another() -> None:
    opening, point = threshold.open(SECRET, CALLER, NOW)
    choice, pad = threshold.choose(point, 0, CONTEXT)
    first = threshold.table(SECRET, CALLER, NOW, opening, choice, CONTEXT, CELLS)
    again = threshold.table(SECRET, CALLER, NOW, opening, choice, CONTEXT, CELLS)
    other = equality.context("product-1", "0a" * 16, bytes(15) + b"\1")
    later = threshold.table(SECRET, CALLER, NOW, opening, choice, other, CELLS)
    assert first == again
    assert not any(first[start : start + 8] == later[start : start + 8] for start in range(0, len(first), 8))
    with refused_by("verification.answer"):
        threshold.read(pad, 0, later)


def test_an_opening_is_small_and_expires() -> None:
    opening, point = threshold.open(SECRET, CALLER, NOW)
    assert len(opening) == threshold.OPENING_BYTES <= 64
    choice, _ = threshold.choose(point, 0, CONTEXT)
    last = int(NOW) + threshold.LIFETIME_SECONDS

    def answer(now: float) -> bytes:
        return threshold.table(SECRET, CALLER, now, opening, choice, CONTEXT, CELLS)

    assert answer(last)
    with refused_by("verification.opening"):
        answer(last + 0.1)


def test_an_opening_is_its_caller_s_and_its_worker_s() -> None:
    opening, point = threshold.open(SECRET, CALLER, NOW)
    choice, _ = threshold.choose(point, 0, CONTEXT)
    for secret, caller in ((SECRET, "bank-2"), (SECRET, ""), (secrets.token_bytes(32), CALLER)):
        with_other = (secret, caller, NOW, opening, choice, CONTEXT, CELLS)
        with refused_by("verification.opening"):
            threshold.table(*with_other)


def test_every_flipped_bit_of_an_opening_is_refused() -> None:
    opening, point = threshold.open(SECRET, CALLER, NOW)
    choice, _ = threshold.choose(point, 0, CONTEXT)
    for bit in range(8 * len(opening)):
        forged = (int.from_bytes(opening, "big") ^ (1 << bit)).to_bytes(len(opening), "big")
        with refused_by("verification.opening"):
            threshold.table(SECRET, CALLER, NOW, forged, choice, CONTEXT, CELLS)
    for cut in (b"", opening[:-1], opening + b"\0", opening[1:], opening[-32:]):
        with refused_by("verification.opening"):
            threshold.table(SECRET, CALLER, NOW, cut, choice, CONTEXT, CELLS)


@pytest.mark.parametrize("cells", [(0,) * 6, (1,) * 6, CELLS])
def test_a_choice_that_makes_a_pad_of_the_identity_is_refused_whatever_the_cells_are(cells: tuple[int, ...]) -> None:
    """B = (j+1)·A leaves the identity at j, whose pad everybody knows. It is refused, whatever the cell holds."""
    opening, point = threshold.open(SECRET, CALLER, NOW)
    for index in range(len(cells)):
        choice = group.multiply(group.small_scalar(index + 1), point)
        with refused_by("verification.point"):
            threshold.table(SECRET, CALLER, NOW, opening, choice, CONTEXT, cells)


@pytest.mark.parametrize("multiple", [7, 50, group.ORDER - 1])
def test_a_choice_beyond_the_edges_opens_nothing(multiple: int) -> None:
    opening, point = threshold.open(SECRET, CALLER, NOW)
    scalar = group.random_scalar()
    shifted = group.add(group.base(scalar), group.multiply(multiple.to_bytes(32, "little"), point))
    cells = threshold.table(SECRET, CALLER, NOW, opening, shifted, CONTEXT, CELLS)
    _, pad = threshold.choose(point, 0, CONTEXT)
    for index in range(len(CELLS)):
        with refused_by("verification.answer"):
            threshold.read(pad, index, cells)


def test_a_dishonest_client_opens_one_cell_of_the_table() -> None:
    """With b and A alone it can make the pad of one index. What it tries at the others is noise."""
    opening, point = threshold.open(SECRET, CALLER, NOW)
    scalar = group.random_scalar()
    choice = group.add(group.base(scalar), group.multiply(group.small_scalar(3), point))
    cells = threshold.table(SECRET, CALLER, NOW, opening, choice, CONTEXT, CELLS)
    known = group.multiply(scalar, point)
    guesses = [known, point, choice, group.add(known, point), group.sub(known, point), group.add(known, choice)]
    opened = set()
    for index in range(len(CELLS)):
        for guess in guesses:
            pad = threshold._pad(CONTEXT, point, choice, index, guess)
            if pad[:7] == cells[8 * index : 8 * index + 7]:
                opened.add(index)
    assert opened == {2}


@pytest.mark.parametrize("bad", [b"", bytes(32), b"\xff" * 32, b"\1" + bytes(31)], ids=["empty", "0", "ff", "1"])
def test_what_is_no_point_is_refused_on_both_sides(bad: bytes) -> None:
    opening, _ = threshold.open(SECRET, CALLER, NOW)
    with refused_by("verification.point"):
        threshold.choose(bad, 0, CONTEXT)
    with refused_by("verification.point"):
        threshold.table(SECRET, CALLER, NOW, opening, bad, CONTEXT, CELLS)


def test_a_table_of_the_wrong_length_or_spoilt_is_refused() -> None:
    opening, point = threshold.open(SECRET, CALLER, NOW)
    choice, pad = threshold.choose(point, 1, CONTEXT)
    cells = threshold.table(SECRET, CALLER, NOW, opening, choice, CONTEXT, CELLS)
    for wrong in (b"", cells[:8], cells[:15], cells + b"\0", cells[:-1]):
        with refused_by("verification.answer"):
            threshold.read(pad, 1, wrong)
    for place in range(8, 15):
        spoilt = cells[:place] + bytes([cells[place] ^ 4]) + cells[place + 1 :]
        with refused_by("verification.answer"):
            threshold.read(pad, 1, spoilt)


@pytest.mark.parametrize("cells", [(), (256,), (-1,), (0,) * 1001])
def test_cells_are_single_bytes(cells: tuple[int, ...]) -> None:
    opening, point = threshold.open(SECRET, CALLER, NOW)
    with pytest.raises(ValueError, match="cells"):
        threshold.table(SECRET, CALLER, NOW, opening, point, CONTEXT, cells)


@pytest.mark.parametrize("index", [-1, 1000])
def test_an_index_is_one_of_a_table(index: int) -> None:
    _, point = threshold.open(SECRET, CALLER, NOW)
    with pytest.raises(ValueError, match="index"):
        threshold.choose(point, index, CONTEXT)
    with pytest.raises(ValueError, match="index"):
        threshold.read(bytes(8), index, bytes(8))


def test_openings_are_unlinkable_names_with_points_of_their_own() -> None:
    opened = [threshold.open(SECRET, CALLER, NOW) for _ in range(20)]
    assert len({opening for opening, _ in opened}) == len({point for _, point in opened}) == 20
