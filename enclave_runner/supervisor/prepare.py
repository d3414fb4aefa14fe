"""From a ticket's job to what will run and what it will cost: plan, bind, try the model. No data are touched here."""

from __future__ import annotations

from dataclasses import dataclass

from enclave_runner.contract.codec import decode, digest, encode
from enclave_runner.contract.dataset import DatasetSpec
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.grant import Grant, Mode, Scope
from enclave_runner.contract.job import Job, ModelJob, Predicate, QueryJob, Question, VerificationJob
from enclave_runner.contract.privacy import Budget, PrivacyLoss, number
from enclave_runner.contract.protocols.canonical import subject_text
from enclave_runner.contract.script import ScriptJob
from enclave_runner.contract.ticket import Charge
from enclave_runner.egress.histogram import histogram_loss
from enclave_runner.jail.launcher import MemoryFile
from enclave_runner.kinds.tasks import (
    Declined,
    Done,
    Finished,
    Finishing,
    ParsedFeatures,
    ParsedTable,
    ParsedWorkload,
    Parsing,
    Rehearsal,
    TaskAnswer,
    Trial,
)
from enclave_runner.plan.bind import bind_features
from enclave_runner.plan.bound import BoundFeatures
from enclave_runner.plan.claim import ORDERED, typed_claim
from enclave_runner.plan.nodes import Name
from enclave_runner.plan.render import render_features
from enclave_runner.plan.tables import Granted, granted_column
from enclave_runner.supervisor.enclave import Enclave
from enclave_runner.supervisor.extracts import typed_columns
from enclave_runner.supervisor.holdings import HeldVersion
from enclave_runner.supervisor.plan_query import PlannedQuery, answer_key, finishing_of, plan_query, rehearsal_of
from enclave_runner.supervisor.run_script import PreparedScript, try_script
from enclave_runner.supervisor.workload import PlannedWorkload, plan_workload


@dataclass(frozen=True)
class PreparedQuery:
    """A DP table ready to run."""

    query: PlannedQuery
    losses: tuple[PrivacyLoss, ...]
    answer_key: str | None

    @property
    def held(self) -> tuple[HeldVersion, ...]:
        """The data versions that it reads."""
        return self.query.held


@dataclass(frozen=True)
class PreparedWorkload:
    """Several DP tables ready to run."""

    workload: PlannedWorkload
    losses: tuple[PrivacyLoss, ...]
    answer_key: str | None

    @property
    def held(self) -> tuple[HeldVersion, ...]:
        """The data versions that it reads."""
        return self.workload.held


@dataclass(frozen=True)
class PreparedModel:
    """A model that has scored a made-up row, with its features bound."""

    held: tuple[HeldVersion, ...]
    job: ModelJob
    plan: BoundFeatures
    losses: tuple[PrivacyLoss, ...]
    model: bytes
    answer_key: str | None = None


@dataclass(frozen=True)
class PreparedLookup:
    """A question with its claim in the attribute's own type. It costs no privacy loss: its answer is exact and
    metered."""

    held: tuple[HeldVersion, ...]
    job: VerificationJob
    subject: str
    claim: int | str | None
    losses: tuple[PrivacyLoss, ...] = ()
    answer_key: str | None = None


Prepared = PreparedQuery | PreparedWorkload | PreparedModel | PreparedScript | PreparedLookup


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
        case ScriptJob():
            return _prepare_script(enclave, grant, job, attached)
        case VerificationJob():
            return _prepare_lookup(enclave, grant, job, attached)


def prepare_query(enclave: Enclave, grant: Grant, job: QueryJob) -> PreparedQuery | PreparedWorkload:
    """A DP table, or those of a workload; also what a quote is made from."""
    check_budget(enclave, job.budget)
    parsed = _without_data(enclave, grant, Parsing(sql=job.sql, features=False))

    def find(dataset_id: str) -> tuple[HeldVersion, Scope]:
        return granted_dataset(enclave, grant, dataset_id)

    match parsed:
        case ParsedTable():
            query = plan_query(enclave, parsed.plan, job, find)
            _rehearse_query(enclave, grant, query)
            return PreparedQuery(query, query.losses, answer_key(query, enclave.pack.sha256))
        case ParsedWorkload():
            workload = plan_workload(enclave, parsed.plans, job, find)
            for planned in (*workload.queries, *(table.own for table in workload.tables)):
                _rehearse_query(enclave, grant, planned)
            return PreparedWorkload(workload, workload.losses, workload.key(enclave.pack.sha256))
    raise Failed("job.answer")


def _rehearse_query(enclave: Enclave, grant: Grant, query: PlannedQuery) -> None:
    """What will run beside the data, and what will run on the noisy columns."""
    _rehearse(enclave, grant, rehearsal_of(query))
    finishing = finishing_of(query)
    if finishing is not None and not isinstance(_without_data(enclave, grant, finishing), Finished):
        raise Failed("job.answer")


@dataclass(frozen=True)
class PreparedFeatures:
    """The inputs of a model or a script and its loss, before there is a model."""

    held: HeldVersion
    plan: BoundFeatures
    losses: tuple[PrivacyLoss, ...]


def prepare_features(enclave: Enclave, grant: Grant, job: ModelJob | ScriptJob) -> PreparedFeatures:
    """The inputs of a model or a script and its loss; also what a quote is made from."""
    check_budget(enclave, job.budget)
    parsed = _without_data(enclave, grant, Parsing(sql=job.sql, features=True))
    if not isinstance(parsed, ParsedFeatures):
        raise Failed("job.answer")
    plan = parsed.plan
    held, scope = granted_dataset(enclave, grant, plan.dataset_id)
    bound = bind_features(plan, {plan.dataset_id: Granted(held.spec, scope)})
    held.require(bound.source.columns, with_key=bound.source.rows)
    loss = PrivacyLoss(entity_set=held.spec.entity_set, pico_rho=histogram_loss(job.budget))
    return PreparedFeatures(held, bound, (loss,))


def _without_data(enclave: Enclave, grant: Grant, task: Parsing | Rehearsal | Finishing) -> TaskAnswer:
    """The text alone is at work, so its refusals may say all: `sql.…` with a position, `sql.engine`, `sql.slow`."""
    sha256 = digest(encode(task))
    known = enclave.remembered.find(grant.grant_id, sha256)
    if known is not None:
        return known
    try:
        answer = enclave.work(task, [], enclave.limits.parse_profile)
    except Failed as failed:
        if failed.code in ("job.deadline", "job.limit"):
            raise Refused("sql.slow") from None
        raise
    if isinstance(answer, Declined):
        raise Refused(answer.rule, **answer.facts)
    enclave.remembered.keep(grant.grant_id, sha256, answer)
    return answer


def _features_rehearsal(plan: BoundFeatures, spec: DatasetSpec) -> Rehearsal:
    return Rehearsal(sql=(render_features(plan),), tables=(typed_columns(plan.source.columns, spec),))


def _rehearse(enclave: Enclave, grant: Grant, task: Rehearsal) -> None:
    """Over no rows at all, before anything is spent: what the engine cannot run is told here in its own words."""
    if not isinstance(_without_data(enclave, grant, task), Done):
        raise Failed("job.answer")


def _prepare_model(enclave: Enclave, grant: Grant, job: ModelJob, model: bytes | None) -> PreparedModel:
    features = prepare_features(enclave, grant, job)
    if model is None or digest(model) != job.model_sha256:
        raise Refused("model.digest")
    with MemoryFile(model) as file:
        trial = Trial(
            rehearsal=_features_rehearsal(features.plan, features.held.spec),
            features=features.plan.features,
            output=job.output,
        )
        answer = enclave.work(trial, [file.descriptor])
    if isinstance(answer, Declined):
        raise Refused(answer.rule, **answer.facts)
    return PreparedModel((features.held,), job, features.plan, features.losses, model)


def _prepare_script(enclave: Enclave, grant: Grant, job: ScriptJob, script: bytes | None) -> PreparedScript:
    features = prepare_features(enclave, grant, job)
    plan, held = features.plan, features.held
    if not held.spec.public:
        held.require(plan.source.columns, with_key=True)
    _rehearse(enclave, grant, _features_rehearsal(plan, held.spec))
    text = try_script(enclave, job, plan, held, script)
    return PreparedScript((held,), job, plan, features.losses, text)


def _prepare_lookup(enclave: Enclave, grant: Grant, job: VerificationJob, attached: bytes | None) -> PreparedLookup:
    held, scope = granted_dataset(enclave, grant, job.dataset_id)
    spec = held.spec
    if spec.column(job.attribute) is None:
        raise Refused("verification.attribute", column=job.attribute)
    column = granted_column(Name(column=job.attribute, table=None, position=1), Granted(spec, scope))
    held.require((job.attribute,), with_key=True)
    if attached is None:
        raise Refused("ticket.input")
    question = decode(attached, Question)
    claim = None
    if job.predicate is Predicate.AT_LEAST and column.type not in ORDERED:
        # Names have an order too, but asking along it would spell them out letter by letter.
        raise Refused("verification.claim", column=column.name)
    if job.predicate is not Predicate.EXISTS:
        try:
            claim = typed_claim(question.claim, column)
        except ValueError:
            raise Refused("verification.claim", column=column.name) from None
    return PreparedLookup((held,), job, canonical_key(question.subject, spec), claim)


def canonical_key(subject: str, spec: DatasetSpec) -> str:
    """An identifier as the raw table of that dataset spells it."""
    return subject_text(subject, spec.key_kind)


def granted_dataset(enclave: Enclave, grant: Grant, dataset_id: str) -> tuple[HeldVersion, Scope]:
    """The newest held version of a dataset and its scope in the grant.

    Raises:
        Refused: `grant.dataset`, `dataset.unknown`.
    """
    scope = grant.scope(dataset_id)
    if scope is None:
        raise Refused("grant.dataset", dataset=dataset_id[:64])
    held = enclave.holdings.find(dataset_id)
    if held is None:
        raise Refused("dataset.unknown", dataset=dataset_id)
    return held, scope


def check_budget(enclave: Enclave, budget: Budget) -> None:
    """The enclave's cap per job.

    Raises:
        Refused: `budget.cap`.
    """
    if number(budget.epsilon) > enclave.limits.max_epsilon:
        raise Refused("budget.cap", max=f"ε = {enclave.limits.max_epsilon}")
    if number(budget.delta) > enclave.limits.max_delta:
        raise Refused("budget.cap", max=f"δ = {enclave.limits.max_delta}")


def check_charge(enclave: Enclave, grant: Grant, mode: Mode, charge: Charge) -> None:
    """The price tag must be the pack's for that use and purpose: free or paid is not the control plane's to say.

    Raises:
        Refused: `ticket.charge`.
    """
    for tariff_id, tariff in enclave.pack.table("tariffs.toml").items():
        if (tariff["mode"], tariff["purpose"]) == (mode.value, grant.purpose.value):
            expected = (tariff_id, tariff["unit_price_fen"], tariff["legal_basis"])
            if (charge.tariff_id, charge.unit_price_fen, charge.legal_basis) == expected:
                return
    raise Refused("ticket.charge", mode=mode.value, purpose=grant.purpose.value)


def check_model_size(enclave: Enclave, size: int) -> None:
    """Raise Refused(`model.too-large`) above the cap."""
    if size > enclave.limits.model_bytes:
        raise Refused("model.too-large", max=enclave.limits.model_bytes)
