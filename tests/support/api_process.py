"""A process that plays the API's part (submit, dispatch, in a loop), to be killed at any point.

`python -m tests.support.api_process HOME` writes one line per finished job.
"""

from __future__ import annotations

import sys
from pathlib import Path

from enclave_runner.contract.errors import YuneiError
from enclave_runner.contract.job import QueryJob
from enclave_runner.contract.privacy import Budget
from sandbox.settings import Home
from sandbox.workflow.dispatch import dispatch
from sandbox.workflow.enclave import SocketDoor
from sandbox.workflow.office import local_actor, open_office
from sandbox.workflow.submit import submit
from sandbox.workflow.verify import verify
from tests.support.deployment import BANK, OPERATOR, PAID, PRODUCT


def main() -> None:
    """Jobs until killed."""
    home = Home(Path(sys.argv[1]))
    office = open_office(home, SocketDoor(home.enclave))
    job = QueryJob(sql="SELECT district, COUNT(*) AS n FROM people GROUP BY district", budget=Budget(epsilon="0.05"))
    for number in range(10_000):
        try:
            submission = submit(office, local_actor(office, OPERATOR, "loop"), PAID, job)
            dispatch(office, submission.submission_id)
            verify(office, local_actor(office, BANK, "loop"), PRODUCT, f"p{number % 400}", "true")
        except YuneiError as error:
            print(type(error).__name__, error, flush=True)
        print(number, flush=True)


if __name__ == "__main__":
    main()
