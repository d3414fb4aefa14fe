"""Row rules as SQL: each declared property of a column becomes one test; the first that fails names the rejection."""

from __future__ import annotations

from enclave_runner.contract.dataset import Column, ColumnType, DatasetSpec, KeyKind
from enclave_runner.plan.render import literal
from enclave_runner.plan.tables import quote

MAX_TEXT = 10_000
CREDIT_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
CREDIT_WEIGHTS = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)
RESIDENT_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
RESIDENT_CHECKS = "10X98765432"


def typed(column: Column) -> str:
    """The column's value from its text: numbers as BIGINT in units of 10^-scale, NULL for what does not parse."""
    text = quote(column.name)
    if column.type is ColumnType.INTEGER:
        return f"TRY_CAST({text} AS BIGINT)"
    if column.type is ColumnType.DECIMAL:
        return f"TRY_CAST(TRY_CAST({text} AS DECIMAL(24, {column.scale})) * {10**column.scale} AS BIGINT)"
    if column.type is ColumnType.BOOLEAN:
        return f"CASE WHEN lower({text}) IN ('true', '1') THEN true WHEN lower({text}) IN ('false', '0') THEN false END"
    if column.type is ColumnType.DATE:
        return f"TRY_CAST({text} AS DATE)"
    return text


def row_checks(spec: DatasetSpec) -> str:
    """An expression that is NULL for a good row and 'column:rule' for the first broken rule of a bad one."""
    tests: list[str] = []
    for column in spec.columns:
        name = quote(column.name)
        if not column.nullable:
            tests.append(_broken(column, "row.missing", f"{name} IS NULL"))
        tests.append(_broken(column, "row.type", f"{name} IS NOT NULL AND NOT ({_well_typed(column)})"))
        if column.bounds is not None:
            low, high = (_bound(column, bound) for bound in column.bounds)
            tests.append(_broken(column, "row.bounds", f"{typed(column)} NOT BETWEEN {low} AND {high}"))
        if column.domain is not None:
            values = ", ".join(literal(value) for value in column.domain)
            tests.append(_broken(column, "row.domain", f"CAST({typed(column)} AS VARCHAR) NOT IN ({values})"))
    tests += _key_checks(spec)
    return f"CASE {' '.join(tests)} END"


def _bound(column: Column, bound: int) -> str:
    is_date = column.type is ColumnType.DATE
    return f"(DATE '1970-01-01' + CAST({bound} AS INTEGER))" if is_date else literal(bound)


def _broken(column: Column, rule: str, condition: str) -> str:
    return f"WHEN {condition} THEN {literal(f'{column.name}:{rule}')}"


def _well_typed(column: Column) -> str:
    text = quote(column.name)
    if column.type is ColumnType.INTEGER:
        return f"regexp_full_match({text}, '[+-]?[0-9]{{1,15}}')"
    if column.type is ColumnType.DECIMAL:
        fraction = f"([.][0-9]{{1,{column.scale}}})?" if column.scale else ""
        return f"regexp_full_match({text}, '[+-]?[0-9]{{1,12}}{fraction}')"
    if column.type is ColumnType.TEXT:
        return f"length({text}) <= {MAX_TEXT}"
    if column.type is ColumnType.DATE:
        return f"regexp_full_match({text}, '[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}') AND {typed(column)} IS NOT NULL"
    return f"{typed(column)} IS NOT NULL"


def _key_checks(spec: DatasetSpec) -> list[str]:
    if spec.key_kind is KeyKind.ROW:
        return []
    key = quote(spec.entity_column)
    tests = {
        KeyKind.RESIDENT_ID: _resident_id(key),
        KeyKind.CREDIT_CODE: _credit_code(key),
        KeyKind.OPAQUE: f"regexp_full_match({key}, '[!-~]{{1,64}}')",
    }
    rule = literal(f"{spec.entity_column}:row.key")
    missing = literal(f"{spec.entity_column}:row.missing")
    return [f"WHEN {key} IS NULL THEN {missing}", f"WHEN NOT coalesce({tests[spec.key_kind]}, false) THEN {rule}"]


def _resident_id(key: str) -> str:
    """GB 11643-1999: seventeen digits, a date of birth inside, check character mod 11-2."""
    digits = [
        f"CAST(substr({key}, {place}, 1) AS INTEGER) * {weight}" for place, weight in enumerate(RESIDENT_WEIGHTS, 1)
    ]
    check = f"substr('{RESIDENT_CHECKS}', 1 + ({' + '.join(digits)}) % 11, 1)"
    birth = f"TRY_CAST(substr({key}, 7, 4) || '-' || substr({key}, 11, 2) || '-' || substr({key}, 13, 2) AS DATE)"
    return (
        f"CASE WHEN regexp_full_match({key}, '[0-9]{{17}}[0-9X]') "
        f"THEN {birth} IS NOT NULL AND right({key}, 1) = {check} ELSE false END"
    )


def _credit_code(key: str) -> str:
    """GB 32100-2015: eighteen characters of an alphabet of 31, check character mod 31."""
    values = [
        f"(instr('{CREDIT_ALPHABET}', substr({key}, {place}, 1)) - 1) * {weight}"
        for place, weight in enumerate(CREDIT_WEIGHTS, 1)
    ]
    check = f"substr('{CREDIT_ALPHABET}', 1 + (31 - ({' + '.join(values)}) % 31) % 31, 1)"
    pattern = "[0-9A-HJ-NP-RTUW-Y]{18}"
    return f"CASE WHEN regexp_full_match({key}, '{pattern}') THEN right({key}, 1) = {check} ELSE false END"
