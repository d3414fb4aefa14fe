"""Scripts: uploaded before the submission that names them by digest, read by reviewers. They run in the jail only."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from enclave_runner.contract.codec import Value
from sandbox.api.call import Reading, Uploading
from sandbox.api.identifiers import SHA256
from sandbox.api.openapi import BYTES, FILE, operation
from sandbox.workflow.scripts import keep_script, show_script

router = APIRouter(prefix="/v1/scripts", tags=["scripts"])

Sha256InPath = Annotated[str, Path(pattern=SHA256)]


class KeptScript(Value, frozen=True):
    """The identity of an uploaded script."""

    sha256: str
    size_bytes: int


@router.post("", summary="上传脚本 / Upload a script", **operation(KeptScript, takes=FILE, status=201))
def upload(write: Uploading) -> Response:
    """A Python file in UTF-8, whole, of at most 200 000 bytes, without a character that a reviewer cannot see."""
    return write.answer(lambda: KeptScript(keep_script(write.office, write.actor, write.body), len(write.body)), 201)


@router.get("/{sha256}", summary="查看脚本 / The text of a script", response_class=Response, **operation(FILE))
def get(call: Reading, sha256: Sha256InPath) -> Response:
    """The very bytes of that digest, which are what runs: for reviewers, and for an operator that submitted them."""
    content = show_script(call.office, call.actor, sha256)
    return Response(content, media_type=BYTES, headers={"Content-Disposition": "attachment"})
