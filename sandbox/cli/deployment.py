"""Making and running a deployment: `init`, `serve`, `enclave doctor`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from enclave_runner.contract.codec import encode
from enclave_runner.contract.errors import Failed
from enclave_runner.contract.signing import Algorithm, KeyFile
from enclave_runner.contract.trust import Trust
from enclave_runner.contract.wire import Hello, Identity
from sandbox.cli import attestation, enclave_keys
from sandbox.cli.doctor import print_examination
from sandbox.cli.session import EXIT_OK, Session
from sandbox.domain.party import Party, Role
from sandbox.settings import Home, pack_folder
from sandbox.workflow.enclave import start_enclave
from sandbox.workflow.office import create_office

BUREAU_NAME = "示例市数据局"
BUREAU_CODE = "11590100MA08HREU5J"  # of the pilot city, whose region code was never issued
enclave_app = typer.Typer(help="隔离域 / The enclave", no_args_is_help=True)
enclave_keys.add_commands(enclave_app)
attestation.add_commands(enclave_app)


def add_commands(app: typer.Typer) -> None:
    """Register `init` and `serve`."""
    app.command(
        name="init",
        help="建立部署目录：密钥、信任、策略包、数据库 / Make a deployment: keys, trust, policy pack, database",
    )(init)
    app.command(name="serve", help="启动 HTTP 接口 / Serve the HTTP API")(serve_api)


def init(
    context: typer.Context,
    name: Annotated[str, typer.Option(help="数据局名称 / the bureau's name")] = BUREAU_NAME,
    credit_code: Annotated[str, typer.Option(help="统一社会信用代码 / its credit code")] = BUREAU_CODE,
    officer_key: Annotated[
        Path | None, typer.Option(help="授权官密钥（不存在则新建）/ the officer's key file, made if missing")
    ] = None,
    algorithm: Annotated[
        Algorithm, typer.Option(help="新密钥的签名算法（sm2 需 gm 扩展）/ of the new keys; sm2 needs the extra gm")
    ] = Algorithm.ED25519,
    suite: enclave_keys.SuiteOption = enclave_keys.SuiteName.AES_256_GCM,
    kms: enclave_keys.KmsOption = enclave_keys.KmsName.FILE,
    pkcs11_module: enclave_keys.ModuleOption = None,
    pkcs11_token: enclave_keys.TokenOption = None,
    pkcs11_pin_file: enclave_keys.PinFileOption = None,
) -> None:
    """Make a deployment."""
    session: Session = context.obj
    bureau = Party(party_id="bureau", name=name, role=Role.BUREAU, credit_code=credit_code)
    at_rest = enclave_keys.init_options(suite, kms, pkcs11_module, pkcs11_token, pkcs11_pin_file)
    officer = officer_key or session.home.officer_key
    identity = create_deployment(session.home, bureau, officer, at_rest, algorithm)
    document = {
        "home": str(session.home.folder),
        "enclave_key": identity.key.key_id,
        "policy_sha256": identity.policy_sha256,
        "assurance": identity.measurement.assurance.value,
    }
    session.table(document, "部署 / deployment", ("item", "value"), list(document.items()))


def create_deployment(
    home: Home,
    bureau: Party,
    officer_key: Path,
    at_rest: tuple[str, ...] = (),
    algorithm: Algorithm = Algorithm.ED25519,
) -> Identity:
    """Keys, the enclave's home, the control plane's database; nothing when any part fails to start.

    `at_rest` are the enclave's options for keys at rest, `algorithm` is that of the keys made here.

    Raises:
        Failed: `home.exists`, `home.folder`, `key.…`, or what the enclave says.
    """
    _claim(home)
    try:
        officer = _officer(officer_key, algorithm)
        control = KeyFile.create(home.control_key, algorithm)
        trust = Trust(control=(control.public_key,), officers=(officer.public_key,))
        _init_enclave(home, trust, (*at_rest, "--algorithm", algorithm.value))
        with start_enclave(home) as enclave:
            identity = enclave.door.call(Hello())
            if not isinstance(identity, Identity):
                raise Failed("enclave.answer")
            create_office(home, bureau, trust.officers, identity)
    except OSError:
        _discard(home)
        raise Failed("home.folder") from None
    except BaseException:
        _discard(home)
        raise
    return identity


def _claim(home: Home) -> None:
    """Make the first folder of an unused home: of two that try at once, one gets it."""
    try:
        if home.folder.exists() and any(home.folder.iterdir()):
            raise Failed("home.exists")
        home.control_key.parent.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise Failed("home.exists") from None
    except OSError:
        raise Failed("home.folder") from None


def _officer(path: Path, algorithm: Algorithm) -> KeyFile:
    """The officer's own key, or a new one in its place."""
    if path.exists():
        return KeyFile.load(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return KeyFile.create(path, algorithm)


def _discard(home: Home) -> None:
    """Half a deployment would only be in the way of the next attempt. An officer's key of another folder stays."""
    for part in (home.bureau, home.enclave, home.officer_key.parent):
        shutil.rmtree(part, ignore_errors=True)


def _init_enclave(home: Home, trust: Trust, options: tuple[str, ...]) -> None:
    command = [sys.executable, "-P", "-m", "enclave_runner", "init", "--home", str(home.enclave)]
    done = subprocess.run(  # noqa: S603 - our own program, no shell
        [*command, "--policies", str(pack_folder()), *options], input=encode(trust), capture_output=True, check=False
    )
    if done.returncode != 0:
        code = enclave_keys.last_words(done.stderr)
        raise Failed(code if code.startswith("kms.") else "enclave.init")


def serve_api(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="监听地址 / address")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="端口 / port")] = 8440,
) -> None:
    """Serve until interrupted; makes the deployment first when there is none."""
    session: Session = context.obj
    if not session.home.trust.exists():
        bureau = Party(party_id="bureau", name=BUREAU_NAME, role=Role.BUREAU, credit_code=BUREAU_CODE)
        create_deployment(session.home, bureau, session.home.officer_key)
    url = f"http://{host}:{port}"
    session.show({"url": url}, lambda console: console.print(f"{url}  (Ctrl-C 停止 / to stop)"))
    sys.stdout.flush()
    # A program of its own takes over this process: the command line does without the web framework.
    line = [sys.executable, "-P", "-m", "sandbox.api", "--home", str(session.home.folder)]
    os.execv(sys.executable, [*line, "--host", host, "--port", str(port)])  # noqa: S606 - our own program, no shell


@enclave_app.command(help="在真实隔离环境内尝试逃逸 / Try to escape from the real jail")
def doctor(context: typer.Context) -> None:
    """Run every escape probe; exit code 3 when this host cannot build the jail, 4 when an escape went through."""
    session: Session = context.obj
    command = [sys.executable, "-P", "-m", "enclave_runner", "doctor", "--json"]
    if (enclave := session.home.enclave).is_dir():  # its limits are part of the jail
        command += ["--home", str(enclave)]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - our own program, no shell
    if not done.stdout:
        raise Failed(enclave_keys.last_words(done.stderr))
    report = json.loads(done.stdout)
    session.show(report, lambda console: print_examination(console, report))
    raise typer.Exit(EXIT_OK if report["ok"] else done.returncode)
