"""The open products in memory: each with its ticket, its offer and its worker; one gives way to the next with no gap.

A product that is replaced or closed answers the calls that it is at, and then its worker and its memory go.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from enclave_runner.contract.call import Offer
from enclave_runner.contract.check import VerificationMode
from enclave_runner.contract.dataset import DatasetSpec
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import Grant
from enclave_runner.contract.signing import Signed
from enclave_runner.contract.standing import StandingTicket
from enclave_runner.private.tasks import Serving
from enclave_runner.private.worker import ServingWorker

HINT_PART = 4 << 20
GRACE_SECONDS = 60.0
UNPAID, UNPAID_SHARE, UNPAID_PER_PAID = 20, 100, 6
MAX_OFFSET = 1 << 62
T = TypeVar("T")


class Starter(Protocol):
    """Starts serving workers."""

    def start(self, task: Serving, descriptors: Sequence[int]) -> ServingWorker:
        """A worker over that sealed memory."""
        ...


@dataclass(frozen=True)
class Turn:
    """The way to the worker of a product, for the length of one call."""

    product: OpenProduct
    starter: Starter

    def ask(self, what: Callable[[ServingWorker], T]) -> T:
        """As `OpenProduct.ask`."""
        return self.product.ask(self.starter, what)


class OpenProduct:
    """One version of a product that answers. Several threads may use it.

    It owns its memory: the plain table, the matrix where there is one, and the hint.
    """

    def __init__(
        self,
        ticket: StandingTicket,
        grant: Grant,
        signed_offer: Signed,
        offer: Offer,
        spec: DatasetSpec,
        task: Serving,
        memory: list[int],
        hint: int | None,
        calls: int,
    ) -> None:
        self.ticket, self.grant = ticket, grant
        self.signed_offer, self.offer = signed_offer, offer
        self.spec, self._task = spec, task
        self._memory, self._hint = memory, hint
        self._calls = calls
        self._kept_by: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))  # paid questions and unpaid calls
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._worker: ServingWorker | None = None
        self._users, self._is_retired = 0, False

    @property
    def data_version(self) -> str:
        """The version of its dataset."""
        return self.ticket.data_versions[self.ticket.check.dataset_id]

    def ask(self, starter: Starter, what: Callable[[ServingWorker], T]) -> T:
        """Ask its worker something, in turn. Who has its turn finds a living worker: one that somebody else's ask has
        ended is replaced first.

        Raises:
            Refused, Failed: what the ask raises; `jail.…`.
        """
        with self._turn:
            if self._worker is None or not self._worker.is_alive:
                if self._worker is not None:
                    self._worker.close()
                self._worker = starter.start(self._task, self._memory)
            return what(self._worker)

    def count_call(self, caller_id: str) -> None:
        """One more call under this ticket, whatever becomes of it.

        The cap is shared. So that none uses it up for the others by calls that cost nothing (refused ones, and the free
        moves), those of one business are bounded: by a hundredth of the cap and some for each question it paid for.

        Raises:
            Refused: `call.cap`, `call.unpaid`.
        """
        with self._lock:
            if self._calls >= self.ticket.calls:
                raise Refused("call.cap", max=self.ticket.calls)
            paid, unpaid = self._kept_by[caller_id]
            allowed = max(UNPAID, self.ticket.calls // UNPAID_SHARE) + UNPAID_PER_PAID * paid
            if unpaid >= allowed:
                raise Refused("call.unpaid", max=allowed)
            self._calls += 1

    def count_paid(self, caller_id: str, units: int) -> None:
        """What a counted call of that business came to."""
        with self._lock:
            paid, unpaid = self._kept_by[caller_id]
            self._kept_by[caller_id] = (paid + units, unpaid + (units == 0))

    def is_over(self, now: datetime) -> bool:
        """Whether its ticket or its grant has run out."""
        return now >= min(self.ticket.expires_at, self.grant.deadline)

    def hint_part(self, version: str, offset: int) -> bytes:
        """At most 4 MiB of the hint from that offset on.

        Raises:
            Refused: `call.stale-version`, `call.mode` when this product has no hidden-subject table.
        """
        if version != self.offer.version:
            raise Refused("call.stale-version", version=self.offer.version)
        if self._hint is None:
            raise Refused("call.mode", mode=VerificationMode.LOOKUP.value)
        return os.pread(self._hint, HINT_PART, min(max(0, offset), MAX_OFFSET))

    def enter(self) -> None:
        """One more user."""
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """One user less; the last one of a retired product takes it away."""
        with self._lock:
            self._users -= 1
            is_last = self._is_retired and self._users == 0
        if is_last:
            self._close()

    def retire(self) -> None:
        """End it with the calls that it is at."""
        with self._lock:
            if self._is_retired:
                return
            self._is_retired = True
            is_free = self._users == 0
        if is_free:
            self._close()

    def _close(self) -> None:
        with self._turn:
            if self._worker is not None:
                self._worker.close()
            for descriptor in (*self._memory, *([] if self._hint is None else [self._hint])):
                os.close(descriptor)


class Products:
    """The open products by their ids. What is not in memory (after a restart) is loaded when it is asked for.

    A version that is replaced goes on with what was begun in it: second moves are answered for a minute, nothing else.
    """

    def __init__(self) -> None:
        self._lock, self._loading = threading.Lock(), threading.Lock()
        self._open: dict[str, OpenProduct] = {}
        self._leaving: dict[str, tuple[OpenProduct, threading.Timer]] = {}

    def close(self) -> None:
        """End all."""
        with self._lock:
            ended = list(self._open.values()) + [self._left(name) for name in list(self._leaving)]
            self._open = {}
        _retire(ended)

    @contextmanager
    def use(
        self, product_id: str, load: Callable[[], OpenProduct | None], now: datetime, begun_in: str | None = None
    ) -> Iterator[OpenProduct]:
        """The open product of that id, for as long as the block runs.

        Args:
            begun_in: the version in which the first of two moves was made.

        Raises:
            Refused: `product.not-open`.
        """
        product = self._entered(product_id, begun_in) or self._loaded(product_id, load)
        if product is None:
            raise Refused("product.not-open", product=product_id[:64])
        try:
            if product.is_over(now):
                raise Refused("product.not-open", product=product_id[:64])
            yield product
        finally:
            product.leave()

    def put(self, product: OpenProduct) -> None:
        """From now on this is the product of its id; it stands in the ledger as such already."""
        with self._loading:  # or what was read of the ledger before could come after this
            self._put(product)

    def _put(self, product: OpenProduct) -> None:
        name = product.ticket.product_id
        with self._lock:
            ended = [self._left(name)] if name in self._leaving else []
            before = self._open.get(name)
            self._open[name] = product
            if before is not None:
                timer = threading.Timer(GRACE_SECONDS, self._let_go, [before])
                timer.daemon = True
                self._leaving[name] = before, timer
                timer.start()
        _retire(ended)

    def _left(self, name: str) -> OpenProduct:
        """The leaving version of a product, which is forgotten."""
        product, timer = self._leaving.pop(name)
        timer.cancel()
        return product

    def _let_go(self, product: OpenProduct) -> None:
        name = product.ticket.product_id
        with self._lock:
            if name in self._leaving and self._leaving[name][0] is product:
                del self._leaving[name]
        product.retire()

    def end(self, ticket_id: str) -> None:
        """Answer no more under that ticket, which is closed in the ledger already; nor what its product had begun.

        The ticket of a version that was replaced is closed at the switch: what was begun in it has its minute.
        """
        with self._loading, self._lock:
            ended = self._ended(
                lambda item: item.ticket.ticket_id == ticket_id and self._open.get(item.ticket.product_id) is item
            )
        _retire(ended)

    def end_over(self, now: datetime) -> tuple[str, ...]:
        """End every product whose time has run out; the ids of their tickets."""
        with self._lock:
            ended = self._ended(lambda item: item.is_over(now))
        _retire(ended)
        return tuple(product.ticket.ticket_id for product in ended)

    def _ended(self, is_ended: Callable[[OpenProduct], bool]) -> list[OpenProduct]:
        """The open products of which that holds, with the versions that they had replaced; none is found any more."""
        ended = [item for item in self._open.values() if is_ended(item)]
        for product in ended:
            del self._open[product.ticket.product_id]
        names = {product.ticket.product_id for product in ended}
        left = [name for name, (item, _) in self._leaving.items() if name in names or is_ended(item)]
        return ended + [self._left(name) for name in left]

    def _entered(self, product_id: str, begun_in: str | None = None) -> OpenProduct | None:
        with self._lock:
            product = self._open.get(product_id)
            leaving, _ = self._leaving.get(product_id, (None, None))
            if leaving is not None and leaving.offer.version == begun_in:
                product = leaving
            if product is not None:
                product.enter()  # under the lock: it cannot be retired between
            return product

    def _loaded(self, product_id: str, load: Callable[[], OpenProduct | None]) -> OpenProduct | None:
        with self._loading:
            product = self._entered(product_id)
            if product is not None:
                return product
            fresh = load()
            if fresh is None:
                return None
            fresh.enter()
            self._put(fresh)
            return fresh


def _retire(products: Sequence[OpenProduct]) -> None:
    for product in products:
        product.retire()
