"""From a ticket's job to what will run and what it will cost: plan, bind, try the model. No data are touched here."""

from __future__ import annotations

from dataclasses import dataclass

from enclave_runner.contract.codec import decode, digest
from enclave_runner.contract.dataset import DatasetSpec
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.grant import Grant, Scope
from enclave_runner.contract.job import Job, ModelJob, Predicate, QueryJob, Question, VerificationJob
from enclave_runner.contract.privacy import Budget, PrivacyLoss, number
from enclave_runner.egress.table import share_of
from enclave_runner.jail.launcher import MemoryFile
from enclave_runner.kinds.tasks import Declined, Trial
from enclave_runner.plan.bind import (
    ORDERED,
    BoundFeatures,
    BoundTable,
    bind_features,
    bind_table,
    granted_column,
    typed_constant,
)
from enclave_runner.plan.parse import parse_features, parse_table
from enclave_runner.supervisor.enclave import Enclave


@dataclass(frozen=True)
class PreparedQuery:
    """A DP table ready to run."""

    job: QueryJob
    plan: BoundTable
    losses: tuple[PrivacyLoss, ...]

    @property
    def dataset_id(self) -> str:
        """The one dataset that it reads."""
        return self.plan.dataset_id


@dataclass(frozen=True)
class PreparedModel:
    """A model that has scored a made-up row, with its features bound."""

    job: ModelJob
    plan: BoundFeatures
    losses: tuple[PrivacyLoss, ...]
    model: bytes

    @property
    def dataset_id(self) -> str:
        """The one dataset that it reads."""
        return self.plan.dataset_id


@dataclass(frozen=True)
class PreparedLookup:
    """A question with its claim in the attribute's own type. It costs no privacy loss: its answer is exact and
    metered."""

    job: VerificationJob
    subject: str
    claim: int | str | None
    losses: tuple[PrivacyLoss, ...] = ()

    @property
    def dataset_id(self) -> str:
        """The one dataset that it reads."""
        return self.job.dataset_id


Prepared = PreparedQuery | PreparedModel | PreparedLookup


def prepare(enclave: Enclave, grant: Grant, job: Job, attached: bytes | None) -> Prepared:
    """Check the job against grant, catalogue and caps.

    Raises:
        Refused: by the rule that says no, with what would make it pass.
    """
    match job:
        case QueryJob():
            return prepare_query(enclave, grant, job)
        case ModelJob():
            return _prepare_model(enclave, grant, job, attached)
        case VerificationJob():
            return _prepare_lookup(enclave, grant, job, attached)


def prepare_query(enclave: Enclave, grant: Grant, job: QueryJob) -> PreparedQuery:
    """A DP table; also what a quote is made from."""
    check_budget(enclave, job.budget)
    plan = parse_table(job.sql)
    if len(plan.aggregates) > enclave.limits.max_aggregates:
        raise Refused("sql.aggregates", max=enclave.limits.max_aggregates)
    spec, scope = granted_dataset(enclave, grant, plan.dataset_id)
    bound = bind_table(plan, spec, scope, enclave.limits.max_cells)
    spent = share_of(job.budget, len(bound.aggregates)) * len(bound.aggregates)
    return PreparedQuery(job, bound, (PrivacyLoss(entity_set=spec.entity_set, pico_rho=spent),))


def prepare_features(enclave: Enclave, grant: Grant, job: ModelJob) -> tuple[BoundFeatures, tuple[PrivacyLoss, ...]]:
    """A model's inputs and its loss; also what a quote is made from."""
    check_budget(enclave, job.budget)
    plan = parse_features(job.sql)
    spec, scope = granted_dataset(enclave, grant, plan.dataset_id)
    bound = bind_features(plan, spec, scope)
    return bound, (PrivacyLoss(entity_set=spec.entity_set, pico_rho=share_of(job.budget, 1)),)


def _prepare_model(enclave: Enclave, grant: Grant, job: ModelJob, model: bytes | None) -> PreparedModel:
    bound, losses = prepare_features(enclave, grant, job)
    if model is None or digest(model) != job.model_sha256:
        raise Refused("model.digest")
    with MemoryFile(model) as file:
        answer = enclave.work(Trial(features=bound.features, output=job.output), [file.descriptor])
    if isinstance(answer, Declined):
        raise Refused(answer.rule, **answer.facts)
    return PreparedModel(job, bound, losses, model)


def _prepare_lookup(enclave: Enclave, grant: Grant, job: VerificationJob, attached: bytes | None) -> PreparedLookup:
    spec, scope = granted_dataset(enclave, grant, job.dataset_id)
    if spec.column(job.attribute) is None:
        raise Refused("verification.attribute", column=job.attribute)
    column = granted_column(job.attribute, 1, spec, scope)
    if attached is None:
        raise Refused("ticket.input")
    question = decode(attached, Question)
    claim = None
    if job.predicate is Predicate.AT_LEAST and column.type not in ORDERED:
        # Names have an order too, but asking along it would spell them out letter by letter.
        raise Refused("verification.claim", column=column.name)
    if job.predicate is not Predicate.EXISTS:
        try:
            claim = typed_constant(question.claim, column)
        except ValueError:
            raise Refused("verification.claim", column=column.name) from None
    return PreparedLookup(job, question.subject, claim)


def granted_dataset(enclave: Enclave, grant: Grant, dataset_id: str) -> tuple[DatasetSpec, Scope]:
    """The spec of a held dataset and its scope in the grant.

    Raises:
        Refused: `grant.dataset`, `dataset.unknown`.
    """
    scope = grant.scope(dataset_id)
    if scope is None:
        raise Refused("grant.dataset", dataset=dataset_id[:64])
    held = enclave.holdings.find(dataset_id)
    if held is None:
        raise Refused("dataset.unknown", dataset=dataset_id)
    return held.spec, scope


def check_budget(enclave: Enclave, budget: Budget) -> None:
    """The enclave's cap per job.

    Raises:
        Refused: `budget.cap`.
    """
    if number(budget.epsilon) > enclave.limits.max_epsilon:
        raise Refused("budget.cap", max=f"ε = {enclave.limits.max_epsilon}")
    if number(budget.delta) > enclave.limits.max_delta:
        raise Refused("budget.cap", max=f"δ = {enclave.limits.max_delta}")


def check_model_size(enclave: Enclave, size: int) -> None:
    """Refused(`model.too-large`) above the cap; Failed for a size that no file has."""
    if size < 0:
        raise Failed("input.size")
    if size > enclave.limits.model_bytes:
        raise Refused("model.too-large", max=enclave.limits.model_bytes)
