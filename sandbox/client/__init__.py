"""What a business or an auditor runs on its own machine: it needs the contract's values and nothing of the server.

`from sandbox import client as yunei` has the whole surface: `connect()` for an operator's `Workbench`,
`VerificationClient`, their asynchronous twins, questions, answers, receipts, and the two ways of not succeeding. It can
be installed alone (distribution `yunei-client`); P4 needs the extra `pir`, encrypted scoring the extra `he`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enclave_runner.contract.check import Verdict, VerificationMode
    from enclave_runner.contract.errors import Failed, Refused, YuneiError
    from enclave_runner.contract.job import ModelJob, QueryJob
    from enclave_runner.contract.privacy import Budget
    from enclave_runner.contract.script import ScriptJob, ScriptOutput
    from sandbox.client.answers import Unanswered, Verified
    from sandbox.client.evidence import Receipt, VerifiedCall, receipt_in, verify_receipt
    from sandbox.client.place import connect, connect_async
    from sandbox.client.problems import Declined
    from sandbox.client.questions import Question
    from sandbox.client.request import format_key, parse_key
    from sandbox.client.scores import Scored
    from sandbox.client.transport import Door
    from sandbox.client.verification import AsyncVerificationClient, VerificationClient
    from sandbox.client.work import Order
    from sandbox.client.workbench import AsyncWorkbench, Workbench

# Where each name lies. Imported when it is first asked for: who only checks an attestation needs no HTTP client.
_HOMES = {
    "AsyncWorkbench": "sandbox.client.workbench",
    "Workbench": "sandbox.client.workbench",
    "connect": "sandbox.client.place",
    "connect_async": "sandbox.client.place",
    "Budget": "enclave_runner.contract.privacy",
    "ModelJob": "enclave_runner.contract.job",
    "QueryJob": "enclave_runner.contract.job",
    "ScriptJob": "enclave_runner.contract.script",
    "ScriptOutput": "enclave_runner.contract.script",
    "Order": "sandbox.client.work",
    "AsyncVerificationClient": "sandbox.client.verification",
    "Declined": "sandbox.client.problems",
    "Door": "sandbox.client.transport",
    "Failed": "enclave_runner.contract.errors",
    "Question": "sandbox.client.questions",
    "Receipt": "sandbox.client.evidence",
    "Refused": "enclave_runner.contract.errors",
    "Scored": "sandbox.client.scores",
    "Unanswered": "sandbox.client.answers",
    "Verdict": "enclave_runner.contract.check",
    "VerificationClient": "sandbox.client.verification",
    "VerificationMode": "enclave_runner.contract.check",
    "Verified": "sandbox.client.answers",
    "VerifiedCall": "sandbox.client.evidence",
    "YuneiError": "enclave_runner.contract.errors",
    "format_key": "sandbox.client.request",
    "parse_key": "sandbox.client.request",
    "receipt_in": "sandbox.client.evidence",
    "verify_receipt": "sandbox.client.evidence",
}

__all__ = [
    "AsyncVerificationClient",
    "AsyncWorkbench",
    "Budget",
    "Declined",
    "Door",
    "Failed",
    "ModelJob",
    "Order",
    "QueryJob",
    "Question",
    "Receipt",
    "Refused",
    "Scored",
    "ScriptJob",
    "ScriptOutput",
    "Unanswered",
    "Verdict",
    "VerificationClient",
    "VerificationMode",
    "Verified",
    "VerifiedCall",
    "Workbench",
    "YuneiError",
    "connect",
    "connect_async",
    "format_key",
    "parse_key",
    "receipt_in",
    "verify_receipt",
]


def __getattr__(name: str) -> object:
    """The names above (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """What is offered."""
    return __all__
