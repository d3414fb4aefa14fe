"""The public sample quotes, at a moment when their collateral was current."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sandbox.client.tee import QuotePolicy

FOLDER = Path(__file__).parents[1] / "data" / "tee"
NOW = datetime(2025, 6, 20, tzinfo=UTC)
TDX_CODE = "91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407de03ae6dc5f87f27428b2538873118b7"
SGX_CODE = "33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb"


@dataclass(frozen=True)
class Sample:
    """A quote. `signed` are the places where everything is signed or signs; the rest is framing, and certificates in a
    text form that can be written in more than one way."""

    name: str
    report_data: bytes
    signed: tuple[range, ...]
    policy: QuotePolicy

    @property
    def quote(self) -> bytes:
        """The raw quote."""
        return (FOLDER / self.name).read_bytes()

    @property
    def collateral(self) -> str:
        """Its collateral."""
        return (FOLDER / f"{self.name}_collateral.json").read_text()


TDX = Sample(
    "tdx_quote",
    bytes.fromhex(
        "9a9d48e7f6799642d3d1b34e1e5e1742d4bb02dd6ddd551862c1211d35c304f9"
        "eca3efdbb481601c163cf52493d6e44aed55d51ec39b7e518fadb92c2b523f20"
    ),
    (range(632), range(636, 764), range(770, 1252)),
    QuotePolicy(registers={"mr_td": TDX_CODE}, allow_dynamic_platform=True, allow_cached_keys=True, allow_smt=True),
)
SGX = Sample(
    "sgx_quote",
    b"Hello, world!".ljust(64, b"\0"),
    (range(432), range(436, 1046)),
    QuotePolicy(registers={"mr_enclave": SGX_CODE}, statuses=("ConfigurationAndSWHardeningNeeded",)),
)
