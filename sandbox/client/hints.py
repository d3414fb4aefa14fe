"""The hint of a table version (P4): downloaded once, checked against the digest in the signed offer, kept on disk."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from enclave_runner.contract.call import Table
from enclave_runner.contract.errors import Failed, Refused
from sandbox.client.evidence import write_private
from sandbox.client.exchange import BYTES, Exchange, Flow
from sandbox.client.offers import SHA256, Terms
from sandbox.client.problems import require_answered

PART_BYTES = 4 << 20
KEPT = 8
SUFFIX = ".hint"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class HintCache:
    """A folder of hints under their digests, 0600 in 0700; the newest eight are kept.

    What lies there is trusted no more than the network: every reading checks the digest, so that an edited file is
    only downloaded again. A folder that cannot be used is no error: then nothing is kept.
    """

    folder: Path

    def find(self, table: Table) -> bytes | None:
        """The hint, if it is there and whole."""
        data = _read(self._path(table), table.hint_bytes)
        return data if data is not None and is_hint(data, table) else None

    def keep(self, table: Table, data: bytes) -> None:
        """Put a verified hint there, and drop the oldest beyond the number."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self._path(table), data)
            own = [path for path in self.folder.glob(f"*{SUFFIX}") if SHA256.fullmatch(path.stem)]
            kept = sorted(own, key=lambda path: path.lstat().st_mtime, reverse=True)
            for path in kept[KEPT:]:
                path.unlink(missing_ok=True)
        except (OSError, Failed):
            return

    def _path(self, table: Table) -> Path:
        return self.folder / f"{table.hint_sha256}{SUFFIX}"


def default_folder() -> Path | None:
    """Where hints are kept unless somebody says otherwise: the user's cache folder (XDG). None without a home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "yunei"
    except RuntimeError:  # neither HOME nor an entry of the user: a container under an arbitrary number
        return None


def fetch_hint(terms: Terms, progress: Progress | None) -> Flow[bytes]:
    """Download the hint in parts.

    Raises:
        Refused: `client.hint` when parts or digest are not what the offer says; `Declined`.
        Failed: `client.unreachable`, `client.platform`.
    """
    offer, table = terms.offer, terms.table
    data = bytearray()
    while len(data) < table.hint_bytes:
        if progress is not None:
            progress(len(data), table.hint_bytes)
        most = min(PART_BYTES, table.hint_bytes - len(data))
        query = (("version", offer.version), ("offset", str(len(data))))
        reply = yield Exchange("GET", f"/v1/products/{offer.product_id}/hint", most, query=query, accepts=BYTES)
        require_answered(reply, BYTES)
        if not reply.body:
            raise Refused("client.hint", what="shorter than the offer says")
        data += reply.body
    if progress is not None:
        progress(len(data), table.hint_bytes)
    whole = bytes(data)
    if not is_hint(whole, table):
        raise Refused("client.hint", what="another digest than the signed offer says")
    return whole


def is_hint(data: bytes, table: Table) -> bool:
    """Whether these are the bytes that the offer's digest is of."""
    found = hashlib.sha256(data).hexdigest()
    return len(data) == table.hint_bytes and hmac.compare_digest(found, table.hint_sha256)


def _read(path: Path, size: int) -> bytes | None:
    """A regular file of that very size, not through a link."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size != size:
                return None
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(size)
        finally:
            os.close(descriptor)
    except OSError:
        return None
