"""`python -m sandbox.api --home DIR`: the HTTP API over one deployment, with its enclave. `yunei serve` runs this."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from enclave_runner.contract.errors import Failed
from sandbox.api.app import serve
from sandbox.settings import Home, default_home
from sandbox.workflow.enclave import start_enclave
from sandbox.workflow.office import open_office
from sandbox.workflow.recover import recover_beside_others


def main() -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.api", description=__doc__)
    parser.add_argument("--home", type=Path, default=default_home())
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8440)
    options = parser.parse_args()
    home = Home(options.home.resolve())
    try:
        with start_enclave(home) as enclave:
            office = open_office(home, enclave.door)
            recover_beside_others(office, is_alone=enclave.process is not None)
            serve(office, options.host, options.port)
    except Failed as failed:
        advice = "; see `yunei enclave doctor`" if failed.code.startswith("jail.") else ""
        print(f"yunei serve: {failed.code}{advice}", file=sys.stderr)  # noqa: T201 - a code, never data
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
