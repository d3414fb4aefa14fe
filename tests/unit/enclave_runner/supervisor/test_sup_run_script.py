"""A script job through a real enclave: released, refused by its trial, quoted, and of a time that is fixed."""

from __future__ import annotations

import time

import pytest
from msgspec.structs import replace

from enclave_runner.contract.codec import decode, digest
from enclave_runner.contract.grant import PURPOSE
from enclave_runner.contract.privacy import Budget
from enclave_runner.contract.receipt import DPTable, Outcome, Receipt
from enclave_runner.contract.script import ScriptJob, ScriptOutput
from enclave_runner.contract.signing import seal
from enclave_runner.contract.wire import AskQuote
from enclave_runner.dp.conversion import pico_rho_of
from enclave_runner.supervisor.quote import quote_job
from tests.support.enclave_home import Site, make_grant

GOOD = b"import numpy as np\ndef main(data):\n    return [np.nanmean(data['age']), len(data['age'])]\n"
OUTPUTS = (ScriptOutput(name="mean", low="0", high="120"), ScriptOutput(name="rows", low="0", high="100"))


def order(script: bytes, sql: str = "SELECT age, sex, income, city FROM people", **fields: object) -> ScriptJob:
    given = {"sql": sql, "budget": Budget(epsilon="4"), "script_sha256": digest(script), "outputs": OUTPUTS}
    return ScriptJob(**{**given, "blocks": 8, **fields})  # type: ignore[arg-type]


def receipt(site: Site, script: bytes, job: ScriptJob | None = None) -> Receipt:
    return site.receipt(site.settle(job or order(script), attached=script))


@pytest.mark.slow
def test_a_script_is_released_with_its_loss_in_its_fixed_time(site: Site) -> None:
    began = time.monotonic()
    settled = site.settle(order(GOOD), attached=GOOD)
    assert time.monotonic() - began >= 8 * 1.25
    found = site.receipt(settled)
    assert (found.outcome, found.rule, found.fault) == (Outcome.RELEASED, None, None)
    assert [loss.pico_rho for loss in found.losses] == [pico_rho_of(Budget(epsilon="4"))]
    assert found.input_sha256 == digest(GOOD)
    assert settled.release is not None
    table = decode(settled.release, DPTable)
    assert [name for name, _ in table.rows] == ["mean", "rows"]
    assert (table.loss,) == found.losses


@pytest.mark.slow
def test_a_job_whose_blocks_all_fail_is_released_like_any_other(site: Site) -> None:
    # The made-up rows end before it can tell; beside the data it dies in every way.
    dying = b"import os\ndef main(data):\n    if len(data['age']) != 24: os._exit(3)\n    return [1, 2]\n"
    began = time.monotonic()
    found = receipt(site, dying)
    assert (found.outcome, found.rule, found.fault) == (Outcome.RELEASED, None, None)
    assert time.monotonic() - began >= 8 * 1.25


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (b"def main(data):\n    return 1/0\n", "ZeroDivisionError in line 2: division by zero"),
        (b"def main(data):\n    return 1\n", "main(data) gave 1 numbers, and 2 outputs are declared"),
        (b"import os\nos._exit(0)\n", "it ended without an answer, or took too long or too much memory"),
        (b"while True: pass\n", "it ended without an answer, or took too long or too much memory"),
        (b"x = bytearray(4 << 30)\n", "MemoryError in line 1"),
    ],
)
def test_a_script_that_fails_on_made_up_rows_costs_nothing(site: Site, script: bytes, told: str) -> None:
    before = site.spent()
    found = receipt(site, script)
    assert (found.outcome, found.rule, found.losses) == (Outcome.REFUSED, "script.trial", ())
    assert found.facts["what"].startswith(told)
    assert site.spent() == before


def test_another_script_than_the_submitted_one_does_not_run(site: Site) -> None:
    found = site.receipt(site.settle(order(GOOD), attached=GOOD + b"#"))
    assert (found.outcome, found.rule) == (Outcome.REFUSED, "script.digest")


def test_bytes_that_are_no_text_and_too_many_are_refused(site: Site) -> None:
    assert receipt(site, b"\xff\xfe").rule == "script.text"
    assert receipt(site, b"#" * 200_001).rule == "script.too-large"


def test_what_the_grant_does_not_give_is_refused(site: Site) -> None:
    assert receipt(site, GOOD, order(GOOD, "SELECT id FROM people")).outcome is Outcome.REFUSED
    assert receipt(site, GOOD, order(GOOD, "SELECT COUNT(*) AS n FROM people")).outcome is Outcome.REFUSED


def test_a_quote_tells_the_time_and_each_output_s_accuracy(site: Site) -> None:
    grant = seal(make_grant(), PURPOSE, site.bureau.officer)
    quote = quote_job(site.enclave, AskQuote(grant=grant, job=order(GOOD)))
    assert (quote.cells, quote.seconds, quote.noise) == (2, 10, "gaussian")
    assert [item.name for item in quote.measures] == ["mean", "rows"]
    longer = quote_job(site.enclave, AskQuote(grant=grant, job=replace(order(GOOD), blocks=400)))
    assert longer.seconds == 500
    assert float(longer.measures[0].half_width) < float(quote.measures[0].half_width) / 40
