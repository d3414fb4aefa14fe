"""Raw data at rest: after imports and jobs no planted value is in any file, and what is dropped is gone."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from enclave_runner.contract.job import Predicate
from enclave_runner.contract.receipt import Outcome
from enclave_runner.rawdata.kms import KmsChoice
from enclave_runner.rawdata.suite import Suite
from enclave_runner.supervisor.home import EnclaveHome
from enclave_runner.supervisor.removal import drop_data
from enclave_runner.supervisor.rotation import rotate_keys
from tests.support.enclave_home import (
    AGES,
    PEOPLE,
    Bureau,
    Site,
    make_bureau,
    query,
    question,
    running_site,
    verification,
)
from tests.support.raw_stores import files_with

CITIES = [f"canary-{secrets.token_hex(8)}" for _ in range(40)]
IDS = [f"p{secrets.token_hex(10)}" for _ in range(400)]
ROWS = "".join(
    f"{name},{'男' if number % 2 else '女'},{20 + number % 60},{number}.50,{CITIES[number % 40]},2001-01-02,true\n"
    for number, name in enumerate(IDS)
)
CSV = "id,sex,age,income,city,joined,active\n" + ROWS
PLANTED = [value.encode() for value in (*CITIES, *IDS)]
PARQUET_MAGIC = b"PAR1"


@dataclass(frozen=True)
class Deployment:
    """A home that has imported, answered and been left, and when it was begun."""

    bureau: Bureau
    since: float

    @property
    def home(self) -> EnclaveHome:
        return self.bureau.home


@pytest.fixture(params=Suite)
def used(tmp_path: Path, request: pytest.FixtureRequest) -> Deployment:
    since = time.time() - 1
    bureau = make_bureau(tmp_path, kms=KmsChoice(suite=request.param))
    with running_site(bureau) as site:
        for _ in range(2):
            site.import_csv(PEOPLE, CSV)
        assert outcomes(site) == [Outcome.RELEASED, Outcome.RELEASED]
        assert list(leaks(since, tmp_path)) == []  # the enclave still runs
    return Deployment(bureau, since)


def outcomes(site: Site) -> list[Outcome]:
    """A query over one column, and a question about one person."""
    asked = question(IDS[7], CITIES[7])
    return [
        site.order(query(AGES)).outcome,
        site.order(verification("city", Predicate.EQUALS), attached=asked).outcome,
    ]


def leaks(since: float, folder: Path) -> Iterator[str]:
    """Files that hold a planted value: below the folder, in shared memory, and what is new in the temporary folder."""
    yield from files_with(folder, [*PLANTED, PARQUET_MAGIC])
    for place in (Path("/dev/shm"), Path(tempfile.gettempdir())):
        for path in place.iterdir():
            if _is_new(path, since) and any(value in path.read_bytes() for value in PLANTED):
                yield str(path)


def _is_new(path: Path, since: float) -> bool:
    try:
        return path.is_file() and path.stat().st_mtime >= since and os.access(path, os.R_OK)
    except OSError:  # another program's, and gone by now
        return False


def test_no_planted_value_is_in_any_file(used: Deployment, tmp_path: Path) -> None:
    assert list(leaks(used.since, tmp_path)) == []
    assert sum(path.stat().st_size for path in used.home.rawdata.rglob("*")) > len(ROWS) // 4  # and yet they are there


def test_the_search_finds_what_lies_open(used: Deployment, tmp_path: Path) -> None:
    for place in (tmp_path, Path("/dev/shm"), Path(tempfile.gettempdir())):
        with tempfile.NamedTemporaryFile(dir=place) as file:
            file.write(b"x" * 5000 + PLANTED[3])
            file.flush()
            assert len(list(leaks(used.since, tmp_path))) == 1


def test_a_rotated_home_goes_on(used: Deployment, tmp_path: Path) -> None:
    assert rotate_keys(used.home).versions == 2
    with running_site(used.bureau) as site:
        assert outcomes(site) == [Outcome.RELEASED, Outcome.RELEASED]
    assert list(leaks(used.since, tmp_path)) == []


def test_a_job_on_a_dropped_column_is_refused_and_costs_nothing(used: Deployment) -> None:
    drop_data(used.home, "people", None, "city")
    with running_site(used.bureau) as site:
        spent = site.spent()
        refused = site.order(verification("city"), attached=question(IDS[7], CITIES[7]))
        assert (refused.outcome, refused.rule) == (Outcome.REFUSED, "dataset.column-dropped")
        refused = site.order(query("SELECT COUNT(*) AS n FROM people WHERE city = 'x'"))
        assert (refused.rule, refused.facts) == ("dataset.column-dropped", {"dataset": "people", "column": "city"})
        assert site.spent() == spent
        assert site.order(query(AGES)).outcome is Outcome.RELEASED


def test_without_its_key_column_people_are_still_counted_but_not_found(used: Deployment) -> None:
    """`people` has one row per person: a count needs no identifier."""
    drop_data(used.home, "people", None, "id")
    with running_site(used.bureau) as site:
        assert site.order(query(AGES)).outcome is Outcome.RELEASED
        refused = site.order(verification("city"), attached=question(IDS[7], CITIES[7]))
        assert (refused.rule, refused.facts["column"]) == ("dataset.column-dropped", "id")


def test_a_dropped_version_is_not_the_newest_and_its_number_is_not_used_again(used: Deployment) -> None:
    with running_site(used.bureau) as site:
        newest = site.enclave.holdings.find("people")
        assert newest is not None
    drop_data(used.home, "people", newest.version, None)
    with running_site(used.bureau) as site:
        (held,) = site.enclave.holdings.listed()
        assert held.version.startswith("v1-")
        assert outcomes(site) == [Outcome.RELEASED, Outcome.RELEASED]
        assert site.import_csv(PEOPLE, CSV).version.startswith("v3-")
    drop_data(used.home, "people", None, None)
    with running_site(used.bureau) as site:
        assert site.order(query(AGES)).rule == "dataset.unknown"
        assert site.import_csv(PEOPLE, CSV).version.startswith("v4-")


def test_damage_is_a_fault_without_a_word_of_the_data(used: Deployment) -> None:
    for path in used.home.rawdata.rglob("*.column"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    with running_site(used.bureau) as site:
        receipt = site.order(query(AGES))
        assert (receipt.outcome, receipt.rule) == (Outcome.FAILED, None)
        assert '"rawdata.damaged"' in used.home.log.read_text()
    assert files_with(used.home.folder, PLANTED) == []
