"""What the enclave costs: a ticket to its receipt beside a bare DuckDB process, an import beside COPY.

`make bench-main`. Data: the pilot city's social-insurance payments, about 650,000 rows.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.report import Check, interleaved, publish
from enclave_runner.contract.codec import decode
from enclave_runner.contract.dataset import DatasetSpec
from enclave_runner.contract.grant import PURPOSE as GRANT
from enclave_runner.contract.grant import Grant, Mode, Purpose, Scope
from enclave_runner.contract.job import QueryJob
from enclave_runner.contract.privacy import RHO_UNIT, Budget, PrivacyLoss
from enclave_runner.contract.receipt import Outcome, Receipt
from enclave_runner.contract.signing import KeyFile, Signed, seal
from enclave_runner.contract.ticket import PURPOSE as TICKET
from enclave_runner.contract.ticket import Charge, Ticket
from enclave_runner.contract.trust import Trust
from enclave_runner.contract.wire import DATASET_PURPOSE, FileFormat, ImportData
from enclave_runner.supervisor.enclave import Enclave, open_enclave
from enclave_runner.supervisor.home import EnclaveHome, create_home
from enclave_runner.supervisor.intake import import_data
from enclave_runner.supervisor.run import run_ticket
from sandbox.pilot.catalogue import city_datasets
from sandbox.pilot.city import write_city
from sandbox.settings import pack_folder

RESIDENTS, ROUNDS = 150_000, 7
TABLE = "social_insurance"
SQL = f"SELECT COUNT(*) AS n, SUM(personal_payment) AS paid FROM {TABLE} WHERE arrears_days >= 1"
NUMBERS = itertools.count()


def main() -> None:
    """Build a home, import, measure, report."""
    with tempfile.TemporaryDirectory(prefix="yunei-bench-") as name:
        folder = Path(name)
        city = write_city(folder / "city", RESIDENTS, 7)
        file = city.file(TABLE)
        spec = next(dataset.spec for dataset in city_datasets() if dataset.dataset_id == TABLE)
        officer, control = KeyFile.create(folder / "officer"), KeyFile.create(folder / "control")
        home = EnclaveHome(folder / "enclave")
        create_home(home, Trust(control=(control.public_key,), officers=(officer.public_key,)), pack_folder())
        with open_enclave(home) as enclave:
            publish("main", [*_imports(enclave, spec, officer, file.path), *_tickets(enclave, spec, officer, control)])


def _imports(enclave: Enclave, spec: DatasetSpec, officer: KeyFile, path: Path) -> list[Check]:
    order = ImportData(spec=seal(spec, DATASET_PURPOSE, officer), format=FileFormat.CSV)

    def ours() -> None:
        with path.open("rb") as file:
            import_data(enclave, order, file.fileno())

    target = path.with_suffix(".parquet")
    sql = f"COPY (FROM read_csv('{path}')) TO '{target}' (FORMAT parquet, COMPRESSION zstd)"
    copy = f'import duckdb; duckdb.execute("{sql}")'
    mine, floor = interleaved(3, ours, lambda: _python(copy))
    note = "every row checked, hashed, staged and fsynced, against a COPY that infers and checks nothing"
    return [Check("import_ratio", mine / floor, "x", "<= 6", "DuckDB COPY to Parquet in a fresh process", note)]


def _tickets(enclave: Enclave, spec: DatasetSpec, officer: KeyFile, control: KeyFile) -> list[Check]:
    held = enclave.holdings.find(spec.dataset_id)
    assert held is not None
    raw = enclave.home.rawdata / held.file
    ticket = _TicketPress(enclave, spec, held.version, officer, control)
    query = f"SELECT count(*), sum(personal_payment::HUGEINT) FROM read_parquet('{raw}') WHERE arrears_days >= 1"
    bare = f'import duckdb; duckdb.execute("{query}").fetchall()'
    mine, floor = interleaved(ROUNDS, ticket.run, lambda: _python(bare))
    note = "parse, extract and exact sums each in a jail, noise, durable signed receipt"
    return [
        Check("ticket_to_receipt_ratio", mine / floor, "x", "<= 1.5", "the exact query in a fresh DuckDB process", note)
    ]


class _TicketPress:
    """Makes and runs tickets for one query."""

    def __init__(self, enclave: Enclave, spec: DatasetSpec, version: str, officer: KeyFile, control: KeyFile) -> None:
        self._enclave, self._version, self._control = enclave, version, control
        self._spec = spec
        self._grant: Signed = seal(_grant(spec), GRANT, officer)
        self._charge = _free_query(enclave)

    def run(self) -> None:
        """One ticket to its receipt; a job that is not released is no measurement."""
        number, now = next(NUMBERS), datetime.now(UTC)
        ticket = Ticket(
            ticket_id=f"t{number}",
            submission_id=f"s{number}",
            grant=self._grant,
            job=QueryJob(sql=SQL, budget=Budget(epsilon="0.1")),
            data_versions={self._spec.dataset_id: self._version},
            input_sha256=None,
            policy_sha256=self._enclave.pack.sha256,
            charge=self._charge,
            issued_at=now,
            expires_at=now + timedelta(minutes=5),
            audit_size=0,
            audit_root="",
        )
        settled = run_ticket(self._enclave, seal(ticket, TICKET, self._control), None)
        assert settled.receipt is not None
        assert decode(settled.receipt.payload, Receipt).outcome is Outcome.RELEASED


def _free_query(enclave: Enclave) -> Charge:
    """The pack's price tag for a query in the public interest."""
    wanted = (Mode.QUERY.value, Purpose.PUBLIC_INTEREST.value)
    tariffs = enclave.pack.table("tariffs.toml")
    name = next(name for name, tariff in tariffs.items() if (tariff["mode"], tariff["purpose"]) == wanted)
    tariff = tariffs[name]
    return Charge(tariff_id=name, unit_price_fen=tariff["unit_price_fen"], legal_basis=tariff["legal_basis"])


def _grant(spec: DatasetSpec) -> Grant:
    now = datetime.now(UTC)
    return Grant(
        grant_id="bench",
        operator_id="bench",
        operator_code="-",
        scenario_id="bench",
        purpose=Purpose.PUBLIC_INTEREST,
        modes=(Mode.QUERY,),
        scopes=(Scope(dataset_id=spec.dataset_id, columns=("personal_payment", "arrears_days")),),
        not_before=now - timedelta(days=1),
        deadline=now + timedelta(days=1),
        budgets=(PrivacyLoss(entity_set=spec.entity_set, pico_rho=8 * RHO_UNIT),),
        max_uses=10_000,
    )


def _python(code: str) -> None:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


if __name__ == "__main__":
    main()
