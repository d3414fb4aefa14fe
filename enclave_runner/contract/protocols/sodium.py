"""libsodium by way of rbcl, which unpacks it into the temporary directory of every process that imports it.

Here it is unpacked into memory without a name: a hardened host mounts that directory noexec, and a library that is
about to be loaded should not lie in a folder of everyone's. Where there is no such memory (macOS, Windows) rbcl's file
is deleted once it is loaded, if the system allows that.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from types import SimpleNamespace


@contextlib.contextmanager
def _unpacked_into_memory() -> Iterator[None]:
    """While it lasts, the one temporary file that rbcl asks for is anonymous memory."""
    descriptor = os.memfd_create("libsodium", os.MFD_CLOEXEC)
    named = tempfile.NamedTemporaryFile
    tempfile.NamedTemporaryFile = lambda **_: SimpleNamespace(name=f"/proc/self/fd/{descriptor}")  # type: ignore
    try:
        yield
    finally:
        tempfile.NamedTemporaryFile = named
        os.close(descriptor)


with _unpacked_into_memory() if hasattr(os, "memfd_create") else contextlib.nullcontext():
    import rbcl

if not hasattr(os, "memfd_create"):
    with contextlib.suppress(OSError):
        os.unlink(rbcl.rbcl._sodium._name)

__all__ = ["rbcl"]
