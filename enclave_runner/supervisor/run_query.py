"""Running a DP query: learn the clips, take exact vectors, add noise, estimate, arrange. Its loss is reserved by now.

Several passes over the extract may be made, each for a noisy answer that the next one needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction

import msgspec

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.privacy import PrivacyLoss, number
from enclave_runner.contract.receipt import Clip, DPTable
from enclave_runner.dp.tail import threshold_for
from enclave_runner.egress import estimate, measure
from enclave_runner.egress.estimate import Estimated
from enclave_runner.egress.measure import Learned, Noisy
from enclave_runner.egress.shares import Share, Shares, corrects
from enclave_runner.egress.table import Arrangement, Groups, epsilon_text, joined, public_keys, ratio_text, release
from enclave_runner.kinds.tasks import Aggregation, CellQuery, Discovery, Finished, KeyedVectors, Spread, Vectors
from enclave_runner.plan.bound import BoundSelect, NormKind, Sums
from enclave_runner.plan.nodes import AggregateKind
from enclave_runner.plan.render import render_candidates, render_histogram, render_sums, render_units, render_values
from enclave_runner.plan.statistics import LINEAR
from enclave_runner.supervisor.enclave import Enclave
from enclave_runner.supervisor.extracts import Extracts, extracts, query_extraction
from enclave_runner.supervisor.plan_query import PRE_ESTIMATE, PlannedQuery, finishing_of, with_portion

MAX_KEYS = 200_000
KEYS_MARGIN = 20.0  # standard deviations between the noisy number of keys and the most that a worker gives


@dataclass(frozen=True)
class Answered:
    """The table, and what it has cost in the end where that is less than was reserved."""

    table: DPTable
    spent: tuple[PrivacyLoss, ...] | None


@dataclass(frozen=True)
class Clips:
    """The clip of the joint vector and of every quantile's histogram; `high` is that of the correction."""

    sums: int
    histograms: tuple[int, ...]
    high: int


def answer_query(enclave: Enclave, query: PlannedQuery) -> Answered:
    """The noisy table.

    Raises:
        Failed: with a code of the stage; the text never holds data.
    """
    with query_extracts(enclave, query) as made:
        if query.first is None:
            groups, clip = measured_groups(enclave, query, query.shares, made)
            return Answered(finished_table(enclave, query, query.shares, groups, clip), None)
        rough, _ = measured_groups(enclave, query, query.first, made)
        final = with_portion(query, _portion(query, rough))
        groups, clip = measured_groups(enclave, final, final.shares, made)
        table = finished_table(enclave, final, final.shares, groups, clip)
    return _with_first(query, query.first, final.shares, table)


def _with_first(query: PlannedQuery, first: Shares, final: Shares, table: DPTable) -> Answered:
    """The table with the loss of its pre-estimate, and what both have cost together."""
    both = first.pico_rho + final.pico_rho
    pure = None if first.epsilon is None or final.epsilon is None else first.epsilon + final.epsilon
    epsilon = epsilon_text(both, pure, number(query.budget.delta) - first.delta - final.delta)
    spent = tuple(
        PrivacyLoss(entity_set=loss.entity_set, pico_rho=both, atto_delta=loss.atto_delta) for loss in query.losses
    )
    return Answered(msgspec.structs.replace(table, loss=spent[0], epsilon=epsilon), spent)


def _portion(query: PlannedQuery, rough: Groups) -> Fraction:
    """The part of the budget that brings every interval that stands out of the pre-estimate's noise to the target;
    all that there is where none does."""
    target = float(number(query.plan.options.relative_error or "1"))
    known = [
        width / abs(float(value))
        for found in rough.aggregates
        for value, width in zip(found.values, found.half_widths, strict=True)
        if value and width is not None and abs(float(value)) > width
    ]
    if not known:
        return 1 - PRE_ESTIMATE
    worst = max(known)
    power = 2 if query.plan.power == 2 else 1
    wanted = PRE_ESTIMATE * Fraction((worst / target) ** power if target > 0 else 1).limit_denominator(10**6)
    return min(1 - PRE_ESTIMATE, max(Fraction(1, 1000), wanted))


def query_extracts(enclave: Enclave, query: PlannedQuery) -> AbstractContextManager[Extracts]:
    """What a query may see, with the histograms that its clips are learned from."""
    order = query_extraction(query.plan, query.held, query.learns, query.partitions)
    return extracts(enclave, order, query.held, tuple(spreads_of(query.plan, query.shares).values()))


def measured_groups(
    enclave: Enclave, query: PlannedQuery, shares: Shares, made: Extracts
) -> tuple[Groups, Clip | None]:
    """Every group with its noisy aggregates, and how they were clipped.

    Raises:
        Failed: with a code of the stage.
    """
    learned = _learn(query.plan, shares, made)
    clips = _clips(query.plan, shares, learned)
    if query.plan.is_open:
        groups = _open_groups(enclave, query.plan, shares, clips, made)
    else:
        groups = _public_groups(enclave, query.plan, shares, clips, made)
    return groups, _clip(query.plan, clips, learned)


def spreads_of(plan: BoundSelect, shares: Shares) -> dict[NormKind, Spread]:
    """The histogram of every norm whose clip is to be learned."""
    return {
        kind: Spread(norm=kind.value, edges=measure.edges_of(next(c for c in plan.clippings if c.kind is kind)))
        for kind in shares.learning
    }


def _learn(plan: BoundSelect, shares: Shares, made: Extracts) -> dict[NormKind, Learned]:
    """The noisy histograms."""
    return {
        kind: measure.learn(made.spread(task), task.edges, shares.learning[kind])
        for kind, task in spreads_of(plan, shares).items()
    }


def _clips(plan: BoundSelect, shares: Shares, learned: dict[NormKind, Learned]) -> Clips:
    sums = measure.sums_clip(plan, shares, learned)
    histograms = tuple(
        measure.histogram_clip(item, _quantile_share(shares, index), learned, plan.cells)
        for index, item in enumerate(plan.histograms)
    )
    high = sums
    if plan.sums is not None:
        found = learned.get(plan.sums.clipping.kind)
        furthest = None if found is None else found.furthest
        high = max(sums, plan.sums.clipping.limit if furthest is None else furthest)
    return Clips(sums, histograms, high)


def _quantile_share(shares: Shares, index: int) -> Share:
    return next(share for (histogram, _), share in shares.quantiles.items() if histogram == index)


def _public_groups(enclave: Enclave, plan: BoundSelect, shares: Shares, clips: Clips, made: Extracts) -> Groups:
    vectors = _summed(enclave, made, _aggregation(plan, shares, clips))
    width = len(plan.sums.statistics) if plan.sums is not None else 0
    sets: list[list[Noisy]] = [[] for _ in plan.grouping_sets]
    if plan.sums is not None and shares.sums is not None:
        sets = measure.noisy_sums(plan, plan.sums, shares.sums, clips.sums, vectors[:width])
        rest = vectors[width:]
        if shares.correction is not None:
            high = _total(plan, plan.sums, shares.correction, clips.high, rest[:width])
            sets = [_corrected(plan, vectors_, sets[0], high) for vectors_ in sets]
            rest = rest[width:]
    else:
        rest = vectors
    others = _others(plan, shares, clips, rest)
    return Groups(
        keys=tuple(key for keys in public_keys(plan) for key in keys),
        aggregates=joined([_estimated(plan, found, others) for found in sets]),
    )


def _aggregation(plan: BoundSelect, shares: Shares, clips: Clips) -> Aggregation:
    """Every exact vector of public groups, in the order in which `_public_groups` takes them."""
    axes = tuple(axis.labels for axis in plan.axes)
    queries: list[CellQuery] = []
    coarsenings: list[int] = []
    if plan.sums is not None:
        width = len(plan.sums.statistics)
        wanted = [clips.sums] if shares.correction is None else [clips.sums, clips.high]
        coarse = [measure.sums_coarsening(plan, clip) for clip in wanted]
        # Both clips in one pass over the rows, where one coarsening serves both.
        passes = [tuple(wanted)] if len(set(coarse)) == 1 else [(clip,) for clip in wanted]
        for together, coarsening in zip(passes, coarse, strict=False):
            sql = render_sums(plan, *together)
            queries.append(CellQuery(sql=sql, axes=axes, width=width * len(together)))
            coarsenings.append(coarsening)
    queries += [CellQuery(sql=render_units(plan, item), axes=axes, width=1) for item in plan.units]
    queries += [CellQuery(sql=render_values(plan, item), axes=(item.labels,), width=1) for item in plan.values]
    queries += [
        CellQuery(sql=render_histogram(plan, item, clip), axes=(*axes, item.bins), width=1)
        for item, clip in zip(plan.histograms, clips.histograms, strict=True)
    ]
    coarsenings += [1] * (len(queries) - len(coarsenings))
    return Aggregation(tables=len(plan.sources), queries=tuple(queries), coarsenings=tuple(coarsenings))


def _total(plan: BoundSelect, sums: Sums, share: Share, clip: int, exact: Sequence[Sequence[int]]) -> list[Noisy]:
    """The statistics over all groups together, at the higher clip of the correction."""
    coarsening = measure.sums_coarsening(plan, clip)
    return measure.whole_sums(plan, sums, share, clip, coarsening, [sum(vector) for vector in exact])


def _corrected(plan: BoundSelect, vectors: list[Noisy], finest: list[Noisy], high: list[Noisy]) -> list[Noisy]:
    """The vectors rescaled by the ratio of a total at the higher clip to that at its own, where both stand out.

    One ratio for all, that of the rows where they are counted: so no mean leaves its bounds, and a centred total, which
    may be near 0 at one clip and not at the other, tells none.
    """
    counts = [item.count for item in plan.estimates if item.count is not None]
    ratios = [measure.ratio_of(total, low) for total, low in zip(high, finest, strict=True)]
    return [estimate.rescaled(vector, *ratios[counts[0] if counts else at]) for at, vector in enumerate(vectors)]


def _others(plan: BoundSelect, shares: Shares, clips: Clips, exact: Sequence[Sequence[int]]) -> dict[str, Estimated]:
    """Distinct counts and quantiles: each has a vector of its own."""
    found: dict[str, Estimated] = {}
    rest = iter(exact)
    for index, (units, share) in enumerate(zip(plan.units, shares.units, strict=True)):
        found[f"units-{index}"] = estimate.plain(measure.noisy_units(next(rest), units.groups, plan.power, share))
    for index, (values, share) in enumerate(zip(plan.values, shares.values, strict=True)):
        found[f"values-{index}"] = estimate.plain(measure.noisy_values(next(rest), values.limit, share))
    histograms = [tuple(next(rest)) for _ in plan.histograms]
    for (index, fraction), share in shares.quantiles.items():
        chosen = measure.noisy_quantile(
            plan.histograms[index], histograms[index], plan.cells, Fraction(fraction), clips.histograms[index], share
        )
        found[f"quantile-{index}-{fraction}"] = Estimated(chosen, (None,) * len(chosen))
    return found


def _estimated(plan: BoundSelect, vectors: Sequence[Noisy], others: dict[str, Estimated]) -> tuple[Estimated, ...]:
    """Every aggregate of one grouping set."""
    found = []
    for item in plan.estimates:
        if item.kind in LINEAR and plan.sums is not None:
            found.append(estimate.linear(item, vectors, plan.sums.statistics))
        elif item.kind is AggregateKind.QUANTILE:
            found.append(others[f"quantile-{item.vector}-{item.fraction}"])
        else:
            found.append(others[f"{'values' if item.unit == 'values' else 'units'}-{item.vector}"])
    return tuple(found)


def _open_groups(enclave: Enclave, plan: BoundSelect, shares: Shares, clips: Clips, made: Extracts) -> Groups:
    """The groups whose noisy number of units passes the threshold, and their aggregates."""
    if shares.selection is None or shares.counting is None:
        raise Failed("egress.shape")
    _check_keys(enclave, plan, shares.counting, made)
    found = _discovered(enclave, made, _discovery(plan))
    mechanism, step = measure.units_mechanism(plan.open_groups, plan.power, shares.selection)
    threshold = threshold_for(mechanism, plan.open_groups, shares.delta, step)
    noisy = mechanism.add([units * step for units in found.units])
    kept = [index for index, cell in enumerate(noisy) if cell >= threshold]
    vectors: list[Noisy] = []
    if plan.sums is not None and shares.sums is not None:
        told = _told(plan, plan.sums, clips.sums, tuple(found.keys[index] for index in kept))
        exact = _discovered(enclave, made, told).vectors if kept else ((),) * len(plan.sums.statistics)
        vectors = measure.open_sums(plan, plan.sums, shares.sums, clips.sums, exact)
    units = measure.noisy([noisy[index] for index in kept], Fraction(1, step), mechanism)
    others = {f"units-{index}": estimate.plain(units) for index in range(len(plan.units))}
    return Groups(keys=tuple(found.keys[index] for index in kept), aggregates=_estimated(plan, vectors, others))


def _check_keys(enclave: Enclave, plan: BoundSelect, share: Share, made: Extracts) -> None:
    """Whether a worker can carry all keys, told from a noisy number of them."""
    sql = f"SELECT count(*) FROM ({render_candidates(plan)}) AS c"
    query = Aggregation(tables=len(plan.sources), queries=(CellQuery(sql=sql, axes=(), width=1),), coarsenings=(1,))
    exact = _summed(enclave, made, query)
    mechanism = share.mechanism(plan.open_groups)
    (noisy,) = mechanism.add(exact[0])
    if noisy + KEYS_MARGIN * mechanism.variance**0.5 > MAX_KEYS:
        raise Failed("job.keys")


def _discovery(plan: BoundSelect) -> Discovery:
    return Discovery(tables=len(plan.sources), depth=len(plan.axes), most=MAX_KEYS, candidates=render_candidates(plan))


def _told(plan: BoundSelect, sums: Sums, clip: int, keys: tuple[tuple[str, ...], ...]) -> Discovery:
    """The sums of the keys that are told: of all rows of each, and of no other key."""
    query = CellQuery(sql=render_sums(plan, clip), axes=(), width=len(sums.statistics))
    coarsening = measure.sums_coarsening(plan, clip)
    return msgspec.structs.replace(_discovery(plan), queries=(query,), keys=keys, coarsening=coarsening)


def _discovered(enclave: Enclave, made: Extracts, task: Discovery) -> KeyedVectors:
    """Keys, units and vectors of all partitions together."""
    width = sum(query.width for query in task.queries)
    merged: dict[tuple[str, ...], list[int]] = {}
    for descriptor in made.each():
        answer = enclave.work(task, [descriptor])
        if not isinstance(answer, KeyedVectors) or len(answer.vectors) != width:
            raise Failed("job.answer")
        for at, (key, units) in enumerate(zip(answer.keys, answer.units, strict=True)):
            cells = merged.setdefault(key, [0] * (width + 1))
            for place, cell in enumerate((units, *(vector[at] for vector in answer.vectors))):
                cells[place] += cell
    keys = sorted(merged)
    return KeyedVectors(
        keys=tuple(keys),
        units=tuple(merged[key][0] for key in keys),
        vectors=tuple(tuple(merged[key][place + 1] for key in keys) for place in range(width)),
    )


def _summed(enclave: Enclave, made: Extracts, task: Aggregation) -> list[list[int]]:
    """The exact vectors of all partitions together."""
    total: list[list[int]] = []
    for descriptor in made.each():
        answer = enclave.work(task, [descriptor])
        if not isinstance(answer, Vectors):
            raise Failed("job.answer")
        if not total:
            total = [list(vector) for vector in answer.vectors]
        else:
            total = [[a + b for a, b in zip(x, y, strict=True)] for x, y in zip(total, answer.vectors, strict=True)]
    return total


def _clip(plan: BoundSelect, clips: Clips, learned: dict[NormKind, Learned]) -> Clip | None:
    if plan.sums is None or plan.sums.clipping.kind is NormKind.NONE:
        return None
    histogram = learned.get(plan.sums.clipping.kind)
    found = measure.lost(histogram, clips.sums)
    is_learned = histogram is not None and histogram.furthest is not None
    return Clip(
        bound=str(clips.sums),
        learned=is_learned,
        lost=None if found is None else ratio_text(found[0]),
        lost_half_width=None if found is None else ratio_text(found[1]),
        corrected=corrects(plan),
    )


def finished_table(enclave: Enclave, query: PlannedQuery, shares: Shares, groups: Groups, clip: Clip | None) -> DPTable:
    """HAVING, ORDER BY, LIMIT and arithmetic happen in a worker that has no data."""
    finishing = finishing_of(query)
    if finishing is None:
        everything = tuple(range(len(groups.keys)))
        arrangement = Arrangement(everything, ((),) * len(everything))
    else:
        texts = groups.texts(query.plan)
        answer = enclave.work(finishing.over(groups.keys, texts), [])
        if not isinstance(answer, Finished) or not all(0 <= row < len(groups.keys) for row in answer.rows):
            raise Failed("job.answer")
        arrangement = Arrangement(answer.rows, answer.computed)
    return release(query.plan, shares, query.budget, groups, arrangement, clip)
