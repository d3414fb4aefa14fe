"""The enclave's own caps, from its own copy of the policy pack."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from enclave_runner.contract.codec import Value
from enclave_runner.contract.errors import Failed
from enclave_runner.contract.privacy import number, to_pico_rho
from enclave_runner.contract.rulebook import PolicyPack
from enclave_runner.jail.profile import JailProfile

IMPORT_SCRATCH_MB = 2048  # where the digests of the keys go that a large import cannot hold


class Limits(Value, frozen=True):
    """Caps that no ticket can lift. ρ in units of 10⁻¹²."""

    lifetime_default: int
    lifetimes: dict[str, int]
    max_epsilon: Decimal
    max_delta: Decimal
    max_cells: int
    max_aggregates: int
    model_bytes: int
    import_bytes: int
    parquet_bytes: int
    ticket_seconds: int
    first_release_ms: int
    job_profile: JailProfile
    extract_profile: JailProfile
    parse_profile: JailProfile
    import_profile: JailProfile

    @property
    def first_release(self) -> float:
        """The first step of the release schedule, in seconds."""
        return self.first_release_ms / 1000

    def lifetime(self, entity_set: str) -> int:
        """The lifetime ρ·10¹² of one entity set."""
        return self.lifetimes.get(entity_set, self.lifetime_default)


def read_limits(pack: PolicyPack) -> Limits:
    """Limits from limits.toml.

    Raises:
        Failed: `policy.limits` when a limit is missing or malformed: nothing runs without limits.
    """
    try:
        return _limits(pack.table("limits.toml"))
    except (KeyError, ValueError, TypeError):
        raise Failed("policy.limits") from None


def _limits(table: dict[str, Any]) -> Limits:
    privacy, jail = table["privacy"], table["jail"]
    memory = int(jail["memory_mb"])
    return Limits(
        lifetime_default=to_pico_rho(number(privacy["lifetime_rho_default"])),
        lifetimes={name: to_pico_rho(number(rho)) for name, rho in privacy["lifetime_rho"].items()},
        max_epsilon=number(privacy["max_job_epsilon"]),
        max_delta=number(privacy["max_job_delta"]),
        max_cells=int(table["query"]["max_cells"]),
        max_aggregates=int(table["query"]["max_aggregates"]),
        model_bytes=int(table["model"]["max_bytes"]),
        import_bytes=int(table["import"]["max_bytes"]),
        parquet_bytes=int(table["import"]["parquet_mb"]) << 20,
        ticket_seconds=int(table["ticket"]["max_life_seconds"]),
        first_release_ms=_positive(table["egress"]["first_release_ms"]),
        job_profile=JailProfile(memory_mb=memory, wall_seconds=int(jail["wall_seconds"])),
        parse_profile=JailProfile(memory_mb=memory, wall_seconds=int(jail["parse_wall_seconds"])),
        extract_profile=JailProfile(
            memory_mb=memory,
            wall_seconds=int(jail["wall_seconds"]),
            file_mb=int(jail["extract_mb"]),
            scratch_mb=int(jail["extract_mb"]),
        ),
        import_profile=JailProfile(
            memory_mb=memory,
            wall_seconds=int(jail["import_wall_seconds"]),
            cpu_seconds=2 * int(jail["import_wall_seconds"]),
            file_mb=IMPORT_SCRATCH_MB,
            scratch_mb=IMPORT_SCRATCH_MB,
        ),
    )


def _positive(value: Any) -> int:
    if int(value) <= 0:
        raise ValueError("a step of the schedule takes time")
    return int(value)
