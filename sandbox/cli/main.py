"""The `yunei` command: global options anywhere on the line, errors in one place, documented exit codes.

Exit codes: 0 done, 2 wrong usage, 3 refused by a rule, 4 failed, 5 a log or copy did not verify.
"""

from __future__ import annotations

import sys
import traceback
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from enclave_runner.contract.errors import Failed, Refused
from sandbox.cli import (
    audit,
    backup,
    calls,
    consents,
    datasets,
    demo,
    deployment,
    egress,
    grants,
    jobs,
    money,
    parties,
    products,
    quotes,
    releases,
    scenarios,
)
from sandbox.cli.session import EXIT_OK, Session, login_name, print_json, report_failed, report_refused
from sandbox.settings import Home, default_home

app = typer.Typer(
    name="yunei",
    help="域内：公共数据授权运营的隐私保护沙箱。Authorized operation of public data; raw data stay in the domain.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Global options may stand anywhere: --home DIR, --json, --as PARTY, --person NAME. "
    "Exit codes: 0 done, 2 usage, 3 refused, 4 failed, 5 not verified.",
)
WITH_VALUE, FLAGS = ("--home", "--as", "--person"), ("--json",)


@app.callback()
def options(
    context: typer.Context,
    home: Annotated[
        Path | None, typer.Option(help="部署目录 / the deployment's folder (default: var, or YUNEI_HOME)")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="输出一个 JSON 文档 / print one JSON document")] = False,
    as_party: Annotated[str, typer.Option("--as", help="以哪个主体行事 / the party that acts")] = "bureau",
    person: Annotated[str | None, typer.Option(help="行事人 / the person who acts (default: login name)")] = None,
) -> None:
    """Global options."""
    context.obj = Session(
        home=Home((home or default_home()).resolve()),
        as_json=json,
        party=as_party,
        person=person or login_name(),
    )


deployment.add_commands(app)
backup.add_commands(app)
demo.add_commands(app)
quotes.add_commands(app)
jobs.add_commands(app)
app.add_typer(egress.app, name="egress")
app.add_typer(releases.app, name="release")
money.add_commands(app)
app.add_typer(parties.app, name="party")
app.add_typer(datasets.app, name="dataset")
app.add_typer(scenarios.app, name="scenario")
app.add_typer(grants.app, name="grant")
app.add_typer(products.app, name="product")
app.add_typer(calls.app, name="call")
app.add_typer(consents.app, name="consent")
app.add_typer(audit.app, name="audit")
app.add_typer(deployment.enclave_app, name="enclave")


def hoist(arguments: list[str]) -> list[str]:
    """Move global options to the front, so that `yunei dataset list --json` works; `--` ends the search."""
    front: list[str] = []
    rest: list[str] = []
    pending = iter(arguments)
    for argument in pending:
        if argument == "--":
            rest += [argument, *pending]
        elif argument in FLAGS or argument.startswith(tuple(f"{name}=" for name in WITH_VALUE)):
            front.append(argument)
        elif argument in WITH_VALUE:
            front += [argument, *[value for value in [next(pending, None)] if value is not None]]
        else:
            rest.append(argument)
    return front + rest


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit with its code."""
    given = hoist(sys.argv[1:] if arguments is None else arguments)
    session = _fallback_session(given)
    try:
        sys.exit(_run_for_script(given) if session.as_json else app(given))
    except Refused as refused:
        sys.exit(report_refused(session, refused))
    except Failed as failed:
        sys.exit(report_failed(session, failed))
    except Exception as error:  # nobody foresaw it; its text may quote an identifier or a file's content
        place = traceback.extract_tb(error.__traceback__)[-1]
        print(f"yunei: {type(error).__name__} at {Path(place.filename).name}:{place.lineno}", file=sys.stderr)  # noqa: T201
        sys.exit(report_failed(session, Failed("cli.unexpected")))


def _run_for_script(given: list[str]) -> int:
    """The exit code of a command whose every outcome, wrong usage too, is one JSON document."""
    program = typer.main.get_command(app)
    _without_help(program)
    try:
        code = program(given, standalone_mode=False)
    except TyperException as wrong:
        print_json({"usage": {"message": wrong.format_message()}})
        return wrong.exit_code
    return code if isinstance(code, int) else EXIT_OK


def _without_help(command: object) -> None:
    """Groups called without a command say so as an error, and do not print their help."""
    if isinstance(command, TyperGroup):
        command.no_args_is_help = False
        for child in command.commands.values():
            _without_help(child)


def _fallback_session(arguments: list[str]) -> Session:
    """Where to look up the refusal's text, and whether a script is listening."""
    homes = [after for before, after in pairwise(arguments) if before == "--home"]
    homes += [argument.removeprefix("--home=") for argument in arguments if argument.startswith("--home=")]
    folder = Path(homes[0]) if homes else default_home()
    return Session(home=Home(folder.resolve()), as_json="--json" in arguments)
