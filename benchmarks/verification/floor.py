"""The floor under a call over HTTP: the same server, guards and authentication, one durable group commit, nothing else.

`python -m benchmarks.verification.floor HOME FOLDER PORT` serves `POST /v1/floor` until interrupted.
"""

from __future__ import annotations

import hashlib
import sqlite3
import sys
import threading
from pathlib import Path
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI
from fastapi.security import HTTPAuthorizationCredentials
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from enclave_runner.contract.errors import Refused
from sandbox.api.call import bearer, require_json
from sandbox.api.guard import BodyCap, LastCatch, SecurityHeaders
from sandbox.settings import Home
from sandbox.workflow.enclave import SocketDoor
from sandbox.workflow.keys import authenticate
from sandbox.workflow.office import Office, open_office

PATH = "/v1/floor"
ANSWER = b'{"durable":true}'
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]


class GroupCommit:
    """One row for each caller that waits, one transaction (and one fsync) for all that wait at once."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for line in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL"):
            self._database.execute(line)
        self._database.execute("CREATE TABLE calls (number INTEGER PRIMARY KEY, caller TEXT, digest BLOB)")
        self._changed = threading.Condition()
        self._waiting: list[tuple[tuple[str, bytes], threading.Event]] = []
        threading.Thread(target=self._commit, daemon=True).start()

    def record(self, caller: str, digest: bytes) -> None:
        """Return when the row is durable."""
        durable = threading.Event()
        with self._changed:
            self._waiting.append(((caller, digest), durable))
            self._changed.notify()
        durable.wait()

    def _commit(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                group, self._waiting = self._waiting, []
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany("INSERT INTO calls (caller, digest) VALUES (?, ?)", [row for row, _ in group])
            self._database.execute("COMMIT")
            for _, durable in group:
                durable.set()


def floor_app(office: Office, commits: GroupCommit) -> FastAPI:
    """The application: what every request of the real one passes stands around its one route, which takes the same
    short way (`sandbox.api.calls`): one step out of the event loop."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)

    def settle(token: str, body: bytes) -> Response:
        """Who, then durable, and nothing else."""
        actor = authenticate(office, token)
        commits.record(actor.party.party_id, hashlib.sha256(body).digest())
        return Response(ANSWER, 200, media_type="application/json")

    @app.post(PATH)
    async def record(request: Request, credentials: Credentials) -> Response:
        """One durable row for each request of somebody with a key."""
        if credentials is None:
            raise Refused("key.unknown")
        require_json(request)
        return await run_in_threadpool(settle, credentials.credentials, await request.body())

    app.add_middleware(BodyCap, larger={})
    app.add_middleware(LastCatch)
    app.add_middleware(SecurityHeaders)
    return app


def main() -> None:
    """Serve until interrupted, as the API does."""
    home, folder, port = Home(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])
    app = floor_app(open_office(home, SocketDoor(home.enclave)), GroupCommit(folder / "floor.db"))
    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False, server_header=False, log_level="warning", workers=1)


if __name__ == "__main__":
    main()
