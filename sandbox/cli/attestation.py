"""`yunei enclave attest | verify-attestation | expect`: ask the enclave what it is, and judge an answer offline."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from enclave_runner.contract.codec import encode
from enclave_runner.contract.errors import Failed
from enclave_runner.contract.wire import AskAttestation, AttestationReply
from sandbox.cli.session import EXIT_NOT_VERIFIED, EXIT_OK, Session, built
from sandbox.client.attestation import MAX_AGE, Pins, Status, Verdict, verify_attestation
from sandbox.client.request import Audit, claims, document, format_key, headline, notes
from sandbox.settings import pack_folder
from sandbox.workflow.enclave import start_enclave
from sandbox.workflow.office import read_bureau_trust

NONCE_BYTES = 32
STYLES = {Status.OK: "green", Status.FAILED: "bold red", Status.UNCHECKED: "yellow"}


def add_commands(app: typer.Typer) -> None:
    """Register the three commands below `yunei enclave`."""
    app.command(name="attest", help="请求域内证明 / Ask the enclave for a signed attestation")(attest)
    app.command(name="verify-attestation", help="离线核验证明 / Verify an attestation offline")(verify)
    app.command(name="expect", help="由本机源码计算预期度量 / Compute the expected measurement from this source")(
        expect
    )


def attest(
    context: typer.Context,
    nonce: Annotated[str | None, typer.Option(help="随机数（十六进制，至多 64 字节）/ the asker's nonce, hex")] = None,
    output: Annotated[Path | None, typer.Option(help="写入文件 / write the attestation to a file")] = None,
) -> None:
    """Ask, keep the answer if told to, and show how it verifies here."""
    session: Session = context.obj
    asked = built(lambda: bytes.fromhex(nonce)) if nonce is not None else secrets.token_bytes(NONCE_BYTES)
    key = read_bureau_trust(session.home).enclave
    with start_enclave(session.home) as enclave:
        reply = enclave.door.call(AskAttestation(nonce=asked))
    if not isinstance(reply, AttestationReply):
        raise Failed("enclave.answer")
    signed = encode(reply.attestation)
    if output is not None:
        _write(output, signed)
    verdict = verify_attestation(signed, Pins(key=key, nonce=asked, now=datetime.now(UTC)))
    beside = {"attestation": reply.attestation, "nonce": asked.hex(), "key": format_key(key)}

    def draw(console: Console) -> None:
        _draw(console, verdict)
        console.print(f"nonce  {asked.hex()}", soft_wrap=True)
        console.print(f"key    {format_key(key)}", soft_wrap=True)

    session.show({**document(verdict), **beside}, draw)
    raise typer.Exit(EXIT_OK if verdict.ok else EXIT_NOT_VERIFIED)


def verify(
    context: typer.Context,
    attestation: Annotated[Path, typer.Argument(help="证明文件 / the attestation")],
    nonce: Annotated[str, typer.Option(help="本人所发随机数 / the nonce that was asked with, hex")],
    key: Annotated[
        str | None, typer.Option(help="公钥 algorithm:hex / the pinned key (default: this deployment's)")
    ] = None,
    expect: Annotated[Path | None, typer.Option(help="预期度量 / expected measurement")] = None,
    since: Annotated[Path | None, typer.Option(help="此前见过的检查点 / a checkpoint seen earlier")] = None,
    quote: Annotated[Path | None, typer.Option(help="TEE 引证 / a TEE quote")] = None,
    collateral: Annotated[Path | None, typer.Option(help="引证的佐证材料 / its collateral (JSON)")] = None,
    quote_policy: Annotated[Path | None, typer.Option(help="引证策略 / which quotes count (JSON)")] = None,
    max_age: Annotated[int, typer.Option(help="最长时效（秒）/ how old it may be, in seconds")] = int(
        MAX_AGE.total_seconds()
    ),
    at: Annotated[str | None, typer.Option(help="以此时刻为准 / judge as of this moment (ISO 8601)")] = None,
) -> None:
    """Exit code 5 when a check failed."""
    session: Session = context.obj
    pinned = key if key is not None else format_key(read_bureau_trust(session.home).enclave)
    audit = Audit(attestation, pinned, nonce, expect, since, quote, collateral, quote_policy, max_age, at)
    verdict = built(audit.judge)
    session.show(document(verdict), lambda console: _draw(console, verdict))
    raise typer.Exit(EXIT_OK if verdict.ok else EXIT_NOT_VERIFIED)


def expect(
    context: typer.Context,
    policies: Annotated[Path | None, typer.Option(help="规则包 / the policy pack (default: the shipped one)")] = None,
    output: Annotated[Path | None, typer.Option(help="写入文件 / write to a file")] = None,
) -> None:
    """Digests of this source, these libraries and that policy pack: what an enclave made of them must say."""
    session: Session = context.obj
    command = [sys.executable, "-P", "-m", "enclave_runner", "expect", "--policies", str(policies or pack_folder())]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - our own program, no shell
    if done.returncode != 0:
        raise Failed("enclave.expect")
    if output is not None:
        _write(output, done.stdout)
    expected = json.loads(done.stdout)
    rows = [(name, value) for name, value in expected.items() if value is not None]
    session.table(expected, "预期度量 / expected measurement", ("item", "value"), rows)


def _draw(console: Console, verdict: Verdict) -> None:
    table = Table(header_style="bold")
    for column in ("status", "check", "detail"):
        table.add_column(column, overflow="fold")
    for check in verdict.checks:
        table.add_row(Text(check.status.value, style=STYLES[check.status]), check.name, Text(check.detail))
    console.print(table)
    for claim in claims(verdict):
        console.print(Text(claim))
    console.print(Text(headline(verdict), style="bold green" if verdict.ok else "bold red"))
    for note in notes(verdict):
        console.print(Text(note))


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError:
        raise Failed("file.unwritable") from None
