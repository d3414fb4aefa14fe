"""Making and running a deployment: `init`, `serve`, `enclave doctor`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from enclave_runner.contract.codec import encode
from enclave_runner.contract.errors import Failed
from enclave_runner.contract.signing import KeyFile
from enclave_runner.contract.trust import Trust
from enclave_runner.contract.wire import Hello, Identity
from sandbox.cli.session import Session
from sandbox.domain.party import Party, Role
from sandbox.settings import Home, pack_folder
from sandbox.workflow.enclave import start_enclave
from sandbox.workflow.office import create_office

enclave_app = typer.Typer(help="隔离域 / The enclave", no_args_is_help=True)


def add_commands(app: typer.Typer) -> None:
    """Register `init` and `serve`."""
    app.command(
        name="init",
        help="建立部署目录：密钥、信任、策略包、数据库 / Make a deployment: keys, trust, policy pack, database",
    )(init)
    app.command(name="serve", help="启动 HTTP 接口 / Serve the HTTP API")(serve_api)


def init(
    context: typer.Context,
    name: Annotated[str, typer.Option(help="数据局名称 / the bureau's name")] = "示例市数据局",
    credit_code: Annotated[str, typer.Option(help="统一社会信用代码 / its credit code")] = "11150200MB1A000000",
    officer_key: Annotated[
        Path | None, typer.Option(help="授权官密钥（不存在则新建）/ the officer's key file, made if missing")
    ] = None,
) -> None:
    """Make a deployment."""
    session: Session = context.obj
    bureau = Party(party_id="bureau", name=name, role=Role.BUREAU, credit_code=credit_code)
    identity = create_deployment(session.home, bureau, officer_key or session.home.officer_key)
    document = {
        "home": str(session.home.folder),
        "enclave_key": identity.key.key_id,
        "policy_sha256": identity.policy_sha256,
        "assurance": identity.measurement.assurance,
    }
    session.table(document, "部署 / deployment", ("item", "value"), list(document.items()))


def create_deployment(home: Home, bureau: Party, officer_key: Path) -> Identity:
    """Keys, the enclave's home, the control plane's database; nothing when any part fails to start.

    Raises:
        Failed: `home.exists`, or what the enclave says.
    """
    if home.folder.exists() and any(home.folder.iterdir()):
        raise Failed("home.exists")
    home.control_key.parent.mkdir(mode=0o700, parents=True)
    control = KeyFile.create(home.control_key)
    officer_key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    officer = KeyFile.load(officer_key) if officer_key.exists() else KeyFile.create(officer_key)
    trust = Trust(control=(control.public_key,), officers=(officer.public_key,))
    _init_enclave(home, trust)
    with start_enclave(home) as enclave:
        identity = enclave.door.call(Hello())
        if not isinstance(identity, Identity):
            raise Failed("enclave.answer")
        create_office(home, bureau, trust.officers, identity)
    return identity


def _init_enclave(home: Home, trust: Trust) -> None:
    command = [sys.executable, "-m", "enclave_runner", "init", "--home", str(home.enclave)]
    done = subprocess.run(  # noqa: S603 - our own program, no shell
        [*command, "--policies", str(pack_folder())], input=encode(trust), capture_output=True, check=False
    )
    if done.returncode != 0:
        raise Failed("enclave.init")


def serve_api(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="监听地址 / address")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="端口 / port")] = 8440,
) -> None:
    """Serve until interrupted; makes the deployment first when there is none."""
    session: Session = context.obj
    if not session.home.trust.exists():
        init(context)
    session.console.print(f"http://{host}:{port}  (Ctrl-C 停止 / to stop)")
    # A program of its own takes over this process: the command line does without the web framework.
    line = [sys.executable, "-m", "sandbox.api", "--home", str(session.home.folder)]
    os.execv(sys.executable, [*line, "--host", host, "--port", str(port)])  # noqa: S606 - our own program, no shell


@enclave_app.command(help="在真实隔离环境内尝试逃逸 / Try to escape from the real jail")
def doctor(context: typer.Context) -> None:
    """Run every escape probe; exit code 3 of the enclave program means that one went through."""
    session: Session = context.obj
    done = subprocess.run(
        [sys.executable, "-m", "enclave_runner", "doctor", "--json"], capture_output=True, text=True, check=False
    )
    if not done.stdout:
        raise Failed("jail.absent")
    report = json.loads(done.stdout)
    rows = [(probe["outcome"], probe["name"]) for probe in report["probes"]]
    session.table(report, "隔离自检 / jail self-test", ("outcome", "probe"), rows)
    raise typer.Exit(0 if report["ok"] else 4)
