"""P0 over HTTP beside its floor: the same server, guards and authentication, and one durable group commit."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec

from benchmarks.report import Check
from benchmarks.verification import floor
from benchmarks.verification.load import Order, Tally, ask_from_outside
from benchmarks.verification.site import PRODUCT, Deployment, make_deployment, running
from sandbox.settings import Home

CALLS = f"/v1/products/{PRODUCT}/calls"
PEER = "authentication and one durable group commit over HTTP"


@dataclass(frozen=True)
class Extent:
    """How many people, connections at once, rounds, and milliseconds of each."""

    people: int
    connections: int
    rounds: int
    milliseconds: int


QUICK, USUAL = Extent(4000, 16, 2, 1500), Extent(20_000, 16, 7, 5000)


@dataclass(frozen=True)
class Round:
    """What callers counted at the floor and at the product, one after the other."""

    floor: Tally
    product: Tally

    @property
    def ratio(self) -> float:
        """The product's throughput as a share of the floor's."""
        return self.product.rate / self.floor.rate


def plain_checks(quick: bool = False) -> list[Check]:
    """Throughput as a share of the floor's, the slowest hundredth, and what was not answered."""
    extent = QUICK if quick else USUAL
    with tempfile.TemporaryDirectory(prefix="yunei-bench-") as name:
        rounds = list(_rounds(Path(name), extent))
    rate, least = (median(side.rate for side in sides) for sides in zip(*_sides(rounds), strict=True))
    slow = [median(tally.centile(share) for tally in _products(rounds)) for share in (0.5, 0.99)]
    floor_slow = median(round_.floor.centile(0.99) for round_ in rounds)
    unanswered = sum(tally.otherwise for tally in _products(rounds))
    spread = f"{min(round_.ratio for round_ in rounds):.2f} to {max(round_.ratio for round_ in rounds):.2f}"
    note = (
        f"{rate:.0f} against {least:.0f} calls/s, {extent.connections} connections, {len(rounds)} rounds in turn, "
        f"{spread}; rules, guess counter, jailed worker, Merkle batch, signature"
    )
    return [
        Check("p0_http_share_of_floor", median(round_.ratio for round_ in rounds), "x", ">= 0.5", PEER, note),
        Check("p0_http_p99", slow[1], "ms", "<= 1000", f"the floor's {floor_slow:.1f} ms", f"median {slow[0]:.1f} ms"),
        Check("p0_http_unanswered", float(unanswered), "calls", "<= 0", "every call is answered with 200"),
    ]


def _sides(rounds: list[Round]) -> Iterator[tuple[Tally, Tally]]:
    return ((round_.product, round_.floor) for round_ in rounds)


def _products(rounds: list[Round]) -> list[Tally]:
    return [round_.product for round_ in rounds]


def _rounds(folder: Path, extent: Extent) -> Iterator[Round]:
    made = make_deployment(Home(folder / "home"), extent.people)
    home = str(made.home.folder)
    with ExitStack() as stack:
        product = stack.enter_context(running("sandbox.api", "--home", home, "--port", "{port}", ready="/v1/health"))
        least = stack.enter_context(
            running("benchmarks.verification.floor", home, str(folder), "{port}", ready="/v1/health")
        )
        orders = [_order(made, extent, least, floor.PATH), _order(made, extent, product, CALLS)]
        asked = 0
        for order in orders:
            asked += _warm(order, asked)
        for _ in range(extent.rounds):
            tallies = []
            for order in orders:
                tallies.append(ask_from_outside(msgspec.structs.replace(order, first=asked)))
                asked += tallies[-1].answered + tallies[-1].otherwise
            yield Round(*tallies)


def _warm(order: Order, asked: int) -> int:
    """The first calls of a process load what the later ones find loaded."""
    tally = ask_from_outside(msgspec.structs.replace(order, first=asked, milliseconds=500))
    return tally.answered + tally.otherwise


def _order(made: Deployment, extent: Extent, port: int, path: str) -> Order:
    return Order(
        host="127.0.0.1",
        port=port,
        path=path,
        token=made.token,
        version=made.version,
        subjects=made.subjects,
        first=0,
        claim="north",
        connections=extent.connections,
        milliseconds=extent.milliseconds,
    )
