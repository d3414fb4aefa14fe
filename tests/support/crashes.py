"""kill -9 at every step: the act runs again and again in a child, which dies one step later each time."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator

STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}


def killed_at_every_step(act: Callable[[], object]) -> Iterator[int]:
    """Yield after each kill, with the number of the step, before which the child died; end when the act gets through.

    A step is a call that opens, makes, renames or removes a file or folder.
    """
    step = 0
    while True:
        step += 1
        child = os.fork()
        if child == 0:
            _act_and_die(act, step)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, "the act failed"
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
        yield step


def _act_and_die(act: Callable[[], object], step: int) -> None:
    left = step

    def watch(event: str, _: object) -> None:
        nonlocal left
        if event in STEPS:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    try:
        act()
    except BaseException:
        os._exit(1)
    os._exit(0)
