"""The self-test's side in the jail: every attempt in one worker, or one that may end its worker."""

from __future__ import annotations

from enclave_runner.kinds.probes.bounds import LIMITS, NEW_CODE, PRIVILEGES
from enclave_runner.kinds.probes.calls import CALLS
from enclave_runner.kinds.probes.engines import try_engine
from enclave_runner.kinds.probes.excess import exceed
from enclave_runner.kinds.probes.surroundings import LANDLOCK, NAMESPACES, NETWORK, ROOT
from enclave_runner.kinds.tasks import Probe, ProbeReport

ATTEMPTS = (*NAMESPACES, *ROOT, *LIMITS, *PRIVILEGES, *LANDLOCK, *NEW_CODE, *CALLS, *NETWORK)


def run(task: Probe, descriptors: list[int]) -> ProbeReport:
    """How every attempt went. With `excess`, that one is tried alone and the report is empty."""
    if task.excess:
        exceed(task.excess, task, descriptors[0])
        return ProbeReport(findings=())
    found = [attempt.judge(task) for attempt in ATTEMPTS]
    return ProbeReport(findings=(*found, *try_engine()))
