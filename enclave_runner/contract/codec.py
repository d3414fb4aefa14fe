"""Canonical bytes of contract values: sorted keys, no floats, strict types, unknown fields refused.

A signature covers exactly the bytes that `encode` made; `decode` turns them back into a frozen value or refuses.
"""

from __future__ import annotations

import hashlib
from typing import TypeVar

import msgspec

from enclave_runner.contract.errors import Refused

T = TypeVar("T")
MAX_MESSAGE_BYTES = 16 << 20


class Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every contract value: frozen, keyword-only, closed."""


def encode(value: object) -> bytes:
    """Canonical JSON of a contract value (the same value always gives the same bytes)."""
    return msgspec.json.encode(value, order="deterministic")


def decode(data: bytes, kind: type[T]) -> T:
    """Parse canonical JSON into `kind`.

    Raises:
        Refused: `wire.malformed` when the bytes are too long or do not fit the type; the bytes are not quoted.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise Refused("wire.malformed", what=kind_name(kind))
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise Refused("wire.malformed", what=kind_name(kind)) from None


def kind_name(kind: object) -> str:
    """The name that a refusal shows for a type."""
    return getattr(kind, "__name__", "message").lower()


def digest(data: bytes) -> str:
    """SHA-256 in hex, the identity of every artefact, policy pack and release."""
    return hashlib.sha256(data).hexdigest()
