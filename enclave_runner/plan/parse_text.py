"""SQL text → sqlglot's tree, with the place of every part, within bounds that hold before anything recurses.

The text is never executed: what runs is rendered from the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, ClassVar

from sqlglot import Token, TokenType, exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import SqlglotError
from sqlglot.parsers.duckdb import DuckDBParser

from enclave_runner.contract.errors import Refused
from enclave_runner.plan.nodes import Options
from enclave_runner.plan.parse_options import cut

MAX_TOKENS = 20_000
# What sqlglot raises over a broken text: its own errors, and now and then a fault of its own, as at `{ : 1 }`.
FAULTS = (SqlglotError, AttributeError, TypeError, ValueError, LookupError, AssertionError)
MAX_BRACKETS = 32
OPENING = {TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE}
CLOSING = {TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE}
READING = {TokenType.SELECT, TokenType.WITH, TokenType.FROM, TokenType.L_PAREN}
ROW_BOUNDS = {"CLAMP", "CONTRIBUTION_BOUNDS_PER_ROW"}
BOUNDED = {"SUM", "AVG", "MEAN", "VARIANCE", "VAR_SAMP", "STDDEV", "STDDEV_SAMP"}


def read(sql: str) -> tuple[exp.Select, Options]:
    """The one SELECT of the text and what its OPTIONS said.

    Every node has a position (`position`). Raises Refused: `sql.syntax`, `sql.statement`, `sql.too-long`,
    `sql.too-deep`, `sql.clause` or what `parse_options.cut` says.
    """
    tokens = _tokens(sql)
    _check_bounds(tokens)
    tokens, options = cut(tokens)
    parser = _Parser(dialect="duckdb")
    try:
        statements = parser.parse(tokens, sql)
    except SqlglotError:
        raise Refused("sql.syntax", position=parser.failed_at + 1) from None
    except FAULTS:
        raise Refused("sql.syntax", position=parser.here + 1) from None
    except RecursionError:
        raise Refused("sql.too-deep", position=1) from None
    if len(statements) != 1 or not isinstance(statements[0], exp.Select):
        raise Refused("sql.statement", position=1)
    _check_complete(statements[0])
    return statements[0], options


def statements(sql: str) -> tuple[tuple[int, str], ...]:
    """The parts of a text between semicolons that hold anything, each with its offset.

    Raises:
        Refused: `sql.syntax`, `sql.too-long`.
    """
    tokens = _tokens(sql)
    parts: list[tuple[int, str]] = []
    first: Token | None = None
    last: Token | None = None
    for token in tokens:
        if token.token_type is TokenType.SEMICOLON:
            if first is not None and last is not None:
                parts.append((first.start, sql[first.start : last.end + 1]))
            first = last = None
        else:
            first, last = first or token, token
    if first is not None and last is not None:
        parts.append((first.start, sql[first.start : last.end + 1]))
    return tuple(parts)


def _tokens(sql: str) -> list[Token]:
    try:
        tokens = DuckDB().tokenize(sql)
    except FAULTS:
        raise Refused("sql.syntax", position=1) from None
    if len(tokens) > MAX_TOKENS:
        raise Refused("sql.too-long", max=MAX_TOKENS)
    return tokens


def _check_complete(select: exp.Select) -> None:
    """No operator lacks an operand: sqlglot itself lets some pass, such as NOT before nothing."""
    walk: Callable[[], Iterable[exp.Expr]] = select.walk
    for node in walk():
        if any(required and node.args.get(name) is None for name, required in node.arg_types.items()):
            raise Refused("sql.syntax", position=position(node))


def position(node: exp.Expr) -> int:
    """Where the part begins in the text, in characters from 1; the part at its left end says it for an operator."""
    return _start(node, 0) + 1


def place_of(value: object, node: exp.Expr) -> int:
    """Where an argument of the node begins, or the node where the argument has no place of its own."""
    first = value[0] if isinstance(value, list) and value else value
    start = _start(node, 0)
    return (_start(first, start) if isinstance(first, exp.Expr) else start) + 1


def _start(node: exp.Expr, default: int) -> int:
    place = node
    while "start" not in place.meta and isinstance(place.this, exp.Expr):
        place = place.this
    if "start" in place.meta:
        return int(place.meta["start"])
    walk: Callable[[], Iterable[exp.Expr]] = node.walk
    return min((int(part.meta["start"]) for part in walk() if "start" in part.meta), default=default)


def only(node: exp.Expr, *names: str) -> None:
    """No argument of the node but these says anything: Refused by `sql.unsupported` with the argument's place."""
    for name, value in node.args.items():
        if value and name not in names:
            raise Refused("sql.unsupported", what=f"{node.key} {name}".upper(), position=place_of(value, node))


def _check_bounds(tokens: list[Token]) -> None:
    """One statement that reads, of bounded depth, before the parser sees it."""
    if not tokens or tokens[0].token_type not in READING:
        raise Refused("sql.statement", position=tokens[0].start + 1 if tokens else 1)
    for end, behind in pairwise(tokens):
        if end.token_type is TokenType.SEMICOLON:
            raise Refused("sql.statement", position=behind.start + 1)
    depth = 0
    for before, token in zip([None, *tokens], tokens, strict=False):
        # sqlglot would import more code for an index, and a worker has no files
        if token.token_type in (TokenType.L_BRACKET, TokenType.L_BRACE):
            raise Refused("sql.list", position=token.start + 1)
        depth += (token.token_type in OPENING) - (token.token_type in CLOSING)
        if depth > MAX_BRACKETS:
            raise Refused("sql.too-deep", position=token.start + 1)
        if token.token_type is TokenType.PIPE_GT:
            raise Refused("sql.clause", what="|>", position=token.start + 1)
        # sqlglot reads 0x1f as the number 0 under the alias x1f
        glued = before is not None and before.token_type is TokenType.NUMBER and before.end + 1 == token.start
        if glued and token.token_type is TokenType.VAR:
            raise Refused("sql.syntax", position=token.start + 1)


def _placed(node: Any, start: int) -> Any:
    """The node, which starts there unless it is known to start earlier."""
    if isinstance(node, exp.Expr):
        node.meta["start"] = min(start, node.meta.get("start", start))
    return node


def _placing(parse: Callable[[Any], tuple[str, Any]]) -> Callable[[Any], tuple[str, Any]]:
    def clause(parser: Any) -> tuple[str, Any]:
        start = parser.here
        name, node = parse(parser)
        return name, _placed(node, start)

    return clause


class _Parser(DuckDBParser):  # type: ignore[misc,unused-ignore]
    """DuckDB's grammar; besides, it notes where parts start and fail, and takes bounds as named arguments."""

    failed_at = 0
    QUERY_MODIFIER_PARSERS: ClassVar[dict[TokenType, Any]] = {
        kind: _placing(parse) for kind, parse in DuckDBParser.QUERY_MODIFIER_PARSERS.items()
    }

    @property
    def here(self) -> int:
        """Where the token that is read next starts, in characters from 0; at the end, where the last one ends."""
        return int(self._curr.start if self._curr else self._prev.end + 1 if self._prev else 0)

    def raise_error(self, message: str, token: Any = None) -> None:
        self.failed_at = int(token.start) if token else self.here
        super().raise_error(message, *([token] if token else []))

    def _parse_unary(self) -> Any:
        start = self.here
        return _placed(super()._parse_unary(), start)

    def _parse_select(self, *args: Any, **kwargs: Any) -> Any:
        start = self.here
        return _placed(super()._parse_select(*args, **kwargs), start)

    def _parse_table(self, *args: Any, **kwargs: Any) -> Any:
        start = self.here
        return _placed(super()._parse_table(*args, **kwargs), start)

    def _parse_join(self, *args: Any, **kwargs: Any) -> Any:
        start = self.here
        return _placed(super()._parse_join(*args, **kwargs), start)

    def _parse_cte(self) -> Any:
        start = self.here
        return _placed(super()._parse_cte(), start)

    def _parse_function_args(self, alias: bool = False) -> Any:
        name = self._tokens[self._index - 2].text.upper() if self._index > 1 else ""
        arguments = super()._parse_function_args(alias)
        if any(isinstance(argument, exp.Kwarg) for argument in arguments):
            return [_bounded(name, arguments)]
        return arguments


def _bounded(function: str, arguments: list[Any]) -> exp.Expr:
    """`SUM(x, clamp => (low, high))`: x within the bounds, NULL where it is NULL."""
    inner, bounds = arguments[0], arguments[-1]
    name, pair = str(getattr(bounds, "name", "")), getattr(bounds, "expression", None)
    known = name.upper() in ROW_BOUNDS and function in BOUNDED and isinstance(bounds, exp.Kwarg)
    if len(arguments) != 2 or not known or not isinstance(pair, exp.Tuple) or len(pair.expressions) != 2:
        raise Refused("sql.contribution", what=name or function, position=position(bounds))
    low, high = pair.expressions
    least = exp.Least(this=inner.copy(), expressions=[high], ignore_nulls=True)
    capped = exp.Greatest(this=least, expressions=[low], ignore_nulls=True)
    missing = exp.Is(this=inner, expression=exp.Null())
    clamped = exp.Case(ifs=[exp.If(this=missing, true=exp.Null())], default=capped)
    clamped.meta["start"] = position(inner) - 1
    return clamped
