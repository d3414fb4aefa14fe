"""A lower bound on the ε of a mechanism from its outputs on two neighbouring databases.

(ε, δ)-DP says P[M(D) ∈ E] ≤ e^ε·P[M(D') ∈ E] + δ for every event E, in both directions. The first half of the outputs
picks the event and the direction that look worst, the second half bounds both probabilities (Clopper and Pearson 1934).
The second half has not seen the choice, so a sound mechanism is accused with probability `false_alarm` at most.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

BISECTIONS = 60


@dataclass(frozen=True)
class Event:
    """Outputs from `least` to `most`, both included."""

    least: float
    most: float

    def count(self, outputs: Sequence[float]) -> int:
        values = np.asarray(outputs, dtype=np.float64)
        return int(np.count_nonzero((values >= self.least) & (values <= self.most)))


@dataclass(frozen=True)
class Finding:
    """With confidence 1 - false alarm, no (ε, δ) with a smaller ε holds. `event` is where it was seen."""

    epsilon: float
    event: Event
    swapped: bool


def audit(first: Sequence[float], second: Sequence[float], delta: float, false_alarm: float) -> Finding:
    """The bound from outputs on D and on D', numbers each (code a missing output as -infinity)."""
    half, other_half = len(first) // 2, len(second) // 2
    choose = first[:half], second[:other_half]
    test = first[half:], second[other_half:]
    candidates = [
        (_promise(event, *(choose[::-1] if swapped else choose), delta), event, swapped)
        for event in _events([*choose[0], *choose[1]])
        for swapped in (False, True)
    ]
    _, event, swapped = max(candidates, key=lambda candidate: candidate[0])
    more, less = test[::-1] if swapped else test
    epsilon = epsilon_at_least(event.count(more), len(more), event.count(less), len(less), delta, false_alarm)
    return Finding(epsilon, event, swapped)


def audited(run: Callable[[bool], float], draws: int, delta: float, false_alarm: float) -> Finding:
    """`audit` of a whole program: `run(neighbour)` answers once, on D or on D'. `draws` runs on each."""
    return audit([run(False) for _ in range(draws)], [run(True) for _ in range(draws)], delta, false_alarm)


def epsilon_at_least(
    hits: int, draws: int, other_hits: int, other_draws: int, delta: float, false_alarm: float
) -> float:
    """ln((p - δ)/q) with p at least what `hits` of `draws` show and q at most what the others show; never below 0."""
    least = lower_bound(hits, draws, false_alarm / 2)
    most = 1 - lower_bound(other_draws - other_hits, other_draws, false_alarm / 2)
    return max(0.0, math.log((least - delta) / most)) if least > delta and most > 0 else 0.0


def lower_bound(hits: int, draws: int, alpha: float) -> float:
    """Clopper and Pearson: the p at which `hits` or more of `draws` have probability α, rounded down."""
    if hits == 0:
        return 0.0
    counts = np.arange(hits, draws + 1)
    logs = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, draws + 1)))))
    ways = logs[draws] - logs[counts] - logs[draws - counts]
    low, high = 0.0, hits / draws
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        terms = ways + counts * math.log(middle) + (draws - counts) * math.log1p(-middle)
        low, high = (middle, high) if float(np.exp(terms).sum()) <= alpha else (low, middle)
    return low


def _events(outputs: Sequence[float]) -> list[Event]:
    """Both tails at up to 60 places, and every frequent single value."""
    values = sorted(set(outputs))
    places = values if len(values) <= 60 else [float(x) for x in np.quantile(outputs, _PLACES)]
    common = [value for value, _ in Counter(outputs).most_common(20)]
    return [
        *(Event(place, math.inf) for place in places),
        *(Event(-math.inf, place) for place in places),
        *(Event(value, value) for value in common),
    ]


_PLACES = np.concatenate(([0.0005, 0.001, 0.002, 0.005], np.linspace(0.01, 0.99, 52), [0.995, 0.998, 0.999, 0.9995]))


def _promise(event: Event, more: Sequence[float], less: Sequence[float], delta: float) -> float:
    """A rough bound, quick enough for every candidate: four standard deviations from either share."""
    p, q = event.count(more) / len(more), event.count(less) / len(less)
    least = p - 4 * math.sqrt(p * (1 - p) / len(more)) - delta
    most = q + 4 * math.sqrt(q * (1 - q) / len(less)) + 8 / len(less)
    return math.log(least / most) if least > 0 else -math.inf
