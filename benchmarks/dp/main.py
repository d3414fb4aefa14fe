"""The private SQL engine beside its peers and beside plain DuckDB.

`make bench-dp`: twenty runs at 10⁶ rows and three at 10⁷, under 40 minutes; `--small` without 10⁷; `--quick` is a smoke
run on 10⁵ rows; `--full` asks everyone everything, more often, and our engine at 10⁸ rows. Peers are installed into
build/peers, data go to build/bench/dp; the table for people lies beside build/bench/dp.json as dp.md.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.dp.data import SIZES, data_set
from benchmarks.dp.environments import PINS, environment
from benchmarks.dp.heats import Field, huge_heat, large_heat, memory_heat, small_heat
from benchmarks.dp.noise import noise_checks
from benchmarks.dp.ours import Ours
from benchmarks.dp.race import Score, settled
from benchmarks.dp.table import by_clip, markdown, notes, reasons
from benchmarks.dp.verdict import error_checks, memory_checks, time_checks
from benchmarks.report import Check, publish

TABLE, SCORES = Path("build/bench/dp.md"), Path("build/bench/dp-scores.json")
BEGAN = time.monotonic()


@dataclass(frozen=True)
class Extent:
    """How much is run; `patience` is how many seconds one slow peer may take on the large data."""

    small: str
    rounds: int
    large: str | None
    large_rounds: int = 0
    patience: float = 0.0
    slow_runs: int = 1
    huge: str | None = None


EXTENTS = {
    "quick": Extent("xs", 2, None),
    "small": Extent("s", 20, None),
    "usual": Extent("s", 20, "m", 3, 300.0),
    "full": Extent("s", 40, "m", 7, math.inf, 3, "l"),
}


@dataclass(frozen=True)
class Heat:
    """What came out on one data set."""

    size: str
    rows: int
    scores: Sequence[Score]
    peaks: Mapping[str, tuple[float, float]]
    costs: Sequence[str]


def main() -> None:
    """Install, generate, race, judge, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    choice = parser.add_mutually_exclusive_group()
    for name in ("quick", "small", "full"):
        choice.add_argument(f"--{name}", dest="extent", action="store_const", const=name, default="usual")
    parser.add_argument("--peers", default=",".join(PINS), help="only these, separated by commas")
    arguments = parser.parse_args()
    pythons, missing = _environments([name for name in arguments.peers.split(",") if name])
    heats = _heats(EXTENTS[arguments.extent], pythons)
    checks = [check for heat in heats for check in time_checks(heat.size, settled(heat.scores))]
    checks += error_checks(settled(heats[0].scores))
    checks += [check for heat in heats for check in memory_checks(heat.size, heat.peaks)]
    checks += _huge(EXTENTS[arguments.extent])
    say("noise")
    _report(heats, missing, [*checks, *noise_checks()])


def say(text: str) -> None:
    """One line of progress."""
    print(f"… {time.monotonic() - BEGAN:5.0f} s  {text}", file=sys.stderr, flush=True)


def _environments(names: Sequence[str]) -> tuple[dict[str, Path], dict[str, str]]:
    found = [environment(name) for name in names]
    return (
        {one.peer: one.python for one in found if one.python},
        {one.peer: one.reason for one in found if not one.python},
    )


def _heats(extent: Extent, pythons: Mapping[str, Path]) -> list[Heat]:
    size = SIZES[extent.small]
    field = Field.of(size, data_set(size), pythons)
    with Ours(field.given) as ours:
        small = small_heat(field, ours, extent.rounds, extent.slow_runs, say)
        heats = [Heat(size.name, size.rows, small, memory_heat(field, ours, small), ours.costs())]
    if extent.large:
        size, growth = SIZES[extent.large], SIZES[extent.large].rows / size.rows
        field = Field.of(size, data_set(size), pythons)
        with Ours(field.given) as ours:
            large = large_heat(field, ours, small, extent.large_rounds, extent.patience, growth, say)
            heats.append(Heat(size.name, size.rows, large, memory_heat(field, ours, large), ours.costs()))
    return heats


def _huge(extent: Extent) -> list[Check]:
    if extent.huge is None:
        return []
    size = SIZES[extent.huge]
    say(f"{size.rows:,} rows in partitions")
    field = Field.of(size, data_set(size), {}, ("q1",))
    with Ours(field.given) as ours:
        return [huge_heat(field, ours)]


def _report(heats: Sequence[Heat], missing: Mapping[str, str], checks: list[Check]) -> None:
    publish("dp", checks)
    told = [markdown(heat.rows, settled(heat.scores), missing, heat.peaks) for heat in heats]
    told.append(by_clip(heats[0].scores))
    told.append("\n".join([notes(heats[0].scores), *(f"- {why}." for heat in heats for why in reasons(heat.scores))]))
    told += [f"Yunei at {heat.rows:,} rows, beside the above: {'; '.join(heat.costs)}." for heat in heats]
    TABLE.write_text("\n\n".join(told) + "\n", encoding="utf-8")
    scores = {heat.size: [asdict(score) for score in heat.scores] for heat in heats}
    SCORES.write_text(json.dumps(scores) + "\n", encoding="utf-8")
    print(f"\n{TABLE.read_text(encoding='utf-8')}\n{(time.monotonic() - BEGAN) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
