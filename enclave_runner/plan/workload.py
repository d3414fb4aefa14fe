"""Several statements of one job, answered jointly where they can be: one joint vector, every table a marginal of it.

Statements over the same tables with the same condition and options whose aggregates are all linear become the grouping
sets of one query: they share one clip, and what they say of the same people is consistent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from enclave_runner.contract.errors import Refused
from enclave_runner.plan.nodes import Aggregate, Key, SelectPlan
from enclave_runner.plan.parse import parse_select
from enclave_runner.plan.parse_aggregate import bare, bare_aggregate
from enclave_runner.plan.parse_text import statements
from enclave_runner.plan.statistics import LINEAR

MAX_STATEMENTS = 32
T = TypeVar("T")


@dataclass(frozen=True)
class Member:
    """One statement of a joint query: which of its keys (in the statement's order) and aggregates it shows."""

    plan: SelectPlan
    keys: tuple[int, ...]
    aggregates: tuple[int, ...]


@dataclass(frozen=True)
class Joint:
    """A query that answers all of its members; `order` are their numbers in the job's text."""

    plan: SelectPlan
    members: tuple[Member, ...]
    order: tuple[int, ...]


def parse_workload(sql: str) -> tuple[SelectPlan, ...]:
    """The plans of a text of one or more statements, separated by semicolons; positions count in the whole text.

    Raises:
        Refused: as `parse_select` does, and `sql.workload`.
    """
    parts = statements(sql)
    if len(parts) > MAX_STATEMENTS:
        raise Refused("sql.workload", what=f"more than {MAX_STATEMENTS} statements")
    return tuple(parse_select(" " * start + text) for start, text in parts) if parts else (parse_select(sql),)


def joint_queries(plans: Sequence[SelectPlan]) -> tuple[Joint, ...]:
    """The queries that answer a workload, those statements together that can be.

    Raises:
        Refused: `sql.workload` for what only a statement of its own may ask.
    """
    groups: dict[object, list[int]] = {}
    for number, plan in enumerate(plans):
        _check(plan)
        linear = all(item.kind in LINEAR for item in plan.aggregates)
        groups.setdefault(_shared(plan) if linear else number, []).append(number)
    return tuple(_joint([plans[number] for number in numbers], numbers) for numbers in groups.values())


def apart(joint: Joint) -> tuple[Joint, ...]:
    """The same statements, each as a query of its own."""
    return tuple(_joint([member.plan], [number]) for member, number in zip(joint.members, joint.order, strict=True))


def _check(plan: SelectPlan) -> None:
    options = plan.options
    if (options.epsilon, options.delta, options.absolute_error, options.relative_error) != (None,) * 4:
        raise Refused("sql.workload", what="a budget or a target of one statement")


def _shared(plan: SelectPlan) -> object:
    """What statements must have in common to be answered by one vector."""
    joins = tuple((join.source, tuple((bare(a), bare(b)) for a, b in join.pairs)) for join in plan.joins)
    sources = tuple((source.dataset_id, source.alias) for source in plan.sources)
    condition = None if plan.condition is None else bare(plan.condition)
    return sources, joins, condition, plan.options


def _joint(plans: list[SelectPlan], numbers: list[int]) -> Joint:
    keys: list[Key] = []
    aggregates: list[Aggregate] = []
    sets: list[tuple[int, ...]] = []
    members: list[Member] = []
    key_forms: list[object] = []
    forms: list[object] = []
    for plan in plans:
        own_keys = tuple(_place(keys, key, key_forms, bare(key.expression)) for key in plan.keys)
        own = tuple(_place(aggregates, item, forms, bare_aggregate(item)) for item in plan.aggregates)
        for kept in plan.grouping_sets:
            found = tuple(sorted(own_keys[at] for at in kept))
            if found not in sets:
                sets.append(found)
        members.append(Member(plan, own_keys, own))
    first = plans[0]
    if len(plans) == 1:
        return Joint(first, tuple(members), tuple(numbers))
    merged = SelectPlan(
        sources=first.sources,
        joins=first.joins,
        condition=first.condition,
        keys=tuple(keys),
        grouping_sets=tuple(sorted(sets, key=lambda item: (-len(item), item))),
        aggregates=tuple(aggregates),
        outputs=(),
        having=None,
        order=(),
        limit=None,
        options=first.options,
    )
    return Joint(merged, tuple(members), tuple(numbers))


def _place(items: list[T], item: T, forms: list[object], form: object) -> int:
    """Where the item stands among those of the same form, which is the item without its places in the text."""
    if form not in forms:
        items.append(item)
        forms.append(form)
    return forms.index(form)
