"""One virtual environment per peer below build/peers/, made once from exact pins; a peer that is not had says why."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("build/peers")
DUCKDB = "duckdb==2.0.1"
PINS: dict[str, tuple[str, ...]] = {
    "opendp_polars": ("opendp[polars]==0.16.0",),
    "smartnoise": ("smartnoise-sql==1.0.10", DUCKDB),
    "qrlew": ("pyqrlew==0.9.27", "sqlglot==30.30.0", DUCKDB),
    "tumult": ("tmlt.analytics==0.21.0",),
    "pipelinedp": ("pipeline-dp==0.3.1", DUCKDB),
    "python_dp": ("python-dp==1.1.5", "numpy==1.26.4", DUCKDB),
}
NEEDS_JAVA = frozenset({"tumult"})
STAMP = "pins.txt"
PIP_SECONDS = 1800


@dataclass(frozen=True)
class Environment:
    """Where a peer's interpreter lies, or in one line why there is none."""

    peer: str
    python: Path | None
    reason: str = ""


def environment(peer: str, folder: Path = FOLDER) -> Environment:
    """The peer's environment, installed now unless its stamp shows the same pins; never raises for a failed install."""
    if peer in NEEDS_JAVA and shutil.which("java") is None:
        return Environment(peer, None, "needs Java, and there is none on the path")
    home = folder / peer
    python, stamp, wanted = home / "bin" / "python", home / STAMP, "\n".join(PINS[peer]) + "\n"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return Environment(peer, python)
    print(f"… installing {', '.join(PINS[peer])} into {home}", file=sys.stderr, flush=True)
    reason = _install(home, PINS[peer])
    if reason:
        return Environment(peer, None, reason)
    stamp.write_text(wanted, encoding="utf-8")
    return Environment(peer, python)


def _install(home: Path, pins: tuple[str, ...]) -> str:
    """Empty when it worked, else pip's own last complaint."""
    shutil.rmtree(home, ignore_errors=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    log = home.with_suffix(".log")
    steps = ([sys.executable, "-m", "venv", str(home)], [str(home / "bin" / "pip"), "install", "--no-input", *pins])
    with log.open("wb") as file:
        for step in steps:
            try:
                subprocess.run(
                    step, check=True, stdout=file, stderr=subprocess.STDOUT, timeout=PIP_SECONDS, env=_clean()
                )
            except (OSError, subprocess.SubprocessError) as error:
                return _complaint(log) or f"{type(error).__name__} ({log})"
    return ""


def _clean() -> dict[str, str]:
    """The caller's settings, without what would point a new interpreter at the caller's own packages."""
    return {
        name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    }


def _complaint(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line.startswith("ERROR")), "")


def main() -> None:
    """Install every peer, one line each."""
    for peer in PINS:
        found = environment(peer)
        print(f"{peer:15} {found.python or found.reason}", flush=True)


if __name__ == "__main__":
    main()
