"""The supervisor's half: one scoring call in a one-shot jail, whose answer is bytes of a known length.

Nothing that a worker says is parsed: its word is compared with the few that it can say, and its ciphertexts go through
as they are, if they have the length that the model fixes.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence

from enclave_runner.contract.call import ScoreAsk
from enclave_runner.contract.codec import encode
from enclave_runner.contract.encryption import require_length
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.scoring import Model, ScoreCheck
from enclave_runner.he.tasks import RULES, Scored, Scoring
from enclave_runner.jail.launcher import MemoryFile, Zygote
from enclave_runner.jail.profile import JailProfile
from enclave_runner.kinds.tasks import Declined

# One call takes a few hundred milliseconds and some 100 MiB; a hostile one is cut off here.
PROFILE = JailProfile(
    memory_mb=768,
    address_space_mb=8192,
    cpu_seconds=30,
    file_mb=32,
    descriptors=32,
    processes=4,
    scratch_mb=1,
    wall_seconds=30,
)
SCORED = encode(Scored())
DECLINED = {encode(Declined(rule=rule, facts={})): rule for rule in RULES}


def check_lengths(model: Model, subjects: int, key: bytes, features: Sequence[bytes]) -> None:
    """Whether a question has the form that its model fixes. Cheap: before anything is looked up or counted.

    Raises:
        Refused: `scoring.length`.
    """
    parameters = model.parameters
    require_length("key", len(key), parameters.key_bytes)
    require_length("features", len(features), len(model.names))
    for data in features:
        require_length("ciphertexts", len(data), parameters.batches(subjects) * parameters.ciphertext_bytes)


def score(zygote: Zygote, profile: JailProfile, check: ScoreCheck, ask: ScoreAsk, points: bytes) -> bytes:
    """The `scores` of the answer to one call.

    Args:
        zygote: the serving zygote.
        points: an int64, little-endian, for each subject; 0 for one that is unknown.

    Raises:
        Refused: `scoring.length`, `scoring.ciphertext`.
        Failed: `serving.answer` for points or an answer that no honest worker gives; `jail.*`, `job.*` of the launcher.
    """
    model, subjects = check.model, len(ask.subjects)
    check_lengths(model, subjects, ask.key, ask.features)
    _require_points(check, subjects, points)
    task = encode(Scoring(model=model, subjects=subjects))
    answer, bench = os.memfd_create("answer", os.MFD_CLOEXEC), os.memfd_create("workbench", os.MFD_CLOEXEC)
    try:
        with MemoryFile(b"".join((ask.key, *ask.features, points))) as request:
            said = zygote.run(task, [request.descriptor, answer, bench], profile)
        if said != SCORED:
            raise Refused(DECLINED[said]) if said in DECLINED else Failed("serving.answer")
        length = model.parameters.batches(subjects) * model.parameters.answer_bytes
        scores = os.pread(answer, length + 1, 0)
    finally:
        os.close(answer)
        os.close(bench)
    if len(scores) != length:
        raise Failed("serving.answer")
    return scores


def _require_points(check: ScoreCheck, subjects: int, points: bytes) -> None:
    """Points come from a worker, too: beyond the range of the terms they would wrap in the score."""
    low, high = check.points
    if len(points) != subjects * 8 or not all(low <= point <= high for point in array("q", points)):
        raise Failed("serving.answer")
