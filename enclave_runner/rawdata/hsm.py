"""Key-encryption keys that never leave a PKCS#11 token (HSM, SoftHSM): AES-256, sensitive, not extractable.

Data keys are sealed inside the token by AES-GCM with their context as associated data (CKM_AES_GCM of PKCS#11 v2.40):
unlike CKM_AES_KEY_WRAP it binds the context. Only `kms.py` loads this module, by name.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pkcs11
from pkcs11 import Attribute, GCMParams, KeyType, Mechanism, MechanismFlag, ObjectClass

from enclave_runner.contract.errors import Failed
from enclave_runner.rawdata.suite import NONCE_BYTES
from enclave_runner.rawdata.wrapping import KEY_ID, WrappedKey

TAG_BITS, KEK_BITS = 128, 256
PROBE = b"yunei/v1/probe"


class Pkcs11Wrapper:
    """The KEKs of one ring in a token. One session, one call at a time: threads take turns."""

    def __init__(self, module: str, token: str, pin_file: Path, ring: str, key_id: str | None) -> None:
        self._lock, self._ring, self._key_id = threading.Lock(), ring, key_id
        pin = read_pin(pin_file)
        try:
            self._session: Any = pkcs11.lib(module).get_token(token_label=token).open(user_pin=pin, rw=True)
        except pkcs11.exceptions.UserAlreadyLoggedIn:
            self._session = pkcs11.lib(module).get_token(token_label=token).open(rw=True)
        except (pkcs11.exceptions.PinIncorrect, pkcs11.exceptions.PinLocked):
            raise Failed("kms.pin") from None
        except Exception:  # whatever a vendor's module says; its text may hold what was typed
            raise Failed("kms.token-absent") from None
        if key_id is not None:
            with self._token():
                self._kek(key_id)

    @property
    def key_id(self) -> str:
        """The KEK that wraps."""
        if self._key_id is None:
            raise Failed("kms.key-missing")
        return self._key_id

    def wrap(self, data_key: bytes, context: bytes) -> WrappedKey:
        """Seal a data key for one context, inside the token."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        with self._token():
            sealed = _encrypt(self._kek(self.key_id), nonce, data_key, context)
        return WrappedKey(key_id=self.key_id, wrapped=nonce + sealed)

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """The data key; raises as `KeyWrapper.unwrap` says."""
        nonce, sealed = wrapped.wrapped[:NONCE_BYTES], wrapped.wrapped[NONCE_BYTES:]
        if KEY_ID.fullmatch(wrapped.key_id) is None or len(nonce) < NONCE_BYTES:
            raise Failed("rawdata.damaged")
        with self._token():
            kek = self._kek(wrapped.key_id)
            try:
                return _decrypt(kek, nonce, sealed, context)
            except pkcs11.exceptions.PKCS11Error:
                # Tokens have no common word for a wrong tag: when this one still works, it is the data that do not.
                probe = secrets.token_bytes(NONCE_BYTES)
                _decrypt(kek, probe, _encrypt(kek, probe, b"probe", PROBE), PROBE)
                raise Failed("rawdata.damaged") from None

    def renewed(self) -> Pkcs11Wrapper:
        """The same session with a fresh KEK in the token."""
        key_id = secrets.token_hex(8)
        with self._token():
            self._session.generate_key(
                KeyType.AES,
                KEK_BITS,
                id=bytes.fromhex(key_id),
                label=self._label,
                store=True,
                capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT,
                template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
            )
        renewed = object.__new__(Pkcs11Wrapper)
        renewed._lock, renewed._session = self._lock, self._session
        renewed._ring, renewed._key_id = self._ring, key_id
        return renewed

    def destroy_others(self) -> int:
        """Destroy every other KEK of this ring in the token."""
        with self._token():
            kek_class = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.LABEL: self._label}
            others = [key for key in self._session.get_objects(kek_class) if key.id.hex() != self.key_id]
            for key in others:
                key.destroy()
        return len(others)

    @property
    def _label(self) -> str:
        return f"yunei-kek-{self._ring}"

    def _kek(self, key_id: str) -> Any:
        try:
            return self._session.get_key(
                object_class=ObjectClass.SECRET_KEY, id=bytes.fromhex(key_id), label=self._label
            )
        except pkcs11.exceptions.NoSuchKey:
            raise Failed("kms.key-missing") from None

    @contextmanager
    def _token(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except pkcs11.exceptions.PKCS11Error:
                raise Failed("kms.token") from None


def _encrypt(kek: Any, nonce: bytes, data: bytes, context: bytes) -> bytes:
    sealed: bytes = kek.encrypt(data, mechanism=Mechanism.AES_GCM, mechanism_param=GCMParams(nonce, context, TAG_BITS))
    return sealed


def _decrypt(kek: Any, nonce: bytes, sealed: bytes, context: bytes) -> bytes:
    data: bytes = kek.decrypt(sealed, mechanism=Mechanism.AES_GCM, mechanism_param=GCMParams(nonce, context, TAG_BITS))
    return data


def read_pin(path: Path) -> str:
    """The PIN from a file that only its owner may read.

    Raises:
        Failed: `kms.pin`, `kms.permissions`.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise Failed("kms.permissions")
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise Failed("kms.pin") from None
