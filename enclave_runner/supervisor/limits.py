"""The enclave's own caps, from its own copy of the policy pack."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from enclave_runner.contract.codec import Value
from enclave_runner.contract.errors import Failed
from enclave_runner.contract.privacy import PrivacyLoss, number, to_atto_delta, to_pico_rho
from enclave_runner.contract.rulebook import PolicyPack
from enclave_runner.jail.profile import JailProfile
from enclave_runner.supervisor.caps import Caps

IMPORT_SCRATCH_MB = 2048  # where the digests of the keys go that a large import cannot hold


class VerificationLimits(Value, frozen=True):
    """Caps of open products. Guesses are counted in thousandths of a bit.

    `profile` is the jail of builds and of serving workers, before what depends on the size of a table.
    """

    milli_bits_per_subject: int
    milli_bits_of_a_score: int
    alarm_milli_bits: int
    evaluations_per_caller: int
    k_min: int
    max_batch: int
    max_calls: int
    max_days: int
    max_products: int
    max_rows: int
    answer_seconds: int
    profile: JailProfile


class Limits(Value, frozen=True):
    """Caps that no ticket can lift. ρ in units of 10⁻¹², δ in units of 10⁻¹⁸.

    `nested` names the set that each nested set lies in.
    """

    lifetime_default: int
    lifetimes: dict[str, int]
    delta_default: int
    deltas: dict[str, int]
    nested: dict[str, str]
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
    script_profile: JailProfile  # of one block
    script_slack_ms: int  # of a block's slot beside its wall time: to build its jail and to end it
    verification: VerificationLimits

    def __post_init__(self) -> None:
        for name in ("", *self.entity_sets):  # a lifetime that is no loss, or a set nested in itself: ValueError
            self.lifetime_loss(name)
            self.caps.parents(name)

    @property
    def first_release(self) -> float:
        """The first step of the release schedule, in seconds."""
        return self.first_release_ms / 1000

    def lifetime(self, entity_set: str) -> int:
        """The lifetime ρ·10¹² of one entity set."""
        return self.lifetimes.get(entity_set, self.lifetime_default)

    def lifetime_loss(self, entity_set: str) -> PrivacyLoss:
        """The lifetime ρ and δ of one entity set."""
        delta = self.deltas.get(entity_set, self.delta_default)
        return PrivacyLoss(entity_set=entity_set, pico_rho=self.lifetime(entity_set), atto_delta=delta)

    @property
    def caps(self) -> Caps:
        """What the odometer is held against."""
        return Caps(self.lifetime_loss, self.nested)

    @property
    def entity_sets(self) -> frozenset[str]:
        """Every entity set that the pack names."""
        return frozenset(self.lifetimes) | frozenset(self.deltas) | frozenset(self.nested) | {*self.nested.values()}


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
    nested = {str(name): str(parent) for name, parent in privacy["nested"].items()}
    memory = int(jail["memory_mb"])
    return Limits(
        lifetime_default=to_pico_rho(number(privacy["lifetime_rho_default"])),
        lifetimes={name: to_pico_rho(number(rho)) for name, rho in privacy["lifetime_rho"].items()},
        delta_default=_delta(privacy["lifetime_delta_default"]),
        deltas={name: _delta(delta) for name, delta in privacy["lifetime_delta"].items()},
        nested=nested,
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
        script_profile=JailProfile(
            memory_mb=_positive(table["script"]["memory_mb"]),
            wall_seconds=_positive(table["script"]["seconds_per_block"]),
            cpu_seconds=2 * _positive(table["script"]["seconds_per_block"]) + 1,
        ),
        script_slack_ms=_positive(table["script"]["slack_ms"]),
        verification=_verification(table["verification"]),
    )


def _verification(table: dict[str, Any]) -> VerificationLimits:
    return VerificationLimits(
        milli_bits_per_subject=_milli(table["bits_per_subject"]),
        milli_bits_of_a_score=_milli(table["bits_of_a_score"]),
        alarm_milli_bits=_milli(table["alarm_bits"]),
        evaluations_per_caller=_positive(table["evaluations_per_caller"]),
        k_min=_positive(table["k_min"]),
        max_batch=_positive(table["max_batch"]),
        max_calls=_positive(table["max_calls"]),
        max_days=_positive(table["max_days"]),
        max_products=_positive(table["max_products"]),
        max_rows=_positive(table["max_rows"]),
        answer_seconds=_positive(table["answer_seconds"]),
        profile=JailProfile(memory_mb=_positive(table["memory_mb"])),
    )


def _milli(text: str) -> int:
    bits = number(text)
    if bits <= 0:
        raise ValueError("a limit of guesses is above 0")
    return int(bits * 1000)


def _delta(text: str) -> int:
    delta = number(text)
    if not 0 <= delta < 1:
        raise ValueError("a lifetime δ is at least 0 and below 1")
    return to_atto_delta(delta)


def _positive(value: Any) -> int:
    if int(value) <= 0:
        raise ValueError("above 0")
    return int(value)
