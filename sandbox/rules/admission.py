"""What may be granted, and whether a job stays within its grant. The enclave checks the same again, by itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from enclave_runner.contract.dataset import KeyKind
from enclave_runner.contract.grant import Grant, Mode, Purpose
from sandbox.domain.consent import Consent
from sandbox.domain.dataset import Dataset
from sandbox.domain.decision import ALLOWED, Decision, refuse
from sandbox.domain.grant import GrantRecord, GrantStatus
from sandbox.domain.party import Party, PartyStatus, Role
from sandbox.domain.product import Product
from sandbox.domain.scenario import Scenario

CORE_GRADE = 4


def decide_draft(
    grant: Grant, scenario: Scenario, operator: Party, catalogue: Mapping[str, Dataset], now: datetime
) -> Decision:
    """Whether the bureau may draft this grant: unit, scenario, data, deadline and budgets (articles 10, 24, 28)."""
    decisions = (
        _decide_unit(grant, operator),
        _decide_scenario(grant, scenario, now),
        decide_columns({scope.dataset_id: scope.columns for scope in grant.scopes}, catalogue),
        _decide_budgets(grant, catalogue),
    )
    return next((decision for decision in decisions if not decision.allowed), ALLOWED)


def _decide_unit(grant: Grant, operator: Party) -> Decision:
    if operator.role is not Role.OPERATOR or operator.party_id != grant.operator_id:
        return refuse("grant.operator", party=operator.party_id)
    if operator.credit_code != grant.operator_code:
        return refuse("grant.operator-code", party=operator.party_id)
    return decide_active(operator)


def decide_active(party: Party) -> Decision:
    """Whether a party may take part at all (article 49)."""
    if party.status is not PartyStatus.ACTIVE:
        return refuse("party.inactive", party=party.party_id, status=party.status.value)
    return ALLOWED


def _decide_scenario(grant: Grant, scenario: Scenario, now: datetime) -> Decision:
    if (scenario.scenario_id, scenario.operator_id) != (grant.scenario_id, grant.operator_id):
        return refuse("grant.scenario", scenario=scenario.scenario_id)
    if scenario.purpose is not grant.purpose:
        return refuse("grant.purpose", purpose=grant.purpose.value, authorized=scenario.purpose.value)
    if grant.deadline > scenario.valid_until:
        return refuse("grant.beyond-scenario", until=scenario.valid_until.date().isoformat())
    if grant.deadline <= now:
        return refuse("grant.expired", deadline=grant.deadline.date().isoformat())
    return ALLOWED


def decide_columns(scopes: Mapping[str, tuple[str, ...]], catalogue: Mapping[str, Dataset]) -> Decision:
    """Whether the named columns exist, stand on no negative list, and are not core data."""
    for dataset_id, columns in scopes.items():
        dataset = catalogue.get(dataset_id)
        if dataset is None:
            return refuse("dataset.unknown", dataset=dataset_id)
        for name in columns:
            column = dataset.spec.column(name)
            if column is None:
                return refuse("dataset.column", dataset=dataset_id, column=name)
            if column.withheld is not None:
                return refuse("dataset.withheld", column=name, basis=column.withheld)
            if column.grade >= CORE_GRADE:
                return refuse("dataset.core-grade", column=name)
    return ALLOWED


def _decide_budgets(grant: Grant, catalogue: Mapping[str, Dataset]) -> Decision:
    scoped = (catalogue.get(scope.dataset_id) for scope in grant.scopes)
    covered = {dataset.spec.entity_set for dataset in scoped if dataset is not None}
    for budget in grant.budgets:
        if budget.entity_set not in covered:
            return refuse("grant.entity-set", entity_set=budget.entity_set)
    return ALLOWED


def decide_grant(record: GrantRecord, operator_id: str, now: datetime) -> Decision:
    """Whether a grant can be used now by that operator (article 28)."""
    grant = record.grant
    if grant.operator_id != operator_id:
        return refuse("grant.foreign", grant=grant.grant_id)
    if record.status is not GrantStatus.SIGNED:
        return refuse("grant.not-signed", grant=grant.grant_id, status=record.status.value)
    if now < grant.not_before:
        return refuse("grant.not-yet", since=grant.not_before.date().isoformat())
    if now >= grant.deadline:
        return refuse("grant.expired", deadline=grant.deadline.date().isoformat())
    return ALLOWED


def decide_mode(grant: Grant, mode: Mode) -> Decision:
    """Whether the grant allows that kind of job."""
    return ALLOWED if mode in grant.modes else refuse("grant.mode", mode=mode.value)


def decide_question(product: Product, dataset: Dataset) -> Decision:
    """Whether a product may ask about the entities of a dataset: they have keys, and people consent (article 43)."""
    if dataset.spec.key_kind is KeyKind.ROW:
        return refuse("product.no-key", dataset=dataset.dataset_id)
    if dataset.personal and not product.needs_consent:
        return refuse("product.consent-needed", product=product.product_id)
    hidden = next((mode for mode in product.modes if mode.hides_subject), None)
    if product.needs_consent and hidden is not None:
        return refuse("product.hidden-consent", product=product.product_id, mode=hidden.value)
    return ALLOWED


def decide_consent(
    product: Product, consent: Consent | None, requester_id: str, purpose: Purpose, now: datetime
) -> Decision:
    """Whether the consent under which a question was filed still covers it when the question is to be asked."""
    if not product.needs_consent:
        return ALLOWED
    if consent is None or not consent.covers(consent.subject, requester_id, product.product_id, purpose, now):
        return refuse("consent.missing", product=product.product_id)
    return ALLOWED


def decide_scope(grant: Grant, dataset_id: str, columns: tuple[str, ...], catalogue: Mapping[str, Dataset]) -> Decision:
    """Whether a job that reads those columns stays within the grant, and within the catalogue as it stands today."""
    scope = grant.scope(dataset_id)
    if scope is None:
        return refuse("grant.dataset", dataset=dataset_id)
    known = decide_columns({dataset_id: columns}, catalogue)
    if not known.allowed:
        return known
    outside = next((name for name in columns if name not in scope.columns), None)
    return ALLOWED if outside is None else refuse("grant.column", column=outside)
