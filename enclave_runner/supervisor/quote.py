"""What a job would cost and how exact it would be: from bounds and noise alone, before anything is spent."""

from __future__ import annotations

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import PURPOSE, Grant
from enclave_runner.contract.job import ModelJob, QueryJob
from enclave_runner.contract.signing import unseal
from enclave_runner.contract.wire import AskQuote, Quote
from enclave_runner.egress.table import expected_measures, histogram_measure
from enclave_runner.supervisor.continuity import check_seen
from enclave_runner.supervisor.enclave import Enclave
from enclave_runner.supervisor.prepare import granted_dataset, prepare_features, prepare_query


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
            query = prepare_query(enclave, grant, job)
            return Quote(
                dataset_id=query.plan.dataset_id,
                columns=query.plan.columns,
                losses=query.losses,
                cells=query.plan.cells,
                measures=expected_measures(query.plan, job.budget),
            )
        case ModelJob() as job:
            features = prepare_features(enclave, grant, job)
            return Quote(
                dataset_id=features.plan.dataset_id,
                columns=features.plan.columns,
                losses=features.losses,
                cells=job.bins,
                measures=(histogram_measure(features.plan, job.budget),),
            )
        case job:
            granted_dataset(enclave, grant, job.dataset_id)
            return Quote(dataset_id=job.dataset_id, columns=(job.attribute,), losses=(), cells=1, measures=())
