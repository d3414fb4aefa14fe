"""The catalogue (article 17). Read only: an import hands an open file to the enclave, which no HTTP request can."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from sandbox.api.call import Reading, reply
from sandbox.api.identifiers import SlugInPath
from sandbox.api.openapi import operation
from sandbox.domain.dataset import Dataset
from sandbox.workflow.datasets import get_dataset, list_datasets

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])


@router.get("", summary="数据目录 / The catalogue", **operation(tuple[Dataset, ...]))
def list_all(call: Reading) -> Response:
    """Catalogue entries. Data come in by `yunei dataset import`, beside the enclave."""
    return reply(list_datasets(call.office, call.actor))


@router.get("/{dataset_id}", summary="一项数据目录 / One catalogue entry", **operation(Dataset))
def get(call: Reading, dataset_id: SlugInPath) -> Response:
    """One catalogue entry, with the types, bounds and public values of its columns."""
    return reply(get_dataset(call.office, call.actor, dataset_id))
