"""Canonical bytes: one value, one text; anything else is refused without being quoted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_runner.contract.codec import MAX_MESSAGE_BYTES, decode, digest, encode
from enclave_runner.contract.dataset import DatasetSpec
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.privacy import Budget, PrivacyLoss
from enclave_runner.contract.wire import AskLog, Hello, ReceiptLog
from tests.support.enclave_home import PEOPLE, make_grant

LOSS = PrivacyLoss(entity_set="resident", pico_rho=5)


def is_refused(data: bytes, kind: object) -> bool:
    with pytest.raises(Refused) as caught:
        decode(data, kind)  # type: ignore[type-var]
    assert caught.value.rule == "wire.malformed"
    assert "canary" not in str(caught.value)
    return True


def test_keys_are_sorted_and_nothing_is_padded() -> None:
    assert encode(LOSS) == b'{"entity_set":"resident","pico_rho":5}'
    assert encode({"b": 1, "a": {"d": 2, "c": 3}}) == b'{"a":{"c":3,"d":2},"b":1}'


@given(st.text(max_size=30), st.integers(0, 10**18))
def test_a_value_survives_the_way_there_and_back(name: str, loss: int) -> None:
    value = PrivacyLoss(entity_set=name, pico_rho=loss)
    assert decode(encode(value), PrivacyLoss) == value
    assert encode(decode(encode(value), PrivacyLoss)) == encode(value)


def test_large_values_survive() -> None:
    assert decode(encode(PEOPLE), DatasetSpec) == PEOPLE
    grant = make_grant()
    assert decode(encode(grant), type(grant)) == grant


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"entity_set":"resident"}',
        b'{"entity_set":"resident","pico_rho":5,"canary":1}',
        b'{"entity_set":"resident","pico_rho":5}x',
        b'{"entity_set":"resident","pico_rho":"5"}',
        b'{"entity_set":"resident","pico_rho":5.0}',
        b'{"entity_set":"resident","pico_rho":1e3}',
        b'{"entity_set":"resident","pico_rho":NaN}',
        b'{"entity_set":"resident","pico_rho":true}',
        b'{"entity_set":"resident","pico_rho":-1}',
        b'{"entity_set":"resident","pico_rho":99999999999999999999999}',
        b'{"entity_set":7,"pico_rho":5}',
        b'{"entity_set":"\xe5\x28","pico_rho":5}',
        b'{"entity_set":"canary","pico_rho":[1]}',
    ],
)
def test_what_does_not_fit_is_refused(data: bytes) -> None:
    assert is_refused(data, PrivacyLoss)


def test_values_that_break_their_own_rules_are_refused_at_the_door() -> None:
    assert is_refused(b'{"epsilon":"NaN","delta":"1e-6"}', Budget)
    assert is_refused(b'{"epsilon":"canary","delta":"1e-6"}', Budget)


def test_depth_and_length_are_bounded() -> None:
    assert is_refused(b"[" * 100_000, list)
    assert is_refused(b'"' + b"x" * MAX_MESSAGE_BYTES + b'"', str)


def test_a_union_is_told_apart_by_its_tag() -> None:
    assert decode(encode(Hello()), Hello | AskLog) == Hello()  # type: ignore[arg-type]
    assert is_refused(encode(ReceiptLog(receipts=(), checkpoint="")), Hello | AskLog)
    assert is_refused(b'{"type":"hello","extra":1}', Hello | AskLog)


def test_values_are_frozen_and_hash_by_content() -> None:
    with pytest.raises(AttributeError):
        LOSS.pico_rho = 0  # type: ignore[misc]
    assert hash(LOSS) == hash(PrivacyLoss(entity_set="resident", pico_rho=5))


def test_a_digest_is_sha_256_in_hex() -> None:
    assert digest(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
