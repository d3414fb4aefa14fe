"""`python -m enclave_runner init|serve|doctor --home DIR`: the enclave as a program of its own. Exit codes below."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from enclave_runner.contract.codec import decode
from enclave_runner.contract.errors import Failed, YuneiError
from enclave_runner.contract.trust import Trust
from enclave_runner.contract.wire import USERS_NAME
from enclave_runner.jail.launcher import Zygote
from enclave_runner.jail.profile import JailProfile
from enclave_runner.supervisor.enclave import open_enclave
from enclave_runner.supervisor.home import EnclaveHome, create_home, lock_home
from enclave_runner.supervisor.run import recover_open_tickets
from enclave_runner.supervisor.selftest import probe_jail
from enclave_runner.supervisor.service import Conversations, listen, serve

OK, FAILED, JAIL_OPEN = 0, 1, 3
USERS_POLL_SECONDS = 0.2


def main() -> int:
    """Run one command."""
    arguments = _parser().parse_args()
    try:
        match arguments.command:
            case "init":
                trust = decode(sys.stdin.buffer.read(), Trust)
                create_home(EnclaveHome(arguments.home), trust, arguments.policies)
                return OK
            case "serve":
                return _serve(EnclaveHome(arguments.home.resolve()), arguments.while_used)
            case _:
                return _doctor(arguments.json)
    except YuneiError as error:
        code = error.code if isinstance(error, Failed) else str(error)
        print(f"yunei enclave: {code}", file=sys.stderr)  # noqa: T201 - codes only, never data
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m enclave_runner", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    init = commands.add_parser("init", help="make a home; the Trust document comes on standard input")
    init.add_argument("--home", type=Path, required=True)
    init.add_argument("--policies", type=Path, required=True)
    serving = commands.add_parser("serve", help="serve on the home's socket")
    serving.add_argument("--home", type=Path, required=True)
    serving.add_argument("--while-used", action="store_true", help="end when nobody holds the users' lock")
    commands.add_parser("doctor", help="try to escape the jail").add_argument("--json", action="store_true")
    return parser


def _serve(home: EnclaveHome, while_used: bool) -> int:
    lock = lock_home(home)
    try:
        with open_enclave(home) as enclave:
            recover_open_tickets(enclave)
            listener = listen(home.folder)

            def stop(signal_number: int, frame: FrameType | None) -> None:
                listener.close()
                os._exit(
                    OK
                )  # as if killed: the ledger is made for it, and a job in flight is settled at the next start

            signal.signal(signal.SIGTERM, stop)
            signal.signal(signal.SIGINT, stop)
            conversations = Conversations()
            if while_used:
                threading.Thread(target=_end_without_users, args=(home, conversations), daemon=True).start()
            serve(enclave, listener, conversations)
    finally:
        os.close(lock)
    return OK


def _end_without_users(home: EnclaveHome, conversations: Conversations) -> None:
    """End the process once nobody holds the users' lock and no request is open.

    The lock is kept to the last: who comes at this moment waits for it, and then finds no enclave, not half of one.
    A user that was killed has lost its lock, but its job still runs to its receipt.
    """
    descriptor = os.open(home.folder / USERS_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    while True:
        time.sleep(USERS_POLL_SECONDS)
        if not conversations.are_over():
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        if conversations.are_over():
            os._exit(OK)
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _doctor(as_json: bool) -> int:
    with Zygote() as zygote:
        report = probe_jail(zygote, JailProfile())
    outcomes = {name: "ALLOWED" if name in report.allowed else "BLOCKED" for name in report.attempts}
    if as_json:
        probes = [{"name": name, "outcome": outcome} for name, outcome in outcomes.items()]
        print(json.dumps({"probes": probes, "ok": not report.allowed}))  # noqa: T201
    else:
        for name, outcome in outcomes.items():
            print(f"{outcome}  {name}")  # noqa: T201
    return JAIL_OPEN if report.allowed else OK


if __name__ == "__main__":
    sys.exit(main())
