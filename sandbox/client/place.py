"""Where the platform is, and who asks: given, or found in the environment."""

from __future__ import annotations

import os
from pathlib import Path

from enclave_runner.contract.errors import Failed, Refused
from sandbox.client.transport import Door
from sandbox.client.workbench import READ_SECONDS, AsyncWorkbench, Workbench

URL, KEY_FILE, SOCKET = "YUNEI_URL", "YUNEI_KEY_FILE", "YUNEI_SOCKET"
BEHIND_SOCKET = "http://localhost"  # only a name: who listens on the socket knows the platform


def connect(
    url: str | None = None, *, key: str | None = None, socket: Path | None = None, ca: Path | None = None
) -> Workbench:
    """A workbench. Without arguments: through the unix socket YUNEI_SOCKET (no key is needed there), else to YUNEI_URL
    with the key in the file YUNEI_KEY_FILE.

    Raises:
        Refused: `client.connection` when neither is known. Failed: `file.unreadable`.
        ValueError: for an address or a key that is none.
    """
    return Workbench(_door(url, key, socket, ca))


async def connect_async(
    url: str | None = None, *, key: str | None = None, socket: Path | None = None, ca: Path | None = None
) -> AsyncWorkbench:
    """The same for an event loop."""
    return AsyncWorkbench(_door(url, key, socket, ca))


def _door(url: str | None, key: str | None, socket: Path | None, ca: Path | None) -> Door:
    if url is None and socket is None and os.environ.get(SOCKET):
        socket = Path(os.environ[SOCKET])
    if socket is not None:
        return Door(url or BEHIND_SOCKET, key or "", socket=socket, seconds=READ_SECONDS, read_seconds=READ_SECONDS)
    address = url or os.environ.get(URL)
    if not address:
        raise Refused("client.connection", what=URL)
    return Door(address, key or _key(), ca=ca, seconds=READ_SECONDS, read_seconds=READ_SECONDS)


def _key() -> str:
    place = os.environ.get(KEY_FILE)
    if not place:
        raise Refused("client.connection", what=KEY_FILE)
    try:
        return Path(place).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise Failed("file.unreadable") from None
