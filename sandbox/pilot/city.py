"""Write the pilot city: eight CSV files, the same bytes for the same size and seed, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from enclave_runner.contract.errors import Refused
from sandbox.pilot.columns import Rows
from sandbox.pilot.companies import MIN_ENTERPRISES, RESIDENTS_PER_ENTERPRISE, Companies, found
from sandbox.pilot.defects import DEFECTS, spoil
from sandbox.pilot.files import TableFile
from sandbox.pilot.people import Register, settle

MIN_RESIDENTS: Final = 100
MAX_RESIDENTS: Final = 5_000_000
HOUSEHOLDS_AT_ONCE: Final = 5_000
ENTERPRISES_AT_ONCE: Final = 10_000

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class CityFile:
    """One written table: its rows without the header, and how many of them break which rule."""

    table: str
    path: Path
    rows: int
    defects: Mapping[str, int]


@dataclass(frozen=True)
class CitySummary:
    """What was written, and a few identifiers that a demo may ask about (they stand in the files, without defects)."""

    residents: int
    seed: int
    files: tuple[CityFile, ...]
    active_enterprise: str
    revoked_enterprise: str
    insured_resident: str
    uninsured_resident: str

    def file(self, table: str) -> CityFile:
        """The file of that table."""
        return next(file for file in self.files if file.table == table)


def write_city(folder: Path, residents: int, seed: int, progress: Progress | None = None) -> CitySummary:
    """Write one CSV file per table into `folder`; a file is whole or absent.

    `progress` is told the stage ("enterprises", "residents"), how many are done, and of how many.

    Raises:
        Refused: `pilot.size` when the city would be too small or too large, `pilot.seed` when it is
            not in 0 to 2^32 - 1.
    """
    if not MIN_RESIDENTS <= residents <= MAX_RESIDENTS:
        raise Refused("pilot.size", residents=residents, least=MIN_RESIDENTS, most=MAX_RESIDENTS)
    if not 0 <= seed < 2**32:
        raise Refused("pilot.seed")
    tell = progress or (lambda stage, done, total: None)
    count = max(MIN_ENTERPRISES, residents // RESIDENTS_PER_ENTERPRISE)
    companies = Companies(count, seed, staff=residents * 2 // 5)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        tables = {table: stack.enter_context(TableFile(folder, table)) for table in DEFECTS}
        _write_enterprises(tables, companies, tell)
        insured, uninsured = _write_residents(tables, companies, residents, tell)
    active, revoked = companies.codes(np.arange(2, dtype=np.int64)).tolist()
    files = tuple(CityFile(table.table, table.path, table.rows, dict(table.defects)) for table in tables.values())
    return CitySummary(residents, seed, files, active, revoked, insured, uninsured)


def _write_enterprises(tables: Mapping[str, TableFile], companies: Companies, tell: Progress) -> None:
    for chunk, first in enumerate(range(0, companies.count, ENTERPRISES_AT_ONCE)):
        rng = np.random.default_rng([companies.seed, 1, chunk])
        last = min(first + ENTERPRISES_AT_ONCE, companies.count)
        business = found(rng, companies, np.arange(first, last, dtype=np.int64))
        _append(rng, tables["enterprises"], business.enterprises, spare=0 if chunk else 2)
        _append(rng, tables["business_licences"], business.business_licences)
        _append(rng, tables["credit_events"], business.credit_events)
        _append(rng, tables["permits"], business.permits)
        tell("enterprises", last, companies.count)


def _write_residents(
    tables: Mapping[str, TableFile], companies: Companies, residents: int, tell: Progress
) -> tuple[str, str]:
    """Return one resident with social insurance and one without."""
    register = Register()
    done = households = chunk = 0
    insured = uninsured = ""
    while done < residents:
        rng = np.random.default_rng([companies.seed, 2, chunk])
        people = settle(rng, register, companies, households, residents - done, HOUSEHOLDS_AT_ONCE)
        ids = people.residents["resident_id"]
        spare = months = 0
        if chunk == 0:
            first, second = people.first_heads()
            insured, uninsured = str(ids[first]), str(ids[second])
            spare = max(first, second) + 1
            months = int(np.flatnonzero(people.social_insurance["resident_id"] == insured)[-1]) + 1
        _append(rng, tables["households"], people.households)
        _append(rng, tables["residents"], people.residents, spare)
        _append(rng, tables["social_insurance"], people.social_insurance, months)
        _append(rng, tables["utility_use"], people.utility_use)
        done += len(ids)
        households += len(people.households["household_id"])
        chunk += 1
        tell("residents", done, residents)
    return insured, uninsured


def _append(rng: np.random.Generator, table: TableFile, rows: Rows, spare: int = 0) -> None:
    table.write(*spoil(rng, table.table, rows, spare))
