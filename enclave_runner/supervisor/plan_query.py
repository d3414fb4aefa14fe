"""From a parsed query to what will run and what it will cost: bind, share out, rehearse. No data are touched.

The text alone is at work, so its refusals may say all; whatever depends on bounds is public as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

from enclave_runner.contract.codec import digest, encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.grant import Scope
from enclave_runner.contract.job import QueryJob
from enclave_runner.contract.privacy import Budget, PrivacyLoss, asked_budget, number
from enclave_runner.dp.quantile import choice_scale
from enclave_runner.egress.shares import Shares, learned_norms, share_out
from enclave_runner.egress.table import expected_half_width
from enclave_runner.kinds.tasks import Finishing, Rehearsal
from enclave_runner.plan.bind import bind_select
from enclave_runner.plan.bound import BoundSelect
from enclave_runner.plan.finish import render_finish
from enclave_runner.plan.nodes import Noise, SelectPlan, Slot
from enclave_runner.plan.render import render_candidates, render_histogram, render_sums, render_units, render_values
from enclave_runner.plan.tables import Granted
from enclave_runner.supervisor.enclave import Enclave
from enclave_runner.supervisor.extracts import partitions_for, query_extraction, tables_of
from enclave_runner.supervisor.holdings import HeldVersion

MAX_ANSWER_CELLS = 1 << 20
PRE_ESTIMATE = Fraction(1, 10)
POWERS = {Noise.GAUSSIAN: (2,), Noise.LAPLACE: (1,), Noise.AUTO: (2, 1)}

Find = Callable[[str], tuple[HeldVersion, Scope]]


@dataclass(frozen=True)
class PlannedQuery:
    """A DP query ready to run: its tables, its bound plan, the share of every vector, and in how many partitions."""

    held: tuple[HeldVersion, ...]
    plan: BoundSelect
    budget: Budget
    shares: Shares
    partitions: int

    @property
    def losses(self) -> tuple[PrivacyLoss, ...]:
        """What is reserved: the same for every entity set that the query reads."""
        return tuple(
            PrivacyLoss(entity_set=name, pico_rho=self.reserved, atto_delta=self.atto_delta)
            for name in self.plan.entity_sets
        )

    @property
    def atto_delta(self) -> int:
        """δ·10¹⁸ of all thresholds, that of the pre-estimate included."""
        return self.shares.atto_delta + (0 if self.first is None else self.first.atto_delta)

    @property
    def reserved(self) -> int:
        """ρ·10¹² of all vectors, the pre-estimate of a relative target included."""
        return self.shares.pico_rho + (0 if self.first is None else self.first.pico_rho)

    @property
    def first(self) -> Shares | None:
        """The shares of the pre-estimate that a relative target needs, None without one."""
        if self.plan.options.relative_error is None:
            return None
        return share_out(self.plan, self.budget, PRE_ESTIMATE)

    @property
    def learns(self) -> bool:
        """Whether a clip is learned from the units' norms."""
        return bool(learned_norms(self.plan))


def plan_query(
    enclave: Enclave, plan: SelectPlan, job: QueryJob, find: Find, portion: Fraction = Fraction(1)
) -> PlannedQuery:
    """Bind a parsed query; `portion` is its part of the job's budget.

    Raises:
        Refused: by the rule that says no.
    """
    if len(plan.aggregates) > enclave.limits.max_aggregates:
        raise Refused("sql.aggregates", max=enclave.limits.max_aggregates)
    budget = _budget(plan, job)
    found = {source.dataset_id: find(source.dataset_id) for source in plan.sources}
    catalogue = {name: Granted(held.spec, scope) for name, (held, scope) in found.items()}
    bound, shares = _bound(plan, catalogue, budget, enclave.limits.max_cells)
    if portion != 1:
        shares = share_out(bound, budget, portion)
    held = tuple(found[source.dataset_id][0] for source in bound.sources)
    for version, source in zip(held, bound.sources, strict=True):
        version.require(source.columns, with_key=source.unit or source.rows or source.norm is not None)
    _check_room(bound)
    order = query_extraction(bound, held, bool(learned_norms(bound)))
    return PlannedQuery(held, bound, budget, shares, partitions_for(enclave, order))


def rehearsal_of(query: PlannedQuery) -> Rehearsal:
    """Everything that will be run beside the data."""
    return Rehearsal(sql=rendered(query.plan), tables=tables_of(query.held, query.plan))


def finishing_of(query: PlannedQuery) -> Finishing | None:
    """What will be run on the noisy columns, without any; None when nothing is."""
    sql = render_finish(query.plan)
    if sql is None:
        return None
    return Finishing(sql=sql, depth=len(query.plan.axes), width=len(query.plan.estimates), keys=(), values=())


def rendered(plan: BoundSelect) -> tuple[str, ...]:
    """The SQL of all vectors, at the catalogue's clips."""
    sql = [render_sums(plan, plan.sums.clipping.limit)] if plan.sums is not None else []
    sql += [render_units(plan, item) for item in plan.units]
    sql += [render_values(plan, item) for item in plan.values]
    sql += [render_histogram(plan, item, item.clipping.limit) for item in plan.histograms]
    return tuple([*sql, render_candidates(plan)] if plan.is_open else sql)


def answer_key(query: PlannedQuery, policy_sha256: str) -> str:
    """The digest of all that an answer depends on: what is computed, from which data, under which budget and rules."""
    plan = query.plan
    # A slot is told by its number, what is computed by its SQL: its own form knows places in the text.
    shown = [
        (item.name, encode(item.expression) if isinstance(item.expression, Slot) else b"") for item in plan.outputs
    ]
    parts = [
        *rendered(plan),
        *(f"{axis.name}\n{axis.sql}\n{axis.labels}" for axis in plan.axes),
        str(plan.grouping_sets),
        str([encode(item) for item in plan.estimates]),
        str(shown),
        str(render_finish(plan)),
        str([output.name for output in plan.outputs]),
        str(encode(plan.options)),
        str(encode(query.budget)),
        str([(version.dataset_id, version.version) for version in query.held]),
        policy_sha256,
    ]
    return digest("\0".join(parts).encode())


def _budget(plan: SelectPlan, job: QueryJob) -> Budget:
    """What the text asks for, never more than the job's own budget."""
    options = plan.options
    budget = asked_budget(options.epsilon or job.budget.epsilon, options.delta or job.budget.delta)
    for asked, cap in ((budget.epsilon, job.budget.epsilon), (budget.delta, job.budget.delta)):
        if number(asked) > number(cap):
            raise Refused("budget.options", asked=asked, max=cap)
    return budget


def _bound(
    plan: SelectPlan, catalogue: dict[str, Granted], budget: Budget, max_cells: int
) -> tuple[BoundSelect, Shares]:
    """The plan under the noise that it asks for; of two, the one with the smaller error at the same (ε, δ)."""
    made = []
    for power in POWERS[plan.options.noise]:
        bound = bind_select(plan, catalogue, max_cells, power)
        made.append((bound, _shares(bound, budget)))
    return min(made, key=lambda item: _error(*item))


def _shares(plan: BoundSelect, budget: Budget) -> Shares:
    """The shares; of a target, the least that reach it at the catalogue's bounds.

    Raises:
        Refused: `budget.target` when the whole budget does not reach it.
    """
    if plan.options.relative_error is not None:
        return share_out(plan, budget, 1 - PRE_ESTIMATE)
    whole = share_out(plan, budget)
    _check_choices(plan, whole)
    if plan.options.absolute_error is None:
        return whole
    target = float(number(plan.options.absolute_error))
    reached = _widest(plan, whole)
    if target <= 0 or reached > target:
        raise Refused("budget.target", asked=plan.options.absolute_error, gives=f"{reached:.2f}")
    low, high = Fraction(0), Fraction(1)
    for _ in range(24):
        middle = (low + high) / 2
        try:
            fits = _widest(plan, share_out(plan, budget, middle)) <= target
        except Refused:
            fits = False
        low, high = (low, middle) if fits else (middle, high)
    return share_out(plan, budget, high)


def _check_choices(plan: BoundSelect, shares: Shares) -> None:
    """Refuse, before anything is spent, a quantile so fine or a loss so small that no choice is wide enough.

    Raises:
        Refused: `budget.malformed`.
    """
    try:
        _choice_scales(plan, shares)
    except Failed:
        raise Refused("budget.malformed") from None


def _choice_scales(plan: BoundSelect, shares: Shares) -> list[float]:
    """The scale of every quantile's choice, in units of its histogram's weight.

    Raises:
        Failed: as `choice_scale` does.
    """
    made = []
    for (index, share), part in shares.quantiles.items():
        fraction, clipping = Fraction(share), plan.histograms[index].clipping
        move = clipping.sensitivity(clipping.limit)
        made.append(choice_scale(fraction.numerator, fraction.denominator, move, part.choice_pico_rho))
    return made


def _widest(plan: BoundSelect, shares: Shares) -> float:
    """The largest half width that noise and bounds fix.

    Raises:
        Refused: `budget.target-unknown` when they fix none of them.
    """
    widths = [expected_half_width(plan, shares, item) for item in plan.estimates]
    if any(width is None for width in widths):
        raise Refused("budget.target-unknown")
    return max(width for width in widths if width is not None)


def _error(plan: BoundSelect, shares: Shares) -> float:
    """What two noises are compared by: the noise's deviation on the joint vector, else the widest interval; of
    quantiles alone, which have none, the scale at which they are chosen."""
    if plan.sums is not None and shares.sums is not None:
        clipping = plan.sums.clipping
        # Both noises scale entries alike, so that their vectors compare. Scaled up from a small bound: that of a
        # large one is beyond any mechanism's before it is coarsened.
        ratio = clipping.sensitivity(clipping.limit) / clipping.weight_scale
        return ratio * math.sqrt(shares.sums.mechanism(clipping.weight_scale).variance)
    widths = [expected_half_width(plan, shares, item) for item in plan.estimates]
    known = [width for width in widths if width is not None]
    return max(known or _choice_scales(plan, shares), default=0.0)


def _check_room(plan: BoundSelect) -> None:
    """What the answer of one worker can carry."""
    width = len(plan.sums.statistics) if plan.sums is not None else 0
    cells = plan.cells * (width + len(plan.units)) + sum(len(item.labels) for item in plan.values)
    cells += sum(plan.cells * item.bins for item in plan.histograms)
    if cells > MAX_ANSWER_CELLS:
        raise Refused("sql.cells", max=MAX_ANSWER_CELLS)


def with_portion(query: PlannedQuery, portion: Fraction) -> PlannedQuery:
    """The same query for a smaller part of its budget."""
    return replace(query, shares=share_out(query.plan, query.budget, portion))
