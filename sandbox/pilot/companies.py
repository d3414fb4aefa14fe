"""Enterprises and what hangs on them: licences, credit events, permits. By Zipf's law a few are very large."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Final

import numpy as np

from sandbox.pilot.codes import DISTRICTS, MAX_SERIAL, Integers, Texts, credit_codes
from sandbox.pilot.columns import Floats, Rows, boolean, day, fixed, pick, skewed, whole, within

RESIDENTS_PER_ENTERPRISE: Final = 20
MIN_ENTERPRISES: Final = 20
MAX_LICENCES: Final = 40
MAX_CREDIT_EVENTS: Final = 60
MAX_PERMITS: Final = 30
MAX_CAPITAL_FEN: Final = 10**12

INDUSTRY_WEIGHTS: Final = {
    "retail": 31.0,
    "manufacturing": 14.0,
    "construction": 8.0,
    "catering": 13.0,
    "logistics": 6.0,
    "information": 7.0,
    "business-services": 11.0,
    "agriculture": 4.0,
    "health": 2.0,
    "education": 2.0,
    "finance": 1.0,
    "utilities": 1.0,
}
STATUS_WEIGHTS: Final = {"active": 84.0, "revoked": 6.0, "cancelled": 10.0}
LICENCE_WEIGHTS: Final = {"business": 50.0, "food": 18.0, "hygiene": 9.0, "transport": 9.0, "safety": 8.0, "other": 6.0}
LICENCE_STATUS_WEIGHTS: Final = {"valid": 82.0, "expired": 14.0, "withdrawn": 4.0}
EVENT_WEIGHTS: Final = {
    "late-tax": 34.0,
    "administrative-penalty": 24.0,
    "contract-breach": 17.0,
    "court-enforcement": 13.0,
    "commendation": 12.0,
}
PERMIT_WEIGHTS: Final = {"construction": 22.0, "discharge": 16.0, "advertising": 24.0, "road-use": 20.0, "event": 18.0}
DECISION_WEIGHTS: Final = {"approved": 86.0, "refused": 8.0, "withdrawn": 6.0}

_NAME_HEADS = ("云溪", "青禾", "江汀", "南岭", "望川", "临湖", "松坪", "石桥")
_NAME_WORDS = (*"恒瑞和泰鼎盛华信诚远博雅嘉宁兴达启明", "天成", "百川", "长青", "锦程")
_NAME_TRADES: Final = {
    "retail": "商贸",
    "manufacturing": "制造",
    "construction": "建筑工程",
    "catering": "餐饮管理",
    "logistics": "物流",
    "information": "信息技术",
    "business-services": "商务服务",
    "agriculture": "农业",
    "health": "健康管理",
    "education": "教育咨询",
    "finance": "融资担保",
    "utilities": "公用事业",
}
# The head of the size distribution is flattened, so that the largest enterprise employs about one in a hundred.
_FLAT = 10
_SERIAL_STRIDE = 123_456_791
_FIRST_DAY = np.datetime64("1985-01-01", "D")
_LAST_DAY = np.datetime64("2025-12-31", "D")


@dataclass(frozen=True)
class Companies:
    """All enterprises of one city. The code and the size rank of an enterprise are functions of its index alone."""

    count: int
    seed: int
    staff: int

    @property
    def _stride(self) -> int:
        """Prime to the count, so that multiplying by it permutes the indices; near the golden section, to mix them."""
        stride = self.count * 618 // 1000
        while gcd(stride, self.count) != 1:
            stride += 1
        return stride

    def codes(self, indices: Integers) -> Texts:
        """Credit codes, all distinct."""
        serials = (indices * _SERIAL_STRIDE + self.seed * 7_919) % MAX_SERIAL
        return credit_codes(91, self.places(indices), serials)

    def places(self, indices: Integers) -> Integers:
        """District codes: half of the enterprises sit in two districts."""
        lot = (indices * 61 + self.seed) % 100
        district = np.searchsorted(np.array([28, 50, 66, 78, 87, 93, 97, 100]), lot, side="right")
        return np.array([int(code) for code in DISTRICTS])[district]

    def ranks(self, indices: Integers) -> Integers:
        """Size ranks, 0 is the largest."""
        return indices * self._stride % self.count

    def employers(self, rng: np.random.Generator, people: int) -> Texts:
        """Draw employers with probabilities proportional to their sizes."""
        span = np.log((self.count + _FLAT) / _FLAT)
        ranks = (_FLAT * np.exp(rng.random(people) * span)).astype(np.int64) - _FLAT
        ranks = np.minimum(ranks, self.count - 1)
        return self.codes(ranks * pow(self._stride, -1, self.count) % self.count)

    def expected_staff(self, ranks: Integers) -> Floats:
        """How many people an enterprise of that rank employs on average."""
        share = np.log1p(1 / (ranks + _FLAT)) / np.log((self.count + _FLAT) / _FLAT)
        expected: Floats = share * self.staff
        return expected


@dataclass(frozen=True)
class Business:
    """One chunk of enterprises with all their rows, still without defects."""

    enterprises: Rows
    business_licences: Rows
    credit_events: Rows
    permits: Rows


def found(rng: np.random.Generator, companies: Companies, indices: Integers) -> Business:
    """The enterprises with those indices. Enterprise 0 is active and 1 is revoked, so that a demo finds both."""
    count = len(indices)
    codes = companies.codes(indices)
    ranks = companies.ranks(indices)
    industry = pick(rng, INDUSTRY_WEIGHTS, count)
    staff = np.maximum(rng.poisson(companies.expected_staff(ranks)), 1)
    status = pick(rng, STATUS_WEIGHTS, count)
    status = np.select([indices == 0, indices == 1], ["active", "revoked"], status)
    capital_per_head = skewed(rng, 30, 1.1, count, 1, 100_000)
    capital = np.minimum(staff * capital_per_head * 1_000_000, MAX_CAPITAL_FEN)
    enterprises = {
        "enterprise_id": codes,
        "name": _names(rng, companies.places(indices), industry),
        "industry": industry,
        "district": whole(companies.places(indices)),
        "established_on": _days(rng, count),
        "registered_capital_fen": whole(capital),
        "employees": whole(staff),
        "status": status,
        "is_listed": boolean((staff > 800) & (rng.random(count) < 0.3)),
    }
    weight = np.sqrt(staff)
    return Business(
        enterprises, _licences(rng, codes, weight), _events(rng, codes, weight), _permits(rng, codes, weight)
    )


def _names(rng: np.random.Generator, places: Integers, industry: Texts) -> Texts:
    words = rng.integers(0, len(_NAME_WORDS), (2, len(places)))
    return np.array(
        [
            f"{_NAME_HEADS[place % 100 - 1]}{_NAME_WORDS[first]}{_NAME_WORDS[second]}{_NAME_TRADES[trade]}有限公司"
            for place, first, second, trade in zip(
                places.tolist(), words[0].tolist(), words[1].tolist(), industry.tolist(), strict=True
            )
        ],
        dtype=np.str_,
    )


def _days(rng: np.random.Generator, count: int) -> Texts:
    """Days, most of them late: business registers grow."""
    age = (rng.random(count) ** 2.5 * (_LAST_DAY - _FIRST_DAY).astype(np.int64)).astype(np.int64)
    return day(_LAST_DAY - age.astype("timedelta64[D]"))


def _licences(rng: np.random.Generator, codes: Texts, weight: Floats) -> dict[str, Texts]:
    counts = np.minimum(1 + rng.poisson(weight * 0.4), MAX_LICENCES)
    rows = int(counts.sum())
    issued = _LAST_DAY - rng.integers(1, 3650, rows).astype("timedelta64[D]")
    kinds = np.where(within(counts) == 0, "business", pick(rng, LICENCE_WEIGHTS, rows))
    return {
        "enterprise_id": np.repeat(codes, counts),
        "licence_kind": kinds,
        "licence_no": whole(rng.integers(10**11, 10**12, rows)),
        "issued_on": day(issued),
        "expires_on": day(issued + rng.integers(1, 6, rows).astype("timedelta64[D]") * 365),
        "licence_status": pick(rng, LICENCE_STATUS_WEIGHTS, rows),
    }


def _events(rng: np.random.Generator, codes: Texts, weight: Floats) -> dict[str, Texts]:
    """Most enterprises have none, a few have dozens."""
    rate = rng.gamma(0.35, 2.5, len(codes)) * np.minimum(weight, 12)
    counts = np.minimum(rng.poisson(rate), MAX_CREDIT_EVENTS)
    rows = int(counts.sum())
    return {
        "enterprise_id": np.repeat(codes, counts),
        "event_kind": pick(rng, EVENT_WEIGHTS, rows),
        "occurred_on": day(_LAST_DAY - rng.integers(0, 1826, rows).astype("timedelta64[D]")),
        "severity": whole(np.minimum(rng.geometric(0.5, rows), 5)),
        "amount_fen": whole(skewed(rng, 800_000, 1.6, rows, 0, 10**10)),
        "is_resolved": boolean(rng.random(rows) < 0.78),
    }


def _permits(rng: np.random.Generator, codes: Texts, weight: Floats) -> dict[str, Texts]:
    counts = np.minimum(rng.poisson(weight * 0.3), MAX_PERMITS)
    rows = int(counts.sum())
    applied = _LAST_DAY - rng.integers(120, 1095, rows).astype("timedelta64[D]")
    waiting = np.minimum(rng.geometric(0.12, rows), 90)
    return {
        "enterprise_id": np.repeat(codes, counts),
        "permit_kind": pick(rng, PERMIT_WEIGHTS, rows),
        "applied_on": day(applied),
        "decided_on": day(applied + (waiting * 7 // 5).astype("timedelta64[D]")),
        "decision": pick(rng, DECISION_WEIGHTS, rows),
        "working_days": whole(waiting),
        "fee_yuan": fixed(skewed(rng, 50_000, 0.9, rows, 0, 10**8), 2),
    }
