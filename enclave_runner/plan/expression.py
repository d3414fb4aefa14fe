"""Expressions of the plan, typed and rendered against the columns that they name."""

from __future__ import annotations

from collections.abc import Callable

from enclave_runner.contract.errors import Refused
from enclave_runner.plan.nodes import Call, Constant, Expression, Function, Name, Slot
from enclave_runner.plan.operations import OPERATIONS, comparison
from enclave_runner.plan.scalar import Kind, Scalar, constant, require_kind

COMPARISONS = (Function.EQ, Function.NE, Function.LT, Function.LE, Function.GT, Function.GE)

Resolve = Callable[[Name], Scalar]


def scalar(expression: Expression, resolve: Resolve) -> Scalar:
    """The typed form of an expression.

    Raises:
        Refused: `sql.type`, `sql.constant`, `sql.overflow`, `sql.division`, `dataset.bound-missing`, and what `resolve`
            raises.
    """
    match expression:
        case Name():
            return resolve(expression)
        case Constant():
            return constant(expression)
        case Slot():
            raise Refused("sql.type", what="an aggregate inside an aggregate", position=1)
        case Call():
            arguments = [scalar(argument, resolve) for argument in expression.arguments]
            return _apply(expression, arguments)


def truth_sql(expression: Expression | None, resolve: Resolve) -> str | None:
    """The SQL of a truth value, None for none."""
    if expression is None:
        return None
    found = scalar(expression, resolve)
    require_kind(found, Kind.BOOLEAN)
    return found.sql


def _apply(call: Call, arguments: list[Scalar]) -> Scalar:
    function = call.function
    if function in COMPARISONS:
        return comparison(function, *arguments)
    return OPERATIONS[function](arguments)
