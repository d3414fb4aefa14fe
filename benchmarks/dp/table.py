"""The scores as a Markdown table for the README, and what each peer's answer is worth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from benchmarks.dp.race import FLOOR, OURS, Score, best_errors, of
from benchmarks.dp.statements import STATEMENTS

TITLES = {
    FLOOR: "DuckDB, exact",
    OURS: "**Yunei**",
    "opendp_polars": "OpenDP 0.16 (Polars)",
    "smartnoise": "SmartNoise SQL 1.0.10",
    "qrlew": "Qrlew 0.9.27 (DuckDB)",
    "tumult": "Tumult Analytics 0.21",
    "pipelinedp": "PipelineDP 0.3.1 (local)",
    "python_dp": "python-dp 1.1.5",
}
GUARANTEES = {
    "opendp_polars": "entity-level; counts unsigned and clamped at zero; sum in cents, mean = sum / count; its "
    "truncation of groups keeps one fewer than stated; joins no two protected tables",
    "smartnoise": "entity-level; ε is per output column, so it was divided until its accountant charged 1 in all (its "
    "δ is then somewhat above 1e-6); drops groups that it deems rare; no quantiles, no join of two protected tables; "
    "its README wants a trusted analyst",
    "qrlew": "entity-level on paper: float noise from SQL's RANDOM() with σ of the classic formula, so not a sound "
    "release; COUNT(DISTINCT unit) comes out as COUNT(*); no quantiles",
    "tumult": "entity-level; start of Spark not counted, tables cached; mean = sum / count; peak includes Java",
    "pipelinedp": "entity-level; joins nothing",
    "python_dp": "knows nothing of units: entity-level only because our SQL cuts the rows (any order) and joins before "
    "it; quartiles by group privacy, as its percentile takes no sensitivity",
}


def markdown(
    rows: int, scores: Sequence[Score], missing: Mapping[str, str], peaks: Mapping[str, tuple[float, float]]
) -> str:
    """One line per contestant, one column per statement: median seconds / median relative error (per column).

    `peaks` are ours and the floor's per statement, measured apart.
    """
    names = list(dict.fromkeys([FLOOR, OURS, *(s.contestant for s in scores)]))
    head = [
        f"{rows:,} rows",
        *(f"{key.upper()} {statement.title}" for key, statement in STATEMENTS.items()),
        "peak MiB",
    ]
    lines = [_line(head), _line(["---"] * len(head))]
    for name in names:
        mine = [score for score in scores if score.contestant == name and score.seconds]
        apart = {OURS: [ours for ours, _ in peaks.values()], FLOOR: [floor for _, floor in peaks.values()]}
        highest = max(apart.get(name, [score.peak_mib for score in mine]), default=math.nan)
        peak = f"{highest:,.0f}" if math.isfinite(highest) and mine else "-"
        lines.append(_line([TITLES.get(name, name), *(_cell(scores, name, key) for key in STATEMENTS), peak]))
    lines += [_line([TITLES.get(name, name), f"not run: {why}"]) for name, why in missing.items() if name not in names]
    return "\n".join(lines)


def by_clip(scores: Sequence[Score]) -> str:
    """Ours under every clip that it was asked for; above stands the one that compares best, for all columns alike."""
    clips = sorted({score.bound for score in scores if score.contestant == OURS and score.seconds})
    lines = [_line(["Yunei by clip", *(key.upper() for key in STATEMENTS)]), _line(["---"] * (len(STATEMENTS) + 1))]
    for clip in clips:
        mine = [score for score in scores if score.contestant == OURS and score.bound == clip]
        title = f"{clip} rows per unit" if clip else "learned privately"
        lines.append(_line([title, *(_cell(mine, OURS, key) for key in STATEMENTS)]))
    return "\n".join(lines)


def notes(scores: Iterable[Score]) -> str:
    """What each peer that took part guarantees."""
    took_part = {score.contestant for score in scores if score.seconds}
    return "\n".join(f"- {TITLES[name]}: {text}." for name, text in GUARANTEES.items() if name in took_part)


def reasons(scores: Iterable[Score]) -> list[str]:
    """Every reason why a contestant has not answered a statement, each once."""
    return list(
        dict.fromkeys(
            f"{s.contestant} {s.statement}: {s.reason}" for s in scores if s.reason and s.reason != "not offered"
        )
    )


def percent(error: float) -> str:
    """A relative error for people, with two digits that count."""
    if not math.isfinite(error):
        return "-"
    digits = 2 if error == 0 else max(0, 1 - math.floor(math.log10(error * 100)))
    return f"{error * 100:.{min(digits, 4)}f} %"


def _cell(scores: Sequence[Score], name: str, key: str) -> str:
    found = of(scores, name, key)
    if not found:
        return "-"
    seconds = min(score.time for score in found)
    if name == FLOOR:
        return f"{seconds:.3f} s"
    errors = ", ".join(percent(median(best_errors(scores, name, key, column))) for column in STATEMENTS[key].columns)
    wrong = " (wrong)" if all(score.wrong for score in found) else ""
    once = " (1 run)" if max(len(score.seconds) for score in found) == 1 else ""
    return f"{seconds:.3f} s / {errors}{wrong}{once}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
