"""`yunei enclave rotate-keys` and `yunei enclave drop-data`: upkeep of raw data, while the enclave does not run.

The enclave's own program does it: the control plane has neither its keys nor its files.
"""

from __future__ import annotations

import json
import subprocess
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from enclave_runner.contract.codec import decode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.wire import RefusedReply
from sandbox.cli.session import Session

SAYS = "yunei enclave: "


class SuiteName(Enum):
    """How raw data are encrypted at rest."""

    AES_256_GCM = "aes-256-gcm"
    SM4_GCM = "sm4-gcm"


class KmsName(Enum):
    """Where key-encryption keys live."""

    FILE = "file"
    PKCS11 = "pkcs11"


SuiteOption = Annotated[SuiteName, typer.Option(help="静态加密算法 / cipher suite of data at rest")]
KmsOption = Annotated[KmsName, typer.Option(help="密钥加密密钥存于文件或密码机 / key-encryption keys: file or HSM")]
ModuleOption = Annotated[Path | None, typer.Option(help="PKCS#11 库 / the token's library")]
TokenOption = Annotated[str | None, typer.Option(help="令牌标签 / the token's label")]
PinFileOption = Annotated[Path | None, typer.Option(help="存有 PIN 的文件，权限 0600 / a file with the PIN, mode 0600")]


def init_options(
    suite: SuiteName, kms: KmsName, module: Path | None, token: str | None, pin_file: Path | None
) -> tuple[str, ...]:
    """The same choice for the enclave's own program.

    Raises:
        typer.BadParameter: when a token is chosen and not named in full.
    """
    chosen = (f"--suite={suite.value}", f"--kms={kms.value}")
    if kms is KmsName.FILE:
        return chosen
    if module is None or token is None or pin_file is None:
        raise typer.BadParameter("--kms pkcs11 needs --pkcs11-module, --pkcs11-token and --pkcs11-pin-file")
    named = (
        f"--pkcs11-module={module.resolve()}",
        f"--pkcs11-token={token}",
        f"--pkcs11-pin-file={pin_file.resolve()}",
    )
    return (*chosen, *named)


def add_commands(app: typer.Typer) -> None:
    """Register both under `yunei enclave`."""
    app.command(
        name="rotate-keys",
        help="更换密钥加密密钥；数据无需重新加密 / Replace the key-encryption key; data are not encrypted again",
    )(rotate)
    app.command(
        name="drop-data",
        help="彻底删除数据集、某一版本或某一字段 / Remove a dataset, one version or one column for good",
    )(drop)


def rotate(context: typer.Context) -> None:
    """Rotate the key-encryption key; repeated after an interruption, it completes."""
    session: Session = context.obj
    done = _upkeep(session, "rotate-keys")
    rows = [
        ("密钥 / key", done["key_id"]),
        ("版本 / versions", done["versions"]),
        ("销毁 / destroyed", done["destroyed"]),
    ]
    session.table(done, "密钥轮换 / key rotation", ("item", "value"), rows)


def drop(
    context: typer.Context,
    dataset: Annotated[str, typer.Option(help="数据集编号 / dataset id")],
    version: Annotated[str | None, typer.Option(help="版本；默认全部 / version; all when not given")] = None,
    column: Annotated[
        str | None, typer.Option(help="字段；默认整个版本 / column; whole versions when not given")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="不再确认 / do not ask")] = False,
) -> None:
    """Remove data; asks first, unless a script is listening."""
    session: Session = context.obj
    if not (yes or session.as_json):
        typer.confirm("删除后不可恢复，是否继续？/ This cannot be undone. Go on?", abort=True)
    options = [("--dataset", dataset), ("--version", version), ("--column", column)]
    # As one word each, so that a value is never taken for an option.
    done = _upkeep(session, "drop-data", *(f"{name}={value}" for name, value in options if value is not None))
    rows = [(done["dataset_id"], name, done["column"] or "*") for name in done["versions"]]
    session.table(done, "已删除 / dropped", ("dataset", "version", "column"), rows)


def _upkeep(session: Session, command: str, *options: str) -> dict[str, Any]:
    """What the enclave's program answers.

    Raises:
        Refused, Failed: as the enclave says; Failed(`home.missing`) where there is no home.
    """
    if not session.home.enclave.is_dir():
        raise Failed("home.missing")
    line = [sys.executable, "-P", "-m", "enclave_runner", command, f"--home={session.home.enclave}", *options]
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603 - no shell
    if done.returncode == 0:
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer
    if done.stdout:
        refused = decode(done.stdout, RefusedReply)
        raise Refused(refused.rule, **refused.facts)
    raise Failed(last_words(done.stderr))


def last_words(errors: bytes) -> str:
    """The code with which the enclave's program gave up."""
    lines = errors.decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix(SAYS) if lines and lines[-1].startswith(SAYS) else "enclave.absent"
