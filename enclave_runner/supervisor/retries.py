"""The newest calls with their replies: a retry of the very same call gets the same bytes again, unpaid.

Also the guard of calls under way: while one runs, the same call sent again waits for its reply. What is forgotten here,
because newer calls needed the room or the enclave was started again, is refused by the call log.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from enclave_runner.contract.codec import digest, encode
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.wire import CallReply, RunCall

MAX_BYTES = 64 << 20
Name = tuple[str, bytes]  # the caller, and its own id of the call
OVERHEAD = 2048  # of a reply in memory, beside its bytes


@dataclass(frozen=True)
class _Running:
    fingerprint: str
    is_over: threading.Event
    has_place: threading.Semaphore  # for one that waits: more would keep others from the door


@dataclass(frozen=True)
class _Kept:
    fingerprint: str
    reply: CallReply
    size: int


class Retries:
    """Replies by caller and call id, at most `capacity` bytes of them. Several threads may use it."""

    def __init__(self, capacity: int = MAX_BYTES) -> None:
        self._capacity, self._size = capacity, 0
        self._lock = threading.Lock()
        self._running: dict[Name, _Running] = {}
        self._kept: OrderedDict[Name, _Kept] = OrderedDict()

    def once(self, request: RunCall, make: Callable[[], CallReply]) -> CallReply:
        """The reply that was given to the very same call, or the one that `make` gives now.

        The consents are no part of what is the same: one may be filed under another reference by now.

        Raises:
            Refused: `call.used` for another call of that caller under the same id, `call.under-way` when somebody waits
                for the same call already; what `make` raises, and then nothing is kept.
        """
        name = (request.caller_id, request.call.call_id)
        fingerprint = digest(encode((request.product_id, request.caller_id, request.call)))
        own = _Running(fingerprint, threading.Event(), threading.Semaphore(1))
        while True:
            with self._lock:
                known = self._running.get(name) or self._kept.get(name)
                if known is None:
                    self._running[name] = own
                    break
            if known.fingerprint != fingerprint:
                raise Refused("call.used")
            if isinstance(known, _Kept):
                return known.reply
            if not known.has_place.acquire(blocking=False):
                raise Refused("call.under-way")
            known.is_over.wait()
        try:
            reply = make()
            self._keep(name, _Kept(fingerprint, reply, len(encode(reply)) + OVERHEAD))
        finally:
            with self._lock:
                del self._running[name]
            own.is_over.set()
        return reply

    def _keep(self, name: Name, kept: _Kept) -> None:
        with self._lock:
            self._kept[name] = kept
            self._size += kept.size
            while self._size > self._capacity:
                _, oldest = self._kept.popitem(last=False)
                self._size -= oldest.size
