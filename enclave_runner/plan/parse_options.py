"""`WITH DIFFERENTIAL_PRIVACY OPTIONS(…)`, as BigQuery writes it, with our own options beside its.

sqlglot does not know the clause, so its tokens are taken out before the rest is parsed; the others keep their places.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from sqlglot import Token, TokenType

from enclave_runner.contract.errors import Refused
from enclave_runner.plan.nodes import Bounds, Noise, Options
from enclave_runner.plan.parse_constant import number, output_name, whole

MAX_COUNT = 1_000_000
CLAUSE = "WITH DIFFERENTIAL_PRIVACY"


def cut(tokens: list[Token]) -> tuple[list[Token], Options]:
    """The tokens without the clause, and what it said; defaults where there is none.

    Raises:
        Refused: `sql.clause` when it stands below the outermost SELECT, `sql.option` for an unknown or repeated one,
        `sql.option-value` and `sql.number` for a value outside the option's range, `sql.syntax`.
    """
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token.token_type is TokenType.L_PAREN) - (token.token_type is TokenType.R_PAREN)
        if token.token_type is TokenType.SELECT and _is_clause(tokens[index + 1 : index + 3]):
            if depth:
                raise Refused("sql.clause", what=CLAUSE, position=tokens[index + 1].start + 1)
            end, options = _options(tokens, index + 3)
            return tokens[: index + 1] + tokens[end:], options
    return tokens, Options()


def _is_clause(tokens: list[Token]) -> bool:
    return [token.text.upper() for token in tokens] == CLAUSE.split()


def _options(tokens: list[Token], start: int) -> tuple[int, Options]:
    """The options from `OPTIONS (` on, and the index of the token behind them."""
    if [token.text.upper() for token in tokens[start : start + 2]] != ["OPTIONS", "("]:
        return start, Options()
    told: dict[str, Any] = {}
    index = start + 2
    while index < len(tokens) and tokens[index].token_type is not TokenType.R_PAREN:
        name, sign, value, end = _four(tokens, index)
        if sign.token_type is not TokenType.EQ:
            raise Refused("sql.syntax", position=sign.start + 1)
        _tell(told, name, value)
        if end.token_type not in (TokenType.COMMA, TokenType.R_PAREN):
            raise Refused("sql.option-value", option=name.text, position=value.start + 1)
        index += 4 if end.token_type is TokenType.COMMA else 3
    if index >= len(tokens):
        raise Refused("sql.syntax", position=tokens[-1].end + 1)
    return index + 1, Options(**told)


def _four(tokens: list[Token], index: int) -> tuple[Token, Token, Token, Token]:
    if index + 4 > len(tokens):
        raise Refused("sql.syntax", position=tokens[-1].end + 1)
    name, sign, value, end = tokens[index : index + 4]
    return name, sign, value, end


def _tell(told: dict[str, Any], name: Token, value: Token) -> None:
    field, read = OPTIONS.get(name.text.lower(), ("", _never))
    if not field or field in told or name.token_type is TokenType.STRING:
        raise Refused("sql.option", option=name.text, position=name.start + 1)
    try:
        told[field] = read(value)
    except ValueError:
        raise Refused("sql.option-value", option=name.text, position=value.start + 1) from None


def _never(value: Token) -> str:
    raise ValueError


def _decimal(value: Token, low: str, high: str) -> str:
    if value.token_type is not TokenType.NUMBER:
        raise ValueError
    text = number(value.text, value.start + 1)
    if not Decimal(low) <= Decimal(text) <= Decimal(high):
        raise ValueError
    return text


def _positive(value: Token) -> str:
    text = _decimal(value, "0", "1e15")
    if Decimal(text) == 0:
        raise ValueError
    return text


def _count(value: Token) -> int:
    if value.token_type is not TokenType.NUMBER:
        raise ValueError
    return whole(value.text, value.start + 1, 1, MAX_COUNT)


def _truth(value: Token) -> bool:
    if value.token_type not in (TokenType.TRUE, TokenType.FALSE):
        raise ValueError
    return value.token_type is TokenType.TRUE


def _unit(value: Token) -> str:
    if value.token_type in (TokenType.NUMBER, TokenType.STRING):
        raise ValueError
    return output_name(value.text, value.start + 1)


OPTIONS: dict[str, tuple[str, Callable[[Token], object]]] = {
    "epsilon": ("epsilon", _positive),
    "delta": ("delta", lambda value: _decimal(value, "0", "0.5")),
    "noise": ("noise", lambda value: Noise(value.text.lower())),
    "bounds": ("bounds", lambda value: Bounds(value.text.lower())),
    "max_rows_contributed": ("rows", _count),
    "max_groups_contributed": ("groups", _count),
    "clip_correction": ("correction", _truth),
    "target_absolute_error": ("absolute_error", _positive),
    "target_relative_error": ("relative_error", _positive),
    "privacy_unit_column": ("unit_column", _unit),
}
