"""The clip of unit norms, chosen from a noisy histogram of them; and what that clip loses.

The histogram has one bin for every edge of a public grid: bin i counts the units whose norm lies in (edges[i-1],
edges[i]], the last one also those above. One unit falls into one bin, so its sensitivity is 1 in L1 and in L2.
Everything here works on the noisy counts alone, so that it is post-processing and costs nothing more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from enclave_runner.contract.errors import Failed

STEPS_PER_DOUBLING = 4
LONGEST_RUN = 8
NORMAL_95 = 1.959963984540055


def grid(limit: int) -> tuple[int, ...]:
    """Increasing whole edges ⌈2^(i/4)⌉ from 1 on, the last one `limit` itself.

    Raises:
        Failed: `dp.clip` for a limit below 1.
    """
    if limit < 1:
        raise Failed("dp.clip")
    steps = range(STEPS_PER_DOUBLING * limit.bit_length())
    edges = {_root_up(step) for step in steps}
    return (*sorted(edge for edge in edges if edge < limit), limit)


def choose_clip(
    noisy_counts: Sequence[int], edges: Sequence[int], deviation: float, noise_per_clip: float, cells: int = 1
) -> int:
    """The edge C of least expected error: noise `noise_per_clip`·C in each of `cells` cells, and the norm lost above C.

    `deviation` is the standard deviation of the noise in `noisy_counts`; `noise_per_clip` the mean absolute noise
    that a clip of 1 puts into one cell of the answer, in units of the norm. The lost norm is spread evenly over the
    cells. Counts beyond the last bin that stands out of the noise (`believed`) are not looked at: one noisy unit far
    out would else weigh as much as thousands near the middle.
    """
    _check(noisy_counts, edges)
    end = believed(noisy_counts, deviation)
    middles = _middles(edges)

    def error(clip: int) -> float:
        lost = sum(noisy_counts[i] * (middles[i] - clip) for i in range(end) if middles[i] > clip)
        return noise_per_clip * clip + max(0.0, lost) / cells

    return min(edges[: max(1, end)], key=error)


def believed(noisy_counts: Sequence[int], deviation: float) -> int:
    """The number of bins up to the last that stands out of the noise, alone or in a run, and what lies close behind it.

    A run of w ≤ 8 bins stands out when its sum is above √(2 ln 2000m)·deviation·√w. Gaussian noise alone does so with
    probability 1/500 at most in a whole histogram (union bound over its 8m runs, each at most e^(-t²/2)/2). Runs are
    looked for beyond the last single bin only, so that a full bin lends its weight to none. From there on neighbours
    are believed while each is above one deviation: a falling tail is cut late, a stray bin far out is not reached.
    """
    bins = len(noisy_counts)
    level = math.sqrt(2 * math.log(2000 * max(1, bins))) * deviation
    alone = max((index + 1 for index, count in enumerate(noisy_counts) if count > level), default=0)
    end = max((end for end in range(alone + 1, bins + 1) if _run(noisy_counts[alone:end], level)), default=alone)
    while 0 < end < bins and noisy_counts[end] > deviation:
        end += 1
    return end


def _run(counts: Sequence[int], level: float) -> bool:
    widths = range(2, min(LONGEST_RUN, len(counts)) + 1)
    return counts[-1] > 0 and any(sum(counts[-width:]) > level * math.sqrt(width) for width in widths)


def lost_share(noisy_counts: Sequence[int], edges: Sequence[int], clip: int, deviation: float) -> tuple[float, float]:
    """(share, half width): the share of the units' total norm that the clip loses, and its 95 % half width.

    The share is estimated from the believed bins. The half width reaches to both ends of the interval that ALL bins
    give, cut to [0, 1], with the least and the greatest norm of every bin: it covers also units far out, which no
    noisy histogram excludes, and is wide where the grid reaches far beyond the norms. A half width of 1 means: not
    known. Norms above the last edge count as that edge.
    """
    _check(noisy_counts, edges)
    end = believed(noisy_counts, deviation)
    lowest, highest = _lowest(edges), [float(edge) for edge in edges]
    first = _share(noisy_counts, lowest, clip, deviation)
    second = _share(noisy_counts, highest, clip, deviation)
    middle = _share(noisy_counts[:end], _middles(edges)[:end], clip, deviation)
    if first is None or second is None or middle is None:
        return 0.0, 1.0
    share = min(1.0, max(0.0, middle[0]))
    low, high = min(first[0] - first[1], second[0] - second[1]), max(first[0] + first[1], second[0] + second[1])
    return share, max(share - min(1.0, max(0.0, low)), min(1.0, max(0.0, high)) - share)


def _share(
    noisy_counts: Sequence[int], norms: Sequence[float], clip: int, deviation: float
) -> tuple[float, float] | None:
    """Ratio of two sums over the same noisy counts, with the 95 % width of a ratio (Fieller 1954), to first order."""
    excess = [max(0.0, norm - clip) for norm in norms]
    total = sum(count * norm for count, norm in zip(noisy_counts, norms, strict=True))
    total_width = NORMAL_95 * deviation * math.sqrt(sum(norm * norm for norm in norms))
    if total <= 2 * total_width:  # a ratio by a total that may be near 0 is worth nothing
        return None
    share = sum(count * more for count, more in zip(noisy_counts, excess, strict=True)) / total
    spread = math.sqrt(sum((more - share * norm) ** 2 for more, norm in zip(excess, norms, strict=True)))
    return share, NORMAL_95 * deviation * spread / (total - total_width)


def _lowest(edges: Sequence[int]) -> list[float]:
    return [0.0, *(edge + 1.0 for edge in edges[:-1])]


def _middles(edges: Sequence[int]) -> list[float]:
    return [(low + high) / 2 for low, high in zip(_lowest(edges), edges, strict=True)]


def _root_up(step: int) -> int:
    """⌈2^(step/4)⌉, exactly."""
    power = 1 << step
    root = math.isqrt(math.isqrt(power))
    return root if root**STEPS_PER_DOUBLING == power else root + 1


def _check(noisy_counts: Sequence[int], edges: Sequence[int]) -> None:
    if len(noisy_counts) != len(edges) or not edges:
        raise Failed("dp.clip")
