"""A workload: several statements under one budget, planned into joint queries, run, and told apart again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import msgspec

from enclave_runner.contract.codec import digest
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.job import QueryJob
from enclave_runner.contract.privacy import Budget, PrivacyLoss, number
from enclave_runner.contract.receipt import DPTable, DPTables
from enclave_runner.egress.estimate import Estimated
from enclave_runner.egress.table import Groups, epsilon_text, public_keys
from enclave_runner.plan.bound import BoundSelect
from enclave_runner.plan.nodes import SelectPlan
from enclave_runner.plan.workload import Joint, Member, apart, joint_queries
from enclave_runner.supervisor.enclave import Enclave
from enclave_runner.supervisor.holdings import HeldVersion
from enclave_runner.supervisor.plan_query import Find, PlannedQuery, answer_key, plan_query
from enclave_runner.supervisor.run_query import finished_table, measured_groups, query_extracts


@dataclass(frozen=True)
class PlannedTable:
    """One statement: its own bound plan, which joint query answers it, and where its keys and aggregates are there."""

    own: PlannedQuery
    joint: int
    member: Member


@dataclass(frozen=True)
class PlannedWorkload:
    """The joint queries of a workload and its tables in the order of the text."""

    queries: tuple[PlannedQuery, ...]
    tables: tuple[PlannedTable, ...]

    @property
    def held(self) -> tuple[HeldVersion, ...]:
        """The data versions that it reads, each once."""
        return tuple({version.dataset_id: version for query in self.queries for version in query.held}.values())

    @property
    def losses(self) -> tuple[PrivacyLoss, ...]:
        """What is reserved: for each entity set the sum over the queries that read it."""
        total: dict[str, int] = {}
        for query in self.queries:
            for loss in query.losses:
                total[loss.entity_set] = total.get(loss.entity_set, 0) + loss.pico_rho
        return tuple(PrivacyLoss(entity_set=name, pico_rho=pico_rho) for name, pico_rho in total.items())

    @property
    def budget(self) -> Budget:
        """The job's."""
        return self.queries[0].budget

    def key(self, policy_sha256: str) -> str:
        """The digest of all that the answers depend on."""
        own = [answer_key(table.own, policy_sha256) for table in self.tables]
        joint = [answer_key(query, policy_sha256) for query in self.queries]
        return digest("\0".join([*own, *joint]).encode())


def plan_workload(enclave: Enclave, plans: tuple[SelectPlan, ...], job: QueryJob, find: Find) -> PlannedWorkload:
    """Share the job's budget among joint queries, by the number of statements that each answers.

    Raises:
        Refused: as `plan_query` does, and `sql.workload`.
    """

    def planned(joint: Joint) -> PlannedQuery:
        return plan_query(enclave, joint.plan, job, find, Fraction(len(joint.members), len(plans)))

    fitting = [part for joint in joint_queries(plans) for part in _fitting(joint, planned)]
    queries = tuple(query for _, query in fitting)
    if any(query.plan.is_open for query in queries):
        raise Refused("sql.workload", what="a group key without public values")
    numbered = {
        number: PlannedTable(plan_query(enclave, member.plan, job, find), at, member)
        for at, (joint, _) in enumerate(fitting)
        for number, member in zip(joint.order, joint.members, strict=True)
    }
    return PlannedWorkload(queries, tuple(numbered[number] for number in range(len(plans))))


def answer_workload(enclave: Enclave, workload: PlannedWorkload) -> DPTables:
    """The noisy tables.

    Raises:
        Failed: with a code of the stage; the text never holds data.
    """
    answered = []
    for query in workload.queries:
        with query_extracts(enclave, query) as made:
            answered.append(measured_groups(enclave, query, query.shares, made))
    pico_rho = sum(query.shares.pico_rho for query in workload.queries)
    pure = [query.shares.epsilon for query in workload.queries]
    known = [part for part in pure if part is not None]
    together = sum(known, Decimal(0)) if len(known) == len(pure) else None
    epsilon = epsilon_text(pico_rho, together, number(workload.budget.delta))
    tables: list[DPTable] = []
    for table in workload.tables:
        groups, clip = answered[table.joint]
        own = _own_groups(table, workload.queries[table.joint].plan, groups)
        made_table = finished_table(enclave, table.own, table.own.shares, own, clip)
        loss = PrivacyLoss(entity_set=made_table.loss.entity_set, pico_rho=pico_rho)
        tables.append(msgspec.structs.replace(made_table, loss=loss, epsilon=epsilon))
    return DPTables(tables=tuple(tables))


def _fitting(joint: Joint, planned: Callable[[Joint], PlannedQuery]) -> list[tuple[Joint, PlannedQuery]]:
    """The joint query with its plan, or its statements apart where its groups together are too many."""
    try:
        return [(joint, planned(joint))]
    except Refused as refused:
        if len(joint.members) == 1 or refused.rule not in ("sql.cells", "sql.aggregates", "dataset.domain-missing"):
            raise
    return [(part, planned(part)) for part in apart(joint)]


def _own_groups(table: PlannedTable, joint: BoundSelect, groups: Groups) -> Groups:
    """One statement's groups, in its own order of keys, out of those of the joint query."""
    places = {key: row for row, key in enumerate(groups.keys)}
    keys = tuple(key for part in public_keys(table.own.plan) for key in part)
    rows = []
    for key in keys:
        whole: list[str | None] = [None] * len(joint.axes)
        for at, label in zip(table.member.keys, key, strict=True):
            whole[at] = label
        if tuple(whole) not in places:
            raise Failed("egress.shape")
        rows.append(places[tuple(whole)])
    aggregates = tuple(
        Estimated(
            tuple(groups.aggregates[at].values[row] for row in rows),
            tuple(groups.aggregates[at].half_widths[row] for row in rows),
        )
        for at in table.member.aggregates
    )
    return Groups(keys, aggregates)
