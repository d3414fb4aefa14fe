"""Running a job: the zero-row twin before anything is spent, only the needed columns, an extract within its bound."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.receipt import Outcome
from enclave_runner.plan.bound import BoundSelect
from enclave_runner.rawdata.store import RawStore
from enclave_runner.supervisor import plan_query
from tests.support.enclave_home import PEOPLE, PEOPLE_CSV, Site, make_bureau, query, running_site, with_enclave


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(make_bureau(tmp_path_factory.mktemp("execute"))) as site:
        site.import_csv(PEOPLE, PEOPLE_CSV)
        yield site


def test_what_the_engine_cannot_run_is_told_before_anything_is_spent(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def renamed(plan: BoundSelect, clip: int) -> str:
        return 'SELECT sum("agee") FROM t0'

    monkeypatch.setattr(plan_query, "render_sums", renamed)
    before = site.spent()
    receipt = site.order(query())
    assert (receipt.outcome, receipt.rule, receipt.losses) == (Outcome.REFUSED, "sql.engine", ())
    assert 'Referenced column "agee" not found' in receipt.facts["what"]
    assert site.spent() == before


def test_only_the_needed_columns_are_decrypted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, ...]] = []
    real = RawStore.open_columns

    def noted(self: RawStore, name: str, columns: tuple[str, ...]) -> list[int]:
        opened.append(columns)
        return real(self, name, columns)

    monkeypatch.setattr(RawStore, "open_columns", noted)
    assert site.order(query("SELECT SUM(age) AS total FROM people")).outcome is Outcome.RELEASED
    assert site.order(query("SELECT COUNT(*) AS n FROM people")).outcome is Outcome.RELEASED
    assert opened == [("age",), ()]


@pytest.mark.parametrize("bound", [{"scratch_mb": 1}, {"file_mb": 1}])
def test_an_extract_that_is_larger_than_allowed_fails_and_the_next_job_runs(site: Site, bound: dict[str, int]) -> None:
    rows = "".join(f"q{number},,,,{secrets.token_hex(1000)},,\n" for number in range(3000))
    site.import_csv(PEOPLE, f"{','.join(item.name for item in PEOPLE.columns)}\n{rows}")
    profile = replace(site.enclave.limits.extract_profile, **bound)
    tight = with_enclave(site, limits=replace(site.enclave.limits, extract_profile=profile))
    job = query("SELECT COUNT(city) AS n FROM people")
    before = site.spent()
    receipt = tight.order(job)
    assert (receipt.outcome, receipt.rule) == (Outcome.FAILED, None)
    assert receipt.fault is not None
    assert site.spent() > before
    assert site.order(job).outcome is Outcome.RELEASED


def test_a_damaged_column_fails_the_job_that_needs_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(self: RawStore, name: str, columns: tuple[str, ...]) -> list[int]:
        raise Failed("rawdata.damaged")

    monkeypatch.setattr(RawStore, "open_columns", damaged)
    assert site.order(query("SELECT SUM(age) AS total FROM people")).outcome is Outcome.FAILED
