#!/usr/bin/env python3
"""How much work the best known lattice attack on private lookups is, by the core-SVP method: n, log2 q, σ.

python tools/lattice_estimate.py [1408 32 6.4]

The primal attack embeds the error as the unique shortest vector of a lattice of dimension d = n + m + 1 and finds it by
BKZ with the least block β for which σ·√β ≤ δ(β)^(2β-d-1) · q^(m/d). One call of a sieve in dimension β costs
2^(0.292 β) operations, 2^(0.265 β) on a quantum computer; all else is counted as free, so the figure is on the low
side. The secret may be uniform: n samples turn it into one with the error's distribution, and there are always more.

Sources: Alkim, Ducas, Pöppelmann, Schwabe, "Post-quantum key exchange: a new hope" (USENIX Security 2016), section 6.3;
δ(β) from Chen's thesis (2013); Applebaum, Cash, Peikert, Sahai (CRYPTO 2009) for the secret.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

CLASSICAL, QUANTUM = 0.292, 0.265
LEAST_BLOCK = 50  # below, the formula of δ does not hold; such parameters are broken


@dataclass(frozen=True)
class Estimate:
    """The cheapest primal attack: block, dimension, and log2 of its work."""

    block: int
    dimension: int

    @property
    def classical(self) -> float:
        """Bits of work."""
        return CLASSICAL * self.block

    @property
    def quantum(self) -> float:
        """Bits of work on a quantum computer."""
        return QUANTUM * self.block


def estimate(n: int, log_q: float, sigma: float, samples: int | None = None) -> Estimate:
    """The cheapest primal attack with at most that many samples (4·n when not told)."""
    for block in range(LEAST_BLOCK, 4 * n):
        for used in range(n // 2, (samples or 4 * n) + 1, 8):
            if _succeeds(block, n, used, log_q, sigma):
                return Estimate(block, n + used + 1)
    raise ValueError("no attack within 4·n")


def _succeeds(block: int, n: int, samples: int, log_q: float, sigma: float) -> bool:
    dimension = n + samples + 1
    short = math.log2(sigma) + math.log2(block) / 2
    return short <= (2 * block - dimension - 1) * _log_root_hermite(block) + log_q * samples / dimension


def _log_root_hermite(block: int) -> float:
    """log2 of δ(β), the root Hermite factor that BKZ with blocks of β reaches."""
    return (math.log2(math.pi * block) / block + math.log2(block / (2 * math.pi * math.e))) / (2 * (block - 1))


def main() -> None:
    """Print the estimate."""
    n, log_q, sigma = sys.argv[1:] or ["1408", "32", "6.4"]
    found = estimate(int(n), float(log_q), float(sigma))
    print(
        f"n = {n}, q = 2^{log_q}, sigma = {sigma}: block {found.block}, dimension {found.dimension}, "
        f"core-SVP {found.classical:.1f} bits, quantum {found.quantum:.1f} bits"
    )


if __name__ == "__main__":
    main()
