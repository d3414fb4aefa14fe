"""What happens above the noise: HAVING, ORDER BY, LIMIT and arithmetic on noisy columns, as SQL over the table `noisy`.

Its columns are the row number i, the keys k0, k1, … as text and the noisy aggregates a0, a1, … as doubles. Nothing of
it can cost privacy: it sees released numbers only. Divisors of 0 give null.
"""

from __future__ import annotations

from enclave_runner.contract.errors import Refused
from enclave_runner.plan.bound import BoundSelect
from enclave_runner.plan.nodes import Call, Constant, Expression, Function, Literal, Name, Output, Slot
from enclave_runner.plan.scalar import NUMBER, text

NOISY = "noisy"
INFIX = {
    Function.ADD: "+",
    Function.SUBTRACT: "-",
    Function.MULTIPLY: "*",
    Function.EQ: "=",
    Function.NE: "<>",
    Function.LT: "<",
    Function.LE: "<=",
    Function.GT: ">",
    Function.GE: ">=",
    Function.AND: "AND",
    Function.OR: "OR",
}
CALLS = {
    Function.ABS: "abs",
    Function.FLOOR: "floor",
    Function.ROUND: "round",
    Function.LEAST: "least",
    Function.GREATEST: "greatest",
    Function.COALESCE: "coalesce",
}


def computed_outputs(plan: BoundSelect) -> tuple[Output, ...]:
    """The outputs that are more than a key or an aggregate."""
    return tuple(output for output in plan.outputs if not isinstance(output.expression, Slot))


def render_finish(plan: BoundSelect) -> str | None:
    """The SQL, None when rows stay as they are.

    Raises:
        Refused: `sql.unsupported` for what cannot be computed from noisy columns.
    """
    numbers = frozenset(index for index, axis in enumerate(plan.axes) if axis.is_number)
    computed = [_sql(output.expression, numbers) for output in computed_outputs(plan)]
    if not computed and plan.having is None and not plan.order and plan.limit is None:
        return None
    text = f"SELECT {', '.join(['i', *computed])} FROM {NOISY}"
    if plan.having is not None:
        text += f" WHERE {_sql(plan.having, numbers)}"
    order = [f"{_sql(item.expression, numbers)} {'DESC' if item.descending else 'ASC'}" for item in plan.order]
    text += f" ORDER BY {', '.join([*order, 'i ASC'])}"
    return text if plan.limit is None else f"{text} LIMIT {plan.limit}"


def _sql(expression: Expression, numbers: frozenset[int]) -> str:
    """`numbers` are the keys that are whole numbers and compare as such."""
    match expression:
        case Slot(is_key=True, index=index):
            return f"CAST(k{index} AS DOUBLE)" if index in numbers else f"k{index}"
        case Slot(index=index):
            return f"a{index}"
        case Constant():
            return _constant(expression)
        case Name():
            raise Refused("sql.unsupported", what=f"{expression.column} outside GROUP BY", position=expression.position)
        case Call():
            return _call(expression, [_sql(argument, numbers) for argument in expression.arguments])


def _call(call: Call, arguments: list[str]) -> str:
    function = call.function
    if function in INFIX:
        return f"({f' {INFIX[function]} '.join(arguments)})"
    if function is Function.ROUND and len(arguments) == 2:
        return f"round({arguments[0]}, {_digits(call.arguments[1])})"
    if function in CALLS:
        return f"{CALLS[function]}({', '.join(arguments)})"
    match function:
        case Function.DIVIDE:
            return f"(CAST({arguments[0]} AS DOUBLE) / nullif({arguments[1]}, CAST(0 AS DOUBLE)))"
        case Function.NEGATE:
            return f"(CAST(0 AS DOUBLE) - {arguments[0]})"
        case Function.NOT:
            return f"(NOT {arguments[0]})"
        case Function.IS_NULL:
            return f"({arguments[0]} IS NULL)"
        case Function.IN:
            return f"({arguments[0]} IN ({', '.join(arguments[1:])}))"
        case Function.CASE:
            *pairs, default = arguments
            arms = " ".join(f"WHEN {test} THEN {value}" for test, value in zip(pairs[::2], pairs[1::2], strict=True))
            return f"CASE {arms} ELSE {default} END"
    raise Refused("sql.unsupported", what=f"{function.value} of noisy columns", position=call.position)


def _digits(argument: Expression) -> str:
    if isinstance(argument, Constant) and argument.text.isdecimal() and len(argument.text) < 3:
        return argument.text
    raise Refused("sql.type", what="digits other than a small constant", position=1)


def _constant(item: Constant) -> str:
    match item.kind:
        case Literal.NULL:
            return "NULL"
        case Literal.BOOLEAN:
            return f"CAST('{item.text}' AS BOOLEAN)"
        case Literal.NUMBER if NUMBER.fullmatch(item.text):
            return f"CAST({item.text} AS DOUBLE)"
        case Literal.TEXT | Literal.DATE:
            return text(item.text)
    raise Refused("sql.constant", column=item.text[:32], position=item.position)
