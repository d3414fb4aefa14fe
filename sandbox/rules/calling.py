"""Open products: whether a check fits its columns, whether a product may be opened, and whether a call may be made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from enclave_runner.contract.call import Ask, EqualityAsk, PlainAsk, ScoreAsk, ThresholdAsk
from enclave_runner.contract.check import Check, CheckKind
from enclave_runner.contract.dataset import Column, ColumnType
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.protocols.canonical import claim_text
from enclave_runner.contract.rulebook import PolicyPack
from enclave_runner.contract.scoring import ScoreCheck
from sandbox.domain.dataset import Dataset
from sandbox.domain.decision import ALLOWED, Decision, refuse
from sandbox.domain.grant import GrantRecord
from sandbox.domain.party import Party
from sandbox.domain.product import Product, ProductStatus
from sandbox.domain.scenario import Scenario
from sandbox.rules.admission import decide_active, decide_grant, decide_mode, decide_question, decide_scope
from sandbox.rules.scenario import decide_use

ORDERED = (ColumnType.INTEGER, ColumnType.DECIMAL, ColumnType.DATE)
LIMITS_FILE = "limits.toml"


@dataclass(frozen=True)
class CallLimits:
    """Limits of open products that the control plane looks at too, so that they are told early."""

    score_bits: float
    max_days: int
    max_calls: int


def read_call_limits(pack: PolicyPack) -> CallLimits:
    """The limits of verification in the pack.

    Raises:
        Failed: `policy.limits` when one is missing.
    """
    try:
        table = pack.table(LIMITS_FILE)["verification"]
        return CallLimits(float(table["bits_of_a_score"]), int(table["max_days"]), int(table["max_calls"]))
    except (KeyError, TypeError, ValueError):
        raise Failed("policy.limits") from None


def decide_callable(
    product: Product, record: GrantRecord, scenario: Scenario, operator: Party, dataset: Dataset | None, now: datetime
) -> Decision:
    """Whether a published product answers at all now, whoever asks: operator, grant and catalogue allow it."""
    if product.status is not ProductStatus.PUBLISHED:
        return refuse("product.not-published", product=product.product_id, status=product.status.value)
    catalogue = {} if dataset is None else {dataset.dataset_id: dataset}
    job = product.job
    decisions = (
        decide_active(operator),
        decide_grant(record, product.operator_id, now),
        decide_use(scenario, record.grant, product.operator_id, now),
        decide_mode(record.grant, job.mode),
        decide_scope(record.grant, job.dataset_id, product.attributes, catalogue),
    )
    refused = next((decision for decision in decisions if not decision.allowed), None)
    if refused is not None or dataset is None:
        return refused or refuse("dataset.unknown", dataset=job.dataset_id)
    # The catalogue may have changed since the product was published.
    return decide_question(product, dataset)


def decide_check(product: Product, dataset: Dataset) -> Decision:
    """Whether a check fits the columns that it reads. What is asked one ticket at a time has nothing to fit."""
    check = product.check
    if check is None:
        return ALLOWED
    if not dataset.spec.unique:
        return refuse("verification.many-rows")
    columns = [dataset.spec.column(name) for name in check.attributes]
    known = [column for column in columns if column is not None]
    return _decide_score(known) if isinstance(check, ScoreCheck) else _decide_attribute(check, known[0])


def _decide_attribute(check: Check, column: Column) -> Decision:
    wants_order = check.kind in (CheckKind.AT_LEAST, CheckKind.LEVEL)
    if wants_order and column.type not in ORDERED:
        # Names have an order too, but asking along it would spell them out letter by letter.
        return refuse("verification.claim", column=column.name)
    try:
        for member in check.members:
            claim_text(member, column.type, column.scale)
    except Refused as refused:
        return refuse(refused.rule, **refused.facts)
    return ALLOWED


def _decide_score(columns: list[Column]) -> Decision:
    text = next((column for column in columns if column.type is ColumnType.TEXT), None)
    return ALLOWED if text is None else refuse("verification.claim", column=text.name)


def decide_score_bits(check: ScoreCheck, most_bits: float) -> Decision:
    """Whether one answer stays within the limit of what a score may tell of one subject.

    The caller learns the platform's points exactly: at most log2 of the number of possible sums.
    """
    if math.log2(check.outcomes) <= most_bits:
        return ALLOWED
    return refuse("verification.score-bits", max=f"{most_bits:g}")


def decide_life(days: int, calls: int, max_days: int, max_calls: int) -> Decision:
    """Whether a standing ticket may live so long and answer so often."""
    if not 0 < days <= max_days:
        return refuse("standing.life", max=max_days)
    if not 0 < calls <= max_calls:
        return refuse("standing.calls", max=max_calls)
    return ALLOWED


def life_end(record: GrantRecord, scenario: Scenario, now: datetime, days: int) -> datetime:
    """When a standing ticket ends: never after its grant, or the scenario's authorization."""
    return min(now + timedelta(days=days), record.grant.deadline, scenario.valid_until)


def subjects_of(ask: Ask) -> tuple[str, ...]:
    """Whom a call names to the platform; nobody in the modes that hide it, and in a first move."""
    match ask:
        case PlainAsk():
            return tuple(asked.subject for asked in ask.asked)
        case EqualityAsk() | ThresholdAsk():
            return (ask.subject,)
        case ScoreAsk():
            return ask.subjects
        case _:
            return ()
