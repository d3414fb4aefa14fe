"""P2: the cell of an edge that the client chose, by 1-of-n oblivious transfer on ristretto255 (Chou and Orlandi 2015).

The platform opens with A = a·G. The client, for index j, sends B = b·G + (j+1)·A, uniform whatever j is. The platform
masks cell i with a hash of a·B - (i+1)·a·A: for i = j that is b·A, which the client knows, and for two indices at once
it would need a²·G (a Diffie-Hellman problem; the zero bytes of a cell let it check a guess, so the gap variant). A
client that breaks the protocol still opens one cell of the table per call, and cannot choose after it saw the table.

Openings need no memory: a is derived from the worker's secret, the caller, a random name and an expiry, and the name
comes back with a MAC. An opening may serve several calls of one caller; the pads are bound to B and to each call.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.protocols import group
from enclave_runner.contract.protocols.canonical import frame

CELL_BYTES = 8
LIFETIME_SECONDS = 60
MAX_CELLS = 1000
_NAME_BYTES, _EXPIRY_BYTES, _MAC_BYTES = 16, 8, 32
OPENING_BYTES = _NAME_BYTES + _EXPIRY_BYTES + _MAC_BYTES


def open(secret: bytes, caller: str, now: float) -> tuple[bytes, bytes]:  # noqa: A001 - read as threshold.open
    """Platform, first move: the opening (56 bytes) and A. `now` is in seconds since 1970; it expires 60 s later."""
    expiry = int(now) + LIFETIME_SECONDS
    named = secrets.token_bytes(_NAME_BYTES) + expiry.to_bytes(_EXPIRY_BYTES, "big")
    opening = named + _mac(secret, caller, named)
    return opening, group.base(_scalar(secret, caller, named))


def choose(point: bytes, index: int, context: bytes) -> tuple[bytes, bytes]:
    """Client: the choice B to send, and the pad of cell `index` (from 0), which is kept.

    Raises:
        Refused: `verification.point` where A is not a point.
    """
    _check_index(index)
    scalar = group.random_scalar()
    choice = group.add(group.base(scalar), group.multiply(group.small_scalar(index + 1), point))
    return choice, _pad(context, point, choice, index, group.multiply(scalar, point))


def table(
    secret: bytes, caller: str, now: float, opening: bytes, choice: bytes, context: bytes, cells: Sequence[int]
) -> bytes:
    """Platform, second move: 8 bytes for each cell (a number from 0 to 255), each under a pad of its own.

    Raises:
        Refused: `verification.opening` where the opening is not this worker's, not this caller's, or expired;
            `verification.point`.
    """
    if not 0 < len(cells) <= MAX_CELLS or not all(0 <= cell <= 255 for cell in cells):
        raise ValueError("1 to 1000 cells of one byte")
    scalar = _opened(secret, caller, now, opening)
    point, own = group.multiply(scalar, choice), group.base(scalar)
    step = group.multiply(scalar, own)
    masked = []
    for index, cell in enumerate(cells):
        point = group.sub(point, step)
        pad = _pad(context, own, choice, index, point)
        masked.append(pad[:-1] + bytes([pad[-1] ^ cell]))
    return b"".join(masked)


def read(pad: bytes, index: int, cells: bytes) -> int:
    """Client, after the call: the number in the cell that it chose.

    Raises:
        Refused: `verification.answer` where the table has no such cell, or the cell does not open with the pad.
    """
    _check_index(index)
    cell = cells[CELL_BYTES * index : CELL_BYTES * (index + 1)]
    if len(cells) % CELL_BYTES or len(cell) != CELL_BYTES or not hmac.compare_digest(cell[:-1], pad[:-1]):
        raise Refused("verification.answer")
    return cell[-1] ^ pad[-1]


def _opened(secret: bytes, caller: str, now: float, opening: bytes) -> bytes:
    named, mac = opening[:-_MAC_BYTES], opening[-_MAC_BYTES:]
    is_own = len(opening) == OPENING_BYTES and hmac.compare_digest(mac, _mac(secret, caller, named))
    if not is_own or now > int.from_bytes(named[_NAME_BYTES:], "big"):
        raise Refused("verification.opening")
    return _scalar(secret, caller, named)


def _mac(secret: bytes, caller: str, named: bytes) -> bytes:
    return hmac.digest(secret, frame(b"yunei/v1/opening-mac", caller.encode(), named), "sha256")


def _scalar(secret: bytes, caller: str, named: bytes) -> bytes:
    return group.reduce(hmac.digest(secret, frame(b"yunei/v1/opening-scalar", caller.encode(), named), "sha512"))


def _pad(context: bytes, own: bytes, choice: bytes, index: int, point: bytes) -> bytes:
    parts = frame(b"yunei/v1/threshold-pad", context, own, choice, index.to_bytes(2, "big"), point)
    return hashlib.sha256(parts).digest()[:CELL_BYTES]


def _check_index(index: int) -> None:
    if not 0 <= index < MAX_CELLS:
        raise ValueError("an index from 0")
