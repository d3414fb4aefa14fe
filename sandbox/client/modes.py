"""Which way of asking: the most private one that the product has and this machine can do, unless the caller chose."""

from __future__ import annotations

from importlib.util import find_spec

from enclave_runner.contract.check import VerificationMode
from enclave_runner.contract.errors import Failed, Refused
from sandbox.client.offers import Terms, offers

# From the most private on. P2 and P1 never meet: one is of thresholds, the other of values.
ORDER = (
    VerificationMode.LOOKUP,
    VerificationMode.BUCKET,
    VerificationMode.THRESHOLD,
    VerificationMode.EQUALITY,
    VerificationMode.PLAIN,
)
# What a mode needs beside the base: the extras `pir` and `he`.
NEEDS = {VerificationMode.LOOKUP: "numpy", VerificationMode.SCORE: "tenseal"}
HIDES = {
    VerificationMode.PLAIN: ("不隐藏", "hides nothing"),
    VerificationMode.EQUALITY: ("隐藏所核验的值", "hides the claimed value"),
    VerificationMode.THRESHOLD: ("隐藏阈值", "hides the threshold"),
    VerificationMode.BUCKET: ("在 k 个对象中隐藏对象", "hides the subject among k"),
    VerificationMode.LOOKUP: ("隐藏对象", "hides the subject"),
    VerificationMode.SCORE: ("隐藏特征", "hides the features"),
}


def is_installed(mode: VerificationMode) -> bool:
    """Whether this machine can do it."""
    return mode not in NEEDS or find_spec(NEEDS[mode]) is not None


def choose(
    terms: Terms, told: VerificationMode | None, weakest: VerificationMode | None = None, k_min: int = 1
) -> VerificationMode:
    """The mode to ask in. Nothing weaker than `weakest` is ever taken, and no bucket of fewer than `k_min`.

    When neither mode nor `weakest` is told, a missing extra never opens a question: a product that could hide whom it
    is about is not asked in a mode that does not.

    Raises:
        Refused: `client.mode` when the product has no such mode, `client.bucket`.
        Failed: `client.extra` when the mode needs an extra that is not installed.
    """
    allowed = ORDER if weakest is None else ORDER[: ORDER.index(weakest) + 1]
    offered = [mode for mode in allowed if offers(terms, mode) and told in (None, mode)]
    able = [mode for mode in offered if is_installed(mode)]
    if not offered:
        raise _no_such(terms, told.value if told else "P0" if weakest is None else weakest.value)
    if not able or (weakest is None and offered[0].hides_subject and not able[0].hides_subject):
        raise Failed("client.extra")
    if able[0] is VerificationMode.BUCKET and terms.table.k < k_min:
        raise Refused("client.bucket", k=terms.table.k, min=k_min)
    return able[0]


def _no_such(terms: Terms, wanted: str) -> Refused:
    return Refused("client.mode", mode=wanted, offered=", ".join(mode.value for mode in terms.offer.check.modes))
