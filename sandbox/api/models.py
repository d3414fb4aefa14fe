"""Models: uploaded before the submission that names them by digest. They run nowhere but in the jail."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from enclave_runner.contract.codec import Value, digest
from enclave_runner.contract.errors import Refused
from sandbox.api.call import Uploading
from sandbox.api.openapi import FILE, operation
from sandbox.rules.access import Action, Record
from sandbox.workflow.office import Actor, Office, authorize
from sandbox.workflow.submit import find_artefact, keep_artefact

router = APIRouter(prefix="/v1/models", tags=["models"])


class KeptModel(Value, frozen=True):
    """The identity of an uploaded model."""

    sha256: str
    size_bytes: int


@router.post("", summary="上传模型 / Upload a model", **operation(KeptModel, takes=FILE, status=201))
def upload(write: Uploading) -> Response:
    """An ONNX file, whole, within the pack's limit; a larger one is turned away before it is read."""
    return write.answer(lambda: keep_model(write.office, write.actor, write.body), 201)


def keep_model(office: Office, actor: Actor, content: bytes) -> KeptModel:
    """Store a model under its digest; storing it again changes nothing.

    Raises:
        Refused: by access, for a party that could not submit it.
    """
    authorize(office, actor, Action.SUBMIT_JOB, Record("model", "new", (actor.party.party_id,)))
    sha256 = digest(content)
    keep_artefact(office, sha256, content)
    return KeptModel(sha256=sha256, size_bytes=len(content))


def read_model(office: Office, sha256: str) -> bytes:
    """An uploaded model.

    Raises:
        Refused: `model.unknown`.
    """
    content = find_artefact(office, sha256)
    if content is None:
        raise Refused("model.unknown")
    return content


def max_bytes(office: Office) -> int:
    """The size limit of the policy pack."""
    return int(office.pack.table("limits.toml")["model"]["max_bytes"])
