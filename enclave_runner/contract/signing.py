"""Signatures over canonical bytes, with domain separation.

Each signed value names its purpose ("grant", "ticket", …): a signature made for one purpose never verifies for another.
`Signer` is the seam for other algorithms (SM2 with SM3); Ed25519 (RFC 8032) is the default.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from enclave_runner.contract.codec import Value, decode, digest, encode
from enclave_runner.contract.errors import Failed, Refused

T = TypeVar("T")
ALGORITHM = "ed25519"


class Signed(Value, frozen=True):
    """A payload with the signature that covers it. `purpose` is bound into the signature."""

    purpose: str
    key_id: str
    algorithm: str
    payload: bytes
    signature: bytes


class PublicKey(Value, frozen=True):
    """A public key as it stands in a trust file: 32 raw bytes for Ed25519."""

    algorithm: str
    raw: bytes

    @property
    def key_id(self) -> str:
        """First 16 hex digits of the SHA-256 of the raw key."""
        return digest(self.raw)[:16]


class Signer(Protocol):
    """Anything that signs: a key file, a token, a KMS."""

    @property
    def public_key(self) -> PublicKey:
        """The key that verifies this signer's signatures."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The signature over `message`."""
        ...


class KeyFile:
    """An Ed25519 key in a PKCS#8 PEM file with mode 0600."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def create(cls, path: Path) -> KeyFile:
        """Make a new key; an existing file is never overwritten."""
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        return cls(key)

    @classmethod
    def load(cls, path: Path) -> KeyFile:
        """Open an existing key.

        Raises:
            Failed: the file is missing, no Ed25519 key, or readable by others.
        """
        try:
            if path.stat().st_mode & 0o077:
                raise Failed("key.permissions")
            key = serialization.load_pem_private_key(path.read_bytes(), None)
        except (OSError, ValueError, TypeError):
            raise Failed("key.unreadable") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise Failed("key.algorithm")
        return cls(key)

    @property
    def public_key(self) -> PublicKey:
        """The verifying half."""
        raw = self._key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return PublicKey(algorithm=ALGORITHM, raw=raw)

    def sign(self, message: bytes) -> bytes:
        """64 bytes of Ed25519 signature."""
        return self._key.sign(message)


def seal(value: object, purpose: str, signer: Signer) -> Signed:
    """Sign a contract value for one purpose."""
    payload = encode(value)
    public = signer.public_key
    signature = signer.sign(_message(purpose, payload))
    return Signed(
        purpose=purpose,
        key_id=public.key_id,
        algorithm=public.algorithm,
        payload=payload,
        signature=signature,
    )


def unseal(signed: Signed, purpose: str, trusted: tuple[PublicKey, ...], kind: type[T]) -> T:
    """Verify and decode.

    Raises:
        Refused: `signature.invalid` when purpose, key or signature do not fit; `wire.malformed` for the payload.
    """
    check_signature(signed, purpose, trusted)
    return decode(signed.payload, kind)


def check_signature(signed: Signed, purpose: str, trusted: tuple[PublicKey, ...]) -> None:
    """Raise Refused unless one of the trusted keys signed this payload for this purpose."""
    keys = [key for key in trusted if key.key_id == signed.key_id and key.algorithm == signed.algorithm == ALGORITHM]
    if signed.purpose != purpose or not keys:
        raise Refused("signature.invalid", what=purpose)
    try:
        Ed25519PublicKey.from_public_bytes(keys[0].raw).verify(signed.signature, _message(purpose, signed.payload))
    except (InvalidSignature, ValueError):
        raise Refused("signature.invalid", what=purpose) from None


def _message(purpose: str, payload: bytes) -> bytes:
    return b"yunei/v1/" + purpose.encode() + b"\n" + payload
