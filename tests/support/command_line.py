"""The command line as its users meet it: a process of its own, or the same `main` in this process, which is quicker."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandbox.cli.main import WITH_VALUE, main

ROOT = Path(__file__).parents[2]
CANARY = "CANARY7731"


@dataclass(frozen=True)
class Answer:
    """What a command left behind. Nothing may ever print a traceback or a value of the data."""

    code: int
    out: str
    err: str

    def __post_init__(self) -> None:
        assert "Traceback" not in self.out + self.err, self.err
        assert CANARY not in self.out + self.err, (self.out, self.err)

    @property
    def document(self) -> Any:
        """The one JSON document on standard output; anything else on either stream is an error."""
        assert self.err == "", self.err
        return json.loads(self.out)

    @property
    def rule(self) -> tuple[int, str, str]:
        """Exit code, rule and article of a refusal that says why and what would make it pass, in both languages."""
        refused = self.document["refused"]
        assert all(refused[name].strip() for name in ("reason", "remedy", "reason_zh", "remedy_zh"))
        assert "{" not in "".join(refused[name] for name in ("reason", "remedy", "reason_zh", "remedy_zh"))
        return self.code, refused["rule"], refused["article"]

    @property
    def fault(self) -> tuple[int, str]:
        """Exit code and fault code of a failure that comes with advice."""
        failed = self.document["failed"]
        assert failed["fault"].startswith("fault-")
        assert failed["advice"].strip()
        return self.code, failed["code"]

    @property
    def usage(self) -> str:
        """What was wrong with the command line."""
        assert self.code == 2, (self.code, self.out)
        message: str = self.document["usage"]["message"]
        return message


def run_program(
    *arguments: str, stdin: str | bytes = "", cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> Answer:
    """`yunei` as a process of its own, with no terminal, no YUNEI_HOME but what is given."""
    variables = {name: value for name, value in os.environ.items() if name != "YUNEI_HOME"}
    done = subprocess.run(
        [sys.executable, "-m", "sandbox.cli", *arguments],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        check=False,
        timeout=120,
        cwd=cwd,
        env=variables | {"PYTHONPATH": str(ROOT)} | dict(environment or {}),
    )
    return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())


def call_main(
    *arguments: str, stdin: str | bytes = "", cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> Answer:
    """The same program, in this process: what it starts (the enclave, the probes) are processes of their own."""
    out, err = io.StringIO(), io.StringIO()
    given = io.TextIOWrapper(io.BytesIO(stdin.encode() if isinstance(stdin, str) else stdin))
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "stdin", given)
        patch.delenv("YUNEI_HOME", raising=False)
        for name, value in (environment or {}).items():
            patch.setenv(name, value)
        if cwd is not None:
            patch.chdir(cwd)
        with pytest.raises(SystemExit) as left:
            main(list(arguments))
    assert isinstance(left.value.code, int)
    return Answer(left.value.code, out.getvalue(), err.getvalue())


def with_json(arguments: tuple[str, ...], place: int) -> list[str]:
    """The same line with `--json` at some place: anywhere but between a global option and its value."""
    places = [at for at in range(len(arguments) + 1) if at == 0 or arguments[at - 1] not in WITH_VALUE]
    at = places[place % len(places)]
    return [*arguments[:at], "--json", *arguments[at:]]
