"""The group: every vector of RFC 9496 and of expand_message_xmd, and everything that is no point or no scalar."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rbcl

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.protocols import group
from tests.support.refusals import refused_by
from tests.support.rfc import vectors

RFC9496, RFC9380 = vectors("rfc9496"), vectors("rfc9380")
ROOT = Path(__file__).parents[5]
DST = b"YUNEI-TEST"
POINT = group.hash_to_ristretto255(b"any", DST)
SCALAR = group.small_scalar(7)
ORDER_BYTES = group.ORDER.to_bytes(32, "little")


@pytest.mark.parametrize("vector", RFC9380["vectors"], ids=lambda vector: f"{vector['message'][:6]}-{vector['length']}")
def test_expand_message_xmd_of_rfc_9380(vector: dict[str, Any]) -> None:
    made = group.expand(vector["message"].encode(), RFC9380["dst"].encode(), vector["length"])
    assert made.hex() == vector["uniform"]


@pytest.mark.parametrize(("dst", "length"), [(b"", 64), (b"d" * 256, 64), (DST, 0), (DST, 255 * 64 + 1)])
def test_expand_refuses_what_the_rfc_does_not_define_for_it(dst: bytes, length: int) -> None:
    with pytest.raises(ValueError, match="tag"):
        group.expand(b"", dst, length)


def test_blocks_after_the_second_are_numbered() -> None:
    """The vectors of the RFC end at two blocks; this is the third by its definition (5.3.1, steps 9 and 10)."""
    suffix, length = DST + bytes([len(DST)]), 192
    first = hashlib.sha512(bytes(128) + b"m" + length.to_bytes(2, "big") + b"\0" + suffix).digest()
    made = group.expand(b"m", DST, length)
    mixed = bytes(left ^ right for left, right in zip(first, made[64:128], strict=True))
    assert made[128:] == hashlib.sha512(mixed + b"\3" + suffix).digest()


def test_a_longer_expansion_is_not_a_continuation_of_a_shorter_one() -> None:
    assert group.expand(b"m", DST, 128)[:64] != group.expand(b"m", DST, 64)


def test_the_multiples_of_the_generator_of_rfc_9496() -> None:
    expected = [bytes.fromhex(text) for text in RFC9496["multiples"]]
    assert expected[0] == group.IDENTITY
    assert [group.base(group.small_scalar(number)) for number in range(1, 16)] == expected[1:]
    running = expected[1]
    for point in expected[2:]:
        running = group.add(running, expected[1])
        assert group.checked(running) == point
        assert group.sub(running, expected[1]) in expected


@pytest.mark.parametrize("text", RFC9496["invalid"])
def test_the_invalid_encodings_of_rfc_9496_are_refused_by_every_operation(text: str) -> None:
    bad = bytes.fromhex(text)
    refusing: list[Callable[[], bytes]] = [
        lambda: group.checked(bad),
        lambda: group.multiply(SCALAR, bad),
        lambda: group.add(POINT, bad),
        lambda: group.add(bad, POINT),
        lambda: group.sub(POINT, bad),
        lambda: group.sub(bad, POINT),
    ]
    for operation in refusing:
        with refused_by("verification.point"):
            operation()


@pytest.mark.parametrize("vector", RFC9496["uniform"], ids=lambda vector: vector["input"][:8])
def test_the_map_from_uniform_bytes_of_rfc_9496(vector: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    # The map itself is inside `hash_to_ristretto255`: the expansion in front of it is replaced by the vector's bytes.
    monkeypatch.setattr(group, "expand", lambda *_: bytes.fromhex(vector["input"]))
    assert group.hash_to_ristretto255(b"", b"").hex() == vector["point"]


def test_libsodium_calls_the_identity_valid_and_we_do_not() -> None:
    assert rbcl.crypto_core_ristretto255_is_valid_point(group.IDENTITY)
    for operation in (group.checked, lambda point: group.multiply(SCALAR, point)):
        with refused_by("verification.point"):
            operation(group.IDENTITY)


@pytest.mark.parametrize("length", [0, 1, 31, 33, 64])
def test_a_point_of_another_length_is_refused_before_libsodium_reads_it(length: int) -> None:
    bad = (POINT * 3)[:length]
    for operation in (
        group.checked,
        lambda point: group.multiply(SCALAR, point),
        lambda point: group.add(POINT, point),
    ):
        with refused_by("verification.point"):
            operation(bad)


def test_sums_that_are_the_identity_are_refused() -> None:
    negative = group.multiply((group.ORDER - 1).to_bytes(32, "little"), POINT)
    with refused_by("verification.point"):
        group.add(POINT, negative)
    with refused_by("verification.point"):
        group.sub(POINT, POINT)


@pytest.mark.parametrize(
    "scalar", [b"", SCALAR[:31], SCALAR + b"\0", bytes(32), ORDER_BYTES, b"\xff" * 32], ids=lambda text: text.hex()[:8]
)
def test_what_is_no_scalar(scalar: bytes) -> None:
    others: list[Callable[[], bytes]] = [
        lambda: group.checked_scalar(scalar),
        lambda: group.invert(scalar),
        lambda: group.base(scalar),
        lambda: group.scalar_product(SCALAR, scalar),
        lambda: group.scalar_difference(scalar, SCALAR),
    ]
    for operation in others:
        with pytest.raises(ValueError, match="not a scalar"):
            operation()


def test_a_scalar_of_another_length_never_reaches_libsodium() -> None:
    with pytest.raises(ValueError, match="not a scalar"):
        group.multiply(SCALAR[:31], POINT)
    with pytest.raises(ValueError, match="64 bytes"):
        group.reduce(bytes(63))


def test_scalars_invert_multiply_and_subtract_as_numbers_do() -> None:
    left, right = group.random_scalar(), group.random_scalar()
    numbers = [int.from_bytes(scalar, "little") for scalar in (left, right)]
    product, difference = group.scalar_product(left, right), group.scalar_difference(left, right)
    assert int.from_bytes(product, "little") == numbers[0] * numbers[1] % group.ORDER
    assert int.from_bytes(difference, "little") == (numbers[0] - numbers[1]) % group.ORDER
    assert group.scalar_product(left, group.invert(left)) == group.small_scalar(1)
    assert group.multiply(group.invert(left), group.multiply(left, POINT)) == POINT


def test_random_scalars_are_canonical_and_differ() -> None:
    drawn = {group.checked_scalar(group.random_scalar()) for _ in range(200)}
    assert len(drawn) == 200


def test_hashes_depend_on_message_and_tag() -> None:
    made = {group.hash_to_ristretto255(message, dst) for message in (b"a", b"b") for dst in (DST, DST + b"2")}
    assert len(made) == 4
    assert all(group.checked(point) for point in made)
    assert group.hash_to_scalar(b"a", DST) != group.hash_to_scalar(b"a", DST + b"2")


def test_importing_leaves_nothing_in_the_temporary_directory(tmp_path: Path) -> None:
    code = "from enclave_runner.contract.protocols import group; print(group.base(group.small_scalar(1)).hex())"
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == RFC9496["multiples"][1]
    assert list(tmp_path.iterdir()) == []


def test_forked_processes_draw_different_scalars() -> None:
    """Workers are forked from a zygote that has loaded libsodium: a shared random state would give keys away."""
    code = """
import os
from enclave_runner.contract.protocols import group
for _ in range(3):
    if os.fork() == 0:
        os.write(1, group.random_scalar().hex().encode() + b"\\n")
        os._exit(0)
    os.wait()
print(group.random_scalar().hex())
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert len(set(ran.stdout.split())) == 4


def test_refusals_carry_no_bytes() -> None:
    with pytest.raises(Refused) as refusal:
        group.checked(b"\xff" * 32)
    assert refusal.value.facts == {}
