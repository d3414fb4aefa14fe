"""An operator's workbench: see, quote, submit, wait, read. Blocking, and the same for an event loop."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

import anyio

from enclave_runner.contract.errors import Failed
from sandbox.client import work
from sandbox.client.catalogue import Budgets, Catalogue, Dataset, Grants
from sandbox.client.exchange import run, run_async
from sandbox.client.results import JobQuote, Result, Submission, Submissions
from sandbox.client.transport import AsyncTransport, Door, Transport
from sandbox.client.work import Job, Order

EPSILON, DELTA = "1", "1e-6"
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
# A script takes its fixed time before its submission is answered, and no piece of the answer comes before.
READ_SECONDS = 600.0


class Workbench:
    """Blocking. Every refusal is `Declined` with rule, article and remedy; a fault is `Failed` with an opaque id."""

    def __init__(self, door: Door) -> None:
        self._http = Transport(door)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def datasets(self) -> Catalogue:
        """The catalogue."""
        return run(work.catalogue(), self._http.send)

    def dataset(self, dataset_id: str) -> Dataset:
        """One dataset with its columns."""
        return run(work.dataset(dataset_id), self._http.send)

    def grants(self) -> Grants:
        """Your grants, and what is left of them."""
        return run(work.grants(), self._http.send)

    def budgets(self) -> Budgets:
        """What is spent of every entity set's lifetime loss."""
        return run(work.budgets(), self._http.send)

    def order(
        self, job: str | Job | Order, *, grant: str | None = None, epsilon: str = EPSILON, delta: str = DELTA
    ) -> Order:
        """A job that runs once, however often it is submitted: keep it to retry after a lost connection."""
        return run(work.order(job, grant, epsilon, delta), self._http.send)

    def quote(
        self, job: str | Job | Order, *, grant: str | None = None, epsilon: str = EPSILON, delta: str = DELTA
    ) -> JobQuote:
        """Loss, accuracy and price before anything is spent."""
        return run(work.quote(job, grant, epsilon, delta), self._http.send)

    def submit(
        self, job: str | Job | Order, *, grant: str | None = None, epsilon: str = EPSILON, delta: str = DELTA
    ) -> Submission:
        """File a job. SQL is a query; `epsilon` and `delta` are for SQL alone."""
        return run(work.submit(job, grant, epsilon, delta), self._http.send)

    def wait(
        self, submission: Submission | str, *, progress: bool | None = None, seconds: float | None = None
    ) -> Result:
        """The result, when it is there. `progress` writes each state to standard error; by itself on a terminal only.

        Raises:
            Declined: when it was refused or withheld.
            Failed: `client.waited` after that many seconds; the job goes on, wait again with its id.
        """
        shown, pause, began = "", FIRST_PAUSE, time.monotonic()
        tells = sys.stderr.isatty() if progress is None else progress
        while True:
            now = run(work.submission(_id(submission)), self._http.send)
            if tells and now.status != shown:
                shown = now.status
                print(f"{now.submission_id}: {shown}", file=sys.stderr, flush=True)  # noqa: T201 - asked for
            if now.is_final:
                return self.result(now)
            if seconds is not None and time.monotonic() - began + pause > seconds:
                raise Failed("client.waited")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def result(self, submission: Submission | str) -> Result:
        """What was released, as often as needed, at no new loss and no new price."""
        return run(work.result(_id(submission)), self._http.send)

    def query(self, sql: str, *, grant: str | None = None, epsilon: str = EPSILON, delta: str = DELTA) -> Result:
        """Submit and wait. A script or a grant of high grade waits for people: use `submit` there."""
        return self.wait(self.submit(sql, grant=grant, epsilon=epsilon, delta=delta))

    def submissions(self) -> Submissions:
        """Your submissions, oldest first."""
        return run(work.submissions(), self._http.send)

    def upload_model(self, content: bytes) -> str:
        """Store an ONNX file for a `ModelJob`; its SHA-256."""
        return run(work.upload("models", content), self._http.send)

    def upload_script(self, content: bytes) -> str:
        """Store a Python file for a `ScriptJob`; its SHA-256."""
        return run(work.upload("scripts", content), self._http.send)


class AsyncWorkbench:
    """The same for an event loop."""

    def __init__(self, door: Door) -> None:
        self._http = AsyncTransport(door)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connections."""
        await self._http.close()

    async def datasets(self) -> Catalogue:
        """As `Workbench.datasets`."""
        return await run_async(work.catalogue(), self._http.send)

    async def grants(self) -> Grants:
        """As `Workbench.grants`."""
        return await run_async(work.grants(), self._http.send)

    async def budgets(self) -> Budgets:
        """As `Workbench.budgets`."""
        return await run_async(work.budgets(), self._http.send)

    async def quote(
        self, job: str | Job | Order, *, grant: str | None = None, epsilon: str = EPSILON, delta: str = DELTA
    ) -> JobQuote:
        """As `Workbench.quote`."""
        return await run_async(work.quote(job, grant, epsilon, delta), self._http.send)

    async def submit(
        self, job: str | Job | Order, *, grant: str | None = None, epsilon: str = EPSILON, delta: str = DELTA
    ) -> Submission:
        """As `Workbench.submit`."""
        return await run_async(work.submit(job, grant, epsilon, delta), self._http.send)

    async def wait(self, submission: Submission | str) -> Result:
        """As `Workbench.wait`, without a limit of its own: cancel it from outside."""
        pause = FIRST_PAUSE
        while not (await run_async(work.submission(_id(submission)), self._http.send)).is_final:
            await anyio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        return await self.result(submission)

    async def result(self, submission: Submission | str) -> Result:
        """As `Workbench.result`."""
        return await run_async(work.result(_id(submission)), self._http.send)


def _id(submission: Submission | str) -> str:
    return submission if isinstance(submission, str) else submission.submission_id
