"""What a job would cost and how exact it would be: from bounds and noise alone, before anything is spent."""

from __future__ import annotations

from dataclasses import replace

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import PURPOSE, Grant
from enclave_runner.contract.job import ModelJob, QueryJob
from enclave_runner.contract.script import ScriptJob
from enclave_runner.contract.signing import unseal
from enclave_runner.contract.wire import AskQuote, Quote
from enclave_runner.egress.blocks import script_measures
from enclave_runner.egress.histogram import histogram_measure
from enclave_runner.egress.table import expected_measures, public_keys
from enclave_runner.supervisor.continuity import check_seen
from enclave_runner.supervisor.enclave import Enclave
from enclave_runner.supervisor.plan_query import PlannedQuery
from enclave_runner.supervisor.prepare import (
    PreparedQuery,
    PreparedWorkload,
    granted_dataset,
    prepare_features,
    prepare_query,
)
from enclave_runner.supervisor.run_script import script_seconds


def quote_job(enclave: Enclave, ask: AskQuote) -> Quote:
    """The quote. Raises Refused where running the job would be refused for its plan, grant scope or caps, and
    `enclave.rolled-back`."""
    check_seen(enclave.ledger, enclave.key.public_key, ask.receipts_seen)
    grant = unseal(ask.grant, PURPOSE, enclave.trust.officers, Grant)
    if ask.job.mode not in grant.modes:
        raise Refused("grant.mode", mode=ask.job.mode.value)
    enclave.require_zygote()  # the text is read in a jail
    match ask.job:
        case QueryJob() as job:
            prepared = prepare_query(enclave, grant, job)
            queries, tables = _parts(prepared)
            datasets: dict[str, tuple[str, ...]] = {}
            for query in queries:
                for source in query.plan.sources:
                    read = datasets.get(source.dataset_id, ())
                    datasets[source.dataset_id] = tuple(dict.fromkeys((*read, *source.columns)))
            return Quote(
                datasets=datasets,
                losses=enclave.limits.caps.with_nested(prepared.losses),
                cells=sum(len(keys) for table in tables for keys in public_keys(table.plan)),
                measures=tuple(measure for table in tables for measure in expected_measures(table.plan, table.shares)),
                budget=prepared.query.budget if isinstance(prepared, PreparedQuery) else job.budget,
                noise="laplace" if all(query.plan.power == 1 for query in queries) else "gaussian",
            )
        case ModelJob() as job:
            features = prepare_features(enclave, grant, job)
            return Quote(
                datasets={features.plan.source.dataset_id: features.plan.source.columns},
                losses=enclave.limits.caps.with_nested(features.losses),
                cells=job.bins,
                measures=(histogram_measure(features.plan, job.budget),),
                budget=job.budget,
                noise="gaussian",
            )
        case ScriptJob() as job:
            features = prepare_features(enclave, grant, job)
            return Quote(
                datasets={features.plan.source.dataset_id: features.plan.source.columns},
                losses=enclave.limits.caps.with_nested(features.losses),
                cells=len(job.outputs),
                measures=script_measures(job),
                budget=job.budget,
                noise="gaussian",
                seconds=script_seconds(enclave, job),
            )
        case job:
            granted_dataset(enclave, grant, job.dataset_id)
            return Quote(datasets={job.dataset_id: (job.attribute,)}, losses=(), cells=1, measures=())


def _parts(prepared: PreparedQuery | PreparedWorkload) -> tuple[tuple[PlannedQuery, ...], tuple[PlannedQuery, ...]]:
    """What is measured, and the tables that are told; the same for a single statement."""
    if isinstance(prepared, PreparedQuery):
        return (prepared.query,), (prepared.query,)
    return prepared.workload.queries, tuple(
        replace(table.own, shares=prepared.workload.queries[table.joint].shares) for table in prepared.workload.tables
    )
