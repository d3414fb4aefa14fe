"""The enclave's keys that a caller trusts, in either of their forms."""

from __future__ import annotations

from collections.abc import Sequence

from enclave_runner.contract.signing import PublicKey
from sandbox.client.request import parse_key

Trusted = str | PublicKey | Sequence[str | PublicKey]


def trusted_keys(trusted: Trusted) -> tuple[PublicKey, ...]:
    """The keys, from `algorithm:hex` or as values; ValueError for none, or for what is no key."""
    given = (trusted,) if isinstance(trusted, str | PublicKey) else tuple(trusted)
    if not given:
        raise ValueError("at least one key of the enclave must be trusted")
    return tuple(key if isinstance(key, PublicKey) else parse_key(key) for key in given)
