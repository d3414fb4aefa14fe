"""What the enclave costs: a ticket to its receipt beside a bare DuckDB process, an import beside COPY.

`make bench-main`. Data: the pilot city's social-insurance payments, about 650,000 rows.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.office import Office, open_office
from benchmarks.report import Check, interleaved, publish
from enclave_runner.contract.dataset import DatasetSpec
from enclave_runner.contract.job import QueryJob
from enclave_runner.contract.privacy import Budget
from sandbox.pilot.catalogue import city_datasets
from sandbox.pilot.city import write_city

RESIDENTS, ROUNDS = 150_000, 7
TABLE = "social_insurance"
SQL = f"SELECT COUNT(*) AS n, SUM(personal_payment) AS paid FROM {TABLE} WHERE arrears_days >= 1"


def main() -> None:
    """Build a home, import, measure, report."""
    with tempfile.TemporaryDirectory(prefix="yunei-bench-") as name, open_office(Path(name)) as office:
        path = write_city(Path(name) / "city", RESIDENTS, 7).file(TABLE).path
        spec = next(dataset.spec for dataset in city_datasets() if dataset.dataset_id == TABLE)
        parquet = path.with_suffix(".parquet")
        publish("main", [*_imports(office, spec, path, parquet), *_tickets(office, spec, parquet)])


def _imports(office: Office, spec: DatasetSpec, path: Path, parquet: Path) -> list[Check]:
    sql = f"COPY (FROM read_csv('{path}')) TO '{parquet}' (FORMAT parquet, COMPRESSION zstd)"
    copy = f'import duckdb; duckdb.execute("{sql}")'
    mine, floor = interleaved(3, lambda: office.import_csv(spec, path), lambda: _python(copy))
    note = "every row checked, hashed, encrypted by column and fsynced, against a COPY that infers and checks nothing"
    return [Check("import_ratio", mine / floor, "x", "<= 6", "DuckDB COPY to Parquet in a fresh process", note)]


def _tickets(office: Office, spec: DatasetSpec, parquet: Path) -> list[Check]:
    grant = office.grant(spec, ("personal_payment", "arrears_days"))
    job = QueryJob(sql=SQL, budget=Budget(epsilon="0.1"))
    query = f"SELECT count(*), sum(personal_payment::HUGEINT) FROM read_parquet('{parquet}') WHERE arrears_days >= 1"
    bare = f'import duckdb; duckdb.execute("{query}").fetchall()'
    mine, floor = interleaved(ROUNDS, lambda: office.run(spec, grant, job), lambda: _python(bare))
    note = "parse, decrypt, extract and exact sums each in a jail, output gate, noise, durable signed receipt"
    return [
        Check("ticket_to_receipt_ratio", mine / floor, "x", "<= 1.5", "the exact query in a fresh DuckDB process", note)
    ]


def _python(code: str) -> None:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


if __name__ == "__main__":
    main()
