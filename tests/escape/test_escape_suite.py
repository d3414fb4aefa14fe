"""Every attempt against the operating system: blocked in the real jail by the expected error, possible in its control.

The control is the same function in a jail without one layer, or outside any jail. Where this kernel lets neither
succeed, the attempt does not count.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from enclave_runner.jail.profile import JailProfile
from tests.support.hostile_attempts import WENT_THROUGH, Targets
from tests.support.hostile_program import ATTEMPTS, AttemptZygote, bounded
from tests.support.tally import TALLY

MEMORY_MB = 384
BOUNDS = {"burn-processor": {"cpu_seconds": 1}, "large-file": {"file_mb": 4}}
# Of a control: what the profile bounds from outside the worker (control groups, the watchdog) must not stand in.
WIDE = bounded(memory_mb=4096, address_space_mb=1 << 20, cpu_seconds=600, file_mb=4096, processes=4096)
DEADLINE, PATIENCE = 1.0, 60.0
# Not every kernel and every host lets these succeed, in any control.
NOT_EVERYWHERE = {
    "KERNEL gate-x32", "KERNEL socket-crypto", "KERNEL socket-vsock", "KERNEL memfd-secret", "KERNEL aio",
}  # fmt: skip


def profile_of(name: str) -> JailProfile:
    return bounded(**{"memory_mb": MEMORY_MB, "cpu_seconds": 60, **BOUNDS.get(name.split(" ")[1], {})})


@pytest.mark.parametrize("name", ATTEMPTS)
def test_an_attempt_is_blocked_in_the_jail_and_possible_in_its_control(
    name: str, targets: Targets, program: int, zygote_of: Callable[[str], AttemptZygote]
) -> None:
    attempt = ATTEMPTS[name]
    aimed = dataclasses.replace(targets, memory_mb=MEMORY_MB)
    patient = attempt.control == "patient"
    found = zygote_of("jail").attempt(name, aimed, profile_of(name), [program], DEADLINE if patient else PATIENCE)
    assert found in attempt.expected, f"the jail answered {found}"
    control = "jail" if patient else attempt.control
    if control == "none":
        return
    outside = zygote_of(control).attempt(name, aimed, WIDE, [program], PATIENCE)
    print(f"{name}: {found} in the jail, {outside} in {attempt.control}")
    if outside != WENT_THROUGH and name in NOT_EVERYWHERE:
        TALLY.uncounted.append(f"{name}: {outside} even in {attempt.control}")
        return
    assert outside == WENT_THROUGH, f"the control {attempt.control} answered {outside}"
    TALLY.count(attempt.family)
