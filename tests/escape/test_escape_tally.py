"""The last module of the suite: how many attempts were blocked while their control went through."""

from __future__ import annotations

import pytest

from tests.support.tally import TALLY

ENOUGH = 180
FAMILIES = {
    "FS", "PRIV", "NET", "IPC", "KERNEL", "RES", "SQL settings", "SQL gate", "ERR", "ONNX", "OUT", "DATA",
    "FAIL-CLOSED", "SELF-TEST",
}  # fmt: skip


def test_the_suite_is_large_enough(capsys: pytest.CaptureFixture[str]) -> None:
    """The self-test's own attempts repeat others of the suite: they are shown, and not counted."""
    missing = FAMILIES - set(TALLY.counted)
    if missing:
        pytest.skip(f"only a part of the suite ran in this process, without {sorted(missing)}: see make test-escape")
    counted = sum(number for family, number in TALLY.counted.items() if family != "SELF-TEST")
    with capsys.disabled():
        print(f"\n{counted} attempts blocked, each possible in its control:")
        for family in sorted(TALLY.counted):
            print(f"  {family:<13} {TALLY.counted[family]}")
        print("not counted, since no control succeeds here:", *TALLY.uncounted, sep="\n  ")
    assert counted >= ENOUGH
