"""What is asked of a case: promises kept in plain integers, and SQL that agrees with the interpreter."""

from __future__ import annotations

from fractions import Fraction

from enclave_runner.contract.errors import Refused
from enclave_runner.egress.measure import sums_coarsening
from enclave_runner.plan.bound import BoundSelect
from enclave_runner.plan.nodes import SelectPlan
from tests.support.plan_cases import Case
from tests.support.plan_engine import Draw, Run, moved, plain_worker, run_plan, sql_worker
from tests.support.plan_interpreter import Clips, Interpreter


def planned_rule(case: Case) -> str:
    """The rule that refuses a statement, empty when none does."""
    try:
        case.bind()
    except Refused as refusal:
        return refusal.rule
    return ""


def plain_runs(case: Case, plan: SelectPlan, bound: BoundSelect) -> tuple[Run, dict[object, Run]]:
    """The run of a case by the interpreter alone, and that of the database without each unit."""
    clips, high = case.clips(bound)
    interpreter = Interpreter(plan, bound, case.catalogue)
    shares = interpreter.shares(case.database, clips)
    above = interpreter.shares(case.database, Clips(high, clips.histograms))

    def without(unit: object) -> Run:
        some = [share for name, share in shares.items() if name != unit]
        more = [share for name, share in above.items() if name != unit]
        return run_plan(bound, plain_worker(bound, some, more), 1, clips, high)

    nobody = object()
    return without(nobody), {unit: without(unit) for unit in shares}


def sql_run(case: Case, bound: BoundSelect) -> Run:
    """The run of a case by the SQL that is rendered for it."""
    clips, high = case.clips(bound)
    with sql_worker(bound, case.catalogue, case.database, case.partitions) as worker:
        return run_plan(bound, worker, case.partitions, clips, high)


def largest_moves(case: Case, plan: SelectPlan, bound: BoundSelect) -> dict[str, Fraction]:
    """For every release the largest part of its promise that any unit uses up, by the interpreter alone."""
    whole, rest = plain_runs(case, plan, bound)
    return _largest([moved(bound, whole, less) for less in rest.values()])


def moves_by_sql(case: Case, bound: BoundSelect) -> dict[str, Fraction]:
    """The same by SQL: every neighbour is really built and run."""
    whole = sql_run(case, bound)
    return _largest([moved(bound, whole, sql_run(case.without(unit), bound)) for unit in case.units])


def faults(case: Case, plan: SelectPlan, bound: BoundSelect, databases: int = 2) -> str:
    """What is wrong, empty when nothing is: a promise that is broken, or SQL that says something else.

    SQL is compared on that many `databases`: the whole one, then those without one unit. The interpreter knows nothing
    of partitions: where they can matter, all neighbours are built and moved by SQL as well.
    """
    whole, rest = plain_runs(case, plan, bound)
    moves = _largest([moved(bound, whole, less) for less in rest.values()])
    coarse = bound.sums is not None and sums_coarsening(bound, case.clips(bound)[1]) > 1
    apart = case.partitions > 1 and (bound.is_open or coarse)
    if apart and databases:
        moves |= {f"{name} by SQL": part for name, part in moves_by_sql(case, bound).items()}
    if broken := {name: float(part) for name, part in moves.items() if part > 1}:
        return f"promises broken: {broken}"
    if case.partitions > 1 and coarse:
        return ""  # every partition floors for itself: the interpreter has only one
    pairs = [(case, whole), *((case.without(str(unit)), less) for unit, less in rest.items())]
    for item, plain in pairs[:databases]:
        ran = sql_run(item, bound)
        same = [(x, y) for x, y in zip(ran.draws, plain.draws, strict=True) if not apart or x.name != "counting"]
        if different := [_difference(x, y) for x, y in same if x != y]:
            return f"SQL and interpreter: {different[:2]}"
        if ran.keys != plain.keys:
            return f"keys: {ran.keys} and {plain.keys}"
    return ""


def _difference(one: Draw, other: Draw) -> tuple[object, ...]:
    cells = [(at, a, b) for at, (a, b) in enumerate(zip(one.cells, other.cells, strict=True)) if a != b]
    return one.name, other.name, one.sensitivity, other.sensitivity, cells[:4]


def _largest(found: list[dict[str, Fraction]]) -> dict[str, Fraction]:
    names = {name for item in found for name in item}
    return {name: max(item.get(name, Fraction(0)) for item in found) for name in sorted(names)}
