"""The two cipher suites for data at rest: authenticated encryption of one chunk, and the derivation of its key.

`aes-256-gcm` is AES-256-GCM (NIST SP 800-38D) with HKDF-SHA-256 (RFC 5869); `sm4-gcm` is SM4-GCM (GB/T 32907, RFC 8998)
with HKDF over SM3 (GB/T 32905), so that a deployment bound to the national algorithms uses nothing else.
"""

from __future__ import annotations

from enum import Enum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from enclave_runner.contract.errors import Failed

NONCE_BYTES, TAG_BYTES = 12, 16


class Suite(Enum):
    """How raw data are encrypted."""

    AES_256_GCM = "aes-256-gcm"
    SM4_GCM = "sm4-gcm"

    @property
    def key_bytes(self) -> int:
        """The length of every key of this suite."""
        return 32 if self is Suite.AES_256_GCM else 16

    def derive(self, key: bytes, purpose: bytes) -> bytes:
        """A key for one purpose; keys of different purposes tell nothing about each other."""
        algorithm = hashes.SHA256() if self is Suite.AES_256_GCM else hashes.SM3()
        return HKDF(algorithm, self.key_bytes, None, purpose).derive(key)

    def cipher(self, key: bytes) -> AesGcm | Sm4Gcm:
        """The suite under one key."""
        return AesGcm(key) if self is Suite.AES_256_GCM else Sm4Gcm(key)


class AesGcm:
    """AES-256-GCM under one key. The caller never repeats a nonce."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, nonce: bytes, data: bytes | memoryview, bound: bytes) -> bytes:
        """Ciphertext and tag; `bound` is authenticated with them."""
        return self._cipher.encrypt(nonce, data, bound)

    def open(self, nonce: bytes, sealed: bytes, bound: bytes) -> bytes:
        """The data.

        Raises:
            Failed: `rawdata.damaged` when a single bit differs from what was sealed.
        """
        try:
            return self._cipher.decrypt(nonce, sealed, bound)
        except InvalidTag:
            raise Failed("rawdata.damaged") from None


class Sm4Gcm:
    """SM4-GCM under one key. The caller never repeats a nonce."""

    def __init__(self, key: bytes) -> None:
        self._algorithm = algorithms.SM4(key)

    def seal(self, nonce: bytes, data: bytes | memoryview, bound: bytes) -> bytes:
        """Ciphertext and tag; `bound` is authenticated with them."""
        encryptor = Cipher(self._algorithm, modes.GCM(nonce)).encryptor()
        encryptor.authenticate_additional_data(bound)
        return encryptor.update(data) + encryptor.finalize() + encryptor.tag

    def open(self, nonce: bytes, sealed: bytes, bound: bytes) -> bytes:
        """The data.

        Raises:
            Failed: `rawdata.damaged` when a single bit differs from what was sealed.
        """
        if len(sealed) < TAG_BYTES:
            raise Failed("rawdata.damaged")
        decryptor = Cipher(self._algorithm, modes.GCM(nonce, sealed[-TAG_BYTES:])).decryptor()
        decryptor.authenticate_additional_data(bound)
        try:
            return decryptor.update(memoryview(sealed)[:-TAG_BYTES]) + decryptor.finalize()
        except InvalidTag:
            raise Failed("rawdata.damaged") from None
