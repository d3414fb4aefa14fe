"""What was found out about an SQL text, so that a ticket need not be planned and rehearsed again after its quote.

Only answers that needed no data are kept, each for the grant under which it was asked: how fast a quote comes must not
tell an operator what another has asked.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from enclave_runner.kinds.tasks import TaskAnswer


class Remembered:
    """The newest answers, at most `capacity`. Several threads may use it."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._answers: OrderedDict[tuple[str, str], TaskAnswer] = OrderedDict()

    def find(self, grant_id: str, task_sha256: str) -> TaskAnswer | None:
        """The answer to that task under that grant, if it is still known."""
        with self._lock:
            answer = self._answers.get((grant_id, task_sha256))
            if answer is not None:
                self._answers.move_to_end((grant_id, task_sha256))
            return answer

    def keep(self, grant_id: str, task_sha256: str, answer: TaskAnswer) -> None:
        """Know it from now on; the answer that was not asked for longest makes room."""
        with self._lock:
            self._answers[grant_id, task_sha256] = answer
            if len(self._answers) > self._capacity:
                self._answers.popitem(last=False)
