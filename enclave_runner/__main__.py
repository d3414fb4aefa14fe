"""`python -m enclave_runner COMMAND --home DIR`: the enclave as a program of its own. Exit codes below."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from enclave_runner.attest.measure import expect
from enclave_runner.contract.archive import BackupKey, load_recipient
from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Failed, Refused, YuneiError
from enclave_runner.contract.evidence import read_note
from enclave_runner.contract.folder import file_of
from enclave_runner.contract.rulebook import PolicyPack
from enclave_runner.contract.signing import Algorithm
from enclave_runner.contract.trust import Trust
from enclave_runner.contract.wire import USERS_NAME, RefusedReply
from enclave_runner.jail.profile import JailProfile
from enclave_runner.rawdata.kms import KmsChoice
from enclave_runner.rawdata.suite import Suite
from enclave_runner.supervisor.backup import back_up
from enclave_runner.supervisor.doctor import causes, examine
from enclave_runner.supervisor.enclave import open_enclave
from enclave_runner.supervisor.home import EnclaveHome, create_home, lock_home
from enclave_runner.supervisor.limits import read_limits
from enclave_runner.supervisor.opening import warm
from enclave_runner.supervisor.removal import drop_data
from enclave_runner.supervisor.restore import Proof, restore
from enclave_runner.supervisor.rotation import rotate_keys
from enclave_runner.supervisor.run import recover_open_tickets
from enclave_runner.supervisor.service import Conversations, listen, serve

OK, FAILED, JAIL_ABSENT, JAIL_OPEN = 0, 1, 3, 4
USERS_POLL_SECONDS = 0.2


def main() -> int:
    """Run one command."""
    os.umask(0o077)
    arguments = _parser().parse_args()
    try:
        match arguments.command:
            case "init":
                trust = decode(sys.stdin.buffer.read(), Trust)
                algorithm = Algorithm(arguments.algorithm)
                create_home(EnclaveHome(arguments.home), trust, arguments.policies, _kms_choice(arguments), algorithm)
                return OK
            case "serve":
                return _serve(EnclaveHome(arguments.home.resolve()), arguments.while_used)
            case "expect":
                return _expect(PolicyPack(arguments.policies))
            case "backup":
                return _back_up(arguments)
            case "restore":
                return _restore(arguments)
            case "rotate-keys":
                print(encode(rotate_keys(EnclaveHome(arguments.home))).decode())  # noqa: T201
                return OK
            case "drop-data":
                return _drop_data(arguments)
            case _:
                return _doctor(arguments.json, arguments.home)
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
    init.add_argument("--algorithm", choices=[item.value for item in Algorithm], default=Algorithm.ED25519.value)
    _add_kms_options(init)
    expected = commands.add_parser("expect", help="what an enclave of this source must say of itself, as JSON")
    expected.add_argument("--policies", type=Path, required=True)
    serving = commands.add_parser("serve", help="serve on the home's socket")
    serving.add_argument("--home", type=Path, required=True)
    serving.add_argument("--while-used", action="store_true", help="end when nobody holds the users' lock")
    _add_backup(commands.add_parser("backup", help="write the home, sealed, to standard output"))
    _add_restore(commands.add_parser("restore", help="make a home from a backup on standard input"))
    rotating = commands.add_parser("rotate-keys", help="wrap all data keys under a fresh key and destroy the old one")
    rotating.add_argument("--home", type=Path, required=True)
    dropping = commands.add_parser("drop-data", help="remove a dataset, a version or a column for good")
    dropping.add_argument("--home", type=Path, required=True)
    dropping.add_argument("--dataset", required=True)
    dropping.add_argument("--version", help="all versions when not given")
    dropping.add_argument("--column", help="whole versions when not given")
    examining = commands.add_parser("doctor", help="try to escape the jail")
    examining.add_argument("--json", action="store_true")
    examining.add_argument("--home", type=Path, help="under the limits of this home's jobs")
    return parser


def _add_backup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--recipient", type=Path, required=True, help="the public half of the backup key")
    parser.add_argument("--label", required=True, help="names the backup in all of its parts")
    parser.add_argument("--fixed-fd", type=int, help="closed once the state that is backed up is fixed")


def _add_restore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True, help="the private half of the backup key")
    parser.add_argument("--label", help="the backup's other part has this label")
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint of the receipt log that somebody has seen")
    parser.add_argument("--receipts", type=Path, help="tickets and receipts that somebody has kept")
    parser.add_argument("--accept-loss-of-receipts", action="store_true", help="all lifetime budgets count as spent")
    parser.add_argument("--enclave-key", help="id or SHA-256 of the enclave's key; any other enclave's is refused")
    parser.add_argument("--pkcs11-module", help="the library of the token that holds its keys")
    parser.add_argument("--pkcs11-token", default="", help="the token's label")
    parser.add_argument("--pkcs11-pin-file", type=Path, help="a file with mode 0600")


def _back_up(arguments: argparse.Namespace) -> int:
    recipient = load_recipient(arguments.recipient)

    def tell() -> None:
        if arguments.fixed_fd is not None:
            os.close(arguments.fixed_fd)

    back_up(EnclaveHome(arguments.home.resolve()), sys.stdout.buffer, recipient, arguments.label, tell)
    sys.stdout.buffer.flush()
    return OK


def _restore(arguments: argparse.Namespace) -> int:
    key = BackupKey.load(arguments.key)
    note = None if arguments.checkpoint is None else read_note(arguments.checkpoint)
    proof = Proof(note, arguments.receipts, arguments.accept_loss_of_receipts, arguments.enclave_key)
    pin_file = "" if arguments.pkcs11_pin_file is None else str(arguments.pkcs11_pin_file.resolve())
    token = KmsChoice(module=arguments.pkcs11_module, token=arguments.pkcs11_token, pin_file=pin_file)
    home = EnclaveHome(arguments.home.resolve())
    try:
        report = restore(home, file_of(0), key, proof, arguments.label, token=token)
    except Refused as refused:  # for a caller that shows the rule's text
        print(encode(RefusedReply(rule=refused.rule, facts=refused.facts)).decode())  # noqa: T201
        raise
    print(encode(report).decode())  # noqa: T201
    return OK


def _add_kms_options(init: argparse.ArgumentParser) -> None:
    init.add_argument("--suite", type=Suite, default=Suite.AES_256_GCM, choices=list(Suite), metavar="SUITE")
    init.add_argument("--kms", choices=("file", "pkcs11"), default="file", help="where key-encryption keys live")
    init.add_argument("--pkcs11-module", default="", help="the token's library")
    init.add_argument("--pkcs11-token", default="", help="the token's label")
    init.add_argument("--pkcs11-pin-file", type=Path, default=Path(), help="a file with mode 0600")


def _kms_choice(arguments: argparse.Namespace) -> KmsChoice:
    if arguments.kms == "file":
        return KmsChoice(suite=arguments.suite)
    return KmsChoice(
        suite=arguments.suite,
        module=arguments.pkcs11_module,
        token=arguments.pkcs11_token,
        pin_file=str(arguments.pkcs11_pin_file.resolve()),
    )


def _drop_data(arguments: argparse.Namespace) -> int:
    """Remove data; a refusal is printed as a message too, so that the caller can explain it."""
    try:
        dropped = drop_data(EnclaveHome(arguments.home), arguments.dataset, arguments.version, arguments.column)
    except Refused as refused:
        print(encode(RefusedReply(rule=refused.rule, facts=refused.facts)).decode())  # noqa: T201
        raise
    print(encode(dropped).decode())  # noqa: T201
    return OK


def _serve(home: EnclaveHome, while_used: bool) -> int:
    lock = lock_home(home)
    try:
        with open_enclave(home) as enclave:
            recover_open_tickets(enclave)
            threading.Thread(target=warm, args=(enclave,), daemon=True).start()
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
    except Failed as failed:
        if failed.code.startswith("jail."):
            return _explain(home, failed)
        raise
    finally:
        os.close(lock)
    return OK


def _explain(home: EnclaveHome, failed: Failed) -> int:
    """Name what was open or missing when the jail is why nothing started: in the fault log and on standard error."""
    rows = causes(failed, _job_profile(home))
    home.note_fault(failed, "start", rows)
    named = ", ".join(rows) or "nothing named"
    print(f"yunei enclave: {failed.code}: {named}; see `yunei enclave doctor`", file=sys.stderr)  # noqa: T201
    return FAILED


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


def _expect(pack: PolicyPack) -> int:
    print(encode(expect(read_limits(pack).job_profile, pack.sha256)).decode())  # noqa: T201
    return OK


def _job_profile(home: EnclaveHome) -> JailProfile:
    return read_limits(PolicyPack(home.policies)).job_profile


def _doctor(as_json: bool, home: Path | None) -> int:
    found = examine(JailProfile() if home is None else _job_profile(EnclaveHome(home)))
    if as_json:
        print(encode(found).decode())  # noqa: T201
    else:
        for row in found.probes:
            print(f"{row.outcome:<8} {row.layer:<11} {row.name:<24} {row.detail}")  # noqa: T201
    if not found.is_possible:
        return JAIL_ABSENT
    return OK if found.ok else JAIL_OPEN


if __name__ == "__main__":
    sys.exit(main())
