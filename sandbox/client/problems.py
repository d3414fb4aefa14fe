"""How a platform says no, and how that is told: its texts are a stranger's, so nothing of them steers a terminal."""

from __future__ import annotations

import re
import unicodedata

import msgspec

from enclave_runner.contract.errors import Failed, Refused, new_fault_id
from sandbox.client.evidence import Evidence
from sandbox.client.exchange import JSON, PROBLEM, Reply

RULE = re.compile(r"[a-z]+(?:-[a-z]+)*\.[a-z]+(?:-[a-z]+)*")
FACT = re.compile(r"[a-z][a-z0-9_]{0,39}")
FAULT = re.compile(r"[A-Za-z0-9-]{1,64}")
STALE = "call.stale-version"
MAX_TEXT = 400
MAX_FACTS = 20


class Declined(Refused):
    """A rule of the platform said no.

    `reason` and `remedy` are the platform's words in English and Chinese, where it sent any. `evidence` is the
    enclave's signed receipt of the refusal; without one it is the control plane's word alone.
    """

    def __init__(self, rule: str, facts: dict[str, str], texts: Texts, evidence: Evidence | None = None) -> None:
        super().__init__(rule, **facts)
        self.texts = texts
        self.evidence = evidence

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback: why, by which article, and what would make it pass."""
        told = self.texts
        lines = [f"{self.rule} · {told.article}" if told.article not in (None, "-") else self.rule]
        for reason, remedy in ((told.reason_zh, told.remedy_zh), (told.reason, told.remedy)):
            lines += [line for line in (reason, remedy and f"→ {remedy}") if line]
        return lines if len(lines) > 1 else [str(self)]


class Texts(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why, and what would make it pass. Unknown members of a problem document are passed over."""

    rule: str | None = None
    fault: str | None = None
    article: str | None = None
    reason: str | None = None
    remedy: str | None = None
    reason_zh: str | None = None
    remedy_zh: str | None = None


def require_answered(reply: Reply, expected: str, statuses: tuple[int, ...] = (200,)) -> None:
    """Pass for an answer of the expected kind.

    Raises:
        Declined: by the rule of a problem document.
        Failed: `client.platform` for a fault of the platform, with its opaque id.
        Refused: `client.answer` for anything else.
    """
    if reply.status in statuses and reply.media_type == expected:
        return
    if reply.status < 400 or reply.media_type not in (PROBLEM, JSON):
        raise Refused("client.answer", what=f"status {reply.status} where an answer should be")
    texts = _texts(reply.body)
    if texts.rule is not None and RULE.fullmatch(texts.rule):
        raise Declined(texts.rule, {}, texts)
    fault = texts.fault if texts.fault is not None and FAULT.fullmatch(texts.fault) else new_fault_id()
    raise Failed("client.platform", fault)


def declined(rule: str | None, facts: dict[str, str], evidence: Evidence) -> Declined:
    """The refusal of a call, with its receipt.

    Raises:
        Refused: `client.answer` when it names no rule.
    """
    if rule is None or not RULE.fullmatch(rule):
        raise Refused("client.answer", what="a refusal that names no rule")
    plain = {printable(name, 40): printable(value, MAX_TEXT) for name, value in list(facts.items())[:MAX_FACTS]}
    # A fact may be called anything: what is no name of a fact, or is a parameter itself, is passed over.
    named = {name: value for name, value in plain.items() if FACT.fullmatch(name) and name not in ("self", "rule")}
    return Declined(rule, named, Texts(), evidence)


def printable(text: str, limit: int = MAX_TEXT) -> str:
    """The text without control and format characters (escape sequences, reversed writing), cut to a length."""
    return "".join(c if unicodedata.category(c)[0] != "C" else "�" for c in text[:limit])


def _texts(body: bytes) -> Texts:
    try:
        found = msgspec.json.decode(body, type=Texts)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return Texts()
    return Texts(**{n: printable(v) for n in found.__struct_fields__ if (v := getattr(found, n)) is not None})
