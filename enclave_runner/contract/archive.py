"""The sealed archive: a stream that only the holder of a backup key can read, and whose end cannot be cut off.

    magic ‖ length ‖ header ‖ (length ‖ ciphertext)*          the last chunk carries the LAST bit in its length

The key comes from an X25519 agreement with a fresh key pair (whose public half is in the header), so that a machine
that makes backups holds nothing that opens them. HKDF-SHA256 binds the whole header. Each chunk is AES-256-GCM under
the chunk's number; the key seals one archive only, so that no nonce is ever used twice. The number and the LAST bit are
authenticated: chunks can be neither changed, dropped, moved nor cut.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from enclave_runner.contract.codec import Value, decode, digest, encode
from enclave_runner.contract.errors import Failed, Refused

MAGIC = b"yunei backup 1\n"
CHUNK = 1 << 20
TAG = 16
LAST = 1 << 31
HEADER_MAX = 4096


class Sink(Protocol):
    """Where an archive goes."""

    def write(self, data: bytes, /) -> object:
        """Take all of the bytes."""
        ...


class Source(Protocol):
    """Where an archive comes from."""

    def read(self, size: int, /) -> bytes:
        """Up to that many bytes, none at the end."""
        ...


class Header(Value, frozen=True):
    """What stands in clear at the head: which part of which backup, and for whose key. Authenticated."""

    label: str
    part: str
    recipient: str
    ephemeral: bytes


class BackupKey:
    """The private half: kept away from the machine that makes backups. A PKCS#8 PEM file with mode 0600."""

    def __init__(self, key: X25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def create(cls, path: Path) -> BackupKey:
        """Make a new key.

        Raises:
            Failed: `backup.exists`: a key file is never overwritten; `backup.unwritable`.
        """
        key = X25519PrivateKey.generate()
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_new(path, pem)
        return cls(key)

    @classmethod
    def load(cls, path: Path) -> BackupKey:
        """Open an existing key.

        Raises:
            Failed: `key.unreadable`, `key.permissions`, `key.algorithm`.
        """
        try:
            if path.stat().st_mode & 0o077:
                raise Failed("key.permissions")
            key = serialization.load_pem_private_key(path.read_bytes(), None)
        except (OSError, ValueError, TypeError):
            raise Failed("key.unreadable") from None
        if not isinstance(key, X25519PrivateKey):
            raise Failed("key.algorithm")
        return cls(key)

    @property
    def public(self) -> bytes:
        """The public half: 32 bytes, for the machine that makes backups."""
        return _raw(self._key.public_key())

    def agree(self, ephemeral: bytes) -> bytes:
        """The secret shared with the maker of an archive."""
        return self._key.exchange(X25519PublicKey.from_public_bytes(ephemeral))


def load_recipient(path: Path) -> bytes:
    """The public half from its PEM file.

    Raises:
        Failed: `key.unreadable`, `key.algorithm`.
    """
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, TypeError):
        raise Failed("key.unreadable") from None
    if not isinstance(key, X25519PublicKey):
        raise Failed("key.algorithm")
    return _raw(key)


def recipient_pem(public: bytes) -> bytes:
    """The public half as a PEM file's content."""
    key = X25519PublicKey.from_public_bytes(public)
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def write_new(path: Path, content: bytes) -> None:
    """A new file for its owner alone, on the disk when this returns.

    Raises:
        Failed: `backup.exists`, `backup.unwritable`.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise Failed("backup.exists") from None
    except OSError:
        raise Failed("backup.unwritable") from None


class ArchiveWriter:
    """Seals what is written. Without `finish` the archive has no end, and nothing will be restored from it.

    Raises (anywhere):
        Failed: `backup.unwritable`.
    """

    def __init__(self, sink: Sink, recipient: bytes, label: str, part: str) -> None:
        ephemeral = X25519PrivateKey.generate()
        header = Header(
            label=label, part=part, recipient=digest(recipient)[:16], ephemeral=_raw(ephemeral.public_key())
        )
        encoded = encode(header)
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(recipient))
        self._cipher = _cipher(shared, encoded, recipient)
        self._sink, self._pending, self._number = sink, bytearray(), 0
        self._put(MAGIC + struct.pack(">I", len(encoded)) + encoded)

    def write(self, data: bytes) -> int:
        """Take more bytes."""
        self._pending += data
        while len(self._pending) > CHUNK:
            self._emit(bytes(self._pending[:CHUNK]), 0)
            del self._pending[:CHUNK]
        return len(data)

    def finish(self) -> None:
        """Write what is left, and the mark of the end."""
        self._emit(bytes(self._pending), LAST)
        self._pending.clear()

    def _emit(self, chunk: bytes, last: int) -> None:
        head = struct.pack(">I", (len(chunk) + TAG) | last)
        self._put(head + self._cipher.encrypt(_nonce(self._number), chunk, head))
        self._number += 1

    def _put(self, data: bytes) -> None:
        try:
            self._sink.write(data)
        except OSError:
            raise Failed("backup.unwritable") from None


class ArchiveReader:
    """Opens what `ArchiveWriter` sealed; hands out no byte that was not authenticated.

    Raises (anywhere):
        Failed: `backup.key` for another key, `backup.damaged` for a changed, cut or foreign stream.
    """

    def __init__(self, source: Source, key: BackupKey) -> None:
        self._source, self._ready, self._number, self._ended = source, bytearray(), 0, False
        if self._exactly(len(MAGIC)) != MAGIC:
            raise Failed("backup.damaged")
        (length,) = struct.unpack(">I", self._exactly(4))
        if length > HEADER_MAX:
            raise Failed("backup.damaged")
        encoded = self._exactly(length)
        try:
            self.header = decode(encoded, Header)
        except Refused:
            raise Failed("backup.damaged") from None
        if self.header.recipient != digest(key.public)[:16]:
            raise Failed("backup.key")
        try:
            shared = key.agree(self.header.ephemeral)
        except ValueError:  # not 32 bytes, or a point that agrees with nobody
            raise Failed("backup.damaged") from None
        self._cipher = _cipher(shared, encoded, key.public)

    def read(self, size: int) -> bytes:
        """Exactly that many bytes, less only at the end."""
        while len(self._ready) < size and not self._ended:
            self._ready += self._next()
        taken = bytes(self._ready[:size])
        del self._ready[:size]
        return taken

    def drain(self) -> None:
        """Read to the end: only now it is certain that nothing was cut off."""
        while not self._ended:
            self._next()
        self._ready.clear()

    def _next(self) -> bytes:
        head = self._exactly(4)
        (length,) = struct.unpack(">I", head)
        if (length & ~LAST) > CHUNK + TAG:
            raise Failed("backup.damaged")
        try:
            chunk = self._cipher.decrypt(_nonce(self._number), self._exactly(length & ~LAST), head)
        except (InvalidTag, ValueError):
            raise Failed("backup.damaged") from None
        self._number += 1
        self._ended = bool(length & LAST)
        return chunk

    def _exactly(self, count: int) -> bytes:
        """That many bytes and none beyond: another part may follow in the same file."""
        parts = bytearray()
        while len(parts) < count:
            part = self._source.read(count - len(parts))
            if not part:
                raise Failed("backup.damaged")
            parts += part
        return bytes(parts)


def _cipher(shared: bytes, header: bytes, recipient: bytes) -> AESGCM:
    info = b"yunei/v1/backup\n" + hashlib.sha256(header).digest() + recipient
    return AESGCM(HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(shared))


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _raw(key: X25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
