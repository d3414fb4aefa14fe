"""What tests say of receipts, and the jobs whose receipts they look at."""

from __future__ import annotations

from enclave_runner.contract.codec import digest
from enclave_runner.contract.job import ModelJob
from enclave_runner.contract.receipt import Outcome, Receipt
from tests.support.enclave_home import BUDGET


def refused(receipt: Receipt) -> tuple[str | None, dict[str, str]]:
    """Rule and facts of a refusal, which cost nothing and released nothing."""
    assert (receipt.outcome, receipt.losses, receipt.release_sha256) == (Outcome.REFUSED, (), None)
    return receipt.rule, receipt.facts


def model_job(model: bytes, sql: str = "SELECT age FROM people", **fields: object) -> ModelJob:
    """A model's scores from 0 to 100 in five bins."""
    given = {"sql": sql, "budget": BUDGET, "model_sha256": digest(model), "output": "score", "high": 100_000, "bins": 5}
    return ModelJob(**{**given, **fields})  # type: ignore[arg-type]


def altered(value: object, **fields: object) -> object:
    """The value with some fields replaced, checked as if it were new."""
    names = value.__struct_fields__  # type: ignore[attr-defined]
    return type(value)(**{**{name: getattr(value, name) for name in names}, **fields})
