"""Signatures over canonical bytes, with domain separation.

Each signed value names its purpose ("grant", "ticket", …): a signature made for one purpose never verifies for another.
`Signer` is the seam: Ed25519 (RFC 8032) is the default, SM2 with SM3 (GB/T 32918) needs the extra `gm`; a token or a
KMS brings its own `sign`. `is_signed` is the one place where an algorithm is chosen: by the trusted key, never by the
message.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol, TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from enclave_runner.contract import sm2
from enclave_runner.contract.codec import Value, decode, digest, encode
from enclave_runner.contract.errors import Failed, Refused

T = TypeVar("T")


class Algorithm(Enum):
    """What a key file may hold."""

    ED25519 = "ed25519"
    SM2 = sm2.ALGORITHM


class Signed(Value, frozen=True):
    """A payload with the signature that covers it. `purpose` is bound into the signature."""

    purpose: str
    key_id: str
    algorithm: str
    payload: bytes
    signature: bytes


class PublicKey(Value, frozen=True):
    """A public key as it stands in a trust file: 32 raw bytes for Ed25519, x ‖ y (64 bytes) for SM2."""

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


@dataclass(frozen=True)
class Sm2Key:
    """An SM2 key pair in memory. The private half is in no representation of it."""

    private: bytes = field(repr=False)
    public: bytes


class KeyFile:
    """A private key in a PKCS#8 PEM file with mode 0600."""

    def __init__(self, key: Ed25519PrivateKey | Sm2Key) -> None:
        self._key = key

    @classmethod
    def create(cls, path: Path, algorithm: Algorithm = Algorithm.ED25519) -> KeyFile:
        """Make a new key; an existing file is never overwritten.

        Raises:
            Failed: `key.sm2` when SM2 is asked for without the extra `gm`.
        """
        key: Ed25519PrivateKey | Sm2Key
        if algorithm is Algorithm.SM2:
            key = Sm2Key(*sm2.new_key())
            pem = sm2.to_pem(key.private, key.public)
        else:
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
        """Open an existing key, of whichever algorithm it is.

        Raises:
            Failed: the file is missing, no key of a known algorithm, or readable by others.
        """
        try:
            if path.stat().st_mode & 0o077:
                raise Failed("key.permissions")
            pem = path.read_bytes()
            pair = sm2.from_pem(pem)
            key = serialization.load_pem_private_key(pem, None) if pair is None else Sm2Key(*pair)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
            raise Failed("key.unreadable") from None
        if not isinstance(key, Ed25519PrivateKey | Sm2Key):
            raise Failed("key.algorithm")
        return cls(key)

    @property
    def public_key(self) -> PublicKey:
        """The verifying half."""
        if isinstance(self._key, Sm2Key):
            return PublicKey(algorithm=Algorithm.SM2.value, raw=self._key.public)
        raw = self._key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return PublicKey(algorithm=Algorithm.ED25519.value, raw=raw)

    def sign(self, message: bytes) -> bytes:
        """64 bytes of signature."""
        if isinstance(self._key, Sm2Key):
            return sm2.sign(self._key.private, self._key.public, message)
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
    keys = [key for key in trusted if key.key_id == signed.key_id and key.algorithm == signed.algorithm]
    if signed.purpose != purpose or not keys:
        raise Refused("signature.invalid", what=purpose)
    if not is_signed(keys[0], _message(purpose, signed.payload), signed.signature):
        raise Refused("signature.invalid", what=purpose)


def is_signed(key: PublicKey, message: bytes, signature: bytes) -> bool:
    """Whether that key made the signature over exactly this message; a key of an unknown algorithm made none.

    Raises:
        Failed: `key.sm2` for an SM2 key when the extra `gm` is not installed.
    """
    verifier = _VERIFIERS.get(key.algorithm)
    return verifier is not None and verifier(key.raw, message, signature)


def _is_signed_ed25519(raw: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(raw).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


_VERIFIERS: dict[str, Callable[[bytes, bytes, bytes], bool]] = {
    Algorithm.ED25519.value: _is_signed_ed25519,
    Algorithm.SM2.value: sm2.is_signed,
}


def _message(purpose: str, payload: bytes) -> bytes:
    return b"yunei/v1/" + purpose.encode() + b"\n" + payload
