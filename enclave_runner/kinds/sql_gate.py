"""The last look at rendered SQL: DuckDB's own parse tree of it, held against a closed list, and run from that tree.

The planner allows what it names and the renderer writes nothing else; this catches the case where one of them is wrong.
The statement's type would not do: in DuckDB 2 a COPY inside a WITH reports itself as a SELECT.
"""

from __future__ import annotations

import json

import duckdb

from enclave_runner.plan.finish import NOISY

FUNCTIONS = frozenset(
    {
        *("sum", "count", "count_star", "row_number", "greatest", "least", "abs", "floor", "round", "ceil", "sqrt"),
        *("nullif", "md5", "concat_ws", "date_trunc", "year", "quarter", "month"),
        *("+", "-", "*", "/", "//", "%"),
    }
)
TYPES = frozenset({"BIGINT", "HUGEINT", "DOUBLE", "BOOLEAN", "VARCHAR", "DATE"})
TABLES = frozenset({"t0", "t1", "t2", "t3", NOISY})
NAMES = FUNCTIONS | TYPES | TABLES
EXPRESSIONS = frozenset(
    {
        *("COLUMN_REF", "CONSTANT", "FUNCTION", "COMPARISON", "CONJUNCTION", "CASE", "CAST", "TYPE", "WINDOW"),
        "OPERATOR",
    }
)
KINDS = frozenset(
    {
        *("SELECT_NODE", "BASE_TABLE", "JOIN", "SUBQUERY"),
        *("ORDER_MODIFIER", "LIMIT_MODIFIER", "DISTINCT_MODIFIER", "ORDER_DEFAULT", "ASCENDING", "DESCENDING"),
        *("COLUMN_REF", "VALUE_CONSTANT", "FUNCTION", "WINDOW_ROW_NUMBER", "CASE_EXPR", "TYPE"),
        *("COMPARE_EQUAL", "COMPARE_NOTEQUAL", "COMPARE_LESSTHAN", "COMPARE_LESSTHANOREQUALTO"),
        *("COMPARE_GREATERTHAN", "COMPARE_GREATERTHANOREQUALTO", "COMPARE_IN"),
        *("CONJUNCTION_AND", "CONJUNCTION_OR"),
        *("OPERATOR_CAST", "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL", "OPERATOR_COALESCE", "OPERATOR_NOT"),
    }
)
NEVER = frozenset({None})
ALLOWED: dict[str, frozenset[object]] = {
    "class": EXPRESSIONS,
    "type": KINDS,
    "function_name": FUNCTIONS,
    "type_name": TYPES,
    "table_name": TABLES,
    "kind": frozenset({"INTEGER", "NUMERIC", "STRING", "NULL_LITERAL"}),
    "aggregate_handling": frozenset({"STANDARD_HANDLING"}),
    "join_type": frozenset({"INNER"}),
    "ref_type": frozenset({"REGULAR"}),
    "limit_type": frozenset({"ROW_COUNT"}),
    "null_order": frozenset({"ORDER_DEFAULT"}),
    "start": frozenset({"UNBOUNDED_PRECEDING"}),
    "end": frozenset({"CURRENT_ROW_RANGE"}),
    "exclude_clause": frozenset({"NO_OTHER"}),
    "nearest_count": frozenset({1}),
    "nearest_order_type": frozenset({"ASCENDING"}),
    "distinct": frozenset({False, True}),
    **dict.fromkeys(("error", "export_state", "try_cast", "is_legacy_function_call"), frozenset({False})),
    **dict.fromkeys(("ignore_nulls", "has_ignore_nulls", "delim_flipped", "is_implicit"), frozenset({False})),
    "nearest_approx": frozenset({False}),
    **dict.fromkeys(("schema", "catalog", "schema_name", "catalog_name", "name"), frozenset({""})),
    **dict.fromkeys(("sample", "at_clause", "having", "qualify", "filter", "filter_expr", "offset"), NEVER),
    **dict.fromkeys(("start_expr", "end_expr", "offset_expr", "default_expr", "ranking_expression"), NEVER),
}
EMPTY = frozenset(
    {
        *("map", "named_param_map", "column_name_alias", "distinct_on_targets", "arg_orders", "using_columns"),
        "duplicate_eliminated_columns",
    }
)
FREE = frozenset({"alias", "text", "query_location", "query_location_length", "is_operator"})
NESTED = frozenset(
    {
        *("statements", "node", "cte_map", "select_list", "from_table", "where_clause", "modifiers", "limit"),
        *("group_expressions", "group_sets", "child", "children", "type_expr", "order_bys", "orders", "arguments"),
        *("expression", "case_checks", "when_expr", "then_expr", "else_expr", "left", "right", "literal"),
        *("qualified_name", "condition", "subquery", "partitions"),
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
            _require(key != "distinct" or not value or item.get("function_name") == "count", key)
        elif key in EMPTY:
            _require(value == [], key)
        elif key == "path":
            _require(isinstance(value, list) and len(value) == 1 and value[0] in NAMES, key)
        elif key == "column_names":
            _require(isinstance(value, list) and 1 <= len(value) <= 2, key)
            _require(not isinstance(value, list) or len(value) == 1 or value[0] in TABLES, key)
        else:
            _require(key in NESTED, key)
            _require(key != "group_sets" or (isinstance(value, list) and len(value) <= 1), key)
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
