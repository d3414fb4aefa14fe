"""核验产品客户端：提问、查看要约、离线核验回执与证明，无需平台软件。
The client of verification products, and checks of receipts and attestations, without the platform's software.

Exit codes: 0 answered or verified, 2 wrong usage, 3 refused, 4 failed, 5 not verified (a signature or a receipt that
does not hold, an answer that the protocol does not allow). Of several questions: that of the gravest without an answer.
"""

from __future__ import annotations

import argparse
import io
import sys
from dataclasses import replace
from pathlib import Path

from enclave_runner.contract.errors import Failed, Refused, YuneiError
from sandbox.client import asking, batches
from sandbox.client.attestation import MAX_AGE, Verdict
from sandbox.client.evidence import require_writable
from sandbox.client.explain import words
from sandbox.client.request import Audit, claims, document, headline, notes
from sandbox.client.told import FAILED, NOT_VERIFIED, USAGE, VERIFIED, Told, told_error


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an answer that was paid for is not lost to a console's alphabet
    given = _parser().parse_args(arguments)
    try:
        if given.command == "verify-attestation":
            return _judge(given)
        told = _run(given)
    except ValueError as wrong:
        return _say(USAGE, str(wrong))
    if given.json:
        print(asking.encoded(told.document))  # noqa: T201 - this is the output
    elif told.lines:
        print("\n".join(told.lines))  # noqa: T201
    _say(told.code, *told.errors)
    return _keep(given, told)


def _run(given: argparse.Namespace) -> Told:
    """The command's outcome. That a receipt can be saved is looked at before anything is asked and paid."""
    try:
        if _receipt_path(given) is not None:
            require_writable(given.receipt)
        told: Told = given.run(given)
    except YuneiError as error:
        told = told_error(error)
        if given.command == "receipt" and isinstance(error, Refused):
            return replace(told, code=NOT_VERIFIED)
    return told


def _keep(given: argparse.Namespace, told: Told) -> int:
    """Save the receipts, if there are any and they are wanted; the exit code."""
    path = _receipt_path(given)
    if path is None or told.receipt is None:
        return told.code
    try:
        told.receipt.save(path, with_question=not given.bare)
    except Failed as failed:
        return _say(FAILED, *words(failed))
    return told.code


def _receipt_path(given: argparse.Namespace) -> Path | None:
    found: Path | None = getattr(given, "receipt", None)
    return found


def _judge(given: argparse.Namespace) -> int:
    """Verify one attestation and say how every check went."""
    fields = {name: value for name, value in vars(given).items() if name not in ("json", "command")}
    try:
        verdict = Audit(**fields).judge()
    except Refused as refused:  # of a file of expectations: what was named is not usable
        return _say(USAGE, str(refused))
    except Failed as failed:
        return _say(FAILED, failed.code)
    print(asking.encoded(document(verdict)) if given.json else table(verdict))  # noqa: T201
    return VERIFIED if verdict.ok else NOT_VERIFIED


def table(verdict: Verdict) -> str:
    """An aligned line for each check, then what was verified and what was not proved."""
    width = max(len(check.name) for check in verdict.checks)
    rows = [f"{check.status.value:<9}  {check.name:<{width}}  {check.detail}" for check in verdict.checks]
    return "\n".join([*rows, "", *claims(verdict), "", headline(verdict), *notes(verdict)])


def _say(code: int, *lines: str) -> int:
    for line in lines:
        print(f"yunei: {line}", file=sys.stderr)  # noqa: T201
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="yunei-client", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    asking.add_commands(commands)
    batches.add_commands(commands)
    verify = commands.add_parser("verify-attestation", help="离线核验证明 / verify an attestation offline")
    verify.add_argument("attestation", type=Path, help="证明文件 / the attestation")
    verify.add_argument("--key", required=True, help="预先取得的公钥 algorithm:hex / the pinned key")
    verify.add_argument("--nonce", required=True, help="本人所发随机数（十六进制）/ the nonce that was asked with, hex")
    verify.add_argument("--expect", type=Path, help="预期度量 / expected measurement (yunei enclave expect)")
    verify.add_argument("--since", type=Path, help="此前见过的检查点 / a checkpoint seen earlier")
    verify.add_argument("--quote", type=Path, help="TEE 引证 / a TEE quote")
    verify.add_argument("--collateral", type=Path, help="引证的佐证材料 / its collateral (JSON)")
    verify.add_argument("--quote-policy", type=Path, help="引证策略 / which quotes count (JSON)")
    verify.add_argument(
        "--max-age", dest="max_age_seconds", type=int, default=int(MAX_AGE.total_seconds()), help="秒 / seconds"
    )
    verify.add_argument("--at", help="以此时刻为准 / judge as of this moment (ISO 8601)")
    verify.add_argument("--json", action="store_true", help="输出 JSON / print JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
