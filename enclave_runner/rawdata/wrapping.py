"""The KMS seam: data keys are wrapped by a key-encryption key (KEK) that only the wrapper ever sees.

`FileWrapper` is the embedded default: KEKs in files of the enclave's own home. Who can read the files of the enclave's
uid can read them; a token (`hsm.py`) or a separate uid closes that.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Protocol

from enclave_runner.contract.codec import Value
from enclave_runner.contract.errors import Failed
from enclave_runner.rawdata.durable import make_private, sync_folder
from enclave_runner.rawdata.suite import NONCE_BYTES, Suite

KEY_ID = re.compile(r"[0-9a-f]{16}")


class WrappedKey(Value, frozen=True):
    """A data key as it may lie on disk: sealed by the KEK that `key_id` names, for one context."""

    key_id: str
    wrapped: bytes


class KeyWrapper(Protocol):
    """Anything that wraps data keys: a key file, a token, a KMS. Several threads may use one.

    A wrapped key opens only in the context in which it was wrapped. Unwrapping works under every KEK that still exists,
    wrapping uses the one that `key_id` names.
    """

    @property
    def key_id(self) -> str:
        """The KEK that wraps."""
        ...

    def wrap(self, data_key: bytes, context: bytes) -> WrappedKey:
        """Seal a data key for one context."""
        ...

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """The data key.

        Raises:
            Failed: `kms.key-missing` when its KEK does not exist (any more), `rawdata.damaged` when it was altered or
                belongs to another context.
        """
        ...

    def renewed(self) -> KeyWrapper:
        """A wrapper that wraps under a fresh KEK, durable by now, and unwraps what this one unwraps."""
        ...

    def destroy_others(self) -> int:
        """Destroy every KEK but the one that wraps; what they wrapped is lost for good. Returns how many."""
        ...


class FileWrapper:
    """KEKs as files `<key id>.kek` with mode 0600 in a folder with mode 0700.

    Nonces are 96 random bits. One KEK wraps one key per column and version: at 2^32 of them, the bound of
    SP 800-38D for random nonces, it would have to be rotated; no deployment comes near.
    """

    def __init__(self, folder: Path, key_id: str, suite: Suite) -> None:
        self._folder, self._key_id, self._suite = folder, key_id, suite
        self._read(key_id)

    @classmethod
    def create(cls, folder: Path, suite: Suite) -> FileWrapper:
        """A wrapper with a fresh KEK, durable when this returns."""
        folder.mkdir(mode=0o700, exist_ok=True)
        key_id = secrets.token_hex(8)
        make_private(folder / f"{key_id}.kek", secrets.token_bytes(suite.key_bytes))
        sync_folder(folder)
        return cls(folder, key_id, suite)

    @property
    def key_id(self) -> str:
        """The KEK that wraps."""
        return self._key_id

    def wrap(self, data_key: bytes, context: bytes) -> WrappedKey:
        """Seal a data key for one context."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = self._suite.cipher(self._read(self._key_id)).seal(nonce, data_key, context)
        return WrappedKey(key_id=self._key_id, wrapped=nonce + sealed)

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """The data key; raises as `KeyWrapper.unwrap` says."""
        nonce, sealed = wrapped.wrapped[:NONCE_BYTES], wrapped.wrapped[NONCE_BYTES:]
        if len(nonce) < NONCE_BYTES:
            raise Failed("rawdata.damaged")
        return self._suite.cipher(self._read(wrapped.key_id)).open(nonce, sealed, context)

    def renewed(self) -> FileWrapper:
        """The same folder with a fresh KEK."""
        return FileWrapper.create(self._folder, self._suite)

    def destroy_others(self) -> int:
        """Unlink every other KEK. On media that keep old blocks only the medium's own erasure is final."""
        others = [path for path in self._folder.iterdir() if path.name != f"{self._key_id}.kek"]
        for path in others:
            path.unlink()
        sync_folder(self._folder)
        return len(others)

    def _read(self, key_id: str) -> bytes:
        if KEY_ID.fullmatch(key_id) is None:  # it comes from a file, and names one
            raise Failed("rawdata.damaged")
        try:
            descriptor = os.open(self._folder / f"{key_id}.kek", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            raise Failed("kms.key-missing") from None
        with os.fdopen(descriptor, "rb") as file:
            if os.fstat(descriptor).st_mode & 0o077:
                raise Failed("kms.permissions")
            key = file.read()
        if len(key) != self._suite.key_bytes:
            raise Failed("kms.key-missing")
        return key
