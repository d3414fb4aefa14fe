"""`yunei audit verify`: both logs, their cross-checkpoints and the ledgers, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sandbox.cli.session import EXIT_NOT_VERIFIED, Session
from sandbox.workflow.audit import verify_audit, verify_copy
from sandbox.workflow.evidence import export_checkpoint, export_evidence

app = typer.Typer(help="审计 / Audit", no_args_is_help=True)


@app.command(help="核验审计日志与回执日志，定位任何一字节改动 / Verify both logs; locates a one-byte edit")
def verify(
    context: typer.Context,
    copy: Annotated[
        Path | None, typer.Option(help="离线核验一份 control.db 拷贝 / verify a copied control.db offline")
    ] = None,
) -> None:
    """Exit code 5 when something does not verify."""
    session: Session = context.obj
    if copy is not None:
        verdict = verify_copy(copy, session.home.trust)
        rows = [
            ("audit log", verdict.entries, "ok" if verdict.ok else f"{verdict.problem} at {verdict.first_bad_index}")
        ]
        session.table(verdict, "审计 / audit of a copy", ("log", ">entries", "verdict"), rows)
        raise typer.Exit(0 if verdict.ok else EXIT_NOT_VERIFIED)
    with session.office_alone() as office:
        report = verify_audit(office)
    session.table(report, "审计 / audit", ("check", ">entries", "verdict"), report.rows())
    raise typer.Exit(0 if report.ok else EXIT_NOT_VERIFIED)


@app.command(help="导出已核验的作业票与回执，供恢复隔离域 / Export tickets and receipts, for a restored enclave")
def export(context: typer.Context, to: Annotated[Path, typer.Option("--to", help="新文件 / the file to make")]) -> None:
    """Keep it where the enclave's disk is not."""
    session: Session = context.obj
    with session.office_found() as office:
        count = export_evidence(office, to)
    document = {"file": str(to), "tickets": count}
    session.table(document, "凭据 / evidence", ("item", "value"), list(document.items()))


@app.command(help="导出回执日志的最新检查点 / Export the receipt log's newest checkpoint, as a signed note")
def checkpoint(
    context: typer.Context, to: Annotated[Path, typer.Option("--to", help="新文件 / the file to make")]
) -> None:
    """For an auditor to keep: a later log that does not contain it was cut or rewritten."""
    session: Session = context.obj
    with session.office_found() as office:
        note = export_checkpoint(office, to)
    document = {"file": str(to), "checkpoint": note}
    session.show(document, lambda console: console.print(note))
