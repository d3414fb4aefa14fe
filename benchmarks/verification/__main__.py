"""Verification beside the least that it could cost, in one run: protocols, private lookups, scoring, P0 over HTTP.

`make bench-verification`; writes build/bench/verification.json. `--quick` is a smoke run.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from benchmarks.report import Check, publish
from benchmarks.verification.lookup import lookup_checks
from benchmarks.verification.plain import plain_checks
from benchmarks.verification.protocols import protocol_checks
from benchmarks.verification.scoring import scoring_checks

PARTS: dict[str, Callable[[bool], list[Check]]] = {
    "protocols": lambda is_quick: protocol_checks(2000, 500, 2) if is_quick else protocol_checks(),
    "lookup": lookup_checks,
    "scoring": scoring_checks,
    "plain": plain_checks,
}


def main() -> None:
    """Measure every part, or those that are named; report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verification", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small tables, few rounds")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all when none is named")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    began, checks = time.monotonic(), list[Check]()
    for name in given.parts or PARTS:
        checks += PARTS[name](given.quick)
        print(f"… {time.monotonic() - began:5.0f} s  {name}", file=sys.stderr, flush=True)
    publish("verification", checks)


if __name__ == "__main__":
    main()
