"""The per-job extract: granted columns, granted rows, and an integer weight in place of the entity's identifier."""

from __future__ import annotations

from enclave_runner.contract.dataset import DatasetSpec
from enclave_runner.kinds.engine import engine, path_of
from enclave_runner.kinds.tasks import Done, Extraction
from enclave_runner.plan.render import WEIGHT, literal, quote


def run(task: Extraction, descriptors: list[int]) -> Done:
    """Write a fresh Parquet file: nothing that is not selected can be inside, neither values nor statistics."""
    source, target = descriptors
    outputs = [quote(column) for column in task.columns]
    if task.weighted:
        outputs.append(f"{_weight(task.spec, task.weight_scale)} AS {quote(WEIGHT)}")
    where = f" WHERE CAST({quote(task.spec.entity_column)} AS VARCHAR) = $subject" if task.subject is not None else ""
    select = f"SELECT {', '.join(outputs)} FROM read_parquet('{path_of(source)}'){where}"
    copy = f"COPY ({select}) TO '{path_of(target)}' (FORMAT parquet, USE_TMP_FILE false)"
    with engine() as connection:
        connection.execute(copy, {"subject": task.subject} if task.subject is not None else None)
    return Done()


def _weight(spec: DatasetSpec, scale: int) -> str:
    """floor(S · min(1, K / n)), n = rows of the entity in the extract; in BIGINT throughout."""
    if spec.unique:
        return literal(scale)
    bound = spec.rows_per_entity or 0
    rows = f"count(*) OVER (PARTITION BY {quote(spec.entity_column)})"
    return f"least({literal(scale)}, {literal(scale * bound)} // {rows})"
