"""The order to score one call in a jail of its own, and the answers to it."""

from __future__ import annotations

from enclave_runner.contract.codec import Value
from enclave_runner.contract.scoring import Model

# What a worker may refuse by; lengths were checked before it was started. Its answer is compared, not parsed.
RULES = ("scoring.ciphertext",)


class Scoring(Value, frozen=True, tag="he-scoring"):
    """Score `subjects` encrypted rows with that model.

    Descriptors: the request (the public key, then for each feature its ciphertexts, then an int64 of points for each
    subject, all of lengths that the model fixes), the answer (memory to write the ciphertexts to), and a workbench
    (memory to read SEAL's objects from). Answered by `Scored`, or `Declined` with a rule of `RULES` and no facts.
    """

    model: Model
    subjects: int


class Scored(Value, frozen=True, tag="he-scored"):
    """The answer is in its descriptor: one ciphertext for each batch."""
