"""Planted values through the whole enclave: a provoked error shows in nothing that is returned or written."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from enclave_runner.contract.codec import encode
from enclave_runner.contract.receipt import Outcome
from enclave_runner.supervisor import run_query
from tests.support.enclave_home import PEOPLE, Site, changed, make_bureau, query, running_site
from tests.support.hostile_sql import CANARY, PROVOCATIONS

SPEC = changed(PEOPLE, dataset_id="people")
ROWS = 50
CSV = "id,sex,age,income,city,joined,active\n" + "".join(
    f"{CANARY}-{number},男,{20 + number},773.9{number % 10},{CANARY},2020-01-01,true\n" for number in range(ROWS)
)
TRACES = (CANARY, CANARY[1:], CANARY.lower(), "Zhang", "773.9")
# Rendered SQL as it would be if the planner and the renderer were wrong; the last is what they write.
FORGED = [
    "SELECT CAST(city AS INTEGER) FROM t0",
    "SELECT sum(CAST(city AS BIGINT)) FROM t0",
    "SELECT error(city) FROM t0",
    "SELECT sum(income * 9223372036854775807) FROM t0",
    "SELECT city FROM t0",
]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An enclave that holds nothing but planted values."""
    bureau = make_bureau(tmp_path_factory.mktemp("planted"), resident='"1000.0"')
    with running_site(bureau) as site:
        report = site.import_csv(SPEC, CSV)
        assert report.accepted == ROWS
        yield site


def told(site: Site, settled: object) -> str:
    """All that leaves or stays in the clear: the answer, the fault log, the ledger."""
    texts = [encode(settled).decode()]
    for path in site.enclave.home.folder.iterdir():
        if path.is_file():
            texts.append(path.read_bytes().decode(errors="replace"))
    return "\n".join(texts)


def is_silent(text: str) -> bool:
    return not any(trace in text for trace in TRACES)


@pytest.mark.parametrize("name", PROVOCATIONS)
def test_a_provocation_in_an_operators_text_is_refused_and_tells_nothing(planted: Site, name: str) -> None:
    expression = re.sub(r"\bn\b", "income", re.sub(r"\bv\b", "city", PROVOCATIONS[name]))
    settled = planted.settle(query(f"SELECT SUM({expression}) AS x FROM people"))
    receipt = planted.receipt(settled)
    assert (receipt.outcome, receipt.losses, settled.release) == (Outcome.REFUSED, (), None)
    assert is_silent(told(planted, settled))


@pytest.mark.parametrize("forged", FORGED)
def test_wrong_sql_beside_the_data_fails_and_tells_nothing(
    planted: Site, forged: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_query, "render_sums", lambda plan, clip: forged)
    settled = planted.settle(query())
    assert planted.receipt(settled).outcome is Outcome.FAILED
    assert settled.release is None
    assert is_silent(told(planted, settled))


def test_what_is_looked_for_would_be_found(planted: Site) -> None:
    """Controls: an honest query is answered, and one planted byte sequence in a file of the home is seen."""
    assert planted.order(query()).outcome is Outcome.RELEASED
    path = planted.enclave.home.folder / "planted"
    path.write_text(f"could not convert {CANARY}")
    assert not is_silent(told(planted, ()))
    path.unlink()
