"""`yunei backup-key`, `yunei backup`, `yunei restore`: the whole deployment in one sealed file, and back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from enclave_runner.contract.archive import BackupKey, recipient_pem, write_new
from sandbox.cli.enclave_keys import ModuleOption, PinFileOption, TokenOption
from sandbox.cli.session import Session, readable
from sandbox.workflow.backup import BackupReport, back_up
from sandbox.workflow.restore import Shown, restore_deployment, restore_enclave


def add_commands(app: typer.Typer) -> None:
    """Register the three commands."""
    app.command(
        name="backup-key",
        help="生成备份密钥：私钥离线保管，公钥留在本机 / Make a backup key; keep the private half off this machine",
    )(make_key)
    app.command(name="backup", help="加密备份整个部署（可在运行中进行）/ Back the whole deployment up, sealed")(backup)
    app.command(
        name="restore",
        help="从备份恢复；隐私里程计与作业票永不回退 / Restore; neither odometer nor used tickets ever go back",
    )(restore)


def make_key(
    context: typer.Context,
    to: Annotated[
        Path, typer.Option("--to", help="私钥文件，公钥另存为 .pub / the private key's file; .pub beside it")
    ],
) -> None:
    """Make the key; the public half goes into a file of the same name with `.pub`."""
    session: Session = context.obj
    public = to.with_name(f"{to.name}.pub")
    write_new(public, recipient_pem(BackupKey.create(to).public))
    document = {"private": str(to), "public": str(public)}
    session.table(document, "备份密钥 / backup key", ("item", "file"), list(document.items()))


def backup(
    context: typer.Context,
    to: Annotated[Path, typer.Option("--to", help="备份文件 / the file to make")],
    recipient: Annotated[Path, typer.Option(help="备份公钥（.pub）/ the backup key's public half")],
) -> None:
    """Write the file, whole or not at all."""
    session: Session = context.obj
    report = _with_bar(session, lambda progress: back_up(session.home, to, readable(recipient), progress))
    document = {"file": report.file, "label": report.label, "bytes": report.bytes}
    session.table(document, "备份 / backup", ("item", "value"), list(document.items()))


def _with_bar(session: Session, work: Callable[[Callable[[int, int], None]], BackupReport]) -> BackupReport:
    """A bar on a terminal; nothing for scripts."""
    columns = (TextColumn("备份 backup"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bar = Progress(*columns, console=session.console, transient=True, disable=session.as_json)
    with bar:
        task = bar.add_task("backup", total=None)
        return work(lambda done, total: bar.update(task, completed=done, total=total))


def restore(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="备份文件 / the backup")],
    key: Annotated[Path, typer.Option(help="备份私钥 / the backup key's private half")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="外部留存的回执日志检查点 / a checkpoint of the receipt log kept elsewhere")
    ] = None,
    receipts: Annotated[
        Path | None, typer.Option(help="外部留存的回执（yunei audit export）/ receipts kept elsewhere")
    ] = None,
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss-of-receipts",
            help="无凭据可补：全部终身预算按已用尽计 / nothing can be shown: every lifetime budget counts as spent",
        ),
    ] = False,
    only_enclave: Annotated[
        bool,
        typer.Option("--only-enclave", help="控制面仍在，只恢复隔离域 / the control plane lives on; only the enclave"),
    ] = False,
    enclave_key: Annotated[
        str | None,
        typer.Option(help="隔离域密钥指纹，不符即拒绝 / the enclave's key id or fingerprint; any other is refused"),
    ] = None,
    pkcs11_module: ModuleOption = None,
    pkcs11_token: TokenOption = None,
    pkcs11_pin_file: PinFileOption = None,
) -> None:
    """Into an unused folder; with `--only-enclave` under the control plane whose enclave is gone."""
    session: Session = context.obj
    shown = Shown(
        None if checkpoint is None else readable(checkpoint),
        None if receipts is None else readable(receipts),
        accept_loss,
        enclave_key,
        pkcs11_module,
        pkcs11_token,
        pkcs11_pin_file,
    )
    run = restore_enclave if only_enclave else restore_deployment
    report = run(session.home, readable(file), readable(key), shown)
    rows = [
        ("隔离域密钥 / enclave key", report.enclave_key[:16]),
        ("备份时间 / made at", report.made_at.isoformat()),
        ("回执 / receipts in the log", report.size),
        ("补回 / taken back", report.replayed),
        ("未决 / tickets of unknown end", report.reopened),
        ("此前作业票作废 / tickets void before", report.not_before.isoformat()),
        ("预算计为用尽 / budgets count as spent", "是 yes" if report.is_lossy else "否 no"),
    ]
    session.table(report, "恢复 / restore", ("item", "value"), rows)
