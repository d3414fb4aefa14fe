"""One task of a build, run in a jail of the serving zygote; its answer is read in a second one."""

from __future__ import annotations

from collections.abc import Sequence

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Failed
from enclave_runner.jail.launcher import MemoryFile, Zygote
from enclave_runner.jail.profile import JailProfile
from enclave_runner.kinds.tasks import Done, Gating
from enclave_runner.private.tasks import Task, TaskAnswer

DONE = encode(Done())


def order(
    zygote: Zygote, task: Task, descriptors: Sequence[int], profile: JailProfile, gate_profile: JailProfile
) -> TaskAnswer:
    """The vetted answer of one task.

    Args:
        descriptors: sealed memory to read, and writable memory to write, as the task says.
        gate_profile: the jail in which the answer is read; it holds no data.

    Raises:
        Failed: the launcher's codes, or `job.answer` when the answer is no typed answer.
    """
    raw = zygote.run(encode(task), list(descriptors), profile)
    if raw == DONE:  # compared, not read: the commonest answer needs no gate
        return Done()
    try:
        with MemoryFile(raw) as said:
            vetted = zygote.run(encode(Gating()), [said.descriptor], gate_profile)
        answer: TaskAnswer = decode(vetted, TaskAnswer)  # type: ignore[arg-type]
    except Exception:
        raise Failed("job.answer") from None
    return answer
