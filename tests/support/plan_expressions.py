"""What an expression of the plan means on one row: values, intervals and nulls, in plain Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from enclave_runner.contract.dataset import Column, ColumnType
from enclave_runner.plan.nodes import Call, Constant, Expression, Function, Literal, Name, Slot

Value = str | int | bool | date | None
Row = tuple[Value, ...]
Resolve = Callable[[Name], "Cell"]
EPOCH = date(1970, 1, 1)
COMPARE: dict[Function, Callable[[object, object], bool]] = {
    Function.EQ: lambda a, b: a == b,
    Function.NE: lambda a, b: a != b,
    Function.LT: lambda a, b: a < b,  # type: ignore[operator]
    Function.LE: lambda a, b: a <= b,  # type: ignore[operator]
    Function.GT: lambda a, b: a > b,  # type: ignore[operator]
    Function.GE: lambda a, b: a >= b,  # type: ignore[operator]
}


@dataclass(frozen=True)
class Cell:
    """A value; of a number its units of 10^-scale and the interval that the catalogue or arithmetic promises."""

    value: Value
    scale: int = 0
    low: int | None = None
    high: int | None = None
    nullable: bool = False
    is_constant: bool = False
    is_number: bool = False


def column_cell(column: Column, value: Value) -> Cell:
    """A stored value."""
    low, high = column.bounds or (None, None)
    number = column.type in (ColumnType.INTEGER, ColumnType.DECIMAL)
    return Cell(value, column.scale, low, high, column.nullable, is_number=number)


def clipped(cell: Cell) -> int | None:
    """A number as arithmetic takes it: inside its interval."""
    value = cell.value
    if value is None or cell.is_constant:
        return value  # type: ignore[return-value]
    assert isinstance(value, int) and cell.low is not None and cell.high is not None, cell
    return min(max(value, cell.low), cell.high)


def holds(condition: Expression | None, resolve: Resolve) -> bool:
    """Whether a row counts: true, not false and not unknown."""
    return condition is None or evaluate(condition, resolve).value is True


def key_text(cell: Cell) -> str | None:
    """A key as text."""
    if isinstance(cell.value, bool):
        return "true" if cell.value else "false"
    return None if cell.value is None else str(cell.value)


def evaluate(expression: Expression, resolve: Resolve) -> Cell:
    """The value of an expression."""
    match expression:
        case Name():
            return resolve(expression)
        case Constant():
            return _constant(expression)
        case Slot():
            raise AssertionError("a slot below the noise")
        case Call():
            return _call(expression.function, [evaluate(argument, resolve) for argument in expression.arguments])


def _constant(item: Constant) -> Cell:
    match item.kind:
        case Literal.NUMBER:
            whole, _, fraction = item.text.lstrip("+-").partition(".")
            fraction = fraction.rstrip("0")
            value = int(whole + fraction) * (-1 if item.text.startswith("-") else 1)
            return Cell(value, len(fraction), value, value, is_constant=True, is_number=True)
        case Literal.BOOLEAN:
            return Cell(item.text == "true")
        case Literal.DATE:
            return Cell(date.fromisoformat(item.text))
        case Literal.NULL:
            return Cell(None, nullable=True)
    return Cell(item.text)


def _number(value: int | None, like: Cell, scale: int, low: int, high: int) -> Cell:
    assert value is None or low <= value <= high, (value, low, high)
    return Cell(value, scale, low, high, like.nullable or value is None, is_number=True)


def _aligned(cells: Sequence[Cell]) -> list[Cell]:
    """Numbers at the finest scale; one that is rescaled is computed with, and so inside its interval."""
    if any(isinstance(cell.value, date) for cell in cells):
        return [replace(c, value=date.fromisoformat(c.value)) if isinstance(c.value, str) else c for c in cells]
    scale = max((cell.scale for cell in cells if cell.is_number), default=0)
    return [_rescaled(cell, scale) if cell.is_number else cell for cell in cells]


def _rescaled(cell: Cell, scale: int) -> Cell:
    factor = 10 ** (scale - cell.scale)
    if factor == 1:
        return cell
    value = clipped(cell)
    low, high = cell.low, cell.high
    assert low is not None and high is not None
    return replace(
        cell, value=None if value is None else value * factor, scale=scale, low=low * factor, high=high * factor
    )


def _call(function: Function, cells: list[Cell]) -> Cell:
    if function in COMPARE:
        left, right = (cell.value for cell in _aligned(cells))
        known = left is not None and right is not None
        return Cell(COMPARE[function](left, right) if known else None, nullable=any(c.nullable for c in cells))
    return CALLS[function](cells)


def _membership(cells: list[Cell]) -> Cell:
    needle, *listed = (cell.value for cell in _aligned(cells))
    return Cell(None if needle is None else needle in listed, nullable=cells[0].nullable)


def _logic(decisive: bool) -> Callable[[list[Cell]], Cell]:
    """Three-valued AND (false decides) and OR (true decides)."""

    def inner(cells: list[Cell]) -> Cell:
        values = [cell.value for cell in cells]
        if decisive in values:
            return Cell(decisive, nullable=any(cell.nullable for cell in cells))
        return Cell(None if None in values else not decisive, nullable=any(cell.nullable for cell in cells))

    return inner


def _sum(sign: int) -> Callable[[list[Cell]], Cell]:
    def inner(cells: list[Cell]) -> Cell:
        left, right = _aligned(cells)
        a, b = clipped(left), clipped(right)
        ends = [x + sign * y for x in (left.low, left.high) for y in (right.low, right.high)]  # type: ignore[operator]
        value = None if a is None or b is None else a + sign * b
        return replace(_number(value, left, left.scale, min(ends), max(ends)), nullable=left.nullable or right.nullable)

    return inner


def _product(cells: list[Cell]) -> Cell:
    left, right = cells
    a, b = clipped(left), clipped(right)
    ends = [x * y for x in (left.low, left.high) for y in (right.low, right.high)]  # type: ignore[operator]
    value = None if a is None or b is None else a * b
    made = _number(value, left, left.scale + right.scale, min(ends), max(ends))
    return replace(made, nullable=left.nullable or right.nullable)


def _towards_zero(value: int, divisor: int) -> int:
    sign = -1 if (value < 0) != (divisor < 0) else 1
    return sign * (abs(value) // abs(divisor))


def _mapped(cell: Cell, scale: int, of: Callable[[int], int]) -> Cell:
    """A function of one number that keeps or reverses order, so that its ends are those of the interval."""
    value = clipped(cell)
    assert cell.low is not None and cell.high is not None
    ends = (of(cell.low), of(cell.high))
    made = _number(None if value is None else of(value), cell, scale, min(ends), max(ends))
    return replace(made, nullable=cell.nullable)


def _quotient(cells: list[Cell]) -> Cell:
    left, right = cells
    divisor = right.value
    assert isinstance(divisor, int)
    raised = _rescaled(left, max(left.scale, 6))
    return _mapped(raised, raised.scale, lambda x: _towards_zero(x * 10**right.scale, divisor))


def _absolute(cells: list[Cell]) -> Cell:
    (cell,) = cells
    value = clipped(cell)
    assert cell.low is not None and cell.high is not None
    low = 0 if cell.low <= 0 <= cell.high else min(abs(cell.low), abs(cell.high))
    made = _number(None if value is None else abs(value), cell, cell.scale, low, max(abs(cell.low), abs(cell.high)))
    return replace(made, nullable=cell.nullable)


def _floored(cells: list[Cell]) -> Cell:
    return _mapped(cells[0], 0, lambda x: x // 10 ** cells[0].scale)


def _rounded(cells: list[Cell]) -> Cell:
    cell = cells[0]
    digits = cells[1].value if len(cells) > 1 else 0
    assert isinstance(digits, int)
    if cell.scale <= digits:
        return replace(cell, value=clipped(cell), is_constant=cell.is_constant)
    unit = 10 ** (cell.scale - digits)

    def away_from_zero(x: int) -> int:
        return (abs(x) + unit // 2) // unit * (-1 if x < 0 else 1)

    return _mapped(cell, digits, away_from_zero)


def _extreme(choose: Callable[..., int], side: int) -> Callable[[list[Cell]], Cell]:
    """LEAST (side 0) and GREATEST (side 1). Nulls are passed over, so that only what is never null decides for sure."""

    def inner(cells: list[Cell]) -> Cell:
        cells = _aligned(cells)
        values = [cell.value for cell in cells if cell.value is not None]
        sure = [cell for cell in cells if not cell.nullable]
        interval: list[int | None] = [None, None]
        outer = (min, max)[side] if not sure else choose
        for end in (0, 1):
            bounds = [(cell.low, cell.high)[end] for cell in cells]
            if end == 1 - side and sure:  # every sure value caps a LEAST, and holds up a GREATEST
                known = [b for cell in sure if (b := (cell.low, cell.high)[end]) is not None]
                interval[end] = choose(known) if known else None
            elif None not in bounds:
                interval[end] = (min, max)[end](bounds)  # type: ignore[type-var]
        assert outer is not None
        return Cell(choose(values) if values else None, cells[0].scale, *interval, nullable=not sure, is_number=True)

    return inner


def _one_of(cells: Sequence[Cell], chosen: Cell, nullable: bool) -> Cell:
    """One of several values, in the hull of their intervals."""
    numbers = [cell for cell in cells if cell.is_number]
    if not numbers:
        return replace(chosen, nullable=nullable)
    lows, highs = [cell.low for cell in numbers], [cell.high for cell in numbers]
    return Cell(
        chosen.value,
        numbers[0].scale,
        None if None in lows else min(lows),  # type: ignore[type-var]
        None if None in highs else max(highs),  # type: ignore[type-var]
        nullable,
        is_number=True,
    )


def _coalesced(cells: list[Cell]) -> Cell:
    cells = _aligned(cells)
    chosen = next((cell for cell in cells if cell.value is not None), cells[-1])
    return _one_of(cells, chosen, all(cell.nullable for cell in cells))


def _cases(cells: list[Cell]) -> Cell:
    *pairs, default = cells
    values = _aligned([*pairs[1::2], default])
    tests = [test.value is True for test in pairs[::2]]
    chosen = next((value for test, value in zip(tests, values, strict=False) if test), values[-1])
    return _one_of(values, chosen, any(value.nullable for value in values))


def _part(of: Callable[[date], int], low: int | None, high: int | None) -> Callable[[list[Cell]], Cell]:
    def inner(cells: list[Cell]) -> Cell:
        (cell,) = cells
        ends = (low, high)
        if low is None and cell.low is not None and cell.high is not None:
            ends = tuple((EPOCH + timedelta(days=end)).year for end in (cell.low, cell.high))  # type: ignore[assignment]
        value = of(cell.value) if isinstance(cell.value, date) else None
        return Cell(value, 0, *ends, nullable=cell.nullable, is_number=True)

    return inner


def _truncation(cells: list[Cell]) -> Cell:
    unit, day = cells[0].value, cells[1].value
    if not isinstance(day, date):
        return replace(cells[1], value=None)
    starts = {
        "year": day.replace(month=1, day=1),
        "quarter": day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1),
        "month": day.replace(day=1),
        "week": day - timedelta(days=day.weekday()),
        "day": day,
    }
    return Cell(starts[str(unit)], nullable=cells[1].nullable)


def _bucket(cells: list[Cell]) -> Cell:
    value, low, high = (cell.value for cell in _aligned(cells[:3]))
    count = cells[3].value
    assert isinstance(low, int) and isinstance(high, int) and isinstance(count, int)
    found = None
    if isinstance(value, int):
        found = 0 if value < low else count + 1 if value >= high else 1 + (value - low) * count // (high - low)
    return Cell(found, 0, 0, count + 1, cells[0].nullable, is_number=True)


CALLS: dict[Function, Callable[[list[Cell]], Cell]] = {
    Function.ADD: _sum(1),
    Function.SUBTRACT: _sum(-1),
    Function.MULTIPLY: _product,
    Function.DIVIDE: _quotient,
    Function.NEGATE: lambda cells: _mapped(cells[0], cells[0].scale, lambda x: -x),
    Function.ABS: _absolute,
    Function.FLOOR: _floored,
    Function.ROUND: _rounded,
    Function.LEAST: _extreme(min, 0),
    Function.GREATEST: _extreme(max, 1),
    Function.IN: _membership,
    Function.AND: _logic(False),
    Function.OR: _logic(True),
    Function.NOT: lambda cells: replace(cells[0], value=None if cells[0].value is None else not cells[0].value),
    Function.IS_NULL: lambda cells: Cell(cells[0].value is None),
    Function.COALESCE: _coalesced,
    Function.CASE: _cases,
    Function.YEAR: _part(lambda day: day.year, None, None),
    Function.QUARTER: _part(lambda day: (day.month + 2) // 3, 1, 4),
    Function.MONTH: _part(lambda day: day.month, 1, 12),
    Function.DATE_TRUNC: _truncation,
    Function.WIDTH_BUCKET: _bucket,
}
