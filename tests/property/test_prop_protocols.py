"""Both halves of each protocol against what they are for, over whatever values hypothesis thinks of."""

from __future__ import annotations

from datetime import date

from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_runner.contract.dataset import EPOCH, ColumnType
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.protocols import canonical, cell, equality, group, oprf, threshold
from enclave_runner.plan.claim import typed_claim
from tests.support.enclave_home import column

CONTEXTS = st.builds(equality.context, st.text(max_size=20), st.text(max_size=32), st.binary(min_size=16, max_size=16))
VALUES = st.binary(max_size=100)
SECRET, NOW = bytes(range(32)), 1_800_000_000.0
CODES = st.sampled_from([cell.NO, cell.YES, cell.CANNOT_SAY]) | st.integers(cell.LEVEL, cell.LEVEL + 250)
TYPES = st.sampled_from([(kind, 0) for kind in ColumnType] + [(ColumnType.DECIMAL, scale) for scale in range(1, 7)])
NUMBERISH = st.from_regex(r"[+-]?[0-9]{0,17}(\.[0-9]{0,7})?", fullmatch=True)
CLAIMS = st.text(max_size=30) | NUMBERISH | st.dates().map(str) | st.sampled_from(["true", "false", "2026-W01-1"])


@given(CONTEXTS, VALUES, VALUES)
@settings(max_examples=150, deadline=None)
def test_equality_says_whether_the_values_are_equal(context: bytes, x: bytes, y: bytes) -> None:
    scalar, element = equality.blind(context, x)
    assert equality.is_equal(context, scalar, *equality.answer(context, y, element)) == (x == y)


@given(CONTEXTS, st.text(max_size=20), st.lists(st.integers(0, 255), min_size=1, max_size=12), st.data())
@settings(max_examples=100, deadline=None)
def test_a_transfer_opens_the_chosen_cell(context: bytes, caller: str, cells: list[int], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(cells) - 1))
    opening, point = threshold.open(SECRET, caller, NOW)
    choice, pad = threshold.choose(point, index, context)
    masked = threshold.table(SECRET, caller, NOW, opening, choice, context, cells)
    assert threshold.read(pad, index, masked) == cells[index]


@given(st.lists(VALUES, min_size=1, max_size=5), st.binary(min_size=32, max_size=32), st.binary(max_size=20))
@settings(max_examples=60, deadline=None)
def test_an_oblivious_evaluation_ends_as_a_direct_one(inputs: list[bytes], seed: bytes, info: bytes) -> None:
    key = oprf.derive_key(seed, info)
    blinded = [oprf.blind(data) for data in inputs]
    evaluated, proof = oprf.evaluate(key, [item.element for item in blinded])
    outputs = oprf.finalize(blinded, evaluated, proof, oprf.public_key(key))
    assert outputs == tuple(oprf.evaluate_directly(key, data) for data in inputs)
    assert len(set(outputs)) == len(set(inputs))


@given(st.binary(min_size=64, max_size=64), st.text(max_size=32), CODES, st.integers(0, 40), st.integers(1, 1 << 20))
@settings(max_examples=200, deadline=None)
def test_an_entry_is_found_and_read(output: bytes, version: str, code: int, before: int, columns: int) -> None:
    made = cell.entry(output, version)
    cells = bytes(16 * before) + made.seal(cell.label(code)) + bytes(range(16)) * 3
    found = cell.find(cells, output, version)
    assert found is not None
    assert cell.code_of(found) == code
    assert 0 <= made.column(columns) < columns


@given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1), st.integers(1, 1 << 20))
def test_columns_keep_the_order_of_words(left: int, right: int, columns: int) -> None:
    low, high = sorted((left, right))
    assert 0 <= cell.column_of(low, columns) <= cell.column_of(high, columns) < columns


@given(st.lists(VALUES, max_size=4), st.lists(VALUES, max_size=4))
def test_frames_are_equal_only_for_equal_parts(left: list[bytes], right: list[bytes]) -> None:
    assert (canonical.frame(*left) == canonical.frame(*right)) == (left == right)


@given(CLAIMS, TYPES)
@settings(max_examples=1500, deadline=None)
def test_claims_are_those_of_the_ticket_path_in_another_spelling(text: str, kind: tuple[ColumnType, int]) -> None:
    """`plan.claim.typed_claim` decides what a stored value is compared with: equal there, equal here."""
    try:
        expected = typed_claim(text, column("x", kind[0], scale=kind[1]))
    except ValueError:
        expected = None
    try:
        spelled = canonical.claim_text(text, *kind)
    except Refused as refusal:
        assert refusal.rule == "verification.claim-form"
        assert expected is None
        return
    assert spelled == str(expected)
    if kind[0] in (ColumnType.INTEGER, ColumnType.DECIMAL):
        assert canonical.claim_number(text, *kind) == expected
    if kind[0] is ColumnType.DATE:
        assert canonical.claim_number(text, *kind) == (date.fromisoformat(spelled) - EPOCH).days


@given(st.integers(1, group.ORDER - 1), st.integers(1, group.ORDER - 1))
@settings(max_examples=60, deadline=None)
def test_multiplication_is_that_of_the_group(left: int, right: int) -> None:
    first, second = (number.to_bytes(32, "little") for number in (left, right))
    assert group.multiply(first, group.base(second)) == group.base(group.scalar_product(first, second))
    if left != right:
        difference = group.scalar_difference(first, second)
        assert group.sub(group.base(first), group.base(second)) == group.base(difference)
        assert group.add(group.base(difference), group.base(second)) == group.base(first)
