"""The operator's workbench over a real deployment: see, quote, submit, read; and how refusals are told."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.privacy import Budget
from enclave_runner.contract.script import ScriptJob, ScriptOutput
from sandbox import client as yunei
from tests.support.api_world import COUNT_SQL, ApiWorld, api_world
from tests.support.deployment import FREE, OPERATOR

SCRIPT = b"def main(data):\n    return len(data['income'])\n"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiWorld]:
    with api_world(tmp_path_factory.mktemp("workbench") / "home") as served:
        yield served


@pytest.fixture
def bench(api: ApiWorld) -> Iterator[yunei.Workbench]:
    with yunei.connect(api.base, key=api.tokens["operator"]) as opened:
        yield opened


def test_what_is_listed_is_what_the_platform_has(bench: yunei.Workbench) -> None:
    assert [one.dataset_id for one in bench.datasets()] == ["people"]
    assert {one.grant.operator_id for one in bench.grants()} == {OPERATOR}
    for shown in (bench.datasets(), bench.dataset("people"), bench.grants(), bench.budgets(), bench.submissions()):
        assert "<script" not in shown._repr_html_()
        assert repr(shown)


def test_a_quote_spends_nothing_and_a_query_gives_a_table_with_its_receipt(bench: yunei.Workbench) -> None:
    quoted = bench.quote(COUNT_SQL, grant=FREE, epsilon="0.1")
    assert (quoted.price_fen, quoted.affordable is not None) == (0, True)
    before = bench.budgets().odometers.readings
    assert quoted.odometers.readings == before
    result = bench.query(COUNT_SQL, grant=FREE, epsilon="0.1")
    assert [row[0] for row in result.table.rows] == ["north", "south"]
    assert result.receipt.receipt_id in result._repr_html_()
    assert "<svg" in result._repr_html_()
    assert bench.budgets().odometers.readings != before


def test_an_order_that_is_sent_twice_runs_once(bench: yunei.Workbench) -> None:
    order = bench.order(COUNT_SQL, grant=FREE, epsilon="0.2")
    assert bench.submit(order).submission_id == bench.submit(order).submission_id


def test_a_script_waits_for_its_reader(bench: yunei.Workbench) -> None:
    sha256 = bench.upload_script(SCRIPT)
    assert sha256 == hashlib.sha256(SCRIPT).hexdigest()
    job = ScriptJob(
        sql="SELECT income FROM people",
        budget=Budget(epsilon="1"),
        script_sha256=sha256,
        outputs=(ScriptOutput(name="rows", low="0", high="100"),),
        blocks=8,
    )
    assert bench.quote(job, grant=FREE).quoted.quote.seconds == 10
    assert bench.submit(job, grant=FREE).status == "in-review"


def test_a_refusal_tells_rule_article_and_remedy(bench: yunei.Workbench) -> None:
    with pytest.raises(yunei.Declined) as caught:
        bench.quote("SELECT note, COUNT(*) AS n FROM people GROUP BY note", grant=FREE)
    assert (caught.value.rule, bool(caught.value.texts.remedy_zh)) == ("grant.column", True)
    assert caught.value.rule in caught.value._render_traceback_()[0]


def test_no_grant_is_guessed_where_two_fit(bench: yunei.Workbench) -> None:
    with pytest.raises(Refused) as caught:
        bench.quote(COUNT_SQL)
    assert caught.value.rule == "client.grant"


def test_without_an_address_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("YUNEI_URL", "YUNEI_SOCKET", "YUNEI_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Refused) as caught:
        yunei.connect()
    assert caught.value.rule == "client.connection"


def test_the_same_for_an_event_loop(api: ApiWorld) -> None:
    async def ask() -> int:
        async with await yunei.connect_async(api.base, key=api.tokens["operator"]) as bench:
            filed = await bench.submit(COUNT_SQL, grant=FREE, epsilon="0.1")
            return len((await bench.wait(filed)).table.rows)

    assert anyio.run(ask) == 2
