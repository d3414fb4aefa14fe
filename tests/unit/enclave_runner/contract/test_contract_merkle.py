"""The Merkle tree against the vectors of certificate-transparency, its proofs, and the signed note."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.merkle import (
    EMPTY_ROOT,
    Checkpoint,
    Frontier,
    frontier_of,
    inclusion_proof,
    is_included,
    leaf_hash,
    node_hash,
    open_checkpoint,
    sign_checkpoint,
)
from enclave_runner.contract.signing import KeyFile

# The reference leaves and roots of the certificate-transparency test data (RFC 6962 trees of 1 to 8 entries).
LEAVES = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
KEY = KeyFile(Ed25519PrivateKey.generate())
ORIGIN = "yunei.test/log"


def plain_root(entries: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word for word."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = 1
    while k * 2 < len(entries):
        k *= 2
    return hashlib.sha256(b"\x01" + plain_root(entries[:k]) + plain_root(entries[k:])).digest()


def test_known_roots() -> None:
    assert (
        EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" == Frontier().root.hex()
    )
    assert [frontier_of(LEAVES[:size]).root.hex() for size in range(1, 9)] == ROOTS


def test_known_proof() -> None:
    """The audit path of the first of eight leaves."""
    assert [item.hex() for item in inclusion_proof(LEAVES, 0)] == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]


def test_leaf_and_node_are_told_apart() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != node_hash(left, right)


@given(st.lists(st.binary(max_size=8), max_size=64))
def test_a_frontier_is_the_plain_root_and_small(entries: list[bytes]) -> None:
    frontier = frontier_of(entries)
    assert (frontier.size, frontier.root) == (len(entries), plain_root(entries))
    assert len(frontier.peaks) == len(entries).bit_count()


@pytest.mark.parametrize("size", range(1, 65))
def test_every_entry_of_every_size_has_a_proof_that_proves_it_alone(size: int) -> None:
    entries = [b"%d" % number for number in range(size)]
    root = frontier_of(entries).root
    for index in range(size):
        proof = inclusion_proof(entries, index)
        assert is_included(entries[index], index, size, proof, root)
        assert not is_included(b"other", index, size, proof, root)
        assert not is_included(entries[index], index, size, (*proof, root), root)
        if proof:
            assert not is_included(entries[index], index, size, proof[:-1], root)
            assert not is_included(entries[index], (index + 1) % size, size, proof, root)


@given(st.integers(2, 64), st.data())
@settings(max_examples=60)
def test_a_changed_proof_or_root_proves_nothing(size: int, data: st.DataObject) -> None:
    entries = [b"%d" % number for number in range(size)]
    index = data.draw(st.integers(0, size - 1))
    proof, root = list(inclusion_proof(entries, index)), frontier_of(entries).root
    at, bit = data.draw(st.integers(0, len(proof) - 1)), data.draw(st.integers(0, 255))
    changed = bytearray(proof[at])
    changed[bit // 8] ^= 1 << bit % 8
    assert not is_included(entries[index], index, size, [*proof[:at], bytes(changed), *proof[at + 1 :]], root)
    assert not is_included(entries[index], index, size, proof, bytes(32))


def test_indices_outside_the_tree() -> None:
    for index in (-1, 3):
        with pytest.raises(IndexError):
            inclusion_proof([b"a", b"b", b"c"], index)
        assert not is_included(b"a", index, 3, (), leaf_hash(b"a"))
    assert not is_included(b"a", 0, 0, (), EMPTY_ROOT)


def note() -> str:
    return sign_checkpoint(Checkpoint(origin=ORIGIN, size=8, root=frontier_of(LEAVES).root), KEY)


def test_a_note_opens_to_what_was_signed() -> None:
    assert open_checkpoint(note(), ORIGIN, KEY.public_key) == Checkpoint(
        origin=ORIGIN, size=8, root=bytes.fromhex(ROOTS[-1])
    )
    assert note().splitlines()[:4] == [ORIGIN, "8", base64.b64encode(bytes.fromhex(ROOTS[-1])).decode(), ""]


def is_refused(text: str, origin: str = ORIGIN, key: KeyFile = KEY) -> bool:
    with pytest.raises(Refused) as caught:
        open_checkpoint(text, origin, key.public_key)
    return caught.value.rule == "checkpoint.invalid"


def test_a_note_of_another_log_key_or_form_is_refused() -> None:
    assert is_refused(note(), origin="yunei.test/other")
    assert is_refused(note(), key=KeyFile(Ed25519PrivateKey.generate()))
    for text in (
        "",
        "\n\n",
        note().replace("— ", "- "),
        note().replace("\n8\n", "\n9\n"),
        note()[:-10],
        note() + note(),
    ):
        assert is_refused(text)


def test_no_character_of_a_note_can_be_changed() -> None:
    text = note()
    for at, character in enumerate(text[:-1]):
        other = "B" if character == "A" else "A"
        assert is_refused(text[:at] + other + text[at + 1 :])


def test_a_note_has_one_spelling() -> None:
    """The last character before the padding has bits that no byte needs; a number may be written with zeros."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    text = note()
    for end in (at for at, character in enumerate(text) if character == "="):
        unused = alphabet[alphabet.index(text[end - 1]) ^ 1]
        assert is_refused(text[: end - 1] + unused + text[end:])
    for size in ("08", "+8", " 8", "8 ", "0_8", "８"):
        assert is_refused(text.replace("\n8\n", f"\n{size}\n"))


@pytest.mark.parametrize(
    ("origin", "size", "root"), [("", 0, bytes(32)), ("a\nb", 0, bytes(32)), ("a", -1, bytes(32)), ("a", 0, b"")]
)
def test_a_checkpoint_is_well_formed(origin: str, size: int, root: bytes) -> None:
    with pytest.raises(ValueError, match="checkpoint"):
        Checkpoint(origin=origin, size=size, root=root)
