"""What a command says: a document for scripts, lines for people, receipts to keep, and an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from enclave_runner.contract.errors import Failed, YuneiError
from sandbox.client.answers import Unanswered, Verified
from sandbox.client.evidence import Receipt, joined, receipt_in
from sandbox.client.explain import documented, words
from sandbox.client.problems import Declined
from sandbox.client.scores import Scored

VERIFIED, USAGE, REFUSED, FAILED, NOT_VERIFIED = 0, 2, 3, 4, 5

# What only the client itself finds: the platform, or something on the way, did not keep to the protocol.
BREACHES = frozenset(
    {
        "call.chain",
        "call.not-in-batch",
        "client.answer",
        "client.hint",
        "client.offer",
        "client.receipt",
        "scoring.answer",
        "scoring.ciphertext",
        "signature.invalid",
        "verification.answer",
        "verification.noise",
        "verification.point",
        "verification.proof",
        "wire.malformed",
    }
)


@dataclass(frozen=True)
class Told:
    """The outcome of a command: `lines` are for standard output, `errors` for standard error."""

    document: object
    lines: Sequence[str]
    receipt: Receipt | None = None
    code: int = VERIFIED
    errors: Sequence[str] = ()


def told_error(error: YuneiError) -> Told:
    """What is said of an error that ended a command, with the receipts of what was asked before it."""
    return Told(documented(error), (), receipt_in(error), exit_code(error), words(error))


def exit_code(error: YuneiError) -> int:
    """Failed; not verified, where the client found a breach of the protocol; else refused."""
    if isinstance(error, Failed):
        return FAILED
    is_breach = not isinstance(error, Declined) and getattr(error, "rule", None) in BREACHES
    return NOT_VERIFIED if is_breach else REFUSED


def told_rows(
    documents: Sequence[object], lines: Sequence[str], outcomes: Sequence[Verified | Scored | Unanswered]
) -> Told:
    """What is said of many questions. The exit code is that of the gravest row without an answer."""
    code = max((exit_code(one.error) for one in outcomes if isinstance(one, Unanswered)), default=VERIFIED)
    found = [receipt for one in outcomes if (receipt := one.receipt) is not None]
    return Told(documents, lines, joined(*found) if found else None, code)
