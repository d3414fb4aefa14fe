"""Whose signatures count for the enclave: told once, when its home is made."""

from __future__ import annotations

from enclave_runner.contract.codec import Value
from enclave_runner.contract.signing import PublicKey


class Trust(Value, frozen=True):
    """The control plane's keys (tickets) and the bureau officers' keys (grants, dataset specs)."""

    control: tuple[PublicKey, ...]
    officers: tuple[PublicKey, ...]

    def __post_init__(self) -> None:
        if not self.control or not self.officers:
            raise ValueError("trust names at least one key of each kind")
        if {key.raw for key in self.control} & {key.raw for key in self.officers}:
            raise ValueError("an officer's key is not a key of the control plane")
