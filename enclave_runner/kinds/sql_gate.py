"""The last look at rendered SQL: DuckDB's own parse tree of it, held against a closed list, and run from that tree.

The planner allows what it names and the renderer writes nothing else; this catches the case where one of them is wrong.
The statement's type would not do: in DuckDB 2 a COPY inside a WITH reports itself as a SELECT.
"""

from __future__ import annotations

import json

import duckdb

from enclave_runner.plan.render import TABLE

FUNCTIONS = frozenset({"sum", "greatest", "least", "*"})
TYPES = frozenset({"BIGINT", "HUGEINT", "VARCHAR", "DATE"})
NAMES = FUNCTIONS | TYPES | {TABLE}
EXPRESSIONS = frozenset({"COLUMN_REF", "CONSTANT", "FUNCTION", "COMPARISON", "CONJUNCTION", "CASE", "CAST", "TYPE"})
KINDS = frozenset(
    {
        "SELECT_NODE",
        "BASE_TABLE",
        "ORDER_MODIFIER",
        "COLUMN_REF",
        "VALUE_CONSTANT",
        "FUNCTION",
        "COMPARE_EQUAL",
        "COMPARE_NOTEQUAL",
        "COMPARE_LESSTHAN",
        "COMPARE_LESSTHANOREQUALTO",
        "COMPARE_GREATERTHAN",
        "COMPARE_GREATERTHANOREQUALTO",
        "COMPARE_IN",
        "CONJUNCTION_AND",
        "CASE_EXPR",
        "OPERATOR_CAST",
        "OPERATOR_IS_NULL",
        "OPERATOR_COALESCE",
        "TYPE",
    }
)
ALLOWED: dict[str, frozenset[object]] = {
    "class": EXPRESSIONS | {"OPERATOR"},
    "type": KINDS,
    "function_name": FUNCTIONS,
    "type_name": TYPES,
    "table_name": frozenset({TABLE}),
    "kind": frozenset({"INTEGER", "STRING"}),
    "aggregate_handling": frozenset({"STANDARD_HANDLING"}),
    **dict.fromkeys(("error", "distinct", "export_state", "try_cast", "is_legacy_function_call"), frozenset({False})),
    **dict.fromkeys(("schema", "catalog", "schema_name", "catalog_name", "name"), frozenset({""})),
    **dict.fromkeys(("sample", "at_clause", "having", "qualify", "filter"), frozenset({None})),
}
EMPTY = frozenset({"modifiers", "map", "orders", "named_param_map", "column_name_alias"})
FREE = frozenset({"alias", "text", "query_location", "query_location_length", "is_operator"})
NESTED = frozenset(
    {
        "statements",
        "node",
        "cte_map",
        "select_list",
        "from_table",
        "where_clause",
        "group_expressions",
        "group_sets",
        "child",
        "children",
        "type_expr",
        "order_bys",
        "arguments",
        "expression",
        "case_checks",
        "when_expr",
        "then_expr",
        "else_expr",
        "left",
        "right",
        "literal",
        "qualified_name",
    }
)


class UnlistedSqlError(Exception):
    """Something in the tree is not on the list. Carries the place and nothing else."""


def checked(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """The statement, written anew by DuckDB from the tree that was checked.

    Raises:
        UnlistedSqlError: more or less than one SELECT, or a node, a name or a property that is not listed.
    """
    try:
        row = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
        tree = json.loads(row[0]) if row else {}
    except (duckdb.Error, ValueError):
        raise UnlistedSqlError("text") from None
    if len(tree.get("statements", ())) != 1:
        raise UnlistedSqlError("statements")
    _check_object(tree)
    row = connection.execute("SELECT json_deserialize_sql(?)", [json.dumps(tree)]).fetchone()
    if row is None:
        raise UnlistedSqlError("text")
    return str(row[0])


def _check_object(item: dict[str, object]) -> None:
    for key, value in item.items():
        if key in FREE:
            continue
        if key in ALLOWED:
            _require(not isinstance(value, dict | list) and value in ALLOWED[key], key)
        elif key in EMPTY:
            _require(value == [], key)
        elif key == "path":
            _require(isinstance(value, list) and len(value) == 1 and value[0] in NAMES, key)
        elif key == "column_names":
            _require(isinstance(value, list) and len(value) == 1, key)
        else:
            _require(key in NESTED, key)
            _check_nested(value, key)


def _check_nested(value: object, key: str) -> None:
    if isinstance(value, dict):
        _check_object(value)
    elif isinstance(value, list):
        for element in value:
            _check_nested(element, key)
    else:
        # A grouping set is a list of positions; a condition that is absent is null.
        _require(value is None or (key == "group_sets" and isinstance(value, int)), key)


def _require(holds: bool, where: str) -> None:
    if not holds:
        raise UnlistedSqlError(where)
