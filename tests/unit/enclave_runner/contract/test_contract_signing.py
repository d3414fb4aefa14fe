"""Signatures bind bytes, key and purpose; a key file is private or not opened."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.privacy import Budget, PrivacyLoss
from enclave_runner.contract.signing import KeyFile, PublicKey, Signed, check_signature, seal, unseal
from enclave_runner.contract.trust import Trust

LOSS = PrivacyLoss(entity_set="resident", pico_rho=5)
KEY, OTHER = KeyFile(Ed25519PrivateKey.generate()), KeyFile(Ed25519PrivateKey.generate())
TRUSTED = (KEY.public_key,)
PURPOSES = ("grant", "ticket", "receipt", "dataset")


def altered(signed: Signed, **fields: object) -> Signed:
    return Signed(**{**{name: getattr(signed, name) for name in signed.__struct_fields__}, **fields})


def refused_rule(signed: Signed, purpose: str = "grant", trusted: tuple[PublicKey, ...] = TRUSTED) -> str:
    with pytest.raises(Refused) as caught:
        unseal(signed, purpose, trusted, PrivacyLoss)
    return caught.value.rule


def test_what_was_sealed_is_unsealed() -> None:
    assert unseal(seal(LOSS, "grant", KEY), "grant", TRUSTED, PrivacyLoss) == LOSS


@pytest.mark.parametrize("made_for", PURPOSES)
@pytest.mark.parametrize("used_for", PURPOSES)
def test_a_signature_serves_its_own_purpose_only(made_for: str, used_for: str) -> None:
    signed = seal(LOSS, made_for, KEY)
    relabelled = altered(signed, purpose=used_for)
    if made_for == used_for:
        check_signature(signed, used_for, TRUSTED)
        return
    assert refused_rule(signed, used_for) == "signature.invalid"
    assert refused_rule(relabelled, used_for) == "signature.invalid"


def test_a_purpose_and_a_payload_cannot_trade_bytes() -> None:
    signed = seal(LOSS, "grant", KEY)
    shifted = altered(signed, purpose="grant\n{", payload=signed.payload[1:])
    assert refused_rule(shifted, "grant\n{") == "signature.invalid"


def test_every_single_bit_of_payload_and_signature_counts() -> None:
    signed = seal(LOSS, "grant", KEY)
    for name in ("payload", "signature"):
        content = getattr(signed, name)
        for bit in range(len(content) * 8):
            changed = bytearray(content)
            changed[bit // 8] ^= 1 << bit % 8
            assert refused_rule(altered(signed, **{name: bytes(changed)})) == "signature.invalid"


@pytest.mark.parametrize(
    "fields",
    [
        {"key_id": "0" * 16},
        {"algorithm": "none"},
        {"algorithm": "sm2"},
        {"signature": b""},
        {"signature": b"\0" * 64},
        {"signature": b"\0" * 63},
        {"purpose": ""},
    ],
)
def test_foreign_keys_algorithms_and_lengths_are_refused(fields: dict[str, object]) -> None:
    assert refused_rule(altered(seal(LOSS, "grant", KEY), **fields)) == "signature.invalid"


def test_an_untrusted_key_is_refused_even_under_a_trusted_id() -> None:
    forged = altered(seal(LOSS, "grant", OTHER), key_id=KEY.public_key.key_id)
    assert refused_rule(seal(LOSS, "grant", OTHER)) == "signature.invalid"
    assert refused_rule(forged) == "signature.invalid"
    assert refused_rule(seal(LOSS, "grant", KEY), trusted=()) == "signature.invalid"


def test_a_trusted_key_that_is_no_point_refuses_and_does_not_fail() -> None:
    broken = PublicKey(algorithm="ed25519", raw=b"short")
    signed = altered(seal(LOSS, "grant", KEY), key_id=broken.key_id)
    assert refused_rule(signed, trusted=(broken,)) == "signature.invalid"


def test_a_good_signature_over_another_type_is_malformed() -> None:
    assert refused_rule(seal(Budget(epsilon="1"), "grant", KEY)) == "wire.malformed"


def test_a_key_file_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    made = KeyFile.create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert KeyFile.load(path).public_key == made.public_key
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        KeyFile.create(path)
    assert path.read_bytes() == before


def load_code(path: Path) -> str:
    with pytest.raises(Failed) as caught:
        KeyFile.load(path)
    return caught.value.code


def test_a_key_that_others_can_read_or_that_is_none_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert load_code(path) == "key.unreadable"
    KeyFile.create(path)
    path.chmod(0o640)
    assert load_code(path) == "key.permissions"
    path.chmod(0o600)
    path.write_text("not a key")
    assert load_code(path) == "key.unreadable"
    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(pem)
    assert load_code(path) == "key.algorithm"


def test_trust_keeps_the_two_kinds_of_key_apart() -> None:
    Trust(control=(KEY.public_key,), officers=(OTHER.public_key,))
    for control, officers in (
        ((), TRUSTED),
        (TRUSTED, ()),
        (TRUSTED, TRUSTED),
        (TRUSTED, (OTHER.public_key, *TRUSTED)),
    ):
        with pytest.raises(ValueError, match=r"trust|officer"):
            Trust(control=control, officers=officers)
