"""The API as a process of its own, under a tracer that keeps everything it is given.

`python -m tests.support.api_server HOME PORT` serves until interrupted, then prints what the tracer has kept.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opentelemetry import trace

from sandbox.api.app import serve
from sandbox.settings import Home
from sandbox.workflow.enclave import start_enclave
from sandbox.workflow.office import open_office

KEPT: list[str] = []


class KeepingTracer(trace.NoOpTracer):
    """Keeps the name and the attributes of every span."""

    def start_span(self, name: str, *args: Any, **options: Any) -> trace.Span:
        """A span that does nothing."""
        KEPT.append(f"{name} {options.get('attributes')}")
        return super().start_span(name, *args, **options)

    @contextmanager
    def start_as_current_span(self, name: str, *args: Any, **options: Any) -> Iterator[trace.Span]:
        """A span that does nothing."""
        KEPT.append(f"{name} {options.get('attributes')}")
        yield trace.INVALID_SPAN


class KeepingProvider(trace.TracerProvider):
    """Hands out that tracer."""

    def get_tracer(self, *args: Any, **options: Any) -> trace.Tracer:
        """The tracer that keeps."""
        return KeepingTracer()


def main() -> None:
    """Serve, then tell."""
    trace.set_tracer_provider(KeepingProvider())
    home = Home(Path(sys.argv[1]))
    with start_enclave(home) as enclave:
        serve(open_office(home, enclave.door), "127.0.0.1", int(sys.argv[2]))
    print("kept:", *KEPT, sep="\n", flush=True)


if __name__ == "__main__":
    main()
