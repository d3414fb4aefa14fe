"""What anybody may know of a deployment: that it lives, what it runs, and whose signatures to expect."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from starlette.responses import Response

from enclave_runner.contract.codec import Value
from enclave_runner.contract.errors import Failed
from enclave_runner.contract.receipt import Measurement
from enclave_runner.contract.wire import Hello, Identity
from sandbox.api.call import office_of, reply
from sandbox.api.openapi import operation
from sandbox.workflow.office import Office

router = APIRouter(prefix="/v1", tags=["about"])
VERSION = version("yunei")


class Health(Value, frozen=True):
    """The control plane answers; whether its enclave does."""

    control: Literal["ok"]
    enclave: Literal["ok", "absent"]


class About(Value, frozen=True):
    """Version, policy pack, and the enclave's key, measurement and newest checkpoint."""

    version: str
    policy_sha256: str
    enclave_key_id: str
    enclave_origin: str
    enclave_policy_sha256: str
    measurement: Measurement
    checkpoint: str


Public = Annotated[Office, Depends(office_of)]


@router.get("/health", summary="存活 / Health", **operation(Health, public=True))
def health(office: Public) -> Response:
    """200 as long as the control plane answers."""
    try:
        _identity(office)
    except Failed:
        return reply(Health(control="ok", enclave="absent"))
    return reply(Health(control="ok", enclave="ok"))


@router.get("/about", summary="部署说明 / About this deployment", **operation(About, public=True))
def about(office: Public) -> Response:
    """`enclave_key_id` is the key trusted since the deployment was made, not what the enclave says of itself."""
    identity = _identity(office)
    return reply(
        About(
            version=VERSION,
            policy_sha256=office.pack.sha256,
            enclave_key_id=office.enclave_key.key_id,
            enclave_origin=office.enclave_origin,
            enclave_policy_sha256=identity.policy_sha256,
            measurement=identity.measurement,
            checkpoint=identity.checkpoint,
        )
    )


def _identity(office: Office) -> Identity:
    answer = office.enclave.call(Hello())
    if not isinstance(answer, Identity):
        raise Failed("enclave.answer")
    return answer
