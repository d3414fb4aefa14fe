"""What may be spent: the lifetime of every entity set, and which sets lie inside another one.

A set that is nested in another (residents in households) loses whatever its parent loses: whoever adds or removes a
household adds or removes its residents. An officer who allows a loss to a household has allowed it to its residents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from enclave_runner.contract.grant import Grant
from enclave_runner.contract.privacy import PrivacyLoss

Losses = tuple[PrivacyLoss, ...]


@dataclass(frozen=True)
class Caps:
    """The lifetime loss of an entity set, and the parent of each nested one. `nested` has no cycle."""

    lifetime: Callable[[str], PrivacyLoss]
    nested: Mapping[str, str] = field(default_factory=dict)

    def with_nested(self, losses: Iterable[PrivacyLoss]) -> Losses:
        """The losses of one job as they are booked: one per entity set, by name, each nested set at least its parents'.

        Losses of the same set add. Booking what was booked already changes nothing.
        """
        booked: dict[str, PrivacyLoss] = {}
        for loss in losses:
            known = booked.get(loss.entity_set)
            booked[loss.entity_set] = loss if known is None else _sum(known, loss)
        direct = dict(booked)
        for entity_set in self.nested:
            for parent in self.parents(entity_set):
                if parent in direct:
                    booked[entity_set] = _larger(entity_set, booked.get(entity_set), direct[parent])
        return tuple(booked[name] for name in sorted(booked))

    def allotment(self, grant: Grant, entity_set: str) -> PrivacyLoss:
        """What a grant allows that set to lose: its own budget and, since they fall on it too, those of its parents."""
        total = grant.allotment(entity_set)
        for parent in self.parents(entity_set):
            total = _sum(total, grant.allotment(parent))
        return total

    def parents(self, entity_set: str) -> tuple[str, ...]:
        """The sets that a set is nested in, nearest first; ValueError for a set that is nested in itself."""
        chain: list[str] = []
        inner = entity_set
        while inner in self.nested:
            inner = self.nested[inner]
            if inner == entity_set or inner in chain:
                raise ValueError("an entity set is nested in itself")
            chain.append(inner)
        return tuple(chain)


def _sum(one: PrivacyLoss, other: PrivacyLoss) -> PrivacyLoss:
    return PrivacyLoss(
        entity_set=one.entity_set,
        pico_rho=one.pico_rho + other.pico_rho,
        atto_delta=one.atto_delta + other.atto_delta,
    )


def _larger(entity_set: str, own: PrivacyLoss | None, parent: PrivacyLoss) -> PrivacyLoss:
    return PrivacyLoss(
        entity_set=entity_set,
        pico_rho=max(own.pico_rho if own else 0, parent.pico_rho),
        atto_delta=max(own.atto_delta if own else 0, parent.atto_delta),
    )
