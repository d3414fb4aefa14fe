"""How a submission ended, as a document: its receipt, its release, or the refusal in full text."""

from __future__ import annotations

from enclave_runner.contract.codec import Value
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.receipt import Receipt, Release
from enclave_runner.contract.rulebook import PolicyPack, Refusal
from sandbox.domain.submission import Submission
from sandbox.workflow.settle import Outcome as Settled


class OutcomeDocument(Value, frozen=True):
    """A submission and what came of it.

    Without a receipt it has not run (yet), or what it gave waits for review or was withheld, as the status says.
    `release` is what left the domain; `refusal` explains a refusal by the enclave, or a rejection in review before or
    after the run; a fault stands in the receipt by its opaque id.
    """

    submission: Submission
    receipt: Receipt | None
    release: Release | None
    refusal: Refusal | None


def pending(submission: Submission, rejection: Refusal | None) -> OutcomeDocument:
    """The document of a submission that waits, or runs, or was rejected in review."""
    return OutcomeDocument(submission=submission, receipt=None, release=None, refusal=rejection)


def settled(pack: PolicyPack, outcome: Settled) -> OutcomeDocument:
    """The document of a submission that has its receipt."""
    receipt = outcome.receipt
    refusal = None if receipt.rule is None else pack.explain(Refused(receipt.rule, **receipt.facts))
    return OutcomeDocument(submission=outcome.submission, receipt=receipt, release=outcome.release, refusal=refusal)
