"""The suites against published vectors, and against every altered bit."""

from __future__ import annotations

import pytest

from enclave_runner.rawdata.suite import NONCE_BYTES, TAG_BYTES, Suite
from tests.support.refusals import failed_at

# RFC 8998, appendix A.1
SM4_KEY = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
SM4_NONCE = bytes.fromhex("00001234567800000000ABCD")
SM4_BOUND = bytes.fromhex("FEEDFACEDEADBEEFFEEDFACEDEADBEEFABADDAD2")
SM4_PLAIN = bytes.fromhex(
    "AAAAAAAAAAAAAAAABBBBBBBBBBBBBBBBCCCCCCCCCCCCCCCCDDDDDDDDDDDDDDDD"
    "EEEEEEEEEEEEEEEEFFFFFFFFFFFFFFFFEEEEEEEEEEEEEEEEAAAAAAAAAAAAAAAA"
)
SM4_SEALED = bytes.fromhex(
    "17F399F08C67D5EE19D0DC9969C4BB7D5FD46FD3756489069157B282BB200735"
    "D82710CA5C22F0CCFA7CBF93D496AC15A56834CBCF98C397B4024A2691233B8D"
    "83DE3541E4C2B58177E065A9BF7B62EC"
)
# The Galois/Counter Mode of Operation (McGrew and Viega), test case 14
AES_SEALED = bytes.fromhex("cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919")


def test_sm4_gcm_is_that_of_rfc_8998() -> None:
    cipher = Suite.SM4_GCM.cipher(SM4_KEY)
    assert cipher.seal(SM4_NONCE, SM4_PLAIN, SM4_BOUND) == SM4_SEALED
    assert cipher.open(SM4_NONCE, SM4_SEALED, SM4_BOUND) == SM4_PLAIN


def test_aes_256_gcm_is_that_of_its_authors() -> None:
    cipher = Suite.AES_256_GCM.cipher(bytes(32))
    assert cipher.seal(bytes(NONCE_BYTES), bytes(16), b"") == AES_SEALED


@pytest.mark.parametrize("suite", Suite)
def test_every_altered_bit_is_damage(suite: Suite) -> None:
    cipher, nonce = suite.cipher(b"k" * suite.key_bytes), b"n" * NONCE_BYTES
    sealed = cipher.seal(nonce, b"row", b"bound")
    for bit in range(8 * len(sealed)):
        altered = bytearray(sealed)
        altered[bit // 8] ^= 1 << bit % 8
        with failed_at("rawdata.damaged"):
            cipher.open(nonce, bytes(altered), b"bound")
    for short in (b"", sealed[: TAG_BYTES - 1], sealed[:-1], sealed + b"\0"):
        with failed_at("rawdata.damaged"):
            cipher.open(nonce, short, b"bound")
    with failed_at("rawdata.damaged"):
        cipher.open(nonce, sealed, b"bouna")


@pytest.mark.parametrize("suite", Suite)
def test_a_key_is_derived_for_one_purpose(suite: Suite) -> None:
    key = b"k" * suite.key_bytes
    derived = {suite.derive(key, b"a"), suite.derive(key, b"b"), suite.derive(b"l" * suite.key_bytes, b"a")}
    assert {len(item) for item in derived} == {suite.key_bytes}
    assert len(derived) == 3
    assert suite.derive(key, b"a") in derived
